//! The results as a picture: four panels of bars in one SVG.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::error::RaceError;
use super::report::Report;

const SIZE: (u32, u32) = (1080, 720);
const FONT: &str = "system-ui, DejaVu Sans, sans-serif";
const INK: RGBColor = RGBColor(29, 33, 41);
const SOFT: RGBColor = RGBColor(92, 99, 112);
const LINE: RGBColor = RGBColor(228, 225, 216);
const PAPER: RGBColor = RGBColor(255, 255, 255);
const GOOD: RGBColor = RGBColor(19, 121, 91);
const BAD: RGBColor = RGBColor(179, 38, 30);
const QUIET: RGBColor = RGBColor(47, 77, 143);
const PALE: RGBColor = RGBColor(176, 190, 222);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A panel: groups of bars, one bar per series in each group.
struct Panel {
    title: String,
    note: &'static str,
    groups: Vec<String>,
    /// The name in the legend, and the colour and value for each group.
    series: Vec<(&'static str, Vec<(RGBColor, f64)>)>,
}

/// Draws the picture.
pub fn draw(report: &Report) -> Result<String, RaceError> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&PAPER).map_err(failed)?;
        let verdict = if report.passed { "passed" } else { "failed" };
        let title = format!("Pawl race on {}: {verdict}", report.backend);
        text(&root, &title, (40, 26), 24, INK, HPos::Left)?;
        let (_, body) = root.split_vertically(52);
        let areas = body.split_evenly((2, 2));
        for (panel, area) in [
            lost(report),
            balances(report),
            latency(report),
            overhead(report),
        ]
        .iter()
        .zip(&areas)
        {
            panel.draw(area)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(svg)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts and balances of a demo, far below 2^52"
)]
const fn float(value: i64) -> f64 {
    value as f64
}

fn lost(report: &Report) -> Panel {
    let rounds = &report.acts.race;
    let bar = |n: i64| (if n > 0 { BAD } else { GOOD }, float(n));
    Panel {
        title: "Lost updates".to_owned(),
        note: "acknowledged deductions that the balance does not show",
        groups: rounds
            .iter()
            .map(|r| format!("{} ×{}", short(&r.mode), r.replicas))
            .collect(),
        series: vec![("", rounds.iter().map(|r| bar(r.lost_updates)).collect())],
    }
}

fn balances(report: &Report) -> Panel {
    let stalls = &report.acts.stall;
    let colour = |lost: i64| if lost > 0 { BAD } else { GOOD };
    Panel {
        title: "A holder writes after its ttl".to_owned(),
        note: "balance, with fencing off and on",
        groups: stalls
            .iter()
            .map(|r| format!("{}, {}", r.pause, if r.fencing { "on" } else { "off" }))
            .collect(),
        series: vec![
            (
                "expected",
                stalls.iter().map(|r| (PALE, float(r.expected))).collect(),
            ),
            (
                "actual",
                stalls
                    .iter()
                    .map(|r| (colour(r.lost_updates), float(r.actual)))
                    .collect(),
            ),
        ],
    }
}

fn latency(report: &Report) -> Panel {
    let rounds = &report.acts.race;
    Panel {
        title: "Time of a deduction".to_owned(),
        note: "milliseconds, waiting and thinking included",
        groups: rounds
            .iter()
            .map(|r| format!("{} ×{}", short(&r.mode), r.replicas))
            .collect(),
        series: vec![
            ("p50", rounds.iter().map(|r| (PALE, r.p50_ms)).collect()),
            ("p99", rounds.iter().map(|r| (QUIET, r.p99_ms)).collect()),
        ],
    }
}

fn overhead(report: &Report) -> Panel {
    let rows = &report.acts.overhead;
    Panel {
        title: "What a lock costs".to_owned(),
        note: "milliseconds a deduction, one after another, without thinking",
        groups: rows.iter().map(|r| r.mode.clone()).collect(),
        series: vec![
            ("p50", rows.iter().map(|r| (PALE, r.p50_ms)).collect()),
            ("p99", rows.iter().map(|r| (QUIET, r.p99_ms)).collect()),
        ],
    }
}

impl Panel {
    fn draw(&self, area: &Area<'_>) -> Result<(), RaceError> {
        text(area, &self.title, (40, 18), 17, INK, HPos::Left)?;
        text(area, self.note, (40, 38), 12, SOFT, HPos::Left)?;
        if self.groups.is_empty() {
            return text(area, "not run", (40, 70), 14, SOFT, HPos::Left);
        }
        let (width, _) = area.dim_in_pixel();
        let mut legend = i32::try_from(width).unwrap_or(0) - 30;
        for (name, bars) in self
            .series
            .iter()
            .rev()
            .filter(|(name, _)| !name.is_empty())
        {
            text(area, name, (legend, 18), 12, SOFT, HPos::Right)?;
            let left = legend - 10 - i32::try_from(name.len()).unwrap_or(0) * 6;
            let colour = bars.first().map_or(QUIET, |(colour, _)| *colour);
            area.draw(&Rectangle::new(
                [(left - 10, 13), (left, 23)],
                colour.filled(),
            ))
            .map_err(failed)?;
            legend = left - 28;
        }
        self.bars(area)
    }

    fn bars(&self, area: &Area<'_>) -> Result<(), RaceError> {
        let values = || {
            self.series
                .iter()
                .flat_map(|(_, bars)| bars.iter().map(|(_, value)| *value))
        };
        let top = values().fold(0.0, f64::max).max(1e-3) * 1.15;
        let bottom = values().fold(0.0, f64::min) * 1.15;
        let count = u32::try_from(self.groups.len()).unwrap_or(1);
        let mut chart = ChartBuilder::on(area)
            .margin_top(54)
            .margin_left(16)
            .margin_right(24)
            .margin_bottom(6)
            .x_label_area_size(28)
            .y_label_area_size(46)
            .build_cartesian_2d(0.0..f64::from(count), bottom..top)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_labels(5)
            .y_label_formatter(&|value| number(*value))
            .axis_style(LINE)
            .bold_line_style(LINE)
            .light_line_style(TRANSPARENT)
            .label_style((FONT, 12).into_font().color(&SOFT))
            .draw()
            .map_err(failed)?;
        let share = 0.66 / f64::from(u32::try_from(self.series.len()).unwrap_or(1));
        let label = (FONT, 11)
            .into_font()
            .color(&INK)
            .pos(Pos::new(HPos::Center, VPos::Bottom));
        for (s, (_, bars)) in (0_u32..).zip(&self.series) {
            for (g, (colour, value)) in (0_u32..).zip(bars) {
                let left = f64::from(g) + 0.17 + share * f64::from(s);
                let bar = Rectangle::new(
                    [(left, 0.0), (left + share * 0.92, *value)],
                    colour.filled(),
                );
                let number = Text::new(
                    number(*value),
                    (left + share * 0.46, value.max(0.0)),
                    label.clone(),
                );
                chart.draw_series([bar]).map_err(failed)?;
                chart.draw_series([number]).map_err(failed)?;
            }
        }
        let (_, range) = chart.plotting_area().get_pixel_range();
        let (x0, y0) = area.get_pixel_range();
        let below = range.end - y0.start + 14;
        for (g, name) in (0_u32..).zip(&self.groups) {
            let (x, _) = chart
                .plotting_area()
                .map_coordinate(&(f64::from(g) + 0.5, 0.0));
            text(area, name, (x - x0.start, below), 11, SOFT, HPos::Center)?;
        }
        Ok(())
    }
}

/// As many digits as there is room for.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}").trim_end_matches(".0").to_owned(),
        _ => format!("{value:.2}")
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
    }
}

/// A mode's name that fits below a bar.
fn short(mode: &str) -> &str {
    if mode == "optimistic" { "optim." } else { mode }
}

fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    align: HPos,
) -> Result<(), RaceError> {
    let style = (FONT, size)
        .into_font()
        .color(&colour)
        .pos(Pos::new(align, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))
        .map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> RaceError {
    RaceError::Chart(error.to_string())
}

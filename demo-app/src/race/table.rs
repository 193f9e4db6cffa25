//! The results as tables for a terminal.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table, TableComponent};

use super::report::Report;

/// All acts that were run, and the verdict.
pub fn of(report: &Report) -> String {
    let head = format!("Backend {}, {} s", report.backend, report.seconds);
    let verdict = if report.passed {
        "PASSED: no lock mode lost anything, and what should lose money did.".to_owned()
    } else {
        format!("FAILED\n  {}", report.failures.join("\n  "))
    };
    let acts = [
        race(report),
        crash(report),
        stall(report),
        queue(report),
        overhead(report),
    ];
    let parts: Vec<String> = [Some(head)]
        .into_iter()
        .chain(acts)
        .chain([Some(verdict)])
        .flatten()
        .collect();
    parts.join("\n\n")
}

fn race(report: &Report) -> Option<String> {
    let heads = [
        "lock mode",
        "replicas",
        "at once",
        "applied",
        "expected",
        "actual",
        "lost",
        "p50 ms",
        "p99 ms",
        "wait p50",
        "wait max",
    ];
    let rows = report
        .acts
        .race
        .iter()
        .zip(&report.waits)
        .map(|(row, waits)| {
            vec![
                row.mode.clone(),
                row.replicas.to_string(),
                row.operations.to_string(),
                waits.applied.to_string(),
                row.expected.to_string(),
                row.actual.to_string(),
                row.lost_updates.to_string(),
                row.p50_ms.to_string(),
                row.p99_ms.to_string(),
                waits.p50_wait_ms.to_string(),
                waits.max_wait_ms.to_string(),
            ]
        });
    part(
        "1  race: deductions of 100 from 1000 at the same instant",
        &heads,
        rows,
    )
}

fn crash(report: &Report) -> Option<String> {
    let heads = [
        "killed",
        "ttl ms",
        "next holder after ms",
        "token before",
        "token after",
        "lost",
    ];
    let rows = report.acts.crash.iter().map(|row| {
        vec![
            row.killed.clone(),
            row.ttl_ms.to_string(),
            or_never(row.takeover_ms),
            row.token_before.to_string(),
            or_never(row.token_after),
            row.lost_updates.to_string(),
        ]
    });
    part("2  crash: a holder is killed", &heads, rows)
}

fn stall(report: &Report) -> Option<String> {
    let heads = [
        "stalled by",
        "fencing",
        "ttl ms",
        "late write",
        "told lost",
        "expected",
        "actual",
        "lost",
    ];
    let rows = report.acts.stall.iter().map(|row| {
        vec![
            row.pause.clone(),
            word(row.fencing, "on", "off"),
            row.ttl_ms.to_string(),
            row.late_write.clone(),
            word(row.told_lost, "yes", "no"),
            row.expected.to_string(),
            row.actual.to_string(),
            row.lost_updates.to_string(),
        ]
    });
    part("3  stall: a holder writes after its ttl", &heads, rows)
}

fn queue(report: &Report) -> Option<String> {
    let heads = [
        "order",
        "sidecars",
        "waiters",
        "served",
        "inversions",
        "drained ms",
    ];
    let rows = report.acts.queue.iter().map(|row| {
        vec![
            row.order.clone(),
            row.sidecars.to_string(),
            row.waiters.to_string(),
            row.served.to_string(),
            row.inversions.to_string(),
            row.drained_ms.to_string(),
        ]
    });
    part("4  queue: who is served first", &heads, rows)
}

fn overhead(report: &Report) -> Option<String> {
    let heads = ["lock mode", "operations", "p50 ms", "p99 ms", "per second"];
    let rows = report.acts.overhead.iter().map(|row| {
        vec![
            row.mode.clone(),
            row.operations.to_string(),
            row.p50_ms.to_string(),
            row.p99_ms.to_string(),
            row.per_second.to_string(),
        ]
    });
    part(
        "5  overhead: one after another, without thinking",
        &heads,
        rows,
    )
}

fn word(it_is: bool, yes: &str, no: &str) -> String {
    if it_is { yes } else { no }.to_owned()
}

fn or_never(value: Option<impl ToString>) -> String {
    value.map_or("never".to_owned(), |v| v.to_string())
}

/// A table under its title; nothing when it has no rows. Texts to the left, numbers to the right.
fn part(title: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Option<String> {
    let mut table = Table::new();
    table
        .load_preset(UTF8_HORIZONTAL_ONLY)
        .set_header(heads.iter().copied())
        .add_rows(rows);
    for line in [
        TableComponent::HorizontalLines,
        TableComponent::MiddleIntersections,
    ] {
        table.remove_style(line);
    }
    if table.is_empty() {
        return None;
    }
    let first = table.row(0).map(|row| {
        row.cell_iter()
            .map(comfy_table::Cell::content)
            .collect::<Vec<_>>()
    });
    let is_number = |i: usize| {
        first
            .as_ref()
            .is_some_and(|cells| cells.get(i).is_some_and(|c| c.parse::<f64>().is_ok()))
    };
    let numbers: Vec<bool> = (0..heads.len()).map(is_number).collect();
    for (column, number) in table.column_iter_mut().zip(numbers) {
        column.set_cell_alignment(if number {
            CellAlignment::Right
        } else {
            CellAlignment::Left
        });
    }
    Some(format!("{title}\n{table}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::race::report::{OverheadRow, RaceRow, WaitRow};

    #[test]
    fn a_failed_run_names_the_mode() {
        let mut report = Report {
            backend: "memory".to_owned(),
            ..Report::default()
        };
        report.acts.race.push(RaceRow {
            mode: "sidecar".to_owned(),
            replicas: 2,
            operations: 2,
            expected: 800,
            actual: 900,
            lost_updates: 1,
            p50_ms: 21.5,
            p99_ms: 30.0,
        });
        report.waits.push(WaitRow {
            mode: "sidecar".to_owned(),
            replicas: 2,
            applied: 2,
            declined: 0,
            fenced: 0,
            p50_wait_ms: 0.0,
            max_wait_ms: 0.0,
        });
        report
            .failures
            .push("race: mode sidecar: 2 replicas: 1 updates were lost".to_owned());
        let text = of(&report);
        assert!(
            text.contains("FAILED") && text.contains("mode sidecar"),
            "{text}"
        );
        let row = text
            .lines()
            .find(|line| line.trim_start().starts_with("sidecar"))
            .unwrap();
        for value in ["800", "900", "21.5"] {
            assert!(row.contains(value), "{row}");
        }
    }

    #[test]
    fn acts_that_were_not_run_are_not_shown() {
        let mut report = Report {
            passed: true,
            ..Report::default()
        };
        report.acts.overhead.push(OverheadRow {
            mode: "none".to_owned(),
            operations: 1000,
            p50_ms: 0.2,
            p99_ms: 0.4,
            per_second: 4000.0,
        });
        let text = of(&report);
        assert!(
            text.contains("5  overhead") && !text.contains("1  race") && text.contains("PASSED"),
            "{text}"
        );
    }
}

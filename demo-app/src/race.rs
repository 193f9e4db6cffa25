//! The play: starts banks and sidecars as processes, runs five acts, and judges.
//!
//! [`stage`] sets the scene, each file in [`acts`] is an act, [`report`] is what they come to, and [`table`] and [`chart`]
//! show it. Every act adds to `failures` what was not as it should be; the run passed when there is none.

use std::path::Path;

use tokio_util::sync::CancellationToken;

pub mod acts;
pub mod backend;
pub mod banks;
pub mod chart;
pub mod child;
mod error;
mod options;
pub mod policy;
pub mod ports;
pub mod process;
pub mod progress;
pub mod report;
mod serve;
pub mod stage;
pub mod table;

pub use error::RaceError;
pub use options::{Act, Options};

use crate::clock;
use backend::Backend;
use progress::Progress;
use report::Report;
use stage::Stage;

/// Runs the acts, writes the results and says whether all was as it should be. All children have ended when it returns,
/// also when it was told to `stop`.
pub async fn run(options: &Options, stop: CancellationToken) -> Result<bool, RaceError> {
    let backend = Backend::parse(&options.backend)?;
    let progress = Progress::start();
    let mut report = Report {
        backend: backend.kind.to_owned(),
        started_at_ms: clock::wall_ms(),
        ..Report::default()
    };
    let stage = tokio::select! {
        () = stop.cancelled() => return Err(RaceError::Stopped),
        stage = Stage::set(options, backend, progress) => stage?,
    };
    let played = async {
        let page = match options.serve {
            Some(address) => Some(serve::open(&stage, address).await?),
            None => None,
        };
        tokio::select! {
            () = stop.cancelled() => return Err(RaceError::Stopped),
            acts = play_all(&stage, options, &mut report) => acts?,
        }
        println!("{}", table::of(&report));
        println!("{}", options.out.join("race.json").display());
        println!("{}", options.out.join("race.svg").display());
        if let Some(page) = page {
            page.keep_up(&stage, &stop).await?;
        }
        Ok(report.passed)
    };
    let out = tokio::select! {
        error = stage.tend() => Err(error),
        out = played => out,
    };
    stage.strike().await;
    out
}

async fn play_all(stage: &Stage, options: &Options, report: &mut Report) -> Result<(), RaceError> {
    for act in options.acts() {
        play(stage, act, report).await?;
    }
    report.passed = report.failures.is_empty();
    report.seconds = stage.progress.seconds();
    write(&options.out, report)
}

async fn play(stage: &Stage, act: Act, report: &mut Report) -> Result<(), RaceError> {
    match act {
        Act::Race => acts::race::play(stage, report).await,
        Act::Crash => acts::crash::play(stage, report).await,
        Act::Stall => acts::stall::play(stage, report).await,
        Act::Queue => acts::queue::play(stage, report).await,
        Act::Overhead => acts::overhead::play(stage, report).await,
    }
}

fn write(out: &Path, report: &Report) -> Result<(), RaceError> {
    let save = |name: &str, text: String| {
        let path = out.join(name);
        std::fs::write(&path, text).map_err(RaceError::system(path.display().to_string()))
    };
    let text = serde_json::to_string_pretty(report).map_err(|e| RaceError::Chart(e.to_string()))?;
    save("race.json", text + "\n")?;
    save("race.svg", chart::draw(report)?)
}

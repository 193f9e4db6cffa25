//! A process that holds a key (`src/bin/postgres-holder.rs`), as tests see it.

use std::{thread, time::Duration};

use pawl_lock::Instant;
use rustix::process::Signal;
use tempfile::TempDir;

use super::{Process, Program, postgres::boot_clock};

/// How long it may take to say something.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that takes a key and keeps it.
pub struct Holder {
    process: Process,
    _folder: TempDir,
}

/// What a holder believed at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Belief {
    /// Its token.
    pub token: u64,
    /// Until when it believes.
    pub deadline: Instant,
}

impl Holder {
    /// Starts a holder and waits until it holds.
    ///
    /// # Panics
    /// If it does not.
    pub fn start<'a>(program: Program, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let log = folder.path().join("log");
        let holder = Self {
            process: Process::start(program, arguments, &[], None, &log),
            _folder: folder,
        };
        holder.until(|| holder.said().iter().any(|line| line.starts_with("granted")));
        holder
    }

    /// What it believes, or believed until it was lost.
    ///
    /// # Panics
    /// If it said something else.
    pub fn belief(&self) -> Belief {
        let said = self.said();
        let number = |line: &String, place: usize| {
            let word = line
                .split_whitespace()
                .nth(place)
                .expect("it has that many words");
            word.parse::<u64>().expect("it is a number")
        };
        let granted = said.iter().find(|line| line.starts_with("granted"));
        let token = number(granted.expect("it holds"), 1);
        let last = said
            .iter()
            .rfind(|line| line.starts_with("granted") || line.starts_with("renewed"));
        let last = last.expect("it holds");
        let place = if last.starts_with("granted") { 2 } else { 1 };
        Belief {
            token,
            deadline: Instant::from_nanos(number(last, place)),
        }
    }

    /// How many times it renewed.
    pub fn renewals(&self) -> usize {
        self.said()
            .iter()
            .filter(|line| line.starts_with("renewed"))
            .count()
    }

    /// Waits until it says that it lost the key; answers why and when.
    ///
    /// # Panics
    /// If it does not.
    pub fn lost(&self) -> (String, Instant) {
        self.until(|| self.loss().is_some());
        self.loss().expect("it was waited for")
    }

    /// Why and when it lost the key, if it did.
    pub fn loss(&self) -> Option<(String, Instant)> {
        let said = self.said();
        let line = said.iter().find_map(|line| line.strip_prefix("lost "))?;
        let (reason, at) = line.split_once(' ')?;
        Some((reason.to_owned(), Instant::from_nanos(at.parse().ok()?)))
    }

    /// Stops it in its tracks.
    pub fn pause(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Kills it.
    pub fn kill(&self) {
        self.process.kill();
    }

    fn said(&self) -> Vec<String> {
        let text = self.process.log();
        // The last line may be half written.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(str::to_owned).collect()
    }

    fn until(&self, is_so: impl Fn() -> bool) {
        let start = boot_clock();
        while !is_so() {
            assert!(
                boot_clock().saturating_since(start) < PATIENCE,
                "the holder said only {:?}",
                self.said()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }
}

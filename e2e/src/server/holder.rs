//! A process that holds a key (`src/bin/postgres-holder.rs`), as tests see it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use pawl_lock::Instant;
use rustix::process::Signal;

use super::postgres::{boot_clock, signal_process, spawn};

/// How long it may take to say something.
const PATIENCE: Duration = Duration::from_secs(20);

/// A process that takes a key and keeps it.
pub struct Holder {
    process: Child,
    reader: Option<JoinHandle<()>>,
    said: std::sync::Arc<Mutex<Vec<String>>>,
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
    /// Starts a holder by its command, and waits until it holds.
    ///
    /// # Panics
    /// If it does not.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = spawn(command);
        let output = process.stdout.take().expect("it is piped");
        let said = std::sync::Arc::new(Mutex::new(Vec::new()));
        let lines = std::sync::Arc::clone(&said);
        let reader = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                lines
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(line);
            }
        });
        let holder = Self {
            process,
            reader: Some(reader),
            said,
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
        let last = said.iter().rfind(|line| !line.starts_with("lost"));
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
        signal_process(self.process.id(), Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        signal_process(self.process.id(), Signal::CONT);
    }

    /// Kills it.
    pub fn kill(&self) {
        signal_process(self.process.id(), Signal::KILL);
    }

    fn said(&self) -> Vec<String> {
        self.said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
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

impl Drop for Holder {
    fn drop(&mut self) {
        self.kill();
        drop(self.process.wait());
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}

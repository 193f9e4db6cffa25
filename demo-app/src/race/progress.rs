//! What is told on stderr while the race runs.

use crate::clock::{self, Instant};

/// Says what happens, with the seconds since the start.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    began: Instant,
}

impl Progress {
    /// From now on.
    pub fn start() -> Self {
        Self {
            began: clock::now(),
        }
    }

    /// Says one line.
    pub fn say(&self, text: impl AsRef<str>) {
        eprintln!(
            "{:>6.1}s  {}",
            self.began.elapsed().as_secs_f64(),
            text.as_ref()
        );
    }

    /// Seconds since the start.
    pub fn seconds(&self) -> f64 {
        (self.began.elapsed().as_secs_f64() * 10.0).round() / 10.0
    }
}

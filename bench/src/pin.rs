//! On which cores something runs.

use std::process::Command;

use crate::Error;

/// A set of cores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cores {
    /// The first.
    One,
    /// The first two.
    Two,
}

impl Cores {
    /// Both sets.
    pub const ALL: [Self; 2] = [Self::One, Self::Two];

    const fn list(self) -> &'static str {
        match self {
            Self::One => "0",
            Self::Two => "0,1",
        }
    }

    /// How many there are.
    pub const fn count(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// `1 core` or `2 cores`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::One => "1 core",
            Self::Two => "2 cores",
        }
    }

    /// Pins this process.
    ///
    /// # Errors
    /// As [`Cores::pin`].
    pub fn pin_self(self) -> Result<(), Error> {
        self.pin(i32::try_from(std::process::id())?)
    }

    /// Pins the process `pid` and its threads.
    ///
    /// # Errors
    /// If `taskset` is missing or refuses.
    pub fn pin(self, pid: i32) -> Result<(), Error> {
        let output = Command::new("taskset")
            .args(["-a", "-c", "-p", self.list(), &pid.to_string()])
            .output()?;
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("taskset: {}", String::from_utf8_lossy(&output.stderr)).into())
        }
    }
}

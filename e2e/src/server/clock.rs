//! A wall clock that a test can shift, for one server.

use std::{ffi::OsString, path::PathBuf, process::Command};

use tempfile::TempDir;

/// A wall clock that a test can shift. It is a small library that the server is started with; it is compiled here with
/// `cc`, which Rust needs anyway.
pub struct ShiftedClock {
    folder: TempDir,
}

impl ShiftedClock {
    /// A clock that is not shifted yet.
    ///
    /// # Panics
    /// If the library cannot be made.
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("pawl-clock-").expect("a folder can be made");
        let clock = Self { folder };
        let source = clock.path("clock_shift.c");
        std::fs::write(&source, include_str!("clock_shift.c")).expect("the folder can be written");
        let output = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([clock.path("clock_shift.so"), source])
            .output()
            .unwrap_or_else(|error| panic!("cc does not start ({error}): apt-get install gcc"));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        clock.shift(0);
        clock
    }

    /// What the server's environment must have.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.path("clock_shift.so").into_os_string()),
            ("CLOCK_SHIFT", self.path("seconds").into_os_string()),
        ]
    }

    /// Shows the time so many seconds ahead of (or behind) the machine's from now on.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn shift(&self, seconds: i64) {
        // Padded, so that a reader never sees an old digit behind the new ones: the file is written in place.
        std::fs::write(self.path("seconds"), format!("{seconds:<20}"))
            .expect("the folder can be written");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Default for ShiftedClock {
    fn default() -> Self {
        Self::new()
    }
}

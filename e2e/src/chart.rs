//! The charts under `charts/`: their values with what documents them, and what helm makes of them.
//!
//! `values.yaml` is the only source of what a value means: [`readme`] and [`schema`] are made from its comments.

pub mod helm;
pub mod readme;
pub mod schema;
pub mod values;

use std::path::{Path, PathBuf};

/// All charts of the repository.
pub const ALL: [&str; 2] = ["pawl", "pawl-demo"];

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The folder of a chart.
pub fn folder(chart: &str) -> PathBuf {
    root().join("charts").join(chart)
}

/// Reads a file of the repository.
///
/// # Panics
/// If it is not there.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Compares a file of the repository with what was made; `PAWL_BLESS=1` writes it instead.
///
/// # Panics
/// If they differ.
pub fn golden(path: &Path, made: &str) {
    if std::env::var_os("PAWL_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(path, made).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    let line = there.lines().zip(made.lines()).position(|(a, b)| a != b);
    let line = line.unwrap_or_else(|| there.lines().count().min(made.lines().count()));
    assert!(
        there == made,
        "{}: line {} is to be: {:?}; look at the change, then run the test again with PAWL_BLESS=1",
        path.display(),
        line + 1,
        made.lines().nth(line).unwrap_or_default()
    );
}

//! What was measured, what was asked for, and how they compare.

use std::{fmt::Write as _, fs, path::Path};

use serde::Serialize;

/// One number.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measure {
    /// The case it belongs to.
    pub case: &'static str,
    /// What it is.
    pub what: String,
    /// What was reached.
    pub value: f64,
    /// In which unit: `x` for a ratio to the reference.
    pub unit: &'static str,
    /// The bound that it is held to.
    pub bound: Option<Bound>,
    /// What it was made of, such as the two times of a ratio.
    pub detail: String,
}

/// A bound on a number.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    /// Not more than.
    AtMost(f64),
    /// Not less than.
    AtLeast(f64),
}

impl Measure {
    /// Whether the bound holds; a number without one always does.
    pub fn holds(&self) -> bool {
        match self.bound {
            None => true,
            Some(Bound::AtMost(bound)) => self.value <= bound,
            Some(Bound::AtLeast(bound)) => self.value >= bound,
        }
    }
}

/// The measures as a Markdown table.
pub fn table(measures: &[Measure]) -> String {
    let mut table = String::from(
        "| case | what | reached | asked for | | made of |\n|---|---|---|---|---|---|\n",
    );
    for measure in measures {
        let bound = match measure.bound {
            None => String::from("-"),
            Some(Bound::AtMost(bound)) => format!("<= {bound}"),
            Some(Bound::AtLeast(bound)) => format!(">= {bound}"),
        };
        let verdict = if measure.holds() { "ok" } else { "MISSED" };
        let Measure {
            case,
            what,
            value,
            unit,
            detail,
            ..
        } = measure;
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "| {case} | {what} | {value:.3} {unit} | {bound} | {verdict} | {detail} |"
        );
    }
    table
}

/// Writes `bench.json` and `bench.md` into `folder`, which is made if it is missing.
///
/// # Errors
/// Those of the file system.
pub fn write(folder: &Path, measures: &[Measure]) -> Result<(), crate::Error> {
    fs::create_dir_all(folder)?;
    fs::write(
        folder.join("bench.json"),
        serde_json::to_vec_pretty(measures)?,
    )?;
    fs::write(folder.join("bench.md"), table(measures))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(value: f64, bound: Option<Bound>) -> Measure {
        Measure {
            case: "c",
            what: "w".into(),
            value,
            unit: "x",
            bound,
            detail: String::new(),
        }
    }

    #[test]
    fn a_bound_that_is_passed_is_told() {
        assert!(measure(2.2, Some(Bound::AtMost(2.2))).holds());
        assert!(!measure(2.3, Some(Bound::AtMost(2.2))).holds());
        assert!(!measure(0.98, Some(Bound::AtLeast(0.99))).holds());
        assert!(measure(1e9, None).holds());
        assert!(table(&[measure(2.3, Some(Bound::AtMost(2.2)))]).contains("MISSED"));
    }
}

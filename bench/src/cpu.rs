//! Processor time of processes, as the scheduler counts it.

use std::{
    fs,
    ops::{Div, Sub},
    time::Duration,
};

use crate::Error;

/// What a few processes spent, by name.
#[derive(Clone, Debug)]
pub struct Spent(Vec<(&'static str, Duration)>);

impl Spent {
    /// What these processes have spent so far, all threads that live included.
    ///
    /// # Errors
    /// If one of them is gone.
    pub fn of(processes: &[(&'static str, i32)]) -> Result<Self, Error> {
        let spent = processes
            .iter()
            .map(|(name, pid)| Ok((*name, of(*pid)?)))
            .collect::<Result<_, Error>>()?;
        Ok(Self(spent))
    }
}

/// `/proc/<pid>/task/<tid>/schedstat` begins with the nanoseconds on a processor (Linux, Documentation/scheduler/sched-stats.rst).
fn of(pid: i32) -> Result<Duration, Error> {
    let mut nanos = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(task?.path().join("schedstat"))?;
        let first = stat.split_whitespace().next();
        nanos += first.ok_or("an empty schedstat")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

impl Sub for Spent {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        let both = self.0.into_iter().zip(before.0);
        Self(
            both.map(|((name, after), (_, before))| (name, after.saturating_sub(before)))
                .collect(),
        )
    }
}

impl Div<u32> for Spent {
    type Output = Self;

    fn div(self, cycles: u32) -> Self {
        Self(
            self.0
                .into_iter()
                .map(|(name, spent)| (name, spent / cycles))
                .collect(),
        )
    }
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, (name, spent)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{name} {spent:.1?}")?;
        }
        Ok(())
    }
}

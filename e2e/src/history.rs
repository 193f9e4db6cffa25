//! What applications did with locks under faults, and whether it may have happened.
//!
//! A history is a list of [`Entry`]s, written as JSON lines in the order in which they happened: an operation is invoked, and ends `ok`,
//! `fail`, or stays open for ever (`unknown`), as in [Jepsen](https://github.com/jepsen-io/jepsen)'s histories.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use serde_json::{Value, json};

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, in microseconds from the start of the run.
    pub at: u64,
    /// Which worker.
    pub worker: u32,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A worker asked for the lock.
    Ask,
    /// It got it, and believes in it for so many microseconds at most.
    Granted {
        /// The fencing token.
        token: u64,
        /// From before the request left.
        believed_until: u64,
    },
    /// It did not get it.
    Refused,
    /// No answer came: whether it holds is unknown, so it does not believe it.
    Unknown,
    /// It wrote to the resource, which took the write or refused it for its token.
    Wrote {
        /// The fencing token.
        token: u64,
        /// What it had read before.
        read: i64,
        /// What it wrote.
        value: i64,
        /// Whether the resource took it.
        is_applied: bool,
    },
    /// It gave the lock back.
    Release,
    /// It was told that the lock was lost.
    Lost,
}

/// Why a history must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Two workers believed at the same time.
    TwoBelievers {
        /// The earlier grant's token.
        first: u64,
        /// The later grant's token.
        second: u64,
        /// When.
        at: u64,
    },
    /// A token was given twice.
    SameToken(u64),
    /// A grant that was asked for after another was answered has a smaller token.
    TokenFell {
        /// The earlier token.
        from: u64,
        /// The later token.
        to: u64,
    },
    /// The resource applied a lower token after a higher one.
    StaleWrite {
        /// The token it had seen.
        seen: u64,
        /// The one it applied.
        applied: u64,
    },
    /// A write was applied that did not see the one before it.
    LostUpdate {
        /// What was there.
        expected: i64,
        /// What the writer had read.
        read: i64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What a run amounted to, so that a test can tell whether it had teeth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Grants.
    pub granted: u32,
    /// Refusals and unknown outcomes.
    pub failed: u32,
    /// Writes that the resource took.
    pub applied: u32,
    /// Writes that it refused.
    pub refused: u32,
}

/// Checks that nobody believed beside another, and that tokens climbed.
///
/// # Errors
/// The first fault.
pub fn check_locks(history: &[Entry]) -> Result<(), Fault> {
    let mut asked: BTreeMap<u32, u64> = BTreeMap::new();
    let mut believers: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    let mut grants: Vec<(u64, u64)> = Vec::new();
    for Entry { at, worker, what } in history.iter().copied() {
        match what {
            What::Ask => {
                asked.insert(worker, at);
            }
            What::Granted {
                token,
                believed_until,
            } => {
                for (other, until) in believers.values() {
                    if *until > at {
                        return Err(Fault::TwoBelievers {
                            first: *other,
                            second: token,
                            at,
                        });
                    }
                }
                let since = asked.get(&worker).copied().unwrap_or(at);
                for (answered, earlier) in &grants {
                    if *earlier == token {
                        return Err(Fault::SameToken(token));
                    }
                    if *answered < since && *earlier > token {
                        return Err(Fault::TokenFell {
                            from: *earlier,
                            to: token,
                        });
                    }
                }
                grants.push((at, token));
                believers.insert(worker, (token, believed_until));
            }
            What::Release | What::Lost => {
                believers.remove(&worker);
            }
            What::Refused | What::Unknown | What::Wrote { .. } => {}
        }
    }
    Ok(())
}

/// Checks that the resource never went back: neither in tokens nor in value.
///
/// # Errors
/// The first fault.
pub fn check_resource(history: &[Entry], initial: i64) -> Result<(), Fault> {
    let (mut seen, mut current) = (0, initial);
    for entry in history {
        if let What::Wrote {
            token,
            read,
            value,
            is_applied: true,
        } = entry.what
        {
            if token < seen {
                return Err(Fault::StaleWrite {
                    seen,
                    applied: token,
                });
            }
            if read != current {
                return Err(Fault::LostUpdate {
                    expected: current,
                    read,
                });
            }
            (seen, current) = (token, value);
        }
    }
    Ok(())
}

/// Counts.
pub fn tally(history: &[Entry]) -> Tally {
    let mut tally = Tally::default();
    for entry in history {
        match entry.what {
            What::Granted { .. } => tally.granted += 1,
            What::Refused | What::Unknown => tally.failed += 1,
            What::Wrote {
                is_applied: true, ..
            } => tally.applied += 1,
            What::Wrote {
                is_applied: false, ..
            } => tally.refused += 1,
            What::Ask | What::Release | What::Lost => {}
        }
    }
    tally
}

/// The history as JSON lines.
pub fn to_json_lines(history: &[Entry]) -> String {
    let mut lines = String::new();
    for Entry { at, worker, what } in history {
        let (kind, operation, value) = match what {
            What::Ask => ("invoke", "acquire", Value::Null),
            What::Granted {
                token,
                believed_until,
            } => (
                "ok",
                "acquire",
                json!({ "token": token, "believedUntil": believed_until }),
            ),
            What::Refused => ("fail", "acquire", Value::Null),
            What::Unknown => ("unknown", "acquire", Value::Null),
            What::Wrote {
                token,
                read,
                value,
                is_applied,
            } => {
                let kind = if *is_applied { "ok" } else { "fail" };
                (
                    kind,
                    "write",
                    json!({ "token": token, "read": read, "value": value }),
                )
            }
            What::Release => ("invoke", "release", Value::Null),
            What::Lost => ("ok", "lost", Value::Null),
        };
        let line =
            json!({ "at": at, "worker": worker, "type": kind, "f": operation, "value": value });
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{line}");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(rows: &[(u64, u32, What)]) -> Vec<Entry> {
        rows.iter()
            .map(|&(at, worker, what)| Entry { at, worker, what })
            .collect()
    }

    const fn granted(token: u64, believed_until: u64) -> What {
        What::Granted {
            token,
            believed_until,
        }
    }

    const fn wrote(token: u64, read: i64, value: i64) -> What {
        What::Wrote {
            token,
            read,
            value,
            is_applied: true,
        }
    }

    #[test]
    fn a_good_history_passes() {
        let history = entries(&[
            (0, 1, What::Ask),
            (1, 1, granted(5, 100)),
            (2, 2, What::Ask),
            (3, 1, wrote(5, 0, 1)),
            (4, 1, What::Release),
            (5, 2, granted(6, 100)),
            // The first is late: refused, so it does not count.
            (
                6,
                1,
                What::Wrote {
                    token: 5,
                    read: 0,
                    value: 1,
                    is_applied: false,
                },
            ),
            (7, 2, wrote(6, 1, 2)),
            (101, 3, granted(7, 200)),
        ]);
        assert_eq!(check_locks(&history), Ok(()));
        assert_eq!(check_resource(&history, 0), Ok(()));
        let expected = Tally {
            granted: 3,
            failed: 0,
            applied: 2,
            refused: 1,
        };
        assert_eq!(tally(&history), expected);
        assert_eq!(to_json_lines(&history).lines().count(), history.len());
    }

    #[test]
    fn bad_histories_are_rejected() {
        let two = entries(&[(1, 1, granted(5, 100)), (99, 2, granted(6, 200))]);
        let fault = Fault::TwoBelievers {
            first: 5,
            second: 6,
            at: 99,
        };
        assert_eq!(check_locks(&two), Err(fault));
        let same = entries(&[(1, 1, granted(5, 10)), (20, 2, granted(5, 30))]);
        assert_eq!(check_locks(&same), Err(Fault::SameToken(5)));
        let fell = entries(&[
            (1, 1, granted(5, 10)),
            (15, 2, What::Ask),
            (20, 2, granted(4, 30)),
        ]);
        assert_eq!(check_locks(&fell), Err(Fault::TokenFell { from: 5, to: 4 }));
        let stale = entries(&[(1, 1, wrote(6, 0, 1)), (2, 2, wrote(5, 1, 2))]);
        assert_eq!(
            check_resource(&stale, 0),
            Err(Fault::StaleWrite {
                seen: 6,
                applied: 5
            })
        );
        let lost = entries(&[(1, 1, wrote(5, 0, 1)), (2, 2, wrote(6, 0, 1))]);
        assert_eq!(
            check_resource(&lost, 0),
            Err(Fault::LostUpdate {
                expected: 1,
                read: 0
            })
        );
    }
}

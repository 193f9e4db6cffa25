//! How the bank keeps two deductions apart.

use serde::{Deserialize, Serialize};

/// What stands between the read and somebody else's write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Nothing: read, think, write. Loses money as soon as two do it at once.
    None,
    /// A Pawl lock on the account, around an otherwise unlocked read, think and write.
    Sidecar,
    /// The database's own lock: SELECT … FOR UPDATE in Postgres, BEGIN IMMEDIATE in a file.
    Row,
    /// No lock: the write compares the version that was read, and all is done again when it changed.
    Optimistic,
}

impl LockMode {
    /// All of them, in the order they are shown in.
    pub const ALL: [Self; 4] = [Self::None, Self::Sidecar, Self::Row, Self::Optimistic];

    /// The name as options, metrics and reports write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sidecar => "sidecar",
            Self::Row => "row",
            Self::Optimistic => "optimistic",
        }
    }
}

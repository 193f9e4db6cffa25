//! Where the bank keeps its books: [`sqlite`], a file that replicas on one machine share, or [`postgres`].
//!
//! A read and the write that hangs on it are separate calls, so that callers can get between them; only
//! [`Store::lock`] makes them one transaction. What a write does, it does in one transaction: the new
//! balance, the fence's check, and the ledger's entry.
//!
//! # How lost updates are counted
//! The row carries `applied`, which the database itself counts up on every write, and `reflected`, which
//! travels with the balance: a writer stores the `reflected` it *read* plus one. A write that overwrote another
//! one's balance thereby also overwrote its `reflected`, so `applied - reflected` is exactly the number of
//! acknowledged deductions that the balance does not show.

use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;

mod error;
pub mod postgres;
pub mod sqlite;
pub use error::StoreError;

/// How long a statement may wait for somebody else's transaction.
pub(crate) const BUSY_LIMIT: Duration = Duration::from_secs(30);
/// The largest sum of deductions on one account; far enough from `i64::MAX` that races cannot overflow it.
pub const DEDUCTED_LIMIT: i64 = 1_000_000_000_000_000_000;

/// An account as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// Whose it is.
    pub user_id: String,
    /// The balance it was opened with, in units.
    pub initial: i64,
    /// The balance now, in units.
    pub balance: i64,
    /// The sum of all acknowledged deductions since it was opened.
    #[serde(skip)]
    pub deducted: i64,
    /// Acknowledged deductions since it was opened.
    #[serde(rename = "deductions")]
    pub applied: i64,
    /// How many of them the balance shows.
    #[serde(skip)]
    pub reflected: i64,
    /// Lost updates of the times it was opened before.
    #[serde(skip)]
    pub lost_before: i64,
    /// Counts every write; never goes back.
    #[serde(skip)]
    pub version: i64,
    /// Counts how often it was opened; a write that read an earlier one is refused.
    #[serde(skip)]
    pub epoch: i64,
    /// The highest fencing token that was applied.
    pub last_token: i64,
}

impl Account {
    /// What the balance should be: what it was opened with less every acknowledged deduction.
    pub fn expected(&self) -> i64 {
        self.initial.saturating_sub(self.deducted)
    }

    /// Acknowledged deductions that the balance does not show, since it was opened last.
    pub fn lost_updates(&self) -> i64 {
        self.applied - self.reflected
    }
}

/// An order as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Its name.
    pub id: String,
    /// What it costs, in units.
    pub amount: i64,
    /// `pending`, `paid`, `shipped` or `cancelled`.
    pub status: String,
    /// Counts every write.
    pub version: i64,
    /// The highest fencing token that was applied.
    pub last_token: i64,
}

/// What must not have happened since the read, for a write to be applied.
#[derive(Debug, Clone, Copy, Default)]
pub struct Guard {
    /// A write with a token below the highest that was applied is refused.
    pub token: Option<i64>,
    /// Refuse when anybody wrote since the read.
    pub unchanged: bool,
}

/// A write that hangs on what was read.
#[derive(Debug, Clone)]
pub struct Change {
    /// Take an amount from an account as it was read.
    pub account: Option<(Account, i64, Guard)>,
    /// Give an order, as it was read, a new status.
    pub order: Option<(Order, String, Guard)>,
    /// By which lock mode, for the ledger.
    pub mode: &'static str,
    /// By which replica, for the ledger.
    pub replica: String,
}

/// What became of a [`Change`]. Either all of it was applied or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Written.
    Applied,
    /// Refused by the fence: a write with the token `highest` was applied before.
    Stale {
        /// The highest token that was applied.
        highest: i64,
    },
    /// Refused because somebody wrote since the read.
    Changed,
}

/// Sums over all accounts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Balances.
    pub balance: f64,
    /// What the balances should be.
    pub expected: f64,
    /// Acknowledged deductions that no balance shows, since ever.
    pub lost_updates: f64,
}

/// The bank's books. All times in it are wall milliseconds and only shown.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Opens an account, or opens it again, with a balance. The fence's highest token stays.
    async fn open_account(&self, user_id: &str, balance: i64) -> Result<Account, StoreError>;
    /// Reads an account.
    async fn account(&self, user_id: &str) -> Result<Option<Account>, StoreError>;
    /// Makes an order; `false` when there is one of that name.
    async fn create_order(
        &self,
        id: &str,
        amount: i64,
        token: Option<i64>,
    ) -> Result<bool, StoreError>;
    /// Reads an order.
    async fn order(&self, id: &str) -> Result<Option<Order>, StoreError>;
    /// Shows tokens to the fence before the read, which so becomes part of what it guards: from here on a write with a
    /// lower token is refused, though nothing was written yet with this one. Without it a late write could slip in between
    /// a newer holder's read and write, and be overwritten.
    async fn present(
        &self,
        account: Option<(&str, i64)>,
        order: Option<(&str, i64)>,
    ) -> Result<(), StoreError>;
    /// Writes, in a transaction of its own.
    async fn apply(&self, change: Change) -> Result<Outcome, StoreError>;
    /// Begins a transaction that keeps all other writers off these rows until it ends.
    async fn lock(
        &self,
        user_id: Option<&str>,
        order: Option<&str>,
    ) -> Result<Box<dyn Locked>, StoreError>;
    /// Sums over all accounts.
    async fn totals(&self) -> Result<Totals, StoreError>;
    /// The accounts opened last, newest first; those of one millisecond by name.
    async fn newest_accounts(&self, limit: u32) -> Result<Vec<Account>, StoreError>;
    /// The sum and the number of an account's ledger entries since it was opened last.
    async fn ledger(&self, user_id: &str) -> Result<(i64, i64), StoreError>;
    /// Tells the other replicas that this one is there, with a report (JSON) of its own.
    async fn announce(&self, replica: &str, report: &str) -> Result<(), StoreError>;
    /// Takes a replica's report away.
    async fn withdraw(&self, replica: &str) -> Result<(), StoreError>;
    /// The reports that are younger than `age`, by replica.
    async fn reports(&self, age: Duration) -> Result<Vec<String>, StoreError>;
}

/// Rows that nobody else can write. Dropped without [`Locked::apply`], nothing was written.
#[async_trait]
pub trait Locked: Send {
    /// The account, when one was locked and is there.
    fn account(&self) -> Option<&Account>;
    /// The order, when one was locked and is there.
    fn order(&self) -> Option<&Order>;
    /// Writes and ends the transaction.
    async fn apply(self: Box<Self>, change: Change) -> Result<Outcome, StoreError>;
}

/// What an account looks like after `amount` was taken from what was read.
pub(crate) fn deducted(read: &Account, amount: i64) -> Result<i64, StoreError> {
    let total = read
        .deducted
        .checked_add(amount)
        .ok_or(StoreError::Overflow)?;
    if total > DEDUCTED_LIMIT {
        return Err(StoreError::Overflow);
    }
    read.balance.checked_sub(amount).ok_or(StoreError::Overflow)
}

/// Why a conditional write hit no row.
pub(crate) fn refusal(token: Option<i64>, highest: Option<i64>) -> Outcome {
    match (token, highest) {
        (Some(token), Some(highest)) if highest > token => Outcome::Stale { highest },
        _ => Outcome::Changed,
    }
}

/// Opens the store at `url`: `postgres://…`, or `sqlite:PATH`, or a path.
pub async fn open(url: &str, options: &Options) -> Result<Box<dyn Store>, StoreError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(Box::new(postgres::Postgres::open(url, options).await?));
    }
    let path = url.strip_prefix("sqlite:").unwrap_or(url);
    if path.is_empty() || path.contains("://") {
        return Err(StoreError::Url);
    }
    Ok(Box::new(sqlite::Sqlite::open(path).await?))
}

/// What a Postgres store needs beside its URL.
#[derive(Debug, Clone)]
pub struct Options {
    /// The schema that the tables are in; made when it is missing.
    pub schema: String,
    /// A file with the certificates that the server's one must come from; the system's when `None`.
    pub ca_file: Option<std::path::PathBuf>,
    /// Connections at most.
    pub connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            schema: "pawl_demo".to_owned(),
            ca_file: None,
            connections: 16,
        }
    }
}

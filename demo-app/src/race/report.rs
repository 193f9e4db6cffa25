//! What a run comes to: `race.json`. Its form is an interface; `demo-app/README.md` describes it.

use serde::{Deserialize, Serialize};

/// The whole of `race.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// The backend's kind.
    pub backend: String,
    /// What each act measured; an act that was not run is missing.
    pub acts: Acts,
    /// How long applied deductions waited for others in the act `race`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<WaitRow>,
    /// Whether everything was as it should be.
    pub passed: bool,
    /// What was not, one sentence each.
    pub failures: Vec<String>,
    /// When it was begun, in milliseconds since the Unix epoch.
    pub started_at_ms: i64,
    /// How long it took.
    pub seconds: f64,
}

/// What each act measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Acts {
    /// Deductions at the same instant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub race: Vec<RaceRow>,
    /// A holder is killed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crash: Vec<CrashRow>,
    /// A holder writes late.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stall: Vec<StallRow>,
    /// Order of service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queue: Vec<QueueRow>,
    /// What a lock costs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overhead: Vec<OverheadRow>,
}

/// One round of the act `race`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RaceRow {
    /// The lock mode.
    pub mode: String,
    /// Bank replicas that took part.
    pub replicas: usize,
    /// Deductions that were asked for at the same instant.
    pub operations: usize,
    /// The balance by the acknowledged deductions.
    pub expected: i64,
    /// The balance in the books.
    pub actual: i64,
    /// Acknowledged deductions that the balance does not show.
    pub lost_updates: i64,
    /// Median time of a deduction, declined ones included.
    pub p50_ms: f64,
    /// 99th percentile of the same.
    pub p99_ms: f64,
}

/// How long the deductions of a round waited for others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WaitRow {
    /// The lock mode.
    pub mode: String,
    /// Bank replicas that took part.
    pub replicas: usize,
    /// Deductions that were applied.
    pub applied: usize,
    /// Deductions that were declined for want of money.
    pub declined: usize,
    /// Deductions that the fence refused.
    pub fenced: usize,
    /// Median wait of the applied ones.
    pub p50_wait_ms: f64,
    /// Longest wait of the applied ones.
    pub max_wait_ms: f64,
}

/// The act `crash`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CrashRow {
    /// What was killed with SIGKILL: `bank`, or `bank and sidecar`.
    pub killed: String,
    /// The lease's ttl.
    pub ttl_ms: u64,
    /// From the kill until the next one held the key; `null` when it never did.
    pub takeover_ms: Option<f64>,
    /// The dead holder's fencing token.
    pub token_before: u64,
    /// Its successor's.
    pub token_after: Option<u64>,
    /// Acknowledged deductions that the balance does not show.
    pub lost_updates: i64,
}

/// One try of the act `stall`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StallRow {
    /// How the holder was stalled: `sleep` or `sigstop`.
    pub pause: String,
    /// Whether writes were fenced.
    pub fencing: bool,
    /// The lease's ttl.
    pub ttl_ms: u64,
    /// What became of the late write: `applied`, or the code of its refusal.
    pub late_write: String,
    /// Whether its release told the late writer that the lock had been lost.
    pub told_lost: bool,
    /// The balance by the acknowledged deductions.
    pub expected: i64,
    /// The balance in the books.
    pub actual: i64,
    /// Acknowledged deductions that the balance does not show.
    pub lost_updates: i64,
}

/// One order of the act `queue`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueueRow {
    /// `Fifo` or `Any`.
    pub order: String,
    /// Sidecars that the waiters were spread over.
    pub sidecars: usize,
    /// Waiters that queued, one after another.
    pub waiters: usize,
    /// Waiters that got the key.
    pub served: usize,
    /// Pairs of waiters that were served in the other order than they came.
    pub inversions: usize,
    /// From the first holder's release until the last waiter's grant.
    pub drained_ms: f64,
}

/// One way of the act `overhead`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OverheadRow {
    /// The lock mode.
    pub mode: String,
    /// Deductions, one after another, without time to think.
    pub operations: usize,
    /// Median time of one.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// Operations per second.
    pub per_second: f64,
}

//! What a replica tells the page: about itself, and what its sidecar holds.
//!
//! The browser cannot ask a sidecar (it refuses pages by their `Origin`), so each replica asks its own and puts
//! the answer into the books, where every other replica finds it. No replica needs to know another one's address.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::Bank;
use super::api::balance;
use super::problem::BankError;
use crate::clock;

/// How often a replica tells about itself.
const EVERY: Duration = Duration::from_millis(700);
/// After so long without a word a replica is not shown.
const GONE_AFTER: Duration = Duration::from_secs(4);
/// Accounts and locks that are shown.
const SHOWN: usize = 24;

/// Tells about this replica until `stop`, and then takes the report away.
pub async fn keep_announcing(bank: Arc<Bank>, stop: CancellationToken) {
    let teller = &bank.teller;
    loop {
        let report = own(&bank).await.to_string();
        if let Err(error) = teller.store.announce(&teller.replica, &report).await {
            tracing::warn!(%error, "the replica cannot tell about itself");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => break,
        }
    }
    if let Err(error) = teller.store.withdraw(&teller.replica).await {
        tracing::warn!(%error, "the replica's report stays until it is old");
    }
}

/// This replica's report.
pub async fn own(bank: &Bank) -> Value {
    let teller = &bank.teller;
    let (sidecar, locks) = match &teller.pawl {
        None => (Value::Null, Value::Null),
        Some(pawl) => match tokio::time::timeout(EVERY, pawl.locks()).await {
            Ok(Ok(locks)) => ("up".into(), held(&locks)),
            Ok(Err(_)) | Err(_) => ("down".into(), Value::Null),
        },
    };
    json!({
        "name": teller.replica,
        "url": bank.url,
        "pid": std::process::id(),
        "mode": teller.mode.name(),
        "fencing": teller.fencing,
        "sidecar": sidecar,
        "locks": locks,
        "delayed": teller.delayed.load(Ordering::Relaxed),
        "deductions": bank.metrics.deductions(),
        "seenAtMs": clock::wall_ms(),
    })
}

/// The part of a sidecar's list that the page shows; never a lease's id.
fn held(locks: &Value) -> Value {
    let leases = locks["leases"].as_array().map_or(&[][..], Vec::as_slice);
    let shown = leases.iter().take(SHOWN).map(|lease| {
        json!({
            "key": lease["key"], "owner": lease["owner"], "state": lease["state"],
            "fencingToken": lease["fencingToken"], "expiresInMs": lease["expiresInMs"],
        })
    });
    json!({ "leases": shown.collect::<Vec<_>>(), "waiters": count(&locks["waiters"]) })
}

/// A number, or the length of a list.
fn count(value: &Value) -> u64 {
    let length = value
        .as_array()
        .and_then(|list| u64::try_from(list.len()).ok());
    value.as_u64().or(length).unwrap_or(0)
}

/// What the page shows: all replicas, the newest accounts, and the sums.
pub async fn overview(bank: &Bank) -> Result<Value, BankError> {
    let store = &bank.teller.store;
    let reports = store.reports(GONE_AFTER).await?;
    let replicas: Vec<Value> = reports
        .iter()
        .filter_map(|r| serde_json::from_str(r).ok())
        .collect();
    let limit = u32::try_from(SHOWN).unwrap_or(u32::MAX);
    let accounts: Vec<Value> = store
        .newest_accounts(limit)
        .await?
        .iter()
        .map(balance::view)
        .collect();
    Ok(json!({
        "replica": bank.teller.replica,
        "nowMs": clock::wall_ms(),
        "replicas": replicas,
        "accounts": accounts,
        "totals": store.totals().await?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_id_never_reaches_the_page() {
        let locks = json!({
            "leases": [{"leaseId": "secret", "key": "account/ann", "owner": "bank-1", "state": "held",
                        "fencingToken": 7, "expiresInMs": 900}],
            "waiters": [{"key": "account/ann"}, {"key": "account/ann"}],
        });
        let shown = held(&locks);
        assert!(!shown.to_string().contains("secret"));
        assert_eq!(shown["leases"][0]["key"], "account/ann");
        assert_eq!(shown["waiters"], 2);
        assert_eq!(held(&json!({"waiters": 3}))["waiters"], 3);
    }
}

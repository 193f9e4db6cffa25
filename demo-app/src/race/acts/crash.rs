//! Act 2: a holder is killed with SIGKILL while somebody waits; when does the next one get the key?

use std::time::Duration;

use crate::bank::mode::LockMode;
use crate::clock::{self, Instant};
use crate::race::banks::{Bank, Cast, Deduction, Outcome, end_all};
use crate::race::error::RaceError;
use crate::race::policy::ACCOUNTS;
use crate::race::report::{CrashRow, Report};
use crate::race::stage::Stage;
use crate::units::millis;

/// What may pass beyond the ttl: the backend's own granularity and a busy machine.
const GRACE: Duration = Duration::from_secs(3);
/// How long the holder would go on holding.
const FOREVER: Duration = Duration::from_secs(200);

/// Plays it.
pub async fn play(stage: &Stage, report: &mut Report) -> Result<(), RaceError> {
    let ttl = stage.backend.short_ttl();
    // Where the sidecar lives on, nobody may renew for the dead; where it dies too, it renewed up to then.
    let auto_renew = !stage.backend.is_shared();
    let cast = Cast {
        mode: LockMode::Sidecar,
        fencing: true,
        think: stage.think,
        ttl: Some(ttl),
        auto_renew,
    };
    let banks = Bank::start(stage, "crash", 2, &cast).await?;
    let (holder, heir) = (&banks[0], &banks[1]);
    let user = stage.account("crash");
    heir.open(&user, 1000).await?;
    let key = format!("account/{user}");

    // We stop listening to the holder's request; the bank works on and holds the key.
    tokio::select! {
        ended = holder.deduct_once(&user, 100, FOREVER) => {
            return Err(RaceError::Bank(format!("the holder ended before it was killed: {:?}", ended.outcome)));
        }
        stalled = holder.stalled() => stalled?,
    }
    let token_before = token_of(stage, &key).await?;
    let (next, killed_at) = tokio::join!(heir.deduct_once(&user, 100, Duration::ZERO), async {
        wait_for_a_waiter(stage, &key).await?;
        let killed_at = clock::now();
        stage.kill_own_sidecar(0);
        holder.kill();
        Ok::<_, RaceError>(killed_at)
    });
    let scene = Scene {
        token_before,
        killed_at: killed_at?,
    };
    let books = banks[1].books(&user).await?;
    end_all(banks).await;
    stage.revive_own_sidecar(0).await?;

    let row = CrashRow {
        killed: if stage.backend.is_shared() {
            "bank"
        } else {
            "bank and sidecar"
        }
        .to_owned(),
        ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        takeover_ms: next
            .held()
            .map(|(from, _)| millis(from.since(scene.killed_at))),
        token_before: scene.token_before,
        token_after: next.token(),
        lost_updates: books.lost_updates,
    };
    stage.progress.say(format!(
        "crash  {} killed, ttl {ttl:?}: next holder after {}",
        row.killed,
        row.takeover_ms
            .map_or("never".to_owned(), |ms| format!("{ms} ms"))
    ));
    let whys = judge(&row, &scene, &next, ttl, books.deductions);
    report
        .failures
        .extend(whys.into_iter().map(|why| format!("crash: {why}")));
    report.acts.crash.push(row);
    Ok(())
}

#[derive(Debug, Clone, Copy)]
struct Scene {
    token_before: u64,
    killed_at: Instant,
}

fn judge(
    row: &CrashRow,
    scene: &Scene,
    next: &Deduction,
    ttl: Duration,
    deductions: i64,
) -> Vec<String> {
    let mut wrong = Vec::new();
    match (next.held(), &next.outcome) {
        (Some((from, _)), Outcome::Applied(_)) => {
            if from < scene.killed_at {
                wrong.push("the next one got the key while its holder was alive".to_owned());
            }
            if from.since(scene.killed_at) > ttl + GRACE {
                wrong.push(format!(
                    "the next one got the key only after {:?}",
                    row.takeover_ms
                ));
            }
        }
        (_, outcome) => wrong.push(format!("nobody got the key after its holder: {outcome:?}")),
    }
    if row
        .token_after
        .is_some_and(|after| after <= row.token_before)
    {
        wrong.push(format!(
            "the token did not climb: {} after {:?}",
            row.token_before, row.token_after
        ));
    }
    if row.lost_updates != 0 || deductions != 1 {
        wrong.push(format!(
            "{deductions} deductions were applied instead of 1, {} lost",
            row.lost_updates
        ));
    }
    wrong
}

/// The fencing token of who holds the key now.
async fn token_of(stage: &Stage, key: &str) -> Result<u64, RaceError> {
    let holder = stage
        .pawl(0, ACCOUNTS)?
        .holder(key)
        .await
        .map_err(|e| RaceError::Bank(e.to_string()))?;
    holder["fencingToken"]
        .as_u64()
        .ok_or_else(|| RaceError::Bank(format!("nobody holds {key}: {holder}")))
}

/// Waits until the heir stands in the queue; a sidecar that counts no waiters gets a moment instead.
async fn wait_for_a_waiter(stage: &Stage, key: &str) -> Result<(), RaceError> {
    let pawl = stage.pawl(1, ACCOUNTS)?;
    let asked = clock::now();
    while asked.elapsed() < Duration::from_secs(1) {
        let waiters = pawl
            .holder(key)
            .await
            .ok()
            .and_then(|h| h["waiters"].as_u64());
        if waiters.is_some_and(|n| n > 0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(from: Duration, token_after: u64, lost_updates: i64) -> String {
        let killed_at = clock::now();
        let from = if from.is_zero() {
            json!(1)
        } else {
            json!(killed_at + from)
        };
        let lock = json!({"heldFrom": from, "heldUntil": from, "fencingToken": token_after});
        let next = Deduction {
            outcome: Outcome::Applied(json!({ "lock": lock })),
            took: Duration::ZERO,
        };
        let row = CrashRow {
            killed: "bank".to_owned(),
            ttl_ms: 2000,
            takeover_ms: None,
            token_before: 5,
            token_after: next.token(),
            lost_updates,
        };
        judge(
            &row,
            &Scene {
                token_before: 5,
                killed_at,
            },
            &next,
            Duration::from_secs(2),
            1,
        )
        .join("; ")
    }

    #[test]
    fn only_a_timely_successor_with_a_larger_token_is_right() {
        assert_eq!(judged(Duration::from_secs(2), 6, 0), "");
        assert!(judged(Duration::ZERO, 6, 0).contains("while its holder was alive"));
        assert!(judged(Duration::from_secs(9), 6, 0).contains("only after"));
        assert!(judged(Duration::from_secs(2), 5, 0).contains("did not climb"));
        assert!(judged(Duration::from_secs(2), 6, 1).contains("1 lost"));
    }
}

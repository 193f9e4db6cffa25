//! Act 4: waiters queue one after another, spread over the sidecars; in which order are they served?

use std::time::Duration;

use futures::future::join_all;

use super::overlaps;
use crate::clock::{self, Instant};
use crate::pawl::{Pawl, Stream, Terms};
use crate::race::error::RaceError;
use crate::race::policy::{ACCOUNTS, ACCOUNTS_ANY};
use crate::race::report::{QueueRow, Report};
use crate::race::stage::Stage;
use crate::units::millis;

/// Waiters that queue.
const WAITERS: usize = 20;
/// Sidecars at most that they are spread over.
const SIDECARS: usize = 4;
/// How long each holds the key.
const HOLD: Duration = Duration::from_millis(5);
/// How long a place in the queue may take to be seen by the other sidecars. The API confirms the place; that all
/// others know it, it does not.
const SETTLE: Duration = Duration::from_millis(30);
/// How long all of them may take.
const LIMIT: Duration = Duration::from_mins(1);

/// Plays it.
pub async fn play(stage: &Stage, report: &mut Report) -> Result<(), RaceError> {
    let fifo = stage.backend.has_fifo().then_some(("Fifo", ACCOUNTS));
    for (order, policy) in fifo.into_iter().chain([("Any", ACCOUNTS_ANY)]) {
        let (row, overlaps, served) = line(stage, order, policy).await?;
        stage.progress.say(format!(
            "queue  {order:<4} {} waiters over {} sidecar(s): {} served, {} inversions",
            row.waiters, row.sidecars, row.served, row.inversions
        ));
        let whys = judge(&row, overlaps, &served);
        report
            .failures
            .extend(whys.into_iter().map(|why| format!("queue: {order}: {why}")));
        report.acts.queue.push(row);
    }
    Ok(())
}

/// What a waiter got.
#[derive(Debug, Clone, Copy)]
struct Turn {
    token: u64,
    from: Instant,
    until: Instant,
}

async fn line(
    stage: &Stage,
    order: &str,
    policy: &str,
) -> Result<(QueueRow, usize, Vec<usize>), RaceError> {
    let sidecars = stage.sidecars.len().min(SIDECARS);
    let pawls: Vec<Pawl> = (0..sidecars)
        .map(|i| stage.pawl(i, policy))
        .collect::<Result<_, _>>()?;
    let key = format!("queue/{}-{order}", stage.run);
    let terms = Terms {
        wait: Some(LIMIT),
        ..Terms::default()
    };
    let failed = |e: crate::pawl::PawlError| RaceError::Bank(format!("queue: {e}"));

    let first = pawls[0].acquire(&[&key], &terms).await.map_err(failed)?;
    let mut line = Vec::with_capacity(WAITERS);
    for i in 0..WAITERS {
        let mut place = pawls[i % sidecars]
            .stream(&key, &terms)
            .await
            .map_err(failed)?;
        let queued = tokio::time::timeout(LIMIT, place.next())
            .await
            .ok()
            .flatten();
        let name = queued.as_ref().map(|e| e.name.as_str());
        // One who is granted at once, while another one holds, is judged by the overlap.
        let granted = match name {
            Some("queued") => None,
            Some("granted") => queued
                .and_then(|e| e.data["fencingToken"].as_u64())
                .map(|token| (token, clock::now())),
            other => {
                return Err(RaceError::Bank(format!(
                    "queue: a waiter was told {other:?} instead of its place"
                )));
            }
        };
        line.push((place, granted));
        tokio::time::sleep(SETTLE).await;
    }
    let opened = clock::now();
    let held_first = Turn {
        token: first.token(),
        from: first.since,
        until: opened.min(first.deadline),
    };
    let released = pawls[0].release(&first).await;
    let turns = join_all(
        line.into_iter()
            .map(|(place, granted)| turn(place, granted)),
    )
    .await;
    released.map_err(failed)?;

    let last = turns
        .iter()
        .flatten()
        .map(|t| t.from)
        .max()
        .unwrap_or(opened);
    let held = turns
        .iter()
        .flatten()
        .chain([&held_first])
        .map(|t| (t.from, t.until))
        .collect();
    let row = QueueRow {
        order: order.to_owned(),
        sidecars,
        waiters: WAITERS,
        served: turns.iter().flatten().count(),
        inversions: inversions(&turns.iter().flatten().map(|t| t.token).collect::<Vec<_>>()),
        drained_ms: millis(last.since(opened)),
    };
    Ok((row, overlaps(held), service(&turns)))
}

/// The waiters, numbered as they came, in the order they were served.
fn service(turns: &[Option<Turn>]) -> Vec<usize> {
    let mut served: Vec<(u64, usize)> = turns
        .iter()
        .enumerate()
        .filter_map(|(i, t)| Some(((*t)?.token, i + 1)))
        .collect();
    served.sort_unstable();
    served.into_iter().map(|(_, waiter)| waiter).collect()
}

/// Waits for the key, holds it for a moment, and leaves by closing the stream.
async fn turn(mut place: Stream, granted: Option<(u64, Instant)>) -> Option<Turn> {
    let (token, from) = if let Some(granted) = granted {
        granted
    } else {
        let grant = tokio::time::timeout(LIMIT, place.granted()).await.ok()??;
        (grant["fencingToken"].as_u64()?, clock::now())
    };
    tokio::time::sleep(HOLD).await;
    let until = clock::now();
    drop(place);
    Some(Turn { token, from, until })
}

/// Pairs that were served in the other order than they came. Tokens climb with every grant, so they are
/// the order of service, whatever the clocks and the network did.
fn inversions(tokens: &[u64]) -> usize {
    tokens
        .iter()
        .enumerate()
        .map(|(i, token)| {
            tokens[i + 1..]
                .iter()
                .filter(|later| *later <= token)
                .count()
        })
        .sum()
}

fn judge(row: &QueueRow, overlaps: usize, served: &[usize]) -> Vec<String> {
    let mut wrong = Vec::new();
    if row.served != row.waiters {
        wrong.push(format!(
            "only {} of {} waiters got the key",
            row.served, row.waiters
        ));
    }
    if row.order == "Fifo" && row.inversions > 0 {
        wrong.push(format!(
            "{} pairs of waiters were served in the wrong order: {served:?}",
            row.inversions
        ));
    }
    if overlaps > 0 {
        wrong.push(format!("{overlaps} times two held the key at once"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inversions_are_pairs_in_the_wrong_order() {
        assert_eq!(inversions(&[1, 2, 3, 4]), 0);
        assert_eq!(inversions(&[2, 1, 3, 4]), 1);
        assert_eq!(inversions(&[4, 3, 2, 1]), 6);
        assert_eq!(inversions(&[7, 7]), 1, "a token twice is no order");
    }

    #[test]
    fn fifo_is_strict_and_any_is_not() {
        let row = |order: &str, served, inversions| QueueRow {
            order: order.to_owned(),
            sidecars: 4,
            waiters: 20,
            served,
            inversions,
            drained_ms: 1.0,
        };
        assert!(judge(&row("Fifo", 20, 0), 0, &[]).is_empty());
        assert!(judge(&row("Any", 20, 9), 0, &[]).is_empty());
        assert_eq!(judge(&row("Fifo", 20, 1), 0, &[]).len(), 1);
        assert_eq!(judge(&row("Any", 19, 0), 0, &[]).len(), 1);
        assert_eq!(judge(&row("Any", 20, 0), 2, &[]).len(), 1);
    }
}

//! Act 5: a thousand deductions one after another, without time to think, with and without a lock.

use std::time::Duration;

use crate::bank::mode::LockMode;
use crate::clock;
use crate::race::banks::{Bank, Books, Cast, Outcome, end_all};
use crate::race::error::RaceError;
use crate::race::report::{OverheadRow, Report};
use crate::race::stage::Stage;
use crate::units::{millis, quantile};

/// Deductions of 1 from a balance of as many.
const OPERATIONS: u16 = 1000;

/// Plays it.
pub async fn play(stage: &Stage, report: &mut Report) -> Result<(), RaceError> {
    for mode in [LockMode::None, LockMode::Sidecar] {
        let fencing = mode == LockMode::Sidecar;
        let cast = Cast {
            mode,
            fencing,
            think: Duration::ZERO,
            ttl: None,
            auto_renew: true,
        };
        let banks = Bank::start(stage, &format!("overhead-{}", mode.name()), 1, &cast).await?;
        let run = thousand(
            &banks[0],
            &stage.account(&format!("overhead-{}", mode.name())),
        )
        .await?;
        end_all(banks).await;
        let row = OverheadRow {
            mode: mode.name().to_owned(),
            operations: run.took.len(),
            p50_ms: millis(quantile(&run.took, 0.5)),
            p99_ms: millis(quantile(&run.took, 0.99)),
            per_second: per_second(run.took.len(), run.total),
        };
        stage.progress.say(format!(
            "cost   {:<10} p50 {} ms, {} a second",
            row.mode, row.p50_ms, row.per_second
        ));
        let whys = judge(mode, &run);
        report.failures.extend(
            whys.into_iter()
                .map(|why| format!("overhead: mode {}: {why}", mode.name())),
        );
        report.acts.overhead.push(row);
    }
    Ok(())
}

#[derive(Debug)]
struct Run {
    took: Vec<Duration>,
    tokens: Vec<u64>,
    failed: Vec<Outcome>,
    total: Duration,
    books: Books,
}

async fn thousand(bank: &Bank, user: &str) -> Result<Run, RaceError> {
    bank.open(user, i64::from(OPERATIONS)).await?;
    let (mut took, mut tokens, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    let began = clock::now();
    for _ in 0..OPERATIONS {
        let deduction = bank.deduct_once(user, 1, Duration::ZERO).await;
        tokens.extend(deduction.token());
        match deduction.outcome {
            Outcome::Applied(_) => took.push(deduction.took),
            other => failed.push(other),
        }
    }
    let total = began.elapsed();
    Ok(Run {
        took,
        tokens,
        failed,
        total,
        books: bank.books(user).await?,
    })
}

fn judge(mode: LockMode, run: &Run) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(first) = run.failed.first() {
        wrong.push(format!(
            "{} of {OPERATIONS} deductions failed, the first with {first:?}",
            run.failed.len()
        ));
    }
    if run.books.lost_updates != 0 || run.books.balance != run.books.expected {
        wrong.push(format!(
            "{} updates were lost with nobody else there",
            run.books.lost_updates
        ));
    }
    let climbing = run.tokens.windows(2).all(|pair| pair[0] < pair[1]);
    if mode == LockMode::Sidecar && (run.tokens.len() != run.took.len() || !climbing) {
        wrong.push("the fencing tokens did not climb from one lock to the next".to_owned());
    }
    wrong
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate for people, of a thousand operations"
)]
fn per_second(operations: usize, total: Duration) -> f64 {
    (operations as f64 / total.as_secs_f64().max(0.001)).round()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(tokens: Vec<u64>, failed: Vec<Outcome>, lost_updates: i64) -> Run {
        let books = Books {
            balance: lost_updates,
            expected: 0,
            deductions: 2,
            lost_updates,
        };
        Run {
            took: vec![Duration::from_millis(1); 2],
            tokens,
            failed,
            total: Duration::from_secs(1),
            books,
        }
    }

    #[test]
    fn every_operation_counts_and_every_lock_is_a_new_one() {
        assert!(judge(LockMode::Sidecar, &run(vec![1, 2], vec![], 0)).is_empty());
        assert!(judge(LockMode::None, &run(vec![], vec![], 0)).is_empty());
        assert_eq!(
            judge(LockMode::Sidecar, &run(vec![1, 1], vec![], 0)).len(),
            1
        );
        assert_eq!(judge(LockMode::Sidecar, &run(vec![], vec![], 0)).len(), 1);
        assert_eq!(
            judge(LockMode::None, &run(vec![], vec![Outcome::Unknown], 0)).len(),
            1
        );
        assert_eq!(judge(LockMode::None, &run(vec![], vec![], 1)).len(), 1);
    }
}

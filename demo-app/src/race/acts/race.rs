//! Act 1: deductions of 100 from a balance of 1000, at the same instant, in every lock mode.

use std::time::Duration;

use futures::future::join_all;

use super::overlaps;
use crate::bank::mode::LockMode;
use crate::race::banks::{Bank, Books, Cast, Deduction, Outcome, end_all};
use crate::race::error::RaceError;
use crate::race::report::{RaceRow, Report, WaitRow};
use crate::race::stage::Stage;
use crate::units::{format_duration, millis, quantile};

/// What an account is opened with.
const BALANCE: i64 = 1000;
/// What each deduction takes.
const AMOUNT: i64 = 100;
/// Deductions at once per replica, in the large round.
const PER_REPLICA: usize = 4;
/// How often the unlocked mode may try to lose money, each time thinking twice as long.
const TRIES: u32 = 4;

/// Plays it.
pub async fn play(stage: &Stage, report: &mut Report) -> Result<(), RaceError> {
    for mode in LockMode::ALL {
        let rounds = if mode == LockMode::None {
            until_it_loses(stage).await?
        } else {
            rounds(stage, mode, stage.think).await?
        };
        for round in rounds {
            stage.progress.say(format!(
                "race   {:<10} {:>2} replicas, {:>2} deductions: expected {:>5}, is {:>5}, {} lost",
                mode.name(),
                round.row.replicas,
                round.row.operations,
                round.row.expected,
                round.row.actual,
                round.row.lost_updates
            ));
            let whys = round.judge(mode);
            let whys = whys
                .into_iter()
                .map(|why| format!("race: mode {}: {why}", mode.name()));
            report.failures.extend(whys);
            report.acts.race.push(round.row);
            report.waits.push(round.waits);
        }
    }
    Ok(())
}

/// The unlocked mode, with more time to think until both rounds lose something.
async fn until_it_loses(stage: &Stage) -> Result<Vec<Round>, RaceError> {
    let mut think = stage.think;
    let mut tries = 1;
    loop {
        let rounds = rounds(stage, LockMode::None, think).await?;
        if tries == TRIES || rounds.iter().all(|round| round.row.lost_updates > 0) {
            return Ok(rounds);
        }
        tries += 1;
        think = think.max(Duration::from_millis(5)) * 2;
        stage.progress.say(format!(
            "race   none lost nothing; once more, thinking for {}",
            format_duration(think)
        ));
    }
}

/// Two at once, and then many.
async fn rounds(stage: &Stage, mode: LockMode, think: Duration) -> Result<Vec<Round>, RaceError> {
    let cast = Cast {
        mode,
        fencing: mode == LockMode::Sidecar,
        think,
        ttl: None,
        auto_renew: true,
    };
    let banks = Bank::start(stage, mode.name(), stage.replicas, &cast).await?;
    let mut rounds = Vec::new();
    for (replicas, operations) in [(2, 2), (stage.replicas, stage.replicas * PER_REPLICA)] {
        let user = stage.account(&format!("{}-{replicas}-{}", mode.name(), think.as_millis()));
        rounds.push(round(&banks[..replicas], mode, operations, &user).await?);
    }
    end_all(banks).await;
    Ok(rounds)
}

/// What came of a round.
#[derive(Debug)]
struct Round {
    row: RaceRow,
    waits: WaitRow,
    books: Books,
    unknown: usize,
    refused: Vec<String>,
    overlaps: usize,
}

impl Round {
    /// What is not as it should be: a lock mode must lose nothing, and the unlocked one must.
    fn judge(&self, mode: LockMode) -> Vec<String> {
        if mode == LockMode::None {
            let silent = format!(
                "{} replicas: nothing was lost, so this shows nothing",
                self.row.replicas
            );
            return if self.row.lost_updates == 0 {
                vec![silent]
            } else {
                Vec::new()
            };
        }
        let (row, waits) = (&self.row, &self.waits);
        let mut wrong = Vec::new();
        let mut check = |bad: bool, text: String| {
            if bad {
                wrong.push(format!("{} replicas: {text}", row.replicas));
            }
        };
        check(
            row.lost_updates != 0,
            format!("{} updates were lost", row.lost_updates),
        );
        check(
            row.actual != row.expected,
            format!("the balance is {} and not {}", row.actual, row.expected),
        );
        check(
            row.expected < 0,
            format!("{} was paid out of {BALANCE}", BALANCE - row.expected),
        );
        check(
            self.overlaps > 0,
            format!(
                "{} times two replicas believed to hold the lock at once",
                self.overlaps
            ),
        );
        let acknowledged = i64::try_from(waits.applied).unwrap_or(i64::MAX);
        let counted = self.books.deductions;
        check(
            counted != acknowledged && self.unknown == 0,
            format!("{acknowledged} deductions were acknowledged, but the books have {counted}"),
        );
        let affordable = usize::try_from(BALANCE / AMOUNT)
            .unwrap_or(0)
            .min(row.operations);
        check(
            waits.applied + self.unknown < affordable,
            format!(
                "only {} of {affordable} deductions were done; refused: {:?}",
                waits.applied, self.refused
            ),
        );
        wrong
    }
}

async fn round(
    banks: &[Bank],
    mode: LockMode,
    operations: usize,
    user: &str,
) -> Result<Round, RaceError> {
    banks[0].open(user, BALANCE).await?;
    // Opens each replica's connections, so that all deductions start alike.
    for bank in banks {
        bank.books(user).await?;
    }
    let deductions = all_at_once(banks, operations, user).await;
    let books = banks[0].books(user).await?;
    Ok(tally(mode, banks.len(), books, &deductions))
}

/// Asks for all deductions in the same instant, spread over the replicas.
async fn all_at_once(banks: &[Bank], operations: usize, user: &str) -> Vec<Deduction> {
    join_all((0..operations).map(|i| banks[i % banks.len()].deduct(user, AMOUNT))).await
}

fn tally(mode: LockMode, replicas: usize, books: Books, deductions: &[Deduction]) -> Round {
    let took: Vec<Duration> = deductions.iter().map(|d| d.took).collect();
    let waited: Vec<Duration> = deductions.iter().filter_map(Deduction::waited).collect();
    let count =
        |wanted: fn(&Outcome) -> bool| deductions.iter().filter(|d| wanted(&d.outcome)).count();
    let refused = |d: &Deduction| {
        if let Outcome::Refused(code) = &d.outcome {
            Some(code.clone())
        } else {
            None
        }
    };
    Round {
        row: RaceRow {
            mode: mode.name().to_owned(),
            replicas,
            operations: deductions.len(),
            expected: books.expected,
            actual: books.balance,
            lost_updates: books.lost_updates,
            p50_ms: millis(quantile(&took, 0.5)),
            p99_ms: millis(quantile(&took, 0.99)),
        },
        waits: WaitRow {
            mode: mode.name().to_owned(),
            replicas,
            applied: count(|o| matches!(o, Outcome::Applied(_))),
            declined: count(|o| matches!(o, Outcome::Declined)),
            fenced: count(|o| matches!(o, Outcome::Refused(code) if code == "stale")),
            p50_wait_ms: millis(quantile(&waited, 0.5)),
            max_wait_ms: millis(quantile(&waited, 1.0)),
        },
        books,
        unknown: count(|o| matches!(o, Outcome::Unknown)),
        refused: deductions.iter().filter_map(refused).collect(),
        overlaps: overlaps(deductions.iter().filter_map(Deduction::held).collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn books(balance: i64, expected: i64, deductions: i64, lost_updates: i64) -> Books {
        Books {
            balance,
            expected,
            deductions,
            lost_updates,
        }
    }

    fn applied(lock: &serde_json::Value) -> Deduction {
        Deduction {
            outcome: Outcome::Applied(json!({"waitedMs": 3, "lock": lock})),
            took: Duration::from_millis(5),
        }
    }

    fn judged(books: Books, deductions: &[Deduction]) -> String {
        tally(LockMode::Sidecar, 2, books, deductions)
            .judge(LockMode::Sidecar)
            .join("; ")
    }

    #[test]
    fn a_clean_round_has_nothing_to_say() {
        let one = applied(&json!({"heldFrom": 10, "heldUntil": 20}));
        let two = applied(&json!({"heldFrom": 20, "heldUntil": 30}));
        assert_eq!(judged(books(800, 800, 2, 0), &[one, two]), "");
    }

    #[test]
    fn each_way_of_being_wrong_is_told() {
        let one = || applied(&json!({"heldFrom": 10, "heldUntil": 20}));
        let two = || applied(&json!({"heldFrom": 19, "heldUntil": 30}));
        let refused = Deduction {
            outcome: Outcome::Refused("stale".to_owned()),
            took: Duration::ZERO,
        };
        assert!(judged(books(900, 800, 2, 1), &[one()]).contains("1 updates were lost"));
        assert!(judged(books(900, 800, 2, 0), &[one()]).contains("the balance is 900 and not 800"));
        assert!(judged(books(-100, -100, 11, 0), &[one()]).contains("1100 was paid out of 1000"));
        assert!(
            judged(books(800, 800, 2, 0), &[one(), two()])
                .contains("believed to hold the lock at once")
        );
        assert!(judged(books(900, 900, 1, 0), &[one(), two()]).contains("the books have 1"));
        assert!(judged(books(900, 900, 1, 0), &[one(), refused]).contains("only 1 of 2"));
    }
    #[test]
    fn the_unlocked_mode_must_lose_something() {
        let judged = |books| tally(LockMode::None, 2, books, &[]).judge(LockMode::None);
        assert_eq!(judged(books(900, 800, 2, 1)), [""; 0]);
        assert_eq!(
            judged(books(800, 800, 2, 0)),
            ["2 replicas: nothing was lost, so this shows nothing"]
        );
    }
}

//! Act 3: a holder stalls past its ttl, another one takes over, and the first one writes late.
//!
//! No lock can keep that write from being sent. Without a fence it destroys the successor's; with one the store
//! refuses it.

use std::time::Duration;

use rustix::process::Signal;

use crate::bank::mode::LockMode;
use crate::race::banks::{Bank, Books, Cast, Deduction, Outcome, end_all};
use crate::race::error::RaceError;
use crate::race::report::{Report, StallRow};
use crate::race::stage::Stage;

/// How the holder is stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pause {
    /// The bank sleeps right before its write.
    Sleep,
    /// The bank, and its own sidecar if it has one, are stopped right before the write.
    Sigstop,
}

impl Pause {
    const fn name(self) -> &'static str {
        match self {
            Self::Sleep => "sleep",
            Self::Sigstop => "sigstop",
        }
    }
}

/// Plays it.
pub async fn play(stage: &Stage, report: &mut Report) -> Result<(), RaceError> {
    for pause in [Pause::Sleep, Pause::Sigstop] {
        for fencing in [false, true] {
            let (row, heir) = scene(stage, pause, fencing).await?;
            stage.progress.say(format!(
                "stall  {:<7} fencing {:<3}: late write {}, expected {}, is {}",
                row.pause,
                if fencing { "on" } else { "off" },
                row.late_write,
                row.expected,
                row.actual
            ));
            let whys = judge(&row, &heir);
            let name = format!(
                "stall: {}, fencing {}",
                row.pause,
                if fencing { "on" } else { "off" }
            );
            report
                .failures
                .extend(whys.into_iter().map(|why| format!("{name}: {why}")));
            report.acts.stall.push(row);
        }
    }
    Ok(())
}

async fn scene(
    stage: &Stage,
    pause: Pause,
    fencing: bool,
) -> Result<(StallRow, Deduction), RaceError> {
    let ttl = stage.backend.short_ttl();
    let cast = Cast {
        mode: LockMode::Sidecar,
        fencing,
        think: stage.think,
        ttl: Some(ttl),
        auto_renew: false,
    };
    let name = format!(
        "stall-{}-{}",
        pause.name(),
        if fencing { "on" } else { "off" }
    );
    let banks = Bank::start(stage, &name, 2, &cast).await?;
    let user = stage.account(&name);
    banks[1].open(&user, 1000).await?;
    let (late_deduction, heir) = match pause {
        Pause::Sleep => asleep(&banks[0], &banks[1], &user, ttl).await?,
        Pause::Sigstop => stopped(stage, &banks[0], &banks[1], &user).await?,
    };
    let books = banks[1].books(&user).await?;
    end_all(banks).await;
    Ok((row(pause, fencing, ttl, &late_deduction, books), heir))
}

/// The late one sleeps for long enough that its successor has come and gone.
async fn asleep(
    late: &Bank,
    heir: &Bank,
    user: &str,
    ttl: Duration,
) -> Result<(Deduction, Deduction), RaceError> {
    let delay = ttl * 2 + Duration::from_secs(1);
    let (late_deduction, heir) = tokio::join!(late.deduct_once(user, 100, delay), async {
        late.stalled().await?;
        Ok::<_, RaceError>(heir.deduct_once(user, 100, Duration::ZERO).await)
    });
    Ok((late_deduction, heir?))
}

/// The late one is stopped until its successor has come and gone.
async fn stopped(
    stage: &Stage,
    late: &Bank,
    heir: &Bank,
    user: &str,
) -> Result<(Deduction, Deduction), RaceError> {
    // Long enough for the signal to arrive within it; what is left of it is slept after the stop.
    let moment = Duration::from_millis(700);
    let (late_deduction, heir) = tokio::join!(late.deduct_once(user, 100, moment), async {
        late.stalled().await?;
        late.signal(Signal::STOP);
        stage.signal_own_sidecar(0, Signal::STOP);
        let heir = heir.deduct_once(user, 100, Duration::ZERO).await;
        stage.signal_own_sidecar(0, Signal::CONT);
        late.signal(Signal::CONT);
        Ok::<_, RaceError>(heir)
    });
    Ok((late_deduction, heir?))
}

fn row(pause: Pause, fencing: bool, ttl: Duration, late: &Deduction, books: Books) -> StallRow {
    let (late_write, told_lost) = match &late.outcome {
        Outcome::Applied(receipt) => ("applied".to_owned(), receipt["lock"]["lost"].is_string()),
        Outcome::Refused(code) => (code.clone(), false),
        Outcome::Declined => ("declined".to_owned(), false),
        Outcome::Unknown => ("no answer".to_owned(), false),
    };
    StallRow {
        pause: pause.name().to_owned(),
        fencing,
        ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
        late_write,
        told_lost,
        expected: books.expected,
        actual: books.balance,
        lost_updates: books.lost_updates,
    }
}

fn judge(row: &StallRow, heir: &Deduction) -> Vec<String> {
    let mut wrong = Vec::new();
    if !matches!(heir.outcome, Outcome::Applied(_)) {
        wrong.push(format!(
            "nobody took over from the stalled holder: {:?}",
            heir.outcome
        ));
    }
    if row.fencing {
        if row.late_write != "stale" {
            wrong.push(format!(
                "the late write was not refused with 409 stale, but {}",
                row.late_write
            ));
        }
        if row.lost_updates != 0 || row.actual != row.expected {
            wrong.push(format!("{} updates were lost", row.lost_updates));
        }
    } else if row.late_write != "applied" || row.lost_updates == 0 {
        wrong.push("the late write lost nothing, so this shows nothing".to_owned());
    } else if !row.told_lost {
        wrong.push("the release did not say that the lock had been lost".to_owned());
    }
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(fencing: bool, late: Outcome, lost_updates: i64) -> String {
        let deduction = |outcome| Deduction {
            outcome,
            took: Duration::ZERO,
        };
        let books = Books {
            balance: 800 + 100 * lost_updates,
            expected: 800,
            deductions: 2,
            lost_updates,
        };
        let row = row(
            Pause::Sleep,
            fencing,
            Duration::from_secs(2),
            &deduction(late),
            books,
        );
        judge(&row, &deduction(Outcome::Applied(json!({})))).join("; ")
    }

    #[test]
    fn without_a_fence_money_must_be_lost_and_with_one_it_must_not() {
        let told = || Outcome::Applied(json!({"lock": {"lost": "expired"}}));
        assert_eq!(judged(false, told(), 1), "");
        assert_eq!(judged(true, Outcome::Refused("stale".to_owned()), 0), "");
        assert!(judged(false, told(), 0).contains("shows nothing"));
        assert!(judged(false, Outcome::Applied(json!({})), 1).contains("did not say"));
        assert!(judged(true, told(), 1).contains("not refused"));
        assert!(
            judged(true, Outcome::Refused("stale".to_owned()), 1).contains("1 updates were lost")
        );
        assert!(judged(true, Outcome::Refused("lock_lost".to_owned()), 0).contains("not refused"));
    }

    #[test]
    fn a_key_that_nobody_took_over_is_told() {
        let none = Deduction {
            outcome: Outcome::Refused("lock_held".to_owned()),
            took: Duration::ZERO,
        };
        let late = Deduction {
            outcome: Outcome::Refused("stale".to_owned()),
            took: Duration::ZERO,
        };
        let books = Books {
            balance: 900,
            expected: 900,
            deductions: 1,
            lost_updates: 0,
        };
        let row = row(Pause::Sigstop, true, Duration::from_secs(2), &late, books);
        assert!(judge(&row, &none).join("; ").contains("nobody took over"));
    }
}

//! Read, think, write: by one of the four lock modes.
//!
//! The decision (is there enough?) is a function of what was read; everything around it is the same for a
//! deduction, a payment and an order. The simulated delay lies where a garbage collection or a busy machine
//! hurts most: after the last look at the lease and before the write. No check on the client's side can close
//! that gap; the fence can.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::mode::LockMode;
use super::problem::BankError;
use crate::clock::{self, Instant};
use crate::pawl::{Lease, Pawl, PawlError, Terms};
use crate::store::{Account, Change, Guard, Order, Outcome, Store};

/// Whose rows a request is about.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    /// The account, if any.
    pub user_id: Option<String>,
    /// The order, if any.
    pub order: Option<String>,
}

impl Subject {
    /// The lock keys, in the order that locks are taken in.
    fn keys(&self) -> Vec<String> {
        let account = self.user_id.iter().map(|u| format!("account/{u}"));
        account
            .chain(self.order.iter().map(|o| format!("order/{o}")))
            .collect()
    }
}

/// What the caller sent along.
#[derive(Debug, Clone, Copy, Default)]
pub struct Caller {
    /// `X-Fence-Token`: the caller holds the lock itself, so the bank takes none.
    pub token: Option<i64>,
    /// `X-Simulate-Delay`: stall for so long right before the write.
    pub delay: Duration,
}

/// What is to be written.
#[derive(Debug, Clone, Default)]
pub struct Effect {
    /// Take so much from the account.
    pub amount: Option<i64>,
    /// Give the order this status.
    pub status: Option<String>,
}

/// A decision: from what was read to what is written.
pub type Decide =
    dyn Fn(Option<&Account>, Option<&Order>) -> Result<Effect, BankError> + Send + Sync;

/// How the sidecar's lock was held for a request.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LockUse {
    /// The token that the write carried.
    pub fencing_token: u64,
    /// How long it was queued for.
    pub waited_ms: u64,
    /// From when on the bank believed to hold it, in microseconds of `CLOCK_BOOTTIME`.
    pub held_from: Instant,
    /// Until when: the earlier of the release and the lease's deadline.
    pub held_until: Instant,
    /// Why the lock had been lost by the time it was released.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// What was written.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// The account's balance after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<i64>,
    /// The order's status after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_status: Option<String>,
    /// The lock mode it was done in.
    pub mode: &'static str,
    /// The replica that did it.
    pub replica: String,
    /// How long it waited for the others, in milliseconds.
    pub waited_ms: u64,
    /// How often it was tried, with the lock mode `optimistic`.
    pub tries: u32,
    /// The lock, with the lock mode `sidecar`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockUse>,
}

/// One replica's way of working.
#[derive(Debug)]
pub struct Teller {
    /// The books.
    pub store: Box<dyn Store>,
    /// What stands between the read and somebody else's write.
    pub mode: LockMode,
    /// Whether writes carry fencing tokens.
    pub fencing: bool,
    /// The sidecar, with the lock mode `sidecar`.
    pub pawl: Option<Pawl>,
    /// What is asked of a lock.
    pub terms: Terms,
    /// The time between the check and the write.
    pub think: Duration,
    /// How long `optimistic` goes on trying.
    pub patience: Duration,
    /// This replica's name.
    pub replica: String,
    /// Requests that are stalled by `X-Simulate-Delay` right now.
    pub delayed: AtomicU64,
}

impl Teller {
    /// Does a request. Run it in a task that is not cancelled, so that its lock is always released.
    pub async fn serve(
        &self,
        subject: &Subject,
        caller: Caller,
        decide: &Decide,
    ) -> Result<Receipt, BankError> {
        match (caller.token, self.mode, &self.pawl) {
            (Some(token), ..) => {
                let guards = Guards::fenced(&[token], self.fencing);
                self.read_think_write(subject, caller.delay, decide, guards, None)
                    .await
            }
            (None, LockMode::Sidecar, Some(pawl)) => {
                self.under_a_lock(pawl, subject, caller.delay, decide).await
            }
            _ if self.fencing => Err(BankError::TokenRequired),
            (None, LockMode::None | LockMode::Sidecar, _) => {
                self.read_think_write(subject, caller.delay, decide, Guards::default(), None)
                    .await
            }
            (None, LockMode::Row, _) => self.in_a_transaction(subject, caller.delay, decide).await,
            (None, LockMode::Optimistic, _) => {
                self.until_unchanged(subject, caller.delay, decide).await
            }
        }
    }

    /// The unlocked way, and the middle of the locked one: nothing here keeps anybody out.
    async fn read_think_write(
        &self,
        subject: &Subject,
        delay: Duration,
        decide: &Decide,
        guards: Guards,
        lease: Option<&Lease>,
    ) -> Result<Receipt, BankError> {
        self.present(subject, guards).await?;
        let account = match &subject.user_id {
            Some(user_id) => self.store.account(user_id).await?,
            None => None,
        };
        let order = match &subject.order {
            Some(order) => self.store.order(order).await?,
            None => None,
        };
        let effect = decide(account.as_ref(), order.as_ref())?;
        tokio::time::sleep(self.think).await;
        if lease.is_some_and(|lease| !lease.is_held()) {
            return Err(BankError::LockLost);
        }
        self.stall(delay).await;
        let (change, receipt) = self.change(account, order, effect, guards);
        settle(&self.store.apply(change).await?, guards, receipt)
    }

    /// Shows the tokens to the fence before the read.
    async fn present(&self, subject: &Subject, guards: Guards) -> Result<(), BankError> {
        let order_token = if subject.user_id.is_some() {
            guards.second
        } else {
            guards.first
        };
        let account = subject.user_id.as_deref().zip(guards.first);
        let order = subject.order.as_deref().zip(order_token);
        if account.is_some() || order.is_some() {
            self.store.present(account, order).await?;
        }
        Ok(())
    }

    /// `sidecar`: acquire, work, release; the release is asked for whatever came of the work.
    async fn under_a_lock(
        &self,
        pawl: &Pawl,
        subject: &Subject,
        delay: Duration,
        decide: &Decide,
    ) -> Result<Receipt, BankError> {
        let keys = subject.keys();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let lease = pawl.acquire(&keys, &self.terms).await?;
        let tokens: Vec<i64> = lease
            .tokens()
            .iter()
            .filter_map(|t| i64::try_from(*t).ok())
            .collect();
        let guards = Guards::fenced(&tokens, self.fencing);
        let outcome = self
            .read_think_write(subject, delay, decide, guards, Some(&lease))
            .await;
        let held_until = clock::now().min(lease.deadline);
        let lost = match pawl.release(&lease).await {
            Ok(()) => None,
            Err(PawlError::Lost { reason }) => Some(reason),
            Err(error) => {
                tracing::warn!(%error, "a lock could not be released; it ends by itself");
                None
            }
        };
        let waited_ms = as_ms(lease.waited);
        let lock = LockUse {
            fencing_token: lease.token(),
            waited_ms,
            held_from: lease.since,
            held_until,
            lost,
        };
        outcome.map(|receipt| Receipt {
            waited_ms,
            lock: Some(lock),
            ..receipt
        })
    }

    /// `row`: the database keeps everybody else off the rows until the transaction ends.
    async fn in_a_transaction(
        &self,
        subject: &Subject,
        delay: Duration,
        decide: &Decide,
    ) -> Result<Receipt, BankError> {
        let asked = clock::now();
        let locked = self
            .store
            .lock(subject.user_id.as_deref(), subject.order.as_deref())
            .await?;
        let waited_ms = as_ms(asked.elapsed());
        let effect = decide(locked.account(), locked.order())?;
        tokio::time::sleep(self.think).await;
        self.stall(delay).await;
        let (account, order) = (locked.account().cloned(), locked.order().cloned());
        let (change, receipt) = self.change(account, order, effect, Guards::default());
        let outcome = locked.apply(change).await?;
        settle(
            &outcome,
            Guards::default(),
            Receipt {
                waited_ms,
                ..receipt
            },
        )
    }

    /// `optimistic`: done again until nobody wrote between the read and the write.
    async fn until_unchanged(
        &self,
        subject: &Subject,
        delay: Duration,
        decide: &Decide,
    ) -> Result<Receipt, BankError> {
        let (asked, mut tries) = (clock::now(), 0);
        loop {
            let began = clock::now();
            tries += 1;
            let guards = Guards {
                unchanged: true,
                ..Guards::default()
            };
            match self
                .read_think_write(subject, delay, decide, guards, None)
                .await
            {
                Err(BankError::Reopened) if asked.elapsed() < self.patience => {
                    // Full jitter, so that the losers of one round are not the contenders of the next.
                    let pause = rand::random_range(0..=self.think.as_micros().max(1000));
                    tokio::time::sleep(Duration::from_micros(u64::try_from(pause).unwrap_or(1000)))
                        .await;
                }
                Err(BankError::Reopened) => return Err(BankError::Contended { tries }),
                other => {
                    let waited_ms = as_ms(began.since(asked));
                    return other.map(|receipt| Receipt {
                        waited_ms,
                        tries,
                        ..receipt
                    });
                }
            }
        }
    }

    async fn stall(&self, delay: Duration) {
        if !delay.is_zero() {
            self.delayed.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(delay).await;
            self.delayed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn change(
        &self,
        account: Option<Account>,
        order: Option<Order>,
        effect: Effect,
        g: Guards,
    ) -> (Change, Receipt) {
        let receipt = Receipt {
            balance: account
                .as_ref()
                .zip(effect.amount)
                .map(|(a, amount)| a.balance - amount),
            order_status: effect.status.clone(),
            mode: self.mode.name(),
            replica: self.replica.clone(),
            waited_ms: 0,
            tries: 1,
            lock: None,
        };
        let guard = |token| Guard {
            token,
            unchanged: g.unchanged,
        };
        let order_token = if account.is_some() { g.second } else { g.first };
        let change = Change {
            account: account
                .zip(effect.amount)
                .map(|(a, amount)| (a, amount, guard(g.first))),
            order: order
                .zip(effect.status)
                .map(|(o, status)| (o, status, guard(order_token))),
            mode: self.mode.name(),
            replica: self.replica.clone(),
        };
        (change, receipt)
    }
}

/// What the write checks: the tokens of the first and second key, and whether anybody wrote meanwhile.
#[derive(Debug, Clone, Copy, Default)]
struct Guards {
    first: Option<i64>,
    second: Option<i64>,
    unchanged: bool,
}

impl Guards {
    fn fenced(tokens: &[i64], fencing: bool) -> Self {
        let token = |i: usize| tokens.get(i).copied().filter(|_| fencing);
        Self {
            first: token(0),
            second: token(1),
            unchanged: false,
        }
    }
}

fn settle(outcome: &Outcome, guards: Guards, receipt: Receipt) -> Result<Receipt, BankError> {
    match outcome {
        Outcome::Applied => Ok(receipt),
        Outcome::Stale { highest } => Err(BankError::Stale {
            token: guards.first.or(guards.second).unwrap_or(0),
            highest: *highest,
        }),
        Outcome::Changed => Err(BankError::Reopened),
    }
}

fn as_ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

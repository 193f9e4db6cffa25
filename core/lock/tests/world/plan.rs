//! What happens to the world from outside.

use std::time::Duration;

use pawl_lock::{
    LossReason, Ttl,
    lease::{Mode, Order, Renew},
    slot::{Acquire, Backoff, Event, RenewId, Terms, WaiterId},
};

use crate::{
    run::{Happening, Waiting, World},
    server::owner,
};

/// What happens from outside, `after` the previous one.
#[derive(Clone, Debug)]
pub(crate) enum Do {
    Acquire {
        sidecar: usize,
        shared: bool,
        ttl_ms: u64,
        wait_ms: u64,
        manual: bool,
        max_hold_ms: u64,
    },
    Cancel {
        pick: usize,
    },
    Release {
        pick: usize,
        confirm: bool,
    },
    Renew {
        pick: usize,
        ttl_ms: Option<u64>,
    },
    Revoke {
        pick: usize,
    },
    Pause {
        sidecar: usize,
        ms: u64,
    },
    Fate {
        sidecar: usize,
        fate: Fate,
    },
    Drain {
        sidecar: usize,
    },
}

/// What happens to the next call of a sidecar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    RequestLost,
    AnswerLost,
    RequestLate(u64),
    AnswerLate(u64),
    Refused,
}

impl World {
    pub(crate) fn act(&mut self, what: Do) {
        match what {
            Do::Acquire {
                sidecar,
                shared,
                ttl_ms,
                wait_ms,
                manual,
                max_hold_ms,
            } => {
                self.made += 1;
                let waiter = WaiterId(self.made);
                let mode = if shared {
                    Mode::Shared
                } else {
                    Mode::Exclusive
                };
                let acquire = Acquire {
                    waiter,
                    mode,
                    ttl: Ttl::try_new(Duration::from_millis(ttl_ms)).expect("a ttl"),
                    wait_until: self.now.saturating_add(Duration::from_millis(wait_ms)),
                    renew: if manual { Renew::Manual } else { Renew::Auto },
                    max_hold: Duration::from_millis(max_hold_ms),
                    is_attached: false,
                    owner: owner(),
                };
                let waiting = Waiting {
                    sidecar,
                    since: self.now,
                    mode,
                    is_patient: wait_ms > 0,
                };
                self.waiters.insert(waiter, waiting);
                self.give(sidecar, Event::Acquire(acquire));
            }
            Do::Cancel { pick } => {
                if let Some(id) = picked(self.waiters.keys(), pick) {
                    let sidecar = self.waiters.remove(&id).expect("picked").sidecar;
                    // Only what a paused sidecar has not heard of may race with the departure.
                    if self.is_deaf(sidecar) {
                        self.left.insert(id);
                    } else {
                        self.gone.insert(id);
                    }
                    self.give(sidecar, Event::Cancel(id));
                }
            }
            Do::Release { pick, confirm } => {
                if let Some((sidecar, lease)) = picked(self.leases.keys(), pick) {
                    self.leases.remove(&(sidecar, lease));
                    self.give(sidecar, Event::Release { lease, confirm });
                }
            }
            Do::Renew { pick, ttl_ms } => {
                if let Some((sidecar, lease)) = picked(self.leases.keys(), pick) {
                    self.made += 1;
                    let id = RenewId(self.made);
                    let ttl =
                        ttl_ms.map(|ms| Ttl::try_new(Duration::from_millis(ms)).expect("a ttl"));
                    self.sidecars[sidecar].renewals.insert(id);
                    self.give(sidecar, Event::Renew { lease, id, ttl });
                }
            }
            Do::Revoke { pick } => {
                if let Some((sidecar, lease)) = picked(self.leases.keys(), pick) {
                    self.give(
                        sidecar,
                        Event::Revoke {
                            lease,
                            reason: LossReason::Sibling,
                        },
                    );
                }
            }
            Do::Pause { sidecar, ms } => {
                let until = self.now.saturating_add(Duration::from_millis(ms));
                let paused = &mut self.sidecars[sidecar].paused_until;
                *paused = (*paused).max(until);
                self.at(Duration::from_millis(ms), Happening::Resume { sidecar });
            }
            Do::Fate { sidecar, fate } => self.sidecars[sidecar].fate = Some(fate),
            Do::Drain { sidecar } => self.give(sidecar, Event::Drain(LossReason::Draining)),
        }
    }
}

fn picked<'a, T: Copy + 'a>(
    mut from: impl ExactSizeIterator<Item = &'a T>,
    pick: usize,
) -> Option<T> {
    let count = from.len();
    if count == 0 {
        None
    } else {
        from.nth(pick % count).copied()
    }
}

/// Terms that make the faults bite within seconds.
pub(crate) fn terms(order: Order, lock_delay_ms: u64, retain_ms: u64) -> Terms {
    Terms {
        order,
        lock_delay: Duration::from_millis(lock_delay_ms),
        retain: Duration::from_millis(retain_ms),
        idle: None,
        retry: Backoff {
            initial: Duration::from_millis(20),
            max: Duration::from_millis(500),
            factor: 2,
            is_jittered: true,
        },
        poll: Duration::from_millis(400),
        call_timeout: Duration::from_millis(300),
    }
}

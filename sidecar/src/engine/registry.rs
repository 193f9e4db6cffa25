//! Leases: secret handles outside, one part a key inside.

use std::{rc::Rc, time::Duration};

use pawl_kit::clock::Wall;
use pawl_lock::{
    Deadline, FencingToken, Instant, Key, LeaseRef, LossReason, Owner, Ttl,
    lease::{LeaseState, Mode, Renew},
    slot::{Event, RenewRefusal},
};
use tokio::sync::{oneshot, watch};

use super::{
    EngineError, Field, Granted, KeyGrant, LeaseError, LeaseEvent, LeaseEvents, LeaseId, LeaseInfo,
    Limit,
    acquisition::Outcome,
    arena::Id,
    ask::check_ttl,
    ended::End,
    service::Service,
    state::{Confirmation, Holding, Renewal, State},
};

/// Renewals of one lease that may be under way at a time.
const MAX_RENEWALS: u16 = 64;
/// When a caller may ask again at that limit.
const RENEWALS_RETRY: Duration = Duration::from_millis(500);

/// A lease that an application has.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) service: Rc<Service>,
    pub(super) owner: Owner,
    pub(super) mode: Mode,
    pub(super) renew: Renew,
    pub(super) ttl: Ttl,
    pub(super) granted: Instant,
    pub(super) granted_at: Wall,
    pub(super) parts: Parts,
    /// Open streams that stand for its owner.
    pub(super) attached: u32,
    /// Renewals that are under way.
    pub(super) renewals: u16,
    /// There from the first subscription on.
    pub(super) changes: Option<watch::Sender<Option<LeaseEvent>>>,
}

/// One key of a lease.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) slot: Id,
    pub(super) lease: LeaseRef,
    pub(super) key: Key,
    pub(super) token: FencingToken,
}

/// The keys of a lease, in the order of their bytes.
#[derive(Debug)]
pub(super) enum Parts {
    One(Part),
    /// At least one.
    Several(Box<[Part]>),
}

impl Parts {
    pub(super) fn as_slice(&self) -> &[Part] {
        match self {
            Self::One(part) => std::slice::from_ref(part),
            Self::Several(parts) => parts,
        }
    }

    fn grants(&self) -> Vec<KeyGrant> {
        let grant = |part: &Part| KeyGrant {
            key: part.key.clone(),
            token: part.token,
        };
        self.as_slice().iter().map(grant).collect()
    }
}

impl Lease {
    /// Tells the last event. Nothing follows: the sender goes with the lease.
    pub(super) fn tell_end(&self, end: End) {
        if let Some(changes) = &self.changes {
            changes.send_replace(Some(match end {
                End::Lost(reason) => LeaseEvent::Lost { reason },
                End::Released => LeaseEvent::Released,
            }));
        }
    }
}

/// A lease's state over all its keys.
struct Belief {
    deadline: Deadline,
    is_uncertain: bool,
}

impl State {
    /// Enters a lease that was granted, and makes the answer. If a key of it is over already it is an error: a dead
    /// lease is never granted.
    pub(super) fn add_lease(&mut self, now: Instant, lease: Lease, waited: Duration) -> Outcome {
        let id = LeaseId::random();
        for part in lease.parts.as_slice() {
            self.hold(part.slot, part.lease, Holding::Lease(id));
        }
        let Some(Belief { deadline, .. }) = self.belief(now, &lease) else {
            let error = over_already(&lease, LossReason::Expired);
            for (slot, lease) in ids(&lease.parts) {
                let confirm = false;
                self.push(slot, Event::Release { lease, confirm });
                self.unhold(slot, lease);
            }
            return Err(error);
        };
        let policy = lease.service.settings.borrow().name.clone();
        let (grants, mode, ttl) = (lease.parts.grants(), lease.mode, lease.ttl);
        self.leases.insert(id, lease);
        Ok(Granted {
            lease_id: id,
            policy,
            grants,
            mode,
            ttl,
            deadline,
            valid_until: self.fixed.clock.wall_at(deadline.instant()),
            waited,
        })
    }

    /// A grant as it is handed to its caller, who may come for it late: one that is over by then is an error.
    pub(super) fn hand_over(&mut self, now: Instant, granted: Granted) -> Outcome {
        if !granted.deadline.is_over(now) && self.leases.contains_key(&granted.lease_id) {
            return Ok(granted);
        }
        match self.touch(now, &granted.lease_id) {
            Ok(LeaseInfo {
                deadline,
                valid_until,
                ..
            }) => Ok(Granted {
                deadline,
                valid_until,
                ..granted
            }),
            Err(error) => Err(EngineError::LostWhileAcquiring {
                key: granted.grants[0].key.clone(),
                reason: match error {
                    LeaseError::Lost { reason } => reason,
                    _ => LossReason::Expired,
                },
                retry_after: RENEWALS_RETRY,
            }),
        }
    }

    /// What is believed of a lease at `now`; nothing if any key of it is over.
    fn belief(&self, now: Instant, lease: &Lease) -> Option<Belief> {
        let mut whole: Option<Belief> = None;
        for part in lease.parts.as_slice() {
            let view = self.slots.get(part.slot)?.slot.lease(now, part.lease)?;
            let is_uncertain = match view.state {
                LeaseState::Held => false,
                LeaseState::Uncertain => true,
                LeaseState::Lost(_) | LeaseState::Released => return None,
            };
            let sofar = whole.get_or_insert(Belief {
                deadline: view.deadline,
                is_uncertain,
            });
            sofar.deadline = sofar.deadline.min(view.deadline);
            sofar.is_uncertain |= is_uncertain;
        }
        whole
    }

    /// A lease as it is at `now`; a call that asks for it is a sign of its owner's life.
    pub(super) fn touch(&mut self, now: Instant, id: &LeaseId) -> Result<LeaseInfo, LeaseError> {
        self.for_parts(id, Event::Touch)?;
        self.settle(now);
        self.info(now, id)
    }

    fn info(&self, now: Instant, id: &LeaseId) -> Result<LeaseInfo, LeaseError> {
        let Some(lease) = self.leases.get(id) else {
            return Err(self.ended.error(id));
        };
        // The events that were settled at this `now` have marked what is over, so a lease in the books is alive.
        let Some(belief) = self.belief(now, lease) else {
            return Err(LeaseError::Lost {
                reason: LossReason::Expired,
            });
        };
        Ok(LeaseInfo {
            policy: lease.service.settings.borrow().name.clone(),
            grants: lease.parts.grants(),
            owner: lease.owner.clone(),
            mode: lease.mode,
            renew: lease.renew,
            ttl: lease.ttl,
            is_uncertain: belief.is_uncertain,
            deadline: belief.deadline,
            expires_in: belief.deadline.left(now),
            valid_until: self.fixed.clock.wall_at(belief.deadline.instant()),
            granted_at: lease.granted_at,
            held_for: now.saturating_since(lease.granted),
        })
    }

    /// Lists an event for each key of a lease.
    fn for_parts(
        &mut self,
        id: &LeaseId,
        event: impl Fn(LeaseRef) -> Event,
    ) -> Result<(), LeaseError> {
        let Some(lease) = self.leases.get(id) else {
            return Err(self.ended.error(id));
        };
        let parts: Vec<(Id, LeaseRef)> = ids(&lease.parts);
        for (slot, lease) in parts {
            self.push(slot, event(lease));
        }
        Ok(())
    }

    /// Starts a renewal of every key of a lease.
    pub(super) fn renew(
        &mut self,
        now: Instant,
        id: &LeaseId,
        ttl: Option<Duration>,
    ) -> Result<RenewalAnswers, LeaseError> {
        let Some(lease) = self.leases.get_mut(id) else {
            return Err(self.ended.error(id));
        };
        let ttl = match ttl {
            Some(ttl) => {
                let floor = lease.service.backend.profile.min_ttl;
                let settings = lease.service.settings.borrow();
                let field = Field::Ttl;
                Some(
                    check_ttl(ttl, &settings, floor)
                        .map_err(|problem| LeaseError::Invalid { field, problem })?,
                )
            }
            None => None,
        };
        if lease.renewals >= MAX_RENEWALS {
            return Err(LeaseError::Limit {
                limit: Limit::Renewals,
                most: u64::from(MAX_RENEWALS),
                retry_after: RENEWALS_RETRY,
            });
        }
        let parts = ids(&lease.parts);
        lease.renewals += u16::try_from(parts.len()).unwrap_or(MAX_RENEWALS);
        let mut answers = Vec::with_capacity(parts.len());
        for (slot, lease) in parts {
            let renewal = self.next_renewal();
            let (answer, answered) = oneshot::channel();
            self.renewals
                .insert(renewal, Renewal { lease: *id, answer });
            answers.push(answered);
            self.push(
                slot,
                Event::Renew {
                    lease,
                    id: renewal,
                    ttl,
                },
            );
        }
        self.settle(now);
        Ok(RenewalAnswers { answers, ttl })
    }

    /// What a renewal came to, from the answers for each key.
    pub(super) fn renewed(
        &mut self,
        now: Instant,
        id: &LeaseId,
        ttl: Option<Ttl>,
        refusal: Option<RenewRefusal>,
    ) -> Result<LeaseInfo, LeaseError> {
        // Touched again: the answer may have been long on its way to this task.
        self.for_parts(id, Event::Touch)?;
        self.settle(now);
        let Some(lease) = self.leases.get_mut(id) else {
            return Err(self.ended.error(id));
        };
        match refusal {
            Some(RenewRefusal::Backend(error)) => Err(LeaseError::Backend {
                retry_after: lease.service.retry_after(&error),
                error,
            }),
            Some(RenewRefusal::Lost(reason)) => Err(LeaseError::Lost { reason }),
            Some(RenewRefusal::Unknown) => Err(LeaseError::Unknown),
            None => {
                lease.ttl = ttl.unwrap_or(lease.ttl);
                self.info(now, id)
            }
        }
    }

    /// Releases every key of a lease. Confirmations are for the caller to wait for.
    pub(super) fn release(
        &mut self,
        now: Instant,
        id: &LeaseId,
        confirm: bool,
    ) -> Result<Vec<oneshot::Receiver<Confirmed>>, LeaseError> {
        let mut confirmed = Vec::new();
        if confirm && let Some(lease) = self.leases.get(id) {
            for (slot, lease) in ids(&lease.parts) {
                let (sender, receiver): (Confirmation, _) = oneshot::channel();
                self.confirmations.insert((slot, lease), sender);
                confirmed.push(receiver);
            }
        }
        self.for_parts(id, |lease| Event::Release { lease, confirm })?;
        self.settle(now);
        // What had been over at `now` was told by the slots before they looked at the release.
        let Some(lease) = self.close(now, *id, End::Released) else {
            return Err(self.ended.error(id));
        };
        for (slot, lease) in ids(&lease.parts) {
            self.unhold(slot, lease);
        }
        self.settle(now);
        Ok(confirmed)
    }

    /// [`State::release`] for an owner that is gone.
    pub(super) fn give_up(&mut self, now: Instant, id: &LeaseId) {
        // An error says that it is over already.
        let _ = self.release(now, id, false);
    }

    /// A slot said that a lease is lost: the whole is, whatever its other keys are.
    pub(super) fn lost(
        &mut self,
        now: Instant,
        id: LeaseId,
        lost: (Id, LeaseRef),
        reason: LossReason,
    ) {
        let Some(lease) = self.close(now, id, End::Lost(reason)) else {
            return;
        };
        for (slot, lease) in ids(&lease.parts) {
            self.confirmations.remove(&(slot, lease));
            if (slot, lease) != lost {
                let reason = LossReason::Sibling;
                self.push(slot, Event::Revoke { lease, reason });
            }
            self.unhold(slot, lease);
        }
    }

    /// Tells a lease's streams what it is now.
    pub(super) fn tell(&self, now: Instant, id: LeaseId) {
        let Some(lease) = self.leases.get(&id) else {
            return;
        };
        let Some(changes) = &lease.changes else {
            return;
        };
        if let Some(Belief {
            deadline,
            is_uncertain,
        }) = self.belief(now, lease)
        {
            changes.send_replace(Some(if is_uncertain {
                LeaseEvent::Uncertain { deadline }
            } else {
                LeaseEvent::Renewed { deadline }
            }));
        }
    }

    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        id: &LeaseId,
    ) -> Result<LeaseEvents, LeaseError> {
        self.for_parts(id, Event::Touch)?;
        self.settle(now);
        let Some(lease) = self.leases.get_mut(id) else {
            return Err(self.ended.error(id));
        };
        let changes = lease
            .changes
            .get_or_insert_with(|| watch::Sender::new(None));
        Ok(LeaseEvents {
            changes: changes.subscribe(),
            is_over: false,
        })
    }

    /// Counts a stream that stands for the owner in or out.
    pub(super) fn attach(
        &mut self,
        now: Instant,
        id: &LeaseId,
        is_opened: bool,
    ) -> Result<(), LeaseError> {
        let Some(lease) = self.leases.get_mut(id) else {
            return Err(self.ended.error(id));
        };
        let before = lease.attached;
        lease.attached = if is_opened {
            before + 1
        } else {
            before.saturating_sub(1)
        };
        let is_attached = lease.attached > 0;
        if (before > 0) != is_attached {
            self.for_parts(id, |lease| Event::Attach { lease, is_attached })?;
            self.settle(now);
        }
        if self.leases.contains_key(id) {
            Ok(())
        } else {
            Err(self.ended.error(id))
        }
    }
}

/// The answers to a renewal that are still on their way, one a key.
pub(super) struct RenewalAnswers {
    pub(super) answers: Vec<oneshot::Receiver<Result<Deadline, RenewRefusal>>>,
    pub(super) ttl: Option<Ttl>,
}

/// How a confirmed release ended.
pub(super) type Confirmed = Result<(), std::sync::Arc<pawl_lock::BackendError>>;

fn over_already(lease: &Lease, reason: LossReason) -> EngineError {
    EngineError::LostWhileAcquiring {
        key: lease.parts.as_slice()[0].key.clone(),
        reason,
        retry_after: RENEWALS_RETRY,
    }
}

fn ids(parts: &Parts) -> Vec<(Id, LeaseRef)> {
    parts
        .as_slice()
        .iter()
        .map(|part| (part.slot, part.lease))
        .collect()
}

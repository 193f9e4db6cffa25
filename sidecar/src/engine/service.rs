//! One policy's backend and what lives on it.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use pawl_lock::{Backend, BackendError, Key, backend::Profile, backend::Retry};
use tokio::sync::Notify;

use super::{
    arena::Id,
    health::Health,
    mailbox::Mailbox,
    settings::{BackendConfig, Settings},
};
use crate::metrics::PolicyMetrics;

/// A backend that was opened for a policy, with the slots on it. A policy has at most one at a time.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) backend: Opened,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) metrics: PolicyMetrics,
    /// The newest settings; running leases keep what they were granted.
    pub(super) settings: RefCell<Rc<Settings>>,
    pub(super) health: RefCell<Health>,
    /// Asks the keeper to look at the backend now.
    pub(super) check_now: Notify,
    pub(super) slots: RefCell<HashMap<Key, Id>>,
    /// Slots that lost their last lease, oldest first; some of them may be in use again or gone.
    pub(super) spare: RefCell<VecDeque<Id>>,
    /// Slots with a lease or a waiter.
    pub(super) active: Cell<usize>,
    pub(super) waiters: Cell<usize>,
    /// Nothing new is given; it is closed when its last slot is gone.
    pub(super) is_retiring: Cell<bool>,
    /// Ends its keeper.
    pub(super) closed: Notify,
}

/// A backend and what it was opened with.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) profile: Profile,
    pub(super) config: BackendConfig,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Opened").field(&self.profile.name).finish()
    }
}

impl Service {
    pub(super) fn new(
        backend: Opened,
        mailbox: Mailbox,
        metrics: PolicyMetrics,
        settings: Rc<Settings>,
    ) -> Self {
        Self {
            backend,
            mailbox: Arc::new(mailbox),
            metrics,
            settings: RefCell::new(settings),
            health: RefCell::default(),
            check_now: Notify::new(),
            slots: RefCell::default(),
            spare: RefCell::default(),
            active: Cell::new(0),
            waiters: Cell::new(0),
            is_retiring: Cell::new(false),
            closed: Notify::new(),
        }
    }

    /// Ends its keeper and removes its series. Nothing lives on it any more.
    pub(super) fn close(&self) {
        self.closed.notify_one();
        self.metrics.close();
    }

    pub(super) fn settings(&self) -> Rc<Settings> {
        Rc::clone(&self.settings.borrow())
    }

    /// When a caller may ask again after this error: after the policy's longest backoff, or, where only a change of
    /// configuration helps, rarely.
    pub(super) fn retry_after(&self, error: &BackendError) -> Duration {
        match error.retry() {
            Retry::Backoff => self
                .settings
                .borrow()
                .terms
                .retry
                .max
                .clamp(Duration::from_millis(100), Duration::from_mins(1)),
            Retry::Rarely => Duration::from_secs(30),
        }
    }
}

//! A grant on its way to its caller.

use std::{cell::Cell, rc::Rc};

use super::idempotency::Ticket;
use crate::engine::{Engine, LeaseId};

/// A lease that was granted, until its answer was written. A caller that left before never holds (law 5): dropped
/// undelivered, it gives the lease up. Whoever answers with the lease has a share of it.
#[derive(Debug)]
pub(super) struct Delivery {
    engine: Engine,
    lease: LeaseId,
    /// Where the grant is remembered for a replay.
    ticket: Option<Ticket>,
    is_done: Cell<bool>,
}

impl Delivery {
    /// A grant that was not answered yet.
    pub(super) fn new(engine: &Engine, lease: LeaseId, ticket: Option<Ticket>) -> Rc<Self> {
        Rc::new(Self {
            engine: engine.clone(),
            lease,
            ticket,
            is_done: Cell::new(false),
        })
    }

    /// The answer was written.
    pub(super) fn done(&self) {
        self.is_done.set(true);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.is_done.get() {
            self.engine.give_up(&self.lease);
            if let Some(ticket) = &self.ticket {
                ticket.forget();
            }
        }
    }
}

//! Where a backend's events go, if anywhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pawl_lock::backend::{BackendEvent, Events};

/// Passes events on while somebody hears.
#[derive(Default)]
pub(crate) struct Ear(Mutex<Option<Arc<dyn Events>>>);

/// Lets an [`Ear`] hear until it is dropped.
pub(crate) struct Hearing(Arc<Ear>);

impl Ear {
    pub(crate) fn tell(&self, event: BackendEvent) {
        let events = self.events().clone();
        if let Some(events) = events {
            events.tell(event);
        }
    }

    fn events(&self) -> MutexGuard<'_, Option<Arc<dyn Events>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hearing {
    pub(crate) fn new(ear: Arc<Ear>, events: Arc<dyn Events>) -> Self {
        *ear.events() = Some(events);
        Self(ear)
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        *self.0.events() = None;
    }
}

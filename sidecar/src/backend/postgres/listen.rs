//! What the server tells without being asked, and who is told it here.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use pawl_lock::backend::{BackendEvent, Events};

use crate::backend::hint;

/// Passes events on to who listens ([`pawl_lock::Backend::run`]), if anyone does.
#[derive(Default)]
pub(super) struct Teller(Mutex<Listener>);

#[derive(Default)]
struct Listener {
    events: Option<Arc<dyn Events>>,
    /// The sessions whose end nobody was there to hear. A fact is not dropped.
    untold: Option<RangeInclusive<u64>>,
}

/// Someone listens as long as this is not dropped.
pub(super) struct Listening<'a>(&'a Teller);

impl Teller {
    /// Tells `events` from now on, and first which sessions ended before.
    pub(super) fn listen(&self, events: Arc<dyn Events>) -> Listening<'_> {
        let mut listener = self.lock();
        for session in listener.untold.take().into_iter().flatten() {
            events.tell(BackendEvent::SessionLost { session });
        }
        listener.events = Some(events);
        Listening(self)
    }

    /// Passes an event on.
    pub(super) fn tell(&self, event: BackendEvent) {
        let mut listener = self.lock();
        match (&listener.events, event) {
            (Some(events), event) => {
                let events = events.clone();
                drop(listener);
                events.tell(event);
            }
            (None, BackendEvent::SessionLost { session }) => {
                let first = listener
                    .untold
                    .as_ref()
                    .map_or(session, |lost| *lost.start());
                listener.untold = Some(first..=session);
            }
            (None, _) => {}
        }
    }

    /// Passes a notification on.
    pub(super) fn hear(&self, payload: &str) {
        if let Some(event) = hint::parse(payload.as_bytes()) {
            self.tell(event);
        } else {
            tracing::debug!("a notification was not understood");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Listener> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.0.lock().events = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Told(Mutex<Vec<BackendEvent>>);

    impl Events for Told {
        fn tell(&self, event: BackendEvent) {
            self.0.lock().unwrap().push(event);
        }
    }

    #[test]
    fn a_lost_session_is_told_to_who_comes_later() {
        let teller = Teller::default();
        for session in [3, 4] {
            teller.tell(BackendEvent::SessionLost { session });
        }
        teller.tell(BackendEvent::Resync);
        let told = Arc::new(Told::default());
        let listening = teller.listen(told.clone());
        teller.tell(BackendEvent::SessionLost { session: 5 });
        drop(listening);
        teller.tell(BackendEvent::Resync);
        let lost = |session| BackendEvent::SessionLost { session };
        assert_eq!(*told.0.lock().unwrap(), [lost(3), lost(4), lost(5)]);
    }
}

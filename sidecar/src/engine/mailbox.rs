//! What a backend tells without being asked, on its way to the engine.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::task::AtomicWaker;
use pawl_lock::backend::{BackendEvent, Events};

/// How many hints may lie here. Beyond it they become one resync, which makes every slot ask again.
const MAX_HINTS: usize = 1024;

/// A bounded box between a backend, which may run on another thread, and the engine.
#[derive(Debug)]
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    bell: Arc<Bell>,
}

/// What all mailboxes of an engine ring.
#[derive(Debug, Default)]
pub(super) struct Bell {
    has_mail: AtomicBool,
    /// Wakes the engine's task.
    pub(super) engine: AtomicWaker,
}

impl Bell {
    /// Whether it rang since it was asked last.
    pub(super) fn rang(&self) -> bool {
        // Before the boxes are read: what comes while they are read rings again.
        self.has_mail.swap(false, Ordering::AcqRel)
    }
}

#[derive(Debug, Default)]
struct Mail {
    hints: VecDeque<BackendEvent>,
    /// Kept apart: these are facts and are never dropped. Each is there once, so sessions bound them.
    sessions: Vec<u64>,
    resync: bool,
}

impl Mailbox {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self {
            mail: Mutex::default(),
            bell,
        }
    }

    /// Takes everything out, ends of sessions first.
    pub(super) fn take(&self) -> Vec<BackendEvent> {
        let mail = std::mem::take(&mut *self.mail.lock().unwrap_or_else(PoisonError::into_inner));
        let sessions = mail
            .sessions
            .into_iter()
            .map(|session| BackendEvent::SessionLost { session });
        let resync = mail.resync.then_some(BackendEvent::Resync);
        sessions.chain(resync).chain(mail.hints).collect()
    }
}

impl Events for Mailbox {
    fn tell(&self, event: BackendEvent) {
        {
            let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
            match event {
                BackendEvent::SessionLost { session } => {
                    if !mail.sessions.contains(&session) {
                        mail.sessions.push(session);
                    }
                }
                BackendEvent::Resync => mail.resync = true,
                BackendEvent::Wanted { .. } | BackendEvent::Turn { .. } => {
                    if mail.hints.len() < MAX_HINTS {
                        mail.hints.push_back(event);
                    } else {
                        mail.hints.clear();
                        mail.resync = true;
                    }
                }
            }
        }
        self.bell.has_mail.store(true, Ordering::Release);
        self.bell.engine.wake();
    }
}

#[cfg(test)]
mod tests {
    use pawl_lock::Key;

    use super::*;

    #[test]
    fn a_flood_of_hints_becomes_one_resync_and_no_lost_session_is_dropped() {
        let bell = Arc::<Bell>::default();
        let mailbox = Mailbox::new(Arc::clone(&bell));
        let key = Key::try_new("a").unwrap();
        mailbox.tell(BackendEvent::SessionLost { session: 7 });
        for _ in 0..=MAX_HINTS {
            mailbox.tell(BackendEvent::Turn { key: key.clone() });
        }
        mailbox.tell(BackendEvent::SessionLost { session: 7 });
        assert_eq!(
            mailbox.take(),
            vec![
                BackendEvent::SessionLost { session: 7 },
                BackendEvent::Resync
            ]
        );
        mailbox.tell(BackendEvent::Turn { key: key.clone() });
        assert_eq!(mailbox.take(), vec![BackendEvent::Turn { key }]);
        assert_eq!(mailbox.take(), vec![]);
        assert!(bell.rang());
        assert!(!bell.rang());
    }
}

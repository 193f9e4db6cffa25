//! What runs beside the calls: letting expired holds go, seeing that a holder died, tidying up.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use pawl_lock::{
    Key,
    backend::{BackendEvent, Events},
};
use tokio::time::{sleep, timeout};
use tokio_postgres::types::Type;

use super::{Postgres, config::PostgresMode};

/// How often it is looked whether the session of a holder that is waited for has ended: nobody tells that.
const WATCH: Duration = Duration::from_millis(500);

/// How often it is tidied up, and how many rows a table go in one step.
const PURGE: Duration = Duration::from_mins(1);
const PURGE_MOST: i32 = 500;

/// The pause before a call of this kind that failed is made again.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the server may take for a call of this kind.
const LIMIT: Duration = Duration::from_secs(10);

impl Postgres {
    /// Runs for ever. Safe to drop at any time.
    pub(super) async fn keep_up(&self, events: Arc<dyn Events>) {
        let _listening = self.common.teller.listen(events);
        match self.common.config.mode {
            PostgresMode::Advisory => {
                tokio::join!(self.reap(), self.watch(), self.purge());
            }
            PostgresMode::Row => self.purge().await,
        }
    }

    /// Lets the session's holds go when they expire.
    async fn reap(&self) {
        loop {
            let now = self.now();
            match self.reaper.due() {
                None => self.reaper.sooner().await,
                Some(due) if now < due => {
                    // Whoever wakes, looks again: a timer may stand still while the machine sleeps.
                    let _sooner = timeout(due.saturating_since(now), self.reaper.sooner()).await;
                }
                Some(_) => {
                    self.reaper.clear();
                    self.reap_once().await;
                }
            }
        }
    }

    async fn reap_once(&self) {
        let Some(live) = self.links[0].up() else {
            return;
        };
        let Some(session) = &live.session else {
            return;
        };
        let params = [(&session.id as _, Type::TEXT)];
        let reaped = timeout(LIMIT, live.call(&self.common.calls.reap, &params)).await;
        let next = match reaped {
            Ok(Ok(row)) => row.try_get::<_, Option<i64>>(0).ok().flatten(),
            _ => i64::try_from(PAUSE.as_millis()).ok(),
        };
        if let Some(ms) = next {
            let pause = Duration::from_millis(u64::try_from(ms).unwrap_or(0) + 1);
            self.reaper.plan(self.now().saturating_add(pause));
        }
    }

    /// Tells the waiters of this sidecar when the session ended that they wait for.
    async fn watch(&self) {
        loop {
            sleep(WATCH).await;
            if self.now().as_nanos() >= self.waits_until.load(Ordering::Relaxed) {
                continue;
            }
            let Some(live) = self.links[0].up() else {
                continue;
            };
            let params = [(&self.common.channel as _, Type::TEXT)];
            let orphans = timeout(LIMIT, live.rows(&self.common.calls.orphans, &params)).await;
            for row in orphans.into_iter().flatten().flatten() {
                let key: Option<&str> = row.try_get(0).ok();
                if let Some(key) = key.and_then(|key| Key::try_new(key).ok()) {
                    self.common.teller.tell(BackendEvent::Turn { key });
                }
            }
        }
    }

    /// Deletes what nobody needs any more.
    async fn purge(&self) {
        let mut pause = PURGE.mul_f64(rand::random::<f64>());
        loop {
            sleep(pause).await;
            pause = PURGE;
            let Some(live) = self.links[0].up() else {
                continue;
            };
            let params = [(&PURGE_MOST as _, Type::INT4)];
            if let Ok(Ok(row)) = timeout(LIMIT, live.call(&self.common.calls.purge, &params)).await
                && row
                    .try_get(0)
                    .is_ok_and(|deleted: i64| deleted >= i64::from(PURGE_MOST))
            {
                pause = PAUSE;
            }
        }
    }
}

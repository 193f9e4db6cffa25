//! The keeper of one backend: runs what the backend needs beside its calls, and looks at it now and then.

use std::{rc::Rc, sync::Arc, time::Duration};

use pawl_kit::clock::Clock;
use pawl_lock::{BackendError, backend::Events};
use rand::RngExt;

use super::{Engine, health::Health, service::Service};
use crate::metrics::Operation;

/// How often a backend that is well is looked at.
const INTERVAL: Duration = Duration::from_secs(30);
/// How long one look may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The bounds of the backoff while it is not well, and the shortest time between two looks.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Runs until the service is closed.
pub(super) async fn keep(engine: Engine, service: Rc<Service>) {
    let clock = engine.clock();
    tokio::select! {
        () = service.closed.notified() => {}
        () = run(clock, &service) => {}
        () = look_after(&engine, &service) => {}
    }
}

/// What the backend runs does not end; a backend where it does is at fault, and is started again.
async fn run(clock: &Clock, service: &Service) {
    loop {
        let backend = Arc::clone(&service.backend.backend);
        let events: Arc<dyn Events> = Arc::clone(&service.mailbox) as _;
        backend.run(events).await;
        tracing::error!(policy = %service.settings().name, "the backend's background work ended; starting it again");
        clock.sleep(BACKOFF.0).await;
    }
}

async fn look_after(engine: &Engine, service: &Service) {
    let clock = engine.clock();
    let mut failures = 0_u32;
    loop {
        let health = look(clock, service).await;
        let is_well = health.is_ready() == Some(true);
        if told(service, health) {
            engine.news();
        }
        failures = if is_well {
            0
        } else {
            failures.saturating_add(1)
        };
        // A failing call, or one that works again, asks for an early look. Never before a second is over: a backend
        // that comes and goes is not to be asked all the time.
        clock.sleep(BACKOFF.0).await;
        tokio::select! {
            () = clock.sleep(pause(failures)) => {}
            () = service.check_now.notified() => {}
        }
    }
}

async fn look(clock: &Clock, service: &Service) -> Health {
    let start = clock.now();
    let result = tokio::select! {
        biased;
        result = service.backend.backend.check() => result,
        () = clock.sleep(TIMEOUT) => Err(BackendError::timeout()),
    };
    let took = clock.now().saturating_since(start);
    let error = result.as_ref().err().map(BackendError::category);
    service.metrics.called(Operation::Check, took, error);
    Health::of(result)
}

/// Until the next look, less the second that is always waited: full jitter, so that the sidecars of a cluster do not
/// come back to a server together.
fn pause(failures: u32) -> Duration {
    if failures == 0 {
        return INTERVAL.saturating_sub(BACKOFF.0);
    }
    let doubled = BACKOFF
        .0
        .saturating_mul(2_u32.saturating_pow(failures.min(8)));
    rand::rng().random_range(Duration::ZERO..=doubled.min(BACKOFF.1).saturating_sub(BACKOFF.0))
}

/// Takes note of a backend's state, and logs it if it is another; `false` if it is not.
fn told(service: &Service, health: Health) -> bool {
    let before = service.health.replace(health);
    let health = service.health.borrow();
    let (reason, is_ready) = (health.reason(), health.is_ready());
    let same = before.is_ready() == is_ready
        && before.reason() == reason
        && reasons(&before).eq(reasons(&health));
    if same {
        return false;
    }
    let settings = service.settings();
    let (policy, backend) = (&settings.name, service.backend.profile.name);
    if is_ready == Some(true) {
        tracing::info!(%policy, backend, "the backend is ready");
    } else {
        tracing::warn!(%policy, backend, reason, "no locks are given: {health}");
    }
    for finding in health.findings().iter().filter(|finding| !finding.is_fatal) {
        tracing::warn!(%policy, backend, reason = finding.reason, "{}", finding.message);
    }
    true
}

fn reasons(health: &Health) -> impl Iterator<Item = &'static str> {
    health.findings().iter().map(|finding| finding.reason)
}

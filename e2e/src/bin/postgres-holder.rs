//! A sidecar reduced to one hold, for tests that kill, stop or cut off a whole process.
//!
//! `postgres-holder URL Advisory|Row SCOPE KEY TTL_MS` takes the key and renews it every third of the ttl, and says on
//! standard output what it believes, each line with an instant of the boot clock in nanoseconds: `granted TOKEN D`,
//! `renewed D` (both with the new deadline) and at last `lost REASON NOW`, before it ends.

#![allow(clippy::panic, reason = "part of a test")]

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pawl_e2e::server::postgres::{boot_clock, config};
use pawl_lock::{
    Backend, Deadline, HoldId, Key, Owner, Ttl,
    backend::{AcquireRequest, Acquired, BackendEvent, Events, Granted, RenewRequest, Renewed},
    lease::{Mode, Order},
};
use pawl_sidecar::backend::{
    Scope,
    postgres::{Postgres, PostgresMode},
};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

#[derive(Default)]
struct Lost {
    session: AtomicU64,
    came: Notify,
}

impl Events for Lost {
    fn tell(&self, event: BackendEvent) {
        if let BackendEvent::SessionLost { session } = event {
            self.session.store(session, Ordering::Release);
            self.came.notify_one();
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, mode, scope, key, ttl] = arguments.as_slice() else {
        panic!("usage: postgres-holder URL Advisory|Row SCOPE KEY TTL_MS");
    };
    let mode = match mode.as_str() {
        "Advisory" => PostgresMode::Advisory,
        "Row" => PostgresMode::Row,
        other => panic!("{other} is no mode"),
    };
    let ttl = Duration::from_millis(ttl.parse().expect("the ttl is a number"));
    let ttl = Ttl::try_new(ttl).expect("it is a ttl");
    let mut config = config(
        url,
        mode,
        &Scope::with_prefix(scope).expect("it is a prefix"),
    );
    config.ttl = ttl;
    let backend = Arc::new(Postgres::new(config));
    let lost = Arc::new(Lost::default());
    let mut run = JoinSet::new();
    run.spawn(backend.clone().run(lost.clone()));
    let request = AcquireRequest {
        key: Key::try_new(key).expect("it is a key"),
        hold: HoldId::from_bits(rand::random()),
        mode: Mode::Exclusive,
        ttl,
        order: Order::Fifo,
        place: None,
        lock_delay: Duration::ZERO,
        owner: Owner::try_new("holder").expect("it is an owner"),
    };
    let (granted, deadline) = take(&*backend, &request).await;
    let reason = hold(&*backend, &request, granted, deadline, &lost).await;
    say(&format!("lost {reason} {}", boot_clock().as_nanos()));
}

async fn take(backend: &dyn Backend, request: &AcquireRequest) -> (Granted, Deadline) {
    loop {
        let start = boot_clock();
        if let Ok(Acquired::Granted(granted)) = backend.acquire(request).await {
            let deadline = Deadline::after(start, request.ttl);
            say(&format!(
                "granted {} {}",
                granted.token,
                deadline.instant().as_nanos()
            ));
            return (granted, deadline);
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Renews until it is lost; answers why.
async fn hold(
    backend: &dyn Backend,
    request: &AcquireRequest,
    granted: Granted,
    mut deadline: Deadline,
    lost: &Lost,
) -> &'static str {
    let renew = RenewRequest {
        key: request.key.clone(),
        hold: request.hold,
        mode: request.mode,
        token: granted.token,
        ttl: request.ttl,
        owner: request.owner.clone(),
    };
    let third = request.ttl.as_duration() / 3;
    loop {
        drop(timeout(third.min(deadline.left(boot_clock())), lost.came.notified()).await);
        // Before anything else, as a slot does: what is over is over, whatever else came.
        let start = boot_clock();
        if deadline.is_over(start) {
            return "expired";
        }
        if granted.session != 0 && lost.session.load(Ordering::Acquire) >= granted.session {
            return "session_lost";
        }
        match timeout(third.min(deadline.left(start)), backend.renew(&renew)).await {
            Ok(Ok(Renewed::Extended { .. })) if !deadline.is_over(boot_clock()) => {
                deadline = Deadline::after(start, request.ttl);
                say(&format!("renewed {}", deadline.instant().as_nanos()));
            }
            Ok(Ok(Renewed::NotOwner)) => return "not_owner",
            _ => {}
        }
    }
}

fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    // A test that is over does not listen any more.
    drop(writeln!(output, "{line}").and_then(|()| output.flush()));
}

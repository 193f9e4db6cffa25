//! What the tests share.

use std::{sync::Arc, time::Duration};

use pawl_e2e::server::redis::{RedisOptions, RedisServer};
use pawl_lock::{
    Backend, BackendError, HoldId, Key, Namespace, Owner, PolicyName, Ttl,
    backend::{
        AbandonRequest, AcquireRequest, Acquired, Granted, ReleaseRequest, RenewRequest, Renewed,
    },
    lease::{Mode, Order},
};
use pawl_sidecar::backend::{
    Scope,
    redis::{Redis, RedisConfig},
};
use tokio::time::Instant;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn server(directives: &[&str]) -> RedisServer {
    RedisServer::start(RedisOptions {
        directives: directives.iter().map(|line| (*line).to_owned()).collect(),
        ..RedisOptions::default()
    })
}

pub(crate) fn backend(url: impl Into<String>) -> Arc<Redis> {
    configured(RedisConfig::new(url))
}

pub(crate) fn configured(config: RedisConfig) -> Arc<Redis> {
    let namespace = Namespace::try_new("faults").unwrap();
    let scope = Scope::of(&namespace, &PolicyName::try_new("redis").unwrap());
    Arc::new(Redis::new(config, scope, rand::random()).unwrap())
}

pub(crate) fn key() -> Key {
    Key::try_new("key/a").unwrap()
}

pub(crate) fn attempt() -> AcquireRequest {
    AcquireRequest {
        key: key(),
        hold: HoldId::from_bits(rand::random()),
        mode: Mode::Exclusive,
        ttl: Ttl::try_new(Duration::from_secs(60)).unwrap(),
        order: Order::Fifo,
        place: None,
        lock_delay: Duration::ZERO,
        owner: Owner::try_new("somebody").unwrap(),
    }
}

pub(crate) fn attempt_for(ttl: Duration) -> AcquireRequest {
    AcquireRequest {
        ttl: Ttl::try_new(ttl).unwrap(),
        ..attempt()
    }
}

pub(crate) fn renewal(of: &AcquireRequest, granted: Granted) -> RenewRequest {
    RenewRequest {
        key: of.key.clone(),
        hold: of.hold,
        mode: of.mode,
        token: granted.token,
        ttl: of.ttl,
        owner: of.owner.clone(),
    }
}

pub(crate) fn release(of: &AcquireRequest, granted: Granted) -> ReleaseRequest {
    ReleaseRequest {
        key: of.key.clone(),
        hold: of.hold,
        mode: of.mode,
        token: granted.token,
        next: None,
    }
}

pub(crate) fn abandonment(of: &AcquireRequest) -> AbandonRequest {
    AbandonRequest {
        key: of.key.clone(),
        hold: of.hold,
        mode: of.mode,
        ttl: of.ttl,
    }
}

pub(crate) async fn take(backend: &Redis, request: &AcquireRequest) -> Granted {
    match Backend::acquire(backend, request).await {
        Ok(Acquired::Granted(granted)) => granted,
        other => panic!("not granted: {other:?}"),
    }
}

pub(crate) async fn refused(backend: &Redis, request: &AcquireRequest) {
    match Backend::acquire(backend, request).await {
        Ok(Acquired::Busy(_)) => {}
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) async fn fails(backend: &Redis, request: &AcquireRequest) -> BackendError {
    match Backend::acquire(backend, request).await {
        Err(error) => error,
        Ok(acquired) => panic!("it does not fail: {acquired:?}"),
    }
}

pub(crate) async fn renew(backend: &Redis, of: &AcquireRequest, granted: Granted) -> Renewed {
    Backend::renew(backend, &renewal(of, granted))
        .await
        .unwrap()
}

/// Asks until it is granted, over errors.
pub(crate) async fn take_in_the_end(backend: &Redis, request: &AcquireRequest) -> Granted {
    let start = Instant::now();
    loop {
        let answer =
            tokio::time::timeout(Duration::from_secs(1), Backend::acquire(backend, request)).await;
        if let Ok(Ok(Acquired::Granted(granted))) = answer {
            return granted;
        }
        assert!(start.elapsed() < PATIENCE, "still: {answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

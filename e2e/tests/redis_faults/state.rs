//! The server stops, forgets, jumps.

use std::time::Duration;

use pawl_e2e::server::{
    clock::ShiftedClock,
    redis::{RedisOptions, RedisServer},
};
use pawl_lock::{
    Backend,
    backend::{Abandoned, Acquired, Renewed},
};
use pawl_sidecar::backend::redis::RedisConfig;
use tokio::time::{Instant, sleep, timeout};

use super::bench::{
    abandonment, attempt, attempt_for, backend, configured, fails, key, refused, release, renew,
    renewal, server, take, take_in_the_end,
};

/// R1: stopped beyond the ttl; the renewal that was on its way does not revive the hold.
#[tokio::test]
async fn a_hold_that_expired_in_a_pause_is_not_revived() {
    let server = server(&[]);
    let (a, b) = (backend(server.url()), backend(server.url()));
    let hold = attempt_for(Duration::from_millis(600));
    let granted = take(&a, &hold).await;
    server.pause();
    let renewal_request = renewal(&hold, granted);
    assert!(
        timeout(
            Duration::from_secs(1),
            Backend::renew(&*a, &renewal_request)
        )
        .await
        .is_err()
    );
    server.resume();
    assert_eq!(renew(&a, &hold, granted).await, Renewed::NotOwner);
    let next = take(&b, &attempt()).await;
    assert!(next.token > granted.token);
    let late = a.release(&release(&hold, granted)).await.unwrap();
    assert!(!late.was_owner);
    refused(&a, &attempt()).await;
}

/// R2: the caller gives up in the pause; a second after it another has the key, though the ttl is a minute.
#[tokio::test]
async fn a_call_given_up_in_a_pause_is_compensated_within_a_second() {
    let server = server(&[]);
    let (a, b) = (backend(server.url()), backend(server.url()));
    take(&b, &Other::attempt()).await;
    refused(&a, &Other::attempt()).await;
    server.pause();
    let given_up = attempt();
    assert!(
        timeout(Duration::from_secs(1), Backend::acquire(&*a, &given_up))
            .await
            .is_err()
    );
    let abandonment = abandonment(&given_up);
    let mut abandon = a.abandon(&abandonment);
    assert!(
        timeout(Duration::from_millis(200), &mut abandon)
            .await
            .is_err()
    );
    server.resume();
    let healed = Instant::now();
    assert_eq!(abandon.await.unwrap(), Abandoned::Settled);
    take(&b, &attempt()).await;
    assert!(
        healed.elapsed() < Duration::from_secs(1),
        "{:?}",
        healed.elapsed()
    );
}

/// A key beside the one under test.
struct Other;

impl Other {
    fn attempt() -> pawl_lock::backend::AcquireRequest {
        pawl_lock::backend::AcquireRequest {
            key: pawl_lock::Key::try_new("key/other").unwrap(),
            ..attempt()
        }
    }
}

/// The tombstone: an acquire that arrives after its abandonment (on another connection, say) takes nothing, and neither
/// a hold nor a place nor the tombstone stays for good.
#[tokio::test]
async fn an_acquire_that_arrives_after_its_abandonment_takes_nothing() {
    let server = server(&[]);
    let (a, b) = (backend(server.url()), backend(server.url()));
    let late = attempt();
    assert_eq!(
        b.abandon(&abandonment(&late)).await.unwrap(),
        Abandoned::Settled
    );
    refused(&a, &late).await;
    let seen = b.inspect(&key()).await.unwrap();
    assert!(seen.holders.is_empty() && seen.waiters == 0, "{seen:?}");
    take(&b, &attempt()).await;
    let left: i64 = server.run(&["PTTL", "pawl:{faults/redis|key/a}:x"]);
    assert!((100_000..=120_000).contains(&left), "{left}");
}

/// R3: killed without an append-only file: the hold is gone and is told so; tokens climb all the same.
/// R4: with one, nothing is lost.
#[tokio::test]
async fn a_restart_loses_what_was_not_written_and_nothing_else() {
    for appendonly in [false, true] {
        let server = RedisServer::start(RedisOptions {
            appendonly,
            ..RedisOptions::default()
        });
        let (a, b) = (backend(server.url()), backend(server.url()));
        let hold = attempt();
        let granted = take(&a, &hold).await;
        server.kill();
        fails(&b, &attempt()).await;
        server.start_again();
        let renewed = loop {
            if let Ok(renewed) = Backend::renew(&*a, &renewal(&hold, granted)).await {
                break renewed;
            }
            sleep(Duration::from_millis(10)).await;
        };
        if appendonly {
            assert_eq!(renewed, Renewed::Extended { wanted: None });
            assert_eq!(take(&a, &hold).await.token, granted.token);
        } else {
            assert_eq!(renewed, Renewed::NotOwner);
            assert!(take_in_the_end(&b, &attempt()).await.token > granted.token);
        }
    }
}

/// R10: the server forgets its scripts between any two calls.
#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let server = server(&[]);
    let a = backend(server.url());
    for _ in 0..3 {
        let forget = || server.run::<String>(&["SCRIPT", "FLUSH"]);
        forget();
        let hold = attempt();
        let granted = take(&a, &hold).await;
        forget();
        assert_eq!(
            renew(&a, &hold, granted).await,
            Renewed::Extended { wanted: None }
        );
        forget();
        assert_eq!(a.inspect(&key()).await.unwrap().holders.len(), 1);
        forget();
        assert!(a.release(&release(&hold, granted)).await.unwrap().was_owner);
        forget();
        assert_eq!(
            a.abandon(&abandonment(&hold)).await.unwrap(),
            Abandoned::Settled
        );
    }
}

/// R12: the server's clock jumps ahead: the hold ends and its holder is told at the next renewal; tokens climb. Set
/// back, a renewal restores the ttl, and tokens climb too.
#[tokio::test]
async fn a_clock_that_jumps_ends_holds_early_and_tokens_climb() {
    let clock = ShiftedClock::new();
    let server = RedisServer::start(RedisOptions {
        environment: clock.environment(),
        ..RedisOptions::default()
    });
    let time = || server.run::<(i64, i64)>(&["TIME"]).0;
    let a = backend(server.url());
    let hold = attempt_for(Duration::from_secs(30));
    let granted = take(&a, &hold).await;

    let before = time();
    clock.shift(60);
    assert!(time() >= before + 59, "the clock does not follow");
    assert_eq!(renew(&a, &hold, granted).await, Renewed::NotOwner);
    let second = attempt_for(Duration::from_secs(30));
    let granted_second = take(&a, &second).await;
    assert!(granted_second.token > granted.token);

    clock.shift(-3600);
    assert!(time() < before, "the clock does not follow");
    assert!(matches!(
        renew(&a, &second, granted_second).await,
        Renewed::Extended { .. }
    ));
    let left: i64 = server.run(&["PTTL", "pawl:{faults/redis|key/a}"]);
    assert!((25_000..=30_000).contains(&left), "{left}");
    assert!(
        a.release(&release(&second, granted_second))
            .await
            .unwrap()
            .was_owner
    );
    let third = take(&a, &attempt()).await;
    assert!(
        third.token > granted_second.token,
        "{} after {}",
        third.token,
        granted_second.token
    );
}

/// Whatever is left of a key goes away by itself: nothing is without an expiry.
#[tokio::test]
async fn everything_expires() {
    let server = server(&[]);
    let mut config = RedisConfig::new(server.url());
    config.remember = Duration::from_secs(2);
    let (a, b) = (configured(config.clone()), configured(config));
    let shared = |place| pawl_lock::backend::AcquireRequest {
        mode: pawl_lock::lease::Mode::Shared,
        place,
        ..attempt_for(Duration::from_millis(500))
    };
    take(&a, &shared(None)).await;
    let place = Some(pawl_lock::backend::Place {
        age: Duration::ZERO,
        keep: Duration::from_millis(500),
    });
    let waiting = pawl_lock::backend::AcquireRequest {
        place,
        ..attempt_for(Duration::from_millis(500))
    };
    refused(&b, &waiting).await;
    a.abandon(&abandonment(&attempt())).await.unwrap();
    a.fence(&key(), pawl_lock::FencingToken::MIN).await.unwrap();
    a.check().await.unwrap();
    for name in server.run::<Vec<String>>(&["KEYS", "*"]) {
        let left: i64 = server.run(&["PTTL", &name]);
        assert!(left > 0, "{name} has no expiry");
    }
    let start = Instant::now();
    while server.run::<i64>(&[
        "EXISTS",
        "pawl:{faults/redis|key/a}:m",
        "pawl:{faults/redis|key/a}:q",
        "pawl:{faults/redis|key/a}:s",
    ]) > 0
    {
        assert!(start.elapsed() < Duration::from_secs(8), "it stays");
        sleep(Duration::from_millis(50)).await;
    }
    // And what is left after that gives the key again.
    assert!(matches!(
        Backend::acquire(&*b, &attempt()).await,
        Ok(Acquired::Granted(_))
    ));
}

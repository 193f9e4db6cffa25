//! A server that is full, and one that throws away.

use std::time::Duration;

use pawl_lock::{
    Backend, FencingToken,
    backend::{AcquireRequest, Acquired, Category, Outcome, Place, Renewed},
};
use pawl_sidecar::backend::redis::RedisConfig;

use super::bench::{
    abandonment, attempt, backend, configured, fails, key, release, renew, server, take,
};

/// R8: found at once when the connection is made, and by a check when it was changed since; refused unless allowed.
#[tokio::test]
async fn a_server_that_evicts_is_refused_unless_that_is_allowed() {
    let server = server(&["maxmemory-policy allkeys-lru"]);
    let a = backend(server.url());
    let error = fails(&a, &attempt()).await;
    assert_eq!(
        (error.category(), error.outcome()),
        (Category::Unsafe, Outcome::NotApplied)
    );
    assert!(error.to_string().contains("noeviction"), "{error}");
    let findings = a.check().await.unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding.reason == "EvictionUnsafe" && finding.is_fatal)
    );

    let mut config = RedisConfig::new(server.url());
    config.allow_eviction = true;
    let lenient = configured(config);
    let hold = attempt();
    let granted = take(&lenient, &hold).await;
    let findings = lenient.check().await.unwrap();
    assert!(
        findings
            .iter()
            .any(|finding| finding.reason == "EvictionUnsafe" && !finding.is_fatal)
    );
    lenient.release(&release(&hold, granted)).await.unwrap();

    let _: String = server.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    assert_eq!(a.check().await.unwrap(), []);
    let granted = take(&a, &hold).await;

    // Made unsafe while held: what is held is kept and let go; the next attempt waits.
    let _: String = server.run(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]);
    assert!(a.check().await.unwrap()[0].is_fatal);
    assert!(matches!(
        renew(&a, &hold, granted).await,
        Renewed::Extended { .. }
    ));
    let mut release = release(&hold, granted);
    release.next = Some(attempt());
    let released = a.release(&release).await.unwrap();
    assert!(
        released.was_owner && matches!(released.next, Some(Acquired::Busy(_))),
        "{released:?}"
    );
    assert_eq!(fails(&a, &attempt()).await.category(), Category::Unsafe);
}

/// R9: nothing new is given; what is held can be renewed, handed on, let go and abandoned.
#[tokio::test]
async fn a_full_server_gives_nothing_and_keeps_what_it_gave() {
    let server = server(&["maxmemory 8mb", "maxmemory-policy noeviction"]);
    let a = backend(server.url());
    let hold = attempt();
    let granted = take(&a, &hold).await;
    let waiting = AcquireRequest {
        place: Some(Place {
            age: Duration::ZERO,
            keep: Duration::from_secs(30),
        }),
        ..attempt()
    };
    Backend::acquire(&*a, &waiting).await.unwrap();
    let _: String = server.run(&["CONFIG", "SET", "maxmemory", "1"]);

    let other = AcquireRequest {
        key: pawl_lock::Key::try_new("key/b").unwrap(),
        ..attempt()
    };
    let error = fails(&a, &other).await;
    assert_eq!(
        (error.category(), error.outcome()),
        (Category::Full, Outcome::NotApplied)
    );
    let error = a.fence(&key(), FencingToken::MIN).await.unwrap_err();
    assert_eq!(error.category(), Category::Full);
    assert!(matches!(
        renew(&a, &hold, granted).await,
        Renewed::Extended { wanted: Some(_) }
    ));
    assert_eq!(a.inspect(&key()).await.unwrap().waiters, 1);
    let mut hand_on = release(&hold, granted);
    hand_on.next = Some(waiting.clone());
    let released = a.release(&hand_on).await.unwrap();
    let Some(Acquired::Granted(granted)) = released.next else {
        panic!("{released:?}");
    };
    assert!(
        a.release(&release(&waiting, granted))
            .await
            .unwrap()
            .was_owner
    );
    a.abandon(&abandonment(&waiting)).await.unwrap();
    let _: String = server.run(&["CONFIG", "SET", "maxmemory", "0"]);
    take(&a, &other).await;
}

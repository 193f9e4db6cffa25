//! The faults of `TESTS.md` (L rows) as the backend `redlock` shows them, on real servers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use pawl_e2e::server::{
    free_port,
    redis::RedisServer,
    redlock::{RedisNodes, uptime},
};
use pawl_kit::clock::Clock;
use pawl_lock::{
    Backend, BackendError, Deadline, FencingToken, HoldId, Key, Namespace, Owner, PolicyName, Ttl,
    backend::{
        AbandonRequest, Abandoned, AcquireRequest, Acquired, BackendEvent, Events, FenceVerdict,
        Granted, Outcome, Place, ReleaseRequest, RenewRequest, Renewed,
    },
    lease::{Mode, Order},
};
use pawl_sidecar::backend::{
    Scope,
    redlock::{Redlock, RedlockConfig},
};
use rand::RngExt as _;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// One node's time to answer in these tests, and how much later an answer may come on a busy machine.
const NODE_TIMEOUT: Duration = Duration::from_millis(500);
const SLACK: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(20);

async fn backend(urls: Vec<String>, max_ttl: Duration) -> Arc<Redlock> {
    let namespace = Namespace::try_new("faults").unwrap();
    let scope = Scope::of(&namespace, &PolicyName::try_new("redlock").unwrap());
    let config = RedlockConfig {
        max_ttl: Ttl::try_new(max_ttl).unwrap(),
        node_timeout: Some(NODE_TIMEOUT),
        ..RedlockConfig::new(urls)
    };
    let backend = Redlock::new(config, scope, rand::random(), Clock::system()).unwrap();
    // Connections stand before the first call.
    drop(backend.check().await);
    Arc::new(backend)
}

fn attempt(ttl: Duration) -> AcquireRequest {
    AcquireRequest {
        key: Key::try_new("key/a").unwrap(),
        hold: HoldId::from_bits(rand::random()),
        mode: Mode::Exclusive,
        ttl: Ttl::try_new(ttl).unwrap(),
        order: Order::Any,
        place: None,
        lock_delay: Duration::ZERO,
        owner: Owner::try_new("somebody").unwrap(),
    }
}

async fn ask(backend: &Redlock, request: &AcquireRequest) -> Result<Acquired, BackendError> {
    Backend::acquire(backend, request).await
}

async fn take(backend: &Redlock, request: &AcquireRequest) -> Granted {
    match ask(backend, request).await {
        Ok(Acquired::Granted(granted)) => granted,
        other => panic!("it is not granted: {other:?}"),
    }
}

async fn let_go(backend: &Redlock, of: &AcquireRequest, granted: Granted) -> bool {
    let release = ReleaseRequest {
        key: of.key.clone(),
        hold: of.hold,
        mode: of.mode,
        token: granted.token,
        next: None,
    };
    let released = Backend::release(backend, &release).await;
    released.unwrap().was_owner
}

async fn renew(backend: &Redlock, of: &AcquireRequest, granted: Granted) -> Renewed {
    let renew = RenewRequest {
        key: of.key.clone(),
        hold: of.hold,
        mode: of.mode,
        token: granted.token,
        ttl: of.ttl,
        owner: of.owner.clone(),
    };
    backend.renew(&renew).await.unwrap()
}

/// The name of the lock at a node.
fn name() -> String {
    "pawl:redlock:{faults/redlock|key/a}".to_owned()
}

fn is_there(node: &RedisServer) -> bool {
    node.run::<bool>(&["EXISTS", &name()])
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not so: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn nobody() -> String {
    format!("redis://127.0.0.1:{}", free_port())
}

/// L1: with two of five down or hung, everything works, at the speed of the others.
#[tokio::test]
async fn two_of_five_down_do_no_harm() {
    let nodes = RedisNodes::start(5);
    let a = backend(nodes.urls(), Duration::from_millis(100)).await;
    let b = backend(nodes.urls(), Duration::from_millis(100)).await;
    nodes[1].kill();
    nodes[4].pause();
    let mut last = None;
    let start = Instant::now();
    for _ in 0..10 {
        let hold = attempt(Duration::from_secs(60));
        let granted = take(&a, &hold).await;
        assert!(Some(granted.token) > last);
        last = Some(granted.token);
        assert!(matches!(
            renew(&a, &hold, granted).await,
            Renewed::Extended { .. }
        ));
        let other = attempt(Duration::from_secs(60));
        assert!(matches!(
            ask(&b, &other).await,
            Ok(Acquired::Busy(_)) | Err(_)
        ));
        assert!(let_go(&a, &hold, granted).await);
    }
    // Of the forty calls only the refusals may have waited for the hung node.
    assert!(
        start.elapsed() < 10 * (NODE_TIMEOUT + SLACK),
        "{:?}",
        start.elapsed()
    );
    let token = FencingToken::try_new(9).unwrap();
    let key = Key::try_new("key/a").unwrap();
    assert_eq!(a.fence(&key, token).await.unwrap(), FenceVerdict::Newest);
    let findings = b.check().await.unwrap();
    assert!(
        findings
            .iter()
            .any(|found| found.reason == "NodesDown" && !found.is_fatal),
        "{findings:?}"
    );
    nodes[4].resume();
}

/// L1: what is not worth anything any more is not granted, though all nodes grant it.
#[tokio::test]
async fn a_grant_that_comes_too_late_is_taken_back() {
    let nodes = RedisNodes::start(3);
    let (clock, hand) = Clock::manual();
    let namespace = Namespace::try_new("faults").unwrap();
    let scope = Scope::of(&namespace, &PolicyName::try_new("redlock").unwrap());
    let config = RedlockConfig {
        max_ttl: Ttl::MIN,
        node_timeout: Some(PATIENCE),
        ..RedlockConfig::new(nodes.urls())
    };
    let a = Redlock::new(config, scope, 1, clock).unwrap();
    drop(a.check().await);
    let hold = attempt(Duration::from_secs(60));
    let mut call = Box::pin(ask(&a, &hold));
    assert!(futures::poll!(&mut call).is_pending());
    hand.advance(Deadline::validity(hold.ttl));
    let error = call.await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    until("nothing is left", || !nodes.iter().any(is_there)).await;
}

/// L2: with three of five down or hung there is an error within one node's time, and nothing stays at those that work.
#[tokio::test]
async fn three_of_five_down_are_an_error_at_once() {
    let nodes = RedisNodes::start(5);
    let a = backend(nodes.urls(), Duration::from_millis(100)).await;
    nodes[0].kill();
    nodes[1].pause();
    nodes[2].pause();
    let hold = attempt(Duration::from_secs(60));
    let start = Instant::now();
    let error = ask(&a, &hold).await.unwrap_err();
    let took = start.elapsed();
    assert!(took < NODE_TIMEOUT + SLACK, "{took:?}");
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert!(!is_there(&nodes[3]) && !is_there(&nodes[4]));
    // What hung does it when it can, and takes it back.
    nodes[1].resume();
    nodes[2].resume();
    sleep(Duration::from_millis(100)).await;
    until("partial keys are deleted", || {
        !nodes[1..].iter().any(is_there)
    })
    .await;
    let start = Instant::now();
    while !matches!(
        ask(&a, &attempt(Duration::from_secs(60))).await,
        Ok(Acquired::Granted(_))
    ) {
        assert!(start.elapsed() < SLACK * 5, "it is not free after the heal");
    }
}

/// L2: what was given up while servers hung never holds, once that is settled.
#[tokio::test]
async fn an_attempt_at_hung_servers_is_settled_by_a_majority() {
    let nodes = RedisNodes::start(5);
    let a = backend(nodes.urls(), Duration::from_millis(100)).await;
    let abandon = |of: &AcquireRequest| AbandonRequest {
        key: of.key.clone(),
        hold: of.hold,
        mode: of.mode,
        ttl: of.ttl,
    };
    for node in &nodes[..3] {
        node.pause();
    }
    let hold = attempt(Duration::from_secs(60));
    ask(&a, &hold).await.unwrap_err();
    let unsettled = a.abandon(&abandon(&hold)).await.unwrap();
    assert_eq!(unsettled, Abandoned::Unsettled, "two are no majority");
    nodes[0].resume();
    let start = Instant::now();
    while a.abandon(&abandon(&hold)).await.unwrap() != Abandoned::Settled {
        assert!(start.elapsed() < PATIENCE);
    }
    nodes[1].resume();
    nodes[2].resume();
    let b = backend(nodes.urls(), Duration::from_millis(100)).await;
    take(&b, &attempt(Duration::from_secs(60))).await;
}

/// L3: A holds at {1,2,3}; 3 restarts empty. B, which reaches {3,4,5} only, gets nothing before 3 has been up for maxTtl,
/// which is after A's hold is over.
#[tokio::test]
async fn a_node_that_restarted_empty_does_not_count_at_first() {
    let max_ttl = Duration::from_secs(4);
    let nodes = RedisNodes::start(5);
    until("all have been up for long enough", || {
        nodes.iter().all(|node| uptime(node) > 6)
    })
    .await;
    let urls = nodes.urls();
    let of_a = [&urls[0], &urls[1], &urls[2], &nobody(), &nobody()].map(Clone::clone);
    let of_b = [&nobody(), &nobody(), &urls[2], &urls[3], &urls[4]].map(Clone::clone);
    let a = backend(of_a.to_vec(), max_ttl).await;
    let b = backend(of_b.to_vec(), max_ttl).await;
    let hold = attempt(max_ttl);
    let asked = Instant::now();
    let first = take(&a, &hold).await;
    let over = asked + Deadline::validity(hold.ttl);
    nodes[2].kill();
    nodes[2].start_again();
    assert!(!is_there(&nodes[2]), "it is empty");
    let mut refused = 0;
    let second = loop {
        match ask(&b, &attempt(max_ttl)).await {
            Ok(Acquired::Granted(granted)) => break granted,
            other => {
                refused += 1;
                if let Err(error) = other {
                    assert!(!error.to_string().is_empty());
                }
            }
        }
        assert!(asked.elapsed() < PATIENCE, "it never counts again");
        sleep(Duration::from_millis(20)).await;
    };
    assert!(Instant::now() >= over, "two believe");
    assert!(refused > 10, "only {refused} tries");
    assert!(second.token > first.token);
    assert!(uptime(&nodes[2]) >= max_ttl.as_secs());
}

/// Two nodes have numbers of their own: a second phase brings one token to a majority, and the next is above it.
#[tokio::test]
async fn tokens_that_differ_are_raised_to_one() {
    let nodes = RedisNodes::start(3);
    let ahead = 4_000_000_000_000_u64;
    let meta = format!("{}:m", name());
    let _: i64 = nodes[0].run(&["HSET", &meta, "t", &ahead.to_string()]);
    let _: i64 = nodes[1].run(&["HSET", &meta, "t", &(ahead + 7).to_string()]);
    let urls = nodes.urls();
    let a = backend(urls.clone(), Duration::from_millis(100)).await;
    let mut last = 0;
    for round in 0..6 {
        // Each time another node is away, so that majorities meet in one node.
        nodes[round % 3].pause();
        let hold = attempt(Duration::from_secs(60));
        let granted = take(&a, &hold).await;
        assert!(granted.token.get() > last, "{} after {last}", granted.token);
        last = granted.token.get();
        let_go(&a, &hold, granted).await;
        nodes[round % 3].resume();
    }
    assert!(last > ahead);
}

/// What woke a contender, or nothing.
struct Woken(Notify);

impl Events for Woken {
    fn tell(&self, event: BackendEvent) {
        if matches!(event, BackendEvent::Turn { .. } | BackendEvent::Resync) {
            self.0.notify_one();
        }
    }
}

/// L6: ten contenders, each in a sidecar of its own, split votes; with full jitter someone always wins soon, and all are
/// served in a time that nobody's ttl explains.
#[tokio::test]
async fn contenders_that_split_the_vote_are_all_served() {
    let nodes = RedisNodes::start(5);
    let mut running = JoinSet::new();
    let mut contenders = Vec::new();
    for _ in 0..10 {
        let backend = backend(nodes.urls(), Duration::from_millis(100)).await;
        let woken = Arc::new(Woken(Notify::new()));
        running.spawn(Arc::clone(&backend).run(Arc::clone(&woken) as Arc<dyn Events>));
        contenders.push((backend, woken));
    }
    let start = Instant::now();
    let served = contenders.iter().map(|(backend, woken)| async move {
        let hold = AcquireRequest {
            place: Some(Place {
                age: Duration::ZERO,
                keep: Duration::from_secs(5),
            }),
            ..attempt(Duration::from_secs(60))
        };
        let mut failures = 0;
        loop {
            if let Ok(Acquired::Granted(granted)) = ask(backend, &hold).await {
                let won = start.elapsed();
                let_go(backend, &hold, granted).await;
                return (won, failures);
            }
            failures += 1;
            let bound = Duration::from_millis(50 << failures.min(5));
            let pause = bound.mul_f64(rand::rng().random());
            drop(timeout(pause, woken.0.notified()).await);
            assert!(start.elapsed() < PATIENCE, "never served");
        }
    });
    let mut served = join_all(served).await;
    served.sort();
    let failures: u32 = served.iter().map(|(_, failures)| failures).sum();
    eprintln!("{served:?}");
    assert!(failures > 0, "nobody was in another's way");
    assert!(served[0].0 <= Duration::from_secs(3), "{served:?}");
    for pair in served.windows(2) {
        let waited = pair[1].0.saturating_sub(pair[0].0);
        assert!(
            waited <= Duration::from_secs(3),
            "nobody won for {waited:?}"
        );
    }
}

/// What a cold cycle costs: a script a node for each call, and nothing more.
#[tokio::test]
async fn a_cold_cycle_is_two_commands_a_node() {
    let nodes = RedisNodes::start(5);
    let a = backend(nodes.urls(), Duration::from_millis(100)).await;
    let warm = attempt(Duration::from_secs(60));
    let granted = take(&a, &warm).await;
    let_go(&a, &warm, granted).await;
    // The first call of each script fails, and one with its text follows: at a slow node after the cycle's end. The
    // check's script is the third.
    until("every node has the three scripts", || {
        nodes.iter().all(|node| node.calls("eval") >= 3)
    })
    .await;
    for node in nodes.iter() {
        let _: String = node.run(&["CONFIG", "RESETSTAT"]);
    }
    for n in 0..50 {
        let hold = AcquireRequest {
            key: Key::try_new(&format!("fresh/{n}")).unwrap(),
            ..attempt(Duration::from_secs(60))
        };
        let granted = take(&a, &hold).await;
        assert!(let_go(&a, &hold, granted).await);
    }
    for node in nodes.iter() {
        until("all calls have arrived", || node.calls("evalsha") >= 100).await;
        assert_eq!((node.calls("evalsha"), node.calls("eval")), (100, 0));
        assert_eq!(node.calls("publish"), 0);
    }
}

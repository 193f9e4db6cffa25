//! Sidecars and servers are killed, stopped and cut off while workers count under a lock; what they saw is checked.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]
#![allow(missing_docs, reason = "a test program")]

use std::{path::Path, time::Duration};

use pawl_e2e::{
    history::{Entry, Tally, check_locks, check_resource, tally},
    nemesis::{Pace, Run},
    server::{
        postgres::{PostgresOptions, PostgresServer},
        redis::{RedisOptions, RedisServer},
    },
    sidecar::Sidecar,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

const SIDECARS: usize = 3;
const WORKERS: u32 = 6;

/// A lease is over after two seconds, whatever happens to the worker, and a worker thinks for a fraction of it.
const PACE: Pace = Pace {
    body: r#"{"wait":"4s","ttl":"2s","renew":"manual"}"#,
    think: Duration::from_millis(15),
    late: Duration::from_millis(15),
};

struct Scene {
    sidecars: Vec<Sidecar>,
    addresses: Vec<watch::Sender<std::net::SocketAddr>>,
    spec: Value,
    run: Run,
}

impl Scene {
    async fn start(spec: Value, is_fenced: bool) -> Self {
        let mut sidecars = Vec::new();
        for number in 0..SIDECARS {
            sidecars.push(Sidecar::start_as(&format!("pod-{number}"), &spec).await);
        }
        let addresses = sidecars
            .iter()
            .map(|sidecar| watch::Sender::new(sidecar.api))
            .collect();
        Self {
            sidecars,
            addresses,
            spec,
            run: Run::new(is_fenced),
        }
    }

    /// Lets the workers work while `faults` happen, and then until the work goes on again.
    async fn play<F: AsyncFnOnce(&mut Self)>(
        mut self,
        name: &str,
        pace: Pace,
        faults: F,
    ) -> (Vec<Entry>, Tally) {
        let mut workers = JoinSet::new();
        let stop = watch::Sender::new(false);
        for worker in 0..WORKERS {
            let address = self.addresses[worker as usize % SIDECARS].subscribe();
            self.run
                .work(&mut workers, worker, address, stop.subscribe(), pace);
        }
        self.until_applied(20).await;
        faults(&mut self).await;
        let before = self.run.applied();
        self.until_applied(before + 20).await;
        stop.send_replace(true);
        timeout(Duration::from_secs(30), async {
            while workers.join_next().await.is_some() {}
        })
        .await
        .expect("the workers end");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nemesis");
        let history = self.run.finish(&folder, name);
        let tally = tally(&history);
        eprintln!("{name}: {tally:?}");
        (history, tally)
    }

    async fn until_applied(&self, count: u32) {
        timeout(Duration::from_secs(60), async {
            while self.run.applied() < count {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("the work goes on");
    }

    async fn replace(&mut self, number: usize) {
        let old = self.sidecars.remove(number);
        let new = old.replaced(&self.spec).await;
        self.addresses[number].send_replace(new.api);
        self.sidecars.insert(number, new);
    }
}

fn holds(history: &[Entry], tally: Tally) {
    assert_eq!(check_locks(history), Ok(()));
    assert_eq!(check_resource(history, 0), Ok(()));
    assert!(tally.granted >= 40, "enough went through: {tally:?}");
    assert!(tally.failed > 0, "the fault bit: {tally:?}");
}

fn on_redis(redis: &RedisServer) -> Value {
    json!({ "backend": { "redis": { "url": redis.url() } }, "lease": { "ttl": "2s" } })
}

fn as_superuser(postgres: &PostgresServer) -> String {
    postgres
        .url()
        .replace("postgres://", "postgres://postgres@")
}

async fn kill_and_stop_sidecars(scene: &mut Scene) {
    for number in 0..SIDECARS {
        scene.replace(number).await;
        sleep(Duration::from_millis(300)).await;
    }
    // Beyond the ttl.
    scene.sidecars[1].signal(Signal::STOP);
    sleep(Duration::from_secs(4)).await;
    scene.sidecars[1].signal(Signal::CONT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_with_sidecars_killed_and_stopped() {
    let redis = RedisServer::start(RedisOptions::default());
    let scene = Scene::start(on_redis(&redis), true).await;
    let (history, tally) = scene
        .play("redis-sidecars", PACE, kill_and_stop_sidecars)
        .await;
    holds(&history, tally);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stopped_beyond_the_ttl() {
    let redis = RedisServer::start(RedisOptions::default());
    let scene = Scene::start(on_redis(&redis), true).await;
    let (history, tally) = scene
        .play("redis-stopped", PACE, async |_| {
            redis.pause();
            sleep(Duration::from_secs(4)).await;
            redis.resume();
        })
        .await;
    holds(&history, tally);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_advisory_with_sidecars_killed_and_stopped() {
    let postgres = PostgresServer::start(PostgresOptions::default());
    let backend = json!({ "postgres": { "url": as_superuser(&postgres), "mode": "Advisory" } });
    let spec = json!({ "purpose": "Correctness", "backend": backend, "lease": { "ttl": "2s" } });
    let scene = Scene::start(spec, true).await;
    let (history, tally) = scene
        .play("advisory-sidecars", PACE, kill_and_stop_sidecars)
        .await;
    holds(&history, tally);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_row_with_sidecars_killed_and_stopped() {
    let postgres = PostgresServer::start(PostgresOptions::default());
    let backend = json!({ "postgres": { "url": as_superuser(&postgres), "mode": "Row" } });
    let spec = json!({ "purpose": "Correctness", "backend": backend, "lease": { "ttl": "2s" } });
    let scene = Scene::start(spec, true).await;
    let (history, tally) = scene
        .play("row-sidecars", PACE, kill_and_stop_sidecars)
        .await;
    holds(&history, tally);
}

/// Every other worker thinks for longer than its lease lives: with the comparison switched off, the same check must fail.
const LATE: Pace = Pace {
    body: r#"{"wait":"4s","ttl":"200ms","renew":"manual"}"#,
    think: Duration::from_millis(15),
    late: Duration::from_millis(300),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_fencing_late_holders_lose_updates_and_the_check_sees_it() {
    let redis = RedisServer::start(RedisOptions::default());
    let scene = Scene::start(on_redis(&redis), false).await;
    let (history, _) = scene.play("unfenced", LATE, async |_| {}).await;
    assert_eq!(
        check_locks(&history),
        Ok(()),
        "the lock itself did what it can"
    );
    assert!(
        check_resource(&history, 0).is_err(),
        "an update was lost, and the check must see it"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_fencing_late_holders_are_refused() {
    let redis = RedisServer::start(RedisOptions::default());
    let scene = Scene::start(on_redis(&redis), true).await;
    let (history, tally) = scene.play("fenced", LATE, async |_| {}).await;
    assert_eq!(check_locks(&history), Ok(()));
    assert_eq!(check_resource(&history, 0), Ok(()));
    assert!(
        tally.refused > 0,
        "a stale write was tried and refused: {tally:?}"
    );
}

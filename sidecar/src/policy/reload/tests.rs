use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use pawl_kit::{
    admin::{Readiness, StatusSource},
    clock::Clock,
};
use pawl_lock::{Key, Owner};
use prometheus::{Registry, TextEncoder};
use serde_json::Value;
use tokio::task::LocalSet;

use super::*;
use crate::{
    engine::{Ask, Config, Limits, PolicySelector},
    policy::Backends,
};

struct Sidecar {
    dir: tempfile::TempDir,
    engine: Engine,
    metrics: Metrics,
    registry: Registry,
}

impl Sidecar {
    fn new() -> Self {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let clock = Clock::system();
        let engine = Engine::new(Config {
            opener: Box::new(Backends::new(&clock, Owner::try_new("pod").unwrap(), None)),
            clock,
            identity: Owner::try_new("pod").unwrap(),
            limits: Limits::default(),
            metrics: metrics.clone(),
            readiness: Readiness::new(),
        });
        Self {
            dir: tempfile::tempdir().unwrap(),
            engine,
            metrics,
            registry,
        }
    }

    fn reloader(&self) -> Reloader {
        let directory = Directory::new(self.dir.path());
        Reloader::start(directory, self.engine.clone(), self.metrics.clone())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Each policy's name with the generation that is served.
    fn served(&self) -> Vec<(String, i64)> {
        let status = self.engine.status().status();
        let row = |row: &Value| {
            let generation = row["observedGeneration"].as_i64().unwrap_or(0);
            (row["name"].as_str().unwrap().to_owned(), generation)
        };
        status["policies"]
            .as_array()
            .unwrap()
            .iter()
            .map(row)
            .collect()
    }

    fn faults(&self) -> Vec<(String, String)> {
        let status = self.engine.status().status();
        let row = |row: &Value| {
            let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
            (text("file"), text("reason"))
        };
        status["faults"]
            .as_array()
            .unwrap()
            .iter()
            .map(row)
            .collect()
    }

    fn reloads(&self, result: &str) -> u64 {
        let text = TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap();
        let name = format!("pawl_policy_reloads_total{{result=\"{result}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |count| count.parse().unwrap())
    }
}

fn policy(name: &str, generation: i64, spec: &str) -> String {
    format!(
        "apiVersion: pawl.dev/v1alpha1\nkind: LockPolicy\nmetadata: {{name: {name}, generation: {generation}}}\nspec: {spec}\n"
    )
}

fn memory(name: &str, generation: i64) -> String {
    policy(name, generation, "{backend: {memory: {}}}")
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect()
}

#[test]
fn a_bad_file_keeps_the_last_good_policy_and_is_told() {
    let sidecar = Sidecar::new();
    sidecar.write("p.yaml", &memory("p", 1));
    sidecar.write("bad.yaml", "spec: [");
    let mut reloader = sidecar.reloader();
    assert_eq!(sidecar.served(), [("p".to_owned(), 1)]);
    assert_eq!(sidecar.faults(), pairs(&[("bad.yaml", "Invalid")]));
    assert_eq!((sidecar.reloads("ok"), sidecar.reloads("error")), (1, 1));

    sidecar.write(
        "p.yaml",
        &policy("p", 2, "{backend: {memory: {}}, lease: {ttl: 0s}}"),
    );
    reloader.reload();
    assert_eq!(sidecar.served(), [("p".to_owned(), 1)]);
    assert_eq!(
        sidecar.faults(),
        pairs(&[("bad.yaml", "Invalid"), ("p.yaml", "Invalid")])
    );
    let status = sidecar.engine.status().status();
    let accepted = &status["policies"][0]["conditions"][0];
    assert_eq!(
        (&accepted["type"], &accepted["status"]),
        (&"Accepted".into(), &"False".into())
    );
    assert!(
        accepted["message"]
            .as_str()
            .unwrap()
            .contains("spec.lease.ttl"),
        "{accepted}"
    );
    assert_eq!((sidecar.reloads("ok"), sidecar.reloads("error")), (1, 2));

    reloader.reload();
    assert_eq!(
        sidecar.reloads("error"),
        2,
        "what did not change is not told again"
    );

    sidecar.write("p.yaml", &memory("p", 3));
    fs::remove_file(sidecar.path("bad.yaml")).unwrap();
    reloader.reload();
    assert_eq!(sidecar.served(), [("p".to_owned(), 3)]);
    assert_eq!(sidecar.faults(), pairs(&[]));
}

#[test]
fn of_two_files_with_one_name_the_first_counts() {
    let sidecar = Sidecar::new();
    sidecar.write("b.yaml", &memory("p", 2));
    sidecar.write("a.yaml", &memory("p", 1));
    let mut reloader = sidecar.reloader();
    assert_eq!(sidecar.served(), [("p".to_owned(), 1)]);
    assert_eq!(sidecar.faults(), pairs(&[("b.yaml", "Conflict")]));
    fs::remove_file(sidecar.path("a.yaml")).unwrap();
    reloader.reload();
    assert_eq!(sidecar.served(), [("p".to_owned(), 2)]);
    assert_eq!(sidecar.faults(), pairs(&[]));
}

#[test]
fn a_backend_that_is_not_built_is_told_by_name() {
    let sidecar = Sidecar::new();
    let etcd = "{backend: {etcd: {endpoints: [\"http://etcd:2379\"]}}}";
    sidecar.write("p.yaml", &memory("p", 1));
    sidecar.write("q.yaml", &policy("q", 1, etcd));
    let mut reloader = sidecar.reloader();
    assert_eq!(sidecar.faults(), pairs(&[("q.yaml", "BackendNotBuilt")]));
    sidecar.write("p.yaml", &policy("p", 2, etcd));
    reloader.reload();
    let row = sidecar.engine.status().status()["policies"][0].clone();
    assert_eq!(
        (&row["state"], &row["backend"]),
        (&"Serving".into(), &"memory".into())
    );
    assert_eq!(
        (&row["generation"], &row["observedGeneration"]),
        (&2.into(), &1.into())
    );
}

#[test]
fn a_directory_that_is_gone_changes_nothing() {
    let sidecar = Sidecar::new();
    sidecar.write("p.yaml", &memory("p", 1));
    let mut reloader = sidecar.reloader();
    let away = sidecar.dir.path().with_extension("away");
    fs::rename(sidecar.dir.path(), &away).unwrap();
    reloader.reload();
    assert_eq!(sidecar.served().len(), 1);
    fs::rename(&away, sidecar.dir.path()).unwrap();
    fs::remove_file(sidecar.path("p.yaml")).unwrap();
    reloader.reload();
    assert_eq!(sidecar.served(), [], "an empty directory is a word");
}

/// What the kubelet does: a new directory of versions, and one rename of the link to it.
fn mount(dir: &Path, version: &str, text: &str) {
    let data = dir.join(version);
    fs::create_dir(&data).unwrap();
    fs::write(data.join("p.yaml"), text).unwrap();
    symlink(version, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
}

#[test]
fn the_kubelets_swap_is_seen_and_leases_live_through_it() {
    let sidecar = Sidecar::new();
    mount(sidecar.dir.path(), "..2026_01", &memory("p", 1));
    symlink("..data/p.yaml", sidecar.path("p.yaml")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(LocalSet::new().run_until(async {
        let drain = pawl_kit::drain::Drain::new();
        let (engine, signal) = (sidecar.engine.clone(), drain.signal());
        tokio::task::spawn_local(async move { engine.run(signal, Duration::ZERO).await });
        tokio::task::spawn_local(sidecar.reloader().run());
        assert_eq!(sidecar.served(), [("p".to_owned(), 1)]);
        let policy = sidecar.engine.policy(PolicySelector::Only).unwrap();
        let key = Key::try_new("a").unwrap();
        let held = sidecar
            .engine
            .acquire(&policy, key, Ask::default())
            .await
            .unwrap();
        mount(sidecar.dir.path(), "..2026_02", &memory("p", 2));
        fs::remove_dir_all(sidecar.path("..2026_01")).unwrap();
        until(|| sidecar.served() == [("p".to_owned(), 2)]).await;
        assert!(sidecar.engine.lease(&held.lease_id).is_ok());
    }));
}

/// Waits for a condition; half a minute is the time of a machine that is very busy.
async fn until(condition: impl Fn() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "no lock decision hangs on it")]
    let end = Instant::now() + Duration::from_secs(30);
    while !condition() {
        #[expect(clippy::disallowed_methods, reason = "no lock decision hangs on it")]
        let now = Instant::now();
        assert!(now < end, "it did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

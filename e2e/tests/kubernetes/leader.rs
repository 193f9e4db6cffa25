//! client-go's leader election on the same Lease: it excludes Pawl, and Pawl excludes it.

use std::{ffi::OsString, time::Duration};

use pawl_e2e::server::{Process, Program};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, PATIENCE, SHORT, Sidecar, attempt, shared};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/cluster/bin/leader");

/// A program that elects a leader as controllers do.
struct Leader {
    process: Process,
    _folder: TempDir,
}

impl Leader {
    fn start(bench: &Bench<'_>, lease: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = Program {
            name: PROGRAM,
            package: "nothing of Debian's: scripts/need-cluster builds it",
        };
        let environment = [(
            "KUBECONFIG",
            OsString::from(bench.server.kubeconfig(bench.server.admin())),
        )];
        let arguments = [
            format!("--namespace={}", bench.account.namespace()),
            format!("--name={lease}"),
            "--identity=worker-1".to_owned(),
            "--duration=5s".to_owned(),
        ];
        let log = folder.path().join("log");
        Self {
            process: Process::start(program, arguments, &environment, None, &log),
            _folder: folder,
        }
    }

    fn leads(&self) -> bool {
        self.process.log().lines().any(|line| line == "leading")
    }

    async fn until_it_leads(&self) {
        let start = Instant::now();
        while !self.leads() {
            assert!(
                start.elapsed() < PATIENCE,
                "it never leads: {}",
                self.process.log()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The name of the key's Lease, and its last token.
async fn prepared(bench: &Bench<'_>, sidecar: &Sidecar) -> (String, u64) {
    let hold = attempt(SHORT);
    let token = sidecar.take(&hold).await;
    sidecar.release(&hold, token).await;
    (bench.lease().await.metadata.name.unwrap(), token.get())
}

/// While it leads, Pawl is told who does; when it lets go, Pawl has the key with a larger token; and the annotations
/// outlive it.
#[tokio::test]
async fn a_leader_excludes_pawl_until_it_lets_go() {
    let bench = Bench::new(shared()).await;
    let a = bench.sidecar();
    let (lease, last) = prepared(&bench, &a).await;
    let leader = Leader::start(&bench, &lease);
    leader.until_it_leads().await;
    let start = Instant::now();
    while start.elapsed() < SHORT * 2 {
        let busy = a.refused(&attempt(SHORT)).await;
        let holder = busy.holder.expect("somebody holds");
        assert_eq!((holder.owner.as_str(), holder.token), ("worker-1", None));
        sleep(Duration::from_millis(500)).await;
    }
    leader.process.signal(Signal::TERM);
    let token = a.take_in_the_end(&attempt(SHORT)).await;
    assert!(token.get() > last, "{token} after {last}");
    assert!(
        leader.process.log().contains("stopped"),
        "{}",
        leader.process.log()
    );
    let spec = bench.lease().await.spec.unwrap();
    assert!(token.get() > u64::try_from(spec.lease_transitions.unwrap()).unwrap());
}

/// A leader that was killed keeps Pawl out for the Lease's duration, and no longer.
#[tokio::test]
async fn a_dead_leaders_lease_ends_when_it_was_seen_unchanged() {
    let bench = Bench::new(shared()).await;
    let a = bench.sidecar();
    let (lease, last) = prepared(&bench, &a).await;
    let leader = Leader::start(&bench, &lease);
    leader.until_it_leads().await;
    a.refused(&attempt(SHORT)).await;
    leader.process.kill();
    let killed = Instant::now();
    let token = a.take_in_the_end(&attempt(SHORT)).await;
    let waited = killed.elapsed();
    // It renewed last at most a retry period before it died.
    assert!(
        waited >= Duration::from_secs(4),
        "it was given after {waited:?}"
    );
    assert!(
        waited < Duration::from_secs(9),
        "it was given after {waited:?}"
    );
    assert!(token.get() > last);
}

/// While Pawl holds and renews, nobody leads; also not one whose identity is the holder's name. After the release
/// somebody does.
#[tokio::test]
async fn pawl_excludes_a_leader() {
    let bench = Bench::new(shared()).await;
    let a = bench.sidecar();
    let hold = attempt(SHORT);
    let token = a.take(&hold).await;
    let lease = bench.lease().await.metadata.name.unwrap();
    let leader = Leader::start(&bench, &lease);
    let start = Instant::now();
    while start.elapsed() < SHORT * 3 {
        sleep(SHORT / 4).await;
        let renewed = a.renew(&hold, token).await;
        assert!(matches!(
            renewed,
            pawl_lock::backend::Renewed::Extended { .. }
        ));
        assert!(!leader.leads(), "two believe: {}", leader.process.log());
    }
    a.release(&hold, token).await;
    leader.until_it_leads().await;
}

/// A holder that died is succeeded by a leader after its ttl, not before; its sidecar is told when it comes back.
#[tokio::test]
async fn a_dead_holder_is_succeeded_by_a_leader() {
    let bench = Bench::new(shared()).await;
    let a = bench.sidecar();
    let hold = attempt(Duration::from_secs(6));
    let (asked, token) = (Instant::now(), a.take(&hold).await);
    let lease = bench.lease().await.metadata.name.unwrap();
    let leader = Leader::start(&bench, &lease);
    leader.until_it_leads().await;
    assert!(
        asked.elapsed() >= Duration::from_secs(6),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(
        a.renew(&hold, token).await,
        pawl_lock::backend::Renewed::NotOwner
    );
    assert!(!a.release(&hold, token).await);
    a.refused(&attempt(SHORT)).await;
}

use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;

use super::*;

const LONG: Duration = Duration::from_mins(1);

/// Runs the tasks to their end; a run that never ends fails instead of hanging.
async fn run(tasks: Tasks, drain: &Drain, grace: Duration) -> Result<(), Failure> {
    tokio::time::timeout(LONG / 2, tasks.run(drain, grace))
        .await
        .expect("an end within half a minute")
}

#[tokio::test]
async fn a_signal_is_told_to_every_clone_also_to_late_ones() {
    let drain = Drain::new();
    let signal = drain.signal();
    let early = signal.draining();
    assert!(!signal.is_draining());
    drain.clone().start();
    drain.start();
    early.await;
    signal.clone().await;
    assert_eq!(drain.signal().phase(), Phase::Draining);
    drain.force();
    drain.start();
    signal.forced().await;
    assert_eq!(signal.phase(), Phase::Forced);
}

#[tokio::test]
async fn a_drain_that_was_dropped_counts_as_begun_but_not_as_forced() {
    let signal = Drain::new().signal();
    signal.draining().await;
    assert_eq!(signal.phase(), Phase::Draining);
    let forced = tokio::time::timeout(Duration::from_millis(20), signal.forced()).await;
    assert!(forced.is_err());
}

#[tokio::test]
async fn a_clean_drain_is_no_failure() {
    let drain = Drain::new();
    let mut tasks = Tasks::new();
    tasks.background("once", async {});
    tasks.essential("api", drain.signal().into_future());
    tasks.essential("stop", {
        let drain = drain.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            drain.start();
            drain.signal().await;
        }
    });
    run(tasks, &drain, LONG).await.unwrap();
}

#[tokio::test]
async fn an_essential_task_that_ends_drains_the_others_and_fails() {
    let drain = Drain::new();
    let signal = drain.signal();
    let mut tasks = Tasks::new();
    let (told, mut was_told) = tokio::sync::oneshot::channel();
    tasks.essential("api", async move {
        signal.await;
        let _ = told.send(());
    });
    tasks.essential("renewer", async {});
    let failure = run(tasks, &drain, LONG).await.unwrap_err();
    assert!(
        matches!(failure, Failure::Ended { name: "renewer" }),
        "{failure}"
    );
    was_told
        .try_recv()
        .expect("the other task was drained before run returned");
}

#[tokio::test]
async fn errors_and_panics_are_told_with_the_name() {
    let drain = Drain::new();
    let mut tasks = Tasks::new();
    tasks.background("reload", async { Err::<(), _>("no such file") });
    let failure = run(tasks, &drain, LONG).await.unwrap_err();
    assert_eq!(
        failure.to_string(),
        "the task `reload` failed: no such file"
    );

    let drain = Drain::new();
    let mut tasks = Tasks::new();
    tasks.background("broken", async { assert!(drain_is_red(), "on purpose") });
    let failure = run(tasks, &drain, LONG).await.unwrap_err();
    assert!(
        matches!(failure, Failure::Panicked { name: "broken" }),
        "{failure}"
    );
}

const fn drain_is_red() -> bool {
    false
}

#[tokio::test]
async fn what_does_not_end_in_time_is_aborted_and_named() {
    let drain = Drain::new();
    drain.start();
    let mut tasks = Tasks::new();
    let (held, mut dropped) = tokio::sync::oneshot::channel::<()>();
    tasks.essential("stuck", async move {
        std::future::pending::<()>().await;
        drop(held);
    });
    tasks.essential("quick", async {});
    let failure = run(tasks, &drain, Duration::from_millis(30))
        .await
        .unwrap_err();
    assert_eq!(
        failure.to_string(),
        "still running after the 0.03s given for the drain: stuck"
    );
    assert_eq!(
        dropped.try_recv(),
        Err(TryRecvError::Closed),
        "the task is gone when run returns"
    );
}

#[test]
fn the_second_signal_does_not_wait() {
    // In a process of its own: handlers stay for good, and a test run has to end at Ctrl-C.
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "drain::tests::two_signals", "--ignored"])
        .output()
        .unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stdout)
    );
}

#[tokio::test]
#[ignore = "the test above runs it as a process of its own"]
async fn two_signals() {
    let drain = Drain::new();
    let signals = Signals::install().unwrap();
    let mut tasks = Tasks::new();
    tasks.onlooker("signals", signals.run(drain.clone()));
    tasks.essential("stuck", std::future::pending::<()>());
    let seen = drain.signal();
    tasks.background("sender", async move {
        raise("TERM");
        seen.clone().await;
        assert_eq!(seen.phase(), Phase::Draining);
        raise("INT");
    });
    let failure = run(tasks, &drain, LONG).await.unwrap_err();
    assert!(
        matches!(&failure, Failure::Forced { names } if names.contains(&"stuck")),
        "{failure}"
    );
}

#[tokio::test]
async fn one_signal_is_enough_for_a_clean_end() {
    let drain = Drain::new();
    let stop = drain.signal();
    let mut tasks = Tasks::new();
    tasks.onlooker("signals", std::future::pending::<()>());
    let local = tokio::task::LocalSet::new();
    let ended = local.run_until(async {
        let not_send = std::rc::Rc::new(());
        tasks.essential_local("work", async move {
            stop.await;
            drop(not_send);
        });
        drain.start();
        tokio::time::timeout(LONG, tasks.run(&drain, LONG)).await
    });
    assert!(ended.await.unwrap().is_ok());
}

/// Sends this process a signal, which [`Signals`] has already caught.
fn raise(name: &str) {
    let pid = std::process::id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-s", name, &pid])
        .status()
        .unwrap();
    assert!(sent.success());
}

//! The race against sidecars that are as they should be, and ones that are not. Each act must be able to fail.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use pawl_demo::race::report::Report;
use pawl_demo::wire::Client;
use rustix::process::Signal;

use crate::fake_sidecar::{Fault, program};
use crate::support::{Running, demo, free_port, output, until};

struct Played {
    code: i32,
    json: serde_json::Value,
    stdout: String,
    stderr: String,
    report: Report,
}

async fn play(fault: Fault, arguments: &[&str]) -> Played {
    let dir = tempfile::tempdir().unwrap();
    let sidecar = program(dir.path(), fault);
    let out = dir.path().join("out");
    let mut command = demo(&[
        "race",
        "--out",
        out.to_str().unwrap(),
        "--sidecar-bin",
        sidecar.to_str().unwrap(),
    ]);
    command.args(arguments);
    let Output {
        status,
        stdout,
        stderr,
    } = output(command).await;
    let (stdout, stderr) = (
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    );
    let json = std::fs::read_to_string(out.join("race.json"))
        .unwrap_or_else(|e| panic!("{e}\n{stdout}\n{stderr}"));
    let svg = std::fs::read_to_string(out.join("race.svg")).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
        "{svg}"
    );
    Played {
        code: status.code().unwrap(),
        json: serde_json::from_str(&json).unwrap(),
        stdout,
        stderr,
        report: serde_json::from_str(&json).unwrap(),
    }
}

#[tokio::test]
async fn with_a_true_lock_every_act_passes() {
    let played = play(Fault::None, &[]).await;
    assert_eq!(played.code, 0, "{}\n{}", played.stdout, played.stderr);
    the_form_is_the_contracts_and_described(&played.json);
    let Report {
        backend,
        acts,
        passed,
        failures,
        ..
    } = played.report;
    assert_eq!(
        (backend.as_str(), passed, failures.as_slice()),
        ("memory", true, &[][..])
    );

    let modes: Vec<&str> = acts.race.iter().map(|r| r.mode.as_str()).collect();
    assert_eq!(
        modes,
        [
            "none",
            "none",
            "sidecar",
            "sidecar",
            "row",
            "row",
            "optimistic",
            "optimistic"
        ]
    );
    for row in &acts.race {
        assert_eq!(row.lost_updates > 0, row.mode == "none", "{row:?}");
        assert_eq!(row.expected == row.actual, row.mode != "none", "{row:?}");
        let expected = if row.replicas == 2 { 800 } else { 0 };
        assert!(row.mode == "none" || row.expected == expected, "{row:?}");
    }
    let crash = &acts.crash[0];
    let takeover = crash.takeover_ms.unwrap();
    assert!(takeover > 100.0 && takeover < 5000.0, "{crash:?}");
    let stalls: Vec<_> = acts
        .stall
        .iter()
        .map(|s| (s.fencing, s.late_write.as_str(), s.lost_updates))
        .collect();
    let each = [(false, "applied", 1), (true, "stale", 0)];
    assert_eq!(stalls, [each, each].concat());
    assert!(
        acts.queue
            .iter()
            .all(|q| q.served == 20 && q.inversions == 0),
        "{:?}",
        acts.queue
    );
    assert!(
        acts.overhead.iter().all(|o| o.operations == 1000),
        "{:?}",
        acts.overhead
    );
    for words in ["PASSED", "lock mode", "optimistic", "Fifo", "sigstop"] {
        assert!(
            played.stdout.contains(words),
            "{words} is missing in\n{}",
            played.stdout
        );
    }
}

fn the_form_is_the_contracts_and_described(json: &serde_json::Value) {
    let row: Vec<&String> = json["acts"]["race"][0]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    let of_the_contract = [
        "actual",
        "expected",
        "lostUpdates",
        "mode",
        "operations",
        "p50Ms",
        "p99Ms",
        "replicas",
    ];
    assert_eq!(row, of_the_contract);
    let readme = include_str!("../../README.md");
    for field in fields(json).iter().filter(|field| *field != "acts") {
        let is_told = readme.contains(&format!("`{field}`"))
            || readme.contains(&format!("`acts.{field}[]`"))
            || readme.contains(&format!("`{field}[]`"));
        assert!(is_told, "README.md does not describe {field}");
    }
}

/// The names of all fields in a JSON value.
fn fields(value: &serde_json::Value) -> BTreeSet<String> {
    match value {
        serde_json::Value::Object(object) => {
            let below = object.values().flat_map(fields);
            object.keys().cloned().chain(below).collect()
        }
        serde_json::Value::Array(list) => list.iter().flat_map(fields).collect(),
        _ => BTreeSet::new(),
    }
}

#[tokio::test]
async fn with_a_lock_that_grants_everybody_the_race_fails_and_names_the_mode() {
    let played = play(Fault::GrantsAll, &["--act", "race"]).await;
    assert_eq!(played.code, 1, "{}", played.stdout);
    assert!(!played.report.passed);
    let after = played
        .stdout
        .split_once("FAILED")
        .expect("the table says that it failed")
        .1;
    // Fencing keeps the money, by refusing what the lock should have kept apart: either way it shows.
    let is_told = after.contains("updates were lost") || after.contains("stale");
    assert!(after.contains("race: mode sidecar: ") && is_told, "{after}");
    assert!(
        !after.contains("mode row") && !after.contains("mode optimistic"),
        "{after}"
    );
}

#[tokio::test]
async fn a_lock_that_grants_everybody_fails_the_other_acts_too() {
    for (act, words) in [
        ("crash", "while its holder was alive"),
        ("queue", "times two held the key at once"),
    ] {
        let played = play(Fault::GrantsAll, &["--act", act]).await;
        assert_eq!(played.code, 1, "{act}: {}", played.stdout);
        assert!(played.stdout.contains(words), "{act}: {}", played.stdout);
    }
}

#[tokio::test]
async fn serving_the_last_one_first_fails_the_queue() {
    let played = play(Fault::Lifo, &["--act", "queue"]).await;
    assert_eq!(played.code, 1, "{}", played.stdout);
    assert_eq!(
        played.report.acts.queue[0].inversions, 190,
        "all pairs of 20"
    );
    assert!(
        played.stdout.contains("queue: Fifo: 190 pairs"),
        "{}",
        played.stdout
    );
}

#[tokio::test]
async fn a_token_that_does_not_climb_fails_stall_and_overhead() {
    let played = play(Fault::TokenStuck, &["--act", "stall", "--act", "overhead"]).await;
    assert_eq!(played.code, 1, "{}", played.stdout);
    for words in [
        "fencing on: the late write was not refused",
        "overhead: mode sidecar: the fencing tokens did not climb",
    ] {
        assert!(played.stdout.contains(words), "{}", played.stdout);
    }
}

#[tokio::test]
async fn a_release_that_hides_the_loss_fails_the_stall() {
    let played = play(Fault::NeverTellsLoss, &["--act", "stall"]).await;
    assert_eq!(played.code, 1, "{}", played.stdout);
    assert!(
        played
            .stdout
            .contains("fencing off: the release did not say that the lock had been lost"),
        "{}",
        played.stdout
    );
}

#[tokio::test]
async fn no_child_outlives_the_race() {
    for signal in [Signal::INT, Signal::KILL] {
        let dir = tempfile::tempdir().unwrap();
        let sidecar = program(dir.path(), Fault::None);
        let out = dir.path().join("out");
        let mut command = demo(&[
            "race",
            "--out",
            out.to_str().unwrap(),
            "--sidecar-bin",
            sidecar.to_str().unwrap(),
        ]);
        let mut race = Running(command.spawn().unwrap());
        let log = out.join("logs/bank-none-10.log");
        until("the banks are open", async || {
            std::fs::read_to_string(&log).is_ok_and(|l| l.contains("open"))
        })
        .await;
        let children = children_of(race.0.id());
        assert!(
            children.len() >= 11,
            "one sidecar and ten banks: {children:?}"
        );
        race.signal(signal);
        let status = race.ended().await;
        assert!(!status.success());
        until("all children are gone", async || {
            children.iter().all(|pid| !is_running(*pid))
        })
        .await;
    }
}

#[tokio::test]
async fn a_sidecar_that_somebody_kills_is_started_again_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let sidecar = program(dir.path(), Fault::None);
    let out = dir.path().join("out");
    let command = demo(&[
        "race",
        "--act",
        "race",
        "--out",
        out.to_str().unwrap(),
        "--sidecar-bin",
        sidecar.to_str().unwrap(),
    ]);
    let mut command = tokio::process::Command::from(command);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    let race = command.spawn().unwrap();
    let id = race.id().unwrap();
    let log = out.join("logs/bank-sidecar-10.log");
    until("the sidecar's mode is played", async || {
        std::fs::read_to_string(&log).is_ok_and(|l| l.contains("open"))
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let victim = children_of(id)
        .into_iter()
        .find(|pid| command_of(*pid).contains("fake_sidecar::process"))
        .unwrap();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(victim).unwrap(),
        Signal::KILL,
    )
    .unwrap();
    let ended = tokio::time::timeout(Duration::from_mins(2), race.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr),
    );
    assert!(stderr.contains("starting it again"), "{stderr}");
    let report: Report =
        serde_json::from_str(&std::fs::read_to_string(out.join("race.json")).unwrap()).unwrap();
    for row in report.acts.race.iter().filter(|row| row.mode == "sidecar") {
        assert_eq!(row.lost_updates, 0, "{stdout}");
    }
}

#[tokio::test]
async fn serve_leaves_the_page_up_with_an_account_that_loses_and_one_that_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (sidecar, out) = (program(dir.path(), Fault::None), dir.path().join("out"));
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = demo(&[
        "race",
        "--act",
        "queue",
        "--out",
        out.to_str().unwrap(),
        &format!("--serve={address}"),
    ]);
    command.args(["--sidecar-bin", sidecar.to_str().unwrap()]);
    let mut race = Running(command.spawn().unwrap());
    let page = Client::new(&format!("http://{address}")).unwrap();
    let account = async |name: &str| {
        let answer = page
            .get(&format!("/api/balance/{name}"), Duration::from_secs(5))
            .await
            .ok()?;
        serde_json::from_slice::<serde_json::Value>(answer.body()).ok()
    };
    until(
        "the unlocked account has lost something, and the locked one was spent from",
        async || {
            let (unlocked, locked) = (account("unlocked").await, account("locked").await);
            unlocked.is_some_and(|a| a["lostUpdates"].as_i64() > Some(2))
                && locked.is_some_and(|a| a["deductions"].as_i64() > Some(6))
        },
    )
    .await;
    assert_eq!(account("locked").await.unwrap()["lostUpdates"], 0);
    race.signal(Signal::INT);
    assert_eq!(race.ended().await.code(), Some(0), "the act had passed");
    assert!(
        page.get("/livez", Duration::from_secs(1)).await.is_err(),
        "the page is gone"
    );
}

fn children_of(parent: u32) -> Vec<i32> {
    let dir = Path::new("/proc").read_dir().unwrap();
    let pids = dir.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| stat(*pid).is_some_and(|(_, ppid)| ppid == parent))
        .collect()
}

fn is_running(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z")
}

/// State and parent of a process.
fn stat(pid: i32) -> Option<(String, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn command_of(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
        .unwrap_or_default()
        .replace('\0', " ")
}

//! `pawl-demo load`, against a bank.

use serde_json::{Value, json};

use crate::support::{Bank, Running, books, demo, free_port, output};

async fn load(url: &str, arguments: &[&str]) -> (i32, String, Value) {
    let mut command = demo(&["load", "--url", url, "--json"]);
    command.args(arguments);
    let ended = output(command).await;
    let report = serde_json::from_slice(&ended.stdout).unwrap_or_default();
    (
        ended.status.code().unwrap(),
        String::from_utf8(ended.stderr).unwrap(),
        report,
    )
}

#[tokio::test]
async fn a_bank_is_driven_at_the_rate_that_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Bank::start(
        &books(dir.path()),
        &["--lock-mode", "none", "--think", "5ms"],
    )
    .await;
    let (code, errors, report) = load(
        &bank.url,
        &["--rate", "40", "--for", "2s", "--accounts", "4"],
    )
    .await;
    assert_eq!(code, 0, "{errors}");
    assert_eq!(
        (report["operations"].as_u64(), report["done"].as_u64()),
        (Some(80), Some(80))
    );
    let rate = report["achievedRate"].as_f64().unwrap();
    assert!(rate > 30.0 && rate < 42.0, "{report}");
    let at = |name: &str| report[name].as_f64().unwrap();
    assert!(
        at("p50Ms") >= 5.0 && at("p50Ms") <= at("p99Ms") && at("p99Ms") <= at("maxMs"),
        "{report}"
    );
    let (_, account) = bank.get("/api/balance/load-1").await;
    assert_eq!(account["deductions"], 20);
}

#[tokio::test]
async fn a_server_that_stalls_is_charged_for_all_who_were_due_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    // One at a time and 100 ms each, while 20 a second are due: the last waits for half of the whole time.
    let bank = Bank::start(
        &books(dir.path()),
        &["--lock-mode", "none", "--think", "100ms"],
    )
    .await;
    let (code, _, report) = load(
        &bank.url,
        &["--rate", "20", "--for", "2s", "--in-flight", "1"],
    )
    .await;
    assert_eq!(code, 0);
    assert!(report["maxMs"].as_f64().unwrap() > 1500.0, "{report}");
}

#[tokio::test]
async fn errors_are_told_by_kind_and_nothing_done_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--lock-mode", "none", "--fencing", "on"];
    let bank = Bank::start(&books(dir.path()), &options).await;
    let (code, errors, report) = load(&bank.url, &["--rate", "20", "--for", "500ms"]).await;
    assert_eq!(code, 1);
    assert_eq!(report["errors"], json!({"428 token_required": 10}));
    assert!(errors.contains("not one operation was done"), "{errors}");
    let (code, errors, _) = load("http://127.0.0.1:1", &["--for", "1s"]).await;
    assert_eq!(code, 1);
    assert!(
        errors.contains("the bank cannot be reached: cannot connect to http://127.0.0.1:1"),
        "{errors}"
    );
}

#[tokio::test]
async fn a_bank_that_comes_later_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{listen}");
    let store = books(dir.path());
    let late = async {
        // Longer than the first try takes.
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        let mut bank = demo(&["bank", "--listen", &listen, "--store", &store]);
        Running(bank.args(["--lock-mode", "none"]).spawn().unwrap())
    };
    let options = ["--rate", "20", "--for", "500ms", "--patience", "1m"];
    let ((code, errors, report), _bank) = tokio::join!(load(&url, &options), late);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(report["done"], 10, "{errors}");
    assert!(errors.contains("trying again"), "{errors}");
}

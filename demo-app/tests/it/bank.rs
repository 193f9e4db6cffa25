//! The bank's API, on SQLite, as processes.

use std::time::Duration;

use futures::future::join_all;
use hyper::Method;
use rustix::process::Signal;
use serde_json::json;

use crate::fake_sidecar::{Fault, program};
use crate::support::{Bank, Running, books, free_port, until};

#[tokio::test]
async fn an_account_is_opened_read_and_spent_from() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Bank::start(
        &books(dir.path()),
        &["--lock-mode", "none", "--think", "0s"],
    )
    .await;
    let (status, opened) = bank
        .post(
            "/api/balance/init",
            json!({"userId": "ann", "balance": 250}),
        )
        .await;
    assert_eq!((status, opened["balance"].as_i64()), (200, Some(250)));

    let (status, receipt) = bank
        .post("/api/deduct", json!({"userId": "ann", "amount": 100}))
        .await;
    assert_eq!(
        (
            status,
            receipt["balance"].as_i64(),
            receipt["mode"].as_str()
        ),
        (200, Some(150), Some("none"))
    );
    assert_eq!(
        bank.post("/api/deduct", json!({"userId": "ann", "amount": 151}))
            .await
            .0,
        402
    );

    let (status, account) = bank.get("/api/balance/ann").await;
    let expected = json!({"userId": "ann", "initial": 250, "balance": 150, "expected": 150, "deductions": 1,
                          "lostUpdates": 0, "lastToken": 0});
    assert_eq!((status, account), (200, expected));
    assert_eq!(bank.get("/livez").await.0, 200);
    let metrics = bank.text("/metrics").await;
    for line in [
        "bank_balance 150",
        "bank_expected_balance 150",
        "bank_lost_updates_total 0",
        "bank_deductions_total{mode=\"none\",result=\"applied\"} 1",
        "bank_deductions_total{mode=\"none\",result=\"insufficient\"} 1",
    ] {
        assert!(
            metrics.lines().any(|l| l == line),
            "{line} is missing in\n{metrics}"
        );
    }
}

#[tokio::test]
async fn two_replicas_without_a_lock_lose_money_and_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--lock-mode", "none", "--think", "150ms"];
    let (a, b) = (
        Bank::start(&books(dir.path()), &options).await,
        Bank::start(&books(dir.path()), &options).await,
    );
    a.post(
        "/api/balance/init",
        json!({"userId": "ann", "balance": 1000}),
    )
    .await;
    let deduct = json!({"userId": "ann", "amount": 100});
    let (x, y) = tokio::join!(
        a.post("/api/deduct", deduct.clone()),
        b.post("/api/deduct", deduct)
    );
    assert_eq!((x.0, y.0), (200, 200));
    let (_, account) = b.get("/api/balance/ann").await;
    let shown = ["balance", "expected", "lostUpdates"].map(|n| account[n].as_i64().unwrap());
    assert_eq!(shown, [900, 800, 1]);
    assert!(
        a.text("/metrics")
            .await
            .lines()
            .any(|l| l == "bank_lost_updates_total 1")
    );
}

#[tokio::test]
async fn row_and_optimistic_lose_nothing_on_two_replicas() {
    for mode in ["row", "optimistic"] {
        let dir = tempfile::tempdir().unwrap();
        let options = ["--lock-mode", mode, "--think", "10ms", "--lock-wait", "30s"];
        let banks = [
            Bank::start(&books(dir.path()), &options).await,
            Bank::start(&books(dir.path()), &options).await,
        ];
        banks[0]
            .post(
                "/api/balance/init",
                json!({"userId": "ann", "balance": 1000}),
            )
            .await;
        let deduct = json!({"userId": "ann", "amount": 100});
        let answers =
            join_all((0..14).map(|i| banks[i % 2].post("/api/deduct", deduct.clone()))).await;
        let mut statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [vec![200; 10], vec![402; 4]].concat(), "{mode}");
        let (_, account) = banks[1].get("/api/balance/ann").await;
        assert_eq!(
            (account["balance"].as_i64(), account["lostUpdates"].as_i64()),
            (Some(0), Some(0)),
            "{mode}"
        );
    }
}

#[tokio::test]
async fn an_order_is_paid_once_and_together_with_the_account() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Bank::start(
        &books(dir.path()),
        &["--lock-mode", "row", "--think", "30ms"],
    )
    .await;
    bank.post(
        "/api/balance/init",
        json!({"userId": "ann", "balance": 100}),
    )
    .await;
    assert_eq!(
        bank.post("/api/orders/o-1", json!({"amount": 60})).await.0,
        201
    );
    assert_eq!(
        bank.post("/api/orders/o-1", json!({"amount": 60})).await.1["code"],
        "exists"
    );
    bank.post("/api/orders/o-2", json!({"amount": 60})).await;

    let pay = |order: &str| bank.post("/api/payment", json!({"userId": "ann", "orderId": order}));
    let (x, y) = tokio::join!(pay("o-1"), pay("o-1"));
    let mut statuses = [x.0, y.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    assert_eq!(pay("o-2").await.1["code"], "insufficient");
    assert_eq!(bank.get("/api/orders/o-2").await.1["status"], "pending");
    assert_eq!(bank.get("/api/orders/o-1").await.1["status"], "paid");
    assert_eq!(bank.get("/api/balance/ann").await.1["balance"], 40);
    assert_eq!(
        bank.send(
            Method::PATCH,
            "/api/orders/o-1",
            r#"{"status":"shipped"}"#,
            &[]
        )
        .await
        .1["orderStatus"],
        "shipped"
    );
    let (status, problem) = bank
        .send(
            Method::PATCH,
            "/api/orders/o-1",
            r#"{"status":"cancelled"}"#,
            &[],
        )
        .await;
    assert_eq!((status, problem["code"].as_str()), (409, Some("status")));
    assert_eq!(pay("nothing").await.0, 404);
}

#[tokio::test]
async fn the_fence_refuses_what_comes_late() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Bank::start(
        &books(dir.path()),
        &["--lock-mode", "none", "--fencing", "on", "--think", "0s"],
    )
    .await;
    bank.post(
        "/api/balance/init",
        json!({"userId": "ann", "balance": 100}),
    )
    .await;
    let deduct = async |token: &str| {
        bank.send(
            Method::POST,
            "/api/deduct",
            r#"{"userId":"ann","amount":10}"#,
            &[("x-fence-token", token)],
        )
        .await
    };
    assert_eq!(deduct("7").await.0, 200);
    assert_eq!(deduct("7").await.0, 200, "the same holder may write again");
    let (status, problem) = deduct("6").await;
    assert_eq!(
        (
            status,
            problem["code"].as_str(),
            problem["highestToken"].as_i64()
        ),
        (409, Some("stale"), Some(7))
    );
    assert_eq!(bank.get("/api/balance/ann").await.1["balance"], 80);
    let (status, problem) = bank
        .post("/api/deduct", json!({"userId": "ann", "amount": 10}))
        .await;
    assert_eq!(
        (status, problem["code"].as_str()),
        (428, Some("token_required"))
    );

    bank.send(
        Method::POST,
        "/api/orders/o-1",
        r#"{"amount":5}"#,
        &[("x-fence-token", "3")],
    )
    .await;
    let patch = async |token: &str, delay: &str| {
        let headers = [("x-fence-token", token), ("x-simulate-delay", delay)];
        bank.send(
            Method::PATCH,
            "/api/orders/o-1",
            r#"{"status":"cancelled"}"#,
            &headers,
        )
        .await
    };
    let (late, early) = tokio::join!(patch("4", "400ms"), patch("5", "0s"));
    assert_eq!((late.1["code"].as_str(), early.0), (Some("stale"), 200));
    assert_eq!(bank.get("/api/orders/o-1").await.1["lastToken"], 5);
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "it is one table")]
async fn bad_input_is_told_what_is_wrong_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Bank::start(&books(dir.path()), &["--lock-mode", "none"]).await;
    let json = ("content-type", "application/json");
    let large = format!(
        r#"{{"userId":"ann","amount":1,"x":"{}"}}"#,
        "x".repeat(9000)
    );
    for (method, path, body, header, status, code) in [
        (Method::POST, "/api/deduct", "{", json, 400, "malformed"),
        (Method::POST, "/api/deduct", "", json, 400, "malformed"),
        (Method::POST, "/api/deduct", "[]", json, 422, "invalid"),
        (
            Method::POST,
            "/api/deduct",
            r#"{"userId":"ann"}"#,
            json,
            422,
            "invalid",
        ),
        (
            Method::POST,
            "/api/deduct",
            r#"{"userId":"ann","amount":1,"more":1}"#,
            json,
            422,
            "invalid",
        ),
        (
            Method::POST,
            "/api/deduct",
            r#"{"userId":"ann","amount":1.5}"#,
            json,
            422,
            "invalid",
        ),
        (
            Method::POST,
            "/api/deduct",
            r#"{"userId":"ann","amount":0}"#,
            json,
            422,
            "invalid",
        ),
        (
            Method::POST,
            "/api/deduct",
            r#"{"userId":"ann","amount":-5}"#,
            json,
            422,
            "invalid",
        ),
        (
            Method::POST,
            "/api/deduct",
            r#"{"userId":"ann","amount":99999999999999999999}"#,
            json,
            422,
            "invalid",
        ),
        (
            Method::POST,
            "/api/deduct",
            r#"{"userId":"a/b","amount":1}"#,
            json,
            422,
            "invalid",
        ),
        (
            Method::POST,
            "/api/deduct",
            r#"{"userId":"ann","amount":1}"#,
            json,
            404,
            "not_found",
        ),
        (
            Method::POST,
            "/api/deduct",
            r#"{"userId":"ann","amount":1}"#,
            ("content-type", "text/plain"),
            415,
            "media_type",
        ),
        (
            Method::POST,
            "/api/deduct",
            r#"{"userId":"ann","amount":1}"#,
            ("x-fence-token", "-1"),
            422,
            "invalid",
        ),
        (
            Method::POST,
            "/api/deduct",
            r#"{"userId":"ann","amount":1}"#,
            ("x-simulate-delay", "1 s"),
            422,
            "invalid",
        ),
        (Method::POST, "/api/deduct", &large, json, 413, "too_large"),
        (
            Method::POST,
            "/api/balance/init",
            r#"{"userId":"ann","balance":-1}"#,
            json,
            422,
            "invalid",
        ),
        (
            Method::POST,
            "/api/orders/o",
            r#"{"amount":0}"#,
            json,
            422,
            "invalid",
        ),
        (
            Method::PATCH,
            "/api/orders/o",
            r#"{"status":"lost"}"#,
            json,
            422,
            "invalid",
        ),
        (
            Method::PATCH,
            "/api/orders/o",
            r#"{"status":"paid"}"#,
            json,
            404,
            "not_found",
        ),
        (Method::GET, "/api/orders/%2e%2e", "", json, 422, "invalid"),
        (
            Method::GET,
            "/api/balance/nobody",
            "",
            json,
            404,
            "not_found",
        ),
        (Method::GET, "/api/deduct", "", json, 405, "method"),
        (Method::DELETE, "/api/orders/o", "", json, 405, "method"),
        (Method::GET, "/nothing", "", json, 404, "no_route"),
    ] {
        let answer = bank.raw(method.clone(), path, body, &[header]).await;
        let problem: serde_json::Value = serde_json::from_slice(answer.body()).unwrap();
        let told = (
            answer.status().as_u16(),
            problem["code"].as_str(),
            problem["status"].as_u64(),
        );
        assert_eq!(
            told,
            (status, Some(code), Some(u64::from(status))),
            "{method} {path} {body:.80}"
        );
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert!(
            problem["detail"].as_str().is_some_and(|d| d.len() > 5),
            "{problem}"
        );
        assert_eq!(answer.headers().contains_key("allow"), status == 405);
    }
}

#[tokio::test]
async fn it_ends_what_was_begun_and_then_itself() {
    let dir = tempfile::tempdir().unwrap();
    let mut bank = Bank::start(
        &books(dir.path()),
        &["--lock-mode", "none", "--think", "0s"],
    )
    .await;
    bank.post(
        "/api/balance/init",
        json!({"userId": "ann", "balance": 100}),
    )
    .await;
    let headers = [("x-simulate-delay", "800ms")];
    let deduct = bank.send(
        Method::POST,
        "/api/deduct",
        r#"{"userId":"ann","amount":10}"#,
        &headers,
    );
    let (answer, ()) = tokio::join!(deduct, async {
        until("it is stalled", async || {
            bank.get("/api/status").await.1["delayed"] == 1
        })
        .await;
        bank.process.signal(Signal::TERM);
        until("it takes no more", async || {
            bank.client
                .get("/livez", Duration::from_secs(5))
                .await
                .is_err()
        })
        .await;
    });
    assert_eq!(answer.0, 200);
    assert_eq!(bank.process.ended().await.code(), Some(0));
    let bank = Bank::start(&books(dir.path()), &["--lock-mode", "none"]).await;
    assert_eq!(bank.get("/api/balance/ann").await.1["balance"], 90);
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_leave_the_lock_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (sidecar, _process) = fake(dir.path(), Fault::None).await;
    let bank = Bank::start(
        &books(dir.path()),
        &[
            "--sidecar",
            &sidecar,
            "--policy",
            "accounts",
            "--think",
            "0s",
        ],
    )
    .await;
    bank.post(
        "/api/balance/init",
        json!({"userId": "ann", "balance": 100}),
    )
    .await;
    {
        let headers = [("x-simulate-delay", "500ms")];
        let left = bank.send(
            Method::POST,
            "/api/deduct",
            r#"{"userId":"ann","amount":10}"#,
            &headers,
        );
        tokio::select! {
            _ = left => panic!("it did not stall"),
            () = until("it is stalled", async || bank.get("/api/status").await.1["delayed"] == 1) => {}
        }
    }
    let (status, receipt) = bank
        .post("/api/deduct", json!({"userId": "ann", "amount": 10}))
        .await;
    assert_eq!(
        (status, receipt["balance"].as_i64()),
        (200, Some(80)),
        "both were done, one after the other"
    );
    assert_eq!(receipt["lock"]["fencingToken"], 2);
    let pay = json!({"userId": "ann", "orderId": "o-1"});
    bank.post("/api/orders/o-1", json!({"amount": 80})).await;
    let (status, receipt) = bank.post("/api/payment", pay).await;
    assert_eq!(
        (status, receipt["orderStatus"].as_str()),
        (200, Some("paid")),
        "{receipt}"
    );
    assert_eq!(
        bank.get("/api/orders/o-1").await.1["lastToken"],
        4,
        "each key has its own token"
    );
    assert_eq!(bank.get("/api/balance/ann").await.1["lastToken"], 3);
}

/// Starts a fake sidecar and returns its address.
pub(crate) async fn fake(dir: &std::path::Path, fault: Fault) -> (String, Running) {
    let (listen, admin) = (
        format!("127.0.0.1:{}", free_port()),
        format!("127.0.0.1:{}", free_port()),
    );
    let mut command = std::process::Command::new(program(dir, fault));
    command
        .args(["--listen", &listen, "--admin", &admin])
        .stdout(std::process::Stdio::null());
    let process = Running(command.spawn().unwrap());
    let client = pawl_demo::wire::Client::new(&format!("http://{admin}")).unwrap();
    until("the fake is ready", async || {
        client.get("/readyz", Duration::from_secs(1)).await.is_ok()
    })
    .await;
    (format!("http://{listen}"), process)
}

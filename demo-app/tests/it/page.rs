//! The live page, in a real browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use hyper::Method;
use serde_json::json;

use crate::bank::fake;
use crate::fake_sidecar::Fault;
use crate::support::{Bank, books, output, until};

/// Opens a page in headless Chromium; returns the document as it is after a moment, and leaves a screenshot.
async fn browse(url: &str, name: &str, dark: bool) -> (String, PathBuf) {
    let chromium = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
    ];
    let Some(chromium) = chromium.iter().find(|path| Path::new(path).exists()) else {
        panic!("this test needs a browser: apt-get install -y --no-install-recommends chromium");
    };
    let shots = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
    std::fs::create_dir_all(&shots).unwrap();
    let shot = shots.canonicalize().unwrap().join(format!("{name}.png"));
    let _ = std::fs::remove_file(&shot);
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new(chromium);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]);
    command.args([
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ]);
    command.args([
        "--window-size=1280,1000",
        "--virtual-time-budget=4000",
        "--dump-dom",
    ]);
    if dark {
        command.arg("--blink-settings=preferredColorScheme=0");
    }
    command.arg(format!("--user-data-dir={}", profile.path().display()));
    command
        .arg(format!("--screenshot={}", shot.display()))
        .arg(url);
    let ended = output(command).await;
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    (String::from_utf8(ended.stdout).unwrap(), shot)
}

/// The text between the tags of an element with an id.
fn text_of(dom: &str, id: &str) -> String {
    let (_, rest) = dom
        .split_once(&format!("id=\"{id}\""))
        .unwrap_or_else(|| panic!("{id} is missing in\n{dom}"));
    let (_, rest) = rest.split_once('>').unwrap();
    rest.split_once('<').unwrap().0.to_owned()
}

/// The rows of a table's body with an id, without tags.
fn rows_of(dom: &str, id: &str) -> Vec<String> {
    let (_, rest) = dom
        .split_once(&format!("<tbody id=\"{id}\">"))
        .unwrap_or_else(|| panic!("{id} is missing in\n{dom}"));
    let body = rest.split_once("</tbody>").unwrap().0;
    let plain = |row: &str| {
        let texts = row
            .split('<')
            .filter_map(|part| part.split_once('>'))
            .map(|(_, text)| text.trim());
        texts
            .filter(|text| !text.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    };
    body.split("<tr")
        .skip(1)
        .map(|row| plain(&format!("<tr{row}")))
        .collect()
}

#[tokio::test]
async fn the_page_shows_what_was_lost_and_who_holds_what() {
    let dir = tempfile::tempdir().unwrap();
    let store = books(dir.path());
    let (sidecar, _process) = fake(dir.path(), Fault::None).await;
    let unlocked = ["--lock-mode", "none", "--think", "150ms"];
    let locked = [
        "--sidecar",
        sidecar.as_str(),
        "--policy",
        "accounts",
        "--think",
        "0s",
        "--name",
        "till-3",
    ];
    let a = Bank::start(&store, &[&unlocked[..], &["--name", "till-1"]].concat()).await;
    let b = Bank::start(&store, &[&unlocked[..], &["--name", "till-2"]].concat()).await;
    let c = Bank::start(&store, &locked).await;
    for (bank, user) in [(&a, "unlocked"), (&c, "locked")] {
        bank.post(
            "/api/balance/init",
            json!({"userId": user, "balance": 1000}),
        )
        .await;
    }
    for _ in 0..2 {
        let deduct = json!({"userId": "unlocked", "amount": 100});
        tokio::join!(
            a.post("/api/deduct", deduct.clone()),
            b.post("/api/deduct", deduct)
        );
        c.post("/api/deduct", json!({"userId": "locked", "amount": 150}))
            .await;
    }
    let body = r#"{"userId":"locked","amount":50}"#;
    let long = [("x-simulate-delay", "100s")];
    let holding = c.send(Method::POST, "/api/deduct", body, &long);
    tokio::select! {
        _ = holding => panic!("it was to hold the lock"),
        () = until("the overview knows the lock", async || {
            let (_, overview) = a.get("/api/overview").await;
            overview["replicas"].as_array().is_some_and(|r| r.len() == 3 && r[2]["locks"]["leases"][0].is_object()
                && r[0]["deductions"]["applied"] == 2)
        }) => {}
    }
    let (dom, shot) = browse(&a.url, "bank-light", false).await;
    assert!(dom.contains("data-ready=\"true\""), "{dom}");
    let sums = ["balance", "expected", "lost", "count", "modes"].map(|id| text_of(&dom, id));
    assert_eq!(sums, ["1,500", "1,300", "2", "3", "none, sidecar"]);
    assert_eq!(
        rows_of(&dom, "accounts"),
        ["locked 700 700 – 2 0", "unlocked 800 600 +200 4 2"]
    );
    let replicas = rows_of(&dom, "replicas");
    assert_eq!(
        replicas,
        [
            "till-1 none off – 2 0",
            "till-2 none off – 2 0",
            "till-3 sidecar on up 2 0"
        ]
    );
    let locks = rows_of(&dom, "locks");
    assert_eq!(locks.len(), 1, "{locks:?}");
    assert!(
        locks[0].starts_with("account/locked till-3 3 "),
        "{locks:?}"
    );
    assert_eq!(text_of(&dom, "link"), "live");
    assert!(
        std::fs::metadata(&shot).unwrap().len() > 20_000,
        "{}",
        shot.display()
    );

    let (dom, _) = browse(&a.url, "bank-dark", true).await;
    assert!(dom.contains("data-ready=\"true\""), "{dom}");
}

#[tokio::test]
async fn the_page_takes_nothing_from_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Bank::start(&books(dir.path()), &["--lock-mode", "none"]).await;
    for (path, media) in [
        ("/", "text/html"),
        ("/page.css", "text/css"),
        ("/page.js", "text/javascript"),
    ] {
        let answer = bank.raw(Method::GET, path, "", &[]).await;
        assert_eq!(answer.status(), 200);
        assert!(
            answer.headers()["content-type"]
                .to_str()
                .unwrap()
                .starts_with(media)
        );
        let policy = answer.headers()["content-security-policy"]
            .to_str()
            .unwrap();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        let text = String::from_utf8(answer.body().to_vec()).unwrap();
        let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !elsewhere.contains("http:") && !elsewhere.contains("https:"),
            "{path}"
        );
    }
    let html = bank.text("/").await;
    for needed in [
        "lang=\"en\"",
        "<main>",
        "<h1>",
        "scope=\"col\"",
        "role=\"status\"",
        "<noscript>",
        "name=\"viewport\"",
    ] {
        assert!(html.contains(needed), "{needed} is missing");
    }
    let (dom, _) = browse(&bank.url, "bank-empty", false).await;
    assert_eq!(text_of(&dom, "lost"), "0");
    assert!(rows_of(&dom, "accounts").is_empty());
    assert!(
        dom.contains("<p class=\"empty\" id=\"no-accounts\">"),
        "{dom}"
    );
}

//! Who may connect: TLS, passwords, permissions.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pawl_e2e::server::{
    certs::{Authority, Identity},
    redis::{RedisOptions, RedisServer},
};
use pawl_kit::secrets::Secret;
use pawl_lock::{
    Backend,
    backend::{Category, Outcome},
};
use pawl_sidecar::backend::redis::{
    Redis, RedisConfig,
    connection::{Credentials, CredentialsSource, TlsSource},
};
use rustls::ClientConfig;
use tokio::time::{Instant, sleep};

use super::bench::{PATIENCE, attempt, backend, configured, fails, release, server, take};

fn with_tls(url: String, config: Arc<ClientConfig>) -> Arc<Redis> {
    let mut redis = RedisConfig::new(url);
    redis.tls = Some(TlsSource::new(move || Ok(Arc::clone(&config))));
    configured(redis)
}

fn tls_server(clients: Option<&Authority>, identity: Identity) -> RedisServer {
    RedisServer::start(RedisOptions {
        tls: Some((clients.map(Authority::certificate), identity)),
        ..RedisOptions::default()
    })
}

async fn is_refused_for_tls(backend: &Redis, reason: &str) {
    let error = fails(backend, &attempt()).await;
    assert_eq!(
        (error.category(), error.outcome()),
        (Category::Tls, Outcome::NotApplied),
        "{error}"
    );
    assert!(error.to_string().ends_with(reason), "{error}");
}

/// N4: verified in full, and no way back to plain text.
#[tokio::test]
async fn a_certificate_must_be_right_in_every_respect() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("another"));
    let server = tls_server(None, authority.issue(&["localhost"], false));
    take(
        &with_tls(server.tls_url(), authority.client(None)),
        &attempt(),
    )
    .await;
    is_refused_for_tls(
        &with_tls(server.tls_url(), stranger.client(None)),
        "unknown_ca",
    )
    .await;
    let by_address = server.tls_url().replace("localhost", "127.0.0.1");
    is_refused_for_tls(
        &with_tls(by_address, authority.client(None)),
        "name_mismatch",
    )
    .await;
    let old = tls_server(None, authority.issue(&["localhost"], true));
    is_refused_for_tls(
        &with_tls(old.tls_url(), authority.client(None)),
        "certificate_expired",
    )
    .await;
    let plain = server
        .url()
        .replace("redis:", "rediss:")
        .replace("127.0.0.1", "localhost");
    let error = fails(&with_tls(plain, authority.client(None)), &attempt()).await;
    // Redis answers a TLS hello with an error or by closing.
    assert!(
        matches!(error.category(), Category::Tls | Category::Connection),
        "{error}"
    );
}

#[tokio::test]
async fn a_server_may_ask_for_a_certificate_of_ours() {
    let authority = Authority::new("ours");
    let server = tls_server(Some(&authority), authority.issue(&["localhost"], false));
    let ours = authority.issue(&["sidecar"], false);
    let hold = attempt();
    let a = with_tls(server.tls_url(), authority.client(Some(&ours)));
    let granted = take(&a, &hold).await;
    a.release(&release(&hold, granted)).await.unwrap();
    is_refused_for_tls(
        &with_tls(server.tls_url(), authority.client(None)),
        "client_certificate_required",
    )
    .await;
    let foreign = Authority::new("another").issue(&["sidecar"], false);
    let error = fails(
        &with_tls(server.tls_url(), authority.client(Some(&foreign))),
        &attempt(),
    )
    .await;
    assert_eq!(error.category(), Category::Tls, "{error}");
}

/// The authority is changed under way: the next connection uses the new one, nothing is started again.
#[tokio::test]
async fn a_new_authority_is_used_at_the_next_connection() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let current = Arc::new(Mutex::new(old.client(None)));
    let server = tls_server(None, new.issue(&["localhost"], false));
    let mut config = RedisConfig::new(server.tls_url());
    let source = Arc::clone(&current);
    config.tls = Some(TlsSource::new(move || {
        Ok(Arc::clone(&source.lock().unwrap()))
    }));
    let a = configured(config);
    is_refused_for_tls(&a, "unknown_ca").await;
    *current.lock().unwrap() = new.client(None);
    heals(&a).await;
}

/// Asks until it works, at most for the backoff of wrong configurations.
async fn heals(backend: &Redis) {
    let start = Instant::now();
    while let Err(error) = backend.check().await {
        assert!(start.elapsed() < PATIENCE, "it does not heal: {error}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn with_password(url: String, username: Option<&str>, password: &Arc<Mutex<String>>) -> Arc<Redis> {
    let mut config = RedisConfig::new(url);
    let (username, password) = (username.map(str::to_owned), Arc::clone(password));
    config.credentials = CredentialsSource::new(move || {
        Ok(Credentials {
            username: username.clone(),
            password: Some(Secret::new(password.lock().unwrap().clone())),
        })
    });
    configured(config)
}

async fn is_misconfigured(backend: &Redis) -> String {
    let error = fails(backend, &attempt()).await;
    assert_eq!(error.category(), Category::Config, "{error}");
    assert!(
        !format!("{error} {error:?}").contains("hunter2"),
        "{error:?}"
    );
    error.to_string()
}

/// R14: no password, a wrong one, a changed one; no storm of tries.
#[tokio::test]
async fn a_password_must_be_right_and_may_change() {
    let server = server(&[
        "user app on >hunter2 ~pawl:* &pawl:* +@all",
        "user default on nopass ~* &* +@all",
    ]);
    let password = Arc::new(Mutex::new("wrong-hunter2".to_owned()));
    let a = with_password(server.url(), Some("app"), &password);
    let before: u64 = received(&server);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(1) {
        assert!(is_misconfigured(&a).await.contains("password"));
        sleep(Duration::from_millis(2)).await;
    }
    // One is the question itself.
    assert!(
        received(&server) - before <= 3,
        "{} tries",
        received(&server) - before
    );
    *password.lock().unwrap() = "hunter2".to_owned();
    heals(&a).await;
    take(&a, &attempt()).await;

    // The password is changed and the connections of the old one are ended, as an administrator does.
    let _: String = server.run(&["ACL", "SETUSER", "app", ">hunter2-new", "<hunter2"]);
    *password.lock().unwrap() = "hunter2-new".to_owned();
    server.kill_clients();
    heals(&a).await;
}

fn received(server: &RedisServer) -> u64 {
    let stats: String = server.run(&["INFO", "stats"]);
    stats
        .lines()
        .find_map(|line| {
            line.strip_prefix("total_connections_received:")?
                .trim()
                .parse()
                .ok()
        })
        .unwrap()
}

#[tokio::test]
async fn a_server_with_a_password_wants_one() {
    let server = server(&["requirepass hunter2"]);
    assert!(
        is_misconfigured(&backend(server.url()))
            .await
            .contains("password")
    );
    let right = Arc::new(Mutex::new("hunter2".to_owned()));
    take(&with_password(server.url(), None, &right), &attempt()).await;
}

/// A user that may do what `docs/backends.md` says and nothing else can lock; one that may not is told so by `check`,
/// before a lock is tried.
#[tokio::test]
async fn permissions_are_looked_at_before_a_lock_is_tried() {
    let documented = include_str!("../../../docs/backends.md");
    let rules = documented
        .lines()
        .find_map(|line| line.trim().strip_prefix("ACL SETUSER pawl on >PASSWORD "))
        .expect("docs/backends.md shows the user that Pawl needs");
    let server = server(&[&format!("user pawl on >hunter2 {rules}")]);
    let password = Arc::new(Mutex::new("hunter2".to_owned()));
    let a = with_password(server.url(), Some("pawl"), &password);
    assert_eq!(a.check().await.unwrap(), []);
    let hold = attempt();
    let granted = take(&a, &hold).await;
    a.release(&release(&hold, granted)).await.unwrap();

    for missing in ["-pexpireat", "-zadd", "-evalsha", "resetkeys"] {
        let _: String = server.run(&["ACL", "SETUSER", "pawl", missing]);
        let error = a.check().await.unwrap_err();
        assert_eq!(error.category(), Category::Config, "{missing}: {error}");
        let back = if missing == "resetkeys" {
            "~pawl:*".to_owned()
        } else {
            missing.replace('-', "+")
        };
        let _: String = server.run(&["ACL", "SETUSER", "pawl", &back]);
        assert_eq!(a.check().await.unwrap(), [], "{missing}");
    }

    // Without the channels locks work, and the check says what is missing.
    let _: String = server.run(&["ACL", "SETUSER", "pawl", "resetchannels"]);
    let b = with_password(server.url(), Some("pawl"), &password);
    let findings = b.check().await.unwrap();
    assert!(
        matches!(&*findings, [finding] if finding.reason == "HintsForbidden" && !finding.is_fatal),
        "{findings:?}"
    );
    take(&b, &hold).await;
}

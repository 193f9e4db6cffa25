//! Credentials and TLS: what is wrong is told without a secret, and nothing falls back to plain text.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pawl_e2e::server::{
    certs::{Authority, Identity},
    postgres::{PostgresOptions, PostgresServer},
};
use pawl_lock::{
    Backend,
    backend::{Acquired, Category},
};
use pawl_sidecar::backend::postgres::{
    Credentials, Postgres, PostgresConfig, PostgresMode, SchemaName, grants_sql,
};
use tokio::time::{Instant, sleep};

use crate::helpers::*;

/// A user, a password, a database that is not there: an error that only a change of configuration mends.
#[tokio::test]
async fn wrong_credentials_are_told_without_them() {
    let server = PostgresServer::start(PostgresOptions {
        hba: "host all postgres 127.0.0.1/32 trust\nhost all all all scram-sha-256".to_owned(),
        ..PostgresOptions::default()
    });
    server.sql("CREATE ROLE app LOGIN PASSWORD 'first'; GRANT CREATE ON DATABASE postgres TO app");
    let url = server.url();
    for (config, code) in [
        (
            as_user(at(&url, PostgresMode::Row), "app", "hunter2"),
            "28P01",
        ),
        (
            as_user(at(&url, PostgresMode::Row), "nobody", "hunter2"),
            "28P01",
        ),
        (at(&format!("{url}2"), PostgresMode::Row), "3D000"),
    ] {
        let error = fails(config, Category::Config).await;
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(code), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let mut unnamed = at(&url, PostgresMode::Row);
    unnamed.credentials = Arc::new(|| Ok(Credentials::default()));
    fails(unnamed, Category::Config).await;
}

/// A password that changed is read at the next connect; who is connected stays so.
#[tokio::test]
async fn a_rotated_password_is_read_again() {
    let server = PostgresServer::start(PostgresOptions {
        hba: "host all postgres 127.0.0.1/32 trust\nhost all all all scram-sha-256".to_owned(),
        ..PostgresOptions::default()
    });
    server.sql("CREATE ROLE app LOGIN PASSWORD 'first'; GRANT CREATE ON DATABASE postgres TO app");
    let password = Arc::new(Mutex::new("first"));
    let mut config = at(&server.url(), PostgresMode::Advisory);
    let file = Arc::clone(&password);
    config.credentials = Arc::new(move || {
        Ok(Credentials {
            username: Some("app".to_owned()),
            password: Some((*file.lock().unwrap()).to_owned()),
        })
    });
    let backend = Postgres::new(config);
    take(&backend, &attempt("before")).await;
    server.sql("ALTER ROLE app PASSWORD 'second'");
    take(&backend, &attempt("still")).await;
    *password.lock().unwrap() = "second";
    server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'");
    let start = Instant::now();
    while !matches!(
        backend.acquire(&attempt("after")).await,
        Ok(Acquired::Granted(_))
    ) {
        assert!(start.elapsed() < PATIENCE, "the new password is not read");
        sleep(Duration::from_millis(10)).await;
    }
}

fn with_tls(mut config: PostgresConfig, client: Arc<rustls::ClientConfig>) -> PostgresConfig {
    config.tls = Some(Arc::new(move || Ok((*client).clone())));
    config
}

fn tls_server(authority: &Authority, server: Identity, hba: &str) -> PostgresServer {
    PostgresServer::start(PostgresOptions {
        tls: Some((server, authority.certificate())),
        // The first line is for the test's own psql.
        hba: format!("host all postgres 127.0.0.1/32 trust\n{hba}"),
        ..PostgresOptions::default()
    })
}

fn authority() -> (Authority, Identity) {
    let authority = Authority::new("Test");
    let server = authority.issue(&["127.0.0.1"], false);
    (authority, server)
}

/// TLS verified in full, with a password bound to the channel, and with a client certificate alone.
#[tokio::test]
async fn tls_works_with_passwords_and_certificates() {
    let (pki, identity) = authority();
    let server = tls_server(
        &pki,
        identity,
        "hostssl all app all scram-sha-256\nhostssl all robot all cert",
    );
    server.sql("CREATE ROLE app LOGIN PASSWORD 'secret'; CREATE ROLE robot LOGIN");
    server.sql("GRANT CREATE ON DATABASE postgres TO app");
    let url = server.url();
    for mode in MODES {
        works(with_tls(
            as_user(at(&url, mode), "app", "secret"),
            pki.client(None),
        ))
        .await;
    }
    let backend = Postgres::new(with_tls(
        as_user(at(&url, PostgresMode::Advisory), "app", "secret"),
        pki.client(None),
    ));
    take(&backend, &attempt("k")).await;
    let encrypted =
        "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity USING (pid) WHERE usename = 'app'";
    assert_eq!(server.sql(encrypted), ["t"]);
    for statement in grants_sql(&SchemaName::default(), "robot").lines() {
        server.sql(statement);
    }
    let robot = pki.client(Some(&pki.issue(&["robot"], false)));
    works(with_tls(
        as_user(at(&url, PostgresMode::Advisory), "robot", ""),
        robot,
    ))
    .await;
    // Without its certificate, and in plain text, it is refused.
    fails(
        with_tls(
            as_user(at(&url, PostgresMode::Row), "robot", ""),
            pki.client(None),
        ),
        Category::Config,
    )
    .await;
    fails(
        as_user(at(&url, PostgresMode::Row), "app", "secret"),
        Category::Config,
    )
    .await;
}

/// N4: an unknown authority, another name, an expired certificate, a server that speaks no TLS: never in plain text.
#[tokio::test]
async fn a_server_that_cannot_be_trusted_is_not_used() {
    let (pki, _) = authority();
    let client = || pki.client(None);
    let (other, identity) = authority();
    let stranger = tls_server(&other, identity, "");
    let misnamed = tls_server(&pki, pki.issue(&["127.0.0.2"], false), "");
    let expired = tls_server(&pki, pki.issue(&["127.0.0.1"], true), "");
    for server in [&stranger, &misnamed, &expired] {
        fails(
            with_tls(at(&server.url(), PostgresMode::Row), client()),
            Category::Tls,
        )
        .await;
    }
    let plain = PostgresServer::start(PostgresOptions::default());
    fails(
        with_tls(at(&plain.url(), PostgresMode::Row), client()),
        Category::Tls,
    )
    .await;
    let mut unreadable = at(&plain.url(), PostgresMode::Row);
    unreadable.tls = Some(Arc::new(|| Err("ca.crt: not found".into())));
    let error = fails(unreadable, Category::Tls).await;
    assert!(error.to_string().contains("ca.crt"), "{error}");
    // None of them was spoken to beyond the handshake.
    for server in [&stranger, &misnamed, &expired, &plain] {
        assert!(
            server
                .sql("SELECT nspname FROM pg_namespace WHERE nspname = 'pawl'")
                .is_empty()
        );
    }
}

/// Authorities that were swapped in the file are used at the next connect, without a restart.
#[tokio::test]
async fn a_swapped_authority_is_read_again() {
    let ((pki, identity), (stranger, _)) = (authority(), authority());
    let server = tls_server(&pki, identity, "");
    let file = Arc::new(Mutex::new(stranger.client(None)));
    let mut config = at(&server.url(), PostgresMode::Advisory);
    let read = Arc::clone(&file);
    config.tls = Some(Arc::new(move || Ok((**read.lock().unwrap()).clone())));
    let backend = Postgres::new(config);
    let error = backend
        .acquire(&attempt("k"))
        .await
        .expect_err("it is a stranger");
    assert_eq!(error.category(), Category::Tls, "{error}");
    *file.lock().unwrap() = pki.client(None);
    let start = Instant::now();
    while !matches!(
        backend.acquire(&attempt("k")).await,
        Ok(Acquired::Granted(_))
    ) {
        assert!(start.elapsed() < PATIENCE, "the new authority is not read");
        sleep(Duration::from_millis(10)).await;
    }
}

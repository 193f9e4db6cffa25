//! How Postgres is set up: TLS, roles, the schema, poolers. What is unsafe or wrong is told, and never worked around.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use pawl_e2e::server::{
    certs::{Authority, Identity},
    pgbouncer::PgBouncer,
    postgres::{PostgresOptions, PostgresServer, config},
};
use pawl_lock::{
    Backend, BackendError, HoldId, Key, Owner, Ttl,
    backend::{
        AcquireRequest, Acquired, Category, Granted, Outcome, ReleaseRequest, RenewRequest, Renewed,
    },
    lease::{Mode, Order},
};
use pawl_sidecar::backend::{
    Scope,
    postgres::{
        Credentials, Postgres, PostgresConfig, PostgresMode, SchemaName, grants_sql, schema_sql,
    },
};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(10);
const MODES: [PostgresMode; 2] = [PostgresMode::Advisory, PostgresMode::Row];

fn scope() -> Scope {
    Scope::with_prefix("setup").unwrap()
}

fn at(url: &str, mode: PostgresMode) -> PostgresConfig {
    config(url, mode, &scope())
}

fn as_user(
    mut config: PostgresConfig,
    user: &'static str,
    password: &'static str,
) -> PostgresConfig {
    config.credentials = Arc::new(move || {
        Ok(Credentials {
            username: Some(user.to_owned()),
            password: Some(password.to_owned()),
        })
    });
    config
}

fn attempt(name: &str) -> AcquireRequest {
    AcquireRequest {
        key: Key::try_new(name).unwrap(),
        hold: HoldId::from_bits(rand::random()),
        mode: Mode::Exclusive,
        ttl: Ttl::try_new(Duration::from_secs(60)).unwrap(),
        order: Order::Fifo,
        place: None,
        lock_delay: Duration::ZERO,
        owner: Owner::try_new("somebody").unwrap(),
    }
}

async fn take(backend: &Postgres, request: &AcquireRequest) -> Granted {
    match backend.acquire(request).await {
        Ok(Acquired::Granted(granted)) => granted,
        other => panic!("not granted: {other:?}"),
    }
}

async fn release(backend: &Postgres, request: &AcquireRequest, granted: Granted) {
    let release = ReleaseRequest {
        key: request.key.clone(),
        hold: request.hold,
        mode: request.mode,
        token: granted.token,
        next: None,
    };
    assert!(
        backend
            .release(&release)
            .await
            .expect("it is answered")
            .was_owner
    );
}

/// Takes, renews and releases a key, and sees it refused to another.
async fn works(config: PostgresConfig) {
    let [a, b] = [(); 2].map(|()| Postgres::new(config.clone()));
    let request = attempt("works");
    let granted = take(&a, &request).await;
    let busy = b.acquire(&attempt("works")).await;
    assert!(matches!(busy, Ok(Acquired::Busy(_))), "{busy:?}");
    let renew = RenewRequest {
        key: request.key.clone(),
        hold: request.hold,
        mode: request.mode,
        token: granted.token,
        ttl: request.ttl,
        owner: request.owner.clone(),
    };
    assert_eq!(
        a.renew(&renew).await.unwrap(),
        Renewed::Extended { wanted: None }
    );
    release(&a, &request, granted).await;
    let next = attempt("works");
    let granted = take(&b, &next).await;
    release(&b, &next, granted).await;
}

/// The error of an acquire, which was not made.
async fn fails(config: PostgresConfig, category: Category) -> BackendError {
    let backend = Postgres::new(config);
    let error = backend
        .acquire(&attempt("k"))
        .await
        .expect_err("it cannot work");
    assert_eq!(
        (error.category(), error.outcome()),
        (category, Outcome::NotApplied),
        "{error}"
    );
    error
}

/// P5: a pooler before mode Advisory is found at the start, whatever the size of its pool; mode Row works through it.
#[tokio::test]
async fn a_pooler_is_found_and_only_rows_go_through_it() {
    let server = PostgresServer::start(PostgresOptions::default());
    for (pool_mode, size) in [("transaction", 1), ("transaction", 5), ("session", 5)] {
        let pooler = PgBouncer::start(&server, pool_mode, size);
        let backend = Postgres::new(at(&pooler.url(), PostgresMode::Advisory));
        let findings = backend.check().await.expect("the finding is the answer");
        let found = findings
            .iter()
            .any(|finding| finding.reason == "PoolerDetected" && finding.is_fatal);
        assert!(found, "{pool_mode} {size}: {findings:?}");
        let error = backend
            .acquire(&attempt("k"))
            .await
            .expect_err("it is unsafe");
        assert_eq!(
            (error.category(), error.outcome()),
            (Category::Unsafe, Outcome::NotApplied)
        );
        drop(backend);

        let backend = Postgres::new(at(&pooler.url(), PostgresMode::Row));
        let findings = backend.check().await.expect("it is reached");
        let found = findings
            .iter()
            .find(|finding| finding.reason == "PoolerDetected");
        assert!(
            found.is_some_and(|finding| !finding.is_fatal),
            "{findings:?}"
        );
        if pool_mode == "transaction" {
            works(at(&pooler.url(), PostgresMode::Row)).await;
        }
    }
    // Nothing of a session was left in those that the pooler hands on.
    let leaked = server.sql("SELECT * FROM pg_locks WHERE locktype = 'advisory'");
    assert!(leaked.is_empty(), "{leaked:?}");
}

/// A call that lands in another session than its own does nothing, even if no pooler was seen at the start.
#[tokio::test]
async fn a_call_in_another_session_does_nothing() {
    let server = PostgresServer::start(PostgresOptions::default());
    let backend = Postgres::new(at(&server.url(), PostgresMode::Advisory));
    take(&backend, &attempt("k")).await;
    let session = &server.sql("SELECT id FROM pawl.sessions")[0];
    let hold = "00000000-0000-0000-0000-000000000001";
    for call in [
        format!(
            "acquire('s', 'other', '{hold}', false, 1000, true, NULL, NULL, 0, 'o', 'c', 9e18::int8, '{session}', false)"
        ),
        format!("renew('=setup', 'k', '{hold}', false, 1000, 'o', '{session}')"),
        format!("release('=setup', 'k', '{hold}', '{session}')"),
        format!("abandon('=setup', 'k', '{hold}', 1000, '{session}', true)"),
        format!("settle('=setup', 'k', '{session}')"),
    ] {
        let status = server.sql(&format!("SELECT status FROM pawl.{call}"));
        assert_eq!(status, ["moved"], "{call}");
    }
    assert_eq!(server.sql("SELECT key FROM pawl.keys"), ["k"]);
}

/// Repeatable read, which a role may be set to, costs retries and not exclusion; behind a pooler it cannot be set back.
#[tokio::test]
async fn another_isolation_level_costs_retries_only() {
    let server = PostgresServer::start(PostgresOptions::default());
    works(at(&server.url(), PostgresMode::Row)).await;
    server.sql("ALTER ROLE postgres SET default_transaction_isolation = 'repeatable read'");
    let pooler = PgBouncer::start(&server, "transaction", 4);
    let backends = [(); 4].map(|()| Postgres::new(at(&pooler.url(), PostgresMode::Row)));
    let inside = Mutex::new(0);
    let end = Instant::now() + Duration::from_secs(3);
    let fights = backends.iter().map(|backend| async {
        let (mut granted, mut refused) = (0, 0);
        while Instant::now() < end {
            let request = attempt("fight");
            match backend.acquire(&request).await {
                Ok(Acquired::Granted(grant)) => {
                    granted += 1;
                    let others = {
                        let mut inside = inside.lock().unwrap();
                        *inside += 1;
                        *inside
                    };
                    assert_eq!(others, 1, "two at once");
                    sleep(Duration::from_millis(1)).await;
                    *inside.lock().unwrap() -= 1;
                    let release = ReleaseRequest {
                        key: request.key.clone(),
                        hold: request.hold,
                        mode: request.mode,
                        token: grant.token,
                        next: None,
                    };
                    while let Err(error) = backend.release(&release).await {
                        assert_eq!(error.category(), Category::Unavailable, "{error}");
                        refused += 1;
                    }
                }
                Ok(Acquired::Busy(_)) => sleep(Duration::from_millis(1)).await,
                Err(error) => {
                    assert_eq!(
                        (error.category(), error.outcome()),
                        (Category::Unavailable, Outcome::NotApplied),
                        "{error}"
                    );
                    refused += 1;
                }
            }
        }
        (granted, refused)
    });
    let sums = futures::future::join_all(fights).await;
    let granted: u32 = sums.iter().map(|sum| sum.0).sum();
    let refused: u32 = sums.iter().map(|sum| sum.1).sum();
    eprintln!("{granted} grants, {refused} serialization failures");
    assert!(granted > 20, "only {granted} grants");
    assert!(refused > 0, "no two calls met: nothing was tried");
}

/// Sidecars that meet on a fresh database make the schema once; one connection each is used, two in mode Row.
#[tokio::test]
async fn sidecars_that_start_together_make_one_schema() {
    let server = PostgresServer::start(PostgresOptions::default());
    let backends: Vec<Postgres> = (0..6)
        .map(|n| Postgres::new(at(&server.url(), MODES[n % 2])))
        .collect();
    for backend in &backends {
        let request = attempt("k");
        let granted = take(backend, &request).await;
        release(backend, &request, granted).await;
    }
    assert_eq!(server.sql("SELECT version FROM pawl.schema_version"), ["1"]);
    let sessions =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pawl/test-%'";
    assert_eq!(server.sql(sessions), [(3 + 3 * 2).to_string()]);
    drop(backends);
    let start = Instant::now();
    while server.sql(sessions) != ["0"] {
        assert!(
            start.elapsed() < PATIENCE,
            "connections outlive their backends"
        );
        sleep(Duration::from_millis(10)).await;
    }
}

/// A role that may not make the schema is told so; once an administrator made it, the least rights are enough.
#[tokio::test]
async fn a_role_without_rights_works_on_a_schema_made_for_it() {
    let server = PostgresServer::start(PostgresOptions::default());
    server.sql("CREATE ROLE app LOGIN NOINHERIT");
    server.sql("REVOKE ALL ON SCHEMA public FROM PUBLIC");
    let schema = SchemaName::try_new("team_locks").unwrap();
    let as_app = |mode| {
        let mut config = as_user(at(&server.url(), mode), "app", "");
        config.schema = schema.clone();
        config
    };
    let error = fails(as_app(PostgresMode::Row), Category::Config).await;
    assert!(error.to_string().contains("\"team_locks\""), "{error}");
    assert!(error.to_string().contains("docs/backends.md"), "{error}");
    let sql = schema_sql(&schema);
    for _ in 0..2 {
        server.sql(&sql);
    }
    let error = fails(as_app(PostgresMode::Row), Category::Config).await;
    assert!(error.to_string().contains("GRANT"), "{error}");
    // One statement at a time, as an administrator would.
    for statement in grants_sql(&schema, "app").lines() {
        server.sql(statement);
    }
    for mode in MODES {
        works(as_app(mode)).await;
    }
    let backend = Arc::new(Postgres::new(as_app(PostgresMode::Advisory)));
    take(&backend, &attempt("k")).await;
    assert!(backend.inspect(&Key::try_new("k").unwrap()).await.is_ok());
    let purged = server.sql("SET ROLE app; SELECT deleted FROM team_locks.purge(10)");
    assert_eq!(purged.last().map(String::as_str), Some("0"));
}

/// Two keys with one 64-bit hash: the second is refused with the reason, and never shares the first one's lock.
#[tokio::test]
async fn a_hash_collision_is_told_and_not_shared() {
    let server = PostgresServer::start(PostgresOptions::default());
    let backend = Postgres::new(at(&server.url(), PostgresMode::Advisory));
    take(&backend, &attempt("first")).await;
    // The number that "second" will have, given to another key beforehand.
    server.sql(
        "UPDATE pawl.keys SET number = hashtextextended(concat_ws(chr(10), 'pawl', '\"pawl\"', '=setup', 'second'), 0)",
    );
    let error = backend
        .acquire(&attempt("second"))
        .await
        .expect_err("it is taken");
    assert_eq!(
        (error.category(), error.outcome()),
        (Category::Unsafe, Outcome::NotApplied)
    );
    assert!(error.to_string().contains("another name"), "{error}");
    take(&backend, &attempt("third")).await;
}

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

/// What is unsafe about a server is told, and does not stop it where it is not fatal.
#[tokio::test]
async fn an_unsafe_server_is_told() {
    let server = PostgresServer::start(PostgresOptions::default());
    let backend = Postgres::new(at(&server.url(), PostgresMode::Advisory));
    let findings = backend.check().await.expect("it is reached");
    let reasons: Vec<&str> = findings.iter().map(|finding| finding.reason).collect();
    // The tests' servers run without fsync.
    assert_eq!(reasons, ["DurabilityOff"]);
    assert!(!findings[0].is_fatal);
    take(&backend, &attempt("k")).await;
}

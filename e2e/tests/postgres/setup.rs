//! How Postgres is set up: poolers, roles, the schema. What is unsafe or wrong is told, and never worked around.

use std::{sync::Mutex, time::Duration};

use pawl_e2e::server::{
    pgbouncer::PgBouncer,
    postgres::{PostgresOptions, PostgresServer},
};
use pawl_lock::{
    Backend, Key,
    backend::{Acquired, Category, Outcome},
};
use pawl_sidecar::backend::postgres::{Postgres, PostgresMode, SchemaName, grants_sql, schema_sql};
use tokio::time::{Instant, sleep};

use crate::helpers::*;

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
        format!("renew('=test', 'k', '{hold}', false, 1000, 'o', '{session}')"),
        format!("release('=test', 'k', '{hold}', '{session}')"),
        format!("abandon('=test', 'k', '{hold}', 1000, '{session}', true)"),
        format!("settle('=test', 'k', '{session}')"),
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
                    while let Err(error) = backend.release(&release(&request, grant)).await {
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
        let_go(backend, &request, granted).await;
    }
    assert_eq!(server.sql("SELECT version FROM pawl.schema_version"), ["1"]);
    // All of it was made by one transaction: nobody made it again while others used it.
    let replaced = "SELECT p.proname FROM pg_proc p, pawl.schema_version v \
                    WHERE p.pronamespace = 'pawl'::regnamespace AND p.xmin::text <> v.xmin::text";
    assert!(server.sql(replaced).is_empty());
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
    let backend = Postgres::new(as_app(PostgresMode::Advisory));
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
        "UPDATE pawl.keys SET number = hashtextextended(concat_ws(chr(10), 'pawl', '\"pawl\"', '=test', 'second'), 0)",
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

/// Tidying up takes what is over, in bounded steps, and nothing that is held or waited for; tokens climb all the same.
#[tokio::test]
async fn tidying_up_forgets_only_what_is_over() {
    let server = PostgresServer::start(PostgresOptions::default());
    let backend = Postgres::new(at(&server.url(), PostgresMode::Advisory));
    let (held, gone) = (attempt("held"), attempt("gone"));
    take(&backend, &held).await;
    let before = take(&backend, &gone).await;
    let_go(&backend, &gone, before).await;
    backend
        .acquire(&waiting("held"))
        .await
        .expect("it is answered");
    backend
        .abandon(&abandonment(&attempt("abandoned")))
        .await
        .expect("it is answered");
    let count = |table: &str| -> u32 {
        server.sql(&format!("SELECT count(*) FROM pawl.{table}"))[0]
            .parse()
            .unwrap()
    };
    let tables = ["keys", "holds", "places", "abandoned", "sessions"];
    let fresh = tables.map(count);
    assert_eq!(server.sql("SELECT deleted FROM pawl.purge(100)"), ["0"]);
    assert_eq!(tables.map(count), fresh, "all of it is in use");
    assert_eq!(fresh, [3, 1, 1, 1, 1]);

    for sql in [
        "UPDATE pawl.keys SET used_on = used_on - 31",
        "UPDATE pawl.abandoned SET keep_until = clock_timestamp()",
        "INSERT INTO pawl.sessions SELECT gen_random_uuid(), 1, clock_timestamp() - interval '1 hour', 'dead' FROM generate_series(1, 25)",
        "INSERT INTO pawl.keys (scope, key, used_on) SELECT 'old', n, '2020-01-01' FROM generate_series(1, 25) n",
    ] {
        server.sql(sql);
    }
    assert_eq!(
        server.sql("SELECT deleted FROM pawl.purge(10)"),
        ["10"],
        "a bounded step"
    );
    while server.sql("SELECT deleted FROM pawl.purge(10)") != ["0"] {}
    assert_eq!(
        tables.map(count),
        [1, 1, 1, 0, 1],
        "what is held and waited for stays"
    );
    let after = take(&backend, &attempt("gone")).await;
    assert!(
        after.token > before.token,
        "{} after {}",
        after.token,
        before.token
    );
}

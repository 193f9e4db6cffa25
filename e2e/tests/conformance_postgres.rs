//! The conformance suite on the backend `postgres`: both modes at the server, and mode Row behind a transaction pooler.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test program")]

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use pawl_e2e::{
    conformance::{Server, Traits},
    server::{
        pgbouncer::PgBouncer,
        postgres::{PostgresOptions, PostgresServer, config},
    },
};
use pawl_lock::Backend;
use pawl_sidecar::backend::{
    Scope,
    postgres::{Postgres, PostgresMode},
};

struct PostgresFixture {
    mode: PostgresMode,
    /// Dropped before the server that it stands before.
    pooler: Option<PgBouncer>,
    server: Arc<PostgresServer>,
}

impl PostgresFixture {
    fn start(mode: PostgresMode) -> Arc<dyn Server> {
        Arc::new(Self {
            mode,
            pooler: None,
            server: Arc::new(PostgresServer::start(PostgresOptions::default())),
        })
    }

    fn pooled() -> Arc<dyn Server> {
        let server = PostgresServer::start(PostgresOptions::default());
        Arc::new(Self {
            mode: PostgresMode::Row,
            pooler: Some(PgBouncer::start(&server, "transaction", 4)),
            server: Arc::new(server),
        })
    }
}

impl Server for PostgresFixture {
    fn connect<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Arc<dyn Backend>> {
        let url = self
            .pooler
            .as_ref()
            .map_or(self.server.url(), PgBouncer::url);
        let config = config(&url, self.mode, scope);
        Box::pin(async { Arc::new(Postgres::new(config)) as Arc<dyn Backend> })
    }

    fn traits(&self) -> Traits {
        Traits {
            holds_expire: true,
            death_seen_within: Duration::from_secs(1),
            queue_is_dated: true,
            can_pause: true,
            can_restart: self.pooler.is_none(),
            survives_restart: self.mode == PostgresMode::Row,
            can_cut: true,
        }
    }

    fn ends_with_sidecar(&self) -> bool {
        self.mode == PostgresMode::Advisory
    }

    fn pause(&self) {
        self.server.pause();
    }

    fn resume(&self) {
        self.server.resume();
    }

    fn restart(&self) -> BoxFuture<'_, ()> {
        let server = Arc::clone(&self.server);
        beside(move || server.crash_and_restart())
    }

    fn cut(&self) -> BoxFuture<'_, ()> {
        let server = Arc::clone(&self.server);
        beside(move || {
            server.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
            );
        })
    }
}

/// Does what blocks on another thread: the sidecars of the case are to notice what happens to the server.
fn beside(work: impl FnOnce() + Send + 'static) -> BoxFuture<'static, ()> {
    Box::pin(async {
        tokio::task::spawn_blocking(work)
            .await
            .expect("the server does as it is told");
    })
}

mod advisory {
    use super::*;

    fn start() -> Arc<dyn Server> {
        PostgresFixture::start(PostgresMode::Advisory)
    }

    pawl_e2e::conformance!(start);
}

mod row {
    use super::*;

    fn start() -> Arc<dyn Server> {
        PostgresFixture::start(PostgresMode::Row)
    }

    pawl_e2e::conformance!(start);
}

/// What needs no notifications and no session, through a pooler with fewer connections than there are sidecars.
mod row_behind_pgbouncer {
    use super::*;

    fn start() -> Arc<dyn Server> {
        PostgresFixture::pooled()
    }

    pawl_e2e::conformance!(@shared start;
        exclusion::exclusive_holds_exclude_each_other,
        exclusion::shared_holds_share_and_exclude_exclusive,
        exclusion::an_exclusive_hold_excludes_shared,
        expiry::a_hold_that_nobody_renews_ends,
        expiry::renewal_extends_a_hold,
        expiry::a_lost_hold_is_never_renewed,
        expiry::the_lock_delay_follows_a_loss,
        tokens::asking_again_has_the_same_token,
        tokens::tokens_climb_from_hold_to_hold,
        tokens::tokens_climb_across_sidecars_and_expiry,
        ending::release_takes_the_next_in_the_same_step,
        ending::release_leaves_the_next_in_its_place,
        ending::nothing_comes_after_an_abandonment_is_settled,
        queue::fifo_serves_in_the_order_of_arrival,
        queue::fifo_dates_places_back,
        reading::inspect_shows_holders_and_waiters,
        reading::a_fence_is_shared_by_all_sidecars,
        reading::a_good_server_has_no_fatal_finding,
        hammer::exclusive_holds_under_fire,
        hammer::shared_and_exclusive_holds_under_fire,
    );
    pawl_e2e::conformance!(@own start;
        faults::calls_work_again_after_a_pause,
        faults::a_call_that_was_given_up_in_a_pause_never_holds,
    );
}

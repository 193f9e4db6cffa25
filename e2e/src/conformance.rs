//! The conformance suite: what a [`Backend`] must do, tried against a real server with two and more sidecars on it.
//!
//! A backend's test file says how its server is started, and [`conformance!`](macro@crate::conformance) makes one `#[test]`
//! of the same name for each case:
//!
//! ```ignore
//! fn start() -> Arc<dyn Server> { Arc::new(RedisFixture::start()) }
//! pawl_e2e::conformance!(start);
//! ```
//!
//! Cases about faults (a paused, killed or cut-off server) get a server of their own; the others share one in the test
//! process, each in a scope of its own. A case that does not apply to a backend (by its [`Profile`] or [`Traits`])
//! says so on standard error.
//!
//! [`Profile`]: pawl_lock::backend::Profile

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::future::BoxFuture;
use pawl_lock::Backend;
use pawl_sidecar::backend::Scope;

pub use bed::{Bed, Sidecar};

mod bed;
pub mod cases;
pub mod history;

/// A server under test.
pub trait Server: Send + Sync + 'static {
    /// A new sidecar's backend on this server, as it would be after the start of its process: nothing is shared with
    /// the others. May be called from different runtimes.
    fn connect<'a>(&'a self, scope: &'a Scope) -> BoxFuture<'a, Arc<dyn Backend>>;

    /// What the cases need to know beyond the profile.
    fn traits(&self) -> Traits;

    /// Whether a hold ends as soon as its sidecar does, and at its ttl while that lives.
    fn ends_with_sidecar(&self) -> bool {
        false
    }

    /// Stops the server's process in its tracks (SIGSTOP). Called only if [`Traits::can_pause`].
    fn pause(&self) {}

    /// Lets it go on (SIGCONT).
    fn resume(&self) {}

    /// Kills the server (SIGKILL) and starts it again on the same address; back when it answers. Called only if
    /// [`Traits::can_restart`].
    fn restart(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Ends all connections to the server, from its side. Called only if [`Traits::can_cut`].
    fn cut(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// What the cases need to know of a server.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Traits {
    /// Whether a hold that is not renewed ends at its ttl while its sidecar lives. If not, it ends with the sidecar.
    pub holds_expire: bool,
    /// How long after a sidecar died (its backend was dropped) its unrenewed short hold is gone, beyond the ttl.
    pub death_seen_within: Duration,
    /// Whether a place in the queue is dated back by its age.
    pub queue_is_dated: bool,
    /// Whether [`Server::pause`] works.
    pub can_pause: bool,
    /// Whether [`Server::restart`] works.
    pub can_restart: bool,
    /// Whether holds and queues are there after a restart.
    pub survives_restart: bool,
    /// Whether [`Server::cut`] works.
    pub can_cut: bool,
}

/// Where a test gets its server from.
pub enum Stage {
    /// The one that all cases of this test process share.
    Shared(&'static OnceLock<Arc<dyn Server>>),
    /// One of its own.
    Own,
}

/// Runs one case on a server.
///
/// # Panics
/// If the case fails.
pub fn run<F>(stage: &Stage, start: fn() -> Arc<dyn Server>, case: F)
where
    F: AsyncFnOnce(&Bed),
{
    let server = match *stage {
        Stage::Shared(shared) => Arc::clone(shared.get_or_init(start)),
        Stage::Own => start(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let bed = Bed::new(server);
        tokio::time::timeout(Duration::from_mins(1), case(&bed))
            .await
            .expect("a case ends within a minute");
    });
}

/// Makes a `#[test]` of each case of the suite. The argument is a `fn() -> Arc<dyn Server>`.
#[macro_export]
macro_rules! conformance {
    ($start:path) => {
        $crate::conformance!(@shared $start;
            exclusion::exclusive_holds_exclude_each_other,
            exclusion::shared_holds_share_and_exclude_exclusive,
            exclusion::an_exclusive_hold_excludes_shared,
            exclusion::keys_do_not_meet,
            exclusion::scopes_do_not_meet_unless_they_mean_to,
            exclusion::every_allowed_key_can_be_locked,
            expiry::a_hold_that_nobody_renews_ends,
            expiry::renewal_extends_a_hold,
            expiry::a_lost_hold_is_never_renewed,
            expiry::asking_again_extends_a_hold,
            expiry::the_lock_delay_follows_a_loss,
            expiry::no_lock_delay_follows_a_release,
            tokens::asking_again_has_the_same_token,
            tokens::tokens_climb_from_hold_to_hold,
            tokens::tokens_climb_across_sidecars_and_expiry,
            tokens::shared_tokens_are_unique_and_climb,
            ending::release_by_another_id_does_nothing,
            ending::a_second_release_says_so,
            ending::release_takes_the_next_in_the_same_step,
            ending::release_leaves_the_next_in_its_place,
            ending::a_next_attempt_follows_even_a_lost_hold,
            ending::abandon_of_an_unknown_attempt_settles,
            ending::abandon_ends_a_hold,
            ending::abandon_gives_up_a_place,
            ending::nothing_comes_after_an_abandonment_is_settled,
            queue::fifo_serves_in_the_order_of_arrival,
            queue::fifo_dates_places_back,
            queue::fifo_keeps_newcomers_behind_waiters,
            queue::any_lets_newcomers_in,
            queue::a_dead_place_does_not_block,
            queue::a_try_gives_up_the_place,
            queue::shared_waiters_do_not_pass_an_exclusive_one,
            queue::shared_heads_are_served_together,
            events::a_waiter_is_told_its_turn,
            events::shared_waiters_are_told_together,
            events::an_abandoned_place_passes_the_turn_on,
            events::a_holder_is_told_that_it_is_wanted,
            events::calls_tell_the_oldest_waiter,
            reading::inspect_shows_holders_and_waiters,
            reading::renewal_shows_the_new_owner,
            reading::busy_shows_the_holder,
            reading::a_fence_remembers_the_highest,
            reading::a_fence_is_shared_by_all_sidecars,
            reading::a_good_server_has_no_fatal_finding,
            hammer::exclusive_holds_under_fire,
            hammer::shared_and_exclusive_holds_under_fire,
            hammer::waiters_under_fire_are_all_served,
        );
        $crate::conformance!(@own $start;
            faults::tokens_climb_across_a_restart,
            faults::holds_and_a_restart,
            faults::calls_work_again_after_a_pause,
            faults::a_call_that_was_given_up_in_a_pause_never_holds,
            faults::connections_cut_under_fire,
            faults::hints_come_again_after_a_cut,
        );
    };
    (@shared $start:path; $($group:ident::$case:ident),* $(,)?) => {$(
        #[test]
        fn $case() {
            $crate::conformance::run(
                &$crate::conformance::Stage::Shared(&SHARED),
                $start,
                $crate::conformance::cases::$group::$case,
            );
        }
    )*
        static SHARED: std::sync::OnceLock<std::sync::Arc<dyn $crate::conformance::Server>> =
            std::sync::OnceLock::new();
    };
    (@own $start:path; $($group:ident::$case:ident),* $(,)?) => {$(
        #[test]
        fn $case() {
            $crate::conformance::run(
                &$crate::conformance::Stage::Own,
                $start,
                $crate::conformance::cases::$group::$case,
            );
        }
    )*};
}

//! Slots against a reference lock, in a world where requests and answers are lost and late, sidecars sleep, and callers come, leave and
//! forget. At least ten thousand generated cases; a failing one is shrunk, printed, and kept in `world/seeds.txt`.

#![allow(
    missing_docs,
    clippy::too_many_lines,
    clippy::unnecessary_wraps,
    reason = "a test program"
)]

#[path = "world/laws.rs"]
mod laws;
#[path = "world/plan.rs"]
mod plan;
#[path = "world/run.rs"]
mod run;
#[path = "world/server.rs"]
mod server;

use pawl_lock::lease::Order;
use plan::{Do, Fate, terms};
use proptest::{
    prelude::*,
    test_runner::{FailurePersistence, FileFailurePersistence},
};
use run::World;

const SIDECARS: usize = 3;

/// Failing seeds are kept beside this file and run first from then on.
fn seeds() -> Option<Box<dyn FailurePersistence>> {
    Some(Box::new(FileFailurePersistence::Direct(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/world/seeds.txt"
    ))))
}

fn acquire(shared: f64) -> impl Strategy<Value = Do> {
    let times = (
        200_u64..4_000,
        prop_oneof![Just(0_u64), 1_u64..5_000],
        300_u64..20_000,
    );
    (
        0..SIDECARS,
        prop::bool::weighted(shared),
        prop::bool::weighted(0.3),
        times,
    )
        .prop_map(
            |(sidecar, shared, manual, (ttl_ms, wait_ms, max_hold_ms))| Do::Acquire {
                sidecar,
                shared,
                ttl_ms,
                wait_ms,
                manual,
                max_hold_ms,
            },
        )
}

fn ordinary(shared: f64) -> impl Strategy<Value = Do> {
    prop_oneof![
        5 => acquire(shared),
        4 => (any::<usize>(), any::<bool>()).prop_map(|(pick, confirm)| Do::Release { pick, confirm }),
        1 => any::<usize>().prop_map(|pick| Do::Cancel { pick }),
        1 => (any::<usize>(), prop::option::of(200_u64..4_000)).prop_map(|(pick, ttl_ms)| Do::Renew { pick, ttl_ms }),
    ]
}

fn fault() -> impl Strategy<Value = Do> {
    let fate = prop_oneof![
        Just(Fate::RequestLost),
        Just(Fate::AnswerLost),
        (100_u64..3_000).prop_map(Fate::RequestLate),
        (100_u64..3_000).prop_map(Fate::AnswerLate),
        Just(Fate::Refused),
    ];
    prop_oneof![
        6 => (0..SIDECARS, fate).prop_map(|(sidecar, fate)| Do::Fate { sidecar, fate }),
        2 => (0..SIDECARS, 10_u64..6_000).prop_map(|(sidecar, ms)| Do::Pause { sidecar, ms }),
        1 => any::<usize>().prop_map(|pick| Do::Revoke { pick }),
        1 => (0..SIDECARS).prop_map(|sidecar| Do::Drain { sidecar }),
    ]
}

fn plan(what: impl Strategy<Value = Do>) -> impl Strategy<Value = Vec<(u64, Do)>> {
    let pace = prop_oneof![4 => 0_u64..60, 1 => 60_u64..1_500];
    prop::collection::vec((pace, what), 1..60)
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![Just(Order::Fifo), Just(Order::Any)]
}

fn delays() -> impl Strategy<Value = (u64, u64)> {
    (
        prop_oneof![3 => Just(0_u64), 1 => 1_u64..1_000],
        prop_oneof![Just(0_u64), 1_u64..2_000],
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8_000, failure_persistence: seeds(), ..ProptestConfig::default() })]

    #[test]
    fn holds_the_laws_whatever_fails(
        plan in plan(prop_oneof![3 => ordinary(0.3), 1 => fault()]),
        order in order(),
        (lock_delay, retain) in delays(),
    ) {
        World::new(SIDECARS, terms(order, lock_delay, retain)).play(plan);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: seeds(), ..ProptestConfig::default() })]

    #[test]
    fn serves_in_order_when_nothing_fails(plan in plan(ordinary(0.0)), order in order(), (_, retain) in delays()) {
        let mut world = World::new(SIDECARS, terms(order, 0, retain));
        world.play(plan);
        prop_assert_eq!(world.unknowns, 0, "no call times out in a world without faults");
    }
}

//! The election against an API server in memory, in paused time.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use http::Method;
use pawl_kit::{clock::ClockHand, drain::Drain};
use serde_json::{Value, json};

use super::*;
use crate::fixtures::{Call, FakeApi, Mood, in_step};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/pawl-system/leases/pawl-operator";
const STEP: Duration = Duration::from_millis(10);

/// One replica, what it lives in, and what became of it.
struct Scene {
    api: FakeApi,
    clock: Clock,
    hand: ClockHand,
    drain: Drain,
    identity: String,
    leadership: Leadership,
    gauge: IntGauge,
    works: Cell<bool>,
    /// Who held the Lease each time that the work was dropped.
    ends: RefCell<Vec<Value>>,
    is_over: Cell<bool>,
}

impl Scene {
    async fn pass(&self, seconds: f64) {
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    }

    /// Whether it leads, which all who could tell agree on.
    fn leads(&self) -> bool {
        let leads = self.leadership.is_leading();
        assert_eq!((self.gauge.get() == 1, self.works.get()), (leads, leads));
        leads
    }

    fn holder(&self) -> Value {
        let lease = self.api.get(LEASE).unwrap_or_default();
        lease["spec"]["holderIdentity"].clone()
    }

    fn spec(&self) -> Value {
        self.api.get(LEASE).unwrap()["spec"].clone()
    }

    /// Waits until it does not lead any more; how long after `since` that was.
    async fn end(&self, since: Instant) -> Duration {
        while self.leadership.is_leading() {
            tokio::time::sleep(STEP).await;
        }
        self.clock.now().saturating_since(since)
    }
}

/// Work that tells when it is dropped.
struct Working(Rc<Scene>);

impl Working {
    async fn begin(scene: Rc<Scene>) {
        scene.works.set(true);
        let _working = Self(scene);
        std::future::pending::<()>().await;
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.works.set(false);
        self.0.ends.borrow_mut().push(self.0.holder());
    }
}

/// Lets a replica take part in a world with this Lease, until the story is told.
async fn play<F: Future<Output = ()>>(lease: Option<Value>, story: impl FnOnce(Rc<Scene>) -> F) {
    let (clock, hand) = Clock::manual();
    let (api, client, serving) = FakeApi::new(clock.clone());
    if let Some(lease) = lease {
        api.put(LEASE, lease);
    }
    let gauge = IntGauge::new("leader", "leader").unwrap();
    let election = Election::new(client, config(&clock, &gauge));
    let scene = Rc::new(Scene {
        api,
        clock,
        hand,
        drain: Drain::new(),
        identity: election.identity.clone(),
        leadership: election.leadership(),
        gauge,
        works: Cell::default(),
        ends: RefCell::default(),
        is_over: Cell::default(),
    });
    let signal = scene.drain.signal();
    let run = async {
        election
            .run(signal, || Working::begin(Rc::clone(&scene)))
            .await;
        scene.is_over.set(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = run => {}
        _ = async { tokio::join!(serving, in_step(&scene.hand, STEP)) } => {}
        () = story(Rc::clone(&scene)) => {}
    }
}

fn config(clock: &Clock, gauge: &IntGauge) -> Config {
    Config {
        namespace: "pawl-system".to_owned(),
        name: "pawl-operator".to_owned(),
        replica: "pawl-operator-a".to_owned(),
        clock: clock.clone(),
        gauge: gauge.clone(),
    }
}

/// Held by another replica, whose clock is years behind.
fn held_by(holder: &str) -> Value {
    json!({"spec": {
        "holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 3,
        "acquireTime": "2020-01-01T00:00:00.000000Z", "renewTime": "2020-01-01T00:00:00.000000Z",
    }})
}

fn only(calls: Vec<Call>) -> Call {
    assert_eq!(calls.len(), 1, "{calls:#?}");
    calls.into_iter().next().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_not_there_is_made() {
    play(None, |scene| async move {
        scene.pass(0.5).await;
        assert!(scene.leads());
        let made = only(scene.api.writes());
        assert_eq!((made.method, made.code), (Method::POST, 200));
        assert_eq!(
            Some(made.path.as_str()),
            LEASE.strip_suffix("/pawl-operator")
        );
        let now = "2026-01-01T00:00:00.000000Z";
        assert_eq!(
            scene.spec(),
            json!({
                "holderIdentity": scene.identity, "leaseDurationSeconds": 15, "leaseTransitions": 0,
                "acquireTime": now, "renewTime": now,
            })
        );
    })
    .await;
}

#[test]
fn a_process_that_begins_again_is_not_taken_for_the_one_before() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    let _entered = runtime.enter();
    let (clock, gauge) = (Clock::manual().0, IntGauge::new("leader", "l").unwrap());
    let (_, client, _) = FakeApi::new(clock.clone());
    let one = Election::new(client.clone(), config(&clock, &gauge));
    let other = Election::new(client, config(&clock, &gauge));
    assert!(one.identity.starts_with("pawl-operator-a_"));
    assert_ne!(one.identity, other.identity);
}

#[tokio::test(start_paused = true)]
async fn another_holder_is_over_when_it_was_seen_unchanged_whatever_its_times_say() {
    play(Some(held_by("other")), |scene| async move {
        scene.pass(14.9).await;
        assert!(!scene.leads());
        assert_eq!(scene.api.writes().len(), 0);
        assert_eq!(scene.leadership.check(), Err(NotLeading));
        scene.pass(2.2).await;
        assert!(scene.leads());
        let taken = only(scene.api.writes());
        assert_eq!((taken.method, taken.code), (Method::PUT, 200));
        assert_eq!(taken.body["metadata"]["resourceVersion"], "1");
        let spec = scene.spec();
        assert_eq!(spec["holderIdentity"], json!(scene.identity));
        assert_eq!(
            (&spec["leaseTransitions"], &spec["leaseDurationSeconds"]),
            (&json!(4), &json!(15))
        );
        assert_eq!(spec["acquireTime"], spec["renewTime"]);
        let written = spec["renewTime"].as_str().unwrap();
        assert!(written.starts_with("2026-01-01T00:00:1"), "{written}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_another_program_wrote_is_written_whole_when_it_is_taken() {
    let strange = json!({"spec": {"leaseDurationSeconds": 3600, "leaseTransitions": 7}});
    play(Some(strange), |scene| async move {
        scene.pass(0.5).await;
        assert!(scene.leads());
        let spec = scene.spec();
        assert_eq!(
            (&spec["leaseTransitions"], &spec["leaseDurationSeconds"]),
            (&json!(8), &json!(15))
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_renews_is_never_robbed() {
    play(Some(held_by("other")), |scene| async move {
        for minute in 0..12 {
            scene.pass(5.0).await;
            let renewed = format!("2020-01-01T00:{minute:02}:05.000000Z");
            let patch = json!({"spec": {"renewTime": renewed}});
            scene.api.patch(LEASE, &patch);
        }
        assert!(!scene.leads());
        let calls = scene.api.calls();
        assert!(calls.iter().all(|call| call.method == Method::GET));
        assert!((30..=61).contains(&calls.len()), "{} looks", calls.len());
        // One that lets it go is succeeded at once.
        scene
            .api
            .patch(LEASE, &json!({"spec": {"holderIdentity": ""}}));
        scene.pass(2.1).await;
        assert!(scene.leads());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_is_slower_follows() {
    play(None, |scene| async move {
        // At the making, and at the taking from one that is over.
        scene.api.outrun(LEASE, held_by("first"));
        scene.pass(0.5).await;
        assert!(!scene.leads());
        assert_eq!(only(scene.api.writes()).code, 409);
        scene.api.outrun(LEASE, held_by("second"));
        scene.pass(18.0).await;
        assert!(!scene.leads());
        assert_eq!(only(scene.api.writes()).code, 409);
        assert_eq!(scene.holder(), "second");
        scene.pass(12.0).await;
        assert!(!scene.leads());
        assert_eq!(scene.api.writes().len(), 0);
        scene.pass(8.0).await;
        assert!(scene.leads());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_candidate_stands_through_errors() {
    play(None, |scene| async move {
        for trouble in [Mood::Refuses(500), Mood::Silent] {
            scene.api.mood(trouble);
            scene.pass(10.0).await;
            assert!(!scene.leads());
        }
        scene.api.mood(Mood::Well);
        scene.pass(5.1).await;
        assert!(scene.leads());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_renews_every_five_seconds() {
    play(None, |scene| async move {
        scene.pass(61.0).await;
        assert!(scene.leads());
        let writes = scene.api.writes();
        assert_eq!(writes.len(), 13);
        assert!(writes.iter().all(|call| call.code == 200));
        for pair in writes.windows(2) {
            let pause = pair[1].at.saturating_since(pair[0].at);
            assert!(pause.abs_diff(RENEW) <= 2 * STEP, "{pause:?}");
            let (before, after) = (&pair[0].body["spec"], &pair[1].body["spec"]);
            // What others look at: an object that stands unchanged has no holder.
            assert!(before["renewTime"].as_str() < after["renewTime"].as_str());
            for kept in ["holderIdentity", "acquireTime", "leaseTransitions"] {
                assert_eq!(before[kept], after[kept]);
            }
        }
        assert!(scene.ends.borrow().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_steps_down_in_time() {
    play(None, |scene| async move {
        scene.pass(7.0).await;
        let sent = scene.api.writes().last().unwrap().at;
        scene.api.mood(Mood::Refuses(500));
        let after = scene.end(sent).await;
        assert!(after.abs_diff(BELIEF) <= 2 * STEP, "{after:?}");
        scene.pass(0.03).await;
        assert!(!scene.leads());
        let tries = scene.api.writes();
        assert!((5..=10).contains(&tries.len()), "{tries:#?}");
        // The Lease is its own still, so it is taken up when that can be done.
        scene.pass(10.0).await;
        assert!(!scene.leads());
        scene.api.mood(Mood::Well);
        scene.pass(2.1).await;
        assert!(scene.leads());
        assert_eq!(scene.spec()["leaseTransitions"], 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_once_is_made_up_for() {
    play(None, |scene| async move {
        scene.pass(9.0).await;
        scene.api.mood(Mood::Refuses(500));
        scene.pass(2.0).await;
        scene.api.mood(Mood::Well);
        scene.api.calls();
        scene.pass(30.0).await;
        assert!(scene.leads() && scene.ends.borrow().is_empty());
        let renewals = scene.api.writes().len();
        assert!((5..=8).contains(&renewals), "{renewals} renewals");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_term_counts_from_before_the_write_was_sent() {
    let way = Duration::from_millis(2_800);
    play(None, |scene| async move {
        scene.api.mood(Mood::Slow(way));
        scene.pass(6.0).await;
        assert!(scene.leads());
        let made = only(scene.api.writes()).at;
        scene.api.mood(Mood::Refuses(500));
        // The server has it half-way.
        let after = scene.end(made).await + way / 2;
        assert!(after.abs_diff(BELIEF) <= 2 * STEP, "{after:?}");

        // The same of a renewal.
        scene.api.mood(Mood::Well);
        scene.pass(2.1).await;
        scene.api.mood(Mood::Slow(way));
        scene.api.calls();
        scene.pass(8.5).await;
        assert!(scene.leads());
        let renewed = only(scene.api.writes()).at;
        scene.api.mood(Mood::Refuses(500));
        let after = scene.end(renewed).await + way / 2;
        assert!(after.abs_diff(BELIEF) <= 2 * STEP, "{after:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_answers_writes_nothing_that_could_be_late() {
    play(None, |scene| async move {
        scene.pass(9.0).await;
        let sent = scene.api.writes().last().unwrap().at;
        scene.api.mood(Mood::Silent);
        while scene.leadership.check().is_ok() {
            scene.pass(0.01).await;
        }
        let after = scene.clock.now().saturating_since(sent);
        assert!(after <= BELIEF.saturating_sub(CALL) + 2 * STEP, "{after:?}");
        scene.end(sent).await;
        // What it waits for takes a call's time at most.
        scene.pass(CALL.as_secs_f64()).await;
        assert!(!scene.leads());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_lost_costs_no_term() {
    play(None, |scene| async move {
        scene.pass(9.0).await;
        scene.api.mood(Mood::Lossy);
        scene.pass(2.0).await;
        scene.api.mood(Mood::Well);
        scene.pass(20.0).await;
        assert!(scene.leads() && scene.ends.borrow().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_label_that_somebody_adds_costs_no_term() {
    play(None, |scene| async move {
        scene.pass(6.0).await;
        let label = json!({"metadata": {"labels": {"team": "a"}}});
        scene.api.patch(LEASE, &label);
        scene.pass(20.0).await;
        assert!(scene.leads() && scene.ends.borrow().is_empty());
        let lease = scene.api.get(LEASE).unwrap();
        assert_eq!(lease["metadata"]["labels"]["team"], "a");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_deposed_leaves_the_lease_to_its_successor() {
    play(None, |scene| async move {
        scene.pass(6.0).await;
        scene.api.put(LEASE, held_by("other"));
        scene.api.calls();
        scene.pass(4.1).await;
        assert!(!scene.leads());
        assert_eq!(only(scene.api.writes()).code, 409);
        assert_eq!(*scene.ends.borrow(), [json!("other")]);
        scene.pass(10.0).await;
        assert_eq!(scene.api.writes().len(), 0);
        assert_eq!(scene.holder(), "other");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_deleted_ends_the_term_and_is_made_anew() {
    play(None, |scene| async move {
        scene.pass(6.0).await;
        scene.api.delete(LEASE);
        scene.api.calls();
        scene.pass(4.1).await;
        assert_eq!(*scene.ends.borrow(), [Value::Null]);
        scene.pass(2.1).await;
        assert!(scene.leads());
        let writes = scene.api.writes();
        let codes: Vec<_> = writes.iter().map(|call| call.code).collect();
        assert_eq!(codes[..2], [404, 200]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_asks_before_it_writes() {
    play(None, |scene| async move {
        scene.pass(6.0).await;
        scene.api.calls();
        scene.hand.advance(Duration::from_secs(20));
        assert_eq!(scene.leadership.check(), Err(NotLeading));
        scene.pass(0.05).await;
        assert_eq!(scene.ends.borrow().len(), 1);
        assert_eq!(scene.api.calls()[0].method, Method::GET);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn at_the_drain_the_work_ends_first_and_then_the_lease_is_let_go() {
    play(None, |scene| async move {
        scene.pass(6.0).await;
        let before = scene.spec();
        scene.api.calls();
        scene.drain.start();
        scene.pass(0.05).await;
        assert!(scene.is_over.get() && !scene.leads());
        assert_eq!(*scene.ends.borrow(), [json!(scene.identity)]);
        assert_eq!(only(scene.api.writes()).code, 200);
        let after = scene.spec();
        assert_eq!(
            (&after["holderIdentity"], &after["leaseDurationSeconds"]),
            (&json!(""), &json!(1))
        );
        assert_eq!(after["leaseTransitions"], before["leaseTransitions"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_drains_writes_nothing() {
    play(Some(held_by("other")), |scene| async move {
        scene.pass(6.0).await;
        scene.drain.start();
        scene.pass(0.05).await;
        assert!(scene.is_over.get());
        scene.pass(30.0).await;
        assert_eq!(scene.api.writes().len(), 0);
    })
    .await;
}

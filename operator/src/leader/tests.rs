use k8s_openapi::api::coordination::v1::LeaseSpec;
use proptest::prelude::*;

use super::*;

mod election;

fn lease(holder: &str, renewals: i32) -> Lease {
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        lease_transitions: Some(renewals),
        ..LeaseSpec::default()
    };
    Lease {
        metadata: ObjectMeta::default(),
        spec: Some(spec),
    }
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos((1_000 + seconds) * 1_000_000_000)
}

#[test]
fn what_nobody_holds_is_taken_at_once() {
    let mut sighting = Sighting::default();
    assert_eq!(sighting.judge(None, "me", at(0)), Move::Create);
    assert_eq!(sighting.judge(Some(&lease("", 0)), "me", at(0)), Move::Take);
    assert_eq!(
        sighting.judge(Some(&Lease::default()), "me", at(0)),
        Move::Take
    );
}

#[test]
fn a_write_of_ours_without_an_answer_is_taken_up() {
    let mut sighting = Sighting::default();
    assert_eq!(
        sighting.judge(Some(&lease("me", 0)), "me", at(0)),
        Move::Take
    );
}

#[test]
fn a_holder_is_over_when_it_was_seen_unchanged_for_its_time() {
    let mut sighting = Sighting::default();
    let held = lease("other", 0);
    assert_eq!(sighting.judge(Some(&held), "me", at(0)), Move::Wait);
    assert_eq!(sighting.judge(Some(&held), "me", at(14)), Move::Wait);
    assert_eq!(sighting.judge(Some(&held), "me", at(15)), Move::Take);
    // A renewal begins it anew, however old the time is that was written.
    let renewed = lease("other", 1);
    assert_eq!(sighting.judge(Some(&renewed), "me", at(16)), Move::Wait);
    assert_eq!(sighting.judge(Some(&renewed), "me", at(30)), Move::Wait);
    assert_eq!(sighting.judge(Some(&renewed), "me", at(31)), Move::Take);
}

#[test]
fn a_shorter_or_senseless_duration_of_another_program_is_not_believed() {
    for written in [Some(-1), Some(0), Some(1), None] {
        let mut held = lease("other", 0);
        held.spec.as_mut().unwrap().lease_duration_seconds = written;
        let mut sighting = Sighting::default();
        assert_eq!(sighting.judge(Some(&held), "me", at(0)), Move::Wait);
        assert_eq!(sighting.judge(Some(&held), "me", at(14)), Move::Wait);
    }
    let mut held = lease("other", 0);
    held.spec.as_mut().unwrap().lease_duration_seconds = Some(i32::MAX);
    let mut sighting = Sighting::default();
    assert_eq!(sighting.judge(Some(&held), "me", at(0)), Move::Wait);
    assert_eq!(sighting.judge(Some(&held), "me", at(600)), Move::Take);
}

#[test]
fn a_leader_writes_only_while_a_call_fits_before_its_deadline() {
    let (clock, hand) = Clock::manual();
    let leadership = Leadership::new(clock.clone());
    assert_eq!(leadership.check(), Err(NotLeading));
    assert!(!leadership.is_leading());
    leadership.renewed(clock.now());
    assert_eq!(leadership.check(), Ok(()));
    hand.advance(BELIEF.saturating_sub(CALL + Duration::from_millis(1)));
    assert_eq!(leadership.check(), Ok(()));
    hand.advance(Duration::from_millis(1));
    assert_eq!(leadership.check(), Err(NotLeading));
    assert!(leadership.is_leading());
    hand.advance(CALL);
    assert!(!leadership.is_leading());
    leadership.renewed(clock.now());
    leadership.end();
    assert_eq!(leadership.check(), Err(NotLeading));
}

proptest! {
    /// Two replicas, each with a clock that started elsewhere; the follower's looks and the leader's renewals come at
    /// any time, and answers take any time. The follower never takes what the leader still believes in.
    #[test]
    fn nobody_takes_over_from_a_leader_that_may_still_write(
        offset in 0u64..1_000_000,
        steps in proptest::collection::vec((0u64..9_000, any::<bool>(), 0u64..4_000), 1..60),
    ) {
        let follower_clock = |nanos: u64| Instant::from_nanos(nanos + offset * 1_000_000);
        let (clock, hand) = Clock::manual();
        let leader = Leadership::new(clock.clone());
        let mut renewals = 0;
        leader.renewed(clock.now());
        let mut stored = lease("leader", renewals);
        let mut sighting = Sighting::default();
        for (pause, renew, way) in steps {
            hand.advance(Duration::from_millis(pause));
            if renew && leader.is_leading() {
                let sent = clock.now();
                hand.advance(Duration::from_millis(way));
                renewals += 1;
                stored = lease("leader", renewals);
                leader.renewed(sent);
            } else {
                let now = follower_clock(clock.now().as_nanos());
                if sighting.judge(Some(&stored), "follower", now) == Move::Take {
                    prop_assert!(!leader.is_leading());
                    break;
                }
            }
        }
    }
}

#[test]
fn a_holder_is_over_before_anybody_else_can_think_so() {
    assert_eq!(BELIEF, DURATION.mul_f64(0.99));
    assert!(RENEW + CALL + RETRY + CALL < BELIEF, "one renewal may fail");
}

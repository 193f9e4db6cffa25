//! Single stories of a slot, each a rule that a random world shows only by its time.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test program"
)]

#[path = "slot/story.rs"]
mod story;

use std::{sync::Arc, time::Duration};

use pawl_lock::{
    BackendError, BackendToken, Instant, LossReason,
    backend::{Abandoned, Acquired, Busy, Granted, Released, Renewed},
    lease::{LeaseRef, LeaseState, Mode, Order, Renew},
    slot::{Action, Answer, Backoff, Call, Event, LeaseChange, Refusal, Terms},
};

use story::{Story, granted, wanted};

#[test]
fn the_deadline_counts_from_before_the_call() {
    let mut story = Story::new(Order::Fifo);
    story.acquire(Mode::Exclusive, 0, Renew::Manual);
    let (call, _) = story.call();
    let asked = story.now;
    story.after(1_500).answer(call, granted(7, None));
    let grant = story.grant();
    assert_eq!(
        grant.deadline.instant().saturating_since(asked),
        Duration::from_millis(9_898)
    );
}

#[test]
fn a_retained_hold_serves_again_without_the_backend_and_tokens_climb() {
    let (mut story, lease) = Story::held(7);
    story.release(lease).after(10);
    for n in 1..20 {
        story.acquire(Mode::Exclusive, 0, Renew::Auto);
        story.no_call();
        let grant = story.grant();
        assert_eq!(grant.token.get(), 7 * 1024 + n);
        story.release(grant.lease).after(10);
    }
    story.after(1_000).on(Event::Tick);
    assert!(matches!(story.call().1, Call::Release(_)), "retention ends");
}

#[test]
fn holds_whose_retention_ends_close_to_each_other_go_together() {
    // 1.001 s to 1.007 s after boot, and a second: all before 2.008 s, which is a whole number of 8 ms.
    for idle_since in 1..8 {
        let (mut story, lease) = Story::held(7);
        story.after(idle_since).release(lease);
        story
            .after(1_008 - idle_since - 1)
            .on(Event::Tick)
            .no_call();
        story.after(1).on(Event::Tick);
        assert!(matches!(story.call().1, Call::Release(_)), "{idle_since}");
    }
}

#[test]
fn a_retained_hold_goes_at_once_when_it_is_wanted_elsewhere() {
    let (mut story, lease) = Story::held(7);
    story.release(lease).no_call();
    story.on(Event::Wanted(wanted(5)));
    assert!(matches!(story.call().1, Call::Release(request) if request.next.is_none()));
}

#[test]
fn a_hold_that_is_used_up_is_taken_anew() {
    let (mut story, mut lease) = Story::held(7);
    for _ in 1..1024 {
        story.release(lease);
        story.acquire(Mode::Exclusive, 0, Renew::Auto);
        lease = story.grant().lease;
    }
    story.release(lease);
    story.acquire(Mode::Exclusive, 0, Renew::Auto);
    let (call, what) = story.call();
    assert!(matches!(what, Call::Release(request) if request.next.is_some()));
    let token = BackendToken::try_new(9).unwrap();
    let next = Some(Acquired::Granted(Granted {
        token,
        session: 0,
        wanted: None,
    }));
    story.answer(
        call,
        Answer::Release(Ok(Released {
            was_owner: true,
            next,
        })),
    );
    assert_eq!(story.grant().token.get(), 9 * 1024);
}

#[test]
fn a_pause_beyond_the_deadline_is_answered_with_lost_whatever_comes_first() {
    for event in [
        Event::Tick,
        Event::Touch(LeaseRef(1)),
        Event::Turn,
        Event::Wanted(wanted(0)),
    ] {
        let (mut story, lease) = Story::held(7);
        assert_eq!(
            story.slot.lease(story.now, lease).unwrap().state,
            LeaseState::Held
        );
        story.after(9_898);
        let state = story.slot.lease(story.now, lease).unwrap().state;
        assert_eq!(
            state,
            LeaseState::Lost(LossReason::Expired),
            "computed, before any event"
        );
        story.on(event);
        let first = &story.actions[0];
        assert!(
            matches!(
                first,
                Action::Lease {
                    change: LeaseChange::Lost(LossReason::Expired),
                    ..
                }
            ),
            "{first:?}"
        );
        assert_eq!(story.slot.lease(story.now, lease), None);
    }
}

#[test]
fn a_hold_that_was_lost_is_given_back_so_that_a_late_renewal_blocks_nobody() {
    let (mut story, _) = Story::held(7);
    story.after(3_400).on(Event::Tick);
    let (renewal, _) = story.call();
    story
        .after(2_000)
        .answer(renewal, Answer::Renew(Err(BackendError::timeout())));
    let again = story.after(2_000).on(Event::Tick).call();
    story
        .after(4_000)
        .answer(again.0, Answer::Renew(Err(BackendError::timeout())));
    let (call, what) = story.call();
    assert!(matches!(what, Call::Abandon(_)), "{what:?}");
    story.answer(call, Answer::Abandon(Ok(Abandoned::Settled)));
    assert!(story.slot.is_idle());
}

#[test]
fn an_unknown_acquire_is_no_grant_and_is_taken_back() {
    let mut story = Story::new(Order::Fifo);
    story.acquire(Mode::Exclusive, 0, Renew::Auto);
    let (call, Call::Acquire(asked)) = story.call() else {
        panic!("an acquire")
    };
    story
        .after(2_000)
        .answer(call, Answer::Acquire(Err(BackendError::timeout())));
    assert!(matches!(
        story.actions[0],
        Action::Refuse {
            refusal: Refusal::Backend(_),
            ..
        }
    ));
    let (call, Call::Abandon(abandoned)) = story.call() else {
        panic!("an abandonment")
    };
    assert_eq!(abandoned.hold, asked.hold);
    // Until the backend is sure of it, again and again, half a second apart at the most.
    story.answer(call, Answer::Abandon(Err(BackendError::timeout())));
    story.no_call();
    let (call, _) = story.after(450).on(Event::Tick).call();
    story.answer(call, Answer::Abandon(Ok(Abandoned::Unsettled)));
    assert!(!story.slot.is_idle());
    let (call, _) = story.after(450).on(Event::Tick).call();
    story.answer(call, Answer::Abandon(Ok(Abandoned::Settled)));
    assert!(story.slot.is_idle());
}

#[test]
fn an_unknown_acquire_is_read_back_under_the_same_id_while_somebody_waits() {
    let mut story = Story::new(Order::Fifo);
    story.acquire(Mode::Exclusive, 30_000, Renew::Auto);
    let (call, Call::Acquire(first)) = story.call() else {
        panic!("an acquire")
    };
    story
        .after(2_000)
        .answer(call, Answer::Acquire(Err(BackendError::timeout())));
    let (call, Call::Acquire(second)) = story.after(60).on(Event::Tick).call() else {
        panic!("an acquire")
    };
    assert_eq!(first.hold, second.hold);
    let asked = story.now;
    story.after(5).answer(call, granted(7, None));
    let deadline = story.grant().deadline.instant();
    assert!(deadline <= asked.saturating_add(Duration::from_millis(9_898)));
}

#[test]
fn a_hold_whose_first_acquire_was_never_answered_is_abandoned_at_its_end() {
    let mut story = Story::new(Order::Fifo);
    story.acquire(Mode::Exclusive, 30_000, Renew::Auto);
    let (call, Call::Acquire(asked)) = story.call() else {
        panic!("an acquire")
    };
    story
        .after(2_000)
        .answer(call, Answer::Acquire(Err(BackendError::timeout())));
    let (call, _) = story.after(60).on(Event::Tick).call();
    story.after(5).answer(call, granted(7, None));
    let lease = story.grant().lease;
    // The first may still arrive: it would take the key for nobody after a release.
    story.release(lease).after(1_008).on(Event::Tick);
    assert!(
        matches!(story.call().1, Call::Abandon(abandoned) if abandoned.hold == asked.hold),
        "a release would let the late call in"
    );
}

#[test]
fn those_who_wait_here_for_a_hold_that_is_lost_take_a_place_before_others_are_told() {
    let mut story = Story::new(Order::Fifo);
    story.acquire(Mode::Exclusive, 0, Renew::Manual);
    let (call, _) = story.call();
    story.answer(call, granted(7, None));
    story.grant();
    story
        .after(1_000)
        .acquire(Mode::Exclusive, 60_000, Renew::Auto);
    story.after(8_898).on(Event::Tick);
    let Call::Release(release) = story.call().1 else {
        panic!("a release")
    };
    let place = release.next.and_then(|next| next.place).expect("a place");
    assert_eq!(place.age, Duration::from_millis(8_898));
}

#[test]
fn a_hold_that_is_about_to_end_is_let_go_with_the_next_attempt_instead_of_renewed_too_late() {
    let mut story = Story::new(Order::Fifo);
    story.acquire(Mode::Exclusive, 0, Renew::Manual);
    let (call, _) = story.call();
    story.answer(call, granted(7, None));
    let lease = story.grant().lease;
    story
        .after(1_000)
        .acquire(Mode::Exclusive, 60_000, Renew::Auto);
    // 98 ms of the hold are left: an answer to a renewal might come too late, and the waiter's place with it.
    story.after(8_800).release(lease);
    let Call::Release(release) = story.call().1 else {
        panic!("a release")
    };
    let place = release.next.and_then(|next| next.place).expect("a place");
    assert_eq!(place.age, Duration::from_millis(8_800));
}

#[test]
fn those_behind_one_whose_patience_ends_now_take_their_place_with_its_call() {
    let (mut story, lease) = Story::held(7);
    story.acquire(Mode::Exclusive, 500, Renew::Auto);
    story.on(Event::Wanted(wanted(0)));
    story
        .after(100)
        .acquire(Mode::Exclusive, 60_000, Renew::Auto);
    // The first one's patience is over at the very instant at which the hold goes to the one that waits elsewhere.
    story.on(Event::Wanted(wanted(200)));
    story.after(400).release(lease);
    let Call::Release(release) = story.call().1 else {
        panic!("a release")
    };
    let place = release.next.and_then(|next| next.place).expect("a place");
    assert_eq!(
        place.age,
        Duration::from_millis(400),
        "its own age, not that of the one that leaves"
    );
}

#[test]
fn a_waiter_that_left_holds_nothing_and_the_hold_goes_back_at_once() {
    let mut story = Story::new(Order::Fifo);
    let waiter = story.acquire(Mode::Exclusive, 5_000, Renew::Auto);
    let (call, _) = story.call();
    story.on(Event::Cancel(waiter)).no_call();
    story.after(3).answer(call, granted(7, None));
    assert!(
        !story
            .actions
            .iter()
            .any(|action| matches!(action, Action::Grant { .. }))
    );
    assert!(
        matches!(story.call().1, Call::Release(_)),
        "not retained: nobody here used it"
    );
}

#[test]
fn a_waiter_that_left_the_queue_gives_up_its_place() {
    let mut story = Story::new(Order::Fifo);
    let waiter = story.acquire(Mode::Exclusive, 5_000, Renew::Auto);
    let (call, _) = story.call();
    story.answer(call, Answer::Acquire(Ok(Acquired::Busy(Busy::default()))));
    story.on(Event::Cancel(waiter));
    assert!(matches!(story.call().1, Call::Abandon(_)));
}

#[test]
fn local_waiters_may_pass_a_remote_one_sixteen_times_under_any() {
    let mut story = Story::new(Order::Any);
    story.acquire(Mode::Exclusive, 0, Renew::Auto);
    let (call, _) = story.call();
    story.answer(call, granted(7, None));
    let mut lease = story.grant().lease;
    story.after(1).on(Event::Wanted(wanted(0)));
    for _ in 0..100 {
        story.acquire(Mode::Exclusive, 60_000, Renew::Auto);
    }
    let mut passed = 0;
    loop {
        story.release(lease);
        if story
            .actions
            .iter()
            .any(|action| matches!(action, Action::Call { .. }))
        {
            break;
        }
        lease = story.grant().lease;
        passed += 1;
    }
    assert_eq!(passed, 16);
    let (_, Call::Release(request)) = story.call() else {
        panic!("a release")
    };
    let order = request.next.map(|next| next.order);
    assert_eq!(
        order,
        Some(Order::Fifo),
        "the next attempt gives way, or the bound were none"
    );
}

#[test]
fn a_grant_of_a_session_that_ended_meanwhile_is_none() {
    let mut story = Story::new(Order::Fifo);
    story.acquire(Mode::Exclusive, 5_000, Renew::Auto);
    let (call, _) = story.call();
    story.on(Event::SessionLost { session: 4 });
    let granted = Granted {
        token: BackendToken::MIN,
        session: 4,
        wanted: None,
    };
    story.answer(call, Answer::Acquire(Ok(Acquired::Granted(granted))));
    let is_grant = |action: &Action| matches!(action, Action::Grant { .. });
    assert!(!story.actions.iter().any(is_grant), "{:?}", story.actions);
    assert!(matches!(story.call().1, Call::Abandon(_)));
}

#[test]
fn under_fifo_an_older_remote_waiter_comes_first_and_a_younger_one_does_not() {
    let (mut story, lease) = Story::held(7);
    story.after(100);
    story.acquire(Mode::Exclusive, 60_000, Renew::Auto);
    story
        .after(100)
        .on(Event::Wanted(wanted(50)))
        .release(lease);
    let lease = story.grant().lease;
    story.acquire(Mode::Exclusive, 60_000, Renew::Auto);
    story.on(Event::Wanted(wanted(300))).release(lease);
    let (_, Call::Release(request)) = story.call() else {
        panic!("a release")
    };
    let place = request.next.and_then(|next| next.place).unwrap();
    assert_eq!(place.age, Duration::ZERO, "dated by its own arrival");
}

#[test]
fn a_renewal_that_says_not_owner_loses_the_lease() {
    let (mut story, lease) = Story::held(7);
    let (call, _) = story.after(3_400).on(Event::Tick).call();
    story.answer(call, Answer::Renew(Ok(Renewed::NotOwner)));
    assert!(story.actions.iter().any(|action| matches!(
        action,
        Action::Lease { change: LeaseChange::Lost(LossReason::NotOwner), lease: lost } if *lost == lease
    )));
    assert!(story.slot.is_idle());
}

#[test]
fn a_silent_backend_makes_a_lease_uncertain_and_an_answer_makes_it_held() {
    let (mut story, lease) = Story::held(7);
    let (call, _) = story.after(3_400).on(Event::Tick).call();
    story
        .after(2_000)
        .answer(call, Answer::Renew(Err(BackendError::timeout())));
    assert_eq!(
        story.slot.lease(story.now, lease).unwrap().state,
        LeaseState::Uncertain
    );
    let (call, _) = story.after(1_700).on(Event::Tick).call();
    let asked = story.now;
    story.answer(call, Answer::Renew(Ok(Renewed::Extended { wanted: None })));
    let view = story.slot.lease(story.now, lease).unwrap();
    assert_eq!(view.state, LeaseState::Held);
    assert!(view.deadline.instant() <= asked.saturating_add(Duration::from_millis(9_898)));
}

#[test]
fn a_lease_renewed_by_hand_ends_with_its_own_ttl() {
    let mut story = Story::new(Order::Fifo);
    story.acquire(Mode::Exclusive, 0, Renew::Manual);
    let (call, _) = story.call();
    story.answer(call, granted(7, None));
    let lease = story.grant().lease;
    story.after(9_897);
    assert_eq!(
        story.slot.lease(story.now, lease).unwrap().state,
        LeaseState::Held
    );
    story.after(1).on(Event::Tick);
    let is_lost = |action: &Action| {
        let change = LeaseChange::Lost(LossReason::NotRenewed);
        matches!(action, Action::Lease { change: told, .. } if *told == change)
    };
    assert!(story.actions.iter().any(is_lost), "{:?}", story.actions);
}

#[test]
fn max_hold_ends_a_lease_that_is_renewed_for_ever() {
    let (mut story, lease) = Story::held(7);
    for _ in 0..400 {
        story.after(3_000).on(Event::Tick);
        if let Some(Action::Call {
            id,
            call: Call::Renew(_),
            ..
        }) = story.actions.pop()
        {
            story.answer(id, Answer::Renew(Ok(Renewed::Extended { wanted: None })));
        }
        if story.slot.lease(story.now, lease).is_none() {
            assert!(story.now <= Instant::from_nanos(604_000_000_000));
            return;
        }
    }
    panic!("the lease outlived its maxHold");
}

#[test]
fn only_the_holds_of_a_lost_session_are_lost() {
    let (mut story, lease) = Story::held(7);
    story.on(Event::SessionLost { session: 3 });
    assert_eq!(
        story.slot.lease(story.now, lease).unwrap().state,
        LeaseState::Held
    );
    story.on(Event::SessionLost { session: 0 });
    assert!(story.actions.iter().any(|action| matches!(
        action,
        Action::Lease {
            change: LeaseChange::Lost(LossReason::SessionLost),
            ..
        }
    )));
}

#[test]
fn the_lock_delay_keeps_a_lost_key_quiet_and_a_released_one_not() {
    let mut story = Story::new(Order::Fifo);
    let terms = Terms {
        order: Order::Fifo,
        lock_delay: Duration::from_millis(500),
        retain: Duration::from_secs(1),
        idle: None,
        retry: Backoff {
            initial: Duration::from_millis(50),
            max: Duration::from_secs(2),
            factor: 2,
            is_jittered: true,
        },
        poll: Duration::from_secs(1),
        call_timeout: Duration::from_secs(2),
    };
    story.on(Event::Terms(Arc::new(terms)));
    story.acquire(Mode::Exclusive, 0, Renew::Auto);
    let (call, _) = story.call();
    story.answer(call, granted(7, None));
    let lease = story.grant().lease;
    story.acquire(Mode::Exclusive, 60_000, Renew::Auto);
    story.on(Event::Revoke {
        lease,
        reason: LossReason::Idle,
    });
    assert!(
        !story
            .actions
            .iter()
            .any(|action| matches!(action, Action::Grant { .. }))
    );
    story.after(499).on(Event::Tick);
    assert!(
        !story
            .actions
            .iter()
            .any(|action| matches!(action, Action::Grant { .. }))
    );
    story.after(1).on(Event::Tick);
    let lease = story.grant().lease;
    story.acquire(Mode::Exclusive, 60_000, Renew::Auto);
    story.release(lease);
    story.grant();
}

use futures::future::ready;

use super::*;

fn replays() -> (Rc<Replays>, pawl_kit::clock::ClockHand) {
    let (clock, hand) = Clock::manual();
    (Replays::new(clock), hand)
}

fn work(begun: Result<Begun, ApiError>) -> Work {
    match begun {
        Ok(Begun::Work(work)) => work,
        other => unreachable!("{other:?}"),
    }
}

fn released(_: Ticket) -> LocalBoxFuture<'static, Done> {
    ready(Done::Released).boxed_local()
}

fn failed(_: Ticket) -> LocalBoxFuture<'static, Done> {
    ready(Done::Failed(Rc::new(ApiError::MediaType))).boxed_local()
}

fn never(_: Ticket) -> LocalBoxFuture<'static, Done> {
    futures::future::pending().boxed_local()
}

#[test]
fn what_succeeded_is_replayed_and_belongs_to_its_request() {
    let (replays, _hand) = replays();
    assert!(matches!(
        work(replays.begin("a", [1; 32], released)).now_or_never(),
        Some(Done::Released)
    ));
    let again = replays.begin("a", [1; 32], never);
    assert!(matches!(again, Ok(Begun::Before(Before::Released))));
    let other = replays.begin("a", [2; 32], never);
    assert!(matches!(other, Err(ApiError::Mismatch)));
}

#[test]
fn what_failed_is_tried_anew() {
    let (replays, _hand) = replays();
    let first = work(replays.begin("a", [1; 32], failed)).now_or_never();
    assert!(matches!(first, Some(Done::Failed(_))));
    let again = work(replays.begin("a", [2; 32], released)).now_or_never();
    assert!(matches!(again, Some(Done::Released)));
}

#[test]
fn a_second_joins_and_goes_on_when_the_first_leaves() {
    let (replays, _hand) = replays();
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    let start = |_| {
        async {
            receiver.await.unwrap();
            Done::Released
        }
        .boxed_local()
    };
    let mut first = work(replays.begin("a", [1; 32], start));
    assert!((&mut first).now_or_never().is_none());
    let mut second = work(replays.begin("a", [1; 32], never));
    assert!(matches!(
        replays.begin("a", [2; 32], never),
        Err(ApiError::Mismatch)
    ));
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    sender.send(()).unwrap();
    assert!(matches!(second.now_or_never(), Some(Done::Released)));
}

#[test]
fn what_all_callers_left_never_was() {
    let (replays, _hand) = replays();
    drop(work(replays.begin("a", [1; 32], never)));
    let anew = work(replays.begin("a", [2; 32], released)).now_or_never();
    assert!(matches!(anew, Some(Done::Released)));
}

#[test]
fn memory_is_bounded_in_number_and_age() {
    let (replays, hand) = replays();
    for n in 0..2 * MOST {
        work(replays.begin(&n.to_string(), [1; 32], released)).now_or_never();
    }
    let state = replays.state.borrow();
    assert_eq!((state.entries.len(), state.order.len()), (MOST, MOST));
    drop(state);
    hand.advance(AGE + Duration::from_nanos(1));
    let last = (2 * MOST - 1).to_string();
    assert!(matches!(
        replays.begin(&last, [1; 32], released),
        Ok(Begun::Work(_))
    ));
    assert_eq!(replays.state.borrow().entries.len(), 1);
}

#[test]
fn keys_are_short_and_printable() {
    let head = |key| {
        let mut head = crate::api::http1::guard::inspect(
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            crate::api::http1::guard::Hosts::Any,
        )
        .unwrap();
        head.fields.idempotency_key = Some(key);
        head
    };
    assert_eq!(key(&head(b"a b~")).unwrap(), Some("a b~"));
    for wrong in [&b""[..], b"\xc3\xa4", b"a\tb", &[b'x'; 129]] {
        assert!(key(&head(wrong)).is_err());
    }
}

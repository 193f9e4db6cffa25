use pawl_lock::{
    BackendToken, Owner, Ttl,
    lease::{Mode, Order},
};

use super::*;

const TTL: Duration = Duration::from_secs(10);
const EPOCH_MILLIS: u64 = 1_700_000_000_000;

fn at(millis: u64) -> Instant {
    Instant::from_nanos(1_000_000_000).saturating_add(Duration::from_millis(millis))
}

fn space() -> Space {
    Space::new((at(0), EPOCH_MILLIS))
}

fn key(name: &str) -> Key {
    Key::try_new(name).unwrap()
}

fn request(key: &Key, hold: u128) -> AcquireRequest {
    AcquireRequest {
        key: key.clone(),
        hold: HoldId::from_bits(hold),
        mode: Mode::Exclusive,
        ttl: Ttl::try_new(TTL).unwrap(),
        order: Order::Fifo,
        place: None,
        lock_delay: Duration::ZERO,
        owner: Owner::try_new("me").unwrap(),
    }
}

fn granted(acquired: &Acquired) -> BackendToken {
    match acquired {
        Acquired::Granted(granted) => granted.token,
        Acquired::Busy(busy) => panic!("busy: {busy:?}"),
    }
}

fn cycle(space: &mut Space, now: Instant, key: &Key, hold: u128) -> BackendToken {
    let (ear, mut told) = (Arc::default(), Told::new());
    let token = granted(&space.acquire(now, &request(key, hold), &ear, &mut told));
    let release = ReleaseRequest {
        key: key.clone(),
        hold: HoldId::from_bits(hold),
        mode: Mode::Exclusive,
        token,
        next: None,
    };
    assert!(space.release(now, &release, &ear, &mut told).was_owner);
    assert!(told.is_empty());
    token
}

#[test]
fn tokens_follow_the_clock_and_climb_within_a_millisecond() {
    let (mut space, key) = (space(), key("a"));
    let tokens: Vec<u64> = [0, 0, 0, 5, 5]
        .iter()
        .zip(1..)
        .map(|(millis, hold)| cycle(&mut space, at(*millis), &key, hold).get())
        .collect();
    assert_eq!(tokens, [0, 1, 2, 5, 6].map(|n| EPOCH_MILLIS + n));
}

#[test]
fn a_store_that_starts_later_goes_on_above() {
    let key = key("a");
    let last = cycle(&mut space(), at(70), &key, 1);
    let mut restarted = Space::new((at(500), EPOCH_MILLIS + 500));
    assert!(cycle(&mut restarted, at(500), &key, 2) > last);
}

#[test]
fn keys_that_nobody_uses_are_forgotten() {
    let mut space = space();
    for n in 0..100_000 {
        let millis = n / 10;
        cycle(
            &mut space,
            at(millis),
            &key(&format!("k/{n}")),
            u128::from(n) + 1,
        );
        assert!(
            space.keys.len() <= 2 * FIRST_SWEEP,
            "{} keys",
            space.keys.len()
        );
    }
}

#[test]
fn what_is_forgotten_is_never_held_nor_waited_for_nor_quiet() {
    let (mut space, ear, mut told) = (space(), Arc::default(), Told::new());
    let (held, lost) = (key("held"), key("lost"));
    space.acquire(at(0), &request(&lost, 1), &ear, &mut told);
    space.acquire(at(10_000), &request(&held, 2), &ear, &mut told);
    for n in 0..3000 {
        cycle(
            &mut space,
            at(10_001 + n),
            &key(&format!("k/{n}")),
            100 + u128::from(n),
        );
    }
    let mut after = request(&lost, 3);
    after.lock_delay = Duration::from_mins(1);
    let quiet = space.acquire(at(15_000), &after, &ear, &mut told);
    assert!(
        matches!(&quiet, Acquired::Busy(busy) if busy.retry_in == Some(Duration::from_secs(55))),
        "{quiet:?}"
    );
    let busy = space.acquire(at(15_000), &request(&held, 4), &ear, &mut told);
    assert!(matches!(busy, Acquired::Busy(_)), "{busy:?}");
}

#[test]
fn fences_are_bounded_and_never_forget() {
    let mut space = space();
    let token = |n| FencingToken::try_new(n).unwrap();
    for n in 0..MAX_FENCED_KEYS {
        assert!(space.fence(&key(&format!("k/{n}")), token(7)).is_some());
    }
    assert_eq!(space.fence(&key("one-more"), token(7)), None);
    let stale = FenceVerdict::Stale { highest: token(7) };
    assert_eq!(space.fence(&key("k/0"), token(6)), Some(stale));
}

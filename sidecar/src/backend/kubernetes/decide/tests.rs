use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use pawl_lock::{Key, Namespace, PolicyName, backend::Place};

use super::*;
use crate::backend::{Scope, kubernetes::name::Names};

const TTL: u64 = 10;

/// One sidecar's eyes on a record that all share.
struct World {
    record: Record,
    sights: Vec<Sights>,
    now: u64,
    wall: i64,
}

fn at(seconds: u64) -> Instant {
    Instant::from_nanos(seconds * 1_000_000_000)
}

fn attempt(bits: u128, mode: Mode) -> AcquireRequest {
    AcquireRequest {
        key: Key::try_new("k").unwrap(),
        hold: HoldId::from_bits(bits),
        mode,
        ttl: Ttl::try_new(Duration::from_secs(TTL)).unwrap(),
        order: Order::Fifo,
        place: None,
        lock_delay: Duration::ZERO,
        owner: Owner::try_new("me").unwrap(),
    }
}

fn waiting(bits: u128, mode: Mode, age: u64) -> AcquireRequest {
    let place = Place {
        age: Duration::from_secs(age),
        keep: Duration::from_secs(15),
    };
    AcquireRequest {
        place: Some(place),
        ..attempt(bits, mode)
    }
}

impl World {
    fn new() -> Self {
        Self {
            record: Record::default(),
            sights: vec![Sights::default(); 3],
            now: 100,
            wall: 1_000_000,
        }
    }

    fn with<T>(
        &mut self,
        who: usize,
        act: impl FnOnce(&mut Record, &View<'_>, &mut Changes) -> T,
    ) -> (T, bool) {
        let mut changes = Changes::default();
        self.sights[who].look(&self.record, at(self.now));
        let view = View {
            sights: &self.sights[who],
            now: at(self.now),
            wall: self.wall,
            salt: 0,
        };
        let answer = act(&mut self.record, &view, &mut changes);
        self.sights[who].tries(&changes.wrote, at(self.now));
        self.sights[who].look(&self.record, at(self.now));
        (answer, changes.is_needed)
    }

    fn ask(&mut self, who: usize, request: &AcquireRequest) -> Result<BackendToken, Busy> {
        let (acquired, is_written) = self.with(who, |record, view, changes| {
            acquire(record, view, request, changes)
        });
        match acquired.unwrap() {
            Acquired::Granted(granted) => {
                assert!(is_written, "a grant is always written");
                Ok(granted.token)
            }
            Acquired::Busy(busy) => Err(busy),
        }
    }

    fn renew(&mut self, who: usize, request: &AcquireRequest) -> bool {
        let renewal = RenewRequest {
            key: request.key.clone(),
            hold: request.hold,
            mode: request.mode,
            token: BackendToken::MIN,
            ttl: request.ttl,
            owner: request.owner.clone(),
        };
        let (renewed, is_written) = self.with(who, |record, view, changes| {
            renew(record, view, &renewal, changes)
        });
        let is_extended = renewed != Renewed::NotOwner;
        assert_eq!(is_extended, is_written);
        is_extended
    }

    fn passes(&mut self, seconds: u64) {
        self.now += seconds;
        self.wall += i64::try_from(seconds * 1000).unwrap();
    }

    fn taken_by_another_program(&mut self) {
        let policy = PolicyName::try_new("p").unwrap();
        let names = Names::new(
            Scope::of(&Namespace::try_new("n").unwrap(), &policy),
            &policy,
        );
        let key = Key::try_new("k").unwrap();
        let mut lease = Lease::default();
        self.record.write(&mut lease, &names, &key, 0).unwrap();
        lease.spec = Some(LeaseSpec {
            holder_identity: Some("controller".to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(41),
            ..lease.spec.unwrap_or_default()
        });
        self.record = Record::read(&lease, &names, &key).unwrap();
    }
}

#[test]
fn a_dead_hold_ends_for_each_when_it_saw_it_unchanged() {
    let mut world = World::new();
    let held = attempt(1, Mode::Exclusive);
    world.ask(0, &held).unwrap();
    world.passes(4);
    let next = attempt(2, Mode::Exclusive);
    // It looks for the first time now.
    let busy = world.ask(1, &next).unwrap_err();
    assert_eq!(busy.retry_in, Some(Duration::from_secs(TTL)));
    world.passes(TTL - 1);
    assert!(world.ask(1, &next).is_err(), "it has not seen it for a ttl");
    assert!(!world.renew(0, &held), "its own end comes first");
    world.passes(1);
    assert!(
        world.ask(2, &attempt(3, Mode::Exclusive)).is_err(),
        "who has just come waits for itself"
    );
    world.ask(1, &next).unwrap();
}

#[test]
fn a_renewed_hold_does_not_end() {
    let mut world = World::new();
    let held = attempt(1, Mode::Exclusive);
    world.ask(0, &held).unwrap();
    for _ in 0..20 {
        assert!(world.ask(1, &attempt(2, Mode::Exclusive)).is_err());
        world.passes(TTL - 1);
        assert!(world.renew(0, &held));
    }
}

#[test]
fn waiters_do_not_prolong_a_dead_hold() {
    let mut world = World::new();
    world.ask(0, &attempt(1, Mode::Exclusive)).unwrap();
    let waiter = waiting(2, Mode::Exclusive, 0);
    for _ in 0..TTL {
        assert!(world.ask(1, &waiter).is_err());
        assert!(world.ask(2, &waiting(3, Mode::Exclusive, 0)).is_err());
        world.passes(1);
    }
    world.ask(1, &waiter).unwrap();
}

#[test]
fn tokens_climb_from_the_clock_the_last_one_and_the_transitions() {
    let mut world = World::new();
    let mut last = 0;
    for bits in 0..10 {
        let held = attempt(bits, Mode::Exclusive);
        let token = world.ask(0, &held).unwrap().get();
        assert!(token > last && token >= u64::try_from(world.wall).unwrap());
        last = token;
        world.with(0, |record, view, changes| {
            release(record, view, held.hold, changes)
        });
        world.wall -= 10_000;
    }
    world.record.token = BackendToken::MAX.get();
    let none = world.with(0, |record, view, changes| {
        acquire(record, view, &attempt(99, Mode::Exclusive), changes)
    });
    assert_eq!(none.0, Err(NoRoom::Tokens), "a token is never given twice");
}

#[test]
fn another_program_excludes_until_it_was_seen_unchanged() {
    let mut world = World::new();
    let held = attempt(1, Mode::Exclusive);
    world.ask(0, &held).unwrap();
    world.taken_by_another_program();
    world.wall = 0;
    assert!(!world.renew(0, &held), "it took the lease");
    let busy = world.ask(1, &attempt(2, Mode::Shared)).unwrap_err();
    assert!(busy.holder.is_some());
    world.passes(14);
    assert!(world.ask(1, &attempt(2, Mode::Shared)).is_err());
    world.passes(1);
    world.wall = 0;
    let token = world.ask(1, &attempt(2, Mode::Shared)).unwrap();
    assert!(
        token.get() > 42,
        "larger than the times that it changed hands"
    );
    assert_eq!(world.record.foreign(), None);
}

#[test]
fn quiet_time_follows_a_loss_and_not_a_release() {
    let mut world = World::new();
    let held = attempt(1, Mode::Exclusive);
    world.ask(0, &held).unwrap();
    let patient = AcquireRequest {
        lock_delay: Duration::from_secs(30),
        ..attempt(2, Mode::Exclusive)
    };
    assert!(world.ask(1, &patient).is_err());
    world.passes(TTL);
    let busy = world.ask(1, &patient).unwrap_err();
    assert_eq!(
        (busy.holder, busy.retry_in),
        (None, Some(Duration::from_secs(30)))
    );
    world.passes(29);
    assert!(world.ask(1, &patient).is_err());
    world.passes(1);
    world.ask(1, &patient).unwrap();
    world.with(1, |record, view, changes| {
        assert!(release(record, view, patient.hold, changes));
    });
    world
        .ask(
            0,
            &AcquireRequest {
                hold: HoldId::from_bits(3),
                ..patient
            },
        )
        .unwrap();
}

#[test]
fn a_place_that_was_asked_for_lately_costs_no_write() {
    let mut world = World::new();
    let held = AcquireRequest {
        ttl: Ttl::try_new(Duration::from_mins(1)).unwrap(),
        ..attempt(1, Mode::Exclusive)
    };
    world.ask(0, &held).unwrap();
    let is_written = |world: &mut World, age| {
        let request = waiting(2, Mode::Exclusive, age);
        world
            .with(1, |record, view, changes| {
                acquire(record, view, &request, changes)
            })
            .1
    };
    let writes: Vec<_> = (0..4)
        .map(|n| {
            let is_written = is_written(&mut world, n * 5);
            world.passes(5);
            is_written
        })
        .collect();
    assert_eq!(writes, [true, false, true, false]);
    assert!(is_written(&mut world, 60), "it became older");
}

#[test]
fn abandonment_always_writes() {
    let mut world = World::new();
    let held = attempt(1, Mode::Exclusive);
    world.ask(0, &held).unwrap();
    for hold in [2, 1, 1] {
        let hold = HoldId::from_bits(hold);
        let ((), is_written) = world.with(0, |record, view, changes| {
            abandon(record, view, hold, changes);
        });
        assert!(
            is_written,
            "else what is on its way to this version could still come"
        );
    }
    assert!(world.record.holders.is_empty());
    world.ask(1, &attempt(3, Mode::Exclusive)).unwrap();
}

#[test]
fn a_release_that_comes_too_late_leaves_the_loss_to_be_seen() {
    let mut world = World::new();
    let held = attempt(1, Mode::Exclusive);
    world.ask(0, &held).unwrap();
    world.passes(TTL);
    let (was_owner, is_written) = world.with(0, |record, view, changes| {
        release(record, view, held.hold, changes)
    });
    assert!(!was_owner && !is_written);
    assert_eq!(world.record.holders.len(), 1);
}

#[test]
fn the_queue_is_in_the_order_of_age() {
    let mut world = World::new();
    let held = attempt(1, Mode::Exclusive);
    world.ask(0, &held).unwrap();
    for (bits, age) in [(5, 1), (4, 9), (3, 5), (2, 5)] {
        assert!(world.ask(1, &waiting(bits, Mode::Exclusive, age)).is_err());
    }
    let order: Vec<_> = world
        .record
        .places
        .iter()
        .map(|place| place.hold.bits())
        .collect();
    assert_eq!(order, [4, 2, 3, 5]);
    world.with(0, |record, view, changes| {
        release(record, view, held.hold, changes)
    });
    let busy = world.ask(1, &waiting(3, Mode::Exclusive, 5)).unwrap_err();
    assert_eq!(busy.ahead, Some(2));
    world.ask(1, &waiting(4, Mode::Exclusive, 9)).unwrap();
}

#[test]
fn no_call_shortens_a_hold() {
    let mut world = World::new();
    let of = |seconds| AcquireRequest {
        ttl: Ttl::try_new(Duration::from_secs(seconds)).unwrap(),
        ..attempt(1, Mode::Exclusive)
    };
    world.ask(0, &of(60)).unwrap();
    assert!(world.renew(0, &of(5)));
    world.ask(0, &of(5)).unwrap();
    assert!(world.ask(1, &attempt(2, Mode::Exclusive)).is_err());
    world.passes(59);
    assert!(world.ask(1, &attempt(2, Mode::Exclusive)).is_err());
}

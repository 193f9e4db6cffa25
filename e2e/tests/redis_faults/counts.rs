//! How many commands things cost, counted at the server.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use pawl_e2e::server::redis::RedisServer;
use pawl_lock::{
    Backend, BackendToken,
    backend::{AcquireRequest, Acquired, BackendEvent, Events, Place},
};
use pawl_sidecar::backend::redis::Redis;
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::bench::{PATIENCE, attempt, backend, release, renewal, server, take};

fn commands(server: &RedisServer) -> u64 {
    server.calls("evalsha") + server.calls("eval")
}

#[tokio::test]
async fn a_cold_cycle_is_two_commands_and_publishes_nothing() {
    let server = server(&[]);
    let a = backend(server.url());
    let warm = attempt();
    let granted = take(&a, &warm).await;
    Backend::renew(&*a, &renewal(&warm, granted)).await.unwrap();
    a.release(&release(&warm, granted)).await.unwrap();
    let _: String = server.run(&["CONFIG", "RESETSTAT"]);
    for n in 0..50 {
        let hold = AcquireRequest {
            key: pawl_lock::Key::try_new(&format!("fresh/{n}")).unwrap(),
            ..attempt()
        };
        let granted = take(&a, &hold).await;
        Backend::renew(&*a, &renewal(&hold, granted)).await.unwrap();
        a.release(&release(&hold, granted)).await.unwrap();
    }
    assert_eq!(commands(&server), 150);
    assert_eq!(server.calls("publish"), 0);
}

/// One key, sixteen waiters in each of four sidecars, Fifo: a release that asks for the next local waiter, and the ask
/// of the waiter whose turn it is.
#[tokio::test]
async fn a_contended_cycle_is_at_most_three_commands() {
    const WAITERS: usize = 16;
    const ROUNDS: usize = 10;
    let server = server(&[]);
    let sidecars: Vec<Sidecar> = (0..4).map(|_| Sidecar::start(&server)).collect();
    for sidecar in &sidecars {
        sidecar.backend.check().await.unwrap();
    }
    let _: String = server.run(&["CONFIG", "RESETSTAT"]);
    let base = Instant::now();
    let waiters = |number| (0..WAITERS * ROUNDS).map(move |waiter| 4 * waiter + number);
    let serving = (0..)
        .zip(&sidecars)
        .map(|(number, sidecar)| sidecar.serve(base, waiters(number)));
    let mut served = join_all(serving).await.concat();
    let cycles = served.len();
    assert_eq!(cycles, 4 * WAITERS * ROUNDS);
    served.sort_by_key(|(token, _)| *token);
    let mut order: Vec<usize> = served.into_iter().map(|(_, waiter)| waiter).collect();
    // The first asks race for the free key; all that follow are in the queue.
    order.drain(..4);
    assert!(
        order.is_sorted(),
        "not in the order in which they came: {order:?}"
    );
    let commands = commands(&server);
    let most = 3 * u64::try_from(cycles).unwrap();
    // It is handed from sidecar to sidecar, or nothing was shown.
    assert!(
        server.calls("publish") >= most / 6,
        "the waiters did not take turns"
    );
    eprintln!(
        "{commands} commands, {} hints for {cycles} cycles",
        server.calls("publish")
    );
    assert!(commands <= most, "{commands} commands for {cycles} cycles");
}

/// A sidecar as the slot drives it: one call at a time, one place in the queue, the next local waiter asked for with
/// the release.
struct Sidecar {
    backend: Arc<Redis>,
    turn: Arc<Turn>,
    _running: JoinSet<()>,
}

#[derive(Default)]
struct Turn(Notify);

impl Events for Turn {
    fn tell(&self, event: BackendEvent) {
        if matches!(event, BackendEvent::Turn { .. }) {
            self.0.notify_one();
        }
    }
}

impl Sidecar {
    fn start(server: &RedisServer) -> Self {
        let backend = backend(server.url());
        let turn = Arc::new(Turn::default());
        let mut running = JoinSet::new();
        running.spawn(Arc::clone(&backend).run(Arc::clone(&turn) as Arc<dyn Events>));
        Self {
            backend,
            turn,
            _running: running,
        }
    }

    /// Serves its waiters, one after another. The waiter number n came n seconds after the hour before `base`
    /// began, so those of all sidecars came in turns: further apart than a request is under way. Answers the tokens and waiters.
    async fn serve(
        &self,
        base: Instant,
        waiters: impl Iterator<Item = usize>,
    ) -> Vec<(BackendToken, usize)> {
        let ask = |waiter: usize| {
            let came = Duration::from_secs(waiter as u64);
            let request = AcquireRequest {
                place: Some(Place {
                    age: (base.elapsed() + Duration::from_hours(1)).saturating_sub(came),
                    keep: Duration::from_secs(30),
                }),
                ..attempt()
            };
            (waiter, request)
        };
        let mut served = Vec::new();
        let mut waiters = waiters.map(ask);
        let Some((mut waiter, mut asking)) = waiters.next() else {
            return served;
        };
        let mut answer = Backend::acquire(&*self.backend, &asking).await.unwrap();
        loop {
            let granted = loop {
                match answer {
                    Acquired::Granted(granted) => break granted,
                    Acquired::Busy(_) => {
                        let turn = timeout(PATIENCE, self.turn.0.notified());
                        turn.await.expect("its turn comes");
                        answer = Backend::acquire(&*self.backend, &asking).await.unwrap();
                    }
                }
            };
            served.push((granted.token, waiter));
            let next = waiters.next();
            let mut request = release(&asking, granted);
            request.next = next.as_ref().map(|(_, next)| next.clone());
            let released = self.backend.release(&request).await.unwrap();
            assert!(released.was_owner);
            match (next, released.next) {
                (Some(next), Some(released)) => {
                    (waiter, asking) = next;
                    answer = released;
                }
                _ => return served,
            }
        }
    }
}

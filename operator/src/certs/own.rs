//! Certificates of the operator's own, and their rotation.

use std::time::Duration;

use pawl_kit::{
    admin::{Concern, Latch},
    clock::{Clock, Wall},
};

use super::{
    Own, Timing,
    authority::Authority,
    publish::{Publication, Publisher},
    serving::Serving,
    tell_end,
};

/// How long to wait when one cannot be made: the random source is all that can fail.
const AGAIN: Duration = Duration::from_secs(10);

/// Keeps them for ever.
pub(super) async fn run(
    own: Own,
    clock: Clock,
    serving: &Serving,
    latch: Latch,
    [concern, end]: [&Concern; 2],
) {
    let (publisher, publication) = Publisher::new(own.clone(), clock.clone());
    tokio::select! {
        () = publisher.run(concern) => {}
        () = tell(&own.timing, &clock, serving, end) => {}
        () = rotate(&own, &clock, serving, latch, publication) => {}
    }
}

async fn rotate(
    own: &Own,
    clock: &Clock,
    serving: &Serving,
    latch: Latch,
    mut publication: Publication,
) {
    let timing = own.timing;
    let mut current = make(own, clock).await;
    publication.publish(vec![current.certificate.clone()]).await;
    clock.sleep(timing.start).await;
    serving.switch(&current.pair);
    latch.release();
    tracing::info!("the webhook's authority stands in the configuration");
    loop {
        until_due(clock, &timing, current.pair.not_after).await;
        let next = loop {
            let next = make(own, clock).await;
            let both = vec![current.certificate.clone(), next.certificate.clone()];
            publication.publish(both).await;
            clock.sleep(timing.settle).await;
            // Publishing takes as long as the API server is away.
            if !is_due(clock.wall(), &timing, next.pair.not_after) {
                break next;
            }
        };
        serving.switch(&next.pair);
        tracing::info!("the webhook's certificate was renewed");
        // An API server may still hold a connection that began before.
        clock.sleep(timing.settle).await;
        current = next;
        publication.publish(vec![current.certificate.clone()]).await;
    }
}

/// Tells when what is served comes near its end: it could not be renewed for a third of its life.
async fn tell(timing: &Timing, clock: &Clock, serving: &Serving, concern: &Concern) {
    loop {
        if let Some(not_after) = serving.not_after() {
            tell_end(not_after, clock.wall(), concern);
        }
        clock.sleep(timing.lifetime / 50).await;
    }
}

async fn make(own: &Own, clock: &Clock) -> Authority {
    loop {
        match Authority::make(own, clock.wall()) {
            Ok(authority) => return authority,
            Err(error) => tracing::error!(%error, "no certificate"),
        }
        clock.sleep(AGAIN).await;
    }
}

/// Looks at the time of day again and again, which may be set: what counts is when others think that it ends.
async fn until_due(clock: &Clock, timing: &Timing, not_after: i64) {
    while !is_due(clock.wall(), timing, not_after) {
        clock.sleep(timing.lifetime / 50).await;
    }
}

/// Whether two thirds of its life are over.
fn is_due(now: Wall, timing: &Timing, not_after: i64) -> bool {
    now.plus(timing.lifetime / 3).unix_seconds() >= not_after
}

#[cfg(test)]
mod tests;

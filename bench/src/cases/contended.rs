//! One key, 64 waiters over four sidecars on one Redis, first come, first served: what a cycle costs the server, and how fairly the
//! key goes round.

use std::time::Duration;

use bytes::Bytes;
use futures::future::try_join_all;
use pawl_e2e::{
    http::Connection,
    server::redis::{RedisOptions, RedisServer},
    sidecar::Sidecar,
};
use pawl_kit::clock::Clock;
use serde_json::json;

use crate::{
    Error,
    direct::Counter,
    report::{Bound, Measure},
    rounds::jain,
};

const SIDECARS: usize = 4;
const WAITERS: usize = 64;
const RUN: Duration = Duration::from_secs(10);

/// Runs the waiters for 10 s.
///
/// # Errors
/// Those of the servers and connections.
pub async fn measure() -> Result<Vec<Measure>, Error> {
    let redis = RedisServer::start(RedisOptions::default());
    let spec = json!({
        "purpose": "Efficiency",
        "backend": { "redis": { "url": redis.url() } },
        "acquire": { "order": "Fifo" },
    });
    let mut sidecars = Vec::new();
    for _ in 0..SIDECARS {
        sidecars.push(Sidecar::start(&spec).await);
    }
    let mut counter = Counter::open(&redis.url()).await?;
    let clock = Clock::system();
    let path = Sidecar::lock("contended");
    let before = counter.commands().await?;
    let end = clock.now().saturating_add(RUN);
    let waiters = (0..WAITERS).map(|waiter| {
        let (clock, path, api) = (clock.clone(), &path, sidecars[waiter % SIDECARS].api);
        async move {
            let mut connection = Connection::open(api).await?;
            let mut cycles = 0_u32;
            while clock.now() < end {
                connection
                    .cycle(path, Bytes::from_static(br#"{"wait":"30s"}"#))
                    .await?;
                cycles += 1;
            }
            Ok::<_, Error>(cycles)
        }
    });
    let cycles = try_join_all(waiters).await?;
    let commands = counter.commands().await? - before;
    let total: u32 = cycles.iter().sum();
    let shares: Vec<f64> = cycles.iter().map(|cycles| f64::from(*cycles)).collect();
    #[expect(clippy::cast_precision_loss, reason = "some ten thousand commands")]
    let a_cycle = commands as f64 / f64::from(total);
    let (least, most) = (cycles.iter().min(), cycles.iter().max());
    Ok(vec![
        Measure {
            case: "contended",
            what: format!("commands a cycle, {WAITERS} waiters over {SIDECARS} sidecars, Fifo"),
            value: a_cycle,
            unit: "commands",
            bound: Some(Bound::AtMost(3.0)),
            detail: format!("{commands} commands in {total} cycles, polls included"),
        },
        Measure {
            case: "contended",
            what: "Jain's index over the waiters' cycles".into(),
            value: jain(&shares),
            unit: "",
            bound: Some(Bound::AtLeast(0.99)),
            detail: format!("from {least:?} to {most:?} cycles a waiter"),
        },
    ])
}

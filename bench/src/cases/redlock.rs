//! Redlock on five nodes: Pawl against the implementations that users of Node and Go have.

use std::path::Path;

use pawl_e2e::{
    server::redis::{RedisOptions, RedisServer},
    sidecar::Sidecar,
};
use serde_json::json;
use tokio::sync::Mutex;

use crate::{
    Error,
    caller::Caller,
    peers::Peer,
    pin::Cores,
    report::{Bound, Measure},
    rounds::compare,
};

const NODES: usize = 5;
const CYCLES_A_ROUND: u32 = 300;

/// Measures a cold cycle against each peer; the bound is to the faster.
///
/// # Errors
/// Those of the servers, connections and peers.
pub async fn measure(scratch: &Path) -> Result<Vec<Measure>, Error> {
    let nodes = (0..NODES)
        .map(|_| RedisServer::start(RedisOptions::default()))
        .collect::<Vec<_>>();
    let urls: Vec<String> = nodes.iter().map(RedisServer::url).collect();
    let addresses: Vec<String> = nodes
        .iter()
        .map(|node| format!("127.0.0.1:{}", node.port()))
        .collect();
    let spec = json!({
        "purpose": "Efficiency",
        "backend": { "redlock": { "nodes": urls.iter().map(|url| json!({ "url": url })).collect::<Vec<_>>() } },
        "acquire": { "order": "Any" },
        // Nodes count only after they have been up for maxTtl, so that a restart cannot forget a lock.
        "lease": { "ttl": "10s", "maxTtl": "10s" },
        "keys": { "maxHeld": 100_000 },
    });
    let sidecar = Sidecar::start(&spec).await;
    wait_until_nodes_count(&sidecar).await?;
    Cores::Two.pin_self()?;
    let peers = [
        Peer::redlock_npm(&addresses, scratch)?,
        Peer::redsync(&addresses, scratch)?,
    ];
    let connection = Mutex::new(Caller::open(&sidecar.api.into()).await?);
    let mut measures = Vec::new();
    let mut fresh = 0_u32;
    for peer in &peers {
        let compared = compare(
            || {
                fresh += 1;
                let round = fresh;
                let connection = &connection;
                async move {
                    let mut connection = connection.lock().await;
                    for cycle in 0..CYCLES_A_ROUND {
                        connection
                            .cycle(&Sidecar::lock(&format!("cold/{round}/{cycle}")))
                            .await?;
                    }
                    Ok(CYCLES_A_ROUND)
                }
            },
            || peer.run(CYCLES_A_ROUND),
        )
        .await?;
        measures.push(Measure {
            case: "redlock",
            what: format!("cold cycle on {NODES} nodes against {}", peer.name),
            value: compared.ratio,
            unit: "x",
            bound: Some(Bound::AtMost(1.0)),
            detail: format!("{:?} to {:?}", compared.ours, compared.reference),
        });
    }
    Ok(measures)
}

/// Freshly started nodes do not count yet: the first grant is the sign that they do.
async fn wait_until_nodes_count(sidecar: &Sidecar) -> Result<(), Error> {
    let mut connection = Caller::open(&sidecar.api.into()).await?;
    for _ in 0..600 {
        if connection.cycle(&Sidecar::lock("first")).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    Err("the nodes gave no lock within a minute".into())
}

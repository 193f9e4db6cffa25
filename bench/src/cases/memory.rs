//! What the sidecar itself costs: a cycle on the memory backend against two requests to a bare server.

use std::net::SocketAddr;

use crate::{
    Error,
    pin::Cores,
    report::{Bound, Measure},
    role::Server,
    rounds::compare,
};
use bytes::Bytes;
use futures::future::try_join_all;
use hyper::Method;
use pawl_e2e::{http::Connection, sidecar::Sidecar};
use serde_json::json;

const CYCLES_A_ROUND: u32 = 3_000;

/// Measures with 1 and with 64 connections.
///
/// # Errors
/// Those of the servers and connections.
pub async fn measure() -> Result<Vec<Measure>, Error> {
    let sidecar =
        Sidecar::start(&json!({ "purpose": "Efficiency", "backend": { "memory": {} } })).await;
    let echo = Server::start(&["echo-server"]).await?;
    let mut measures = Vec::new();
    for cores in Cores::ALL {
        cores.pin_self()?;
        cores.pin(sidecar.id())?;
        cores.pin(echo.pid)?;
        for connections in [1_u32, 64] {
            let compared = compare(
                || run(sidecar.api, connections, Kind::Lock),
                || run(echo.address, connections, Kind::Echo),
            )
            .await?;
            measures.push(Measure {
                case: "memory",
                what: format!(
                    "cycle on memory, {connections} connections, {}",
                    cores.name()
                ),
                value: compared.ratio,
                unit: "x",
                bound: Some(Bound::AtMost(1.4)),
                detail: format!(
                    "{:?} to {:?} for two echoed requests",
                    compared.ours, compared.reference
                ),
            });
        }
    }
    Ok(measures)
}

#[derive(Clone, Copy)]
enum Kind {
    Lock,
    Echo,
}

async fn run(address: SocketAddr, connections: u32, kind: Kind) -> Result<u32, Error> {
    let cycles = CYCLES_A_ROUND / connections;
    let clients = (0..connections).map(|client| async move {
        let mut connection = Connection::open(address).await?;
        let path = Sidecar::lock(&format!("client/{client}"));
        let lease = format!("/v1/leases/{client:032x}");
        // The same number of bytes goes each way, as near as an echo can.
        let body = Bytes::from_static(br#"{"ttl":"10s"}"#);
        for _ in 0..cycles {
            match kind {
                Kind::Lock => connection.cycle(&path, body.clone()).await?,
                Kind::Echo => {
                    connection.send(Method::POST, &path, body.clone()).await?;
                    connection
                        .send(Method::DELETE, &lease, Bytes::new())
                        .await?;
                }
            }
        }
        Ok::<_, Error>(())
    });
    try_join_all(clients).await?;
    Ok(cycles * connections)
}

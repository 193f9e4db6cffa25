//! Ten thousand callers that wait for one key, each on a connection of its own: what each costs the sidecar.

use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use pawl_e2e::{http::Connection, sidecar::Sidecar};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    Error,
    report::{Bound, Measure},
};

const WAITERS: u32 = 10_000;

/// Parks the waiters and looks at the resident memory before and after.
///
/// # Errors
/// Those of the sidecar and the connections, and a sidecar that does not park them all.
pub async fn measure() -> Result<Vec<Measure>, Error> {
    raise_file_limit()?;
    let spec = json!({
        "purpose": "Efficiency",
        "backend": { "memory": {} },
        "acquire": { "maxWait": "10m" },
        "keys": { "maxWaiters": WAITERS },
    });
    let sidecar = Sidecar::start(&spec).await;
    let path = Sidecar::lock("parked");
    let mut holder = Connection::open(sidecar.api).await?;
    let (status, _) = holder.send(Method::POST, &path, Bytes::new()).await?;
    if status != StatusCode::OK {
        return Err(format!("the holder got {status}").into());
    }
    let before = sidecar.resident();
    let host = sidecar.api;
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{{\"wait\":\"10m\"}}"
    );
    let mut parked = Vec::with_capacity(WAITERS as usize);
    for _ in 0..WAITERS {
        let mut stream = TcpStream::connect(sidecar.api).await?;
        stream.write_all(request.as_bytes()).await?;
        parked.push(stream);
    }
    wait_until_parked(&mut holder, &path).await?;
    let after = sidecar.resident();
    drop(parked);
    #[expect(clippy::cast_precision_loss, reason = "kilobytes, for people")]
    let each = (after - before) as f64 / f64::from(WAITERS) / 1e3;
    Ok(vec![Measure {
        case: "waiters",
        what: format!("resident memory of each of {WAITERS} parked waiters"),
        value: each,
        unit: "KB",
        bound: Some(Bound::AtMost(12.0)),
        detail: format!("{:.1} MB before, {:.1} MB after", mega(before), mega(after)),
    }])
}

#[expect(clippy::cast_precision_loss, reason = "megabytes, for people")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

async fn wait_until_parked(connection: &mut Connection, path: &str) -> Result<(), Error> {
    for _ in 0..600 {
        let (_, body) = connection.send(Method::GET, path, Bytes::new()).await?;
        let view: serde_json::Value = serde_json::from_slice(&body)?;
        if view["waiters"].as_u64() == Some(WAITERS.into()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the sidecar did not park all waiters within a minute".into())
}

/// Every waiter is a file here and one in the sidecar, which inherits the limit.
fn raise_file_limit() -> Result<(), Error> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Some(u64::from(WAITERS) + 1_000);
    if limit.maximum.is_some() && limit.maximum < wanted {
        return Err(format!(
            "{WAITERS} connections need a limit of open files above it: raise `ulimit -Hn`"
        )
        .into());
    }
    Ok(setrlimit(
        Resource::Nofile,
        Rlimit {
            current: wanted,
            maximum: limit.maximum,
        },
    )?)
}

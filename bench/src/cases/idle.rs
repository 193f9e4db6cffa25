//! A sidecar that has nothing to do: how much it keeps, how soon it is there, and how big its program is.

use std::fs;

use pawl_e2e::{
    server::redis::{RedisOptions, RedisServer},
    sidecar::Sidecar,
};
use serde_json::json;

use crate::{
    Error,
    report::{Bound, Measure},
};

const STARTS: usize = 9;

/// Measures resident memory and the time to readiness.
///
/// # Errors
/// Those of the servers.
pub async fn measure() -> Result<Vec<Measure>, Error> {
    let redis = RedisServer::start(RedisOptions::default());
    let spec = json!({ "purpose": "Efficiency", "backend": { "redis": { "url": redis.url() } } });
    let (mut resident, mut ready, mut program) = (Vec::new(), Vec::new(), 0);
    for _ in 0..STARTS {
        let sidecar = Sidecar::start(&spec).await;
        ready.push(sidecar.ready_after);
        // The subscription and the first look at the server are behind it then.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        resident.push(sidecar.resident());
        program = fs::metadata(format!("/proc/{}/exe", sidecar.id()))?.len();
    }
    resident.sort_unstable();
    ready.sort_unstable();
    Ok(vec![
        Measure {
            case: "idle",
            what: "resident memory of an idle sidecar".into(),
            value: megabytes(resident[STARTS / 2]),
            unit: "MB",
            bound: Some(Bound::AtMost(10.0)),
            detail: format!("median of {STARTS}, one redis policy"),
        },
        Measure {
            case: "idle",
            what: "ready after exec".into(),
            value: ready[STARTS / 2].as_secs_f64() * 1e3,
            unit: "ms",
            bound: Some(Bound::AtMost(50.0)),
            detail: format!("median of {STARTS}, worst {:?}", ready[STARTS - 1]),
        },
        Measure {
            case: "idle",
            what: "size of the program, which is all that its image has".into(),
            value: megabytes(program),
            unit: "MB",
            bound: Some(Bound::AtMost(15.0)),
            detail: "as it was built here; an image has it linked with musl".into(),
        },
    ])
}

#[expect(clippy::cast_precision_loss, reason = "megabytes, for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

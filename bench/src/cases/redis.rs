//! Pawl on Redis against a client written by hand on the same Redis: a fresh key each time, and the same key again and again.

use std::ffi::OsString;

use pawl_e2e::{
    server::redis::{RedisOptions, RedisServer},
    sidecar::Sidecar,
};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    Error,
    caller::Caller,
    cpu::Spent,
    direct::{Counter, Direct},
    pin::Cores,
    report::{Bound, Measure},
    role::Server,
    rounds::compare,
    wire::Address,
};

const CYCLES_A_ROUND: u32 = 1_000;

/// Measures both on one core and on two, with the API on TCP and on a Unix socket; the client written by hand is always on TCP.
///
/// # Errors
/// Those of the servers and connections.
pub async fn measure() -> Result<Vec<Measure>, Error> {
    let redis = RedisServer::start(RedisOptions::default());
    let spec = json!({
        "purpose": "Efficiency",
        "backend": { "redis": { "url": redis.url() } },
        "keys": { "maxHeld": 100_000 },
    });
    let folder = TempDir::with_prefix("pawl-bench-")?;
    let socket = folder.path().join("pawl.sock");
    let environment = [("PAWL_SOCKET", OsString::from(&socket))];
    let sidecar = Sidecar::start_in(&environment, "sidecar", &spec).await;
    let addresses = [sidecar.api.into(), Address::Unix(socket)];
    let mut direct = Direct::open(([127, 0, 0, 1], redis.port()).into()).await?;
    let mut counter = Counter::open(&redis.url()).await?;
    let relay = Server::start(&["relay", &format!("127.0.0.1:{}", redis.port())]).await?;
    let with = |(name, pid)| {
        [
            ("client", std::process::id().cast_signed()),
            (name, pid),
            ("redis", redis.id()),
        ]
    };
    let processes = with(("sidecar", sidecar.id()));
    let mut measures = Vec::new();
    for cores in Cores::ALL {
        for pid in processes.map(|(_, pid)| pid).into_iter().chain([relay.pid]) {
            cores.pin(pid)?;
        }
        for address in &addresses {
            let mut connection = Caller::open(address).await?;
            let way = format!("{}, {}", address.kind(), cores.name());
            measures.push(cold(&mut connection, &mut direct, &way, &processes).await?);
            measures.extend(repeated(&mut connection, &mut direct, &mut counter, &way).await?);
        }
        let mut connection = Caller::open(&relay.address.into()).await?;
        let way = format!("by a relay that decides nothing, {}", cores.name());
        let processes = with(("relay", relay.pid));
        measures.push(Measure {
            bound: None,
            ..cold(&mut connection, &mut direct, &way, &processes).await?
        });
    }
    Ok(measures)
}

async fn cold(
    connection: &mut Caller,
    direct: &mut Direct,
    way: &str,
    processes: &[(&'static str, i32)],
) -> Result<Measure, Error> {
    let (mut ours, mut theirs) = (0_u32, 0_u32);
    let fresh = way.replace([' ', ','], "-");
    // Both closures hand out a future that borrows its connection, so the connections go through cells.
    let connection = tokio::sync::Mutex::new(connection);
    let direct = tokio::sync::Mutex::new(direct);
    let mut run_ours = || {
        ours += 1;
        let round = ours;
        let (connection, fresh) = (&connection, &fresh);
        async move {
            let mut connection = connection.lock().await;
            for cycle in 0..CYCLES_A_ROUND {
                let path = Sidecar::lock(&format!("cold/{fresh}/{round}/{cycle}"));
                connection.cycle(&path).await?;
            }
            Ok(CYCLES_A_ROUND)
        }
    };
    let mut run_theirs = || {
        theirs += 1;
        let round = theirs;
        let direct = &direct;
        async move {
            let mut direct = direct.lock().await;
            for cycle in 0..CYCLES_A_ROUND {
                direct.cycle(&format!("cold/{round}/{cycle}"), "me").await?;
            }
            Ok(CYCLES_A_ROUND)
        }
    };
    let compared = compare(&mut run_ours, &mut run_theirs).await?;
    let start = Spent::of(processes)?;
    let cycles = run_ours().await?;
    let between = Spent::of(processes)?;
    run_theirs().await?;
    let end = Spent::of(processes)?;
    Ok(Measure {
        case: "redis",
        what: format!("cold cycle, {way}"),
        value: compared.ratio,
        unit: "x",
        bound: Some(Bound::AtMost(2.2)),
        detail: format!(
            "{:?} to {:?} by hand; on a processor: {} to {}",
            compared.ours,
            compared.reference,
            (between.clone() - start) / cycles,
            (end - between) / cycles,
        ),
    })
}

async fn repeated(
    connection: &mut Caller,
    direct: &mut Direct,
    counter: &mut Counter,
    way: &str,
) -> Result<[Measure; 2], Error> {
    let connection = tokio::sync::Mutex::new(connection);
    let direct = tokio::sync::Mutex::new(direct);
    let path = Sidecar::lock("repeated");
    let compared = compare(
        || async {
            let mut connection = connection.lock().await;
            for _ in 0..CYCLES_A_ROUND {
                connection.cycle(&path).await?;
            }
            Ok(CYCLES_A_ROUND)
        },
        || async {
            let mut direct = direct.lock().await;
            for _ in 0..CYCLES_A_ROUND {
                direct.cycle("repeated", "me").await?;
            }
            Ok(CYCLES_A_ROUND)
        },
    )
    .await?;
    // Counted apart from the reference's own commands, over enough cycles that some renewals and new holds are among them.
    let cycles = 10 * CYCLES_A_ROUND;
    let before = counter.commands().await?;
    {
        let mut connection = connection.lock().await;
        for _ in 0..cycles {
            connection.cycle(&path).await?;
        }
    }
    let commands = counter.commands().await? - before;
    #[expect(clippy::cast_precision_loss, reason = "a few hundred commands")]
    let a_cycle = commands as f64 / f64::from(cycles);
    Ok([
        Measure {
            case: "redis",
            what: format!("repeated key, {way}"),
            value: compared.ratio,
            unit: "x",
            bound: Some(Bound::AtMost(1.0)),
            detail: format!("{:?} to {:?} by hand", compared.ours, compared.reference),
        },
        Measure {
            case: "redis",
            what: format!("commands a cycle of a repeated key, {way}"),
            value: a_cycle,
            unit: "commands",
            bound: Some(Bound::AtMost(0.05)),
            detail: format!("{commands} commands in {cycles} cycles"),
        },
    ])
}

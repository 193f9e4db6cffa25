//! `--serve`: the live page, up from the first act on, and afterwards some traffic to look at.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::banks::{Bank, Cast, end_all};
use super::error::RaceError;
use super::stage::Stage;
use crate::bank::mode::LockMode;

/// What the two accounts of the traffic are opened with.
const BALANCE: i64 = 20_000;
/// Replicas on each side.
const REPLICAS: usize = 3;
/// Long enough that a lock is seen while it is held.
const THINK: Duration = Duration::from_millis(200);
/// Between two rounds of deductions.
const EVERY: Duration = Duration::from_millis(250);

/// The replica that serves the page.
#[derive(Debug)]
pub(super) struct Page {
    bank: Bank,
    address: SocketAddr,
}

/// Opens the page.
pub(super) async fn open(stage: &Stage, address: SocketAddr) -> Result<Page, RaceError> {
    // Bound for a moment, so that a port in use is told as such and not as a bank that ended.
    let probe =
        TcpListener::bind(address).map_err(|_| RaceError::PortInUse(address.to_string()))?;
    let address = probe
        .local_addr()
        .map_err(RaceError::system("the page's address"))?;
    drop(probe);
    let bank = Bank::spawn(
        stage,
        "page",
        &address.to_string(),
        0,
        &cast(stage, LockMode::None),
    )?;
    bank.ready(stage).await?;
    stage
        .progress
        .say(format!("the live page is at http://{address}/"));
    Ok(Page { bank, address })
}

impl Page {
    /// Two accounts, one of them locked, until `stop`.
    pub(super) async fn keep_up(
        self,
        stage: &Stage,
        stop: &CancellationToken,
    ) -> Result<(), RaceError> {
        let unlocked =
            Bank::start(stage, "unlocked", REPLICAS, &cast(stage, LockMode::None)).await?;
        let locked =
            Bank::start(stage, "locked", REPLICAS, &cast(stage, LockMode::Sidecar)).await?;
        stage
            .progress
            .say(format!("http://{}/ stays up until Ctrl-C", self.address));
        let traffic = async {
            loop {
                tokio::try_join!(spend(&unlocked, "unlocked"), spend(&locked, "locked"))?;
            }
        };
        let ended = tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = traffic => ended,
        };
        end_all(unlocked).await;
        end_all(locked).await;
        self.bank.end().await;
        ended
    }
}

/// Opens an account and spends from it on all replicas at once, until it is empty.
async fn spend(banks: &[Bank], user: &str) -> Result<(), RaceError> {
    banks[0].open(user, BALANCE).await?;
    while banks[0].books(user).await?.balance >= 1000 {
        futures::future::join_all(
            banks
                .iter()
                .map(|bank| bank.deduct(user, rand::random_range(20..=200))),
        )
        .await;
        tokio::time::sleep(EVERY).await;
    }
    Ok(())
}

fn cast(stage: &Stage, mode: LockMode) -> Cast {
    let fencing = mode == LockMode::Sidecar;
    Cast {
        mode,
        fencing,
        think: stage.think.max(THINK),
        ttl: None,
        auto_renew: true,
    }
}

//! Drives a running bank at a fixed rate.
//!
//! The loop is open: when an operation is due does not hang on when the one before was answered, and
//! latency counts from when it was *due*. A server that stalls is thereby charged for everybody who would
//! have come meanwhile, instead of the measurement stalling with it (coordinated omission).

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::{self, Instant};
use crate::patience::patiently;
use crate::units::{millis, parse_duration};
use crate::wire::{Client, WireError};

/// The longest an operation may take.
const ANSWER: Duration = Duration::from_secs(30);

/// Drives a running bank at a fixed rate (open loop) and reports rate, latency and errors.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
EXAMPLES
  pawl-demo load --url http://127.0.0.1:8080 --rate 50 --for 30s
  pawl-demo load --url http://bank-1:8080 --url http://bank-2:8080 --rate 500 --for 1m --json

Latency counts from when an operation was due, so a stalled server is not measured too kindly.
Exits 1 when no operation was done or the bank cannot be reached.")]
pub struct Options {
    /// The bank's address; given more than once, operations take turns
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    pub url: Vec<String>,

    /// Operations per second, 1 to 100000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,

    /// For how long
    #[arg(long = "for", value_parser = parse_duration, default_value = "30s", value_name = "DURATION")]
    pub duration: Duration,

    /// The account to take money from; it is opened first, with enough for all operations
    #[arg(long, default_value = "load", value_name = "USER")]
    pub user: String,

    /// Spread the operations over so many accounts (USER-1, USER-2, …)
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub accounts: u32,

    /// How much each operation takes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i64).range(1..=1_000_000))]
    pub amount: i64,

    /// Operations under way at most; more that are due wait, and their latency shows it
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub in_flight: u32,

    /// Take a new connection for each operation, so that a Service spreads them over its pods
    #[arg(long)]
    pub reconnect: bool,

    /// How long to wait at the start for a bank that is not there yet
    #[arg(long, value_parser = parse_duration, default_value = "0s", value_name = "DURATION")]
    pub patience: Duration,

    /// Report as JSON
    #[arg(long)]
    pub json: bool,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The address is none.
    #[error(transparent)]
    Address(WireError),
    /// An option is out of range.
    #[error("{0}")]
    Options(String),
    /// The bank does not answer.
    #[error("the bank cannot be reached: {0}")]
    Unreachable(WireError),
    /// The bank refused to open the account.
    #[error("the bank refused to open the account: {0}")]
    Refused(String),
    /// All operations failed.
    #[error("not one operation was done")]
    NothingDone,
}

impl LoadError {
    /// What the process exits with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Address(_) | Self::Options(_) => ExitCode::from(64),
            _ => ExitCode::FAILURE,
        }
    }
}

/// What was measured.
#[derive(Debug)]
struct Tally {
    latency: Histogram<u64>,
    done: u64,
    errors: BTreeMap<String, u64>,
}

/// Drives the bank until the time is over or `stop`, and prints the report on stdout.
pub async fn run(options: &Options, stop: CancellationToken) -> Result<(), LoadError> {
    let clients: Result<Vec<_>, _> = options
        .url
        .iter()
        .map(|url| Client::new(url).map(Arc::new))
        .collect();
    let clients = clients.map_err(LoadError::Address)?;
    let planned = operations(options)?;
    let is_away = |error: &LoadError| matches!(error, LoadError::Unreachable(_));
    let users = tokio::select! {
        opened = patiently(options.patience, is_away, async || {
            open_accounts(options, &clients, planned).await
        }) => opened?,
        () = stop.cancelled() => return Err(LoadError::NothingDone),
    };
    eprintln!(
        "{planned} operations at {} a second for {:?} …",
        options.rate, options.duration
    );

    let began = clock::now();
    let permits = Arc::new(Semaphore::new(options.in_flight as usize));
    let mut running = JoinSet::new();
    let mut tally = Tally {
        latency: histogram(),
        done: 0,
        errors: BTreeMap::new(),
    };
    let mut issued = 0;
    while issued < planned {
        let due = began + Duration::from_nanos(issued * 1_000_000_000 / u64::from(options.rate));
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            permit = due_and_room(due, &permits) => permit,
        };
        let turn = usize::try_from(issued).unwrap_or(usize::MAX);
        let (client, user) = (
            clients[turn % clients.len()].clone(),
            users[turn % users.len()].clone(),
        );
        let (amount, reconnect) = (options.amount, options.reconnect);
        running.spawn(async move {
            let result = operation(&client, &user, amount, reconnect).await;
            drop(permit);
            (due.elapsed(), result)
        });
        issued += 1;
        while let Some(Ok(ended)) = running.try_join_next() {
            tally.count(ended);
        }
    }
    while let Some(ended) = running.join_next().await {
        if let Ok(ended) = ended {
            tally.count(ended);
        }
    }
    print(options, &tally, issued, began.elapsed());
    if tally.done == 0 {
        Err(LoadError::NothingDone)
    } else {
        Ok(())
    }
}

/// Waits until an operation is due and may begin.
async fn due_and_room(
    due: Instant,
    permits: &Arc<Semaphore>,
) -> Option<tokio::sync::OwnedSemaphorePermit> {
    tokio::time::sleep(due.left()).await;
    permits.clone().acquire_owned().await.ok()
}

fn operations(options: &Options) -> Result<u64, LoadError> {
    let nanos = options
        .duration
        .as_nanos()
        .saturating_mul(u128::from(options.rate));
    let planned = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    if planned == 0 || planned > 100_000_000 {
        let text = format!("--rate and --for: {planned} operations; choose 1 to 100000000");
        return Err(LoadError::Options(text));
    }
    Ok(planned)
}

async fn open_accounts(
    options: &Options,
    clients: &[Arc<Client>],
    planned: u64,
) -> Result<Vec<String>, LoadError> {
    let users: Vec<String> = match options.accounts {
        1 => vec![options.user.clone()],
        n => (1..=n).map(|i| format!("{}-{i}", options.user)).collect(),
    };
    let balance = i64::try_from(planned)
        .unwrap_or(i64::MAX)
        .saturating_mul(options.amount)
        .min(1_000_000_000_000);
    for user in &users {
        let body = json!({"userId": user, "balance": balance});
        let answer = clients[0]
            .post("/api/balance/init", &body, &[], ANSWER)
            .await
            .map_err(LoadError::Unreachable)?;
        if !answer.status().is_success() {
            let problem: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
            let detail = problem["detail"]
                .as_str()
                .unwrap_or("no reason given")
                .to_owned();
            return Err(LoadError::Refused(format!(
                "{detail} ({})",
                answer.status().as_u16()
            )));
        }
    }
    Ok(users)
}

/// One deduction; the error is the problem's code, or that there was no answer.
async fn operation(
    client: &Client,
    user: &str,
    amount: i64,
    reconnect: bool,
) -> Result<(), String> {
    let body = json!({"userId": user, "amount": amount});
    let headers: &[_] = if reconnect {
        &[("connection", "close")]
    } else {
        &[]
    };
    match client.post("/api/deduct", &body, headers, ANSWER).await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => {
            let problem: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
            let code = problem["code"].as_str().unwrap_or("unknown");
            Err(format!("{} {code}", answer.status().as_u16()))
        }
        Err(WireError::Connect { .. }) => Err("cannot connect".to_owned()),
        Err(_) => Err("no answer".to_owned()),
    }
}

/// Microseconds up to an hour, three digits exact.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(3_600_000_000, 3)
        .expect("an hour in microseconds with three digits is in range")
}

impl Tally {
    fn count(&mut self, (latency, result): (Duration, Result<(), String>)) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        match result {
            Ok(()) => {
                self.done += 1;
                self.latency.saturating_record(micros);
            }
            Err(kind) => *self.errors.entry(kind).or_insert(0) += 1,
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate for people, of fewer than 2^52 operations"
)]
fn print(options: &Options, tally: &Tally, issued: u64, took: Duration) {
    let rate = ((tally.done as f64 / took.as_secs_f64()) * 10.0).round() / 10.0;
    let at = |q: f64| millis(Duration::from_micros(tally.latency.value_at_quantile(q)));
    let max = millis(Duration::from_micros(tally.latency.max()));
    if options.json {
        let report = json!({
            "operations": issued, "done": tally.done, "seconds": millis(took) / 1000.0,
            "targetRate": options.rate, "achievedRate": rate, "errors": tally.errors,
            "p50Ms": at(0.5), "p90Ms": at(0.9), "p99Ms": at(0.99), "maxMs": max,
        });
        println!("{report}");
        return;
    }
    println!(
        "operations  {issued} issued, {} done in {:.1} s",
        tally.done,
        took.as_secs_f64()
    );
    println!("rate        {rate} a second of {} asked for", options.rate);
    println!(
        "latency     p50 {} ms, p90 {} ms, p99 {} ms, max {max} ms (from when it was due)",
        at(0.5),
        at(0.9),
        at(0.99)
    );
    if tally.errors.is_empty() {
        println!("errors      none");
    }
    for (kind, count) in &tally.errors {
        println!("errors      {count} × {kind}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(rate: u32, duration: Duration) -> Options {
        Options {
            url: vec![],
            rate,
            duration,
            user: "load".to_owned(),
            accounts: 1,
            amount: 1,
            in_flight: 1,
            reconnect: false,
            patience: Duration::ZERO,
            json: false,
        }
    }

    #[test]
    fn the_number_of_operations_is_rate_times_duration() {
        assert_eq!(
            operations(&options(50, Duration::from_secs(30))).unwrap(),
            1500
        );
        assert_eq!(
            operations(&options(3, Duration::from_millis(500))).unwrap(),
            1
        );
        assert!(operations(&options(1, Duration::from_millis(10))).is_err());
    }

    #[test]
    fn only_what_was_done_counts_as_latency() {
        let mut tally = Tally {
            latency: histogram(),
            done: 0,
            errors: BTreeMap::new(),
        };
        tally.count((Duration::from_millis(10), Ok(())));
        tally.count((Duration::from_secs(9), Err("503 lock_held".to_owned())));
        assert_eq!((tally.done, tally.latency.len()), (1, 1));
        assert!(tally.latency.max() < 11_000);
        assert_eq!(tally.errors["503 lock_held"], 1);
    }
}

//! The bank's replicas of one act, and what they are asked.

use std::ffi::OsString;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::error::RaceError;
use super::policy::ACCOUNTS;
use super::process::Process;
use super::stage::Stage;
use crate::bank::mode::LockMode;
use crate::clock::{self, Instant};
use crate::units::format_duration;
use crate::wire::{Client, WireError};

/// How long an answer may take, beyond any delay that was asked for.
const ANSWER: Duration = Duration::from_secs(90);
/// How long a deduction is tried again when it was refused for now.
const PATIENCE: Duration = Duration::from_secs(45);

/// How replicas are run.
#[derive(Debug, Clone)]
pub struct Cast {
    /// What keeps their deductions apart.
    pub mode: LockMode,
    /// Whether their writes are fenced.
    pub fencing: bool,
    /// Time between the check and the write.
    pub think: Duration,
    /// The lease's ttl; the policy's when `None`.
    pub ttl: Option<Duration>,
    /// Whether the sidecar renews leases.
    pub auto_renew: bool,
}

/// One replica.
#[derive(Debug)]
pub struct Bank {
    name: String,
    client: Client,
    process: Mutex<Option<Process>>,
}

/// What became of a deduction.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// 200: acknowledged. The receipt.
    Applied(Value),
    /// 402: there was not enough.
    Declined,
    /// Refused, with the problem's code.
    Refused(String),
    /// No answer: applied or not, nobody knows.
    Unknown,
}

/// A deduction that was asked for.
#[derive(Debug, Clone)]
pub struct Deduction {
    /// What became of it.
    pub outcome: Outcome,
    /// From when it was asked for until its last answer, with all tries.
    pub took: Duration,
}

impl Deduction {
    /// How long it waited for the others, when it was applied.
    pub fn waited(&self) -> Option<Duration> {
        match &self.outcome {
            Outcome::Applied(receipt) => receipt["waitedMs"].as_u64().map(Duration::from_millis),
            _ => None,
        }
    }

    /// When the bank believed to hold the lock, when it was applied under one.
    pub fn held(&self) -> Option<(Instant, Instant)> {
        let Outcome::Applied(receipt) = &self.outcome else {
            return None;
        };
        let at = |name: &str| serde_json::from_value(receipt["lock"][name].clone()).ok();
        Some((at("heldFrom")?, at("heldUntil")?))
    }

    /// The fencing token that the write carried.
    pub fn token(&self) -> Option<u64> {
        match &self.outcome {
            Outcome::Applied(receipt) => receipt["lock"]["fencingToken"].as_u64(),
            _ => None,
        }
    }
}

/// An account as the books have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Books {
    /// The balance.
    pub balance: i64,
    /// What it should be.
    pub expected: i64,
    /// Acknowledged deductions.
    pub deductions: i64,
    /// Those of them that the balance does not show.
    pub lost_updates: i64,
}

impl Bank {
    /// Starts `count` replicas and waits until they are ready.
    pub async fn start(
        stage: &Stage,
        name: &str,
        count: usize,
        cast: &Cast,
    ) -> Result<Vec<Self>, RaceError> {
        let mut banks = Vec::with_capacity(count);
        for index in 0..count {
            let port = stage
                .ports
                .free()
                .map_err(RaceError::system("no free port"))?;
            banks.push(Self::spawn(
                stage,
                &format!("{name}-{}", index + 1),
                &format!("127.0.0.1:{port}"),
                index,
                cast,
            )?);
        }
        for bank in &banks {
            bank.ready(stage).await?;
        }
        Ok(banks)
    }

    /// Starts a replica that uses the sidecar of replica `index`.
    pub fn spawn(
        stage: &Stage,
        name: &str,
        listen: &str,
        index: usize,
        cast: &Cast,
    ) -> Result<Self, RaceError> {
        let on_off = |on: bool| if on { "on" } else { "off" };
        let mut arguments: Vec<OsString> = vec!["bank".into()];
        for (option, value) in [
            ("--listen", listen.to_owned()),
            ("--store", stage.store.clone()),
            ("--name", name.to_owned()),
            ("--lock-mode", cast.mode.name().to_owned()),
            ("--fencing", on_off(cast.fencing).to_owned()),
            ("--sidecar", stage.sidecar_of(index).url.clone()),
            ("--policy", ACCOUNTS.to_owned()),
            ("--lock-wait", "30s".to_owned()),
            (
                "--lock-renew",
                if cast.auto_renew { "auto" } else { "manual" }.to_owned(),
            ),
            ("--think", format_duration(cast.think)),
        ] {
            arguments.extend([option.into(), value.into()]);
        }
        if let Some(ttl) = cast.ttl {
            arguments.extend(["--lock-ttl".into(), format_duration(ttl).into()]);
        }
        let log = stage.logs.join(format!("bank-{name}.log"));
        let process = Process::start(&stage.program, &arguments, &log)
            .map_err(RaceError::system("a bank cannot be started"))?;
        Ok(Self {
            name: name.to_owned(),
            client: Client::new(&format!("http://{listen}"))?,
            process: Mutex::new(Some(process)),
        })
    }

    /// Waits until it answers.
    pub async fn ready(&self, stage: &Stage) -> Result<(), RaceError> {
        let ready = stage
            .ready(&self.client, || {
                self.process().as_mut().and_then(Process::ended)
            })
            .await;
        ready.map_err(|why| {
            let (log, words) = self
                .process()
                .as_ref()
                .map(|p| (p.log.clone(), p.last_words()))
                .unwrap_or_default();
            RaceError::Start {
                name: format!("bank {}", self.name),
                why,
                log,
                words,
            }
        })
    }

    /// Sends its process a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = self.process().as_mut() {
            process.signal(signal);
        }
    }

    /// kill -9, and waits until it is gone.
    pub fn kill(&self) {
        drop(self.process().take());
    }

    /// Ends it in order.
    pub async fn end(self) {
        let process = self.process().take();
        if let Some(process) = process {
            process.end(Duration::from_secs(12)).await;
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens an account.
    pub async fn open(&self, user: &str, balance: i64) -> Result<(), RaceError> {
        let body = json!({"userId": user, "balance": balance});
        let answer = self
            .client
            .post("/api/balance/init", &body, &[], ANSWER)
            .await?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(RaceError::Bank(
            String::from_utf8_lossy(answer.body()).into_owned(),
        ))
    }

    /// Reads an account.
    pub async fn books(&self, user: &str) -> Result<Books, RaceError> {
        let account = self.json(&format!("/api/balance/{user}")).await?;
        let number = |name: &str| {
            account[name]
                .as_i64()
                .ok_or_else(|| RaceError::Bank(format!("an account without {name}: {account}")))
        };
        Ok(Books {
            balance: number("balance")?,
            expected: number("expected")?,
            deductions: number("deductions")?,
            lost_updates: number("lostUpdates")?,
        })
    }

    /// Waits until a request is stalled right before its write.
    pub async fn stalled(&self) -> Result<(), RaceError> {
        let asked = clock::now();
        while self.json("/api/status").await?["delayed"] != 1 {
            if asked.elapsed() > Duration::from_secs(30) {
                return Err(RaceError::Bank(
                    "its deduction did not come as far as the write".to_owned(),
                ));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Deducts once; `delay` stalls it right before the write.
    pub async fn deduct_once(&self, user: &str, amount: i64, delay: Duration) -> Deduction {
        let asked = clock::now();
        let answer = self.try_deduct(user, amount, delay).await;
        Deduction {
            outcome: answer.map_or_else(|_| Outcome::Unknown, |(outcome, _)| outcome),
            took: asked.elapsed(),
        }
    }

    /// Deducts, and tries again while the bank says that nothing was written and a retry may help.
    pub async fn deduct(&self, user: &str, amount: i64) -> Deduction {
        let asked = clock::now();
        loop {
            let outcome = match self.try_deduct(user, amount, Duration::ZERO).await {
                Ok((Outcome::Refused(_), Some(pause))) if asked.elapsed() < PATIENCE => {
                    let longest = u64::try_from(pause.as_millis())
                        .unwrap_or(1000)
                        .clamp(20, 1000);
                    tokio::time::sleep(Duration::from_millis(rand::random_range(10..=longest)))
                        .await;
                    continue;
                }
                Ok((outcome, _)) => outcome,
                Err(_) => Outcome::Unknown,
            };
            return Deduction {
                outcome,
                took: asked.elapsed(),
            };
        }
    }

    async fn try_deduct(
        &self,
        user: &str,
        amount: i64,
        delay: Duration,
    ) -> Result<(Outcome, Option<Duration>), WireError> {
        let body = json!({"userId": user, "amount": amount});
        let delay_text = format_duration(delay);
        let headers: &[_] = if delay.is_zero() {
            &[]
        } else {
            &[("x-simulate-delay", delay_text.as_str())]
        };
        let answer = self
            .client
            .post("/api/deduct", &body, headers, ANSWER + delay)
            .await?;
        let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
        Ok(match answer.status().as_u16() {
            200 => (Outcome::Applied(body), None),
            402 => (Outcome::Declined, None),
            // The one problem with which something may have been written.
            500 if body["code"] == "unconfirmed" => (Outcome::Unknown, None),
            _ => {
                let code = body["code"].as_str().unwrap_or("unknown").to_owned();
                let retry = body["retryAfterMs"].as_u64().map(Duration::from_millis);
                (Outcome::Refused(code), retry)
            }
        })
    }

    async fn json(&self, path: &str) -> Result<Value, RaceError> {
        let answer = self.client.get(path, ANSWER).await?;
        serde_json::from_slice(answer.body()).map_err(|e| RaceError::Bank(format!("{path}: {e}")))
    }
}

/// Ends all of them at once.
pub async fn end_all(banks: Vec<Bank>) {
    let mut ending = tokio::task::JoinSet::new();
    for bank in banks {
        ending.spawn(bank.end());
    }
    while ending.join_next().await.is_some() {}
}

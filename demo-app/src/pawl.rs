//! A client of the Pawl sidecar: what a program does to hold a lock, in one page.
//!
//! ```no_run
//! # use pawl_demo::pawl::{Pawl, PawlError, Terms};
//! # async fn change(token: u64) -> Result<(), std::io::Error> { Ok(()) }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let pawl = Pawl::new("http://127.0.0.1:4600", "payments")?;
//! let lease = pawl.acquire(&["account/42"], &Terms::default()).await?; // an error is never a grant
//! let outcome = if lease.is_held() { Some(change(lease.token()).await) } else { None };
//! let released = pawl.release(&lease).await; // whatever the outcome was, so no `?` in between
//! if let Err(PawlError::Lost { reason }) = released { /* we were not alone: check the outcome */ }
//! # Ok(()) }
//! ```
//!
//! Four rules make it safe: no answer is no grant; a lease ends by *our* clock, counted from before the
//! request; the fencing token goes along with the write, for the store to refuse a late one; and a release
//! that answers 410 says that the lock had been lost. Run the whole in a task that is not cancelled: a
//! lease whose program just forgets it is kept until its `maxHold` (or its `ttl` when renewed by hand).

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::clock::{self, Instant};
use crate::units::format_duration;
use crate::wire::{self, Client, WireError};

mod error;
mod stream;
pub use error::PawlError;
pub use stream::{Event, Stream};

/// How long the sidecar may take beyond the time a call is allowed to wait.
const ANSWER: Duration = Duration::from_secs(5);
/// What a key may have besides letters and digits.
const IN_KEY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'_')
    .remove(b':')
    .remove(b'@')
    .remove(b'-');

/// What is asked of a lock; what is `None` is as the policy says.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// How long the lease lives without a renewal.
    pub ttl: Option<Duration>,
    /// How long to queue for it.
    pub wait: Option<Duration>,
    /// The name that others are shown.
    pub owner: Option<String>,
    /// Whether the sidecar renews it (`true`) or [`Pawl::renew`] does (`false`).
    pub auto_renew: Option<bool>,
}

impl Terms {
    fn body(&self, keys: Option<&[&str]>) -> Value {
        let mut body = json!({});
        for (name, value) in [
            ("ttl", self.ttl.map(|d| format_duration(d).into())),
            ("wait", self.wait.map(|d| format_duration(d).into())),
            ("owner", self.owner.clone().map(Value::from)),
            (
                "renew",
                self.auto_renew
                    .map(|auto| if auto { "auto" } else { "manual" }.into()),
            ),
            ("keys", keys.map(Value::from)),
        ] {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        body
    }
}

/// A lock that was granted.
#[derive(Debug, Clone)]
pub struct Lease {
    id: String,
    /// One fencing token per key, in the order of the keys.
    tokens: Vec<u64>,
    /// From when we held it, at the latest.
    pub since: Instant,
    /// From when we must not believe that we hold it, unless it is renewed.
    pub deadline: Instant,
    /// How long it was queued for.
    pub waited: Duration,
}

impl Lease {
    /// Whether it is still ours by our own clock. Ask right before the write, and fence the write too:
    /// a process may be paused between the two.
    pub fn is_held(&self) -> bool {
        clock::now() < self.deadline
    }

    /// The fencing token of the first (or only) key; goes along with every write.
    pub fn token(&self) -> u64 {
        self.tokens[0]
    }

    /// The fencing tokens, in the order of the keys.
    pub fn tokens(&self) -> &[u64] {
        &self.tokens
    }
}

/// The sidecar, seen through one policy.
#[derive(Debug)]
pub struct Pawl {
    sidecar: Client,
    policy: String,
    token_file: Option<PathBuf>,
}

impl Pawl {
    /// The sidecar at `address` (`http://HOST:PORT` or `unix:/PATH`), by the rules of `policy`.
    pub fn new(address: &str, policy: &str) -> Result<Self, WireError> {
        Ok(Self {
            sidecar: Client::new(address)?,
            policy: policy.to_owned(),
            token_file: None,
        })
    }

    /// Shows the bearer token in this file, for a policy with `auth: Token`. Read for each call: it is small, in
    /// memory, and may be there only after we started.
    #[must_use]
    pub fn with_token_file(self, file: Option<PathBuf>) -> Self {
        Self {
            token_file: file,
            ..self
        }
    }

    /// Acquires all of `keys` or none, queueing for `terms.wait`. Cancelled, it gives up its place.
    pub async fn acquire(&self, keys: &[&str], terms: &Terms) -> Result<Lease, PawlError> {
        let (path, body) = match keys {
            [key] => (self.path(key), terms.body(None)),
            keys => (format!("/v1/locks/{}", self.policy), terms.body(Some(keys))),
        };
        let asked = clock::now();
        let grant = self
            .call(
                Method::POST,
                &path,
                &wire::json(&body),
                terms.wait.unwrap_or_default(),
            )
            .await?;
        let token_of = |key: &str| {
            let of_key = |g: &&Value| g["key"].as_str() == Some(key);
            let grants = grant["grants"]
                .as_array()
                .map_or(std::slice::from_ref(&grant), Vec::as_slice);
            grants
                .iter()
                .find(of_key)
                .and_then(|g| g["fencingToken"].as_u64())
        };
        let tokens: Option<Vec<u64>> = keys.iter().map(|key| token_of(key)).collect();
        let waited = Duration::from_millis(grant["waitedMs"].as_u64().unwrap_or(0));
        match (grant["leaseId"].as_str(), tokens, ms(&grant, "expiresInMs")) {
            (Some(id), Some(tokens), Some(expires_in)) if !tokens.is_empty() => Ok(Lease {
                id: id.to_owned(),
                tokens,
                since: clock::now(),
                // The grant was made `waited` after the sidecar had our request, which was after `asked`.
                deadline: asked + waited + expires_in,
                waited,
            }),
            _ => Err(PawlError::Strange(format!(
                "a grant without its terms for {keys:?}"
            ))),
        }
    }

    /// Extends a lease by its ttl, or says that it was lost. No answer changes nothing: the old deadline stands.
    pub async fn renew(&self, lease: &mut Lease) -> Result<(), PawlError> {
        let asked = clock::now();
        let path = format!("/v1/leases/{}/renew", lease.id);
        let renewed = self
            .call(Method::POST, &path, &wire::json(&json!({})), Duration::ZERO)
            .await?;
        let expires_in = ms(&renewed, "expiresInMs")
            .ok_or(PawlError::Strange("a renewal without its end".into()))?;
        lease.deadline = asked + expires_in;
        Ok(())
    }

    /// What the sidecar knows about a lease: `held` or `uncertain`, or the error that it was lost.
    pub async fn state(&self, lease: &Lease) -> Result<String, PawlError> {
        let path = format!("/v1/leases/{}", lease.id);
        let answer = self
            .call(Method::GET, &path, &Bytes::new(), Duration::ZERO)
            .await?;
        Ok(answer["state"].as_str().unwrap_or("unknown").to_owned())
    }

    /// Gives a lease back. [`PawlError::Lost`] says that it had been lost before: someone else may have
    /// held the lock while we still worked. Asked again when the answer does not come.
    pub async fn release(&self, lease: &Lease) -> Result<(), PawlError> {
        let path = format!("/v1/leases/{}", lease.id);
        // The same key on every try, so that a release whose answer was lost is not told as 404.
        let once = format!("{:032x}", rand::random::<u128>());
        let mut tries = 0;
        loop {
            let request = self.request(
                Method::DELETE,
                &path,
                &Bytes::new(),
                &[("idempotency-key", &once)],
            );
            match self.sidecar.send(request, ANSWER).await {
                Ok(answer) => return error::check(&answer).map(drop),
                Err(e) if tries == 2 => return Err(e.into()),
                Err(_) => tries += 1,
            }
        }
    }

    /// Acquires a key and holds it for as long as the returned stream lives; tells what becomes of it.
    pub async fn stream(&self, key: &str, terms: &Terms) -> Result<Stream, PawlError> {
        let headers = [("accept", "text/event-stream")];
        let body = wire::json(&terms.body(None));
        let request = self.request(Method::POST, &self.path(key), &body, &headers);
        let stream = self
            .sidecar
            .open(request, ANSWER + terms.wait.unwrap_or_default())
            .await?;
        Stream::of(stream).await
    }

    /// Who holds `key`, since when, and how many wait for it.
    pub async fn holder(&self, key: &str) -> Result<Value, PawlError> {
        self.call(Method::GET, &self.path(key), &Bytes::new(), Duration::ZERO)
            .await
    }

    /// The leases, holds and waiters of this sidecar.
    pub async fn locks(&self) -> Result<Value, PawlError> {
        self.call(
            Method::GET,
            &format!("/v1/locks/{}", self.policy),
            &Bytes::new(),
            Duration::ZERO,
        )
        .await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: &Bytes,
        headers: &[(&'static str, &str)],
    ) -> Request<Full<Bytes>> {
        let token = self
            .token_file
            .as_ref()
            .and_then(|file| std::fs::read_to_string(file).ok());
        let bearer = token.map(|token| format!("Bearer {}", token.trim_end()));
        let bearer = bearer.iter().map(|value| ("authorization", value.as_str()));
        wire::request(
            method,
            path,
            body,
            &headers.iter().copied().chain(bearer).collect::<Vec<_>>(),
        )
    }

    fn path(&self, key: &str) -> String {
        format!(
            "/v1/locks/{}/{}",
            self.policy,
            utf8_percent_encode(key, IN_KEY)
        )
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: &Bytes,
        wait: Duration,
    ) -> Result<Value, PawlError> {
        let answer = self
            .sidecar
            .send(self.request(method, path, body, &[]), wait + ANSWER)
            .await?;
        error::check(&answer)
    }
}

fn ms(answer: &Value, name: &str) -> Option<Duration> {
    answer[name].as_u64().map(Duration::from_millis)
}

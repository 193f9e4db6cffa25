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

use crate::clock;
use crate::wire::{self, Client, WireError};

mod error;
mod lease;
mod stream;
mod terms;
pub use error::PawlError;
pub use lease::Lease;
pub use stream::{Event, Stream};
pub use terms::Terms;

/// How long the sidecar may take beyond the time a call is allowed to wait.
const ANSWER: Duration = Duration::from_secs(5);
/// All but what a key may have besides letters and digits, `._:/@-`.
const NOT_IN_KEY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'_')
    .remove(b':')
    .remove(b'/')
    .remove(b'@')
    .remove(b'-');

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
        let sidecar = Client::new(address)?;
        Ok(Self {
            sidecar,
            policy: policy.to_owned(),
            token_file: None,
        })
    }

    /// Shows the bearer token in this file, for a policy with `auth: Token`. Read for each call: it is small, in
    /// memory, and may be there only after we started.
    #[must_use]
    pub fn with_token_file(self, token_file: Option<PathBuf>) -> Self {
        Self { token_file, ..self }
    }

    /// Acquires all of `keys` or none, queueing for `terms.wait`. Cancelled, it gives up its place.
    pub async fn acquire(&self, keys: &[&str], terms: &Terms) -> Result<Lease, PawlError> {
        let (path, body) = match keys {
            [key] => (self.path(key), terms.body(None)),
            keys => (self.list(), terms.body(Some(keys))),
        };
        let asked = clock::now();
        let grant = self
            .call(Method::POST, &path, &body, terms.wait.unwrap_or_default())
            .await?;
        Lease::granted(keys, &grant, asked).ok_or(PawlError::Strange("a grant without its terms"))
    }

    /// Extends a lease by its ttl, or says that it was lost. No answer changes nothing: the old deadline stands.
    pub async fn renew(&self, lease: &mut Lease) -> Result<(), PawlError> {
        let asked = clock::now();
        let path = format!("/v1/leases/{}/renew", lease.id);
        let renewed = self
            .call(Method::POST, &path, &json!({}), Duration::ZERO)
            .await?;
        let expires_in = renewed["expiresInMs"].as_u64().map(Duration::from_millis);
        lease.deadline =
            asked + expires_in.ok_or(PawlError::Strange("a renewal without its end"))?;
        Ok(())
    }

    /// What the sidecar knows about a lease: `held` or `uncertain`, or the error that it was lost.
    pub async fn state(&self, lease: &Lease) -> Result<String, PawlError> {
        let answer = self.get(&format!("/v1/leases/{}", lease.id)).await?;
        Ok(answer["state"].as_str().unwrap_or("unknown").to_owned())
    }

    /// Gives a lease back. [`PawlError::Lost`] says that it had been lost before: someone else may have
    /// held the lock while we still worked. Asked again when the answer does not come.
    pub async fn release(&self, lease: &Lease) -> Result<(), PawlError> {
        let path = format!("/v1/leases/{}", lease.id);
        // The same key on every try, so that a release whose answer was lost is not told as one of a lease that is over.
        let once = format!("{:032x}", rand::random::<u128>());
        let mut tries = 0;
        loop {
            let request = self.request(
                Method::DELETE,
                &path,
                &Value::Null,
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
        let accept = [("accept", "text/event-stream")];
        let request = self.request(Method::POST, &self.path(key), &terms.body(None), &accept);
        let limit = ANSWER + terms.wait.unwrap_or_default();
        Stream::of(self.sidecar.open(request, limit).await?).await
    }

    /// Who holds `key`, since when, and how many wait for it.
    pub async fn holder(&self, key: &str) -> Result<Value, PawlError> {
        self.get(&self.path(key)).await
    }

    /// The leases, holds and waiters of this sidecar.
    pub async fn locks(&self) -> Result<Value, PawlError> {
        self.get(&self.list()).await
    }

    fn list(&self) -> String {
        format!("/v1/locks/{}", self.policy)
    }

    fn path(&self, key: &str) -> String {
        format!(
            "/v1/locks/{}/{}",
            self.policy,
            utf8_percent_encode(key, NOT_IN_KEY)
        )
    }

    async fn get(&self, path: &str) -> Result<Value, PawlError> {
        self.call(Method::GET, path, &Value::Null, Duration::ZERO)
            .await
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        wait: Duration,
    ) -> Result<Value, PawlError> {
        let answer = self
            .sidecar
            .send(self.request(method, path, body, &[]), wait + ANSWER)
            .await?;
        error::check(&answer)
    }

    /// A request with a JSON body (none when null) and, where there is one, the pod's token.
    fn request(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        headers: &[(&'static str, &str)],
    ) -> Request<Full<Bytes>> {
        let body = if body.is_null() {
            Bytes::new()
        } else {
            wire::json(body)
        };
        let token = self
            .token_file
            .as_ref()
            .and_then(|file| std::fs::read_to_string(file).ok());
        let bearer = token.map(|token| format!("Bearer {}", token.trim_end()));
        let bearer = bearer.iter().map(|value| ("authorization", value.as_str()));
        let headers: Vec<_> = headers.iter().copied().chain(bearer).collect();
        wire::request(method, path, &body, &headers)
    }
}

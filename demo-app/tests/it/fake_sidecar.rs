//! A sidecar for tests: speaks the part of the API that the demo uses, in one process, as a Pawl sidecar would,
//! or with one thing wrong, so that the acts of the race have something to find.
//!
//! The test program itself is that process: a script, given to the race as `--sidecar-bin`, runs it again with only the
//! "test" [`process`], which serves until it is killed.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use pawl_demo::clock::{self, Instant};
use pawl_demo::units::parse_duration;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// What is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Everybody is granted at once.
    GrantsAll,
    /// Who came last is served first.
    Lifo,
    /// The token is always the same.
    TokenStuck,
    /// A release always says that all was well.
    NeverTellsLoss,
}

const FAULTS: [Fault; 5] = [
    Fault::None,
    Fault::GrantsAll,
    Fault::Lifo,
    Fault::TokenStuck,
    Fault::NeverTellsLoss,
];

/// Writes a program that is a sidecar with this fault.
pub(crate) fn program(dir: &Path, fault: Fault) -> PathBuf {
    let path = dir.join(format!("fake-sidecar-{fault:?}"));
    let test_program = std::env::current_exe().unwrap();
    let script = format!(
        "#!/bin/sh\nFAKE_FAULT={fault:?} FAKE_ARGUMENTS=\"$*\" exec '{}' --exact fake_sidecar::process --ignored --nocapture\n",
        test_program.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The process that the script becomes.
#[test]
#[ignore = "serves until it is killed; started by other tests"]
fn process() {
    let arguments = std::env::var("FAKE_ARGUMENTS").expect("only started by the script");
    let fault = std::env::var("FAKE_FAULT").unwrap();
    let fault = FAULTS
        .into_iter()
        .find(|f| format!("{f:?}") == fault)
        .unwrap();
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let of =
        |name: &str| arguments[arguments.iter().position(|a| *a == name).unwrap() + 1].to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(serve(of("--listen"), of("--admin"), fault));
}

async fn serve(listen: String, admin: String, fault: Fault) {
    let locks = Arc::new(Locks {
        fault,
        state: Mutex::default(),
    });
    let (api, admin) = (
        TcpListener::bind(listen).await.unwrap(),
        TcpListener::bind(admin).await.unwrap(),
    );
    let mut tasks = JoinSet::new();
    let expiry = locks.clone();
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            expiry.expire();
        }
    });
    loop {
        let socket = tokio::select! {
            socket = api.accept() => socket,
            socket = admin.accept() => socket,
        };
        let (socket, locks) = (socket.unwrap().0, locks.clone());
        tasks.spawn(async move {
            let service = service_fn(move |request| answer(locks.clone(), request));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

#[derive(Debug, Default)]
struct State {
    last_token: u64,
    last_id: u64,
    slots: HashMap<String, Slot>,
    leases: HashMap<u64, Lease>,
    lost: Vec<u64>,
}

#[derive(Debug, Default)]
struct Slot {
    holders: Vec<u64>,
    queue: VecDeque<(u64, Ask, oneshot::Sender<u64>)>,
}

#[derive(Debug, Clone)]
struct Ask {
    owner: String,
    ttl: Duration,
    auto: bool,
}

#[derive(Debug)]
struct Lease {
    key: String,
    token: u64,
    ask: Ask,
    until: Instant,
}

#[derive(Debug)]
struct Locks {
    fault: Fault,
    state: Mutex<State>,
}

impl Locks {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A place in the queue, which may be served already.
    fn queue(self: &Arc<Self>, key: &str, ask: Ask) -> Place {
        let (grant, granted) = oneshot::channel();
        let mut state = self.state();
        state.last_id += 1;
        let id = state.last_id;
        state
            .slots
            .entry(key.to_owned())
            .or_default()
            .queue
            .push_back((id, ask, grant));
        self.advance(&mut state, key);
        Place {
            locks: self.clone(),
            key: key.to_owned(),
            id,
            granted,
            kept: false,
        }
    }

    fn advance(&self, state: &mut State, key: &str) {
        let State {
            slots,
            leases,
            last_token,
            ..
        } = state;
        let slot = slots.get_mut(key).unwrap();
        while slot.holders.is_empty() || self.fault == Fault::GrantsAll {
            let next = if self.fault == Fault::Lifo {
                slot.queue.pop_back()
            } else {
                slot.queue.pop_front()
            };
            let Some((id, ask, grant)) = next else { return };
            if self.fault != Fault::TokenStuck || *last_token == 0 {
                *last_token += 1;
            }
            let until = clock::now() + ask.ttl;
            leases.insert(
                id,
                Lease {
                    key: key.to_owned(),
                    token: *last_token,
                    ask,
                    until,
                },
            );
            slot.holders.push(id);
            let _ = grant.send(id);
        }
    }

    fn end(&self, id: u64) -> bool {
        let mut state = self.state();
        let Some(lease) = state.leases.remove(&id) else {
            return false;
        };
        state
            .slots
            .get_mut(&lease.key)
            .unwrap()
            .holders
            .retain(|holder| *holder != id);
        self.advance(&mut state, &lease.key);
        true
    }

    fn expire(&self) {
        let over = |lease: &Lease| !lease.ask.auto && clock::now() >= lease.until;
        let ids: Vec<u64> = self
            .state()
            .leases
            .iter()
            .filter(|(_, l)| over(l))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.state().lost.push(id);
            self.end(id);
        }
    }

    fn grant(&self, id: u64, waited: Duration) -> Value {
        let state = self.state();
        let lease = &state.leases[&id];
        json!({
            "leaseId": id.to_string(), "key": lease.key, "fencingToken": lease.token, "mode": "exclusive",
            "ttlMs": ms(lease.ask.ttl), "expiresInMs": ms(lease.until.left()), "waitedMs": ms(waited),
        })
    }
}

/// A waiter; dropped before it is kept, it leaves, and what it was granted meanwhile is given back.
struct Place {
    locks: Arc<Locks>,
    key: String,
    id: u64,
    granted: oneshot::Receiver<u64>,
    kept: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept {
            self.locks
                .state()
                .slots
                .get_mut(&self.key)
                .unwrap()
                .queue
                .retain(|(id, ..)| *id != self.id);
            self.locks.end(self.id);
        }
    }
}

/// An event stream; dropped when the connection ends, and the lock with it.
struct Events {
    events: mpsc::Receiver<Bytes>,
    _tasks: JoinSet<()>,
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.events
            .poll_recv(cx)
            .map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(locks: Arc<Locks>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let stream = request
        .headers()
        .get("accept")
        .is_some_and(|a| a == "text/event-stream");
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let body = request
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let parts: Vec<&str> = path.splitn(5, '/').skip(1).collect();
    Ok(match (method, parts.as_slice()) {
        (Method::GET, ["readyz"]) => reply(200, &json!({})),
        (Method::POST, ["v1", "locks", _, key]) if stream => events(&locks, key, &body),
        (Method::POST, ["v1", "locks", _, key]) => {
            acquire(&locks, &[(*key).to_owned()], &body).await
        }
        (Method::POST, ["v1", "locks", _]) => {
            let keys = body["keys"]
                .as_array()
                .unwrap()
                .iter()
                .map(|k| k.as_str().unwrap().to_owned());
            acquire(&locks, &keys.collect::<Vec<_>>(), &body).await
        }
        (Method::GET, ["v1", "locks", _, key]) => {
            let state = locks.state();
            let slot = state.slots.get(*key);
            let holder = slot
                .and_then(|s| s.holders.first())
                .map(|id| &state.leases[id]);
            let waiters = slot.map_or(0, |s| s.queue.len());
            reply(
                200,
                &json!({"held": holder.is_some(), "fencingToken": holder.map(|l| l.token), "waiters": waiters}),
            )
        }
        (Method::GET, ["v1", "locks", _]) => {
            let state = locks.state();
            let leases = state.leases.values().map(|l| {
                json!({"key": l.key, "owner": l.ask.owner, "state": "held", "fencingToken": l.token,
                       "expiresInMs": ms(l.until.left())})
            });
            let waiters: usize = state.slots.values().map(|s| s.queue.len()).sum();
            reply(
                200,
                &json!({"leases": leases.collect::<Vec<_>>(), "waiters": waiters}),
            )
        }
        (Method::DELETE, ["v1", "leases", id]) => {
            let ids: Vec<u64> = id.split('+').map(|id| id.parse().unwrap()).collect();
            let ended = ids.iter().filter(|id| locks.end(**id)).count();
            if ended == ids.len() || locks.fault == Fault::NeverTellsLoss {
                reply(204, &Value::Null)
            } else {
                reply(
                    410,
                    &json!({"code": "lost", "detail": "the lease was over", "reason": "expired"}),
                )
            }
        }
        _ => reply(404, &json!({"code": "no_route", "detail": path})),
    })
}

fn ask(body: &Value) -> (Ask, Duration) {
    let duration = |name: &str, or: u64| {
        body[name]
            .as_str()
            .map_or(Duration::from_millis(or), |text| {
                parse_duration(text).unwrap()
            })
    };
    let owner = body["owner"].as_str().unwrap_or("somebody").to_owned();
    let ask = Ask {
        owner,
        ttl: duration("ttl", 10_000),
        auto: body["renew"] != "manual",
    };
    (ask, duration("wait", 0))
}

async fn acquire(locks: &Arc<Locks>, keys: &[String], body: &Value) -> Answer {
    let (ask, wait) = ask(body);
    let asked = clock::now();
    let mut places = Vec::new();
    let mut grants = Vec::new();
    for key in keys {
        let mut place = locks.queue(key, ask.clone());
        match tokio::time::timeout(wait.saturating_sub(asked.elapsed()), &mut place.granted).await {
            Ok(Ok(id)) => grants.push(locks.grant(id, asked.elapsed())),
            _ => {
                return reply(
                    423,
                    &json!({"code": "held", "detail": "held", "holder": "another", "retryAfterMs": 50}),
                );
            }
        }
        places.push(place);
    }
    for place in &mut places {
        place.kept = true;
    }
    if let [grant] = grants.as_slice() {
        return reply(200, grant);
    }
    let ids: Vec<String> = places.iter().map(|p| p.id.to_string()).collect();
    let expires = grants[0]["expiresInMs"].clone();
    let waited = ms(asked.elapsed());
    reply(
        200,
        &json!({"leaseId": ids.join("+"), "grants": grants, "expiresInMs": expires, "waitedMs": waited}),
    )
}

fn events(locks: &Arc<Locks>, key: &str, body: &Value) -> Answer {
    let (ask, _) = ask(body);
    let (send, receive) = mpsc::channel(8);
    let mut place = locks.queue(key, ask);
    let mut tasks = JoinSet::new();
    let locks = locks.clone();
    tasks.spawn(async move {
        let event =
            |name: &str, data: &Value| Bytes::from(format!("event: {name}\ndata: {data}\n\n"));
        if let Ok(id) = place.granted.try_recv() {
            let _ = send
                .send(event("granted", &locks.grant(id, Duration::ZERO)))
                .await;
        } else {
            let _ = send.send(event("queued", &json!({"position": 1}))).await;
            if let Ok(id) = (&mut place.granted).await {
                let _ = send
                    .send(event("granted", &locks.grant(id, Duration::ZERO)))
                    .await;
            }
        }
        // Holds until the body, and with it this task, is dropped.
        std::future::pending::<()>().await;
    });
    let body = Events {
        events: receive,
        _tasks: tasks,
    };
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(BoxBody::new(body))
        .unwrap()
}

fn reply(status: u16, body: &Value) -> Answer {
    let text = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let response = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    response.body(BoxBody::new(Full::from(text))).unwrap()
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap()
}

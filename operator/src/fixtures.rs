//! What tests need that speak to an API server: a small one in memory, and a clock that goes in step with tokio's paused
//! one.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use futures::channel::mpsc;
use http::{HeaderMap, Method, Request, Response, Uri, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::Frame;
use kube::{Client, client::Body};
use pawl_kit::clock::{Clock, ClockHand};
use pawl_lock::Instant;
use serde_json::{Value, json};
use tower_test::mock::{self, Handle, SendResponse};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;
type Watch = mpsc::UnboundedSender<Result<Frame<Bytes>, Infallible>>;

/// What becomes of the calls that come now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Mood {
    /// They are done and answered.
    #[default]
    Well,
    /// All are refused with this code, and nothing is done.
    Refuses(u16),
    /// Nothing is done or answered.
    Silent,
    /// They are done, and the answer is lost.
    Lossy,
    /// They are done and answered after so long.
    Slow(Duration),
}

/// A call that came.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) at: Instant,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Value,
    /// What it was answered with; 0 if it was not.
    pub(crate) code: u16,
}

/// An API server in memory: objects by their path, `resourceVersion`s, watches, and each [`Mood`]. Clones share it.
#[derive(Clone)]
pub(crate) struct FakeApi(Arc<Mutex<State>>);

struct State {
    clock: Clock,
    mood: Mood,
    version: u64,
    objects: BTreeMap<String, Value>,
    watches: Vec<(Selection, Watch)>,
    calls: Vec<Call>,
    unanswered: Vec<SendResponse<Answer>>,
    race: Option<(&'static str, Value)>,
    /// Calls below this path are refused with this code.
    barred: Option<(&'static str, u16)>,
    /// What watches are not told yet; none if they are told at once.
    held_back: Option<Vec<(&'static str, String, Value)>>,
}

/// What a path and its query ask for.
#[derive(Clone, Debug)]
struct Selection {
    /// Up to the namespace.
    root: String,
    namespace: Option<String>,
    plural: String,
    name: Option<String>,
    is_status: bool,
    is_watch: bool,
    field: Option<String>,
    label: Option<String>,
}

impl Selection {
    fn of(uri: &Uri) -> Self {
        let parts: Vec<_> = uri.path().trim_matches('/').split('/').collect();
        let (root, rest) = parts.split_at(if parts[0] == "api" { 2 } else { 3 });
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let query = uri.query().unwrap_or_default();
        let query = query.replace("%3D", "=").replace("%2F", "/");
        let of = |key: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value.to_owned())
        };
        Self {
            root: root.join("/"),
            namespace,
            plural: rest[0].to_owned(),
            name: rest.get(1).map(|name| (*name).to_owned()),
            is_status: rest.get(2) == Some(&"status"),
            is_watch: of("watch").is_some(),
            field: of("fieldSelector"),
            label: of("labelSelector"),
        }
    }

    fn key(&self, name: &str) -> String {
        let namespace = self.namespace.as_deref().unwrap_or_default();
        format!("{}/{namespace}/{}/{name}", self.root, self.plural)
    }

    fn selects(&self, key: &str, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let is_kind = key.starts_with(&format!("{}/", self.root))
            && key.contains(&format!("/{}/", self.plural));
        let is_equal = |pair: &str, of: &Value| {
            pair.split_once('=')
                .is_none_or(|(name, value)| of[name] == value)
        };
        is_kind
            && self
                .namespace
                .as_deref()
                .is_none_or(|namespace| metadata["namespace"] == namespace)
            && self
                .field
                .as_deref()
                .is_none_or(|field| is_equal(field.trim_start_matches("metadata."), metadata))
            && self
                .label
                .as_deref()
                .is_none_or(|label| is_equal(label, &metadata["labels"]))
    }
}

impl FakeApi {
    /// An empty one, a client of it, and what has to run beside the test.
    pub(crate) fn new(clock: Clock) -> (Self, Client, impl Future<Output = ()>) {
        let (service, calls) = mock::pair::<Request<Body>, Answer>();
        let api = Self(Arc::new(Mutex::new(State {
            clock,
            mood: Mood::Well,
            version: 0,
            objects: BTreeMap::new(),
            watches: Vec::new(),
            calls: Vec::new(),
            unanswered: Vec::new(),
            race: None,
            barred: None,
            held_back: None,
        })));
        let serving = api.clone().serve(calls);
        (api, Client::new(service, "default"), serving)
    }

    pub(crate) fn mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// All calls since the last time.
    pub(crate) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    /// All calls since the last time that would change something.
    pub(crate) fn writes(&self) -> Vec<Call> {
        let calls = self.calls().into_iter();
        calls.filter(|call| call.method != Method::GET).collect()
    }

    /// What stands at a path.
    pub(crate) fn get(&self, path: &'static str) -> Option<Value> {
        let selection = Selection::of(&Uri::from_static(path));
        let key = selection.key(selection.name.as_deref()?);
        self.state().objects.get(&key).cloned()
    }

    /// Somebody else writes.
    pub(crate) fn put(&self, path: &'static str, object: Value) {
        self.state().put(path, object);
    }

    /// Somebody else changes what is there, by a merge.
    pub(crate) fn patch(&self, path: &'static str, patch: &Value) {
        let mut object = self.get(path).unwrap_or_default();
        json_patch::merge(&mut object, patch);
        self.put(path, object);
    }

    /// Somebody else is faster than the next write that comes.
    pub(crate) fn outrun(&self, path: &'static str, object: Value) {
        self.state().race = Some((path, object));
    }

    /// Refuses the calls below a path, or none.
    pub(crate) fn bar(&self, barred: Option<(&'static str, u16)>) {
        self.state().barred = barred;
    }

    /// Tells watches nothing for now.
    pub(crate) fn hold_watches(&self) {
        self.state().held_back = Some(Vec::new());
    }

    /// Tells watches all that came in between.
    pub(crate) fn release_watches(&self) {
        let mut state = self.state();
        for (kind, key, object) in state.held_back.take().unwrap_or_default() {
            state.tell(kind, &key, &object);
        }
    }

    /// Somebody else deletes.
    pub(crate) fn delete(&self, path: &'static str) {
        let selection = Selection::of(&Uri::from_static(path));
        let key = selection.key(selection.name.as_deref().unwrap_or_default());
        let mut state = self.state();
        if let Some(object) = state.objects.remove(&key) {
            state.tell("DELETED", &key, &object);
        }
    }

    async fn serve(self, mut calls: Handle<Request<Body>, Answer>) {
        while let Some((request, answer)) = calls.next_request().await {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let mood = self.state().mood;
            if let Mood::Slow(by) = mood {
                tokio::time::sleep(by / 2).await;
            }
            let done = self
                .state()
                .handle(&parts.method, &parts.uri, &parts.headers, body, mood);
            if let Mood::Slow(by) = mood {
                tokio::time::sleep(by / 2).await;
            }
            match done {
                Some(done) => answer.send_response(done),
                None => self.state().unanswered.push(answer),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl State {
    fn put(&mut self, path: &'static str, object: Value) {
        let selection = Selection::of(&Uri::from_static(path));
        let name = selection.name.clone().unwrap_or_default();
        self.store(&selection, &name, object);
    }

    fn handle(
        &mut self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Value,
        mood: Mood,
    ) -> Option<Answer> {
        if *method != Method::GET
            && let Some((path, object)) = self.race.take()
        {
            self.put(path, object);
        }
        let selection = Selection::of(uri);
        let is_strategic = headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind == "application/strategic-merge-patch+json");
        let barred = self
            .barred
            .filter(|(below, _)| uri.path().starts_with(below));
        let done = match mood {
            _ if let Some((_, code)) = barred => Err(code),
            Mood::Refuses(code) => Err(code),
            Mood::Silent => Err(0),
            Mood::Well | Mood::Lossy | Mood::Slow(_) => {
                if selection.is_watch {
                    return Some(self.watch(selection, uri));
                }
                self.done(method, &selection, body.clone(), is_strategic)
            }
        };
        let (code, answer) = match done {
            Ok(object) => (200, object),
            Err(code) => (code, failure(code)),
        };
        let is_lost = matches!(mood, Mood::Silent | Mood::Lossy);
        self.calls.push(Call {
            at: self.clock.now(),
            method: method.clone(),
            path: uri.path().to_owned(),
            body,
            code: if is_lost { 0 } else { code },
        });
        let whole = Full::new(Bytes::from(answer.to_string()));
        (!is_lost).then(|| response(code, whole.boxed_unsync()))
    }

    fn done(
        &mut self,
        method: &Method,
        selection: &Selection,
        body: Value,
        is_strategic: bool,
    ) -> Result<Value, u16> {
        let name = selection
            .name
            .clone()
            .or_else(|| Some(body["metadata"]["name"].as_str()?.to_owned()));
        let Some(name) = name else {
            return Ok(self.list(selection));
        };
        let there = self.objects.get(&selection.key(&name)).cloned();
        if *method == Method::GET {
            return there.ok_or(404);
        }
        for must in ["resourceVersion", "uid"] {
            let told = &body["metadata"][must];
            let differs = |there: &Value| !told.is_null() && there["metadata"][must] != *told;
            if there.as_ref().is_some_and(differs) {
                return Err(409);
            }
        }
        match (method, there) {
            (&Method::POST, Some(_)) => Err(409),
            (&Method::POST, None) | (&Method::PUT, Some(_)) => {
                Ok(self.store(selection, &name, body))
            }
            (&Method::PATCH, Some(mut there)) => {
                if selection.is_status {
                    there["status"] = body["status"].clone();
                } else {
                    merge(&mut there, &body, is_strategic);
                }
                Ok(self.store(selection, &name, there))
            }
            (&Method::PATCH, None) if body.get("kind").is_some() && !selection.is_status => {
                Ok(self.store(selection, &name, body))
            }
            _ => Err(404),
        }
    }

    fn list(&self, selection: &Selection) -> Value {
        let items = self.objects.iter();
        let items: Vec<_> = items
            .filter(|(key, object)| selection.selects(key, object))
            .map(|(_, object)| object)
            .collect();
        let version = self.version.to_string();
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": version}, "items": items})
    }

    fn store(&mut self, selection: &Selection, name: &str, mut object: Value) -> Value {
        let key = selection.key(name);
        self.version += 1;
        let metadata = &mut object["metadata"];
        metadata["name"] = json!(name);
        metadata["resourceVersion"] = json!(self.version.to_string());
        if let Some(namespace) = &selection.namespace {
            metadata["namespace"] = json!(namespace);
        }
        let kind = match self.objects.insert(key.clone(), object.clone()) {
            Some(_) => "MODIFIED",
            None => "ADDED",
        };
        self.tell(kind, &key, &object);
        object
    }

    fn watch(&mut self, selection: Selection, uri: &Uri) -> Answer {
        let (watch, events) = mpsc::unbounded();
        // What came between the list and the watch.
        let query = uri.query().unwrap_or_default();
        let from = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("resourceVersion="));
        let from: u64 = from.and_then(|from| from.parse().ok()).unwrap_or_default();
        for (key, object) in &self.objects {
            let version = object["metadata"]["resourceVersion"].as_str();
            let is_newer = version.and_then(|text| text.parse().ok()) > Some(from);
            if is_newer && selection.selects(key, object) {
                match &mut self.held_back {
                    Some(held_back) => held_back.push(("ADDED", key.clone(), object.clone())),
                    None => drop(watch.unbounded_send(Ok(event("ADDED", object)))),
                }
            }
        }
        self.watches.push((selection, watch));
        response(200, StreamBody::new(events).boxed_unsync())
    }

    fn tell(&mut self, kind: &'static str, key: &str, object: &Value) {
        if let Some(held_back) = &mut self.held_back {
            held_back.push((kind, key.to_owned(), object.clone()));
            return;
        }
        self.watches.retain(|(selection, watch)| {
            !selection.selects(key, object) || watch.unbounded_send(Ok(event(kind, object))).is_ok()
        });
    }
}

fn event(kind: &str, object: &Value) -> Frame<Bytes> {
    Frame::data(Bytes::from(format!(
        "{}\n",
        json!({"type": kind, "object": object})
    )))
}

fn failure(code: u16) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Other",
    };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no"})
}

fn response(code: u16, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    let response = Response::builder().status(code);
    response.body(body).unwrap()
}

/// A merge; by the names of what is in lists, if it is a strategic one.
fn merge(there: &mut Value, patch: &Value, is_strategic: bool) {
    match (there, patch) {
        (Value::Object(there), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    there.remove(key);
                } else {
                    merge(there.entry(key).or_insert(Value::Null), value, is_strategic);
                }
            }
        }
        (Value::Array(there), Value::Array(patch)) if is_strategic => {
            for item in patch {
                match there.iter_mut().find(|other| other["name"] == item["name"]) {
                    Some(found) => merge(found, item, is_strategic),
                    None => there.push(item.clone()),
                }
            }
        }
        (there, patch) => *there = patch.clone(),
    }
}

/// Moves a manual clock in step with tokio's paused one, for ever. What sleeps on either is awake when it should be.
pub(crate) async fn in_step(hand: &ClockHand, step: Duration) {
    loop {
        tokio::time::sleep(step).await;
        hand.advance(step);
    }
}

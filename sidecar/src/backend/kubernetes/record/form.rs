//! How a record is written: labels and annotations.

use std::{collections::BTreeMap, time::Duration};

use pawl_crds::names::labels::POLICY;
use pawl_lock::{BackendToken, FencingToken, HoldId, Owner, Ttl, lease::Mode};
use serde::{Deserialize, Serialize};

use super::{Garbled, Held, Names, Waiting};

/// Annotation: the key.
pub(in crate::backend::kubernetes) const KEY: &str = "pawl.dev/key";
/// Annotation: `<namespace>/<policy>`, or `=<prefix>`.
pub(in crate::backend::kubernetes) const SCOPE: &str = "pawl.dev/scope";
/// Annotation: the last token.
pub(in crate::backend::kubernetes) const TOKEN: &str = "pawl.dev/token";
/// Annotation: the highest token that the fence saw.
pub(in crate::backend::kubernetes) const FENCE: &str = "pawl.dev/fence";
/// Annotation: holders, queue and the rest, as JSON.
pub(in crate::backend::kubernetes) const STATE: &str = "pawl.dev/lock";

/// Label of every object of a scope; its value is the scope's hash.
pub(in crate::backend::kubernetes) const SCOPE_LABEL: &str = "pawl.dev/scope";
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "pawl-sidecar");

/// The version of [`State`].
pub(super) const VERSION: u32 = 1;

/// What the annotations say.
pub(super) struct Form {
    pub(super) scope: String,
    pub(super) key: String,
    pub(super) token: u64,
    pub(super) fence: u64,
    pub(super) state: State,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct State {
    pub(super) version: u32,
    pub(super) serial: u64,
    pub(super) touched: i64,
    pub(super) holders: Vec<FormHolder>,
    pub(super) waiters: Vec<FormPlace>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) written: Option<String>,
    /// Again, so that an edit of one of the two is found.
    pub(super) token: u64,
    pub(super) fence: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FormHolder {
    id: String,
    #[serde(default, skip_serializing_if = "is_false")]
    shared: bool,
    token: u64,
    ttl_ms: u32,
    owner: String,
    since: i64,
    stamp: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FormPlace {
    id: String,
    #[serde(default, skip_serializing_if = "is_false")]
    shared: bool,
    since: i64,
    keep_ms: u32,
    stamp: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Form {
    /// Reads the annotations; nothing if none of them is Pawl's.
    pub(super) fn read(
        annotations: Option<&BTreeMap<String, String>>,
    ) -> Result<Option<Self>, Garbled> {
        let get = |name| {
            annotations
                .and_then(|all| all.get(name))
                .map(String::as_str)
        };
        if [KEY, SCOPE, TOKEN, FENCE, STATE]
            .into_iter()
            .all(|name| get(name).is_none())
        {
            return Ok(None);
        }
        let need = |name| get(name).ok_or_else(|| garbled(name, "it is missing"));
        let number = |name, most| match get(name) {
            None => Ok(0),
            Some(text) => match text.parse::<u64>() {
                Ok(number) if (1..=most).contains(&number) => Ok(number),
                _ => Err(garbled(name, "it is no token")),
            },
        };
        let state: State = serde_json::from_str(need(STATE)?)
            .map_err(|error| garbled(STATE, &error.to_string()))?;
        if state.version != VERSION {
            return Err(garbled(
                STATE,
                "it was written by a version of Pawl that this one does not know",
            ));
        }
        let form = Self {
            scope: need(SCOPE)?.to_owned(),
            key: need(KEY)?.to_owned(),
            token: number(TOKEN, BackendToken::MAX.get())?,
            fence: number(FENCE, FencingToken::MAX.get())?,
            state,
        };
        if form.state.token != form.token {
            return Err(garbled(TOKEN, "it is not what pawl.dev/lock says"));
        }
        if form.state.fence != form.fence {
            return Err(garbled(FENCE, "it is not what pawl.dev/lock says"));
        }
        Ok(Some(form))
    }

    pub(super) fn write(&self, annotations: &mut BTreeMap<String, String>) {
        let state = serde_json::to_string(&self.state).expect("numbers and strings are JSON");
        let mut set = |name: &str, value: Option<String>| match value {
            Some(value) => annotations.insert(name.to_owned(), value),
            None => annotations.remove(name),
        };
        let number = |number: u64| (number > 0).then(|| number.to_string());
        set(KEY, Some(self.key.clone()));
        set(SCOPE, Some(self.scope.clone()));
        set(TOKEN, number(self.token));
        set(FENCE, number(self.fence));
        set(STATE, Some(state));
    }
}

fn garbled(what: &str, why: &str) -> Garbled {
    Garbled::Text(format!("annotation {what}: {why}"))
}

/// The labels that all objects of a scope have.
pub(in crate::backend::kubernetes) fn label(labels: &mut BTreeMap<String, String>, names: &Names) {
    let mut set = |name: &str, value: &str| labels.insert(name.to_owned(), value.to_owned());
    set(SCOPE_LABEL, names.label());
    set(MANAGED_BY.0, MANAGED_BY.1);
    if let Some(policy) = names.policy() {
        set(POLICY, policy);
    }
}

fn mode(shared: bool) -> Mode {
    if shared {
        Mode::Shared
    } else {
        Mode::Exclusive
    }
}

fn id(text: &str) -> Result<HoldId, Garbled> {
    HoldId::parse(text).ok_or_else(|| garbled(STATE, "an id is none"))
}

impl FormHolder {
    pub(super) fn write(held: &Held) -> Self {
        Self {
            id: held.hold.to_string(),
            shared: held.mode == Mode::Shared,
            token: held.token.get(),
            ttl_ms: held.ttl.as_millis(),
            owner: held.owner.to_string(),
            since: held.since,
            stamp: held.stamp,
        }
    }

    pub(super) fn read(&self) -> Result<Held, Garbled> {
        let wrong = |error: &dyn std::error::Error| garbled(STATE, &error.to_string());
        let ttl = Duration::from_millis(self.ttl_ms.into());
        Ok(Held {
            hold: id(&self.id)?,
            mode: mode(self.shared),
            token: BackendToken::try_new(self.token).map_err(|error| wrong(&error))?,
            ttl: Ttl::try_new(ttl).map_err(|error| wrong(&error))?,
            owner: Owner::try_new(&self.owner).map_err(|error| wrong(&error))?,
            since: self.since,
            stamp: self.stamp,
        })
    }
}

impl FormPlace {
    pub(super) fn write(place: &Waiting) -> Self {
        Self {
            id: place.hold.to_string(),
            shared: place.mode == Mode::Shared,
            since: place.since,
            keep_ms: u32::try_from(place.keep.as_millis()).unwrap_or(u32::MAX),
            stamp: place.stamp,
        }
    }

    pub(super) fn read(&self) -> Result<Waiting, Garbled> {
        Ok(Waiting {
            hold: id(&self.id)?,
            mode: mode(self.shared),
            since: self.since,
            keep: Duration::from_millis(self.keep_ms.into()),
            stamp: self.stamp,
        })
    }
}

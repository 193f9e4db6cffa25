//! What the user asks for, by annotations of the pod.

use std::collections::BTreeSet;

use pawl_crds::{
    Resources, is_policy_name,
    names::{
        DEFAULT_ADMIN_PORT, DEFAULT_PORT, MAX_POLICIES_PER_POD, MAX_POLICY_NAME,
        annotations::{ADMIN_PORT, IMAGE, INJECTED, POLICIES, POLICY_SUM, PORT, RESOURCES, SOCKET},
    },
};
use serde_json::{Map, Value};

use super::{
    amounts,
    pod::Pod,
    refusal::{Refusal, shown},
};

/// What annotations of ours begin with.
const PREFIX: &str = "pawl.dev/";
/// Those that a user may set.
const KNOWN: [&str; 6] = [POLICIES, PORT, ADMIN_PORT, IMAGE, RESOURCES, SOCKET];
/// Those that we set.
const OURS: [&str; 2] = [INJECTED, POLICY_SUM];
/// Longest image reference, in bytes.
const MAX_IMAGE: usize = 512;

/// What the user asks for.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Wishes {
    /// Names of policies, in the order given.
    pub(super) policies: Vec<String>,
    /// Port of the lock API.
    pub(super) port: u16,
    /// Port of the admin server.
    pub(super) admin_port: u16,
    /// Image of the sidecar.
    pub(super) image: Option<String>,
    /// Resources of the sidecar.
    pub(super) resources: Option<Resources>,
    /// Whether there is a Unix socket too.
    pub(super) socket: bool,
}

/// Reads them; what cannot be used is told in `refusals`, and reads as its default.
pub(super) fn read(pod: Pod<'_>, refusals: &mut Vec<Refusal>) -> Wishes {
    let none = Map::new();
    let all = pod.annotations().unwrap_or(&none);
    refusals.extend(all.keys().filter_map(|name| unknown(name)));
    let mut text = |name| match all.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.trim()),
        Some(_) => {
            refusals.push(Refusal::new(name, "is not a text", "put it in quotes"));
            None
        }
    };
    let [policies, port, admin_port, image, resources, socket] = KNOWN.map(&mut text);
    let mut take = |found: Result<(), Refusal>| refusals.extend(found.err());
    let mut wishes = Wishes {
        policies: Vec::new(),
        port: DEFAULT_PORT,
        admin_port: DEFAULT_ADMIN_PORT,
        image: None,
        resources: None,
        socket: false,
    };
    take(names(policies).map(|names| wishes.policies = names));
    if let Some(text) = port {
        take(number(PORT, text).map(|port| wishes.port = port));
    }
    if let Some(text) = admin_port {
        take(number(ADMIN_PORT, text).map(|port| wishes.admin_port = port));
    }
    if let Some(text) = image {
        take(reference(text).map(|image| wishes.image = Some(image)));
    }
    if let Some(text) = resources {
        take(amounts::parse(text).map(|resources| wishes.resources = Some(resources)));
    }
    if let Some(text) = socket {
        take(yes_or_no(text).map(|socket| wishes.socket = socket));
    }
    if wishes.port == wishes.admin_port {
        let problem = format!("{PORT} and {ADMIN_PORT} are both {}", wishes.port);
        refusals.push(Refusal::new(ADMIN_PORT, problem, "give two ports"));
    }
    wishes
}

fn unknown(name: &str) -> Option<Refusal> {
    if !name.starts_with(PREFIX) || KNOWN.contains(&name) || OURS.contains(&name) {
        return None;
    }
    let nearest = KNOWN.iter().min_by_key(|known| distance(name, known));
    let remedy = nearest.map(|nearest| format!("do you mean {nearest}?"));
    Some(Refusal::new(
        shown(name),
        "no such annotation",
        remedy.unwrap_or_default(),
    ))
}

fn names(text: Option<&str>) -> Result<Vec<String>, Refusal> {
    let wrong = |problem: String| {
        let remedy = format!(
            "name 1 to {MAX_POLICIES_PER_POD} LockPolicies of the pod's namespace, parted by commas"
        );
        Err(Refusal::new(POLICIES, problem, remedy))
    };
    let Some(text) = text else {
        return wrong("is not there".to_owned());
    };
    if text.is_empty() {
        return wrong("names no policy".to_owned());
    }
    let names: Vec<&str> = text.split(',').map(str::trim).collect();
    if names.len() > MAX_POLICIES_PER_POD {
        return wrong(format!("names {} policies", names.len()));
    }
    let mut seen = BTreeSet::new();
    for name in &names {
        if name.is_empty() {
            return wrong("has an empty name".to_owned());
        }
        if !is_policy_name(name) {
            return wrong(format!(
                "{} is no name of a policy (1 to {MAX_POLICY_NAME} of a-z, 0-9 and -)",
                shown(name)
            ));
        }
        if !seen.insert(*name) {
            return wrong(format!("names {} twice", shown(name)));
        }
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn number(name: &str, text: &str) -> Result<u16, Refusal> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port >= 1024 => Ok(port),
        _ => Err(Refusal::new(
            name,
            format!("{} is no port that can be used", shown(text)),
            "give a number from 1024 to 65535",
        )),
    }
}

fn yes_or_no(text: &str) -> Result<bool, Refusal> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Refusal::new(
            SOCKET,
            format!("{} says neither yes nor no", shown(text)),
            r#"give "true" or "false""#,
        )),
    }
}

/// `[host[:port]/]path[:tag][@digest]`, as far as a mistake can be told here: the API server would store it, and the kubelet
/// would try it for ever.
fn reference(text: &str) -> Result<String, Refusal> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    let digest_fits = digest.is_none_or(|digest| {
        digest.split_once(':').is_some_and(|(algorithm, hex)| {
            !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_hexdigit())
        })
    });
    let (path, tag) = match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    };
    let word = |text: &str, more: &[u8]| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || more.contains(&b);
        text.bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
            && text.bytes().all(inner)
    };
    let tag_fits = tag.is_none_or(|tag| tag.len() <= 128 && word(tag, b"._-"));
    let mut parts = path.split('/');
    let host_fits = parts.next().is_some_and(|host| word(host, b".-_:"));
    let lower = |part: &str| word(part, b"._-") && !part.bytes().any(|b| b.is_ascii_uppercase());
    if text.len() <= MAX_IMAGE && digest_fits && tag_fits && host_fits && parts.all(lower) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(
        IMAGE,
        format!("{} is no name of an image", shown(text)),
        "give one such as registry.example.org/pawl-sidecar:1.0.0, or remove the annotation",
    ))
}

/// How many characters have to be put in, left out or changed (Levenshtein). `a` may be as long as an annotation's name.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let changed = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;

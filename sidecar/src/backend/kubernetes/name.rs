//! What the objects are called.

use std::fmt::Write as _;

use pawl_lock::{Key, PolicyName};
use sha2::{Digest as _, Sha256};

use crate::backend::Scope;

/// The most bytes of a key that are shown in an object's name.
const SHOWN: usize = 40;
/// How many hexadecimal digits tell keys apart whose shown parts are alike.
const TOLD_APART: usize = 20;
/// The most bytes of a policy's name that fit; longer ones are shown by their hash.
const MAX_POLICY: usize = 63;

/// Names of one scope's objects: `pawl.<policy>.<key>-<hash>`, the key in lower case with everything else than
/// letters and digits as `-`.
///
/// A name is for people and for the server. Which key an object is for is said by its annotations, which are compared:
/// two keys whose names met would be refused, never shared.
#[derive(Clone, Debug)]
pub(super) struct Names {
    scope: Scope,
    stem: String,
    label: String,
    policy: Option<String>,
}

impl Names {
    pub(super) fn new(scope: Scope, policy: &PolicyName) -> Self {
        let label = hash(scope.as_str(), TOLD_APART);
        let is_shared = scope.as_str().starts_with('=');
        let policy =
            (!is_shared && policy.as_str().len() <= MAX_POLICY).then(|| policy.to_string());
        let stem = match &policy {
            Some(policy) => format!("pawl.{policy}"),
            None => format!("pawl.prefix-{label}"),
        };
        Self {
            scope,
            stem,
            label,
            policy,
        }
    }

    /// The name of a key's object, at most 253 bytes, a DNS subdomain.
    pub(super) fn object(&self, key: &Key) -> String {
        let shown = shown(key);
        let hash = hash(&self.scope.name(key), TOLD_APART);
        let stem = &self.stem;
        if shown.is_empty() {
            format!("{stem}.{hash}")
        } else {
            format!("{stem}.{shown}-{hash}")
        }
    }

    /// The name of the object that says when this scope was swept last. No key's object is called so.
    pub(super) fn sweep(&self) -> String {
        format!("{}.sweep", self.stem)
    }

    /// The value of the label that all objects of the scope have.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The policy, if the scope is its own.
    pub(super) fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }
}

fn shown(key: &Key) -> String {
    let mut shown = String::with_capacity(SHOWN);
    for byte in key.as_str().bytes() {
        let next = match byte.to_ascii_lowercase() {
            letter @ (b'a'..=b'z' | b'0'..=b'9') => char::from(letter),
            _ if shown.is_empty() || shown.ends_with('-') => continue,
            _ => '-',
        };
        shown.push(next);
        if shown.len() == SHOWN {
            break;
        }
    }
    shown.truncate(shown.trim_end_matches('-').len());
    shown
}

fn hash(text: &str, digits: usize) -> String {
    let mut hexadecimal = String::with_capacity(64);
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(hexadecimal, "{byte:02x}");
    }
    hexadecimal.truncate(digits);
    hexadecimal
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use pawl_lock::Namespace;

    use super::*;

    fn names(policy: &str) -> Names {
        let policy = PolicyName::try_new(policy).unwrap();
        let scope = Scope::of(&Namespace::try_new("team").unwrap(), &policy);
        Names::new(scope, &policy)
    }

    fn key(text: &str) -> Key {
        Key::try_new(text).unwrap()
    }

    fn is_subdomain(name: &str) -> bool {
        name.len() <= 253
            && name.split('.').all(|label| {
                let ends = [label.bytes().next(), label.bytes().last()];
                ends.iter()
                    .all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
                    && label
                        .bytes()
                        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
            })
    }

    #[test]
    fn names_can_be_read() {
        let name = names("payments").object(&key("account/42"));
        assert!(name.starts_with("pawl.payments.account-42-"), "{name}");
        let odd = names("payments").object(&key("@"));
        assert_eq!(odd.len(), "pawl.payments.".len() + TOLD_APART, "{odd}");
    }

    #[test]
    fn every_key_has_a_name_of_its_own_that_kubernetes_takes() {
        let longest = "p".repeat(63);
        let keys = [
            "a",
            "A",
            "a/b",
            "a-b",
            "a.b",
            "-",
            "@",
            "...",
            "x:y",
            &"k".repeat(253),
            &format!("{}-", "k".repeat(252)),
        ];
        let mut all = HashSet::new();
        for policy in ["p", "p.a", longest.as_str(), &"q".repeat(200)] {
            for text in &keys {
                let name = names(policy).object(&key(text));
                assert!(is_subdomain(&name), "{name}");
                assert!(all.insert(name.clone()), "{name} twice");
            }
            assert!(all.insert(names(policy).sweep()));
        }
    }

    #[test]
    fn policies_that_share_a_prefix_share_their_objects() {
        let prefix = Scope::with_prefix("shared").unwrap();
        let of = |policy: &str| Names::new(prefix.clone(), &PolicyName::try_new(policy).unwrap());
        assert_eq!(of("a").object(&key("k")), of("b").object(&key("k")));
        assert_ne!(of("a").object(&key("k")), names("a").object(&key("k")));
    }
}

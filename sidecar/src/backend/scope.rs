//! What keeps one policy's keys apart from another's on the same server.

use std::{fmt, sync::Arc};

use pawl_lock::{Key, Namespace, PolicyName, name::InvalidName};

/// The space that a backend's keys live in: `<namespace>/<policy>`, or `=<prefix>` where the policy names a prefix of
/// its own in order to meet others.
///
/// The names that [`Scope::name`] makes are injective: two (scope, key) pairs that differ have different names. The
/// separator `|` is in the alphabet of neither a scope nor a key, so a name splits in one way only, and `=` is not in
/// the alphabet of a namespace, so a prefix never looks like a policy. No name has a brace, a blank or a quote.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope(Arc<str>);

impl Scope {
    /// The most bytes a prefix has.
    pub const MAX_PREFIX_LEN: usize = 253;

    /// The scope of a policy.
    pub fn of(namespace: &Namespace, policy: &PolicyName) -> Self {
        Self(format!("{namespace}/{policy}").into())
    }

    /// The scope that all policies with this prefix share: 1 to 253 bytes of `[A-Za-z0-9._:/@-]`.
    ///
    /// # Errors
    /// [`InvalidName`] with the first fault from the left.
    pub fn with_prefix(prefix: &str) -> Result<Self, InvalidName> {
        if prefix.is_empty() {
            return Err(InvalidName::Empty);
        }
        if prefix.len() > Self::MAX_PREFIX_LEN {
            return Err(InvalidName::TooLong {
                length: prefix.len(),
                most: Self::MAX_PREFIX_LEN,
            });
        }
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
        match prefix.bytes().position(|byte| !is_allowed(byte)) {
            None => Ok(Self(format!("={prefix}").into())),
            Some(offset) => Err(InvalidName::Byte {
                offset,
                allowed: "[A-Za-z0-9._:/@-]",
            }),
        }
    }

    /// The text, without a key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What a key of this scope is called at the backend: `<scope>|<key>`, at most 571 bytes.
    pub fn name(&self, key: &Key) -> String {
        let mut name = String::with_capacity(self.0.len() + 1 + key.as_str().len());
        name.push_str(&self.0);
        name.push('|');
        name.push_str(key.as_str());
        name
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn of(namespace: &str, policy: &str) -> Scope {
        Scope::of(
            &Namespace::try_new(namespace).unwrap(),
            &PolicyName::try_new(policy).unwrap(),
        )
    }

    #[test]
    fn names_are_injective() {
        let scopes = [
            of("a", "b"),
            of("a", "b.c"),
            of("a-b", "c"),
            of("a", "b-c"),
            Scope::with_prefix("a/b").unwrap(),
            Scope::with_prefix("a").unwrap(),
            Scope::with_prefix("a/").unwrap(),
            Scope::with_prefix("a/b/c").unwrap(),
        ];
        let keys =
            ["b", "c", "b/c", "a/b", "b-c", "a", "b.c"].map(|key| Key::try_new(key).unwrap());
        let names: HashSet<String> = scopes
            .iter()
            .flat_map(|scope| keys.iter().map(|key| scope.name(key)))
            .collect();
        assert_eq!(names.len(), scopes.len() * keys.len());
    }

    #[test]
    fn a_prefix_keeps_to_the_alphabet() {
        assert_eq!(Scope::with_prefix(""), Err(InvalidName::Empty));
        for bad in ["a|b", "a b", "{a}", "ä", "a=b", "a\n"] {
            assert!(
                matches!(Scope::with_prefix(bad), Err(InvalidName::Byte { .. })),
                "{bad:?}"
            );
        }
        let long = "x".repeat(Scope::MAX_PREFIX_LEN);
        assert!(Scope::with_prefix(&long).is_ok());
        assert!(matches!(
            Scope::with_prefix(&format!("{long}x")),
            Err(InvalidName::TooLong {
                length: 254,
                most: 253
            })
        ));
    }
}

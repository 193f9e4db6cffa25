//! Names that callers give: a key in a path, and a policy's pattern for keys.

use pawl_crds::KeyPattern;
use pawl_lock::{Key, Namespace, Owner, PolicyName, name::HoldId};
use pawl_sidecar::{api::path, backend::Scope};

/// The first line is a pattern, the rest a key as it stands in a path. What is a key has one spelling, stays what it is
/// inside of a path, and cannot leave the braces that backends put it into.
pub fn key(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (first, rest) = text.split_once('\n').unwrap_or(("", text));
    names(rest);
    let Ok(key) = path::key(rest) else {
        assert!(
            Key::try_new(rest).is_err(),
            "a key is taken as it is: {rest:?}"
        );
        return;
    };
    let text = key.as_str();
    assert!(text == rest || rest.contains('%'), "{rest:?} is {text:?}");
    assert!((1..=Key::MAX_LEN).contains(&text.len()));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
    assert!(text.bytes().all(is_plain), "{text:?}");
    assert!(!text.split('/').any(|part| matches!(part, "" | "." | "..")));
    assert_eq!(Key::try_new(text), Ok(key.clone()));
    assert_eq!(path::key(text).as_ref(), Ok(&key));
    let spelt = text
        .bytes()
        .fold(String::new(), |spelt, byte| spelt + &format!("%{byte:02X}"));
    assert_eq!(path::key(&spelt).as_ref(), Ok(&key));
    if let Ok(pattern) = KeyPattern::try_new(first) {
        assert_eq!(pattern.as_str(), first);
        let expected = glob(first.as_bytes(), text.as_bytes());
        assert_eq!(pattern.matches(text), expected, "{first:?} on {text:?}");
    }
}

fn names(text: &str) {
    if let Ok(name) = PolicyName::try_new(text) {
        assert_eq!(name.as_str(), text);
    }
    if let Ok(namespace) = Namespace::try_new(text) {
        assert!(PolicyName::try_new(namespace.as_str()).is_ok());
    }
    if let Ok(owner) = Owner::try_new(text) {
        assert!(!owner.as_str().bytes().any(|byte| byte.is_ascii_control()));
    }
    if let Some(hold) = HoldId::parse(text) {
        assert_eq!(HoldId::parse(&hold.to_string()), Some(hold));
    }
    if let Ok(scope) = Scope::with_prefix(text) {
        assert!(!scope.as_str().contains(['|', '{', '}']));
    }
}

/// What a pattern means, by a table of which prefixes of the key its beginning stands for.
fn glob(pattern: &[u8], key: &[u8]) -> bool {
    let (pattern, has_tail) = match pattern.strip_suffix(b"**") {
        Some(head) => (head, true),
        None => (pattern, false),
    };
    let mut reached = vec![false; key.len() + 1];
    reached[0] = true;
    for byte in pattern {
        let mut next = vec![false; key.len() + 1];
        for at in 0..=key.len() {
            let before = at.checked_sub(1);
            next[at] = if *byte == b'*' {
                reached[at] || before.is_some_and(|before| next[before] && key[before] != b'/')
            } else {
                before.is_some_and(|before| reached[before] && key[before] == *byte)
            };
        }
        reached = next;
    }
    if has_tail {
        reached[..key.len()].contains(&true)
    } else {
        reached[key.len()]
    }
}

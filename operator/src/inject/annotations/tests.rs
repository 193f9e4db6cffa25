use serde_json::json;

use super::*;
use crate::inject::refusal::joined;

fn read_from(annotations: Value) -> (Wishes, String) {
    let pod = json!({"metadata": {"annotations": annotations}, "spec": {}});
    let mut refusals = Vec::new();
    let wishes = read(Pod::try_new(&pod).unwrap(), &mut refusals);
    (wishes, joined(&refusals))
}

fn with(name: &str, value: impl Into<Value>) -> (Wishes, String) {
    let mut annotations = json!({POLICIES: "a"});
    annotations[name] = value.into();
    read_from(annotations)
}

#[test]
fn what_is_not_said_has_its_default() {
    let (wishes, told) = with("example.org/other", "x");
    assert_eq!(told, "");
    let expected = Wishes {
        policies: vec!["a".to_owned()],
        port: 4600,
        admin_port: 4601,
        image: None,
        resources: None,
        socket: false,
    };
    assert_eq!(wishes, expected);
    assert_eq!(with(POLICIES, " a , b").0.policies, ["a", "b"]);
    assert_eq!(with(POLICY_SUM, "0123").1, "");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_cannot_be_used_is_told_with_the_remedy() {
    let many = (0..17)
        .map(|n| format!("p{n}"))
        .collect::<Vec<_>>()
        .join(",");
    let long = "p".repeat(64);
    for (name, value, expected) in [
        (
            POLICIES,
            "",
            "pawl.dev/policies: names no policy; name 1 to 16 LockPolicies",
        ),
        (POLICIES, "a,", "pawl.dev/policies: has an empty name"),
        (POLICIES, "a,b,a", "pawl.dev/policies: names `a` twice"),
        (
            POLICIES,
            "A",
            "pawl.dev/policies: `A` is no name of a policy",
        ),
        (POLICIES, "other/a", "`other/a` is no name of a policy"),
        (
            POLICIES,
            &long,
            "is no name of a policy (1 to 63 of a-z, 0-9 and -)",
        ),
        (POLICIES, &many, "pawl.dev/policies: names 17 policies"),
        (
            PORT,
            "1023",
            "pawl.dev/port: `1023` is no port that can be used; give a number from 1024 to 65535",
        ),
        (PORT, "65536", "pawl.dev/port: `65536`"),
        (PORT, "+5000", "pawl.dev/port: `+5000`"),
        (PORT, "", "pawl.dev/port: ``"),
        (
            PORT,
            "4601",
            "pawl.dev/admin-port: pawl.dev/port and pawl.dev/admin-port are both 4601; give two ports",
        ),
        (ADMIN_PORT, "http", "pawl.dev/admin-port: `http`"),
        (
            SOCKET,
            "yes",
            r#"pawl.dev/socket: `yes` says neither yes nor no; give "true" or "false""#,
        ),
        (
            IMAGE,
            "",
            "pawl.dev/image: `` is no name of an image; give one such as",
        ),
        (IMAGE, "a b", "pawl.dev/image: `a b`"),
        (IMAGE, "reg/Path:1", "pawl.dev/image: "),
        (IMAGE, "reg//path", "pawl.dev/image: "),
        (IMAGE, "path:", "pawl.dev/image: "),
        (IMAGE, "path@sha256:xyz", "pawl.dev/image: "),
        (IMAGE, "https://reg/path", "pawl.dev/image: "),
        (RESOURCES, "10m", "pawl.dev/resources: "),
        (
            RESOURCES,
            "{\"request\":{}}",
            "pawl.dev/resources: unknown field `request`",
        ),
        (
            RESOURCES,
            "{\"requests\":{\"cpu\":\"-1\"}}",
            "pawl.dev/resources: requests.cpu is no quantity; give JSON such as",
        ),
        (
            RESOURCES,
            "{\"limits\":{\"memory\":\"1e3\"}}",
            "limits.memory is no quantity",
        ),
        (
            RESOURCES,
            "{\"requests\":{\"memory\":\"1Gi\"},\"limits\":{\"memory\":\"1G\"}}",
            "requests.memory is more than limits.memory",
        ),
        (
            RESOURCES,
            "{\"requests\":{\"cpu\":2},\"limits\":{\"cpu\":\"1500m\"}}",
            "requests.cpu is more than limits.cpu",
        ),
        (
            "pawl.dev/policy",
            "a",
            "`pawl.dev/policy`: no such annotation; do you mean pawl.dev/policies?",
        ),
        (
            "pawl.dev/adminport",
            "1",
            "do you mean pawl.dev/admin-port?",
        ),
        ("pawl.dev/Image", "1", "do you mean pawl.dev/image?"),
    ] {
        let (_, told) = with(name, value);
        assert!(told.contains(expected), "{name}={value}: {told}");
        assert!(!told.contains(" | "), "one reason: {told}");
    }
    assert!(
        with(PORT, 4700)
            .1
            .contains("pawl.dev/port: is not a text; put it in quotes")
    );
    assert!(
        read_from(json!({}))
            .1
            .contains("pawl.dev/policies: is not there")
    );
}

#[test]
fn names_of_images_as_they_are_in_use_pass() {
    let digest = format!("reg.example.org/a/b@sha256:{}", "0a".repeat(32));
    let both = format!("a:1@sha256:{}", "0a".repeat(32));
    for image in [
        "pawl",
        "pawl:1",
        "REG.example.org:5000/a_b/c-d:v1.0_x",
        "localhost/x",
        &digest,
        &both,
    ] {
        assert_eq!(
            with(IMAGE, image).0.image.as_deref(),
            Some(image),
            "{}",
            with(IMAGE, image).1
        );
    }
}

use super::*;

fn read(more: &[&str]) -> Result<Config, String> {
    let needed = [
        "pawl-operator",
        "--namespace=pawl-system",
        "--pod-name=pawl-operator-7c9f",
        "--sidecar-image=pawl-sidecar:1",
    ];
    let is_replaced = |argument: &&&str| {
        let name = argument.split('=').next();
        more.iter().any(|given| given.split('=').next() == name)
    };
    let kept = needed.iter().filter(|argument| !is_replaced(argument));
    let args = Args::try_parse_from(kept.chain(more)).map_err(|error| error.to_string())?;
    Config::try_from(args).map_err(|error| error.to_string())
}

#[test]
fn what_is_not_said_has_a_default() {
    let config = read(&[]).unwrap();
    assert_eq!(config.release, "pawl");
    assert!(config.watch_namespaces.is_empty());
    assert_eq!(config.webhook_listen.to_string(), "0.0.0.0:8443");
    assert_eq!(config.admin.to_string(), "0.0.0.0:4601");
    assert_eq!(config.certs, CertsFrom::Own);
    assert_eq!(config.sidecar_image_pull_policy, PullPolicy::IfNotPresent);
    assert_eq!(config.certs_lifetime, Duration::from_hours(24));
    assert_eq!(config.linger, Duration::from_secs(5));
    assert_eq!(config.drain_timeout, Duration::from_secs(10));
}

#[test]
fn namespaces_may_be_given_several_times_and_twice_the_same() {
    let config = read(&["--watch-namespace=b", "--watch-namespace=a,b"]).unwrap();
    assert_eq!(config.watch_namespaces, ["a", "b"]);
}

#[test]
fn what_cannot_be_used_names_the_setting_and_the_remedy() {
    let long = format!("--release={}", "a".repeat(54));
    for (argument, told) in [
        (
            "--release=Pawl",
            "--release (PAWL_RELEASE): `Pawl` is not a name",
        ),
        ("--release=a.b", "is not a name; give 1 to 53"),
        (long.as_str(), "is not a name"),
        ("--namespace=-a", "--namespace (POD_NAMESPACE)"),
        ("--pod-name=a..b", "is not the name of a pod"),
        (
            "--watch-namespace=a_b",
            "--watch-namespace (PAWL_WATCH_NAMESPACES)",
        ),
        (
            "--sidecar-image=",
            "is not an image; give an image with its tag",
        ),
        ("--sidecar-image=a b", "is not an image"),
        (
            "--sidecar-image-pull-policy=Sometimes",
            "give Always, IfNotPresent or Never",
        ),
        (
            "--webhook-listen=webhook",
            "--webhook-listen (PAWL_WEBHOOK_LISTEN)",
        ),
        (
            "--certs=/etc/passwd",
            "is not a directory; give self, or a directory",
        ),
        ("--certs=", "is not a directory"),
        ("--certs-lifetime=1m", "give a duration from 4h to 720h"),
        ("--admin=4601", "--admin (PAWL_ADMIN)"),
        ("--linger=2m", "give a duration from 0s to 1m"),
        ("--drain-timeout=2m", "give a duration from 0s to 1m"),
        ("--drain-timeout=soon", "give a duration from 0s to 1m"),
        ("--log-format=xml", "give text or json"),
        ("--log-level=info=loud", "give a level such as info"),
    ] {
        let error = read(&[argument]).unwrap_err();
        assert!(error.contains(told), "{argument}: {error}");
    }
}

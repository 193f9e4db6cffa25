//! Passwords and certificates that change while a sidecar uses them; nothing is started again (N4).

use base64::{Engine as _, prelude::BASE64_STANDARD};
use pawl_e2e::{
    cluster::images::REDIS,
    server::certs::{Authority, Identity},
};
use serde_json::{Value, json};

use super::{
    injection::{pod, policy, server},
    kube::{Kube, PATIENCE},
    locks::{acquire, granted, hold},
    monitoring,
};

fn secret(name: &str, data: &[(&str, &str)]) -> String {
    let data: serde_json::Map<_, _> = data
        .iter()
        .map(|(key, text)| ((*key).to_owned(), json!(BASE64_STANDARD.encode(text))))
        .collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})
        .to_string()
}

/// Talks to the Redis of the namespace.
fn redis(kube: &Kube, namespace: &str, password: &str, command: &str) {
    let script = format!(
        r"exec 3<>/dev/tcp/redis/6379; printf 'AUTH {password}\r\n{command}\r\n' >&3; read -r -t 5 a <&3; read -r -t 5 b <&3; echo $a $b"
    );
    let said = kube.exec(namespace, "app", &script).unwrap();
    assert!(
        said.starts_with("+OK") && !said.contains('-'),
        "{command}: {said}"
    );
}

fn has_not_restarted(kube: &Kube, namespace: &str) {
    let pod = kube.get(&["pod", "-n", namespace, "app"]);
    assert_eq!(
        pod["status"]["initContainerStatuses"][0]["restartCount"], 0,
        "{pod}"
    );
}

/// Both passwords are good for a while, as one rotates them; the lock that is held in between is kept.
pub(super) fn a_rotated_password_is_used_without_a_restart(kube: &Kube) {
    let namespace = "rotation";
    kube.namespace(namespace);
    let container = json!({"args": ["--save", "", "--requirepass", "one"]});
    kube.apply(
        namespace,
        &server("redis", REDIS, 6379, &container, &json!({})),
    );
    kube.apply(namespace, &secret("redis", &[("password", "one")]));
    let backend = "{redis: {url: 'redis://redis:6379/0', credentialsSecretRef: {name: redis}}}";
    kube.apply(
        namespace,
        &policy("jobs", backend, "lease: {ttl: 20s, maxTtl: 60s}"),
    );
    kube.ready(namespace, "redis");
    kube.apply(namespace, &pod("app", "jobs", ""));
    kube.ready(namespace, "app");
    hold(kube, namespace, "app", "-/held", &json!({"renew": "auto"}));

    redis(kube, namespace, "one", "ACL SETUSER default >two");
    kube.apply(namespace, &secret("redis", &[("password", "two")]));
    let mut tries = 0;
    kube.until("the kubelet mounts the new password", PATIENCE, || {
        tries += 1;
        // Told apart by who is let in: the old one is taken away only for new connections.
        redis(kube, namespace, "two", "ACL SETUSER default <one");
        redis(kube, namespace, "two", "CLIENT KILL TYPE normal SKIPME yes");
        let start = kube.now();
        let good = loop {
            let grant = acquire(
                kube,
                namespace,
                "app",
                "-/new",
                &json!({"renew": "manual", "ttl": "1s"}),
            );
            if grant["fencingToken"].is_u64() {
                break true;
            }
            assert!(grant["status"] == 503 || grant["status"] == 423, "{grant}");
            if kube.now().saturating_since(start).as_secs() >= 3 {
                break false;
            }
        };
        if !good {
            redis(kube, namespace, "two", "ACL SETUSER default >one");
        }
        good.then_some(())
    });
    println!("the new password was used at try {tries}");
    let log = kube.log(namespace, "app");
    assert!(!log.contains("event: lost"), "{log}");
    has_not_restarted(kube, namespace);
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}

/// A Redis that speaks TLS alone, with an identity; the one that ran before is replaced.
fn redis_with(kube: &Kube, namespace: &str, identity: &Identity) {
    kube.run(&[
        "delete",
        "pod",
        "-n",
        namespace,
        "redis",
        "--grace-period=0",
        "--force",
        "--ignore-not-found",
    ]);
    let data = [
        ("tls.crt", identity.certificate.as_str()),
        ("tls.key", identity.key.as_str()),
    ];
    kube.apply(namespace, &secret("redis-tls", &data));
    let container = json!({
        "args": [
            "--save", "", "--protected-mode", "no", "--port", "0", "--tls-port", "6379", "--tls-cert-file", "/tls/tls.crt",
            "--tls-key-file", "/tls/tls.key", "--tls-auth-clients", "no", "--tls-ca-cert-file", "/tls/tls.crt",
        ],
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}],
    });
    let extra = json!({"volumes": [{"name": "tls", "secret": {"secretName": "redis-tls"}}]});
    kube.until("the old one is gone", PATIENCE, || {
        kube.get(&["pod", "-n", namespace, "redis"])
            .is_null()
            .then_some(())
    });
    kube.apply(namespace, &server("redis", REDIS, 6379, &container, &extra));
    kube.ready(namespace, "redis");
}

/// N4: expired, for another name, of another authority: refused with the reason, never spoken to in the clear; and taken as soon as the
/// authority is trusted.
pub(super) fn a_bad_certificate_is_refused_and_a_new_authority_trusted_without_a_restart(
    kube: &Kube,
) {
    let namespace = "tls";
    let name = "redis";
    kube.namespace(namespace);
    let (first, second) = (Authority::new("first"), Authority::new("second"));
    kube.apply(
        namespace,
        &secret("authority", &[("ca.crt", &first.certificate())]),
    );
    redis_with(kube, namespace, &first.issue(&[name], false));
    let backend = "{redis: {url: 'rediss://redis:6379/0', tls: {caSecretRef: {name: authority}}}}";
    kube.apply(namespace, &policy("jobs", backend, "lease: {ttl: 10s}"));
    kube.apply(namespace, &pod("app", "jobs", ""));
    kube.ready(namespace, "app");
    let short = json!({"renew": "manual", "ttl": "1s"});
    granted(kube, namespace, "app", "-/key", &short);

    let refused = |what: &str, reason: &str| {
        let answer: Value = kube.until(what, PATIENCE, || {
            let answer = acquire(kube, namespace, "app", "-/key", &short);
            assert!(answer["fencingToken"].is_null(), "{what}: {answer}");
            let is_told = answer["detail"]
                .as_str()
                .is_some_and(|detail| detail.ends_with(reason));
            (answer["status"] == 503 && answer["code"] == "tls" && is_told).then_some(answer)
        });
        println!("{what}: {}", answer["detail"]);
    };
    redis_with(kube, namespace, &first.issue(&[name], true));
    refused("an expired certificate is refused", "certificate_expired");
    redis_with(kube, namespace, &first.issue(&["another.example"], false));
    refused("a certificate for another name is refused", "name_mismatch");
    redis_with(kube, namespace, &second.issue(&[name], false));
    refused(
        "a certificate of another authority is refused",
        "unknown_ca",
    );
    monitoring::install(kube);
    kube.until("the alert fires", PATIENCE, || {
        acquire(kube, namespace, "app", "-/key", &short);
        let alert = format!("namespace=\"{namespace}\",alertname=\"PawlBackendMisconfigured\"");
        (!monitoring::firing(kube, &alert).is_empty()).then_some(())
    });
    kube.apply(
        namespace,
        &secret("authority", &[("ca.crt", &second.certificate())]),
    );
    granted(kube, namespace, "app", "-/key", &short);
    has_not_restarted(kube, namespace);
    kube.run(&["delete", "namespace", namespace, "--wait=false"]);
}

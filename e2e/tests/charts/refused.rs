//! Values that cannot work are refused before anything is applied, with the value's name.

use pawl_e2e::chart::helm::Helm;

/// Chart, arguments, and what the refusal has to say.
const REFUSED: &[(&str, &[&str], &[&str])] = &[
    (
        "pawl",
        &["--set", "replicas=3"],
        &["replicas", "not allowed"],
    ),
    (
        "pawl",
        &["--set", "operator.replica=3"],
        &["/operator", "replica", "not allowed"],
    ),
    (
        "pawl",
        &["--set", "operator.replicas=many"],
        &["/operator/replicas", "want integer"],
    ),
    (
        "pawl",
        &["--set", "operator.replicas=11"],
        &["/operator/replicas", "maximum"],
    ),
    (
        "pawl",
        &["--set", "operator.image.digest=latest"],
        &["/operator/image/digest", "pattern"],
    ),
    (
        "pawl",
        &["--set", "operator.image.pullPolicy=Sometimes"],
        &["/operator/image/pullPolicy"],
    ),
    (
        "pawl",
        &["--set", "webhook.failurePolicy=fail"],
        &["/webhook/failurePolicy"],
    ),
    (
        "pawl",
        &["--set", "webhook.port=443"],
        &["/webhook/port", "minimum"],
    ),
    (
        "pawl",
        &["--set", "webhook.certificates.mode=auto"],
        &["/webhook/certificates/mode"],
    ),
    (
        "pawl",
        &["--set", "watchNamespaces={Team_A}"],
        &["/watchNamespaces/0", "pattern"],
    ),
    (
        "pawl",
        &["--set", "metrics.podMonitor.enabled=yes"],
        &["/metrics/podMonitor/enabled"],
    ),
    (
        "pawl",
        &["--set", "crds.enabled=maybe"],
        &["/crds/enabled", "want boolean"],
    ),
    (
        "pawl",
        &["--set", "startupCheck.timeout=60"],
        &["/startupCheck/timeout"],
    ),
    (
        "pawl",
        &["--set", "webhook.port=4601"],
        &["webhook.port and admin.port must differ"],
    ),
    (
        "pawl",
        &["--set", "webhook.certificates.mode=secret"],
        &["webhook.certificates.secret.name"],
    ),
    (
        "pawl",
        &[
            "--set",
            "webhook.certificates.mode=certManager",
            "--set",
            "webhook.certificates.certManager.issuerRef.kind=Issuer",
        ],
        &["webhook.certificates.certManager.issuerRef"],
    ),
    ("pawl", &["--kube-version", "1.29.4"], &["1.30"]),
    (
        "pawl-demo",
        &["--set", "lockmode=none"],
        &["lockmode", "not allowed"],
    ),
    (
        "pawl-demo",
        &["--set", "bank.lockMode=redis"],
        &["/bank/lockMode"],
    ),
    (
        "pawl-demo",
        &["--set", "bank.fencing=maybe"],
        &["/bank/fencing"],
    ),
    (
        "pawl-demo",
        &["--set", "policy.backend=etcd3"],
        &["/policy/backend"],
    ),
    (
        "pawl-demo",
        &["--set", "bank.replicas=-1"],
        &["/bank/replicas", "minimum"],
    ),
    (
        "pawl-demo",
        &["--set", "load.rate=0"],
        &["/load/rate", "minimum"],
    ),
    ("pawl-demo", &["--set", "redis.nodes=4"], &["/redis/nodes"]),
];

#[test]
fn what_cannot_work_is_refused_with_its_name() {
    let helm = Helm::new();
    for (chart, arguments, said) in REFUSED {
        let refusal = helm
            .template(chart, arguments)
            .err()
            .unwrap_or_else(|| panic!("{chart} {arguments:?} is not refused"));
        for word in *said {
            assert!(
                refusal.contains(word),
                "{chart} {arguments:?}: no {word:?} in {refusal}"
            );
        }
    }
}

/// A chart that contains this one may have `pawl.enabled` as its condition, and hands its global values on.
#[test]
fn the_values_of_a_parent_chart_are_taken() {
    let helm = Helm::new();
    for chart in pawl_e2e::chart::ALL {
        let values = ["--set", "enabled=true,global.registry=example.org"];
        helm.template(chart, &values)
            .unwrap_or_else(|error| panic!("{chart}: {error}"));
    }
}

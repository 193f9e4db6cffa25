//! What the account must be allowed, and what is said when it is not.

use pawl_e2e::server::kubernetes::Access;
use pawl_lock::{Backend as _, backend::Category};

use crate::bench::{Bench, SHORT, attempt, shared};

const ALL: [&str; 6] = ["get", "list", "watch", "create", "update", "delete"];

fn without(verb: &str) -> Access {
    let verbs: Vec<_> = ALL.into_iter().filter(|other| *other != verb).collect();
    Access::default().allow("coordination.k8s.io", &["leases"], &verbs)
}

/// The role of the documentation is enough, and nothing is found missing.
#[tokio::test]
async fn the_least_role_is_enough() {
    let bench = Bench::new(shared()).await;
    let a = bench.sidecar();
    assert_eq!(a.backend.check().await.unwrap(), []);
    let hold = attempt(SHORT);
    let token = a.take(&hold).await;
    assert!(a.release(&hold, token).await);
}

/// Without what a lock needs, check and calls say which verb on what is missing.
#[tokio::test]
async fn a_missing_verb_is_named() {
    for verb in ["get", "create", "update"] {
        let bench = Bench::with(shared(), &without(verb)).await;
        let a = bench.sidecar();
        let error = a.backend.check().await.unwrap_err();
        assert_eq!(error.category(), Category::Config, "{error}");
        let expected = format!("may not {verb} leases.coordination.k8s.io in namespace team-");
        assert!(error.to_string().contains(&expected), "{error}");
        // The first makes the object; the second replaces it.
        let error = match a.backend.acquire(&attempt(SHORT)).await {
            Err(error) => error,
            Ok(_) => a.backend.abandon(&abandonment()).await.unwrap_err(),
        };
        assert_eq!(error.category(), Category::Config, "{error}");
        assert!(error.to_string().contains(&expected), "{error}");
    }
}

fn abandonment() -> pawl_lock::backend::AbandonRequest {
    let request = attempt(SHORT);
    pawl_lock::backend::AbandonRequest {
        key: request.key,
        hold: request.hold,
        mode: request.mode,
        ttl: request.ttl,
    }
}

/// Without the rest locks work, and it is told what does not.
#[tokio::test]
async fn what_can_be_done_without_is_a_finding() {
    for (verb, reason) in [
        ("list", "HintsForbidden"),
        ("watch", "HintsForbidden"),
        ("delete", "SweepForbidden"),
    ] {
        let bench = Bench::with(shared(), &without(verb)).await;
        let a = bench.sidecar();
        let findings = a.backend.check().await.unwrap();
        let [finding] = findings.as_slice() else {
            panic!("{verb}: {findings:?}");
        };
        assert_eq!((finding.reason, finding.is_fatal), (reason, false));
        assert!(
            finding.message.contains(&format!("may not {verb} ")),
            "{}",
            finding.message
        );
        let hold = attempt(SHORT);
        let token = a.take(&hold).await;
        assert!(a.release(&hold, token).await);
    }
}

/// A token that the server does not know is a matter of configuration, and is not shown.
#[tokio::test]
async fn an_unknown_token_is_a_matter_of_configuration() {
    let bench = Bench::new(shared()).await;
    let mut access = bench.server.config_of(&bench.account);
    access.auth_info.token = Some("secret-of-another-cluster".to_owned().into());
    let mut config = bench.config();
    config.access = pawl_sidecar::backend::kubernetes::ApiAccess::Given(Box::new(access));
    let a = crate::bench::Sidecar::new(config);
    for error in [
        a.backend.check().await.unwrap_err(),
        a.backend.acquire(&attempt(SHORT)).await.unwrap_err(),
    ] {
        assert_eq!(error.category(), Category::Config, "{error}");
        assert!(!format!("{error:?}").contains("secret-of"), "{error:?}");
    }
}

//! How the backend is set up in tests.

use std::sync::Arc;

use pawl_e2e::server::kubernetes::Access;
use pawl_kit::clock::Clock;
use pawl_lock::{Namespace, PolicyName};
use pawl_sidecar::backend::{
    Scope,
    kubernetes::{ApiAccess, Budget, KubernetesConfig, Sweep},
};

/// The namespace that the locks are in.
pub(crate) const NAMESPACE: &str = "team";

/// What a sidecar's account must be allowed.
pub(crate) fn least_access() -> Access {
    let verbs = ["get", "list", "watch", "create", "update", "delete"];
    Access::default().allow("coordination.k8s.io", &["leases"], &verbs)
}

/// How a backend of this scope is set up, on the machine's clocks.
pub(crate) fn config(access: kube::Config, scope: &Scope) -> KubernetesConfig {
    let (now, wall) = (Clock::system(), Clock::system());
    KubernetesConfig {
        namespace: Namespace::try_new(NAMESPACE).expect("it is a namespace"),
        policy: PolicyName::try_new("conformance").expect("it is a name"),
        scope: scope.clone(),
        access: ApiAccess::Given(Box::new(access)),
        budget: Budget::default(),
        sweep: Sweep::default(),
        now: Arc::new(move || now.now()),
        wall: Arc::new(move || wall.wall().unix_millis()),
    }
}

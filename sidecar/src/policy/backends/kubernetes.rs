//! From the policy's `kubernetes` to the backend.

use std::sync::Arc;

use pawl_kit::clock::Clock;
use pawl_lock::Backend;

use crate::{
    backend::kubernetes::{ApiAccess, Budget, Kubernetes, KubernetesConfig, Sweep},
    engine::BackendConfig,
};

/// Opens the Leases of the policy's namespace. All policies share what the API server is asked.
pub(super) fn open(config: &BackendConfig, budget: &Budget, clock: &Clock) -> Arc<dyn Backend> {
    let (now, wall) = (clock.clone(), clock.clone());
    Arc::new(Kubernetes::new(KubernetesConfig {
        namespace: config.namespace.clone(),
        policy: config.policy.clone(),
        scope: config.scope.clone(),
        access: ApiAccess::Inferred,
        budget: budget.clone(),
        sweep: Sweep::default(),
        now: Arc::new(move || now.now()),
        wall: Arc::new(move || wall.wall().unix_millis()),
    }))
}

//! From the policy's `redlock` to the backend.

use std::sync::Arc;

use pawl_crds::{ApiDuration, conditions::reasons};
use pawl_kit::clock::Clock;
use pawl_lock::Backend;

use super::{
    files::Files,
    redis::{credentials, tls_source},
};
use crate::{
    backend::redlock::{Redlock, RedlockConfig},
    engine::{BackendConfig, OpenError},
};

/// Opens the nodes.
pub(super) fn open(
    redlock: &pawl_crds::Redlock,
    config: &BackendConfig,
    files: &Files,
    clock: &Clock,
) -> Result<Arc<dyn Backend>, OpenError> {
    let pawl_crds::Redlock {
        nodes,
        node_timeout,
        credentials_secret_ref,
        tls,
    } = redlock;
    let uses_tls = nodes.iter().any(|node| node.url.starts_with("rediss://"));
    let tls = if uses_tls {
        Some(tls_source(files, &tls.clone().unwrap_or_default())?)
    } else {
        None
    };
    let redlock = RedlockConfig {
        credentials: credentials(files, credentials_secret_ref.as_ref(), None)?,
        tls,
        node_timeout: node_timeout.map(ApiDuration::as_std),
        max_ttl: config.max_ttl,
        ..RedlockConfig::new(nodes.iter().map(|node| node.url.as_str()))
    };
    let backend = Redlock::new(redlock, config.scope.clone(), rand::random(), clock.clone());
    backend
        .map(|backend| Arc::new(backend) as _)
        .map_err(|error| OpenError {
            reason: reasons::INVALID,
            message: format!("spec.backend.redlock: {error}"),
        })
}

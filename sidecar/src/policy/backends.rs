//! Opens the backends that policies name.

use std::{fmt, path::PathBuf, sync::Arc};

use pawl_crds::Chosen;
use pawl_kit::clock::Clock;
use pawl_lock::Backend;

use crate::{
    backend::memory::MemoryStore,
    engine::{BackendConfig, OpenError, Opener},
};

/// The backends that this program has.
pub struct Backends {
    memory: MemoryStore,
    /// One directory a policy.
    secrets: Option<PathBuf>,
}

impl Backends {
    /// Backends on this clock, with their secrets below this directory.
    pub fn new(clock: &Clock, secrets: Option<PathBuf>) -> Self {
        let millis = clock.wall().unix_seconds().saturating_mul(1000);
        let now = clock.clone();
        Self {
            memory: MemoryStore::new(
                Arc::new(move || now.now()),
                u64::try_from(millis).unwrap_or(0),
            ),
            secrets,
        }
    }
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backends")
            .field("secrets", &self.secrets)
            .finish_non_exhaustive()
    }
}

impl Opener for Backends {
    fn open(&self, config: &BackendConfig) -> Result<Arc<dyn Backend>, OpenError> {
        match config.spec.chosen() {
            Some(Chosen::Memory(_)) => Ok(Arc::new(self.memory.connect(&config.scope))),
            Some(chosen) => Err(OpenError {
                reason: "BackendNotBuilt",
                message: format!(
                    "the backend {} is not built into this version of the sidecar",
                    chosen.kind()
                ),
            }),
            None => Err(OpenError {
                reason: pawl_crds::conditions::reasons::INVALID,
                message: "spec.backend must have exactly one backend".to_owned(),
            }),
        }
    }
}

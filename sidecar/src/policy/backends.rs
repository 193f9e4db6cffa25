//! Opens the backends that policies name.

use std::{fmt, path::PathBuf, sync::Arc};

use pawl_crds::{Chosen, conditions::reasons};
use pawl_kit::{clock::Clock, secrets::SecretDir};
use pawl_lock::{Backend, Owner};

use crate::{
    backend::{kubernetes::Budget, memory::MemoryStore},
    engine::{BackendConfig, OpenError, Opener},
};
use files::Files;

mod files;
mod kubernetes;
mod postgres;
mod redis;
mod redlock;

/// The backends that this program has.
pub struct Backends {
    memory: MemoryStore,
    secrets: Option<SecretDir>,
    identity: Owner,
    /// What the API server is asked, by all policies together.
    budget: Budget,
    clock: Clock,
}

impl Backends {
    /// Backends on this clock for the sidecar of this name, with their secrets below this directory.
    pub fn new(clock: &Clock, identity: Owner, secrets: Option<PathBuf>) -> Self {
        let millis = clock.wall().unix_seconds().saturating_mul(1000);
        let now = clock.clone();
        Self {
            memory: MemoryStore::new(
                Arc::new(move || now.now()),
                u64::try_from(millis).unwrap_or(0),
            ),
            secrets: secrets.map(SecretDir::new),
            identity,
            budget: Budget::default(),
            clock: clock.clone(),
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
        let files = Files::new(self.secrets.clone(), config.policy.clone());
        match config.spec.chosen() {
            Some(Chosen::Memory(_)) => Ok(Arc::new(self.memory.connect(&config.scope))),
            Some(Chosen::Redis(redis)) => redis::open(redis, config, &files),
            Some(Chosen::Redlock(redlock)) => redlock::open(redlock, config, &files, &self.clock),
            Some(Chosen::Postgres(postgres)) => {
                postgres::open(postgres, config, &files, &self.identity, &self.clock)
            }
            Some(Chosen::Kubernetes(_)) => Ok(kubernetes::open(config, &self.budget, &self.clock)),
            Some(chosen) => Err(not_built(chosen.kind().as_str())),
            None => Err(OpenError {
                reason: reasons::INVALID,
                message: "spec.backend must have exactly one backend".to_owned(),
            }),
        }
    }
}

fn not_built(what: &str) -> OpenError {
    OpenError {
        reason: "BackendNotBuilt",
        message: format!("{what} is not built into this version of the sidecar"),
    }
}

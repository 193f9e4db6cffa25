//! A policy as it is served now.

use std::time::Duration;

use pawl_lock::{PolicyName, backend::Class};

/// A policy that the engine serves. Its terms change in place when its file does.
#[derive(Debug)]
pub struct Policy {}

impl Policy {
    /// Its name.
    pub fn name(&self) -> &PolicyName {
        todo!()
    }

    /// Whether it asks for the pod's bearer token (`sidecar.auth: Token`).
    pub fn requires_token(&self) -> bool {
        todo!()
    }

    /// The backend's name, such as `redis`.
    pub fn backend(&self) -> &'static str {
        todo!()
    }

    /// What the backend promises.
    pub fn class(&self) -> Class {
        todo!()
    }

    /// The longest time that an acquire may queue (`acquire.maxWait`): what a read limit must allow for.
    pub fn max_wait(&self) -> Duration {
        todo!()
    }
}

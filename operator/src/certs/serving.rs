//! The certificate that handshakes get.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use prometheus::IntGauge;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// The certificate of the moment. Without one, handshakes fail.
#[derive(Debug)]
pub(super) struct Serving {
    current: ArcSwapOption<CertifiedKey>,
    expiry: IntGauge,
}

/// A certificate with its key, and when it ends.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    /// Seconds since 1970.
    pub(super) not_after: i64,
}

impl Serving {
    pub(super) fn new(expiry: IntGauge) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            expiry,
        }
    }

    /// Serves this one from the next handshake on.
    pub(super) fn switch(&self, pair: &Pair) {
        self.current.store(Some(Arc::clone(&pair.key)));
        self.expiry.set(pair.not_after);
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

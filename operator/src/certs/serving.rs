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

    /// When the one that is served ends, in seconds since 1970; none before there is one.
    pub(super) fn not_after(&self) -> Option<i64> {
        let is_there = self.current.load().is_some();
        is_there.then(|| self.expiry.get())
    }

    /// The one that is served.
    pub(super) fn served(&self) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }

    /// Serves this one from the next handshake on.
    pub(super) fn switch(&self, pair: &Pair) {
        self.current.store(Some(Arc::clone(&pair.key)));
        self.expiry.set(pair.not_after);
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.served()
    }
}

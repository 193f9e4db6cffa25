//! Keeps TLS in step with its files.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::{ClientTls, TlsError, TlsMaterial, fingerprint};
use crate::secrets::SecretDir;

/// TLS of one policy, rebuilt when its files change. A set of files that cannot be used (a half-written pair, a
/// certificate without its key) is told as an error and changes nothing: the last good one stays in use.
pub struct ReloadingTls {
    tls: ClientTls,
    secrets: SecretDir,
    policy: String,
    good: ArcSwapOption<TlsMaterial>,
}

impl ReloadingTls {
    /// Reads nothing yet.
    pub fn new(tls: ClientTls, secrets: SecretDir, policy: impl Into<String>) -> Self {
        Self {
            tls,
            secrets,
            policy: policy.into(),
            good: ArcSwapOption::empty(),
        }
    }

    /// The last good one; tries to make the first when there is none yet, so that it heals by itself.
    ///
    /// # Errors
    /// When there has never been a good one, and why.
    pub fn current(&self) -> Result<Arc<TlsMaterial>, TlsError> {
        if let Some(good) = self.good.load_full() {
            return Ok(good);
        }
        let made = self.build()?;
        self.good.store(Some(Arc::clone(&made)));
        Ok(made)
    }

    /// Reads the files again; `true` when something else is in use now. Call it when the directory changed. Blocks on
    /// the file system for a few small files.
    ///
    /// # Errors
    /// When the files cannot be used; what [`ReloadingTls::current`] answers stays as it was.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let used = self.good.load_full();
        let secrets = self.secrets.load(&self.policy)?;
        if used.is_some_and(|used| used.fingerprint() == fingerprint(&self.tls, &secrets)) {
            return Ok(false);
        }
        self.good
            .store(Some(Arc::new(TlsMaterial::build(&self.tls, &secrets)?)));
        Ok(true)
    }

    fn build(&self) -> Result<Arc<TlsMaterial>, TlsError> {
        Ok(Arc::new(TlsMaterial::build(
            &self.tls,
            &self.secrets.load(&self.policy)?,
        )?))
    }
}

impl fmt::Debug for ReloadingTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReloadingTls")
            .field("policy", &self.policy)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

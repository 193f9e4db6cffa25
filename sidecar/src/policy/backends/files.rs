//! A policy's secret files, as the backends ask for them: read at each connect, so that a rotated one is found.

use std::sync::Arc;

use pawl_crds::{SecretRef, Tls, conditions::reasons};
use pawl_kit::{
    secrets::{Secret, SecretDir, SecretError, SecretFile},
    tls::{Authorities, ClientTls, ReloadingTls, TlsError},
};
use pawl_lock::PolicyName;

use crate::engine::OpenError;

/// Where the secrets of one policy are.
#[derive(Clone, Debug)]
pub(super) struct Files {
    dir: Option<SecretDir>,
    policy: PolicyName,
}

/// A user name and a password, either of which may be missing.
#[derive(Clone, Debug, Default)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
}

impl Files {
    pub(super) const fn new(dir: Option<SecretDir>, policy: PolicyName) -> Self {
        Self { dir, policy }
    }

    /// Reads the login that the policy names; `user` is the address's. Without a name there is no password.
    pub(super) fn login(
        &self,
        named: Option<&SecretRef>,
        user: Option<String>,
    ) -> Result<impl Fn() -> Result<Login, SecretError> + Send + Sync + 'static, OpenError> {
        let dir = named.map(|_| self.dir()).transpose()?;
        let policy = self.policy.clone();
        Ok(move || {
            let Some(dir) = &dir else {
                return Ok(Login {
                    username: user.clone(),
                    password: None,
                });
            };
            let secrets = dir.load(policy.as_str())?;
            let username = secrets.get(SecretFile::Username);
            Ok(Login {
                username: username
                    .map(|name| name.expose().to_owned())
                    .or_else(|| user.clone()),
                password: Some(secrets.require(SecretFile::Password)?.clone()),
            })
        })
    }

    /// TLS as the policy asks for it.
    pub(super) fn tls(
        &self,
        tls: &Tls,
    ) -> Result<
        impl Fn() -> Result<Arc<rustls::ClientConfig>, TlsError> + Send + Sync + 'static,
        OpenError,
    > {
        let Tls {
            ca_secret_ref,
            client_cert_secret_ref,
            server_name,
        } = tls;
        let needs_files = ca_secret_ref.is_some() || client_cert_secret_ref.is_some();
        let dir = if needs_files {
            self.dir()?
        } else {
            self.dir
                .clone()
                .unwrap_or_else(|| SecretDir::new("/nonexistent"))
        };
        let mut client = ClientTls {
            authorities: match ca_secret_ref {
                Some(_) => Authorities::File,
                None => Authorities::System,
            },
            client_certificate: client_cert_secret_ref.is_some(),
            server_name: None,
        };
        if let Some(name) = server_name {
            client = client.with_server_name(name).map_err(|error| OpenError {
                reason: reasons::INVALID,
                message: format!("tls.serverName: {error}"),
            })?;
        }
        let policy = self.policy.clone();
        let tls = ReloadingTls::new(client, dir, policy.as_str());
        Ok(move || {
            // A pair that is half-written must not keep a connection with the last good one from being made.
            if let Err(error) = tls.refresh() {
                tracing::warn!(%policy, %error, "the TLS files cannot be used; those before stay in use, if any");
            }
            Ok(tls.current()?.config())
        })
    }

    fn dir(&self) -> Result<SecretDir, OpenError> {
        self.dir.clone().ok_or_else(|| OpenError {
            reason: reasons::SECRET_MISSING,
            message: format!(
                "the policy {} names Secrets, and the sidecar was started without --secrets DIR",
                self.policy
            ),
        })
    }
}

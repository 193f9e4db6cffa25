//! TLS to backends: rustls with ring, the server always verified in full.
//!
//! [`ClientTls`] says what a policy asks for, [`TlsMaterial`] is what came out of the files, and [`ReloadingTls`] keeps
//! it fresh. There is no way to switch verification off and no fallback: a policy that names authorities and has none
//! gets an error, not the system's authorities.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::secrets::{Fingerprint, Secret, SecretError, SecretFile, Secrets};

mod name;
mod reason;
mod reload;

pub use reason::{tls_error_reason, tls_reason_in};
pub use reload::ReloadingTls;

/// Whose signature on a server's certificate counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Authorities {
    /// The system's: `SSL_CERT_FILE` and `SSL_CERT_DIR`, or the platform's store. Loaded when first used.
    #[default]
    System,
    /// Those in `ca.crt`, and no others.
    File,
}

/// What a policy asks of TLS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClientTls {
    /// Whose signature counts.
    pub authorities: Authorities,
    /// Whether to show the client certificate in `tls.crt` and `tls.key`.
    pub client_certificate: bool,
    /// The name that the server's certificate must carry; the host of the address when it is not given.
    pub server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// The same with a server name that is to be checked.
    ///
    /// # Errors
    /// When it is neither a DNS name nor an IP address.
    pub fn with_server_name(mut self, name: &str) -> Result<Self, TlsError> {
        let parsed = ServerName::try_from(name.to_owned());
        self.server_name = Some(parsed.map_err(|source| TlsError::ServerName {
            name: name.to_owned(),
            source,
        })?);
        Ok(self)
    }
}

/// Why TLS cannot be set up. Errors of a handshake are told by [`tls_error_reason`].
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A file has PEM markers, and what lies between them is not PEM.
    #[error("{} is not valid PEM: {source}", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("{} holds no certificate (PEM, `-----BEGIN CERTIFICATE-----`)", .path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no private key that is understood.
    #[error("{} holds no private key (PEM, PKCS#8, PKCS#1 or SEC1, not encrypted)", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate in the file cannot be used as an authority.
    #[error("{} holds a certificate that is no authority: {source}", .path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// Certificate and key do not belong together, or one of them cannot be used.
    #[error("{} and {} cannot be used together: {source}", .certificate.display(), .key.display())]
    Pair {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// The system has no authorities.
    #[error(
        "the system has no trusted certificate authorities: install ca-certificates, or give ca.crt ({cause})"
    )]
    NoSystemAuthorities {
        /// What was tried.
        cause: String,
    },
    /// The name to check is none.
    #[error("`{name}` is not a server name: {source}")]
    ServerName {
        /// What was given.
        name: String,
        /// What is wrong.
        source: InvalidDnsNameError,
    },
    /// The library refused the set-up.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl TlsError {
    /// A short word for logs, metrics and the `reason` of problems.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Secret(error) => error.category(),
            Self::Pem { .. } | Self::NoCertificate { .. } | Self::NoKey { .. } => {
                "certificate_malformed"
            }
            Self::Authority { .. } => "authority_unusable",
            Self::Pair { .. } => "key_mismatch",
            Self::NoSystemAuthorities { .. } => "no_system_authorities",
            Self::ServerName { .. } => "server_name",
            Self::Setup(_) => "tls_setup",
        }
    }
}

/// The only provider of cryptography: ring. Made once.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

/// Makes [`provider`] the process's default, for drivers that ask for the default. May be called any number of times;
/// a default that is there stays.
pub fn install_provider() {
    if CryptoProvider::get_default().is_none() {
        // An error says that another thread was faster, with the only provider there is.
        let _ = CryptoProvider::install_default(provider().as_ref().clone());
    }
}

/// What the files of a policy gave: a ready configuration, and the PEM for drivers that build their own.
#[derive(Clone)]
pub struct TlsMaterial {
    config: Arc<ClientConfig>,
    authorities_pem: Option<Secret>,
    client_pem: Option<(Secret, Secret)>,
    fingerprint: Fingerprint,
}

impl TlsMaterial {
    /// Builds it. The system's authorities are read only when `tls` asks for them (some 300 KB from disk).
    ///
    /// # Errors
    /// Each names the file and what is wrong with it.
    pub fn build(tls: &ClientTls, secrets: &Secrets) -> Result<Self, TlsError> {
        let authorities_pem = match tls.authorities {
            Authorities::System => None,
            Authorities::File => Some(secrets.require(SecretFile::Authorities)?.clone()),
        };
        let client_pem = if tls.client_certificate {
            let certificate = secrets.require(SecretFile::Certificate)?.clone();
            Some((certificate, secrets.require(SecretFile::Key)?.clone()))
        } else {
            None
        };

        let roots = match &authorities_pem {
            None => system_roots()?,
            Some(pem) => roots_from(pem, &secrets.path(SecretFile::Authorities))?,
        };
        let paths = (
            secrets.path(SecretFile::Certificate),
            secrets.path(SecretFile::Key),
        );
        let pair = client_pem
            .as_ref()
            .map(|(certificate, key)| ((certificate, &*paths.0), (key, &*paths.1)));
        let config = configure(roots, tls.server_name.as_ref(), pair)?;
        let fingerprint = fingerprint(tls, secrets);
        Ok(Self {
            config,
            authorities_pem,
            client_pem,
            fingerprint,
        })
    }

    /// The configuration. With a server name of the policy's own, it checks that name, whatever name the driver gives.
    pub fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The authorities as PEM, for a driver that builds its own configuration; `None` for the system's.
    pub fn authorities_pem(&self) -> Option<&Secret> {
        self.authorities_pem.as_ref()
    }

    /// The client's certificate chain and key as PEM, for a driver that builds its own configuration.
    pub fn client_pem(&self) -> Option<(&Secret, &Secret)> {
        self.client_pem
            .as_ref()
            .map(|(certificate, key)| (certificate, key))
    }

    /// Changes when what it was built from does: connections made with another one are to be renewed.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsMaterial")
            .field("own_authorities", &self.authorities_pem.is_some())
            .field("client_certificate", &self.client_pem.is_some())
            .finish_non_exhaustive()
    }
}

/// The fingerprint of the files that `tls` uses: a new password is no reason for a new handshake.
fn fingerprint(tls: &ClientTls, secrets: &Secrets) -> Fingerprint {
    let text = |wanted: bool, file| secrets.get(file).filter(|_| wanted).map(Secret::expose);
    Fingerprint::of(&[
        text(
            tls.authorities == Authorities::File,
            SecretFile::Authorities,
        ),
        text(tls.client_certificate, SecretFile::Certificate),
        text(tls.client_certificate, SecretFile::Key),
    ])
}

/// A PEM text and where it came from.
type Pem<'a> = (&'a Secret, &'a Path);

fn configure(
    roots: RootCertStore,
    server_name: Option<&ServerName<'static>>,
    pair: Option<(Pem<'_>, Pem<'_>)>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = Arc::new(roots);
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Setup(error.to_string()))?;
    let builder = match server_name {
        None => builder.with_root_certificates(roots),
        Some(name) => {
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| TlsError::Setup(error.to_string()))?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(name::NamedVerifier::new(verifier, name.clone()))
        }
    };
    let config = match pair {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate.0, certificate.1)?;
            builder
                .with_client_auth_cert(chain, private_key(key.0, key.1)?)
                .map_err(|source| TlsError::Pair {
                    certificate: certificate.1.to_owned(),
                    key: key.1.to_owned(),
                    source,
                })?
        }
    };
    Ok(Arc::new(config))
}

/// A configuration of single files: authorities (the system's when not given), client certificate and key.
pub(crate) fn config_from_files(
    authorities: Option<&Path>,
    pair: Option<(&Path, &Path)>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = match authorities {
        None => system_roots()?,
        Some(path) => roots_from(&Secret::read(path)?, path)?,
    };
    let Some((certificate, key)) = pair else {
        return configure(roots, None, None);
    };
    let (chain_pem, key_pem) = (Secret::read(certificate)?, Secret::read(key)?);
    configure(
        roots,
        None,
        Some(((&chain_pem, certificate), (&key_pem, key))),
    )
}

/// The authorities that the system trusts.
///
/// # Errors
/// When there is none. Single certificates that cannot be used are left out, as every TLS library does.
pub fn system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let cause = found
            .errors
            .first()
            .map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(TlsError::NoSystemAuthorities { cause });
    }
    Ok(roots)
}

fn roots_from(pem: &Secret, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Authority {
                path: path.to_owned(),
                source,
            })?;
    }
    Ok(roots)
}

fn certificates(pem: &Secret, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.expose().as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem {
            path: path.to_owned(),
            source,
        })?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(certificates)
}

fn private_key(pem: &Secret, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey {
            path: path.to_owned(),
        },
        source => TlsError::Pem {
            path: path.to_owned(),
            source,
        },
    })
}

#[cfg(test)]
mod tests;

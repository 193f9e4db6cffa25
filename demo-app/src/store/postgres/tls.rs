//! TLS to Postgres: rustls with ring, the server's certificate always verified. Whether TLS is used at all
//! is the URL's `sslmode` (`disable`, `prefer`, which is the default, or `require`).

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::StoreError;

/// A connector that trusts the certificates in `ca_file`, or the system's.
pub(super) fn connector(ca_file: Option<&Path>) -> Result<MakeRustlsConnect, StoreError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let wrong =
            |e: &dyn std::fmt::Display| StoreError::CaFile(format!("{}: {e}", path.display()));
        for certificate in CertificateDer::pem_file_iter(path).map_err(|e| wrong(&e))? {
            roots
                .add(certificate.map_err(|e| wrong(&e))?)
                .map_err(|e| wrong(&e))?;
        }
        if roots.is_empty() {
            return Err(wrong(&"no certificate in it"));
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| StoreError::CaFile(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

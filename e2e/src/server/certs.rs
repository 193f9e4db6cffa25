//! Certificates for servers under test.

use std::{path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// A new authority.
    ///
    /// # Panics
    /// If the random source fails.
    pub fn new(name: &str) -> Self {
        let mut params =
            CertificateParams::new(Vec::new()).expect("no name is a good list of names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("it can be signed"))
    }

    /// Its certificate, in PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// A certificate for the names, the first of which is its common name, good for servers and clients; over already
    /// if `is_expired`.
    ///
    /// # Panics
    /// If a name is not one.
    pub fn issue(&self, names: &[&str], is_expired: bool) -> Identity {
        let subject = names.first().copied().unwrap_or_default();
        self.issue_to(subject, None, names, is_expired)
    }

    /// A certificate for a client that is known by its common name and its organisation, such as a user of Kubernetes and
    /// its group.
    ///
    /// # Panics
    /// If the random source fails.
    pub fn issue_client(&self, name: &str, organisation: &str) -> Identity {
        self.issue_to(name, Some(organisation), &[], false)
    }

    fn issue_to(
        &self,
        subject: &str,
        organisation: Option<&str>,
        names: &[&str],
        is_expired: bool,
    ) -> Identity {
        let alternatives: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(alternatives).expect("they are names");
        params.distinguished_name.push(DnType::CommonName, subject);
        if let Some(organisation) = organisation {
            let name = DnType::OrganizationName;
            params.distinguished_name.push(name, organisation);
        }
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if is_expired {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.0).expect("it can be signed");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A client's configuration that trusts this authority alone, with a certificate of its own if there is one.
    ///
    /// # Panics
    /// If the identity is not one.
    pub fn client(&self, identity: Option<&Identity>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let root =
            CertificateDer::from_pem_slice(self.certificate().as_bytes()).expect("it is PEM");
        roots.add(root).expect("it is an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots);
        Arc::new(match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
                builder
                    .with_client_auth_cert(
                        vec![certificate.expect("it is PEM")],
                        key.expect("it is PEM"),
                    )
                    .expect("they belong together")
            }
        })
    }
}

impl Identity {
    /// Writes `<name>.crt` and `<name>.key`.
    ///
    /// # Panics
    /// If it cannot.
    pub fn write(&self, folder: &Path, name: &str) {
        for (ending, text) in [("crt", &self.certificate), ("key", &self.key)] {
            std::fs::write(folder.join(format!("{name}.{ending}")), text)
                .expect("the folder can be written");
        }
    }
}

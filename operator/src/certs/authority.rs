//! An authority in memory, and the certificate that it signs.

use std::{sync::Arc, time::Duration};

use pawl_kit::{clock::Wall, tls};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};

use super::{AUTHORITY, Own, serving::Pair};

/// How far clocks of API servers may be behind.
const SKEW: Duration = Duration::from_hours(1);

/// Why one could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    /// The random source, or a name that is none.
    #[error("the certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The key does not suit the TLS library.
    #[error("the certificate cannot be used: {0}")]
    Key(#[from] rustls::Error),
}

/// An authority and the one certificate that it signed; its own key is forgotten.
#[derive(Clone, Debug)]
pub(super) struct Authority {
    /// Its certificate.
    pub(super) certificate: CertificateDer<'static>,
    /// What it signed.
    pub(super) pair: Pair,
}

impl Authority {
    /// A new one, valid from now on for `own.timing.lifetime`.
    pub(super) fn make(own: &Own, now: Wall) -> Result<Self, MakeError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params
            .distinguished_name
            .push(DnType::CommonName, format!("{AUTHORITY}{}", own.pod));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let not_after = between(&mut params, own, now);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

        let mut params = CertificateParams::new(names(own))?;
        params
            .distinguished_name
            .push(DnType::CommonName, own.service.clone());
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        between(&mut params, own, now);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let chain = vec![certificate.der().clone()];
        let key = CertifiedKey::from_der(chain, key, &tls::provider())?;
        Ok(Self {
            certificate: issuer.der().clone(),
            pair: Pair {
                key: Arc::new(key),
                not_after,
            },
        })
    }
}

/// The names by which an API server may call the Service.
fn names(own: &Own) -> Vec<String> {
    let Own {
        service, namespace, ..
    } = own;
    vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        format!("{service}.{namespace}"),
        service.clone(),
    ]
}

/// Sets when it is valid; the end in seconds since 1970.
fn between(params: &mut CertificateParams, own: &Own, now: Wall) -> i64 {
    let since = now.minus(SKEW).unix_seconds();
    let until = now.plus(own.timing.lifetime).unix_seconds();
    // The library's type of a date is another library's; it can be counted on from a day.
    let date = |seconds: i64| {
        let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        rcgen::date_time_ymd(1970, 1, 1) + seconds
    };
    params.not_before = date(since);
    params.not_after = date(until);
    until
}

#[cfg(test)]
mod tests;

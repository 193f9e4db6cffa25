//! Why a handshake failed, in one word.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, Error};

/// Longest chain of causes that is followed.
const MAX_CAUSES: usize = 16;

/// The cause of a failed handshake, as a word of a closed list: fit for a metric label and for `reason` in a problem.
///
/// Words that begin with `client_` are what the server found wrong with our certificate.
pub const fn tls_error_reason(error: &Error) -> &'static str {
    match error {
        Error::InvalidCertificate(error) => certificate_reason(error),
        Error::AlertReceived(alert) => alert_reason(*alert),
        Error::NoCertificatesPresented => "no_certificate",
        Error::InvalidMessage(_) => "not_tls",
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => "protocol_mismatch",
        Error::InconsistentKeys(_) => "key_mismatch",
        Error::UnsupportedNameType => "name_mismatch",
        _ => "handshake_failed",
    }
}

const fn certificate_reason(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate_expired"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "certificate_not_yet_valid"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "name_mismatch"
        }
        // A new authority under the name of the old one shows as a bad signature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => "unknown_ca",
        CertificateError::Revoked => "certificate_revoked",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate_purpose"
        }
        _ => "certificate_invalid",
    }
}

const fn alert_reason(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateExpired => "client_certificate_expired",
        AlertDescription::UnknownCA => "client_unknown_ca",
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "client_certificate_required"
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => "client_certificate_refused",
        AlertDescription::UnrecognisedName => "server_name_unknown",
        AlertDescription::HandshakeFailure
        | AlertDescription::ProtocolVersion
        | AlertDescription::InsufficientSecurity
        | AlertDescription::NoApplicationProtocol => "protocol_mismatch",
        _ => "handshake_failed",
    }
}

/// The [`tls_error_reason`] of the first TLS error among `error` and its causes; `None` when there is none. Looks into
/// `io::Error`s and shared errors too, in which drivers wrap it. Follows at most 16 causes.
pub fn tls_reason_in(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    for _ in 0..MAX_CAUSES {
        let error = next?;
        if let Some(tls) = error.downcast_ref::<Error>() {
            return Some(tls_error_reason(tls));
        }
        next = wrapped(error).or_else(|| error.source());
    }
    None
}

/// What an `io::Error` or an `Arc` wraps: their `source` passes over it.
fn wrapped<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return Some(error.get_ref()?);
    }
    let shared = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>()?;
    Some(&**shared)
}

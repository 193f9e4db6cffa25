//! What a `caBundle` should hold: the union of all replicas' authorities, and of what others put there.

use std::collections::BTreeSet;

use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::AUTHORITY;

/// Most certificates in a bundle; each costs an API server a little at every call. The oldest of other replicas go first.
const MOST: usize = 64;
/// Most of them that others put there, so that there is always room for the replicas.
const MOST_FOREIGN: usize = MOST / 2;

/// What is known beside the bundle.
pub(super) struct Known<'a> {
    /// This replica's authorities, current and next.
    pub(super) own: &'a [CertificateDer<'static>],
    /// This replica's pod.
    pub(super) pod: &'a str,
    /// The operator's pods that are there; none if that is not known.
    pub(super) pods: Option<&'a BTreeSet<String>>,
    /// Seconds since 1970.
    pub(super) now: i64,
}

/// An authority of a replica.
struct Ours {
    pod: String,
    not_after: i64,
}

/// Whether a bundle names replicas other than this one: then it has to be known which of them are there.
pub(super) fn has_others(bundle: &[u8], pod: &str) -> bool {
    certificates(bundle)
        .iter()
        .filter_map(ours)
        .any(|ours| ours.pod != pod)
}

/// Whether a bundle holds text that is no certificate.
pub(super) fn has_garbage(bundle: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bundle);
    let blocks = text.matches("-----BEGIN").count();
    let is_empty = text.trim().is_empty();
    blocks != certificates(bundle).len() || (blocks == 0 && !is_empty)
}

/// The bundle as it should be; the same text for the same contents.
///
/// Kept is what others put there, and authorities of replicas that are there and not over. An authority of this pod that
/// is not in `own` belonged to a process before this one, and its key is lost.
pub(super) fn wanted(bundle: &[u8], known: &Known<'_>) -> Vec<u8> {
    let (mut foreign, mut others) = (Vec::new(), Vec::new());
    for certificate in certificates(bundle) {
        match ours(&certificate) {
            None if !foreign.contains(&certificate) => foreign.push(certificate),
            Some(ours) if is_kept(&ours, known) => others.push((ours.not_after, certificate)),
            None | Some(_) => {}
        }
    }
    others.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.as_ref().cmp(other.as_ref())));
    others.dedup();
    let room = MOST.saturating_sub(known.own.len());
    foreign.truncate(MOST_FOREIGN);
    let too_many = others
        .len()
        .saturating_sub(room.saturating_sub(foreign.len()));
    let mut own_and_others: Vec<_> = others
        .drain(too_many..)
        .map(|(_, certificate)| certificate)
        .chain(known.own.iter().cloned())
        .collect();
    // By content, so that replicas do not write over each other's order.
    own_and_others.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
    own_and_others.dedup();
    foreign.extend(own_and_others);
    let texts: Vec<_> = foreign.iter().map(|certificate| pem(certificate)).collect();
    texts.concat().into_bytes()
}

/// Whether all of `own` stand in a bundle.
pub(super) fn has(bundle: &[u8], own: &[CertificateDer<'static>]) -> bool {
    let there = certificates(bundle);
    own.iter().all(|certificate| there.contains(certificate))
}

fn is_kept(ours: &Ours, known: &Known<'_>) -> bool {
    ours.pod != known.pod
        && ours.not_after > known.now
        && known.pods.is_none_or(|pods| pods.contains(&ours.pod))
}

/// The certificates of a bundle; what cannot be read is passed over, since no API server would take it.
fn certificates(bundle: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(bundle)
        .filter_map(Result::ok)
        .filter(|certificate| X509Certificate::from_der(certificate).is_ok())
        .map(CertificateDer::into_owned)
        .collect()
}

fn ours(certificate: &CertificateDer<'_>) -> Option<Ours> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    Some(Ours {
        pod: name.strip_prefix(AUTHORITY)?.to_owned(),
        not_after: parsed.validity().not_after.timestamp(),
    })
}

/// A certificate as text, in lines of 64 characters (RFC 7468).
fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests;

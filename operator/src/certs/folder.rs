//! A certificate in a directory: a mounted Secret, of cert-manager or one's own.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use pawl_kit::{
    admin::{Concern, Latch},
    clock::Clock,
    tls,
    watch::Watch,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    serving::{Pair, Serving},
    tell_end,
};

/// How often to look without a change.
const LOOK: Duration = Duration::from_mins(1);

/// Why a pair cannot be served.
#[derive(Debug, thiserror::Error)]
enum PairError {
    #[error("{file} cannot be read: {source}")]
    Read {
        file: &'static str,
        source: io::Error,
    },
    #[error("tls.crt holds no certificate (PEM)")]
    NoCertificate,
    #[error("tls.key holds no private key that is understood (PEM, not encrypted)")]
    NoKey,
    #[error("tls.crt holds a certificate that cannot be read")]
    Garbled,
    #[error("tls.crt and tls.key do not belong together: {0}")]
    Mismatch(#[from] rustls::Error),
    #[error("the certificate in tls.crt is over since {} s", .seconds)]
    Over { seconds: i64 },
}

/// Serves what is there, and what comes there, for ever. The last good pair stays when another one cannot be used.
pub(super) async fn run(
    folder: &Path,
    clock: &Clock,
    serving: &Serving,
    latch: Latch,
    concern: &Concern,
) {
    let mut watch = Watch::new(folder);
    let mut latch = Some(latch);
    let mut served: Option<Vec<CertificateDer<'static>>> = None;
    loop {
        match load(folder, clock.wall().unix_seconds()) {
            Ok(pair) => {
                tell_end(pair.not_after, clock.wall(), concern);
                if served.as_ref() != Some(&pair.key.cert) {
                    serving.switch(&pair);
                    served = Some(pair.key.cert.clone());
                    tracing::info!(folder = %folder.display(), "the webhook's certificate was read");
                }
                drop(latch.take());
            }
            Err(error) => {
                tracing::error!(%error, folder = %folder.display(), "the webhook's certificate cannot be used");
                concern.raise(error.to_string());
            }
        }
        tokio::select! {
            () = watch.changed() => {}
            // What is there may end without any change.
            () = clock.sleep(LOOK) => {}
        }
    }
}

fn load(folder: &Path, now: i64) -> Result<Pair, PairError> {
    let read = |file: &'static str| {
        fs::read(folder.join(file)).map_err(|source| PairError::Read { file, source })
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read("tls.crt")?)
        .collect::<Result<_, _>>()
        .map_err(|_| PairError::NoCertificate)?;
    let key = PrivateKeyDer::from_pem_slice(&read("tls.key")?).map_err(|_| PairError::NoKey)?;
    let first = chain.first().ok_or(PairError::NoCertificate)?;
    let (_, parsed) = X509Certificate::from_der(first).map_err(|_| PairError::Garbled)?;
    let not_after = parsed.validity().not_after.timestamp();
    if not_after <= now {
        let seconds = now.saturating_sub(not_after);
        return Err(PairError::Over { seconds });
    }
    let key = CertifiedKey::from_der(chain, key, &tls::provider())?;
    Ok(Pair {
        key: Arc::new(key),
        not_after,
    })
}

#[cfg(test)]
mod tests;

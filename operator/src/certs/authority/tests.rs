use std::{net::Ipv4Addr, time::Duration};

use kube::{Client, Config};
use pawl_kit::clock::Clock;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{ServerName, UnixTime},
};

use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;
use crate::certs::Timing;

fn own() -> Own {
    let url = format!("http://{}:1", Ipv4Addr::LOCALHOST);
    Own {
        client: Client::try_from(Config::new(url.parse().unwrap())).unwrap(),
        configuration: "pawl-inject".to_owned(),
        service: "pawl-webhook".to_owned(),
        namespace: "pawl-system".to_owned(),
        pod: "pawl-operator-7c9f".to_owned(),
        timing: Timing::default(),
    }
}

fn verdict(
    name: &str,
    trusted: &Authority,
    shown: &Authority,
    at: Wall,
) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.certificate.clone()).unwrap();
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider())
        .build()
        .unwrap();
    let at = Duration::from_secs(u64::try_from(at.unix_seconds()).unwrap());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let chain = &shown.pair.key.cert;
    verifier
        .verify_server_cert(&chain[0], &[], &name, &[], UnixTime::since_unix_epoch(at))
        .map(|_| ())
}

#[tokio::test]
async fn an_api_server_that_trusts_it_believes_its_certificate() {
    let (own, now) = (own(), Clock::system().wall());
    let (one, other) = (
        Authority::make(&own, now).unwrap(),
        Authority::make(&own, now).unwrap(),
    );
    let day = Duration::from_hours(24);
    for name in [
        "pawl-webhook.pawl-system.svc",
        "pawl-webhook.pawl-system.svc.cluster.local",
    ] {
        assert_eq!(verdict(name, &one, &one, now), Ok(()));
        // A clock that is behind, and the last second.
        assert_eq!(
            verdict(name, &one, &one, now.minus(Duration::from_mins(59))),
            Ok(())
        );
        assert_eq!(verdict(name, &one, &one, now.plus(day)), Ok(()));
        verdict(name, &one, &one, now.plus(day + Duration::from_secs(2))).unwrap_err();
        verdict(name, &one, &other, now).unwrap_err();
    }
    verdict("pawl-webhook.other.svc", &one, &one, now).unwrap_err();
    assert_eq!(one.pair.not_after, now.plus(day).unix_seconds());
}

/// What rustls does not ask of a root, but other verifiers may; and what bounds the harm that a lost key can do.
#[tokio::test]
async fn an_authority_says_what_it_is_and_may_do_no_more() {
    let made = Authority::make(&own(), Clock::system().wall()).unwrap();
    let (_, parsed) = X509Certificate::from_der(&made.certificate).unwrap();
    let constraints = parsed.basic_constraints().unwrap().unwrap().value;
    assert!(constraints.ca);
    assert_eq!(constraints.path_len_constraint, Some(0));
    let usage = parsed.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && !usage.digital_signature());
    let mut names = parsed.subject().iter_common_name();
    let name = names.next().unwrap().as_str().unwrap();
    assert_eq!(name, "pawl-operator/pawl-operator-7c9f");
}

//! What tests of publishing and rotation need.

use std::{rc::Rc, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use kube::Client;
use pawl_kit::{
    clock::{Clock, ClockHand, Wall},
    tls,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    sign::CertifiedKey,
};
use serde_json::{Value, json};

use super::{AUTHORITY, Own, Timing};
use crate::fixtures::{FakeApi, in_step};

pub(super) const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/pawl-inject";
pub(super) const STEP: Duration = Duration::from_millis(100);

/// The clock, the API server and what this replica is there.
pub(super) struct Scene {
    pub(super) clock: Clock,
    pub(super) hand: ClockHand,
    pub(super) api: FakeApi,
    pub(super) own: Own,
}

impl Scene {
    pub(super) async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// An authority of a pod that is valid for so many seconds more; less than none for one that is over.
    pub(super) fn authority_of(&self, pod: &str, seconds: i64) -> CertificateDer<'static> {
        let now = self.clock.wall().unix_seconds();
        certificate(&format!("{AUTHORITY}{pod}"), now + seconds)
    }

    /// What the bundle of a webhook holds.
    pub(super) fn bundle(&self, webhook: usize) -> Vec<CertificateDer<'static>> {
        let configuration = self.api.get(CONFIGURATION).unwrap();
        let bundle = &configuration["webhooks"][webhook]["clientConfig"]["caBundle"];
        let bundle = STANDARD
            .decode(bundle.as_str().unwrap_or_default())
            .unwrap();
        let certificates = CertificateDer::pem_slice_iter(&bundle);
        certificates.map(Result::unwrap).collect()
    }

    /// Somebody sets the bundles of both webhooks.
    pub(super) fn set_bundles(&self, certificates: &[&CertificateDer<'static>]) {
        self.api
            .put(CONFIGURATION, configuration([certificates, certificates]));
    }
}

pub(super) fn certificate(name: &str, not_after: i64) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let seconds = Duration::from_secs(u64::try_from(not_after).unwrap());
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + seconds;
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().clone()
}

/// The configuration as the chart makes it, with two webhooks.
pub(super) fn configuration(bundles: [&[&CertificateDer<'static>]; 2]) -> Value {
    let webhook = |name: &str, bundle: &[&CertificateDer<'static>]| {
        let texts: Vec<_> = bundle.iter().map(|certificate| pem(certificate)).collect();
        json!({
            "name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "clientConfig": {
                "service": {"name": "pawl-webhook", "namespace": "pawl-system"},
                "caBundle": STANDARD.encode(texts.concat()),
            },
        })
    };
    let [first, second] = bundles;
    json!({"webhooks": [webhook("pods.pawl.dev", first), webhook("more.pawl.dev", second)]})
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

fn own(client: Client) -> Own {
    Own {
        client,
        configuration: "pawl-inject".to_owned(),
        service: "pawl-webhook".to_owned(),
        namespace: "pawl-system".to_owned(),
        pod: "a".to_owned(),
        timing: Timing {
            lifetime: Duration::from_mins(30),
            ..Timing::default()
        },
    }
}

/// Tells a story in a world with an empty configuration.
pub(super) async fn play<F: Future<Output = ()>>(story: impl FnOnce(Rc<Scene>) -> F) {
    let (clock, hand) = Clock::manual();
    let (api, client, serving) = FakeApi::new(clock.clone());
    let scene = Rc::new(Scene {
        clock,
        hand,
        api,
        own: own(client),
    });
    scene.set_bundles(&[]);
    for pod in ["a", "b"] {
        add_pod(&scene.api, pod);
    }
    tokio::select! {
        _ = async { tokio::join!(serving, in_step(&scene.hand, STEP)) } => {}
        () = story(Rc::clone(&scene)) => {}
    }
}

fn add_pod(api: &FakeApi, name: &str) {
    let path = match name {
        "a" => "/api/v1/namespaces/pawl-system/pods/a",
        _ => "/api/v1/namespaces/pawl-system/pods/b",
    };
    api.put(path, json!({"metadata": {"name": name}}));
    // A pod of that name elsewhere is not one of ours.
    api.put(
        "/api/v1/namespaces/shop/pods/gone",
        json!({"metadata": {"name": "gone"}}),
    );
}

/// Whether an API server that trusts these believes what is shown to it.
pub(super) fn believes(
    trusted: &[CertificateDer<'static>],
    shown: &CertifiedKey,
    at: Wall,
) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider());
    // Without any root there is no verifier.
    let Ok(verifier) = verifier.build() else {
        return false;
    };
    let at = Duration::from_secs(u64::try_from(at.unix_seconds()).unwrap());
    let name = ServerName::try_from("pawl-webhook.pawl-system.svc").unwrap();
    let at = UnixTime::since_unix_epoch(at);
    verifier
        .verify_server_cert(&shown.cert[0], &[], &name, &[], at)
        .is_ok()
}

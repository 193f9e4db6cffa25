//! Real handshakes over a pipe, with certificates made on the spot.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;

use super::*;
use crate::secrets::SecretDir;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A certificate and its key, PEM.
struct Pair {
    certificate: String,
    key: String,
}

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(issuer: &Issuer, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Pair {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

fn pair(issuer: &Issuer, name: &str) -> Pair {
    issue(issuer, name, |_| {})
}

/// A server with this certificate; asks for a client certificate of `clients` when that is given.
fn server(pair: &Pair, clients: Option<&Issuer>) -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(issuer) => {
            let mut roots = RootCertStore::empty();
            roots.add(issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    Arc::new(builder.with_single_cert(chain, key).unwrap())
}

/// Shakes hands as a driver would, under the name `redis.example`, and exchanges a byte: in TLS 1.3 the server's view
/// of our certificate comes with the first read.
async fn shake(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<(), &'static str> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("redis.example").unwrap();
    let serve = async {
        let mut stream = tokio_rustls::TlsAcceptor::from(server).accept(far).await?;
        stream.write_all(b"+").await?;
        stream.flush().await
    };
    let call = async {
        let mut stream = tokio_rustls::TlsConnector::from(client)
            .connect(name, near)
            .await?;
        stream.read_u8().await.map(drop)
    };
    let (_, called) = tokio::join!(serve, call);
    called.map_err(|error| tls_reason_in(&error).unwrap_or("no TLS error"))
}

fn write(dir: &Path, file: SecretFile, content: &str) {
    let dir = dir.join("p");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(file.name()), content).unwrap();
}

const OWN_CA: ClientTls = ClientTls {
    authorities: Authorities::File,
    client_certificate: false,
    server_name: None,
};

fn build(dir: &Path, tls: &ClientTls) -> Result<TlsMaterial, TlsError> {
    TlsMaterial::build(tls, &SecretDir::new(dir).load("p").unwrap())
}

#[tokio::test]
async fn only_a_valid_certificate_of_our_authority_for_that_name_is_accepted() {
    let ca = authority("ours");
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), SecretFile::Authorities, &ca.pem());
    let client = build(dir.path(), &OWN_CA).unwrap().config();

    let good = pair(&ca, "redis.example");
    assert_eq!(shake(client.clone(), server(&good, None)).await, Ok(()));
    let expired = issue(&ca, "redis.example", |params| {
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let future = issue(&ca, "redis.example", |params| {
        params.not_before = rcgen::date_time_ymd(2999, 1, 1);
    });
    let purpose = issue(&ca, "redis.example", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    for (pair, reason) in [
        (expired, "certificate_expired"),
        (future, "certificate_not_yet_valid"),
        (purpose, "certificate_purpose"),
        (pair(&ca, "other.example"), "name_mismatch"),
        (pair(&authority("theirs"), "redis.example"), "unknown_ca"),
        (pair(&authority("ours"), "redis.example"), "unknown_ca"),
    ] {
        assert_eq!(
            shake(client.clone(), server(&pair, None)).await,
            Err(reason)
        );
    }
}

#[tokio::test]
async fn a_name_of_the_policys_own_takes_the_place_of_the_address() {
    let ca = authority("ours");
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), SecretFile::Authorities, &ca.pem());
    let client = build(dir.path(), &OWN_CA.with_server_name("internal").unwrap())
        .unwrap()
        .config();
    assert_eq!(
        shake(client.clone(), server(&pair(&ca, "internal"), None)).await,
        Ok(())
    );
    assert_eq!(
        shake(client.clone(), server(&pair(&ca, "redis.example"), None)).await,
        Err("name_mismatch")
    );
    assert_eq!(
        shake(client, server(&pair(&authority("x"), "internal"), None)).await,
        Err("unknown_ca")
    );
    assert_eq!(
        OWN_CA.with_server_name("a b").unwrap_err().category(),
        "server_name"
    );
}

#[tokio::test]
async fn a_client_certificate_is_shown_when_asked_for() {
    let ca = authority("ours");
    let dir = tempfile::tempdir().unwrap();
    let server_pair = pair(&ca, "redis.example");
    let mutual = || server(&server_pair, Some(&ca));
    let with_certificate = ClientTls {
        client_certificate: true,
        ..OWN_CA
    };
    write(dir.path(), SecretFile::Authorities, &ca.pem());
    let client = |tls: &ClientTls, pair: &Pair| {
        write(dir.path(), SecretFile::Certificate, &pair.certificate);
        write(dir.path(), SecretFile::Key, &pair.key);
        build(dir.path(), tls).unwrap().config()
    };
    let good = pair(&ca, "app");
    let expired = issue(&ca, "app", |params| {
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    assert_eq!(
        shake(client(&with_certificate, &good), mutual()).await,
        Ok(())
    );
    assert_eq!(
        shake(client(&OWN_CA, &good), mutual()).await,
        Err("client_certificate_required")
    );
    assert_eq!(
        shake(client(&with_certificate, &expired), mutual()).await,
        Err("client_certificate_expired")
    );
    let foreign = pair(&authority("theirs"), "app");
    assert_eq!(
        shake(client(&with_certificate, &foreign), mutual()).await,
        Err("client_unknown_ca")
    );
}

#[tokio::test]
async fn a_server_that_speaks_plain_text_is_told_apart() {
    use tokio::io::AsyncWriteExt;
    let ca = authority("ours");
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), SecretFile::Authorities, &ca.pem());
    let client = build(dir.path(), &OWN_CA).unwrap().config();
    let (near, mut far) = tokio::io::duplex(1024);
    far.write_all(b"-ERR unknown command\r\n").await.unwrap();
    let name = ServerName::try_from("redis.example").unwrap();
    let error = tokio_rustls::TlsConnector::from(client)
        .connect(name, near)
        .await
        .unwrap_err();
    assert_eq!(tls_reason_in(&error), Some("not_tls"));
    let shared: std::sync::Arc<dyn std::error::Error + Send + Sync> = std::sync::Arc::new(error);
    assert_eq!(tls_reason_in(&shared), Some("not_tls"));
    assert_eq!(tls_reason_in(&io_error()), None);
}

fn io_error() -> std::io::Error {
    std::io::Error::other("refused")
}

#[test]
fn bad_files_are_named_with_what_is_wrong() {
    let ca = authority("ours");
    let (one, two) = (pair(&ca, "app"), pair(&ca, "app"));
    let tls = ClientTls {
        client_certificate: true,
        ..OWN_CA
    };
    let dir = tempfile::tempdir().unwrap();
    let message = |authorities: &str, certificate: &str, key: &str| {
        write(dir.path(), SecretFile::Authorities, authorities);
        write(dir.path(), SecretFile::Certificate, certificate);
        write(dir.path(), SecretFile::Key, key);
        let error = build(dir.path(), &tls).unwrap_err();
        (
            error.category(),
            error
                .to_string()
                .replace(&dir.path().display().to_string(), "DIR"),
        )
    };
    let (category, text) = message("", &one.certificate, &one.key);
    assert_eq!(
        (category, text.as_str()),
        ("secret_missing", "DIR/p/ca.crt is missing or empty")
    );
    let (category, text) = message("hello", &one.certificate, &one.key);
    assert_eq!(category, "certificate_malformed");
    assert!(
        text.starts_with("DIR/p/ca.crt holds no certificate"),
        "{text}"
    );
    let (category, text) = message(&ca.pem(), &one.certificate, &two.key);
    assert_eq!(category, "key_mismatch");
    assert!(
        text.starts_with("DIR/p/tls.crt and DIR/p/tls.key cannot be used together"),
        "{text}"
    );
    let (_, text) = message(&ca.pem(), &one.certificate, &one.certificate);
    assert!(
        text.starts_with("DIR/p/tls.key holds no private key"),
        "{text}"
    );
    let half = &one.certificate[..one.certificate.len() / 2];
    let (category, text) = message(&ca.pem(), half, &one.key);
    assert_eq!(category, "certificate_malformed");
    assert!(text.starts_with("DIR/p/tls.crt is not valid PEM"), "{text}");
    let (category, text) = message(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &one.certificate,
        &one.key,
    );
    assert_eq!(category, "authority_unusable");
    assert!(
        text.starts_with("DIR/p/ca.crt holds a certificate that is no authority"),
        "{text}"
    );
    let secret = &one.key[40..80];
    for key in [
        one.key[..one.key.len() - 20].to_owned(),
        one.key.replacen(secret, "*", 1),
        two.key,
    ] {
        let (_, text) = message(&ca.pem(), &one.certificate, &key);
        assert!(!text.contains(&key[40..60]), "no part of a key in {text}");
    }
}

#[tokio::test]
async fn new_files_are_used_and_half_written_ones_are_not() {
    let (old, new) = (authority("old"), authority("new"));
    let dir = tempfile::tempdir().unwrap();
    let tls = ClientTls {
        client_certificate: true,
        ..OWN_CA
    };
    let reloading = ReloadingTls::new(tls, SecretDir::new(dir.path()), "p");
    let error = reloading.current().unwrap_err();
    assert_eq!(
        error.category(),
        "secret_missing",
        "never good yet: {error}"
    );

    let pairs = [pair(&old, "app"), pair(&new, "app")];
    write(dir.path(), SecretFile::Authorities, &old.pem());
    write(dir.path(), SecretFile::Certificate, &pairs[0].certificate);
    write(dir.path(), SecretFile::Key, &pairs[0].key);
    let first = reloading.current().unwrap();
    assert!(!reloading.refresh().unwrap(), "nothing changed");
    write(dir.path(), SecretFile::Password, "new");
    assert!(
        !reloading.refresh().unwrap(),
        "a password is no part of TLS"
    );
    let servers = [&old, &new].map(|ca| server(&pair(ca, "redis.example"), Some(ca)));
    assert_eq!(shake(first.config(), servers[0].clone()).await, Ok(()));

    write(dir.path(), SecretFile::Authorities, &new.pem());
    write(dir.path(), SecretFile::Certificate, &pairs[1].certificate);
    assert_eq!(reloading.refresh().unwrap_err().category(), "key_mismatch");
    let kept = reloading.current().unwrap();
    assert_eq!(kept.fingerprint(), first.fingerprint());
    assert_eq!(shake(kept.config(), servers[0].clone()).await, Ok(()));

    write(dir.path(), SecretFile::Key, &pairs[1].key);
    assert!(reloading.refresh().unwrap());
    let renewed = reloading.current().unwrap();
    assert_ne!(renewed.fingerprint(), first.fingerprint());
    assert_eq!(shake(renewed.config(), servers[1].clone()).await, Ok(()));
    assert_eq!(
        shake(renewed.config(), servers[0].clone()).await,
        Err("unknown_ca")
    );

    fs::remove_file(dir.path().join("p/ca.crt")).unwrap();
    assert_eq!(
        reloading.refresh().unwrap_err().category(),
        "secret_missing",
        "never the system's instead"
    );
    assert_eq!(
        reloading.current().unwrap().fingerprint(),
        renewed.fingerprint()
    );
}

#[test]
fn the_default_provider_is_installed_once_and_is_ring() {
    install_provider();
    install_provider();
    let default = CryptoProvider::get_default().unwrap();
    let suites = |provider: &CryptoProvider| -> Vec<_> {
        provider
            .cipher_suites
            .iter()
            .map(rustls::SupportedCipherSuite::suite)
            .collect()
    };
    assert_eq!(
        suites(default),
        suites(&rustls::crypto::ring::default_provider())
    );
}

#[test]
fn the_systems_authorities_are_the_default_and_their_absence_is_told() {
    let dir = tempfile::tempdir().unwrap();
    match build(dir.path(), &ClientTls::default()) {
        Ok(material) => assert!(material.authorities_pem().is_none()),
        Err(error) => assert_eq!(error.category(), "no_system_authorities"),
    }
}

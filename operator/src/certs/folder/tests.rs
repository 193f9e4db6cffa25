use std::os::unix::fs::symlink;

use pawl_kit::admin::Readiness;
use prometheus::IntGauge;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

/// A certificate that ends at `until` (seconds since 1970), and its key.
fn pair(until: u64) -> (String, String) {
    let mut params =
        CertificateParams::new(vec!["pawl-webhook.pawl-system.svc".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(until);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

const FAR: u64 = 4_000_000_000;

/// Puts both files there as the kubelet does: a new directory, and a link that is swapped.
fn swap(folder: &Path, version: &str, (certificate, key): &(String, String)) {
    let data = folder.join(version);
    fs::create_dir(&data).unwrap();
    fs::write(data.join("tls.crt"), certificate).unwrap();
    fs::write(data.join("tls.key"), key).unwrap();
    symlink(version, folder.join("..next")).unwrap();
    fs::rename(folder.join("..next"), folder.join("..data")).unwrap();
    for file in ["tls.crt", "tls.key"] {
        let _ = symlink(Path::new("..data").join(file), folder.join(file));
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn the_last_good_pair_is_served_whatever_comes() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_owned();
    let gauge = IntGauge::new("expiry", "expiry").unwrap();
    let serving = Arc::new(Serving::new(gauge.clone()));
    let readiness = Readiness::new();
    let latch = readiness.latch("certificate");
    let concern = readiness.concern("certificate");
    let kept = Arc::clone(&serving);
    let task = async move { run(&path, &Clock::system(), &kept, latch, &concern).await };
    let story = async {
        until("it waits for the first", || gauge.get() == 0).await;
        assert!(!readiness.is_ready());
        let first = pair(FAR);
        swap(folder.path(), "v1", &first);
        until("the first", || gauge.get() == i64::try_from(FAR).unwrap()).await;
        assert!(readiness.is_ready());

        // Half of another pair, garbage, one that is over.
        swap(folder.path(), "v2", &(pair(FAR + 1).0, first.1.clone()));
        swap(
            folder.path(),
            "v3",
            &("garbage".to_owned(), first.1.clone()),
        );
        swap(folder.path(), "v4", &pair(1_000_000_000));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(gauge.get(), i64::try_from(FAR).unwrap());
        assert!(readiness.is_ready());

        swap(folder.path(), "v5", &pair(FAR + 5));
        until("the next", || {
            gauge.get() == i64::try_from(FAR + 5).unwrap()
        })
        .await;
    };
    tokio::select! {
        () = task => panic!("it ended"),
        () = story => {}
    }
}

#[test]
fn each_fault_is_named() {
    let folder = TempDir::new().unwrap();
    let told = |certificate: &str, key: &str| {
        fs::write(folder.path().join("tls.crt"), certificate).unwrap();
        fs::write(folder.path().join("tls.key"), key).unwrap();
        load(folder.path(), 2_000_000_000).unwrap_err().to_string()
    };
    let (good, over) = (pair(FAR), pair(1_999_999_999));
    assert!(
        load(folder.path(), 0)
            .unwrap_err()
            .to_string()
            .starts_with("tls.crt cannot be read")
    );
    assert_eq!(told("", &good.1), "tls.crt holds no certificate (PEM)");
    assert_eq!(
        told(&good.0, ""),
        "tls.key holds no private key that is understood (PEM, not encrypted)"
    );
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(
        told(garbled, &good.1),
        "tls.crt holds a certificate that cannot be read"
    );
    assert!(told(&good.0, &over.1).starts_with("tls.crt and tls.key do not belong together"));
    assert_eq!(
        told(&over.0, &over.1),
        "the certificate in tls.crt is over since 1 s"
    );
    let key_in_both = told(&good.1, &good.1);
    assert_eq!(key_in_both, "tls.crt holds no certificate (PEM)");
}

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

use super::*;

const NOW: i64 = 1_800_000_000;

fn certificate(name: &str, not_after: i64) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let seconds = std::time::Duration::from_secs(u64::try_from(not_after).unwrap());
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + seconds;
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().clone()
}

fn of(pod: &str) -> CertificateDer<'static> {
    certificate(&format!("{AUTHORITY}{pod}"), NOW + 1000)
}

fn bundle_of(certificates: &[&CertificateDer<'static>]) -> Vec<u8> {
    let texts: Vec<_> = certificates
        .iter()
        .map(|certificate| pem(certificate))
        .collect();
    texts.concat().into_bytes()
}

fn pods(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn wanted_by(
    pod: &str,
    own: &CertificateDer<'static>,
    bundle: &[u8],
    pods: Option<&BTreeSet<String>>,
) -> Vec<CertificateDer<'static>> {
    let known = Known {
        own: std::slice::from_ref(own),
        pod,
        pods,
        now: NOW,
    };
    certificates(&wanted(bundle, &known))
}

#[test]
fn text_and_certificate_are_the_same() {
    let one = of("a");
    assert_eq!(
        certificates(&bundle_of(&[&one])),
        std::slice::from_ref(&one)
    );
}

#[test]
fn replicas_trust_each_other_and_what_others_added() {
    let (a, b, company) = (of("a"), of("b"), certificate("Company CA", NOW - 5));
    let there = bundle_of(&[&b, &company]);
    let found = wanted_by("a", &a, &there, Some(&pods(&["a", "b"])));
    assert_eq!(found.len(), 3);
    assert_eq!(found[0], company, "others' first, as they stood");
    assert!(found.contains(&a) && found.contains(&b));
}

#[test]
fn what_stands_there_twice_is_kept_once() {
    let (a, company) = (of("a"), certificate("Company CA", NOW + 5));
    let there = bundle_of(&[&company, &a, &company, &a]);
    assert_eq!(wanted_by("a", &a, &there, None), [company, a]);
}

#[test]
fn replicas_that_are_gone_or_over_are_taken_out() {
    let (a, gone) = (of("a"), of("gone"));
    let over = certificate(&format!("{AUTHORITY}b"), NOW);
    let there = bundle_of(&[&gone, &over]);
    let found = wanted_by("a", &a, &there, Some(&pods(&["a", "b"])));
    assert_eq!(found, std::slice::from_ref(&a));
    // Not known is not gone.
    let found = wanted_by("a", &a, &bundle_of(&[&gone]), None);
    assert_eq!(found.len(), 2);
}

#[test]
fn an_authority_of_the_process_before_is_taken_out() {
    let (before, now) = (of("a"), of("a"));
    let found = wanted_by("a", &now, &bundle_of(&[&before]), Some(&pods(&["a"])));
    assert_eq!(found, [now]);
}

#[test]
fn garbage_is_replaced() {
    let a = of("a");
    assert!(!has_garbage(b"") && !has_garbage(&bundle_of(&[&a])));
    for garbage in [
        &b"no PEM"[..],
        b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n",
        b"\xff\xfe",
    ] {
        assert!(has_garbage(garbage));
        assert_eq!(wanted_by("a", &a, garbage, None), std::slice::from_ref(&a));
    }
}

#[test]
fn a_bundle_is_bounded_and_ours_stands_in_it() {
    let others: Vec<_> = (0..i64::try_from(MOST).unwrap() + 5)
        .map(|n| certificate(&format!("{AUTHORITY}p{n}"), NOW + 10 + n))
        .collect();
    let there = bundle_of(&others.iter().collect::<Vec<_>>());
    let a = of("a");
    let found = wanted_by("a", &a, &there, None);
    assert_eq!(found.len(), MOST);
    assert!(found.contains(&a));
    assert!(!found.contains(&others[0]) && found.contains(others.last().unwrap()));
}

/// Others may fill it, and each replica finds room: they would take each other's place for ever otherwise.
#[test]
fn what_others_put_there_leaves_room_for_every_replica() {
    let foreign: Vec<_> = (0..MOST + 5)
        .map(|n| certificate(&format!("Company {n}"), NOW))
        .collect();
    let mut bundle = bundle_of(&foreign.iter().collect::<Vec<_>>());
    let (a, b) = (of("a"), of("b"));
    for (pod, own) in [("a", &a), ("b", &b), ("a", &a), ("b", &b)] {
        let found = wanted_by(pod, own, &bundle, None);
        bundle = bundle_of(&found.iter().collect::<Vec<_>>());
    }
    let found = certificates(&bundle);
    assert_eq!(found.len(), MOST_FOREIGN + 2);
    assert!(found.contains(&a) && found.contains(&b));
    assert_eq!(found[..MOST_FOREIGN], foreign[..MOST_FOREIGN]);
}

#[test]
fn others_are_told_apart() {
    let (a, b, company) = (of("a"), of("b"), certificate("Company CA", NOW + 5));
    assert!(!has_others(&bundle_of(&[&a, &company]), "a"));
    assert!(has_others(&bundle_of(&[&a, &b]), "a"));
    assert!(has(&bundle_of(&[&a, &b]), std::slice::from_ref(&b)));
    assert!(!has(&bundle_of(&[&a]), &[a, b]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Replicas that write in any order agree: what one makes is left alone by it, and all end in the same text.
    #[test]
    fn replicas_come_to_rest(order in proptest::collection::vec(0usize..3, 1..12)) {
        let names = ["a", "b", "c"];
        let own: Vec<_> = names.iter().map(|name| of(name)).collect();
        let there = pods(&names);
        let mut bundle = Vec::new();
        let mend = |replica: usize, bundle: &[u8]| {
            wanted(bundle, &Known {
                own: &own[replica..=replica],
                pod: names[replica],
                pods: Some(&there),
                now: NOW,
            })
        };
        for replica in order.into_iter().chain([0, 1, 2]) {
            bundle = mend(replica, &bundle);
            prop_assert_eq!(&mend(replica, &bundle), &bundle);
        }
        for replica in 0..3 {
            prop_assert_eq!(&mend(replica, &bundle), &bundle);
        }
        prop_assert_eq!(certificates(&bundle).len(), 3);
    }
}

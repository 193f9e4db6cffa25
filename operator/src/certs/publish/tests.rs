//! Publishing against an API server in memory, in paused time.

use std::rc::Rc;

use http::Method;
use pawl_kit::admin::Readiness;

use super::*;
use crate::{
    certs::fixtures::{CONFIGURATION, Scene, certificate, configuration, play},
    fixtures::Mood,
};

/// Plays with a publisher that runs.
async fn published<F: Future<Output = ()>>(
    story: impl FnOnce(Rc<Scene>, Publication, Readiness) -> F,
) {
    play(|scene| async move {
        let (publisher, publication) = Publisher::new(scene.own.clone(), scene.clock.clone());
        let readiness = Readiness::new();
        let concern = readiness.concern("certificate");
        tokio::select! {
            () = publisher.run(&concern) => panic!("it ended"),
            () = story(scene, publication, readiness) => {}
        }
    })
    .await;
}

/// Publishes, which has to be done within so many seconds.
async fn publish_within(
    seconds: u64,
    publication: &mut Publication,
    authorities: &[&CertificateDer<'static>],
) {
    let authorities = authorities.iter().copied().cloned().collect();
    let bound = Duration::from_secs(seconds);
    let published = tokio::time::timeout(bound, publication.publish(authorities));
    published.await.expect("published in time");
}

/// Publishes, which must not be done within so many seconds.
async fn not_published(
    seconds: u64,
    publication: &mut Publication,
    authority: &CertificateDer<'static>,
) {
    let bound = Duration::from_secs(seconds);
    let published = tokio::time::timeout(bound, publication.publish(vec![authority.clone()]));
    published.await.expect_err("nothing stands there");
}

fn sorted(mut certificates: Vec<CertificateDer<'static>>) -> Vec<CertificateDer<'static>> {
    certificates.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
    certificates
}

/// What is told under `concerns`.
fn concerns(readiness: &Readiness) -> String {
    format!("{readiness:?}")
}

#[tokio::test(start_paused = true)]
async fn the_bundle_is_the_union_of_those_who_are_there() {
    published(|scene, mut publication, _| async move {
        let (a, b) = (scene.authority_of("a", 600), scene.authority_of("b", 600));
        let before = scene.authority_of("a", 500);
        let over = scene.authority_of("b", -1);
        let gone = scene.authority_of("gone", 600);
        let company = certificate("Company CA", 1_000_000_000);
        scene.set_bundles(&[&b, &before, &company, &gone, &over]);
        publish_within(1, &mut publication, &[&a]).await;
        for webhook in 0..2 {
            let bundle = scene.bundle(webhook);
            assert_eq!(bundle[0], company);
            assert_eq!(
                sorted(bundle[1..].to_vec()),
                sorted(vec![a.clone(), b.clone()])
            );
        }
        let configuration = scene.api.get(CONFIGURATION).unwrap();
        let client = &configuration["webhooks"][1]["clientConfig"];
        assert_eq!(client["service"]["name"], "pawl-webhook", "{client}");
        let calls = scene.api.calls();
        let writes: Vec<_> = calls
            .iter()
            .filter(|call| call.method != Method::GET)
            .collect();
        assert_eq!(writes.len(), 1);
        assert!(writes[0].body["metadata"]["resourceVersion"].is_string());
        let pods = |path: &str| path.ends_with("/pods");
        assert!(calls.iter().any(|call| pods(&call.path)));

        // From here on there is nothing to do, for as long as that is so.
        scene.pass(500).await;
        assert_eq!(scene.api.writes().len(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_replica_alone_looks_at_no_pods() {
    published(|scene, mut publication, _| async move {
        let a = scene.authority_of("a", 600);
        publish_within(1, &mut publication, &[&a]).await;
        scene.pass(3_600).await;
        let calls = scene.api.calls();
        assert!(calls.iter().all(|call| !call.path.contains("/pods")));
        assert_eq!(scene.bundle(0), [a]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn pods_that_cannot_be_listed_stay_and_nobody_waits_for_them() {
    published(|scene, mut publication, _| async move {
        scene.api.bar(Some(("/api/v1/", 403)));
        let (a, b) = (scene.authority_of("a", 600), scene.authority_of("b", 600));
        scene.set_bundles(&[&b]);
        publish_within(1, &mut publication, &[&a]).await;
        assert_eq!(sorted(scene.bundle(0)), sorted(vec![a, b]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn it_stands_there_when_the_watch_shows_it() {
    published(|scene, mut publication, _| async move {
        let a = scene.authority_of("a", 600);
        scene.pass(1).await;
        scene.api.hold_watches();
        not_published(20, &mut publication, &a).await;
        assert_eq!(scene.bundle(0), std::slice::from_ref(&a));
        scene.api.release_watches();
        publish_within(1, &mut publication, &[&a]).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn replicas_that_write_at_once_do_not_overwrite_each_other() {
    published(|scene, mut publication, readiness| async move {
        let (a, b) = (scene.authority_of("a", 600), scene.authority_of("b", 600));
        scene.pass(1).await;
        scene
            .api
            .outrun(CONFIGURATION, configuration([&[&b], &[&b]]));
        publish_within(1, &mut publication, &[&a]).await;
        assert_eq!(sorted(scene.bundle(0)), sorted(vec![a, b]));
        let codes: Vec<_> = scene.api.writes().iter().map(|call| call.code).collect();
        assert_eq!(codes, [409, 200]);
        assert!(!concerns(&readiness).contains("not published"));
    })
    .await;
}

/// Even when the watch does not tell what was faster.
#[tokio::test(start_paused = true)]
async fn a_conflict_is_no_trouble() {
    published(|scene, mut publication, readiness| async move {
        let a = scene.authority_of("a", 600);
        scene.pass(1).await;
        scene.api.hold_watches();
        scene.api.outrun(CONFIGURATION, configuration([&[], &[]]));
        not_published(20, &mut publication, &a).await;
        assert!(!concerns(&readiness).contains("not published"));
        assert_eq!(scene.api.writes().len(), 1);
        scene.api.release_watches();
        publish_within(1, &mut publication, &[&a]).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_others_reset_is_mended_at_once() {
    published(|scene, mut publication, _| async move {
        let a = scene.authority_of("a", 9_000);
        let company = certificate("Company CA", 4_000_000_000);
        publish_within(1, &mut publication, &[&a]).await;
        for bundles in [[&[] as &[_], &[]], [&[&a], &[]], [&[&company], &[&company]]] {
            scene.api.put(CONFIGURATION, configuration(bundles));
            scene.pass(1).await;
            for webhook in 0..2 {
                assert_eq!(scene.bundle(webhook).last(), Some(&a));
            }
        }
        assert_eq!(scene.bundle(0), [company, a]);
        assert_eq!(scene.api.writes().len(), 4);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_is_gone_or_over_is_taken_out_at_the_next_look() {
    published(|scene, mut publication, _| async move {
        let a = scene.authority_of("a", 9_000);
        let (b, over) = (scene.authority_of("b", 9_000), scene.authority_of("b", 60));
        scene.set_bundles(&[&b, &over]);
        publish_within(1, &mut publication, &[&a]).await;
        assert_eq!(scene.bundle(0).len(), 3);
        scene.pass(601).await;
        assert_eq!(sorted(scene.bundle(0)), sorted(vec![a.clone(), b]));
        scene.api.delete("/api/v1/namespaces/pawl-system/pods/b");
        scene.pass(601).await;
        assert_eq!(scene.bundle(0), [a]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_wish_is_heard_at_once() {
    published(|scene, mut publication, _| async move {
        let (now, next) = (scene.authority_of("a", 600), scene.authority_of("a", 900));
        publish_within(1, &mut publication, &[&now]).await;
        publish_within(1, &mut publication, &[&now, &next]).await;
        assert_eq!(scene.bundle(1).len(), 2);
        publish_within(1, &mut publication, &[&next]).await;
        assert_eq!(scene.bundle(1), [next]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_and_tried_again_with_pauses() {
    published(|scene, mut publication, readiness| async move {
        let a = scene.authority_of("a", 9_000);
        scene.pass(1).await;
        scene.api.mood(Mood::Refuses(403));
        not_published(120, &mut publication, &a).await;
        assert!(concerns(&readiness).contains("the authority is not published: "));
        let tries = scene.api.writes().len();
        assert!((5..=60).contains(&tries), "{tries} tries");
        scene.api.mood(Mood::Well);
        publish_within(31, &mut publication, &[&a]).await;
        assert!(!concerns(&readiness).contains("not published"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_at_first_is_waited_for() {
    published(|scene, mut publication, readiness| async move {
        let a = scene.authority_of("a", 9_000);
        scene.api.mood(Mood::Refuses(500));
        not_published(120, &mut publication, &a).await;
        assert!(concerns(&readiness).contains("cannot be watched"));
        scene.api.mood(Mood::Well);
        publish_within(60, &mut publication, &[&a]).await;
        assert!(!concerns(&readiness).contains("cannot be watched"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_is_not_there_is_waited_for() {
    published(|scene, mut publication, readiness| async move {
        let a = scene.authority_of("a", 9_000);
        scene.api.delete(CONFIGURATION);
        not_published(60, &mut publication, &a).await;
        assert!(concerns(&readiness).contains("there is no such"));
        scene.api.put(CONFIGURATION, json!({"webhooks": []}));
        not_published(60, &mut publication, &a).await;
        scene.set_bundles(&[]);
        publish_within(1, &mut publication, &[&a]).await;
        assert!(!concerns(&readiness).contains("there is no such"));
    })
    .await;
}

#[test]
fn pauses_are_bounded() {
    for failures in 0..40 {
        let pause = backoff(failures);
        assert!((BACKOFF.0..=BACKOFF.1).contains(&pause), "{pause:?}");
    }
}

//! Certificates of one's own in paused time: what is served, and what API servers trust meanwhile.

use std::{collections::VecDeque, rc::Rc};

use http::Method;
use pawl_kit::admin::Readiness;
use prometheus::IntGauge;
use rustls::{pki_types::CertificateDer, sign::CertifiedKey};

use super::*;
use crate::{
    certs::fixtures::{Scene, believes, play},
    fixtures::Mood,
};

struct Served {
    serving: Serving,
    readiness: Readiness,
}

impl Served {
    fn new() -> Self {
        Self {
            serving: Serving::new(IntGauge::new("expiry", "expiry").unwrap()),
            readiness: Readiness::new(),
        }
    }

    fn is_ready(&self) -> bool {
        assert_eq!(self.readiness.is_ready(), self.serving.served().is_some());
        self.readiness.is_ready()
    }

    /// Seconds until the served certificate ends.
    fn left(&self, scene: &Scene) -> i64 {
        self.serving.not_after().unwrap() - scene.clock.wall().unix_seconds()
    }
}

/// Plays with certificates that are kept.
async fn kept<F: Future<Output = ()>>(story: impl FnOnce(Rc<Scene>, Rc<Served>) -> F) {
    play(|scene| async move {
        let served = Rc::new(Served::new());
        let latch = served.readiness.latch("certificate");
        let concerns = ["certificate", "certificate/end"];
        let concerns = concerns.map(|name| served.readiness.concern(name));
        let concerns = [&concerns[0], &concerns[1]];
        let (own, clock) = (scene.own.clone(), scene.clock.clone());
        tokio::select! {
            () = run(own, clock, &served.serving, latch, concerns) => panic!("it ended"),
            () = story(scene, Rc::clone(&served)) => {}
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_served_before_api_servers_have_heard_of_it() {
    kept(|scene, served| async move {
        scene.api.hold_watches();
        scene.api.mood(Mood::Refuses(500));
        scene.pass(60).await;
        assert!(!served.is_ready());
        assert_eq!(served.serving.not_after(), None);
        scene.api.mood(Mood::Well);
        scene.pass(60).await;
        assert_eq!(scene.bundle(0).len(), 1);
        assert!(!served.is_ready(), "it was not seen to stand there");
        scene.api.release_watches();
        scene.pass(4).await;
        assert!(!served.is_ready());
        scene.pass(2).await;
        assert!(served.is_ready());
        let shown = served.serving.served().unwrap();
        assert!(believes(&scene.bundle(0), &shown, scene.clock.wall()));
    })
    .await;
}

/// The last minute: bundles as API servers may still have them, and certificates as connections may still have them.
struct LastMinute {
    bundles: VecDeque<Vec<CertificateDer<'static>>>,
    shown: VecDeque<std::sync::Arc<CertifiedKey>>,
}

impl LastMinute {
    fn look(&mut self, scene: &Scene, served: &Served) {
        let (bundle, shown) = (scene.bundle(0), served.serving.served().unwrap());
        let is_new = self.bundles.back() != Some(&bundle)
            || self.shown.back().map(|last| &last.cert) != Some(&shown.cert);
        let now = scene.clock.wall();
        if is_new {
            let mut bundles = self.bundles.iter().chain([&bundle]);
            assert!(bundles.all(|bundle| believes(bundle, &shown, now)));
            assert!(self.shown.iter().all(|shown| believes(&bundle, shown, now)));
        }
        self.bundles.push_back(bundle);
        self.shown.push_back(shown);
        if self.bundles.len() > 58 {
            self.bundles.pop_front();
            self.shown.pop_front();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn through_all_rotations_every_api_server_believes_what_it_is_shown() {
    kept(|scene, served| async move {
        scene.pass(10).await;
        let mut last_minute = LastMinute {
            bundles: VecDeque::new(),
            shown: VecDeque::new(),
        };
        let (mut ends, mut alone) = (vec![served.serving.not_after().unwrap()], 0);
        scene.api.calls();
        for _ in 0..5_400 {
            scene.pass(1).await;
            last_minute.look(&scene, &served);
            // Two thirds, a look, and the settling.
            assert!(served.left(&scene) > 600 - 36 - 60 - 5);
            let end = served.serving.not_after().unwrap();
            if *ends.last().unwrap() != end {
                ends.push(end);
            }
            alone += usize::from(scene.bundle(0).len() == 1);
        }
        assert_eq!(ends.len(), 5, "{ends:?}");
        assert!(ends.windows(2).all(|pair| pair[1] - pair[0] >= 1_200));
        assert!(alone > 4_800, "the old authority is taken out: {alone}");
        assert_eq!(scene.api.writes().len(), 8, "two a rotation");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_delays_the_rotation_and_nothing_stale_follows() {
    kept(|scene, served| async move {
        scene.pass(1_000).await;
        let before = served.serving.not_after();
        scene.api.mood(Mood::Refuses(500));
        scene.pass(1_700).await;
        assert_eq!(served.serving.not_after(), before, "served on");
        scene.api.mood(Mood::Well);
        while served.serving.not_after() == before {
            scene.pass(1).await;
        }
        assert!(
            served.left(&scene) > 1_200,
            "{} s left",
            served.left(&scene)
        );
        let shown = served.serving.served().unwrap();
        assert!(believes(&scene.bundle(0), &shown, scene.clock.wall()));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_next_process_of_a_pod_takes_the_authority_before_out() {
    kept(|scene, _| async move {
        let before = scene.authority_of("a", 600);
        scene.set_bundles(&[&before]);
        scene.pass(10).await;
        let bundle = scene.bundle(0);
        assert!(bundle.len() == 1 && !bundle.contains(&before));
        let calls = scene.api.calls();
        assert_eq!(
            calls
                .iter()
                .filter(|call| call.method == Method::PATCH)
                .count(),
            1
        );
    })
    .await;
}

/// It may be served for hours without anything else to do.
#[tokio::test(start_paused = true)]
async fn an_end_that_comes_near_is_told() {
    play(|scene| async move {
        let served = Served::new();
        let mut own = scene.own.clone();
        own.timing.lifetime = Duration::from_hours(6);
        let pair = make(&own, &scene.clock).await.pair;
        let concern = served.readiness.concern("certificate/end");
        let is_told = || format!("{:?}", served.readiness).contains("ends in");
        let story = async {
            scene.pass(600).await;
            assert!(!is_told());
            served.serving.switch(&pair);
            scene.pass(4 * 3_600).await;
            assert!(!is_told());
            scene.pass(3_600).await;
            assert!(is_told());
        };
        tokio::select! {
            () = tell(&own.timing, &scene.clock, &served.serving, &concern) => {}
            () = story => {}
        }
    })
    .await;
}

//! Each way in which files change in practice, on a real file system, through inotify and by looking alone.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// Long enough for a busy machine, far shorter than the slow look, which must not be what finds a change here.
const SOON: Duration = Duration::from_secs(10);

const BY_HINT: Timing = Timing {
    quiet: Duration::from_millis(50),
    at_most: Duration::from_secs(1),
    poll: Duration::from_hours(1),
    poll_without_hints: Duration::from_hours(1),
};

const BY_LOOKING: Timing = Timing {
    poll_without_hints: Duration::from_millis(20),
    ..BY_HINT
};

/// A directory in a directory, as `/etc/pawl/policies`, with a watch.
struct Scene {
    root: TempDir,
    watch: Watch,
}

impl Scene {
    fn new(prepare: impl FnOnce(&Path), hints: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("policies");
        prepare(&dir);
        let mut watch = Watch::with_timing(&dir, if hints { BY_HINT } else { BY_LOOKING });
        assert!(watch.watcher.is_some());
        if !hints {
            watch.watcher = None;
            watch.next_look = Instant::now();
        }
        Self { root, watch }
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("policies")
    }

    async fn told(&mut self) -> bool {
        tokio::time::timeout(SOON, self.watch.changed())
            .await
            .is_ok()
    }

    async fn told_within(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.watch.changed())
            .await
            .is_ok()
    }
}

/// Runs a change through both ways of seeing.
async fn is_seen(what: &str, prepare: impl Fn(&Path), change: impl Fn(&Path)) {
    for hints in [true, false] {
        let mut scene = Scene::new(&prepare, hints);
        assert!(
            !scene.told_within(Duration::from_millis(100)).await,
            "{what}: told before it happened"
        );
        change(&scene.dir());
        assert!(scene.told().await, "{what}: not seen, hints {hints}");
    }
}

fn plain(dir: &Path) {
    fs::create_dir(dir).unwrap();
    fs::write(dir.join("a.yaml"), "one").unwrap();
}

/// What the kubelet's atomic writer does (`pkg/volume/util/atomic_writer.go`): a new directory, a new link beside the
/// old, a rename over it, and the old directory removed.
fn kubelet_write(dir: &Path, stamp: &str, content: &str) {
    let new = dir.join(format!("..2026_01_01_00_00_{stamp}"));
    let old = fs::read_link(dir.join("..data")).ok();
    fs::create_dir(&new).unwrap();
    fs::write(new.join("a.yaml"), content).unwrap();
    symlink(new.file_name().unwrap(), dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    if !dir.join("a.yaml").is_symlink() {
        symlink("..data/a.yaml", dir.join("a.yaml")).unwrap();
    }
    if let Some(old) = old {
        fs::remove_dir_all(dir.join(old)).unwrap();
    }
}

fn mounted(dir: &Path) {
    fs::create_dir(dir).unwrap();
    kubelet_write(dir, "00.1", "one");
}

#[tokio::test]
async fn the_kubelets_swap_is_seen() {
    is_seen("swap", mounted, |dir| {
        kubelet_write(dir, "01.2", "two");
        assert_eq!(fs::read_to_string(dir.join("a.yaml")).unwrap(), "two");
    })
    .await;
}

#[tokio::test]
async fn the_kubelets_swap_of_one_policys_secrets_is_seen() {
    let prepare = |dir: &Path| {
        fs::create_dir(dir).unwrap();
        mounted(&dir.join("payments"));
    };
    is_seen("secret swap", prepare, |dir| {
        kubelet_write(&dir.join("payments"), "01.2", "two");
    })
    .await;
}

#[tokio::test]
async fn an_atomic_rename_is_seen() {
    is_seen("rename", plain, |dir| {
        let outside = dir.with_file_name("new");
        fs::write(&outside, "two").unwrap();
        fs::rename(outside, dir.join("a.yaml")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_edit_in_place_is_seen() {
    is_seen("edit", plain, |dir| {
        fs::write(dir.join("a.yaml"), "two").unwrap();
    })
    .await;
}

#[tokio::test]
async fn files_that_come_and_go_are_seen() {
    is_seen("new file", plain, |dir| {
        fs::write(dir.join("b.yaml"), "two").unwrap();
    })
    .await;
    is_seen("file gone", plain, |dir| {
        fs::remove_file(dir.join("a.yaml")).unwrap();
    })
    .await;
    is_seen("file in a new directory", plain, |dir| {
        fs::create_dir(dir.join("orders")).unwrap();
        fs::write(dir.join("orders/password"), "x").unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_directory_that_comes_later_is_seen() {
    is_seen("late directory", |_| {}, plain).await;
}

#[tokio::test]
async fn a_directory_removed_and_made_again_stays_watched() {
    for hints in [true, false] {
        let mut scene = Scene::new(plain, hints);
        for round in 0..3 {
            fs::remove_dir_all(scene.dir()).unwrap();
            assert!(scene.told().await, "removed, round {round}, hints {hints}");
            plain(&scene.dir());
            assert!(
                scene.told().await,
                "made again, round {round}, hints {hints}"
            );
            fs::write(scene.dir().join("a.yaml"), "two").unwrap();
            assert!(scene.told().await, "edited, round {round}, hints {hints}");
            // Removed and made again within one quiet time, perhaps under the same inode number.
            fs::remove_dir_all(scene.dir()).unwrap();
            plain(&scene.dir());
            assert!(scene.told().await, "replaced, round {round}, hints {hints}");
            fs::write(scene.dir().join("a.yaml"), "three").unwrap();
            assert!(
                scene.told().await,
                "edited after that, round {round}, hints {hints}"
            );
        }
    }
}

#[tokio::test]
async fn a_directory_behind_a_link_is_seen_when_the_link_is_swapped() {
    let prepare = |dir: &Path| {
        plain(&dir.with_file_name("one"));
        plain(&dir.with_file_name("two"));
        symlink("one", dir).unwrap();
    };
    is_seen("link", prepare, |dir| {
        symlink("two", dir.with_file_name("tmp")).unwrap();
        fs::rename(dir.with_file_name("tmp"), dir).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_later_subdirectory_is_watched_too() {
    let mut scene = Scene::new(plain, true);
    fs::create_dir(scene.dir().join("orders")).unwrap();
    assert!(scene.told().await);
    fs::write(scene.dir().join("orders/password"), "x").unwrap();
    assert!(scene.told().await, "a file in it");
}

#[tokio::test]
async fn reading_and_neighbours_are_no_change() {
    let mut scene = Scene::new(plain, true);
    fs::read(scene.dir().join("a.yaml")).unwrap();
    fs::write(scene.root.path().join("neighbour"), "x").unwrap();
    assert!(!scene.told_within(Duration::from_millis(200)).await);
}

#[tokio::test]
async fn a_burst_is_told_once_and_an_endless_one_in_time() {
    let mut scene = Scene::new(plain, true);
    // Longer than a busy machine may take between two of the steps below.
    scene.watch.timing.quiet = Duration::from_millis(400);
    for n in 0..20 {
        fs::write(scene.dir().join(format!("{n}.yaml")), "x").unwrap();
    }
    assert!(scene.told().await);
    assert!(
        !scene.told_within(Duration::from_millis(800)).await,
        "told once"
    );

    let file = scene.dir().join("a.yaml");
    let busy = async {
        loop {
            fs::write(&file, "x").unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let start = Instant::now();
    tokio::select! {
        told = scene.told() => assert!(told, "never told while busy"),
        () = busy => {}
    }
    let taken = start.elapsed();
    assert!(
        taken >= BY_HINT.at_most && taken < BY_HINT.at_most * 4,
        "{taken:?}"
    );
}

#[tokio::test]
async fn what_was_seen_by_a_call_that_was_dropped_is_told_by_the_next() {
    let mut scene = Scene::new(plain, true);
    fs::write(scene.dir().join("a.yaml"), "two").unwrap();
    for _ in 0..20 {
        // Shorter than the quiet time: each call sees at most the hint.
        if scene.told_within(Duration::from_millis(20)).await {
            return;
        }
    }
    panic!("never told");
}

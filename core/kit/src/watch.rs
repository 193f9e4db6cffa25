//! Tells when a directory of configuration files changed.
//!
//! It sees what happens in practice: the kubelet's swap of its `..data` link, a file renamed over another, an edit in
//! place, files that come and go, the directory itself removed and made again. Watched are the directory, its parent
//! and its immediate subdirectories (one per policy under `--secrets`), not deeper.
//!
//! # How
//! inotify gives the hint; a change is told after a quiet time, so that a burst is told once. A slow look at names,
//! sizes and times finds what inotify missed (its queue overflowed, a file system that tells nothing). When inotify
//! cannot be had at all, because the user's instances are used up, it goes on with looking alone, more often.
//!
//! # What it does not promise
//! It may tell of a change that left everything as it was: the caller reads and compares.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::secrets::Fingerprint;

mod scan;

/// When changes are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// A change is told when nothing more happened for so long.
    pub quiet: Duration,
    /// A change is told at the latest so long after it began, however busy it is.
    pub at_most: Duration,
    /// How often to look without a hint.
    pub poll: Duration,
    /// The same when there is no inotify.
    pub poll_without_hints: Duration,
}

impl Default for Timing {
    /// 50 ms quiet, at most 1 s, a look every 10 s, or every 2 s without inotify.
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(50),
            at_most: Duration::from_secs(1),
            poll: Duration::from_secs(10),
            poll_without_hints: Duration::from_secs(2),
        }
    }
}

/// A watched directory, which need not be there yet.
#[derive(Debug)]
pub struct Watch {
    dir: PathBuf,
    timing: Timing,
    hint: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    told: Fingerprint,
    pending: Option<Pending>,
    next_look: Instant,
}

/// A change that has begun and is not yet told.
#[derive(Clone, Copy, Debug)]
struct Pending {
    first: Instant,
    last: Instant,
}

impl Watch {
    /// Watches from now on, so what is read after this is not missed when it changes. Must be called inside a tokio
    /// runtime with time enabled.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self::with_timing(dir, Timing::default())
    }

    /// The same with other times.
    pub fn with_timing(dir: impl AsRef<Path>, timing: Timing) -> Self {
        let dir = std::path::absolute(dir.as_ref()).unwrap_or_else(|_| dir.as_ref().to_owned());
        let hint = Arc::new(Notify::new());
        let watcher = watcher(dir.clone(), Arc::clone(&hint))
            .inspect_err(|error| {
                tracing::warn!(
                    dir = %dir.display(), %error,
                    "no inotify (see /proc/sys/fs/inotify/max_user_instances); looking for changes regularly instead"
                );
            })
            .ok();
        let mut watch = Self {
            told: scan::fingerprint(&dir),
            dir,
            timing,
            hint,
            watcher,
            watched: BTreeSet::new(),
            pending: None,
            next_look: Instant::now(),
        };
        watch.rewatch();
        // What changed between the first look and the watch shows in this one, and counts as a change.
        if scan::fingerprint(&watch.dir) != watch.told {
            watch.begin();
        }
        watch.next_look = watch.look_after(Instant::now());
        watch
    }

    /// The directory, as an absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Waits for the next change. Cancel safe: what was seen when it is dropped is told by the next call.
    pub async fn changed(&mut self) {
        loop {
            let due = match self.pending {
                Some(Pending { first, last }) => {
                    (last + self.timing.quiet).min(first + self.timing.at_most)
                }
                None => self.next_look,
            };
            tokio::select! {
                biased;
                () = sleep_until(due) => {}
                () = self.hint.notified() => {
                    self.begin();
                    continue;
                }
            }
            let hinted = self.pending.take().is_some();
            let mut seen = scan::fingerprint(&self.dir);
            if hinted || seen != self.told {
                // Watch first and look again: what happens from here on gives a new hint.
                self.rewatch();
                seen = scan::fingerprint(&self.dir);
            }
            self.next_look = self.look_after(Instant::now());
            let differs = std::mem::replace(&mut self.told, seen) != seen;
            if hinted || differs {
                return;
            }
        }
    }

    fn begin(&mut self) {
        let now = Instant::now();
        let first = self.pending.map_or(now, |pending| pending.first);
        self.pending = Some(Pending { first, last: now });
    }

    fn look_after(&self, now: Instant) -> Instant {
        now + if self.watcher.is_some() {
            self.timing.poll
        } else {
            self.timing.poll_without_hints
        }
    }

    /// Watches what is there now. Each directory is watched anew each time: one that was removed and made again may
    /// have the same inode number and yet no watch, and watching twice is the same as once.
    fn rewatch(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let wanted = scan::directories(&self.dir);
        for gone in self.watched.difference(&wanted) {
            // The system has dropped the watch with the directory; this only tidies up.
            let _ = watcher.unwatch(gone);
        }
        self.watched = wanted;
        for dir in &self.watched {
            if let Err(error) = watcher.watch(dir, RecursiveMode::NonRecursive) {
                tracing::debug!(dir = %dir.display(), %error, "not watched; changes show at the next look");
            }
        }
    }
}

/// A watcher that gives a hint for what may be a change in `dir` or of it. It has a thread of its own, which ends with
/// the watcher.
fn watcher(dir: PathBuf, hint: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |event: notify::Result<Event>| {
        let concerns_us = event.map_or(true, |event| {
            // Opening and reading is no change; without paths it is an overflow.
            !matches!(event.kind, EventKind::Access(_))
                && (event.paths.is_empty() || event.paths.iter().any(|path| path.starts_with(&dir)))
        });
        if concerns_us {
            hint.notify_one();
        }
    })
}

#[cfg(test)]
mod tests;

//! A look at a directory: what is in it, how big, how old.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::secrets::Fingerprint;

/// Most entries of one directory that are looked at.
const MAX_ENTRIES: usize = 4096;

/// Device, inode, size, times of content and of the inode: no change of a file leaves all of them alone, unless it
/// comes within the same tick of the kernel's clock.
type Look = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// Changes when the directory, its files, its immediate subdirectories or their files do. Links are followed.
pub(super) fn fingerprint(dir: &Path) -> Fingerprint {
    let mut looks = vec![(dir.to_owned(), look(dir))];
    for entry in entries(dir) {
        let inner = if entry.is_dir() {
            entries(&entry)
        } else {
            Vec::new()
        };
        looks.push((entry.clone(), look(&entry)));
        looks.extend(inner.into_iter().map(|path| {
            let look = look(&path);
            (path, look)
        }));
    }
    Fingerprint::of(&looks)
}

/// The directories to watch: `dir`, its parent (which tells when `dir` itself comes and goes), and its immediate
/// subdirectories but for hidden ones, such as the kubelet's `..2026_01_01_00_00_00.123`, which never change.
pub(super) fn directories(dir: &Path) -> BTreeSet<PathBuf> {
    let visible = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
            && path.is_dir()
    };
    let around = [dir.parent().map(Path::to_owned), Some(dir.to_owned())];
    around
        .into_iter()
        .flatten()
        .filter(|path| path.is_dir())
        .chain(entries(dir).into_iter().filter(visible))
        .collect()
}

/// What is in a directory, sorted; nothing when it cannot be read.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries
        .flatten()
        .take(MAX_ENTRIES)
        .map(|entry| entry.path())
        .collect();
    paths.sort_unstable();
    paths
}

fn look(path: &Path) -> Look {
    let data = fs::metadata(path).ok()?;
    let written = (data.mtime(), data.mtime_nsec());
    Some((
        data.dev(),
        data.ino(),
        data.size(),
        written,
        (data.ctime(), data.ctime_nsec()),
    ))
}

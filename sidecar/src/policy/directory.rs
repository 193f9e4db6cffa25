//! The directory of policies: one `LockPolicy` a file.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use pawl_crds::{MAX_DOCUMENT_BYTES, ParseError};
use sha2::{Digest, Sha256};

use super::settings::{Unusable, settings};
use crate::engine::{Origin, Settings};

/// The most files that are looked at: far above what a pod is bound to.
const MAX_FILES: usize = 1000;

/// A directory of policies.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

/// A file as it was read: a policy, or why not.
#[derive(Debug)]
pub struct PolicyFile {
    /// The SHA-256 of its text in hexadecimal digits; empty if it could not be read.
    pub hash: String,
    /// The policy.
    pub policy: Result<Settings, FileError>,
}

/// Why a file is no policy.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is no UTF-8 text.
    #[error("it is no UTF-8 text")]
    Encoding,
    /// It is no valid policy.
    #[error("{0}")]
    Parse(#[from] ParseError),
    /// It is a valid policy, but cannot be used.
    #[error("{0}")]
    Unusable(#[from] Unusable),
}

impl FileError {
    /// A word for the log.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Read(_) => "unreadable",
            Self::Encoding => "encoding",
            Self::Parse(error) => error.category(),
            Self::Unusable(_) => "unusable",
        }
    }
}

impl Directory {
    /// The directory at this path, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Reads every policy file, by its name. Files are those that end in `.yaml`, `.yml` or `.json` and do not start
    /// with a point: the kubelet's `..data` and its versions, and editors' leftovers are none. Directories are not
    /// entered.
    ///
    /// # Errors
    /// When the directory itself cannot be listed.
    pub fn read(&self) -> io::Result<BTreeMap<String, PolicyFile>> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(&self.0)? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            let path = self.0.join(&name);
            // Through the link: in a mounted ConfigMap each file is one.
            if is_policy(&name) && !path.is_dir() {
                let file = read(&name, &path);
                files.insert(name, file);
            }
            if files.len() == MAX_FILES {
                break;
            }
        }
        Ok(files)
    }
}

fn is_policy(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|text| text.to_str());
    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn read(name: &str, path: &Path) -> PolicyFile {
    let bytes = match bytes(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            return PolicyFile {
                hash: String::new(),
                policy: Err(error.into()),
            };
        }
    };
    let hash = hexadecimal(&Sha256::digest(&bytes));
    let policy = policy(name, &hash, bytes);
    PolicyFile { hash, policy }
}

/// A byte more than a policy may have is enough to know that it is too long.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = MAX_DOCUMENT_BYTES as u64 + 1;
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn policy(name: &str, hash: &str, bytes: Vec<u8>) -> Result<Settings, FileError> {
    let text = String::from_utf8(bytes).map_err(|_| FileError::Encoding)?;
    let policy = pawl_crds::parse(&text)?;
    let origin = Origin {
        file: name.to_owned(),
        generation: policy.metadata.generation,
        resource_version: policy.metadata.resource_version.clone(),
        hash: hash.to_owned(),
    };
    Ok(settings(&policy, origin)?)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"{"apiVersion":"pawl.dev/v1alpha1","kind":"LockPolicy","metadata":{"name":"p","generation":3,"resourceVersion":"17"},"spec":{"backend":{"memory":{}}}}"#;

    #[test]
    fn hidden_files_directories_and_other_endings_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.json", "b.yaml", ".hidden.yaml", "note.txt", "c.yaml~"] {
            std::fs::write(dir.path().join(name), POLICY).unwrap();
        }
        std::fs::create_dir(dir.path().join("..2026_01")).unwrap();
        std::fs::create_dir(dir.path().join("dir.yaml")).unwrap();
        std::os::unix::fs::symlink("..2026_01", dir.path().join("..data")).unwrap();
        let files = Directory::new(dir.path()).read().unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a.json", "b.yaml"]);
        let origin = files["a.json"].policy.as_ref().unwrap().origin.clone();
        assert_eq!(origin.generation, Some(3));
        assert_eq!(origin.resource_version.as_deref(), Some("17"));
        assert_eq!(origin.hash.len(), 64);
    }

    #[test]
    fn each_fault_is_told_and_keeps_to_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let long = vec![b' '; MAX_DOCUMENT_BYTES + 1];
        let faults: [(&str, &[u8], &str); 5] = [
            ("empty.yaml", b"", "empty"),
            ("bytes.yaml", b"\xff\xfe", "encoding"),
            ("syntax.yaml", b"a: [", "syntax"),
            ("refused.yaml", b"{\"kind\":\"LockPolicy\"}", "refused"),
            ("long.yaml", &long, "too_long"),
        ];
        for (name, text, _) in faults {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        std::os::unix::fs::symlink("nowhere", dir.path().join("gone.yaml")).unwrap();
        std::fs::write(dir.path().join("good.yaml"), POLICY).unwrap();
        let files = Directory::new(dir.path()).read().unwrap();
        for (name, _, category) in faults {
            let error = files[name].policy.as_ref().unwrap_err();
            assert_eq!(error.category(), category, "{name}: {error}");
        }
        let gone = files["gone.yaml"].policy.as_ref().unwrap_err();
        assert_eq!(gone.category(), "unreadable");
        assert!(files["good.yaml"].policy.is_ok());
    }
}

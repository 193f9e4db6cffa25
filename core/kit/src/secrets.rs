//! Secret files: `DIR/<policy>/{username,password,ca.crt,tls.crt,tls.key}`, as the webhook mounts them.
//!
//! What is read is kept in [`Secret`], which shows itself nowhere and is wiped when it is dropped. Errors name the
//! file and never its content. [`Secrets::fingerprint`] tells whether anything changed, without keeping a copy.

use std::fmt;
use std::fs;
use std::hash::{BuildHasher, Hash, RandomState};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use zeroize::Zeroizing;

/// The most that a secret file may hold, in bytes.
pub const MAX_SECRET_BYTES: usize = 64 * 1024;

/// How often a policy's files are read again when the kubelet swaps them meanwhile.
const SWAP_RETRIES: usize = 10;

/// The link that the kubelet swaps to change all files of a mount at once.
const KUBELET_DATA: &str = "..data";

/// A piece of text that is never shown: `Debug` hides it, there is no `Display`, and the memory is wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text into custody. The caller wipes other copies of it.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Reads one file, less one newline at its end.
    ///
    /// # Errors
    /// When it is missing, empty, too large, not text or cannot be read.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        read(path)?.ok_or_else(|| SecretError::Missing {
            path: path.to_owned(),
        })
    }

    /// The text itself. Not for logs, errors, arguments or metrics.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// The files that a policy may have.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SecretFile {
    /// `username`
    Username,
    /// `password`
    Password,
    /// `ca.crt`: the authorities to trust, PEM.
    Authorities,
    /// `tls.crt`: the client certificate and its chain, PEM.
    Certificate,
    /// `tls.key`: the client certificate's private key, PEM.
    Key,
}

impl SecretFile {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Username,
        Self::Password,
        Self::Authorities,
        Self::Certificate,
        Self::Key,
    ];

    /// The file's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::Password => "password",
            Self::Authorities => "ca.crt",
            Self::Certificate => "tls.crt",
            Self::Key => "tls.key",
        }
    }
}

/// Why a secret could not be had. No variant carries what a file holds.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is not there, or has nothing in it.
    #[error("{} is missing or empty", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file is there and cannot be read.
    #[error("{} cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path is a directory, a socket or the like.
    #[error("{} is not a regular file", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file is larger than [`MAX_SECRET_BYTES`].
    #[error("{} is larger than {MAX_SECRET_BYTES} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not UTF-8.
    #[error("{} is not UTF-8 text", .path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A name that would leave the directory.
    #[error("`{name}` is not the name of a policy")]
    InvalidName {
        /// The name.
        name: String,
    },
}

impl SecretError {
    /// A short word for logs and metrics.
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "secret_missing",
            Self::Unreadable { .. } | Self::NotAFile { .. } => "secret_unreadable",
            Self::TooLarge { .. } | Self::NotText { .. } => "secret_malformed",
            Self::InvalidName { .. } => "secret_name",
        }
    }
}

/// The directory that `--secrets` names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretDir(PathBuf);

impl SecretDir {
    /// A directory with one directory a policy. It need not be there yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.0
    }

    /// Reads what there is for `policy`; a directory or file that is not there is no error until it is required.
    ///
    /// The files belong together: when the kubelet swaps them while they are read, they are read again. Blocks on the
    /// file system for at most five small files.
    pub fn load(&self, policy: &str) -> Result<Secrets, SecretError> {
        let mut parts = Path::new(policy).components();
        let (Some(Component::Normal(_)), None) = (parts.next(), parts.next()) else {
            return Err(SecretError::InvalidName {
                name: policy.to_owned(),
            });
        };
        let dir = self.0.join(policy);
        let mut before = version_of(&dir);
        for _ in 0..SWAP_RETRIES {
            let secrets = Secrets::read(&dir);
            let after = version_of(&dir);
            if after == before {
                return secrets;
            }
            before = after;
        }
        Secrets::read(&dir)
    }
}

/// Where the kubelet's link points now, to a directory of a new name at each swap; `None` when there is no link.
fn version_of(dir: &Path) -> Option<PathBuf> {
    fs::read_link(dir.join(KUBELET_DATA)).ok()
}

/// What there was for one policy at one time.
#[derive(Clone, Debug)]
pub struct Secrets {
    dir: PathBuf,
    files: [Option<Secret>; SecretFile::ALL.len()],
}

impl Secrets {
    fn read(dir: &Path) -> Result<Self, SecretError> {
        let mut files = [const { None }; SecretFile::ALL.len()];
        for file in SecretFile::ALL {
            files[file as usize] = read(&dir.join(file.name()))?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            files,
        })
    }

    /// What the file held, less one newline at its end; `None` when it is missing or empty.
    pub fn get(&self, file: SecretFile) -> Option<&Secret> {
        self.files[file as usize].as_ref()
    }

    /// What the file held; an error that names its path when it is missing or empty.
    pub fn require(&self, file: SecretFile) -> Result<&Secret, SecretError> {
        self.get(file).ok_or_else(|| SecretError::Missing {
            path: self.path(file),
        })
    }

    /// Where the file is.
    pub fn path(&self, file: SecretFile) -> PathBuf {
        self.dir.join(file.name())
    }

    /// A value that changes when any of the files does.
    pub fn fingerprint(&self) -> Fingerprint {
        let texts = self
            .files
            .each_ref()
            .map(|file| file.as_ref().map(Secret::expose));
        Fingerprint::of(&texts)
    }
}

/// Stands for a content without revealing it: a hash with a key that only this process has. Comparable within one
/// process; two contents collide with probability 2^-64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// The fingerprint of `content`.
    pub fn of(content: &impl Hash) -> Self {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        Self(KEY.get_or_init(RandomState::new).hash_one(content))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

fn read(path: &Path) -> Result<Option<Secret>, SecretError> {
    let unreadable = |source| SecretError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if !metadata.is_file() {
        return Err(SecretError::NotAFile {
            path: path.to_owned(),
        });
    }
    // Room for everything at once, so that no half of a secret stays behind in a buffer that grew.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_SECRET_BYTES + 1));
    let limit = u64::try_from(MAX_SECRET_BYTES + 1).unwrap_or(u64::MAX);
    match fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    }
    if bytes.len() > MAX_SECRET_BYTES {
        return Err(SecretError::TooLarge {
            path: path.to_owned(),
        });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| SecretError::NotText {
        path: path.to_owned(),
    })?;
    let text = text
        .strip_suffix('\n')
        .map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok((!text.is_empty()).then(|| Secret::new(text.to_owned())))
}

#[cfg(test)]
mod tests;

//! Policies: from a directory of files to what the engine serves.
//!
//! [`Directory`] reads the files, [`settings()`] turns a `LockPolicy` into the engine's terms, [`Backends`] opens what
//! it names, and [`Reloader`] watches, applies and tells. A file that cannot be read keeps its last good policy.

pub use backends::Backends;
pub use directory::{Directory, FileError, PolicyFile};
pub use reload::Reloader;
pub use settings::settings;

mod backends;
mod directory;
mod reload;
mod settings;

//! What an image is made from.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::super::{
    error::{Result, at},
    layout::Layout,
};

/// A Dockerfile, and the files of its context.
#[derive(Clone, Debug)]
pub struct Recipe {
    name: String,
    dockerfile: PathBuf,
    arguments: Vec<(String, String)>,
    files: Vec<(PathBuf, String)>,
}

impl Recipe {
    /// An image of this name (`localhost/a/b:1`) from a Dockerfile.
    pub fn new(name: &str, dockerfile: PathBuf) -> Self {
        Self {
            name: name.to_owned(),
            dockerfile,
            arguments: Vec::new(),
            files: Vec::new(),
        }
    }

    /// An image that is one static program, run as nobody.
    pub fn program(name: &str, program: &Path) -> Self {
        let dockerfile = Layout::checkout().join("e2e/cluster/images/program.Dockerfile");
        Self::new(name, dockerfile).file(program, "program")
    }

    /// Puts a file into the context, at this path.
    #[must_use]
    pub fn file(mut self, file: &Path, target: &str) -> Self {
        self.files.push((file.to_owned(), target.to_owned()));
        self
    }

    /// Sets a build argument.
    #[must_use]
    pub fn argument(mut self, name: &str, value: &str) -> Self {
        self.arguments.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The image's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The last part of the name, without its tag.
    pub fn short_name(&self) -> String {
        let last = self.name.rsplit('/').next().unwrap_or_default();
        last.split(':').next().unwrap_or_default().to_owned()
    }

    pub(super) fn dockerfile(&self) -> &Path {
        &self.dockerfile
    }

    pub(super) fn arguments(&self) -> &[(String, String)] {
        &self.arguments
    }

    pub(super) fn files(&self) -> &[(PathBuf, String)] {
        &self.files
    }

    /// Copies the context into `files` of a folder.
    pub(super) fn lay_out(&self, folder: &Path) -> Result<()> {
        let root = folder.join("files");
        fs::create_dir(&root).map_err(at(&root))?;
        for (file, target) in &self.files {
            let target = root.join(target.trim_start_matches('/'));
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(at(parent))?;
            }
            fs::copy(file, &target).map_err(at(file))?;
        }
        Ok(())
    }
}

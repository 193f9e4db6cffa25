//! Images of servers, from the files of Debian's packages on this machine.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{
    super::{
        error::{Error, Result, at},
        layout::Layout,
        run::{command, run},
    },
    Recipe,
};

/// The files of an image, collected.
pub(super) struct Files(BTreeSet<PathBuf>);

impl Files {
    /// These programs with the libraries that they are linked to.
    pub(super) fn of_programs(programs: &[&str], package: &str) -> Result<Self> {
        let mut files = Self(BTreeSet::new());
        for program in programs {
            let path = Path::new(program);
            if !path.exists() {
                return Err(Error::Missing {
                    program: (*program).to_owned(),
                    install: format!("apt-get install {package}"),
                });
            }
            files.0.insert(path.to_owned());
            files.add_libraries(path)?;
        }
        Ok(files)
    }

    /// And this file with its libraries.
    pub(super) fn with_file(mut self, file: &Path) -> Result<Self> {
        self.add_libraries(file)?;
        self.0.insert(file.to_owned());
        Ok(self)
    }

    /// And everything in this folder.
    pub(super) fn with_folder(mut self, folder: &Path) -> Result<Self> {
        for entry in fs::read_dir(folder).map_err(at(folder))?.flatten() {
            let path = entry.path();
            let kind = entry.file_type().map_err(at(&path))?;
            if kind.is_dir() {
                self = self.with_folder(&path)?;
            } else if path.exists() {
                self.0.insert(path);
            }
        }
        Ok(self)
    }

    /// As an image that runs a command; `scripts` go to `/usr/local/bin`.
    pub(super) fn into_recipe(self, name: &str, command: &str, scripts: &[&str]) -> Recipe {
        let images = Layout::checkout().join("e2e/cluster/images");
        let mut recipe =
            Recipe::new(name, images.join("debian.Dockerfile")).argument("COMMAND", command);
        for file in &self.0 {
            recipe = recipe.file(file, &format!("rootfs{}", file.display()));
        }
        for script in scripts {
            recipe = recipe.file(
                &images.join(script),
                &format!("rootfs/usr/local/bin/{script}"),
            );
        }
        for file in ["passwd", "group"] {
            recipe = recipe.file(&images.join(file), &format!("rootfs/etc/{file}"));
        }
        recipe
    }

    fn add_libraries(&mut self, program: &Path) -> Result<()> {
        // It fails for what is not linked dynamically, which needs none.
        let listed = run(&mut command("ldd", [program])).unwrap_or_default();
        for line in listed.lines() {
            let path = line
                .split_whitespace()
                .find(|word| word.starts_with('/'))
                .map(PathBuf::from);
            self.0.extend(path);
        }
        Ok(())
    }
}

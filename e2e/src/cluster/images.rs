//! Container images: built from Dockerfiles by buildah, without a daemon and without root in the image, and given to containerd.
//!
//! A built image is kept as an archive under `target/cluster/images`, named after what it was made from, and built again only when
//! that changes.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    error::{Error, Result, at},
    layout::{INSIDE, Layout},
    processes,
    run::{command, run, run_with_file, tell},
};

pub use catalog::{Image, POSTGRES, PROMETHEUS, REDIS, TOOLS};
pub use recipe::Recipe;

mod catalog;
mod debian;
mod recipe;

/// The image of every pod's sandbox.
pub const SANDBOX: &str = "localhost/pawl-cluster/sandbox:1";
/// The DNS server.
pub const DNS: &str = "localhost/pawl-cluster/coredns:1";

/// What the node itself needs.
pub fn of_node(layout: &Layout) -> Result<Vec<Recipe>> {
    Ok(vec![
        Recipe::program(SANDBOX, &layout.program("sandbox")?),
        Recipe::program(DNS, &layout.program("coredns")?),
    ])
}

/// Builds an image unless it was built from the same before; answers its archive.
pub fn build(layout: &Layout, recipe: &Recipe) -> Result<PathBuf> {
    let folder = layout.images();
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    // Two test programs may want the same image.
    let lock = folder.join(".lock");
    let lock = fs::File::create(&lock).map_err(at(&lock))?;
    lock.lock().map_err(at(&folder))?;
    let short = recipe.short_name();
    let archive = folder.join(format!("{short}.{}.tar", sum(recipe)?));
    if archive.exists() {
        return Ok(archive);
    }
    remove_older(&folder, &short)?;
    let context = tempfile::TempDir::with_prefix("pawl-image-").map_err(at(&folder))?;
    recipe.lay_out(context.path())?;
    let storage = layout.images().join(".storage");
    let buildah = |arguments: &[&str]| {
        let mut buildah = command("buildah", ["--root"]);
        buildah
            .arg(&storage)
            .arg("--runroot")
            .arg(context.path().join(".run"))
            .args(arguments)
            .env("STORAGE_DRIVER", "vfs")
            .env("BUILDAH_ISOLATION", "chroot");
        run(&mut buildah)
    };
    let dockerfile = recipe.dockerfile().display().to_string();
    let folder_of_context = context.path().join("files").display().to_string();
    let mut arguments = vec![
        "build",
        "--quiet",
        "--file",
        &dockerfile,
        "--tag",
        recipe.name(),
    ];
    let settings: Vec<String> = recipe
        .arguments()
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    for setting in &settings {
        arguments.extend(["--build-arg", setting]);
    }
    arguments.push(&folder_of_context);
    buildah(&arguments)?;
    let half = archive.with_extension("half");
    let target = format!("docker-archive:{}:{}", half.display(), recipe.name());
    buildah(&["push", "--quiet", recipe.name(), &target])?;
    buildah(&["rmi", recipe.name()])?;
    fs::rename(&half, &archive).map_err(at(&archive))?;
    Ok(archive)
}

/// Builds the images that tests use; answers their archives.
pub fn build_all(layout: &Layout) -> Result<Vec<PathBuf>> {
    Image::ALL
        .iter()
        .map(|image| build(layout, &image.recipe()?))
        .collect()
}

/// Builds the images that tests use and gives them to the node.
pub fn load_all(layout: &Layout) -> Result<()> {
    for image in Image::ALL {
        let recipe = image.recipe()?;
        let archive = build(layout, &recipe)?;
        load(layout, &archive)?;
        let megabytes = size(&archive)? / 1_000_000;
        tell(&format!("{} is there, {megabytes} MB", recipe.name()));
    }
    Ok(())
}

/// Gives an archive to the node's containerd.
pub fn load(layout: &Layout, archive: &Path) -> Result<()> {
    let node = processes::first(layout).ok_or_else(|| Error::Down(layout.home().to_owned()))?;
    let mut import = command(
        "nsenter",
        ["--target", &node.to_string(), "--mount", "--pid"],
    );
    import.args([
        "ctr",
        "--address",
        &format!("{INSIDE}/containerd.sock"),
        "--namespace",
        "k8s.io",
        "images",
        "import",
        "-",
    ]);
    run_with_file(&mut import, archive).map(drop)
}

/// The bytes of an image: the sum of its layers, not compressed.
pub fn size(archive: &Path) -> Result<u64> {
    fs::metadata(archive)
        .map(|file| file.len())
        .map_err(at(archive))
}

fn remove_older(folder: &Path, short: &str) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(at(folder))?.flatten() {
        let name = entry.file_name();
        let is_older = name.to_str().is_some_and(|name| {
            name.strip_prefix(short)
                .is_some_and(|rest| rest.starts_with('.'))
        });
        if is_older {
            fs::remove_file(entry.path()).map_err(at(&entry.path()))?;
        }
    }
    Ok(())
}

/// The first sixteen digits of a hash over what goes in: names, sizes and times.
fn sum(recipe: &Recipe) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(recipe.name());
    for (name, value) in recipe.arguments() {
        hash.update(format!("\0{name}={value}"));
    }
    for (file, target) in std::iter::once((recipe.dockerfile(), "Dockerfile")).chain(
        recipe
            .files()
            .iter()
            .map(|(file, target)| (file.as_path(), target.as_str())),
    ) {
        hash.update(format!("\0{target}\0"));
        // Whoever changes a program changes its time; reading hundreds of megabytes each time would take longer than to start.
        let metadata = fs::metadata(file).map_err(at(file))?;
        hash.update(format!(
            "{} {} {}",
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec()
        ));
    }
    let digest = hash.finalize();
    let first = digest.iter().take(8);
    Ok(format!(
        "{:016x}",
        first.fold(0_u64, |digits, byte| digits << 8 | u64::from(*byte))
    ))
}

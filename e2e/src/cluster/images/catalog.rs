//! The images that tests use.

use std::path::{Path, PathBuf};

use super::{
    super::{
        error::{Error, Result},
        layout::Layout,
    },
    Recipe,
    debian::Files,
};

/// A shell with a few tools, for applications under test.
pub const TOOLS: &str = "localhost/pawl-cluster/tools:1";
/// Redis of Debian.
pub const REDIS: &str = "localhost/pawl-cluster/redis:1";
/// Postgres of Debian, told user and database as the official image is.
pub const POSTGRES: &str = "localhost/pawl-cluster/postgres:1";
/// Prometheus of Debian.
pub const PROMETHEUS: &str = "localhost/pawl-cluster/prometheus:1";

/// Where the programs of images are built into, below `target`.
const BUILT: &str = "target/x86_64-unknown-linux-musl/cluster";

/// An image that tests use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// `pawl-sidecar`.
    Sidecar,
    /// `pawl-operator`.
    Operator,
    /// `pawl-demo`.
    Demo,
    /// [`TOOLS`].
    Tools,
    /// [`REDIS`].
    Redis,
    /// [`POSTGRES`].
    Postgres,
    /// [`PROMETHEUS`].
    Prometheus,
}

impl Image {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Sidecar,
        Self::Operator,
        Self::Demo,
        Self::Tools,
        Self::Redis,
        Self::Postgres,
        Self::Prometheus,
    ];

    /// What it is made from.
    pub fn recipe(self) -> Result<Recipe> {
        match self {
            Self::Sidecar => own("sidecar"),
            Self::Operator => own("operator"),
            Self::Demo => own("demo"),
            Self::Tools => tools(),
            Self::Redis => {
                let files =
                    Files::of_programs(&["/bin/bash", "/usr/bin/redis-server"], "redis-server")?;
                Ok(files.into_recipe(REDIS, "/usr/bin/redis-server", &[]))
            }
            Self::Postgres => postgres(),
            Self::Prometheus => {
                let programs = ["/bin/bash", "/usr/bin/prometheus"];
                let files = Files::of_programs(&programs, "prometheus")?;
                Ok(files.into_recipe(PROMETHEUS, "/usr/bin/prometheus", &[]))
            }
        }
    }
}

/// An image of this repository, from the Dockerfile that a release is built from.
fn own(name: &str) -> Result<Recipe> {
    let checkout = Layout::checkout();
    let program = checkout.join(BUILT).join(format!("pawl-{name}"));
    if !program.exists() {
        return Err(Error::Missing {
            program: program.display().to_string(),
            install: "make cluster-programs".to_owned(),
        });
    }
    let image = format!("ghcr.io/pawl-dev/pawl-{name}:{}", env!("CARGO_PKG_VERSION"));
    let dockerfile = checkout.join(format!("images/{name}.Dockerfile"));
    Ok(Recipe::new(&image, dockerfile).file(&program, &format!("pawl-{name}")))
}

fn tools() -> Result<Recipe> {
    let programs = [
        "/bin/bash",
        "/bin/cat",
        "/bin/date",
        "/bin/ls",
        "/bin/sleep",
        "/usr/bin/env",
        "/usr/bin/getent",
        "/usr/bin/curl",
        "/usr/bin/id",
        "/usr/bin/seq",
        "/usr/bin/head",
        "/usr/bin/tr",
        "/usr/bin/mkfifo",
    ];
    // `getent` finds names through it, and only loads it when it is asked to.
    let names = PathBuf::from("/lib/x86_64-linux-gnu/libnss_dns.so.2");
    let files = Files::of_programs(&programs, "curl")?.with_file(&names)?;
    Ok(files.into_recipe(TOOLS, "/bin/bash", &[]))
}

fn postgres() -> Result<Recipe> {
    let version = crate::server::postgres::home();
    let bin = version.join("bin");
    let mut programs: Vec<String> = ["postgres", "initdb"]
        .iter()
        .map(|name| bin.join(name).display().to_string())
        .collect();
    programs.extend(["/bin/bash", "/bin/sh", "/bin/cat"].map(str::to_owned));
    let programs: Vec<&str> = programs.iter().map(String::as_str).collect();
    let number = version.file_name().unwrap_or_default();
    let shared = PathBuf::from("/usr/share/postgresql").join(number);
    let files = Files::of_programs(&programs, "postgresql")?
        .with_folder(&version.join("lib"))?
        .with_folder(&shared)?
        .with_file(Path::new("/usr/share/zoneinfo/UTC"))?;
    Ok(files.into_recipe(
        POSTGRES,
        "/usr/local/bin/postgres-server",
        &["postgres-server"],
    ))
}

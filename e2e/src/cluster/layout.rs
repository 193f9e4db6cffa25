//! Where things of a cluster are.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    error::{Error, Result, at},
    network::Network,
};

/// The state of a running cluster as its own processes see it. Short, because sockets are in it.
pub const INSIDE: &str = "/run/pawl";

/// The programs of the checkout as the cluster's own processes see them.
pub const PROGRAMS: &str = "/run/programs";

/// The folders of one cluster.
#[derive(Clone, Debug)]
pub struct Layout {
    home: PathBuf,
    programs: PathBuf,
}

impl Layout {
    /// The cluster of this checkout, `target/cluster`.
    pub fn of_checkout() -> Self {
        let home = Self::checkout().join("target/cluster");
        Self {
            programs: home.join("bin"),
            home,
        }
    }

    /// Another cluster in a folder of its own, with the programs of this checkout. Several run beside each other.
    pub fn at(home: &Path) -> Self {
        Self {
            home: home.to_owned(),
            programs: Self::checkout().join("target/cluster/bin"),
        }
    }

    /// The root of the sources.
    pub fn checkout() -> PathBuf {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        manifest.parent().unwrap_or(manifest).to_owned()
    }

    /// The folder of the cluster.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What one run of the cluster keeps: gone with it.
    pub fn state(&self) -> PathBuf {
        self.home.join("run")
    }

    /// How clients reach the API server as its administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.home.join("kubeconfig")
    }

    /// What a component said.
    pub fn log(&self, component: &str) -> PathBuf {
        self.state().join(format!("log/{component}.log"))
    }

    /// Images that were built, as archives; they outlive a run.
    pub fn images(&self) -> PathBuf {
        self.programs
            .parent()
            .unwrap_or(&self.programs)
            .join("images")
    }

    /// The folder of the programs that `scripts/need-cluster` builds.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// One of them.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = self.programs.join(name);
        if path.exists() {
            return Ok(path);
        }
        Err(Error::Missing {
            program: name.to_owned(),
            install: "scripts/need-cluster builds it".to_owned(),
        })
    }

    /// Remembers the network that a run has.
    pub fn save_network(&self, network: Network) -> Result<()> {
        let file = self.state().join("slot");
        fs::write(&file, network.slot().to_string()).map_err(at(&file))
    }

    /// The network of the run.
    pub fn network(&self) -> Result<Network> {
        let file = self.state().join("slot");
        let text = fs::read_to_string(&file).map_err(|_| Error::Down(self.home.clone()))?;
        let slot = text.trim().parse().ok();
        slot.and_then(Network::new)
            .ok_or_else(|| Error::Down(self.home.clone()))
    }
}

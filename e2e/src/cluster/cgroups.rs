//! The cgroups of a cluster's pods: below one group of its own in each hierarchy, of version 1 or 2.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    error::{Result, at},
    network::Network,
    processes::until,
};

const ROOT: &str = "/sys/fs/cgroup";

/// The group that everything is below, as the kubelet's `cgroupRoot` names it.
pub fn name(network: Network) -> String {
    format!("/pawl-cluster-{}", network.slot())
}

/// Makes it.
pub fn make(network: Network) -> Result<()> {
    for hierarchy in hierarchies() {
        let group = group(&hierarchy, network);
        fs::create_dir_all(&group).map_err(at(&group))?;
        inherit_cpus(&hierarchy, &group)?;
    }
    if is_unified() {
        // What pods are limited by must be handed down from the root.
        let file = Path::new(ROOT).join("cgroup.subtree_control");
        for controller in ["cpu", "memory", "pids", "cpuset", "io"] {
            // The kernel may be without one; the kubelet says so if it needs it.
            drop(fs::write(&file, format!("+{controller}")));
        }
    }
    Ok(())
}

/// Removes it and all below. Nothing may run in it any more.
pub fn remove(network: Network) -> Result<()> {
    for hierarchy in hierarchies() {
        let group = group(&hierarchy, network);
        // Processes leave their groups a moment after they ended.
        until("removing the cgroups", 20, || {
            remove_below(&group);
            !group.exists()
        })?;
    }
    Ok(())
}

/// Whether there is something of it.
pub fn is_there(network: Network) -> bool {
    hierarchies()
        .iter()
        .any(|hierarchy| group(hierarchy, network).exists())
}

fn group(hierarchy: &Path, network: Network) -> PathBuf {
    hierarchy.join(name(network).trim_start_matches('/'))
}

fn is_unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// The mounted hierarchies: one with version 2, one a controller with version 1.
fn hierarchies() -> Vec<PathBuf> {
    if is_unified() {
        return vec![PathBuf::from(ROOT)];
    }
    let entries = fs::read_dir(ROOT).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists())
        .collect()
}

/// A new group of the cpuset controller of version 1 has no processor until it is told which.
fn inherit_cpus(hierarchy: &Path, group: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let target = group.join(file);
        if target.exists() && !is_unified() {
            let source = hierarchy.join(file);
            let cpus = fs::read_to_string(&source).map_err(at(&source))?;
            fs::write(&target, cpus.trim()).map_err(at(&target))?;
        }
    }
    Ok(())
}

fn remove_below(group: &Path) {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
        }
    }
    // Tried again as long as it is there.
    drop(fs::remove_dir(group));
}

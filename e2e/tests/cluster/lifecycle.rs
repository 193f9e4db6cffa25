//! The tests' own cluster: fresh for each run, and nothing of it is left.

use std::{fs, path::PathBuf, process::Command, sync::OnceLock};

use pawl_e2e::cluster::{Layout, Network, cgroups, processes};

static NETWORK: OnceLock<Network> = OnceLock::new();

pub(super) fn layout() -> Layout {
    Layout::at(&Layout::of_checkout().home().join("test"))
}

/// Starts it. What an earlier run left, also a killed one, goes first; a second start then works after everything of it was killed
/// with signal 9.
pub(super) fn up() -> PathBuf {
    command("down");
    command("up");
    let layout = layout();
    processes::end(&layout).unwrap();
    command("up");
    command("images");
    NETWORK.get_or_init(|| layout.network().unwrap());
    layout.kubeconfig()
}

/// Ends it, twice: the second time has nothing to do.
pub(super) fn down() {
    command("down");
    command("down");
}

/// Whether the machine is as it was before.
pub(super) fn nothing_is_left() -> bool {
    let Some(network) = NETWORK.get() else {
        return true;
    };
    let layout = layout();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let home = layout.home().display().to_string();
    let left = [
        ("processes", !processes::of(&layout).is_empty()),
        ("the interface", network.is_there()),
        ("cgroups", cgroups::is_there(*network)),
        ("mounts", mounts.contains(&home)),
        ("its state", layout.state().exists()),
        ("its kubeconfig", layout.kubeconfig().exists()),
        (
            "iptables rules",
            rules().contains("KUBE-") || rules().contains("CNI-"),
        ),
    ];
    for (what, _) in left.iter().filter(|(_, is_left)| *is_left) {
        println!("left after the cluster: {what}");
    }
    left.iter().all(|(_, is_left)| !is_left)
}

fn rules() -> String {
    let output = Command::new("iptables-save").output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

fn command(action: &str) {
    let status = Command::new(env!("CARGO_BIN_EXE_pawl-cluster"))
        .arg("--dir")
        .arg(layout().home())
        .arg(action)
        .status()
        .unwrap();
    assert!(status.success(), "pawl-cluster {action} failed");
}

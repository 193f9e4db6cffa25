//! Finding and ending the processes of a cluster.
//!
//! They are known by a variable of their environment, [`MARK`], which all of them inherit: it is there from the first instant of a
//! process, whoever is killed in between, and no process id that was written down can come to mean another process.

use std::{fs, os::unix::ffi::OsStrExt as _, path::Path, thread, time::Duration};

use pawl_kit::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};

use super::{
    error::{Error, Result},
    layout::Layout,
};

/// The variable that marks the processes of a cluster; its value is the cluster's folder.
pub const MARK: &str = "PAWL_CLUSTER";

/// The ids of a cluster's marked processes, as this process sees them.
pub fn of(layout: &Layout) -> Vec<i32> {
    let mut mark = MARK.as_bytes().to_vec();
    mark.push(b'=');
    mark.extend(layout.home().as_os_str().as_bytes());
    all()
        .filter(|id| {
            let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|word| word == mark)
        })
        .collect()
}

/// The first process of the node: the one that is number 1 in its own namespace, but not here.
pub fn first(layout: &Layout) -> Option<i32> {
    of(layout).into_iter().find(|id| {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let ids: Vec<_> = ids.unwrap_or_default().split_whitespace().collect();
        ids.len() > 1 && ids.last() == Some(&"1")
    })
}

/// A component of the node, by the name of its log (`kube-apiserver`, `etcd`), while it runs.
pub fn component(layout: &Layout, name: &str) -> Option<i32> {
    let first = first(layout)?;
    of(layout).into_iter().find(|id| {
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).take(2);
        let is_it = words.any(|word| {
            let word = Path::new(std::ffi::OsStr::from_bytes(word));
            word.file_name().is_some_and(|file| file == name)
        });
        is_it && parent(*id) == Some(first)
    })
}

/// Kills all marked processes, and with the node's first one everything in the node. Returns once they are gone.
pub fn end(layout: &Layout) -> Result<()> {
    until("ending the cluster's processes", 30, || {
        let left = of(layout);
        for id in &left {
            signal(*id, Signal::KILL);
        }
        left.is_empty()
    })
}

/// Sends a signal to a process; nothing if it is gone.
pub fn signal(id: i32, signal: Signal) {
    if let Some(id) = Pid::from_raw(id) {
        let _ = kill_process(id, signal);
    }
}

/// Waits until something is so, looking every 20 ms.
pub fn until(what: &str, seconds: u64, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let clock = Clock::system();
    let start = clock.now();
    while !is_so() {
        if clock.now().saturating_since(start) > Duration::from_secs(seconds) {
            return Err(Error::Late {
                what: what.to_owned(),
                seconds,
                hint: String::new(),
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn all() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(id: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // After the name, which is in parentheses: state and parent.
    let rest = stat.rsplit_once(')')?.1;
    rest.split_whitespace().nth(1)?.parse().ok()
}

//! A network of two ends, one in a namespace of its own, that can be cut without either end being told.

#![expect(
    clippy::panic,
    reason = "a test that cannot have its network fails, with the reason"
)]

use std::{
    net::{IpAddr, Ipv4Addr},
    process::Command,
};

use rustix::process::getuid;

/// What to install when something is missing.
const INSTALL: &str = "apt-get install iproute2";

/// A pair of addresses: the near one is this machine's, the far one that of a network namespace. Taken away when
/// dropped.
pub struct Wire {
    name: String,
    near: Ipv4Addr,
    far: Ipv4Addr,
}

impl Wire {
    /// Lays a wire.
    ///
    /// # Panics
    /// If this is not root, or `ip` is missing.
    pub fn lay() -> Self {
        assert!(
            getuid().is_root(),
            "a network namespace needs root: run this test as root"
        );
        let unique: u16 = rand::random();
        let [high, low] = unique.to_be_bytes();
        let wire = Self {
            name: format!("pawl{unique:x}"),
            // The documentation's and benchmarks' network: nobody's own.
            near: Ipv4Addr::new(198, 18 + (high & 1), low, 4 * (high >> 2) + 1),
            far: Ipv4Addr::new(198, 18 + (high & 1), low, 4 * (high >> 2) + 2),
        };
        let Self { name, near, far } = &wire;
        ip(&format!("netns add {name}"));
        ip(&format!(
            "link add {name} type veth peer name far netns {name}"
        ));
        ip(&format!("addr add {near}/30 dev {name}"));
        ip(&format!("link set {name} up"));
        ip(&format!("-n {name} addr add {far}/30 dev far"));
        ip(&format!("-n {name} link set far up"));
        wire
    }

    /// The address at this end.
    pub fn near(&self) -> IpAddr {
        IpAddr::V4(self.near)
    }

    /// The arguments with which `ip` runs a program at the other end.
    pub fn far<'a>(&'a self, program: &'a str) -> [&'a str; 4] {
        ["netns", "exec", &self.name, program]
    }

    /// From now on every packet, in both directions, goes to a machine that is not there.
    pub fn cut(&self) {
        let nobody = "lladdr 02:00:00:00:00:99 nud permanent";
        let Self { name, near, far } = self;
        ip(&format!("neigh replace {far} {nobody} dev {name}"));
        ip(&format!("-n {name} neigh replace {near} {nobody} dev far"));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let Self { name, .. } = self;
        // Also after a failed test; what is gone already is fine.
        for command in [format!("link del {name}"), format!("netns del {name}")] {
            drop(Command::new("ip").args(command.split(' ')).output());
        }
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("ip cannot be run ({error}): install it with `{INSTALL}`"));
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

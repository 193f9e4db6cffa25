//! The addresses of a cluster, and its one interface on the machine.

use std::{net::Ipv4Addr, path::Path};

use super::{
    error::{Error, Result},
    run::ip,
};

/// How many clusters may run on one machine.
const SLOTS: u8 = 16;

/// The network of one cluster. Clusters of one machine differ in their slot.
///
/// | network | for |
/// |---|---|
/// | `10.217.<slot>.0/24` | pods |
/// | `10.218.<slot>.0/24` | services |
/// | `10.219.<slot>.0/30` | the link: `.1` the machine, `.2` the node |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    slot: u8,
}

impl Network {
    /// The network of a slot below 16.
    pub fn new(slot: u8) -> Option<Self> {
        (slot < SLOTS).then_some(Self { slot })
    }

    /// One whose interface is not there.
    pub fn free() -> Result<Self> {
        (0..SLOTS)
            .map(|slot| Self { slot })
            .find(|network| !network.is_there())
            .ok_or(Error::Crowded)
    }

    /// Its number.
    pub fn slot(self) -> u8 {
        self.slot
    }

    /// The interface on the machine.
    pub fn interface(self) -> String {
        format!("pawl{}", self.slot)
    }

    /// Whether the interface is there.
    pub fn is_there(self) -> bool {
        Path::new("/sys/class/net").join(self.interface()).exists()
    }

    /// The network of pods, in CIDR notation.
    pub fn pods(self) -> String {
        format!("10.217.{}.0/24", self.slot)
    }

    /// The network of services, in CIDR notation.
    pub fn services(self) -> String {
        format!("10.218.{}.0/24", self.slot)
    }

    /// The machine's end of the link.
    pub fn machine(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 219, self.slot, 1)
    }

    /// The node.
    pub fn node(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 219, self.slot, 2)
    }

    /// The service of the API server.
    pub fn api(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 218, self.slot, 1)
    }

    /// The service of the DNS server.
    pub fn dns(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 218, self.slot, 10)
    }

    /// Makes the link to the node whose first process this is, and the routes through it.
    pub fn connect(self, node: i32) -> Result<()> {
        let name = self.interface();
        ip(&format!(
            "link add {name} type veth peer name eth0 netns {node}"
        ))?;
        ip(&format!("address add {}/30 dev {name}", self.machine()))?;
        ip(&format!("link set {name} up"))?;
        for network in [self.pods(), self.services()] {
            ip(&format!(
                "route add {network} via {} dev {name}",
                self.node()
            ))?;
        }
        Ok(())
    }

    /// The other end, called in the node: waits for the link and takes the address.
    pub fn join(self) -> Result<()> {
        ip("link set lo up")?;
        super::processes::until("the link to the machine", 20, || {
            ip("link show dev eth0").is_ok()
        })?;
        ip(&format!("address add {}/30 dev eth0", self.node()))?;
        ip("link set eth0 up")?;
        ip(&format!("route add default via {}", self.machine()))?;
        Ok(())
    }

    /// Takes the interface away. It goes with the node; this is for the moment that the kernel takes for it.
    pub fn disconnect(self) -> Result<()> {
        if self.is_there() {
            // It may have gone in between.
            drop(ip(&format!("link delete {}", self.interface())));
        }
        super::processes::until("removing the interface", 10, || !self.is_there())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clusters_share_no_address() {
        let networks: Vec<_> = (0..SLOTS).filter_map(Network::new).collect();
        assert_eq!(networks.len(), 16);
        for (place, one) in networks.iter().enumerate() {
            for other in &networks[place + 1..] {
                assert_ne!(one.pods(), other.pods());
                assert_ne!(one.services(), other.services());
                assert_ne!(one.node(), other.node());
                assert_ne!(one.interface(), other.interface());
            }
        }
        assert_eq!(Network::new(SLOTS), None);
    }
}

//! Which connections are meant, in listing and in ending alike.

use std::net::{IpAddr, SocketAddr};

use crate::connections::Relayed;
use crate::dataplane::{FlowInfo, Path};
use crate::id;

/// Connections in the kernel.
pub(crate) const KERNEL: &[Path] = &[Path::Xdp, Path::Tc];

/// Connections that are all that is said here; what is not said fits any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// What carries them; none: anything.
    pub(crate) paths: Option<&'static [Path]>,
    pub(crate) target: Option<Address>,
    pub(crate) client: Option<Network>,
    /// The name of their target group.
    pub(crate) target_group: Option<String>,
}

impl Selection {
    /// All that a target has of a group.
    pub(crate) fn of_target(target_group: String, target: SocketAddr) -> Self {
        Self {
            target: Some(Address::Socket(target)),
            target_group: Some(target_group),
            ..Self::default()
        }
    }

    pub(crate) fn has_path(&self, path: Path) -> bool {
        self.paths.is_none_or(|paths| paths.contains(&path))
    }

    pub(crate) fn has_flow(&self, flow: &FlowInfo) -> bool {
        let of_group = |name: &String| id::flow_label(id::name_id(name));
        self.has_path(flow.path)
            && self
                .target_group
                .as_ref()
                .is_none_or(|name| of_group(name) == flow.owner.target_group)
            && self.has_ends(flow.client, flow.target)
    }

    pub(crate) fn has_relayed(&self, one: &Relayed) -> bool {
        self.has_path(Path::Userspace)
            && self
                .target_group
                .as_ref()
                .is_none_or(|name| *name == one.target_group)
            && self.has_ends(one.client, one.target)
    }

    fn has_ends(&self, client: SocketAddr, target: SocketAddr) -> bool {
        self.target.is_none_or(|wanted| wanted.matches(target))
            && self.client.is_none_or(|wanted| wanted.matches(client))
    }
}

/// An address, with or without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    Host(IpAddr),
    Socket(SocketAddr),
}

impl Address {
    fn matches(self, other: SocketAddr) -> bool {
        match self {
            Self::Host(host) => host == other.ip(),
            Self::Socket(socket) => socket == other,
        }
    }
}

/// Clients: an address, an address and port, or a CIDR range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    One(Address),
    Range(IpAddr, u32),
}

impl Network {
    fn matches(self, other: SocketAddr) -> bool {
        // An IPv4 client of an IPv6 socket is an IPv4 client.
        let ip = other.ip().to_canonical();
        match self {
            Self::One(address) => address.matches(SocketAddr::new(ip, other.port())),
            Self::Range(network, bits) => in_range(network, bits, ip),
        }
    }
}

fn in_range(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    let (network, address, width) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => (
            u128::from(network.to_bits()),
            u128::from(address.to_bits()),
            32,
        ),
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let shift = width - bits.min(width);
    // A shift by the whole width is not defined: everything is in range then.
    network.checked_shr(shift).unwrap_or(0) == address.checked_shr(shift).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_cidr(network: &str, bits: u32, address: &str) -> bool {
        let network = network.parse().expect("an address");
        in_range(network, bits, address.parse().expect("an address"))
    }

    #[test]
    fn ranges() {
        assert!(in_cidr("192.0.2.0", 24, "192.0.2.200"));
        assert!(!in_cidr("192.0.2.0", 24, "192.0.3.1"));
        assert!(in_cidr("0.0.0.0", 0, "9.9.9.9"));
        assert!(in_cidr("::", 0, "fe80::1"));
        assert!(!in_cidr("::", 0, "9.9.9.9"));
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_socket() {
        let network = Network::Range("192.0.2.0".parse().expect("an address"), 24);
        assert!(network.matches("[::ffff:192.0.2.9]:1".parse().expect("an address")));
    }
}

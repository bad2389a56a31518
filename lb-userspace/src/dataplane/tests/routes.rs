//! A network namespace with a route and a known neighbour to each end, so that the
//! kernel's routing table has an answer for the program.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};

use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};

/// The neighbours' hardware addresses.
pub(super) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];
pub(super) const TARGET_MAC: [u8; 6] = [2, 0, 0, 0, 2, 2];
/// The balancer's own.
pub(super) const BALANCER_MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 2, 1]];

const LINKS: &str = "\
link set lo up
link add clients address 02:00:00:00:01:01 mtu 9000 type veth peer name client mtu 9000
link add targets address 02:00:00:00:02:01 mtu 9000 type veth peer name target mtu 9000
";
/// Other addresses of the two networks have a route but no neighbour.
const ORDERS: &str = "\
link set clients up
link set targets up
link set client up
link set target up
address add 10.1.0.1/24 dev clients
address add 10.2.0.1/24 dev targets
address add fd00:1::1/64 dev clients nodad
address add fd00:2::1/64 dev targets nodad
neighbour add 10.1.0.2 lladdr 02:00:00:00:01:02 dev clients nud permanent
neighbour add 10.2.0.2 lladdr 02:00:00:00:02:02 dev targets nud permanent
neighbour add fd00:1::2 lladdr 02:00:00:00:01:02 dev clients nud permanent
neighbour add fd00:2::2 lladdr 02:00:00:00:02:02 dev targets nud permanent
";

/// Interfaces of the namespace that the calling thread was put into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Routes {
    /// Index of the interface to the client.
    pub(super) client: u32,
    /// Index of the interface to the target.
    pub(super) target: u32,
}

impl Routes {
    /// Puts this thread into a namespace of its own, which ends with it.
    pub(super) fn make() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("needs root: a network namespace");
        ip(LINKS);
        silence(["client", "target"]);
        ip(ORDERS);
        let routes = Self {
            client: index("clients"),
            target: index("targets"),
        };
        routes.forwarding(true);
        routes
    }

    /// The program's routing lookup answers only where forwarding is on.
    pub(super) fn forwarding(&self, on: bool) {
        for family in ["ipv4", "ipv6"] {
            let path = format!("/proc/sys/net/{family}/conf/all/forwarding");
            fs::write(path, if on { "1" } else { "0" }).expect("setting forwarding");
        }
    }

    /// From now on both ways take packets of this length.
    pub(super) fn mtu(&self, mtu: u32) {
        ip(&format!(
            "link set clients mtu {mtu}\nlink set targets mtu {mtu}\n"
        ));
    }

    /// Adds a route that forbids an address.
    pub(super) fn forbid(&self, kind: &str, address: IpAddr) {
        ip(&format!("route add {kind} {address}\n"));
    }
}

/// Far ends say nothing by themselves, so that what is counted came from the test. An
/// address less is not enough: where forwarding is on, the stack reports its multicast
/// groups (MLD) at a moment of its own, and that packet was counted too.
fn silence(far_ends: [&str; 2]) {
    for end in far_ends {
        let path = format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6");
        fs::write(path, "1").expect("turning IPv6 off at a far end");
    }
}

/// Gives orders to `ip` in this thread's namespace.
fn ip(orders: &str) {
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("`ip` runs (Debian package iproute2)");
    let mut stdin = ip.stdin.take().expect("a pipe");
    stdin
        .write_all(orders.as_bytes())
        .expect("giving orders to ip");
    drop(stdin);
    assert!(
        ip.wait().expect("ip ends").success(),
        "needs veth pairs: ip refused {orders:?}"
    );
}

fn index(name: &str) -> u32 {
    if_nametoindex(name).expect("the interface is there")
}

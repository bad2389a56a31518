//! The lab: a client, a balancer and three targets, each in a namespace of its
//! own, each joined to the balancer by a veth pair.
//!
//! ```text
//!   client 10.71.0.2 ── 10.71.0.1 ┐          ┌ 10.71.1.1 ── 10.71.1.2 target 1
//!          fd71::2      fd71::1   ├ balancer ┼ 10.71.2.1 ── 10.71.2.2 target 2
//!                                 ┘          └ 10.71.3.1 ── 10.71.3.2 target 3
//! ```

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Once;

use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::namespace::Namespace;
use crate::run::{BPFFS, Run};
use crate::{interrupt, leftovers};

/// How many targets a lab has.
pub const TARGETS: usize = 3;
/// Where the scripted targets listen.
pub const TARGET_PORT: u16 = 8080;
/// The interface of every end but the balancer's.
pub(crate) const END: &str = "eth0";

/// The same in every namespace, whatever the host has set.
const SYSCTLS: [(&str, &str); 7] = [
    // Loss would be answered differently by bbr, a common host default.
    ("net/ipv4/tcp_congestion_control", "cubic"),
    ("net/ipv4/ip_local_port_range", "32768 60999"),
    ("net/ipv4/tcp_rmem", "4096 131072 6291456"),
    ("net/ipv4/tcp_wmem", "4096 16384 4194304"),
    ("net/ipv4/tcp_ecn", "2"),
    // The balancer must work on a host that is no router.
    ("net/ipv4/ip_forward", "0"),
    // Nobody else can have these addresses; do not wait a second for them.
    ("net/ipv6/conf/default/accept_dad", "0"),
];

/// What the interfaces of the ends do for their packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Offloads {
    /// As a veth comes: whole GSO packets, partial checksums.
    #[default]
    Full,
    /// One segment per packet; checksums are partial all the same.
    Segments,
    /// What XDP can see: full checksums, one packet per frame; and GRO on, which
    /// lets a veth take redirected packets.
    Xdp,
}

/// Five namespaces and the wires between them, gone when dropped.
#[derive(Debug)]
pub struct Lab {
    run: Run,
    /// Where clients connect from.
    pub client: Namespace,
    /// Where the daemon runs.
    pub balancer: Namespace,
    /// Where targets listen.
    pub targets: Vec<Namespace>,
}

impl Lab {
    /// Raises a lab as veth interfaces come.
    pub fn new() -> Result<Self> {
        Self::with(Offloads::Full)
    }

    /// Raises a lab.
    pub fn with(offloads: Offloads) -> Result<Self> {
        prepare_host()?;
        let run = Run::new();
        interrupt::remember(&run);
        Self::raise(run.clone(), offloads).inspect_err(|_| {
            run.remove();
            interrupt::forget(&run);
        })
    }

    fn raise(run: Run, offloads: Offloads) -> Result<Self> {
        fs::create_dir_all(run.directory())?;
        let namespace = |role: &str| Namespace::create(run.namespace(role));
        let lab = Self {
            client: namespace("client")?,
            balancer: namespace("balancer")?,
            targets: (1..=TARGETS)
                .map(|number| namespace(&format!("target{number}")))
                .collect::<Result<_>>()?,
            run,
        };
        for namespace in lab.namespaces() {
            settings(namespace)?;
        }
        for number in 0..=TARGETS {
            lab.plug(number, offloads)?;
        }
        lab.balancer
            .output(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        Ok(lab)
    }

    /// Takes away the wire to end `number`, with both its interfaces.
    pub fn unplug(&self, number: usize) -> Result<()> {
        let name = interface(number);
        self.balancer
            .output(Command::new("ip").args(["link", "delete", &name]))
            .map(drop)
    }

    /// Moves the addresses of a wire's two interfaces into a VLAN on it.
    pub fn tag(&self, number: usize, vlan: u16) -> Result<()> {
        let ((near4, near6), (far4, far6)) = (addresses(number, 1), addresses(number, 2));
        let name = interface(number);
        let orders = |parent: &str, v4, v6| {
            format!(
                "link add link {parent} name {parent}.{vlan} type vlan id {vlan}\n\
                 addr flush dev {parent} scope global\n\
                 addr add {v4}/24 dev {parent}.{vlan}\n\
                 addr add {v6}/64 dev {parent}.{vlan} nodad\n\
                 link set {parent}.{vlan} up\n"
            )
        };
        self.balancer.ip(&orders(&name, near4, near6))?;
        // The one of IPv6 has outlived its address.
        let routes = format!("route replace default via {near4}\nroute replace ::/0 via {near6}\n");
        self.end(number).ip(&(orders(END, far4, far6) + &routes))
    }

    /// The wire to end `number`: 0 is the client, others are targets.
    pub fn plug(&self, number: usize, offloads: Offloads) -> Result<()> {
        let (name, end) = (interface(number), self.end(number));
        let (near4, near6) = addresses(number, 1);
        let orders = format!(
            "link add {name} type veth peer name {END} netns {}\n\
             addr add {near4}/24 dev {name}\n\
             addr add {near6}/64 dev {name} nodad\n\
             link set {name} up\n",
            end.name()
        );
        self.balancer.ip(&orders)?;
        self.settle(number)?;
        let features: &[&str] = match offloads {
            Offloads::Full => return Ok(()),
            Offloads::Segments => &["tso", "off", "gso", "off"],
            Offloads::Xdp => &["tx", "off", "gro", "on"],
        };
        end.output(Command::new("ethtool").args(["-K", END]).args(features))
            .map(drop)
    }

    /// Moves an end's wire into another namespace, down and by this name there.
    pub(crate) fn replug(&self, number: usize, into: &Namespace, name: &str) -> Result<()> {
        self.end(number).ip(&format!(
            "link set {END} down\nlink set {END} name {name}\nlink set {name} netns {}\n",
            into.name()
        ))
    }

    /// Gives an end's interface its addresses and routes.
    pub(crate) fn settle(&self, number: usize) -> Result<()> {
        let (near4, near6) = addresses(number, 1);
        let (far4, far6) = addresses(number, 2);
        let orders = format!(
            "link set lo up\n\
             addr add {far4}/24 dev {END}\n\
             addr add {far6}/64 dev {END} nodad\n\
             link set {END} up\n\
             route add default via {near4}\n\
             route add ::/0 via {near6}\n"
        );
        self.end(number).ip(&orders)
    }

    /// End `number`: 0 is the client, others are targets.
    pub fn end(&self, number: usize) -> &Namespace {
        number
            .checked_sub(1)
            .map_or(&self.client, |target| &self.targets[target])
    }

    fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        [&self.client, &self.balancer]
            .into_iter()
            .chain(&self.targets)
    }

    /// The run this lab is.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The balancer's interfaces: toward the client, then toward each target.
    pub fn interfaces(&self) -> Vec<String> {
        (0..=TARGETS).map(interface).collect()
    }

    /// The address clients connect to.
    pub fn front(&self) -> SocketAddr {
        SocketAddr::new(addresses(0, 1).0.into(), 80)
    }

    /// The same over IPv6.
    pub fn front6(&self) -> SocketAddr {
        SocketAddr::new(addresses(0, 1).1.into(), 80)
    }

    /// Where target `number` (from 1) listens.
    pub fn target(&self, number: usize) -> SocketAddr {
        SocketAddr::new(addresses(number, 2).0.into(), TARGET_PORT)
    }

    /// The same over IPv6.
    pub fn target6(&self, number: usize) -> SocketAddr {
        SocketAddr::new(addresses(number, 2).1.into(), TARGET_PORT)
    }

    /// The client's own address.
    pub fn client_address(&self) -> IpAddr {
        addresses(0, 2).0.into()
    }

    /// From now on this share of the packets that reach an end and fit an nft
    /// expression comes twice and late: it goes around through another wire, while
    /// what was sent after it overtakes it.
    pub fn detour_percent_of(&self, packets: &str, percent: f64) -> Result<()> {
        let permille = percent * 10.0;
        for end in self.targets.iter().chain([&self.client]) {
            let link = end.output(Command::new("ip").args(["-o", "link", "show", END]))?;
            let mut words = link.split_whitespace();
            words.find(|word| *word == "link/ether");
            // Packets off the detour are for whom they were for before.
            let address = words.next().context("an interface without an address")?;
            let orders = format!(
                "link add detour type veth peer name back address {address}\n\
                 link set detour up\n\
                 link set back up\n"
            );
            end.ip(&orders)?;
            let rules = format!(
                "table netdev detour {{ chain ingress {{ \
                 type filter hook ingress device {END} priority 0; \
                 {packets} numgen random mod 1000 < {permille:.0} dup to detour fwd to detour; }}; }}\n"
            );
            end.feed(Command::new("nft").args(["-f", "-"]), &rules)?;
        }
        Ok(())
    }

    /// Gives the wire to end `number` another MTU, at both of its ends.
    pub fn mtu(&self, number: usize, mtu: u32) -> Result<()> {
        let mtu = mtu.to_string();
        let set = |name: &str| {
            let mut command = Command::new("ip");
            command.args(["link", "set", name, "mtu", &mtu]);
            command
        };
        self.balancer.output(&mut set(&interface(number)))?;
        self.end(number).output(&mut set(END))?;
        Ok(())
    }

    /// From now on the ends lose this share of the packets that reach them.
    pub fn drop_percent(&self, percent: f64) -> Result<()> {
        self.drop_percent_of("", percent)
    }

    /// The same, of packets that fit an nft expression.
    pub fn drop_percent_of(&self, packets: &str, percent: f64) -> Result<()> {
        let permille = percent * 10.0;
        let rules = format!(
            "table inet loss {{ chain input {{ type filter hook input priority 0; \
             iifname {END} {packets} numgen random mod 1000 < {permille:.0} drop; }}; }}\n"
        );
        for end in self.targets.iter().chain([&self.client]) {
            end.feed(Command::new("nft").args(["-f", "-"]), &rules)?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.run.remove();
        interrupt::forget(&self.run);
    }
}

/// The balancer's interface toward end `number`.
pub(crate) fn interface(number: usize) -> String {
    if number == 0 {
        "client".to_owned()
    } else {
        format!("target{number}")
    }
}

pub(crate) fn addresses(network: usize, host: u16) -> (Ipv4Addr, Ipv6Addr) {
    let network = u16::try_from(network).expect("a handful of networks");
    let bits = [0x0a47_0000, u32::from(network) << 8, u32::from(host)];
    (
        Ipv4Addr::from_bits(bits.iter().sum()),
        Ipv6Addr::new(0xfd71, network, 0, 0, 0, 0, 0, host),
    )
}

pub(crate) fn settings(namespace: &Namespace) -> Result<()> {
    SYSCTLS
        .iter()
        .try_for_each(|(name, value)| namespace.sysctl(name, value))
}

/// What no namespace has of its own.
fn prepare_host() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut prepared = Ok(());
    ONCE.call_once(|| {
        leftovers::sweep();
        prepared = allow_cubic()
            .and_then(|()| mount_bpffs())
            .and_then(|()| raise_descriptors());
    });
    prepared
}

/// A namespace may only choose among what the host allows.
fn allow_cubic() -> Result<()> {
    let path = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    let allowed = fs::read_to_string(path)?;
    if allowed.split_whitespace().any(|name| name == "cubic") {
        return Ok(());
    }
    fs::write(path, format!("{} cubic", allowed.trim())).context("allowing cubic")
}

fn mount_bpffs() -> Result<()> {
    let mounted = fs::read_to_string("/proc/mounts")?
        .lines()
        .any(|line| line.contains(&format!(" {BPFFS} bpf ")));
    if mounted {
        return Ok(());
    }
    mount(
        Some("bpf"),
        BPFFS,
        Some("bpf"),
        MsFlags::empty(),
        None::<&Path>,
    )
    .with_context(|| format!("mounting {BPFFS}"))
}

/// A thousand connections have four thousand ends in one test process.
fn raise_descriptors() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .map_err(|error| anyhow!("raising RLIMIT_NOFILE to {hard}: {error}"))
}

/// For callers that run tools in a namespace by hand: how to enter one.
pub fn enter_command(namespace: &Namespace) -> String {
    // `ip netns exec` would hide the host's bpffs.
    format!("nsenter --net=/var/run/netns/{}", namespace.name())
}

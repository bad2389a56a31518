//! What the rest of the daemon says to the data plane and hears from it.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use lb_common::flow::FlowKey;
use lb_common::syn::Limits;

use crate::door::Admission;

/// How the fast path is asked to run (`[fastpath]` of the configuration).
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Which hook to use.
    pub(crate) mode: Mode,
    /// Interfaces to attach to; empty means all that are up.
    pub(crate) interfaces: Vec<String>,
    /// Capacity of the flow table, in connections.
    pub(crate) max_flows: u32,
    /// Source ports toward targets, inclusive.
    pub(crate) source_ports: RangeInclusive<u16>,
    /// Directory on a bpffs that keeps maps and links across restarts.
    pub(crate) pin_dir: PathBuf,
}

/// A listener as the kernel's door knows it.
#[derive(Debug, Clone)]
pub(crate) struct Doorway {
    /// Hash of its name, as in [`Owner`].
    pub(crate) listener: u32,
    /// Where it is bound.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Who may come in.
    pub(crate) admission: Admission,
    /// Whether its connections may have ECN: those that will never be flows.
    pub(crate) ecn: bool,
}

/// `fastpath.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The best hook each interface offers.
    Auto,
    /// Native XDP, TC behind it.
    Xdp,
    /// Generic XDP, TC behind it.
    XdpGeneric,
    /// TC only.
    Tc,
    /// No fast path: every connection is relayed.
    Off,
}

/// Which way the bytes of a connection go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// Forwarded by the XDP program.
    Xdp,
    /// Forwarded by the TC program.
    Tc,
    /// Relayed by the daemon.
    Userspace,
}

/// Why a connection is not in the kernel; the strings of the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// Not decided yet; tried again at the next quiet moment.
    Pending,
    /// The client's bytes are encrypted, and this is where TLS ends.
    Tls,
    /// The client's connection carries other streams too.
    Http2,
    /// Client or target is on this host, and the loopback has no program.
    Local,
    /// The legs negotiated options that cannot be made alike.
    Options,
    /// A leg's packets do not pass the program.
    Unobserved,
    /// A peer's window is too small for what was promised to the other.
    Window,
    /// The legs are of different address families.
    Family,
    /// A leg announced larger segments than the other takes.
    Mtu,
    /// The connection is never quiet.
    Busy,
    /// No free source port toward this target.
    Ports,
    /// The flow table is full.
    TableFull,
    /// The fast path is off or could not be attached.
    Off,
    /// A system call failed; the log says which.
    Error,
}

/// Names a flow keeps for the daemon that adopts it: hashes of configuration names
/// (`id::flow_label`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Owner {
    /// The listener's.
    pub(crate) listener: u32,
    /// The target group's.
    pub(crate) target_group: u32,
}

/// What a connection is, told before the target is dialled.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Listener and target group.
    pub(crate) owner: Owner,
    /// What the daemon wants to be told at the end, 0 to 15; part of the id.
    pub(crate) note: u8,
    /// The client's address and port.
    pub(crate) client: SocketAddr,
    /// The address and port the client connected to.
    pub(crate) local: SocketAddr,
    /// What the client's connection has, see [`super::limits`].
    pub(crate) limits: Limits,
    /// Bound on the TCP connect.
    pub(crate) connect_timeout: Duration,
}

/// What finds a flow again in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowHandle {
    /// Key of the client leg.
    pub(super) client: FlowKey,
    /// Tells it from a later flow with the same key.
    pub(super) id: u64,
}

/// One connection the kernel carries, as read from the flow table.
#[derive(Debug, Clone)]
pub(crate) struct FlowInfo {
    /// To end it by.
    pub(crate) handle: FlowHandle,
    /// The id that the connection had as a candidate already.
    pub(crate) id: u64,
    /// Listener and target group.
    pub(crate) owner: Owner,
    /// The client's address.
    pub(crate) client: SocketAddr,
    /// The target's address.
    pub(crate) target: SocketAddr,
    /// Time since the connection to the target was begun.
    pub(crate) age: Duration,
    /// Time since the last payload in either direction.
    pub(crate) idle: Duration,
    /// A FIN or RST has been seen.
    pub(crate) closing: bool,
    /// Payload bytes client to target, by the kernel alone.
    pub(crate) bytes_in: u64,
    /// Payload bytes target to client, by the kernel alone.
    pub(crate) bytes_out: u64,
    /// Packets client to target.
    pub(crate) packets_in: u64,
    /// Packets target to client.
    pub(crate) packets_out: u64,
    /// The hook that carries it.
    pub(crate) path: Path,
}

impl FlowInfo {
    /// What the daemon noted before the target was dialled.
    pub(crate) fn note(&self) -> u8 {
        (self.id & NOTE) as u8
    }
}

/// The lowest bits of an id are a note; above them is a counter.
pub(super) const NOTE_BITS: u32 = 4;
pub(super) const NOTE: u64 = (1 << NOTE_BITS) - 1;

/// What the data plane tells the daemon.
#[derive(Debug)]
pub(crate) enum Event {
    /// A flow has ended and left the table; its last figures.
    Ended {
        /// The flow.
        flow: FlowInfo,
        /// Why it ended.
        cause: EndCause,
    },
    /// A target that has flows is lost. Told once, until it is heard of again.
    TargetLost {
        /// The label of its target group.
        target_group: u32,
        /// Its address.
        target: SocketAddr,
        /// How that shows.
        loss: Loss,
    },
}

/// How a target's loss shows. Both with no packet from it, on any of its flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// What clients send is not acknowledged.
    Unanswered,
    /// Connects fail.
    Unreachable,
}

/// Why a flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndCause {
    /// Both sides closed in order.
    Closed,
    /// A side reset it.
    Reset,
    /// No payload for the idle timeout.
    Idle,
    /// An operator asked for it.
    Asked,
    /// Its target's drain came to its deadline.
    Drained,
    /// The daemon ends, and its flows were to end with it.
    Shutdown,
    /// Its target is lost.
    TargetLost,
}

/// Result of one attempt to hand a connection to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handoff {
    /// The kernel carries it; both sockets must be dropped now.
    Committed,
    /// Not at this moment; ask again at the next quiet one.
    NotNow(Refusal),
    /// This connection stays in userspace.
    Never(Refusal),
}

/// Per interface: what is attached and why.
#[derive(Debug, Clone)]
pub(crate) struct InterfaceStatus {
    /// Interface name.
    pub(crate) name: String,
    /// What carries packets there.
    pub(crate) path: Path,
    /// Why that one.
    pub(crate) reason: String,
}

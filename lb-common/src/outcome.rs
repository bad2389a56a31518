//! What the program did with a packet; each is counted, by side.

/// The decision on one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    /// Not TCP, or nothing the program looks into.
    Other = 0,
    /// TCP of no flow.
    NoFlow,
    /// Of an observed flow: recorded, given to the stack.
    Observed,
    /// Rewritten and sent on.
    Forwarded,
    /// A committed flow's packet that XDP leaves to TC (next hop not known).
    Deferred,
    /// SYN on a live flow, answered with a challenge ACK.
    Challenged,
    /// Fragment of a live flow, dropped.
    Fragment,
    /// IPv4 options or IPv6 extension headers on a live flow, dropped.
    Headers,
    /// Truncated or contradictory TCP header on a live flow, dropped.
    Malformed,
    /// TTL or hop limit used up, dropped.
    Expired,
    /// Packet of a flow that the daemon has ended, dropped.
    Ended,
    /// A reset of the host's own stack about a live flow, dropped.
    Guarded,
    /// The balancer's own SYN to a target, made to ask for what the client's leg has.
    Matched,
    /// ICMP "too big" about a live flow, translated for the end whose packet it was.
    TooBig,
    /// Another ICMP error about a live flow, translated likewise.
    Unreachable,
    /// ICMP error whose quoted packet the flow has not sent lately, dropped.
    Doubted,
    /// Longer than its way out takes, answered with ICMP "too big".
    Narrow,
    /// The routing table forbids its destination, dropped.
    Unroutable,
    /// SYN from a source that the listener does not let in, dropped.
    Denied,
    /// SYN from a source that comes too often, dropped.
    Limited,
}

impl Outcome {
    /// All, in the order of their numbers.
    pub const ALL: [Outcome; 20] = [
        Outcome::Other,
        Outcome::NoFlow,
        Outcome::Observed,
        Outcome::Forwarded,
        Outcome::Deferred,
        Outcome::Challenged,
        Outcome::Fragment,
        Outcome::Headers,
        Outcome::Malformed,
        Outcome::Expired,
        Outcome::Ended,
        Outcome::Guarded,
        Outcome::Matched,
        Outcome::TooBig,
        Outcome::Unreachable,
        Outcome::Doubted,
        Outcome::Narrow,
        Outcome::Unroutable,
        Outcome::Denied,
        Outcome::Limited,
    ];

    /// The metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Other => "other",
            Outcome::NoFlow => "no_flow",
            Outcome::Observed => "observed",
            Outcome::Forwarded => "forwarded",
            Outcome::Deferred => "deferred",
            Outcome::Challenged => "challenged",
            Outcome::Fragment => "fragment",
            Outcome::Headers => "headers",
            Outcome::Malformed => "malformed",
            Outcome::Expired => "expired",
            Outcome::Ended => "ended",
            Outcome::Guarded => "guarded",
            Outcome::Matched => "matched",
            Outcome::TooBig => "too_big",
            Outcome::Unreachable => "unreachable",
            Outcome::Doubted => "doubted",
            Outcome::Narrow => "narrow",
            Outcome::Unroutable => "unroutable",
            Outcome::Denied => "denied",
            Outcome::Limited => "limited",
        }
    }
}

/// Where a packet was going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// Of no flow.
    None = 0,
    /// From a client.
    ClientToTarget = 1,
    /// From a target.
    TargetToClient = 2,
}

impl Direction {
    /// All, in the order of their numbers.
    pub const ALL: [Direction; 3] = [
        Direction::None,
        Direction::ClientToTarget,
        Direction::TargetToClient,
    ];

    /// The metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::None => "none",
            Direction::ClientToTarget => "client_to_target",
            Direction::TargetToClient => "target_to_client",
        }
    }
}

impl From<crate::flow::Side> for Direction {
    #[inline(always)]
    fn from(side: crate::flow::Side) -> Self {
        match side {
            crate::flow::Side::Client => Direction::ClientToTarget,
            crate::flow::Side::Target => Direction::TargetToClient,
        }
    }
}

/// Entries in the per-CPU counter array.
pub const COUNTERS: u32 = (Outcome::ALL.len() * Direction::ALL.len()) as u32;

/// Index of a counter.
#[inline(always)]
pub const fn counter(direction: Direction, outcome: Outcome) -> u32 {
    direction as u32 * Outcome::ALL.len() as u32 + outcome as u32
}

//! The state word: the one atomic value that decides whether a flow is still
//! observing or committed.
//!
//! ```text
//! 63         62 .. 48   47 .. 0
//! committed  flags      data-bearing packets passed to the stack
//! ```
//! While observing, every packet that carries data, SYN, FIN or RST adds one
//! ([`PACKET`]) and every new fact ors a flag. The daemon commits by comparing
//! and swapping the value it read *before* it looked at the sockets, so a
//! packet that came in between makes the swap fail and the flow stays as it was.

/// The kernel forwards this flow.
pub const COMMITTED: u64 = 1 << 63;
/// The daemon has ended the flow: packets are dropped, its own resets may leave.
pub const ENDED: u64 = 1 << 62;
/// The records are not to be trusted: two processors raced on one, or data passed to
/// the stack in a form the program does not follow.
pub const UNTRACKED: u64 = 1 << 61;
/// The target's FIN did not answer one of the client, so the target keeps the
/// connection in TIME_WAIT (RFC 9293 section 3.6).
pub const TARGET_WAITS: u64 = 1 << 58;
/// The flow was over and its client has begun a new connection with the same key:
/// the client's packets are the stack's from here on.
pub const REUSED: u64 = 1 << 59;
/// One data-bearing packet.
pub const PACKET: u64 = 1;

/// Flags of the client's half; the target's are [`TARGET_SHIFT`] higher.
pub const SEEN: u64 = 1 << 48;
/// A timestamp option was recorded.
pub const STAMPED: u64 = 1 << 49;
/// A FIN passed.
pub const FIN: u64 = 1 << 50;
/// A RST passed that its receiver will accept.
pub const RST: u64 = 1 << 51;
/// Distance from a client flag to the same flag of the target.
pub const TARGET_SHIFT: u32 = 6;

/// `flag` as it is kept for packets that come from the given side.
#[inline(always)]
pub const fn of(side: crate::flow::Side, flag: u64) -> u64 {
    match side {
        crate::flow::Side::Client => flag,
        crate::flow::Side::Target => flag << TARGET_SHIFT,
    }
}

/// Whether any FIN or RST has been seen from either side.
#[inline(always)]
pub const fn closing(word: u64) -> bool {
    word & (FIN | RST | (FIN | RST) << TARGET_SHIFT) != 0
}

/// Whether the end is near: both sides have sent their FIN, or one a reset.
#[inline(always)]
pub const fn finishing(word: u64) -> bool {
    let fins = FIN | FIN << TARGET_SHIFT;
    word & (RST | RST << TARGET_SHIFT) != 0 || word & fins == fins
}

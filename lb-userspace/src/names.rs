//! The words for the data plane's enums, the same in the admin API, in metrics
//! and in the log.

use crate::dataplane::{EndCause, Loss, Path, Refusal};

/// Why a connection is not in the kernel.
pub(crate) fn refusal(reason: Refusal) -> &'static str {
    match reason {
        Refusal::Pending => "pending",
        Refusal::Tls => "tls",
        Refusal::Http2 => "http2",
        Refusal::Local => "local",
        Refusal::Options => "options",
        Refusal::Unobserved => "unobserved",
        Refusal::Window => "window",
        Refusal::Family => "family",
        Refusal::Mtu => "mtu",
        Refusal::Busy => "busy",
        Refusal::Ports => "ports",
        Refusal::TableFull => "table_full",
        Refusal::Off => "off",
        Refusal::Error => "error",
    }
}

/// What carries a connection, or is attached to an interface.
pub(crate) fn path(path: Path) -> &'static str {
    match path {
        Path::Xdp => "xdp",
        Path::Tc => "tc",
        Path::Userspace => "userspace",
    }
}

/// Why a flow ended.
pub(crate) fn end_cause(cause: EndCause) -> &'static str {
    match cause {
        EndCause::Closed => "closed",
        EndCause::Reset => "reset",
        EndCause::Idle => "idle",
        EndCause::Asked => "ended",
        EndCause::Drained => "drained",
        EndCause::Shutdown => "shutdown",
        EndCause::TargetLost => "target_lost",
    }
}

/// How a target's loss shows.
pub(crate) fn loss(loss: Loss) -> &'static str {
    match loss {
        Loss::Unanswered => "no packet from it, and what clients send goes unanswered",
        Loss::Unreachable => "no packet from it, and connects fail",
    }
}

//! Why a target is not well.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// What went wrong, as the admin API and the log say it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Failure {
    #[error("connections are refused")]
    Refused,
    #[error("it cannot be reached ({0})")]
    Unreachable(io::ErrorKind),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("connections to it are not accepted in time")]
    ConnectTimeout,
    #[error("the health check was answered with {0}")]
    Code(u16),
    #[error("the answer to the health check was malformed or cut short")]
    Malformed,
    #[error("TLS with it failed: {0}")]
    Tls(String),
    #[error("the WebSocket handshake was refused")]
    NoUpgrade,
    #[error("a WebSocket was opened, and its ping not answered")]
    NoPong,
    #[error("it does not understand the PROXY protocol: it is well only without that header")]
    NoProxyProtocol,
}

impl Failure {
    /// The label of `health_checks_total`.
    pub(crate) fn result(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::Timeout(_) | Self::ConnectTimeout => "timeout",
            Self::Code(_) => "code",
            Self::Malformed => "malformed",
            Self::Tls(_) => "tls",
            Self::NoUpgrade => "no_upgrade",
            Self::NoPong => "no_pong",
            Self::NoProxyProtocol => "no_proxy_protocol",
        }
    }

    /// The target was reached, and said or did the wrong thing.
    pub(super) fn is_an_answer(&self) -> bool {
        match self {
            Self::Code(_) | Self::Malformed | Self::Tls(_) | Self::NoUpgrade | Self::NoPong => true,
            Self::Refused
            | Self::Unreachable(_)
            | Self::Timeout(_)
            | Self::ConnectTimeout
            | Self::NoProxyProtocol => false,
        }
    }

    /// It is no matter of chance: trying again would change nothing.
    pub(super) fn is_certain(&self) -> bool {
        *self == Self::NoProxyProtocol
    }

    /// What a failed connect says of the target; `None` when this host itself had
    /// no descriptor, port or right to connect with.
    pub(crate) fn of_connect(kind: io::ErrorKind) -> Option<Self> {
        use io::ErrorKind::{
            ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut,
        };
        match kind {
            ConnectionRefused => Some(Self::Refused),
            TimedOut => Some(Self::ConnectTimeout),
            ConnectionReset | HostUnreachable | NetworkUnreachable => Some(Self::Unreachable(kind)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_lack_is_not_the_targets_fault() {
        let of = |errno| Failure::of_connect(io::Error::from_raw_os_error(errno).kind());
        assert_eq!(of(libc::ECONNREFUSED), Some(Failure::Refused));
        assert_eq!(of(libc::ETIMEDOUT), Some(Failure::ConnectTimeout));
        assert!(of(libc::EHOSTUNREACH).is_some());
        for errno in [libc::EMFILE, libc::EADDRNOTAVAIL, libc::EPERM, libc::ENOMEM] {
            assert_eq!(of(errno), None, "{errno}");
        }
    }
}

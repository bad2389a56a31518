//! Stickiness: which target a request belongs to, and what an answer leaves behind so
//! that the next one does too. One file for each mode. No I/O, no clock.

mod app_cookie;
mod carried_id;
mod handshake;
mod lb_cookie;
mod source_ip;

use http::{HeaderMap, Response, request};

use self::app_cookie::AppCookie;
use self::carried_id::CarriedId;
pub(super) use self::handshake::Ear;
pub(crate) use self::lb_cookie::LbCookie;
use super::last_seal::LastSeal;
use super::route::Route;
use super::seal::{Keyring, Nonce, Payload};
use crate::config::{self, Protocol, StickinessMode};
use crate::target::Snapshot;

/// What became of the client's wish to come back; the label of `stickiness_total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There was none.
    #[default]
    None,
    /// Followed.
    Valid,
    /// Tampered with, sealed for something else, or an id nobody has answered with.
    Invalid,
    /// Older than the stickiness duration.
    Expired,
    /// Its target could not be connected to.
    Down,
    /// Its target is not registered any more, or drains and gives up its clients.
    Unused,
}

impl Verdict {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Down => "down",
            Self::Unused => "unused",
        }
    }
}

/// Stickiness of one target group.
#[derive(Debug)]
pub(crate) struct Stickiness {
    mode: Mode,
    moves_while_draining: bool,
}

#[derive(Debug)]
enum Mode {
    LbCookie(LbCookie),
    AppCookie(AppCookie),
    SourceIp,
    CarriedId(CarriedId),
}

/// What a request is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) head: &'a request::Parts,
    pub(super) source: std::net::IpAddr,
    /// Of the same connection.
    pub(super) last_seal: &'a LastSeal,
    pub(super) route: &'a Route,
    pub(super) targets: &'a Snapshot,
    /// Seconds since 1970.
    pub(super) now: u64,
}

/// What a request says of its session.
#[derive(Debug, Default)]
pub(super) struct Claim {
    pub(super) verdict: Verdict,
    /// The target it belongs to, if there is one to follow.
    pub(super) target: Option<u64>,
    /// The seal is to be renewed with the answer.
    renews: bool,
    /// The application's session that it is part of.
    session: Option<Session>,
}

/// How an application knows a session.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Session {
    /// By a cookie of its own, which the request has.
    Cookie,
    /// By this id.
    Id(Vec<u8>),
}

/// Who has answered, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered<'a> {
    pub(super) route: &'a Route,
    pub(super) target: u64,
    /// Seconds since 1970.
    pub(super) now: u64,
    /// Randomness for a seal; `None` if the system has none.
    pub(super) nonce: fn() -> Option<Nonce>,
}

impl Stickiness {
    /// For the clients of one listener.
    pub(crate) fn new(config: &config::Stickiness, protocol: Protocol, keys: Keyring) -> Self {
        let own = |keys| LbCookie::new(config, protocol, keys);
        let mode = match &config.mode {
            StickinessMode::LbCookie => Mode::LbCookie(own(keys)),
            StickinessMode::AppCookie(name) => {
                Mode::AppCookie(AppCookie::new(name.clone(), own(keys)))
            }
            StickinessMode::SourceIp => Mode::SourceIp,
            StickinessMode::Header(name) => Mode::CarriedId(CarriedId::Header(name.clone())),
            StickinessMode::Query(key) => Mode::CarriedId(CarriedId::Query(key.clone())),
        };
        Self {
            mode,
            moves_while_draining: config.moves_while_draining,
        }
    }

    /// Whether a draining target's clients are balanced anew.
    pub(super) fn moves_while_draining(&self) -> bool {
        self.moves_while_draining
    }

    /// Whether clients are known by their address, so that those who cannot go to
    /// their target share another one by the same rule.
    pub(super) fn is_by_source(&self) -> bool {
        matches!(self.mode, Mode::SourceIp)
    }

    /// What the request says.
    pub(super) fn read(&self, asked: Asked<'_>) -> Claim {
        match &self.mode {
            Mode::LbCookie(cookie) => {
                let (headers, group) = (&asked.head.headers, asked.route.group.id);
                let (verdict, target) = cookie.read(headers, asked.last_seal, group, asked.now);
                Claim {
                    verdict,
                    target,
                    ..Claim::default()
                }
            }
            Mode::AppCookie(cookie) => cookie.read(asked),
            Mode::SourceIp => source_ip::read(asked),
            Mode::CarriedId(place) => place.read(asked),
        }
    }

    /// Hides from targets what is ours alone.
    pub(super) fn hide(&self, headers: &mut HeaderMap) {
        match &self.mode {
            Mode::LbCookie(cookie) => cookie.hide(headers),
            Mode::AppCookie(cookie) => cookie.hide(headers),
            Mode::SourceIp | Mode::CarriedId(_) => {}
        }
    }

    /// Leaves behind what brings the client back: on the answer, or in the memory of
    /// the group. The claim's target has answered only if it still names one.
    pub(super) fn mark<T>(&self, claim: &Claim, by: Answered<'_>, answer: &mut Response<T>) {
        match &self.mode {
            Mode::LbCookie(cookie) if claim.target.is_none() => {
                cookie.set(by, answer.headers_mut());
            }
            Mode::LbCookie(_) | Mode::SourceIp => {}
            Mode::AppCookie(cookie) => cookie.mark(claim, by, answer.headers_mut()),
            Mode::CarriedId(place) => place.mark(claim, by, answer),
        }
    }

    /// What listens to the answer's body for the id of a session that begins with it.
    pub(super) fn ear<T>(
        &self,
        claim: &Claim,
        by: Answered<'_>,
        answer: &Response<T>,
    ) -> Option<Ear> {
        match &self.mode {
            Mode::CarriedId(CarriedId::Query(key)) if claim.session.is_none() => {
                handshake::may_begin(answer)
                    .then(|| Ear::new(key.clone(), by.route.group.clone(), by.target, by.now))
            }
            Mode::CarriedId(_) | Mode::LbCookie(_) | Mode::AppCookie(_) | Mode::SourceIp => None,
        }
    }
}

impl Answered<'_> {
    /// What a cookie for the one who has answered says.
    fn payload(self) -> Payload {
        Payload {
            target: self.target,
            group: self.route.group.id,
            created: self.now,
        }
    }
}

#[cfg(test)]
mod tests;

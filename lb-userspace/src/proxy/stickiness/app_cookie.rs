//! `app_cookie`: a session begins when the application sets its cookie, and ends with
//! that. The balancer's own cookie beside it says the target, and counts only in a
//! request that has the application's too: whatever lifetime that was given, and
//! whoever deletes it, ours ends with it.

use http::header::{HeaderMap, SET_COOKIE};

use super::super::cookie;
use super::lb_cookie::{LbCookie, Opened};
use super::{Answered, Asked, Claim, Session, Verdict};

/// Both cookies of one target group.
#[derive(Debug)]
pub(super) struct AppCookie {
    /// The application's.
    name: String,
    own: LbCookie,
}

impl AppCookie {
    pub(super) fn new(name: String, own: LbCookie) -> Self {
        Self { name, own }
    }

    pub(super) fn read(&self, asked: Asked<'_>) -> Claim {
        let headers = &asked.head.headers;
        if cookie::values(headers, &self.name).next().is_none() {
            return Claim::default();
        }
        let session = Some(Session::Cookie);
        match self
            .own
            .open(headers, asked.last_seal, asked.route.group.id, asked.now)
        {
            Ok(Opened { target, is_aging }) => Claim {
                verdict: Verdict::Valid,
                target: Some(target),
                renews: is_aging,
                session,
            },
            Err(verdict) => Claim {
                verdict,
                session,
                ..Claim::default()
            },
        }
    }

    pub(super) fn hide(&self, headers: &mut HeaderMap) {
        self.own.hide(headers);
    }

    /// Ours goes out when a session begins or moves, and again when half of its time
    /// is over: a session may last longer than one seal.
    pub(super) fn mark(&self, claim: &Claim, by: Answered<'_>, headers: &mut HeaderMap) {
        let is_session = claim.session.is_some() || self.begins(headers);
        if is_session && (claim.target.is_none() || claim.renews) {
            self.own.set(by, headers);
        }
    }

    /// Whether the answer sets the application's cookie.
    fn begins(&self, headers: &HeaderMap) -> bool {
        let mut set = headers.get_all(SET_COOKIE).iter();
        set.any(|value| {
            let name = value.as_bytes().split(|byte| *byte == b'=').next();
            name.is_some_and(|name| name.trim_ascii() == self.name.as_bytes())
        })
    }
}

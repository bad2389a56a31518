//! `header` and `query`: clients without a cookie jar carry the application's own id
//! of their session. The balancer remembers which target has answered with which id
//! (`target/ids`); it cannot tell from the id alone.

use std::borrow::Cow;

use http::header::HeaderName;
use http::{Response, request};
use percent_encoding::percent_decode_str;

use super::{Answered, Asked, Claim, Session, Verdict};
use crate::target::Known;

/// Longer ones are not remembered; ids of sessions are below a hundred bytes.
const LONGEST: usize = 1024;

/// Where the id stands.
#[derive(Debug)]
pub(super) enum CarriedId {
    /// In this header of requests, and of the answer that begins a session.
    Header(HeaderName),
    /// Under this key of the query, and in the handshake that begins a session.
    Query(String),
}

impl CarriedId {
    pub(super) fn read(&self, asked: Asked<'_>) -> Claim {
        let Some(id) = self.find(asked.head) else {
            return Claim::default();
        };
        let (verdict, target) = match asked.route.group.ids().find(&id, asked.now) {
            Known::Of(target) => (Verdict::Valid, Some(target)),
            Known::Expired => (Verdict::Expired, None),
            Known::Never => (Verdict::Invalid, None),
        };
        Claim {
            verdict,
            target,
            renews: false,
            session: Some(Session::Id(id.into_owned())),
        }
    }

    /// Remembers the id that the answer names, and the request's where it was followed
    /// or accepted: a session that was moved, or that began with another balancer.
    pub(super) fn mark<T>(&self, claim: &Claim, by: Answered<'_>, answer: &Response<T>) {
        let learn = |id: &[u8]| {
            let ids = by.route.group.ids();
            ids.learn(id, by.target, by.now);
        };
        if let Self::Header(name) = self
            && let Some(value) = answer.headers().get(name)
            && is_id(value.as_bytes())
        {
            learn(value.as_bytes());
        }
        let refused = answer.status().is_client_error() || answer.status().is_server_error();
        if let Some(Session::Id(id)) = &claim.session
            && claim.target.is_none()
            && !refused
        {
            learn(id);
        }
    }

    fn find<'a>(&self, head: &'a request::Parts) -> Option<Cow<'a, [u8]>> {
        let id: Cow<'a, [u8]> = match self {
            Self::Header(name) => head.headers.get(name)?.as_bytes().into(),
            Self::Query(key) => {
                let mut pairs = head.uri.query()?.split('&');
                let value = pairs.find_map(|pair| {
                    let (name, value) = pair.split_once('=')?;
                    (name == key).then_some(value)
                })?;
                percent_decode_str(value).into()
            }
        };
        is_id(&id).then_some(id)
    }
}

fn is_id(id: &[u8]) -> bool {
    (1..=LONGEST).contains(&id.len())
}

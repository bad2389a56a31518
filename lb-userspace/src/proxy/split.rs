//! Requests divided among target groups by weight, and clients that stay in the
//! group they were given first.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::HeaderValue;

use super::last_seal::LastSeal;
use super::route::Route;
use super::seal::{Keyring, Payload};
use super::session::{nonce, now};
use super::stickiness::LbCookie;
use crate::balance::RoundRobin;
use crate::config::{self, Protocol, SameSite, Secret, StickinessMode};
use crate::id;

/// The target groups of one action.
#[derive(Debug)]
pub(crate) struct Split {
    /// At least one; a weight of zero takes no turn.
    routes: Vec<(Arc<Route>, u32)>,
    balance: RoundRobin,
    /// `None`: every request is divided anew.
    cookie: Option<GroupCookie>,
}

/// The cookie that says which group a client was given.
#[derive(Debug)]
struct GroupCookie {
    /// Seals a group where the balancer's other cookies have a target.
    sealed: LbCookie,
    /// Hash of the names of all groups: what the cookie is valid for.
    set: u64,
}

impl Split {
    pub(super) fn new(routes: Vec<(Arc<Route>, u32)>) -> Self {
        let balance = RoundRobin::new(routes.iter().map(|(_, weight)| *weight).collect());
        Self {
            routes,
            balance,
            cookie: None,
        }
    }

    /// Keeps clients in their group for `duration`.
    pub(super) fn keeping(
        mut self,
        duration: Duration,
        protocol: Protocol,
        secrets: &[Secret],
    ) -> Self {
        let mut names: Vec<&str> = self
            .routes
            .iter()
            .map(|(route, _)| route.group.name.as_str())
            .collect();
        names.sort_unstable();
        // No name contains the separator.
        let set = id::name_id(&names.join("\n"));
        let config = config::Stickiness {
            mode: StickinessMode::LbCookie,
            // Its own name, so that the divisions of a listener do not overwrite
            // each other's.
            cookie: format!("LIMPET-GROUP-{:08x}", id::flow_label(set)),
            same_site: SameSite::Lax,
            domain: String::new(),
            duration,
            moves_while_draining: false,
            secrets: Vec::new(),
        };
        let sealed = LbCookie::new(&config, protocol, Keyring::new(secrets));
        self.cookie = Some(GroupCookie { sealed, set });
        self
    }

    /// The group for a request, and the cookie that keeps its client there if it
    /// has none. `None` only where no group has a weight.
    pub(super) fn choose(
        &self,
        headers: &mut HeaderMap,
    ) -> Option<(&Arc<Route>, Option<HeaderValue>)> {
        let Some(cookie) = &self.cookie else {
            return Some((self.turn()?, None));
        };
        let (_, kept) = cookie
            .sealed
            .read(headers, &LastSeal::default(), cookie.set, now());
        cookie.sealed.hide(headers);
        if let Some(route) = kept.and_then(|id| self.find(id)) {
            return Some((route, None));
        }
        let route = self.turn()?;
        Some((route, cookie.issue(route.group.id)))
    }

    fn turn(&self) -> Option<&Arc<Route>> {
        let index = self.balance.next(|_| true)?;
        self.routes.get(index).map(|(route, _)| route)
    }

    /// A group that still takes requests.
    fn find(&self, id: u64) -> Option<&Arc<Route>> {
        self.routes
            .iter()
            .find(|(route, weight)| route.group.id == id && *weight > 0)
            .map(|(route, _)| route)
    }
}

impl GroupCookie {
    fn issue(&self, group: u64) -> Option<HeaderValue> {
        let payload = Payload {
            target: group,
            group: self.set,
            created: now(),
        };
        self.sealed.issue(&payload, &nonce()?)
    }
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;
    use crate::events::Events;
    use crate::target::Group;

    fn route(name: &str) -> Arc<Route> {
        Arc::new(Route {
            group: Arc::new(Group::new(
                &config::TargetGroup::with_defaults(name),
                Events::default(),
            )),
            stickiness: None,
        })
    }

    fn split(weights: [u32; 2]) -> Split {
        let secret = Secret::new(vec![1; 16]).expect("long enough");
        let [a, b] = weights;
        Split::new(vec![(route("a"), a), (route("b"), b)]).keeping(
            Duration::from_secs(60),
            Protocol::Http,
            &[secret],
        )
    }

    fn choose(split: &Split, cookie: Option<&str>) -> (String, Option<String>, bool) {
        let mut headers = HeaderMap::new();
        if let Some(cookie) = cookie {
            headers.insert(COOKIE, cookie.parse().expect("a header value"));
        }
        let (route, cookie) = split.choose(&mut headers).expect("a group");
        let pair = cookie.map(|cookie| {
            let text = cookie.to_str().expect("text");
            text.split(';').next().expect("a pair").to_owned()
        });
        (route.group.name.clone(), pair, headers.contains_key(COOKIE))
    }

    #[test]
    fn shares_follow_the_weights() {
        let split = Split::new(vec![(route("a"), 3), (route("b"), 1)]);
        let chosen: Vec<String> = (0..4).map(|_| choose(&split, None).0).collect();
        assert_eq!(chosen.iter().filter(|name| *name == "a").count(), 3);
    }

    #[test]
    fn a_client_stays_in_its_group_while_that_takes_requests() {
        let even = split([1, 1]);
        let (first, cookie, _) = choose(&even, None);
        let cookie = cookie.expect("a cookie");
        for _ in 0..4 {
            let (group, again, shown) = choose(&even, Some(&cookie));
            assert_eq!((group, again, shown), (first.clone(), None, false));
        }
        let (name, value) = cookie.split_once('=').expect("a pair");
        // Another first letter, whichever it is.
        let other = if value.starts_with('x') { 'y' } else { 'x' };
        let forged = format!("{name}={other}{}", &value[1..]);
        assert!(choose(&even, Some(&forged)).1.is_some());
        let closed = if first == "a" { [0, 1] } else { [1, 0] };
        let (group, again, _) = choose(&split(closed), Some(&cookie));
        assert_ne!(group, first);
        assert!(again.is_some());
    }
}

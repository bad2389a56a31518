//! What a listener does with each request: the first rule whose condition is met
//! decides, else the listener's own action.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::request;

use super::condition;
use super::route::Route;
use super::seal::Keyring;
use super::split::Split;
use super::stickiness::Stickiness;
use crate::config::{self, Condition, Fixed, Listener, Redirect, Secret};
use crate::id;
use crate::target::Group;

/// Target groups by name, with what keeps their clients.
pub(crate) type Groups = HashMap<String, (Arc<Group>, Option<config::Stickiness>)>;

/// The rules of one listener.
#[derive(Debug)]
pub(crate) struct Rules {
    rules: Vec<(Condition, Action)>,
    otherwise: Action,
}

/// What is done with a request.
#[derive(Debug)]
pub(super) enum Action {
    Forward(Split),
    Redirect(Redirect),
    Fixed(Fixed),
}

impl Rules {
    /// `secrets` seal the cookies of divisions whose groups have none. `None` if
    /// a group is missing, which the configuration has made sure of.
    pub(crate) fn new(listener: &Listener, groups: &Groups, secrets: &[Secret]) -> Option<Self> {
        let mut builder = Builder {
            listener,
            groups,
            secrets,
            routes: HashMap::new(),
        };
        // First, because the cookie name of its group is the one that is kept.
        let otherwise = builder.action(&listener.action)?;
        let rules = listener
            .rules
            .iter()
            .map(|rule| Some((rule.when.clone(), builder.action(&rule.action)?)))
            .collect::<Option<_>>()?;
        Some(Self { rules, otherwise })
    }

    /// What is done with this request.
    pub(super) fn choose(&self, head: &request::Parts, client: IpAddr) -> &Action {
        self.rules
            .iter()
            .find(|(when, _)| condition::meets(head, client, when))
            .map_or(&self.otherwise, |(_, action)| action)
    }
}

struct Builder<'a> {
    listener: &'a Listener,
    groups: &'a Groups,
    secrets: &'a [Secret],
    /// One route for all rules that lead to a group.
    routes: HashMap<String, Arc<Route>>,
}

impl Builder<'_> {
    fn action(&mut self, action: &config::Action) -> Option<Action> {
        Some(match action {
            config::Action::Forward(forward) => Action::Forward(self.split(forward)?),
            config::Action::Redirect(redirect) => Action::Redirect(redirect.clone()),
            config::Action::Fixed(fixed) => Action::Fixed(fixed.clone()),
        })
    }

    fn split(&mut self, forward: &config::Forward) -> Option<Split> {
        let routes = forward
            .groups
            .iter()
            .map(|item| Some((self.route(&item.target_group)?, item.weight)))
            .collect::<Option<Vec<_>>>()?;
        let split = Split::new(routes);
        Some(match forward.stickiness {
            None => split,
            Some(time) => split.keeping(time, self.listener.protocol, self.secrets_of(forward)),
        })
    }

    /// The secrets of the first of the groups that has some: what other balancers
    /// with the same configuration have too.
    fn secrets_of(&self, forward: &config::Forward) -> &[Secret] {
        forward
            .groups
            .iter()
            .filter_map(|item| self.groups.get(&item.target_group)?.1.as_ref())
            .map(|stickiness| stickiness.secrets.as_slice())
            .find(|secrets| !secrets.is_empty())
            .unwrap_or(self.secrets)
    }

    fn route(&mut self, name: &str) -> Option<Arc<Route>> {
        if let Some(route) = self.routes.get(name) {
            return Some(route.clone());
        }
        let (group, stickiness) = self.groups.get(name)?;
        let stickiness = stickiness.as_ref().map(|config| {
            let keys = Keyring::new(&config.secrets);
            let mut config = config.clone();
            config.cookie = self.cookie_name(name, config.cookie);
            Stickiness::new(&config, self.listener.protocol, keys)
        });
        let route = Arc::new(Route {
            group: group.clone(),
            stickiness,
        });
        self.routes.insert(name.to_owned(), route.clone());
        Some(route)
    }

    /// A browser keeps one cookie of a name: groups of a listener that share a
    /// name would overwrite each other's. The first keeps it as it is.
    fn cookie_name(&self, group: &str, cookie: String) -> String {
        let shared = self.routes.keys().any(|other| {
            let other = self.groups.get(other).and_then(|(_, other)| other.as_ref());
            other.is_some_and(|other| other.cookie == cookie)
        });
        match shared {
            true => format!("{cookie}-{:08x}", id::flow_label(id::name_id(group))),
            false => cookie,
        }
    }
}

//! `[[listener]]`: where clients arrive and what is done with them.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::action::{Action, Forward, Weighted};
use super::error_pages::{self, ErrorPages};
use super::limits::positive;
use super::reader::Section;
use super::rule::{Condition, Rule};
use super::{
    TargetGroup, TargetProtocol, action, certificates, checked_name, client_certificates, defaults,
    door, rule,
};
use crate::door::Admission;
use crate::tls::{self, Asked, Clients, Pair};

/// `[[listener]]`.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) name: String,
    pub(crate) binds: Vec<SocketAddr>,
    pub(crate) protocol: Protocol,
    /// The first is the default; there is one if the protocol is https.
    pub(crate) certificates: Vec<Pair>,
    /// Whether clients must have one; `None`: nobody is asked.
    pub(crate) client_certificates: Option<Clients>,
    /// Whether clients of https may speak HTTP/2.
    pub(crate) http2: bool,
    /// The first whose condition is met decides.
    pub(crate) rules: Vec<Rule>,
    /// What is done with a request that meets no rule's condition.
    pub(crate) action: Action,
    /// What is said in place of the balancer's own words.
    pub(crate) error_pages: ErrorPages,
    /// How long an HTTP connection may be without a byte.
    pub(crate) idle_timeout: Duration,
    /// How long an upgraded connection may be without payload.
    pub(crate) websocket_idle_timeout: Duration,
    pub(crate) x_forwarded_for: ForwardedFor,
    /// `proxy_protocol.accept_from`: who must begin with the PROXY protocol's header,
    /// and is believed; others are refused. Empty: nobody.
    pub(crate) proxies: Vec<IpNet>,
    /// The largest TCP segment announced to clients; `None`: what the route allows.
    pub(crate) mss: Option<u16>,
    /// Clients' connections at a time; 0: no limit but the daemon's.
    pub(crate) max_connections: u32,
    /// Who may connect.
    pub(crate) admission: Admission,
}

impl Listener {
    /// Whether some action keeps clients in the group they were given.
    pub(crate) fn keeps_groups(&self) -> bool {
        let rules = self.rules.iter().map(|rule| &rule.action);
        rules
            .chain([&self.action])
            .any(|action| matches!(action, Action::Forward(to) if to.stickiness.is_some()))
    }

    /// What may be chosen in a TLS handshake, the best first.
    pub(crate) fn alpn(&self) -> &'static [&'static str] {
        match (self.protocol.is_http(), self.http2) {
            (true, true) => &[tls::HTTP2, tls::HTTP1],
            (true, false) => &[tls::HTTP1],
            (false, _) => &[],
        }
    }

    /// Whether targets are told the subjects of clients' certificates.
    pub(crate) fn tells_subjects(&self) -> bool {
        let clients = self.client_certificates.as_ref();
        clients.is_some_and(|clients| clients.asked == Asked::Subject)
    }

    /// All target groups that its actions lead to, each once.
    pub(crate) fn target_groups(&self) -> BTreeSet<&str> {
        let rules = self.rules.iter().map(|rule| &rule.action);
        rules
            .chain([&self.action])
            .filter_map(|action| match action {
                Action::Forward(to) => Some(to),
                Action::Redirect(_) | Action::Fixed(_) => None,
            })
            .flat_map(|to| to.groups.iter().map(|item| item.target_group.as_str()))
            .collect()
    }

    /// The one target group of its own action, if that has one.
    pub(crate) fn target_group(&self) -> Option<&str> {
        match &self.action {
            Action::Forward(to) => match &to.groups[..] {
                [only] => Some(&only.target_group),
                _ => None,
            },
            Action::Redirect(_) | Action::Fixed(_) => None,
        }
    }
}

/// `listener.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    /// HTTP in TLS.
    Https,
    Tcp,
    /// TLS that ends here, with TCP behind it.
    Tls,
    /// TLS that ends on the target, chosen by the name asked for.
    TlsPassthrough,
}

impl Protocol {
    /// The word of the configuration; of HTTP the scheme of URLs too.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::TlsPassthrough => "tls-passthrough",
        }
    }

    /// The word of the admin API and the access log for what is tunnelled.
    pub(crate) fn tunnel(self) -> &'static str {
        match self {
            Self::Http | Self::Https => "websocket",
            Self::Tcp => "tcp",
            Self::Tls | Self::TlsPassthrough => "tls",
        }
    }

    /// Whether TLS ends here.
    pub(crate) fn ends_tls(self) -> bool {
        match self {
            Self::Https | Self::Tls => true,
            Self::Http | Self::Tcp | Self::TlsPassthrough => false,
        }
    }

    /// Whether requests are seen.
    pub(crate) fn is_http(self) -> bool {
        match self {
            Self::Http | Self::Https => true,
            Self::Tcp | Self::Tls | Self::TlsPassthrough => false,
        }
    }
}

const PROTOCOLS: [(&str, Protocol); 5] = [
    ("http", Protocol::Http),
    ("https", Protocol::Https),
    ("tcp", Protocol::Tcp),
    ("tls", Protocol::Tls),
    ("tls-passthrough", Protocol::TlsPassthrough),
];

/// `listener.x_forwarded_for`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForwardedFor {
    Append,
    /// With `x_forwarded_for_port`: `address:port`, of IPv6 `[address]:port`.
    AppendWithPort,
    Preserve,
    Remove,
}

const FORWARDED_FOR: [(&str, ForwardedFor); 3] = [
    ("append", ForwardedFor::Append),
    ("preserve", ForwardedFor::Preserve),
    ("remove", ForwardedFor::Remove),
];

/// What earlier listeners have taken, and the groups that exist.
pub(super) struct Seen<'a> {
    groups: &'a [TargetGroup],
    /// Of all listeners.
    pages: &'a ErrorPages,
    names: HashSet<String>,
    binds: HashSet<SocketAddr>,
    networks: usize,
}

impl<'a> Seen<'a> {
    pub(super) fn new(groups: &'a [TargetGroup], pages: &'a ErrorPages) -> Self {
        Self {
            groups,
            pages,
            names: HashSet::new(),
            binds: HashSet::new(),
            networks: 0,
        }
    }
}

pub(super) fn read(mut section: Section, seen: &mut Seen<'_>) -> Option<Listener> {
    let name = checked_name(&mut section, &mut seen.names);
    let binds = read_binds(&mut section, &mut seen.binds);
    let protocol = section.choice("protocol", &PROTOCOLS, Protocol::Http);
    let certificates = certificates::read(&mut section, protocol);
    let client_certificates = client_certificates::read(&mut section, protocol);
    let http2 = read_http2(&mut section, protocol);
    let rules = rule::read_all(&mut section, seen.groups);
    let action = action::read(&mut section, seen.groups);
    if !protocol.is_http() {
        if section.has("error_pages") {
            section.problem("error_pages", "are for protocol = \"http\" or \"https\"");
        }
        check_blind(&section, protocol, seen.groups, &rules, action.as_ref());
    }
    let error_pages = error_pages::read(&mut section, seen.pages);
    let idle_timeout = positive(&mut section, "idle_timeout", defaults::IDLE_TIMEOUT);
    let websocket_idle_timeout = positive(
        &mut section,
        "websocket_idle_timeout",
        defaults::WEBSOCKET_IDLE_TIMEOUT,
    );
    let x_forwarded_for = read_forwarded_for(&mut section);
    let proxies = read_proxies(&mut section);
    let mss = read_mss(&mut section);
    let max_connections = section.or("max_connections", 0);
    let admission = door::read(&mut section, &mut seen.networks);
    section.finish();
    Some(Listener {
        name: name?,
        binds: binds?,
        protocol,
        certificates,
        client_certificates,
        http2,
        rules,
        action: action?,
        error_pages,
        idle_timeout,
        websocket_idle_timeout,
        x_forwarded_for,
        proxies,
        mss,
        max_connections,
        admission,
    })
}

fn read_forwarded_for(section: &mut Section) -> ForwardedFor {
    let mode = section.choice("x_forwarded_for", &FORWARDED_FOR, ForwardedFor::Append);
    if !section.or("x_forwarded_for_port", defaults::X_FORWARDED_FOR_PORT) {
        return mode;
    }
    if mode != ForwardedFor::Append {
        section.problem(
            "x_forwarded_for_port",
            "is for x_forwarded_for = \"append\"",
        );
    }
    ForwardedFor::AppendWithPort
}

fn read_http2(section: &mut Section, protocol: Protocol) -> bool {
    if section.has("http2") && protocol != Protocol::Https {
        section.problem("http2", "is for protocol = \"https\"");
    }
    section.or("http2", defaults::HTTP2)
}

/// What every IPv4 host takes (RFC 9293 section 3.7.1), and the most that TCP_MAXSEG
/// can be.
const MSS: std::ops::RangeInclusive<u32> = 536..=32_767;

fn read_mss(section: &mut Section) -> Option<u16> {
    let bytes: u32 = section.or("mss", 0);
    if bytes != 0 && !MSS.contains(&bytes) {
        let (least, most) = (MSS.start(), MSS.end());
        section.problem("mss", format!("must be 0 or {least} to {most} bytes"));
    }
    u16::try_from(bytes).ok().filter(|bytes| *bytes != 0)
}

/// A listener that sees no requests can only forward, by what it does see.
fn check_blind(
    section: &Section,
    protocol: Protocol,
    groups: &[TargetGroup],
    rules: &[Rule],
    action: Option<&Action>,
) {
    let word = protocol.as_str();
    let actions = rules.iter().map(|rule| &rule.action).chain(action);
    for action in actions {
        match action {
            Action::Forward(to) if to.stickiness.is_some() => {
                section.problem("group_stickiness", format!("{word} has no cookies"));
            }
            Action::Forward(to) => check_groups(section, word, groups, to),
            Action::Redirect(_) | Action::Fixed(_) => {
                let message = format!("{word} can only forward");
                section.problem(action.as_str(), message);
            }
        }
    }
    let seen = match protocol {
        Protocol::TlsPassthrough => "host (the name asked for) and source",
        Protocol::Http | Protocol::Https | Protocol::Tcp | Protocol::Tls => "source",
    };
    let named = protocol == Protocol::TlsPassthrough;
    let sees = |when: &Condition| !when.asks_a_request() && (named || when.host.is_empty());
    if rules.iter().any(|rule| !sees(&rule.when)) {
        section.problem("rule", format!("of {word} only {seen} can be compared"));
    }
}

/// Bytes go on as they are, whatever the group's targets would like.
fn check_groups(section: &Section, word: &str, groups: &[TargetGroup], to: &Forward) {
    for Weighted { target_group, .. } in &to.groups {
        let group = groups.iter().find(|group| group.name == *target_group);
        if group.is_some_and(|group| !matches!(group.protocol, TargetProtocol::Http)) {
            let message = format!(
                "{word} forwards bytes as they are; the protocol of {target_group:?} must be http"
            );
            section.problem("target_group", message);
        }
    }
}

fn read_proxies(section: &mut Section) -> Vec<IpNet> {
    let Some(mut section) = section.optional_section("proxy_protocol") else {
        return Vec::new();
    };
    let from: Option<Vec<IpNet>> = section.required("accept_from");
    if from.as_ref().is_some_and(Vec::is_empty) {
        section.problem(
            "accept_from",
            "there must be at least one range of addresses",
        );
    }
    section.finish();
    from.unwrap_or_default()
}

fn read_binds(section: &mut Section, taken: &mut HashSet<SocketAddr>) -> Option<Vec<SocketAddr>> {
    let binds: Vec<SocketAddr> = section.required("bind")?;
    if binds.is_empty() {
        section.problem("bind", "there must be at least one address");
    }
    for bind in &binds {
        // Port 0 is a new port each time, so it never collides.
        if bind.port() != 0 && !taken.insert(*bind) {
            section.problem("bind", format!("{bind} is bound twice"));
        }
    }
    Some(binds)
}

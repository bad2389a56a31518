//! `[[target_group]]`: targets, and what they are to be spared or told.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;

use super::reader::Section;
use super::stickiness::{self, Stickiness, StickinessMode};
use super::target_name::{self, Question, TargetName};
use super::{CheckProtocol, HealthCheck, checked_name, defaults, health_check};
use crate::tls::{self, Trust};

/// `[[target_group]]`.
#[derive(Debug, Clone)]
pub(crate) struct TargetGroup {
    pub(crate) name: String,
    pub(crate) protocol: TargetProtocol,
    pub(crate) algorithm: Algorithm,
    /// How long a target that comes to others takes to its whole share; 0: it has it at
    /// once.
    pub(crate) slow_start: Duration,
    /// Requests and connections that a target may have at a time; 0: any number.
    pub(crate) max_connections: u32,
    /// `None`: every request is balanced anew.
    pub(crate) stickiness: Option<Stickiness>,
    /// How long a deregistered or drained target keeps its sessions; whole seconds.
    pub(crate) deregistration_delay: Duration,
    /// What becomes of a lost target's connections.
    pub(crate) on_unhealthy: OnUnhealthy,
    /// How targets are told who the client is.
    pub(crate) proxy_protocol: ProxyProtocol,
    pub(crate) health_check: HealthCheck,
    pub(crate) targets: Vec<TargetConfig>,
    /// More of them, which DNS knows by these names.
    pub(crate) names: Vec<TargetName>,
}

/// `target_group.protocol`: what targets speak.
#[derive(Debug, Clone)]
pub(crate) enum TargetProtocol {
    Http,
    /// HTTP/1.1 in TLS, as `[target_group.tls]` says.
    Https(tls::Client),
    /// HTTP/2 in the clear, without asking first.
    H2c,
}

impl TargetProtocol {
    /// The word of the configuration.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https(_) => "https",
            Self::H2c => "h2c",
        }
    }
}

/// `target_group.on_unhealthy`: established connections of a target that is lost to
/// connects and packets; a failed health check alone touches none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnUnhealthy {
    /// They wait for it, as TCP does.
    Keep,
    /// They end, so that clients come back to another target.
    End,
}

const ON_UNHEALTHY: [(&str, OnUnhealthy); 2] =
    [("keep", OnUnhealthy::Keep), ("end", OnUnhealthy::End)];

/// `target_group.proxy_protocol`: what each connection to a target begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyProtocol {
    Off,
    V1,
    V2,
}

const PROXY_PROTOCOLS: [(&str, ProxyProtocol); 3] = [
    ("off", ProxyProtocol::Off),
    ("v1", ProxyProtocol::V1),
    ("v2", ProxyProtocol::V2),
];

/// `target_group.algorithm`: who gets a session that no cookie decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// Each in turn.
    RoundRobin,
    /// Who has the least requests and upgraded connections.
    LeastOutstanding,
    /// By chance.
    WeightedRandom,
    /// By the client's address.
    SourceHash,
}

const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("round_robin", Algorithm::RoundRobin),
    ("least_outstanding", Algorithm::LeastOutstanding),
    ("weighted_random", Algorithm::WeightedRandom),
    ("source_hash", Algorithm::SourceHash),
];

impl Algorithm {
    /// The word of the configuration.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastOutstanding => "least_outstanding",
            Self::WeightedRandom => "weighted_random",
            Self::SourceHash => "source_hash",
        }
    }
}

/// `[[target_group.target]]` with an address.
#[derive(Debug, Clone)]
pub(crate) struct TargetConfig {
    pub(crate) address: SocketAddr,
    pub(crate) weight: u32,
}

impl TargetGroup {
    /// Whether a client's address says which target it belongs to.
    pub(crate) fn is_by_source(&self) -> bool {
        let stickiness = self.stickiness.as_ref();
        stickiness.is_some_and(|one| one.mode == StickinessMode::SourceIp)
    }
}

#[cfg(test)]
impl TargetGroup {
    /// With this stickiness, and a secret of its own.
    pub(crate) fn sticky(name: &str, mode: StickinessMode) -> Self {
        Self {
            stickiness: Some(Stickiness::of(mode)),
            ..Self::with_defaults(name)
        }
    }

    /// As a file says that says nothing else.
    pub(crate) fn with_defaults(name: &str) -> Self {
        let text = format!("name = {name:?}").parse().expect("a table");
        read(Section::root(text, Default::default()), &mut HashSet::new()).expect("a group")
    }
}

pub(super) fn read(mut section: Section, names: &mut HashSet<String>) -> Option<TargetGroup> {
    let name = checked_name(&mut section, names);
    let protocol = read_protocol(&mut section);
    let algorithm = section.choice("algorithm", &ALGORITHMS, Algorithm::RoundRobin);
    let slow_start = read_slow_start(&mut section, algorithm);
    let max_connections = section.or("max_connections_per_target", 0);
    let deregistration_delay = read_deregistration_delay(&mut section);
    let on_unhealthy = section.choice("on_unhealthy", &ON_UNHEALTHY, OnUnhealthy::Keep);
    let proxy_protocol = section.choice("proxy_protocol", &PROXY_PROTOCOLS, ProxyProtocol::Off);
    let stickiness = stickiness::read(section.section("stickiness"));
    let health_check = health_check::read(section.section("health_check"));
    if matches!(protocol, TargetProtocol::H2c) {
        check_shared(&section, proxy_protocol, health_check.protocol);
    }
    let (targets, names) = read_targets(section.sections("target"));
    section.finish();
    Some(TargetGroup {
        name: name?,
        protocol,
        algorithm,
        slow_start,
        max_connections,
        stickiness,
        deregistration_delay,
        on_unhealthy,
        proxy_protocol,
        health_check,
        targets,
        names,
    })
}

fn read_slow_start(section: &mut Section, algorithm: Algorithm) -> Duration {
    let slow_start = section.or("slow_start", Duration::ZERO);
    let range = defaults::SLOW_START_MIN..=defaults::SLOW_START_MAX;
    if !slow_start.is_zero() && !range.contains(&slow_start) {
        section.problem("slow_start", "must be 0s, or between 30s and 15m");
    }
    if !slow_start.is_zero() && algorithm == Algorithm::SourceHash {
        section.problem(
            "slow_start",
            "source_hash gives an address its target at once",
        );
    }
    slow_start
}

fn read_protocol(section: &mut Section) -> TargetProtocol {
    let protocol = section.choice("protocol", &PROTOCOLS, Spoken::Http);
    if protocol != Spoken::Https && section.has("tls") {
        section.problem("tls", "is for protocol = \"https\"");
        section.section("tls");
    }
    match protocol {
        Spoken::Http => TargetProtocol::Http,
        Spoken::H2c => TargetProtocol::H2c,
        Spoken::Https => {
            let client = read_tls(section.section("tls"));
            client.map_or(TargetProtocol::Http, TargetProtocol::Https)
        }
    }
}

/// The words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Http,
    Https,
    H2c,
}

const PROTOCOLS: [(&str, Spoken); 3] = [
    ("http", Spoken::Http),
    ("https", Spoken::Https),
    ("h2c", Spoken::H2c),
];

/// What one connection shared by many cannot do.
fn check_shared(section: &Section, proxy_protocol: ProxyProtocol, check: CheckProtocol) {
    if proxy_protocol != ProxyProtocol::Off {
        let message = "cannot be told over h2c, whose connections clients share";
        section.problem("proxy_protocol", message);
    }
    if check == CheckProtocol::Websocket {
        section.problem("health_check.protocol", "h2c has no WebSockets");
    }
}

/// Safe unless it is said otherwise, in so many words.
fn read_tls(mut section: Section) -> Option<tls::Client> {
    let verify = section.or("verify", true);
    let ca: Option<PathBuf> = section.optional("ca");
    let trust = match (verify, ca.as_deref().map(Trust::read)) {
        (true, Some(Ok(trust))) => Some(trust),
        (false, None) => Some(Trust::Anybody),
        (true, Some(Err(message))) => complain(&section, &message),
        (true, None) => complain(
            &section,
            "is missing: whose certificates to believe; with verify = false anybody's, as ALB does",
        ),
        (false, Some(_)) => complain(&section, "is not looked at with verify = false"),
    };
    let name = section.optional::<String>("name").and_then(|name| {
        let parsed = ServerName::try_from(name.clone());
        if parsed.is_err() {
            section.problem("name", format!("{name:?} is not the name of a host"));
        }
        parsed.ok()
    });
    let client = trust.and_then(|trust| {
        let client = tls::Client::new(trust, name);
        client
            .map_err(|message| section.problem("ca", message))
            .ok()
    });
    section.finish();
    client
}

fn complain(section: &Section, message: &str) -> Option<Trust> {
    section.problem("ca", message);
    None
}

fn read_deregistration_delay(section: &mut Section) -> Duration {
    let delay = section.or("deregistration_delay", defaults::DEREGISTRATION_DELAY);
    if delay > defaults::DEREGISTRATION_DELAY_MAX || delay.subsec_nanos() != 0 {
        section.problem(
            "deregistration_delay",
            "must be whole seconds between 0s and 1h",
        );
    }
    delay
}

/// A target that stands in the file, one way or the other.
enum Listed {
    Address(TargetConfig),
    Name(TargetName),
}

fn read_targets(sections: Vec<Section>) -> (Vec<TargetConfig>, Vec<TargetName>) {
    let (mut addresses, mut questions) = (HashSet::new(), HashSet::new());
    let (mut targets, mut names) = (Vec::new(), Vec::new());
    for section in sections {
        match read_target(section, &mut addresses, &mut questions) {
            Some(Listed::Address(target)) => targets.push(target),
            Some(Listed::Name(name)) => names.push(name),
            None => {}
        }
    }
    (targets, names)
}

fn read_target(
    mut section: Section,
    addresses: &mut HashSet<SocketAddr>,
    questions: &mut HashSet<Question>,
) -> Option<Listed> {
    if section.has("srv") {
        let name = target_name::read_service(&mut section);
        if let Some(name) = &name {
            target_name::check_once(&section, "srv", &name.question, questions);
        }
        section.finish();
        return name.map(Listed::Name);
    }
    let text: Option<String> = section.required("address");
    let weight = section.or("weight", defaults::WEIGHT);
    if let Err(message) = check_weight(weight) {
        section.problem("weight", message);
    }
    let listed = text.and_then(|text| read_address(&section, &text, weight));
    match &listed {
        Some(Listed::Address(target)) => check_address(&section, target.address, addresses),
        Some(Listed::Name(name)) => {
            target_name::check_once(&section, "address", &name.question, questions);
        }
        None => {}
    }
    section.finish();
    listed
}

fn read_address(section: &Section, text: &str, weight: u32) -> Option<Listed> {
    if let Ok(address) = text.parse() {
        return Some(Listed::Address(TargetConfig { address, weight }));
    }
    match Question::host(text) {
        Ok(question) => Some(Listed::Name(TargetName { question, weight })),
        Err(message) => {
            section.problem("address", message);
            None
        }
    }
}

/// What a weight may be; the error is a sentence.
pub(crate) fn check_weight(weight: u32) -> Result<(), String> {
    if weight > defaults::WEIGHT_MAX {
        return Err(format!("must be between 0 and {}", defaults::WEIGHT_MAX));
    }
    Ok(())
}

/// What a target's address may be; the error is a sentence.
pub(crate) fn check_target(address: SocketAddr) -> Result<(), String> {
    if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
        return Err(format!("{address} cannot be connected to"));
    }
    Ok(())
}

fn check_address(section: &Section, address: SocketAddr, taken: &mut HashSet<SocketAddr>) {
    if let Err(message) = check_target(address) {
        section.problem("address", message);
    }
    if !taken.insert(address) {
        section.problem("address", format!("{address} is in this group twice"));
    }
}

//! Asks DNS for the targets behind a name.
//!
//! The host's files (`/etc/resolv.conf`, `/etc/hosts`) are read for each lookup, and
//! nothing is remembered: what they and DNS say now is what counts.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolverConfig, ServerOrderingStrategy,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{RData, RecordType, rdata::SRV};
use hickory_resolver::{Resolver as Hickory, TokioResolver};
use thiserror::Error;

use crate::config::{Question, TargetName, WEIGHT_MAX, check_target};

/// More hosts than a group of targets has; each is asked for.
const SERVICE_HOSTS: usize = 256;
/// The longest TTL that DNS has (RFC 2181 section 8), for answers without one.
const LONGEST: u32 = i32::MAX.unsigned_abs();

/// Whom to ask.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    /// Empty: whom the host asks.
    servers: Vec<SocketAddr>,
}

/// Targets and how long the answer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Addresses and their weights.
    pub(crate) targets: BTreeMap<SocketAddr, u32>,
    pub(crate) ttl: Duration,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum Unanswered {
    #[error("{0}")]
    Failed(#[from] NetError),
    #[error("the name has no {0} records")]
    Empty(&'static str),
    #[error("the service has {0} hosts, more than {SERVICE_HOSTS}")]
    TooMany(usize),
    #[error("none of its addresses can be connected to")]
    Unusable,
}

/// Addresses and the TTL in seconds that the shortest-lived record has.
type Found = (Vec<IpAddr>, u32);

impl Resolver {
    pub(crate) fn new(servers: &[SocketAddr]) -> Self {
        Self {
            servers: servers.to_vec(),
        }
    }

    /// Looks a name up; `known` is what it has answered before.
    pub(crate) async fn ask(
        &self,
        name: &TargetName,
        known: &[SocketAddr],
    ) -> Result<Answer, Unanswered> {
        let resolver = self.build()?;
        let (targets, ttl) = match &name.question {
            Question::Host { name: host, port } => {
                let (addresses, ttl) = host_addresses(&resolver, host, known).await?;
                let target = |ip| (SocketAddr::new(ip, *port), name.weight);
                (addresses.into_iter().map(target).collect(), ttl)
            }
            Question::Service { name: service } => {
                service_targets(&resolver, service, known).await?
            }
        };
        let usable = |(address, _): &(SocketAddr, u32)| check_target(*address).is_ok();
        let targets: BTreeMap<_, _> = targets.into_iter().filter(usable).collect();
        if targets.is_empty() {
            return Err(Unanswered::Unusable);
        }
        Ok(Answer {
            targets,
            ttl: Duration::from_secs(ttl.into()),
        })
    }

    fn build(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.servers.iter().copied().map(name_server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            Hickory::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        // The first is asked as long as it answers, as by everything else on the host.
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        options.num_concurrent_reqs = 1;
        builder.build()
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let at = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}

/// A and AAAA records. One of them may fail, if the name had no such address before.
async fn host_addresses(
    resolver: &TokioResolver,
    host: &str,
    known: &[SocketAddr],
) -> Result<Found, Unanswered> {
    let (v4, v6) = tokio::join!(
        addresses(resolver, host, RecordType::A),
        addresses(resolver, host, RecordType::AAAA),
    );
    let (v4, v6) = match (v4, v6) {
        (Ok(v4), Ok(v6)) => (v4, v6),
        (Ok(v4), Err(_)) if !v4.0.is_empty() && !known.iter().any(SocketAddr::is_ipv6) => {
            return Ok(v4);
        }
        (Err(_), Ok(v6)) if !v6.0.is_empty() && !known.iter().any(SocketAddr::is_ipv4) => {
            return Ok(v6);
        }
        (Err(error), _) | (_, Err(error)) => return Err(error.into()),
    };
    let all = [v4.0, v6.0].concat();
    match all.is_empty() {
        true => Err(Unanswered::Empty("A or AAAA")),
        false => Ok((all, v4.1.min(v6.1))),
    }
}

async fn addresses(
    resolver: &TokioResolver,
    host: &str,
    kind: RecordType,
) -> Result<Found, NetError> {
    let Some(lookup) = records(resolver.lookup(host, kind).await)? else {
        return Ok((Vec::new(), LONGEST));
    };
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        // One that stands for an IPv4 address is that address, in every balancer.
        RData::AAAA(address) => Some(IpAddr::V6(address.0).to_canonical()),
        _ => None,
    };
    let answers = lookup.answers().iter();
    let found = answers.filter_map(|record| address(&record.data)).collect();
    Ok((found, shortest(&lookup)))
}

/// The hosts of the service with the lowest priority that there is (RFC 2782).
async fn service_targets(
    resolver: &TokioResolver,
    service: &str,
    known: &[SocketAddr],
) -> Result<(Vec<(SocketAddr, u32)>, u32), Unanswered> {
    let lookup = records(resolver.lookup(service, RecordType::SRV).await)?;
    let lookup = lookup.ok_or(Unanswered::Empty("SRV"))?;
    let services = lookup.answers().iter();
    let services = services.filter_map(|record| match &record.data {
        RData::SRV(service) => Some(service),
        _ => None,
    });
    let first = first_of(services.collect());
    if first.len() > SERVICE_HOSTS {
        return Err(Unanswered::TooMany(first.len()));
    }
    let heaviest = first.iter().map(|one| one.weight).max().unwrap_or(0);
    let (mut targets, mut ttl) = (Vec::new(), shortest(&lookup));
    for service in first {
        let host = service.target.to_ascii();
        let (addresses, holds) = match host_addresses(resolver, &host, known).await {
            // The others are there all the same.
            Err(Unanswered::Empty(_)) => continue,
            found => found?,
        };
        let weight = scaled(service.weight, heaviest);
        let target = |ip| (SocketAddr::new(ip, service.port), weight);
        targets.extend(addresses.into_iter().map(target));
        ttl = ttl.min(holds);
    }
    match targets.is_empty() {
        true => Err(Unanswered::Empty("SRV")),
        false => Ok((targets, ttl)),
    }
}

/// Without the root, which says that there is no such service.
fn first_of(services: Vec<&SRV>) -> Vec<&SRV> {
    let there = services.into_iter().filter(|one| !one.target.is_root());
    let there: Vec<&SRV> = there.collect();
    let lowest = there.iter().map(|one| one.priority).min();
    let is_first = |one: &&SRV| Some(one.priority) == lowest;
    there.into_iter().filter(is_first).collect()
}

/// A weight of DNS (up to 65535) as a target's. None becomes 0, which would be no share
/// at all: RFC 2782 gives those a small one.
fn scaled(weight: u16, heaviest: u16) -> u32 {
    let (weight, heaviest) = (u32::from(weight), u32::from(heaviest));
    match heaviest > WEIGHT_MAX {
        true => (weight * WEIGHT_MAX / heaviest).max(1),
        false => weight.max(1),
    }
}

/// `None`: the name has no such records.
fn records(asked: Result<Lookup, NetError>) -> Result<Option<Lookup>, NetError> {
    match asked {
        Ok(lookup) => Ok(Some(lookup)),
        Err(NetError::Dns(DnsError::NoRecordsFound(_))) => Ok(None),
        Err(error) => Err(error),
    }
}

fn shortest(lookup: &Lookup) -> u32 {
    let answers = lookup.answers().iter();
    answers.map(|record| record.ttl).min().unwrap_or(LONGEST)
}

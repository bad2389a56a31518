//! `listener.allow` and `listener.syn_rate_per_source`: who may connect.

use ipnet::IpNet;
use lb_common::door::NETWORKS_MAX;

use super::defaults;
use super::reader::Section;
use crate::door::Admission;

/// More than one machine opens; the program counts in whole microseconds.
const RATE_MAX: u32 = 1_000_000;

/// `networks` is how many earlier listeners have.
pub(super) fn read(section: &mut Section, networks: &mut usize) -> Admission {
    let rate = section.or("syn_rate_per_source", defaults::SYN_RATE);
    if rate > RATE_MAX {
        let message = format!("{rate} is not between 0 (no limit) and {RATE_MAX} per second");
        section.problem("syn_rate_per_source", message);
    }
    let allow = allow(section);
    *networks += allow.as_ref().map_or(0, Vec::len);
    if *networks > NETWORKS_MAX as usize {
        let message = format!("all listeners together can have {NETWORKS_MAX} networks");
        section.problem("allow", message);
    }
    Admission { allow, rate }
}

/// `None`: everyone.
fn allow(section: &mut Section) -> Option<Vec<IpNet>> {
    let networks: Vec<IpNet> = section.optional("allow")?;
    if networks.is_empty() {
        section.problem("allow", "lets nobody in; leave it out to let everyone in");
    }
    // The default in the words of every example, IPv6 included.
    if networks == [IpNet::from(defaults::ALLOW)] {
        return None;
    }
    for network in &networks {
        if let Some(problem) = problem(network) {
            section.problem("allow", format!("{network} {problem}"));
        }
    }
    Some(networks)
}

/// Slips of the pen that would let in too many or too few.
fn problem(network: &IpNet) -> Option<String> {
    if network.network() != network.addr() {
        let meant = network.trunc();
        return Some(format!("has bits set behind its prefix; it is {meant}"));
    }
    match network {
        IpNet::V6(network) if network.network().to_ipv4_mapped().is_some() => {
            Some("is IPv4; write it as IPv4".to_owned())
        }
        IpNet::V4(_) | IpNet::V6(_) => None,
    }
}

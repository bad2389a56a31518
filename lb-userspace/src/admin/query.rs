//! The query of `/v1/connections`.

use std::net::{IpAddr, SocketAddr};

use crate::dataplane::Path;

/// Rows of a page, if the caller does not say.
const LIMIT: usize = 100;
/// Rows of a page at most.
const LIMIT_MAX: usize = 1000;

/// Which connections are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) path: Option<Path>,
    pub(super) target: Option<Address>,
    pub(super) client: Option<Network>,
    pub(super) limit: usize,
    /// The id of the last connection of the page before.
    pub(super) after: Option<u64>,
}

/// An address, with or without a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    Host(IpAddr),
    Socket(SocketAddr),
}

impl Address {
    pub(super) fn matches(self, other: SocketAddr) -> bool {
        match self {
            Self::Host(host) => host == other.ip(),
            Self::Socket(socket) => socket == other,
        }
    }
}

/// Clients: an address, an address and port, or a CIDR range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    One(Address),
    Range(IpAddr, u32),
}

impl Network {
    pub(super) fn matches(self, other: SocketAddr) -> bool {
        match self {
            Self::One(address) => address.matches(other),
            Self::Range(network, bits) => in_range(network, bits, other.ip()),
        }
    }
}

/// Reads it; the error is a sentence.
pub(super) fn parse(query: &str) -> Result<Filter, String> {
    let mut filter = Filter {
        path: None,
        target: None,
        client: None,
        limit: LIMIT,
        after: None,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value).ok_or_else(|| format!("{key} is not encoded rightly"))?;
        match key {
            "path" => filter.path = Some(path(&value)?),
            "target" => filter.target = Some(address(&value)?),
            "client" => filter.client = Some(network(&value)?),
            "limit" => filter.limit = limit(&value)?,
            "cursor" => filter.after = Some(cursor(&value)?),
            _ => return Err(format!("unknown parameter {key:?}")),
        }
    }
    Ok(filter)
}

fn path(text: &str) -> Result<Path, String> {
    match text {
        "xdp" => Ok(Path::Xdp),
        "tc" => Ok(Path::Tc),
        "userspace" => Ok(Path::Userspace),
        _ => Err("path must be xdp, tc or userspace".to_owned()),
    }
}

fn address(text: &str) -> Result<Address, String> {
    let socket = text.parse().map(Address::Socket);
    socket
        .or_else(|_| text.parse().map(Address::Host))
        .map_err(|_| format!("{text:?} is not an address"))
}

fn network(text: &str) -> Result<Network, String> {
    let Some((network, bits)) = text.split_once('/') else {
        return address(text).map(Network::One);
    };
    let bad = || format!("{text:?} is not a range of addresses");
    let network: IpAddr = network.parse().map_err(|_| bad())?;
    let bits: u32 = bits.parse().map_err(|_| bad())?;
    let most = if network.is_ipv4() { 32 } else { 128 };
    if bits > most {
        Err(bad())
    } else {
        Ok(Network::Range(network, bits))
    }
}

fn limit(text: &str) -> Result<usize, String> {
    let limit = text
        .parse()
        .ok()
        .filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| format!("limit must be between 1 and {LIMIT_MAX}"))
}

fn cursor(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| "cursor is not one of ours".to_owned())
}

fn in_range(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    let (network, address, width) = match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => (
            u128::from(network.to_bits()),
            u128::from(address.to_bits()),
            32,
        ),
        (IpAddr::V6(network), IpAddr::V6(address)) => (network.to_bits(), address.to_bits(), 128),
        _ => return false,
    };
    let shift = width - bits.min(width);
    // A shift by the whole width is not defined: everything is in range then.
    network.checked_shr(shift).unwrap_or(0) == address.checked_shr(shift).unwrap_or(0)
}

/// Percent-decoding.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let (digits, tail) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parameters() {
        let filter = parse("path=tc&target=10.0.0.1%3A80&client=192.0.2.0/24&limit=5&cursor=ff");
        let filter = filter.expect("a good query");
        assert_eq!(filter.path, Some(Path::Tc));
        assert!(
            filter
                .target
                .expect("a target")
                .matches("10.0.0.1:80".parse().expect(""))
        );
        let client = filter.client.expect("a client");
        assert!(client.matches("192.0.2.200:1".parse().expect("an address")));
        assert!(!client.matches("192.0.3.1:1".parse().expect("an address")));
        assert_eq!((filter.limit, filter.after), (5, Some(255)));
    }

    #[test]
    fn bad_ones() {
        for bad in [
            "path=x",
            "target=x",
            "client=1.2.3.4/33",
            "limit=0",
            "limit=1001",
            "x=1",
            "cursor=g",
            "path=%t",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(in_range(
            "0.0.0.0".parse().expect(""),
            0,
            "9.9.9.9".parse().expect("")
        ));
        assert!(in_range(
            "::".parse().expect(""),
            0,
            "fe80::1".parse().expect("")
        ));
    }
}

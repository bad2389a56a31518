//! The query of `/v1/connections`.

use std::fmt;
use std::net::IpAddr;

use crate::dataplane::{Path, Place};
use crate::selection::{Address, Network, Selection};

/// Rows of a page, if the caller does not say.
const LIMIT: usize = 100;
/// Rows of a page at most.
const LIMIT_MAX: usize = 1000;

/// Which connections are asked for, and which page of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) selection: Selection,
    pub(super) limit: usize,
    pub(super) from: Cursor,
}

/// Where a page begins: relayed connections come first, by id, then those in the
/// kernel, in the order of the flow table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cursor {
    /// Behind the relayed connection with this id.
    Relayed(u64),
    /// In the flow table.
    Kernel(Place),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relayed(after) => write!(f, "{after:016x}"),
            Self::Kernel(Place { bucket, after }) => write!(f, "{bucket:08x}{after:016x}"),
        }
    }
}

/// Reads it; the error is a sentence.
pub(super) fn parse(query: &str) -> Result<Filter, String> {
    let mut filter = Filter {
        selection: Selection::default(),
        limit: LIMIT,
        from: Cursor::Relayed(0),
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value).ok_or_else(|| format!("{key} is not encoded rightly"))?;
        match key {
            "path" => filter.selection.paths = Some(path(&value)?),
            "target" => filter.selection.target = Some(address(&value)?),
            "client" => filter.selection.client = Some(network(&value)?),
            "limit" => filter.limit = limit(&value)?,
            "cursor" => filter.from = cursor(&value)?,
            _ => return Err(format!("unknown parameter {key:?}")),
        }
    }
    Ok(filter)
}

/// Reads which connections are to end. Paging has no meaning there, and all of them
/// must be said, as `client=0.0.0.0/0`.
pub(super) fn parse_ending(query: &str) -> Result<Selection, String> {
    let Filter {
        selection,
        limit,
        from,
    } = parse(query)?;
    if limit != LIMIT || from != Cursor::Relayed(0) {
        return Err("limit and cursor have no meaning here".to_owned());
    }
    if selection.target.is_none() && selection.client.is_none() {
        return Err("target or client must be given".to_owned());
    }
    Ok(selection)
}

fn path(text: &str) -> Result<&'static [Path], String> {
    match text {
        "xdp" => Ok(&[Path::Xdp]),
        "tc" => Ok(&[Path::Tc]),
        "userspace" => Ok(&[Path::Userspace]),
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

fn cursor(text: &str) -> Result<Cursor, String> {
    let read = || {
        let after_at = text.len().checked_sub(16)?;
        let (bucket, after) = text.split_at_checked(after_at)?;
        let after = u64::from_str_radix(after, 16).ok()?;
        Some(match bucket {
            "" => Cursor::Relayed(after),
            _ => Cursor::Kernel(Place {
                bucket: u32::from_str_radix(bucket, 16).ok()?,
                after,
            }),
        })
    };
    read().ok_or_else(|| "cursor is not one of ours".to_owned())
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
        let filter = parse("path=tc&target=10.0.0.1%3A80&client=192.0.2.0/24&limit=5")
            .expect("a good query");
        let target = "10.0.0.1:80".parse().expect("an address");
        let network = "192.0.2.0".parse().expect("an address");
        let selection = Selection {
            paths: Some(&[Path::Tc]),
            target: Some(Address::Socket(target)),
            client: Some(Network::Range(network, 24)),
            target_group: None,
        };
        assert_eq!(filter.selection, selection);
        assert_eq!(filter.limit, 5);
    }

    #[test]
    fn not_everything_is_ended_for_want_of_a_word() {
        assert!(parse_ending("").is_err());
        assert!(parse_ending("path=tc").is_err());
        assert!(parse_ending("client=10.0.0.1&limit=5").is_err());
        assert!(parse_ending("client=0.0.0.0/0").is_ok());
    }

    #[test]
    fn cursors_are_read_as_they_are_written() {
        let place = Place {
            bucket: 0xffff_ffff,
            after: 7,
        };
        for cursor in [Cursor::Relayed(u64::MAX), Cursor::Kernel(place)] {
            let filter = parse(&format!("cursor={cursor}")).expect("a good query");
            assert_eq!(filter.from, cursor);
        }
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
            "cursor=",
            "cursor=ff",
            "cursor=f00000000000000000000000ff",
            "path=%t",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

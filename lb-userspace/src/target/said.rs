//! What was said of targets through the admin API: its file, and how it is laid
//! over the configuration and what DNS answers.
//!
//! The rule: **the API has the last word on what it was told, the file on the
//! rest.** A target is there if the file lists it (its address, or a name that DNS
//! knows it by) or the API registered it, unless
//! the API deregistered it since. A weight that the API was told goes before the
//! file's. A drain goes on until its deadline, or until the target is made ready.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::member::Drain;

/// Of the file's shape; another is another version's file.
const VERSION: u32 = 1;

/// All of it; the content of `targets.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    version: u32,
    /// By name; groups that the file has lost are kept, in case they come back.
    target_groups: BTreeMap<String, BTreeMap<SocketAddr, Entry>>,
}

/// What was said of one target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// It is there even if the file does not name it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) registered: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) weight: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) drain: Option<Drain>,
}

/// What one target of a group should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
    pub(super) drain: Option<Drain>,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            version: VERSION,
            target_groups: BTreeMap::new(),
        }
    }
}

impl Said {
    /// Reads the file's content; the error is a sentence.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let said: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if said.version != VERSION {
            return Err(format!(
                "it is of version {}, this is version {VERSION}",
                said.version
            ));
        }
        Ok(said)
    }

    /// The file's content.
    pub(super) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// What was said of a target, to be changed.
    pub(super) fn entry(&mut self, group: &str, address: SocketAddr) -> &mut Entry {
        let group = self.target_groups.entry(group.to_owned()).or_default();
        group.entry(address).or_default()
    }

    /// Forgets targets that have left and that are not listed: there is nothing left
    /// to hold against it.
    pub(super) fn forget_gone(&mut self, group: &str, listed: &[Wanted], now: u64) {
        if let Some(entries) = self.target_groups.get_mut(group) {
            entries.retain(|address, entry| !entry.has_left(now) || lists(listed, *address));
        }
    }

    /// The drains of a group whose deadline has come.
    pub(super) fn overdue(
        &self,
        group: &str,
        now: u64,
    ) -> impl Iterator<Item = (SocketAddr, Drain)> {
        let entries = self.target_groups.get(group).into_iter().flatten();
        entries
            .filter_map(|(address, entry)| Some((*address, entry.drain?)))
            .filter(move |(_, drain)| drain.until <= now)
    }

    /// The targets of a group: those listed in their order, then the others.
    pub(super) fn merge(&self, group: &str, listed: &[Wanted], now: u64) -> Vec<Wanted> {
        let none = BTreeMap::new();
        let entries = self.target_groups.get(group).unwrap_or(&none);
        let from_list = listed
            .iter()
            .map(|target| (target.clone(), entries.get(&target.address)));
        let from_api = entries
            .iter()
            .filter(|(address, entry)| entry.registered && !lists(listed, **address))
            .map(|(address, entry)| (Wanted::new(*address), Some(entry)));
        from_list
            .chain(from_api)
            .filter(|(_, entry)| !entry.is_some_and(|entry| entry.has_left(now)))
            .map(|(target, entry)| match entry {
                Some(entry) => entry.over(target),
                None => target,
            })
            .collect()
    }
}

impl Wanted {
    /// With what nothing else is said of.
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            weight: 1,
            drain: None,
        }
    }
}

impl Entry {
    /// What was said, laid over what is listed.
    fn over(&self, listed: Wanted) -> Wanted {
        // Registered by hand, it stays when DNS lets go of it.
        let leaving = listed.drain.filter(|_| !self.registered);
        Wanted {
            address: listed.address,
            weight: self.weight.unwrap_or(listed.weight),
            drain: self.drain.or(leaving),
        }
    }

    fn has_left(&self, now: u64) -> bool {
        self.drain
            .is_some_and(|drain| drain.leave && drain.until <= now)
    }
}

fn lists(listed: &[Wanted], address: SocketAddr) -> bool {
    listed.iter().any(|target| target.address == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: &str = "chat";

    fn address(number: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, number], 80))
    }

    fn file(numbers: &[u8]) -> Vec<Wanted> {
        numbers
            .iter()
            .map(|number| Wanted {
                weight: 7,
                ..Wanted::new(address(*number))
            })
            .collect()
    }

    fn merged(said: &Said, numbers: &[u8], now: u64) -> Vec<(SocketAddr, u32, bool)> {
        said.merge(GROUP, &file(numbers), now)
            .into_iter()
            .map(|one| (one.address, one.weight, one.drain.is_some()))
            .collect()
    }

    #[test]
    fn the_api_has_the_last_word_on_what_it_was_told() {
        let mut said = Said::default();
        said.entry(GROUP, address(2)).weight = Some(3);
        *said.entry(GROUP, address(9)) = Entry {
            registered: true,
            ..Entry::default()
        };
        said.entry("other", address(8)).registered = true;
        let (one, two, nine) = (address(1), address(2), address(9));
        assert_eq!(
            merged(&said, &[1, 2], 0),
            [(one, 7, false), (two, 3, false), (nine, 1, false)]
        );
        // The file names it too now: its weight counts, and its place.
        assert_eq!(
            merged(&said, &[9, 1], 0),
            [(nine, 7, false), (one, 7, false)]
        );
    }

    #[test]
    fn a_deregistered_target_drains_and_leaves_though_the_file_names_it() {
        let mut said = Said::default();
        for number in [1, 9] {
            *said.entry(GROUP, address(number)) = Entry {
                registered: true,
                weight: None,
                drain: Some(Drain {
                    until: 100,
                    leave: true,
                }),
            };
        }
        assert_eq!(
            merged(&said, &[1], 99),
            [(address(1), 7, true), (address(9), 1, true)]
        );
        assert_eq!(merged(&said, &[1], 100), []);
        // What the file does not name is forgotten, so the file may name it again.
        said.forget_gone(GROUP, &file(&[1]), 100);
        assert_eq!(merged(&said, &[1, 9], 100), [(address(9), 7, false)]);
    }

    #[test]
    fn a_drained_target_stays() {
        let mut said = Said::default();
        said.entry(GROUP, address(1)).drain = Some(Drain {
            until: 100,
            leave: false,
        });
        assert_eq!(merged(&said, &[1], 1_000), [(address(1), 7, true)]);
    }

    #[test]
    fn what_dns_lets_go_of_stays_if_it_was_registered_by_hand() {
        let drain = Drain {
            until: 100,
            leave: true,
        };
        let leaving = Wanted {
            drain: Some(drain),
            ..Wanted::new(address(1))
        };
        let listed = [leaving];
        let mut said = Said::default();
        said.entry(GROUP, address(1)).weight = Some(3);
        assert_eq!(said.merge(GROUP, &listed, 0)[0].drain, Some(drain));
        said.entry(GROUP, address(1)).registered = true;
        assert_eq!(said.merge(GROUP, &listed, 0)[0].drain, None);
        assert_eq!(said.merge(GROUP, &[], 100)[0].weight, 3);
    }

    #[test]
    fn cut_at_every_byte_it_is_damaged_never_half_believed() {
        let mut said = Said::default();
        for number in 1..4 {
            *said.entry(GROUP, address(number)) = Entry {
                registered: true,
                weight: Some(10),
                drain: Some(Drain {
                    until: 1_000,
                    leave: number == 1,
                }),
            };
        }
        let whole = said.to_bytes().expect("bytes");
        assert_eq!(Said::parse(&whole), Ok(said.clone()));
        for length in 0..whole.len() - 1 {
            assert!(Said::parse(&whole[..length]).is_err(), "{length} bytes");
        }
        // Only the newline at the end is missing.
        assert_eq!(Said::parse(&whole[..whole.len() - 1]), Ok(said));
    }

    #[test]
    fn another_versions_file_is_refused() {
        let text = br#"{"version":2,"target_groups":{}}"#;
        assert!(Said::parse(text).is_err_and(|error| error.contains("version 2")));
    }
}

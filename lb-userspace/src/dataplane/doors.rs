//! Listeners' doors in the kernel: who may come in, and how often.
//!
//! A door and its networks are never changed, only replaced: new networks go in under
//! an unused number, then the door's one entry leads to them, then the old ones go. A SYN meets one or the other, also when the daemon dies in between; the next
//! one sweeps up.

use std::collections::HashSet;
use std::path::Path as FsPath;

use anyhow::Context;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, Map, MapData, PerCpuHashMap, PerCpuValues};
use aya::util::nr_cpus;
use ipnet::IpNet;
use lb_common::door::{Door, Network, Place, Rejected, Rejection};
use lb_common::flow::Family;

use super::address;
use super::attach::{self, PinDir};
use super::types::Doorway;

/// The doors' maps; the only place that writes them.
pub(super) struct Doors {
    listeners: HashMap<MapData, Place, Door>,
    networks: LpmTrie<MapData, Network, u32>,
    rejected: PerCpuHashMap<MapData, u32, Rejected>,
    /// What has been told of `rejected`.
    told: std::collections::HashMap<u32, Rejected>,
}

/// SYNs turned away at a listener since they were last asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turned {
    /// [`Doorway::listener`].
    pub(crate) listener: u32,
    /// Why.
    pub(crate) why: Rejection,
    /// How many.
    pub(crate) count: u64,
}

impl Doors {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &PinDir) -> anyhow::Result<Self> {
        let pinned = |name| {
            MapData::from_pin(pins.pin(name)).with_context(|| format!("the pinned map {name}"))
        };
        let mut doors = Self {
            listeners: Map::HashMap(pinned("LISTENERS")?).try_into()?,
            networks: Map::LpmTrie(pinned("NETWORKS")?).try_into()?,
            rejected: Map::PerCpuHashMap(pinned("REJECTED")?).try_into()?,
            told: std::collections::HashMap::new(),
        };
        // What an earlier daemon has told is not told again.
        doors.turned();
        Ok(doors)
    }

    /// From now on these are the doors, and no others.
    pub(super) fn set(&mut self, doorways: &[Doorway]) -> anyhow::Result<()> {
        self.sweep()?;
        self.count_for(doorways)?;
        let used = self.numbers();
        let unused = (0..).filter(|number| !used.contains(number));
        let mut places = HashSet::new();
        for (doorway, number) in doorways.iter().zip(unused) {
            let door = self.build(doorway, number)?;
            for address in &doorway.addresses {
                let place = address::place(*address);
                self.listeners
                    .insert(place, door, 0)
                    .with_context(|| format!("the door at {address}"))?;
                places.insert(place);
            }
        }
        self.close(|place| !places.contains(place))?;
        self.sweep()
    }

    /// From now on every SYN reaches the stack.
    pub(super) fn clear(&mut self) -> anyhow::Result<()> {
        self.close(|_| true)?;
        self.sweep()
    }

    /// What was turned away since the last call.
    pub(super) fn turned(&mut self) -> Vec<Turned> {
        let mut turned = Vec::new();
        for (listener, values) in self.rejected.iter().filter_map(Result::ok) {
            let told = self.told.entry(listener).or_default();
            for (index, why) in Rejection::ALL.into_iter().enumerate() {
                let total: u64 = values.iter().map(|value| value.0[index]).sum();
                let count = total.saturating_sub(told.0[index]);
                told.0[index] = total;
                if count > 0 {
                    turned.push(Turned {
                        listener,
                        why,
                        count,
                    });
                }
            }
        }
        turned
    }

    /// Writes a door's networks under an unused number.
    fn build(&mut self, doorway: &Doorway, networks: u32) -> anyhow::Result<Door> {
        let mut flags = 0;
        if let Some(allowed) = &doorway.admission.allow {
            flags |= Door::RESTRICTED;
            for network in allowed {
                self.networks
                    .insert(&key(networks, network), 1, 0)
                    .with_context(|| format!("the network {network}"))?;
            }
        }
        if !doorway.ecn {
            flags |= Door::WITHOUT_ECN;
        }
        Ok(Door {
            pace: doorway.admission.pace(),
            listener: doorway.listener,
            networks,
            flags,
            reserved: 0,
        })
    }

    /// Removes networks that no door leads to.
    fn sweep(&mut self) -> anyhow::Result<()> {
        let used = self.numbers();
        let stale: Vec<_> = self
            .networks
            .keys()
            .filter_map(Result::ok)
            .filter(|key| !used.contains(&number(*key)))
            .collect();
        for key in stale {
            self.networks
                .remove(&key)
                .context("removing an old network")?;
        }
        Ok(())
    }

    fn numbers(&self) -> HashSet<u32> {
        let doors = self.listeners.iter().filter_map(Result::ok);
        doors.map(|(_, door)| door.networks).collect()
    }

    fn close(&mut self, gone: impl Fn(&Place) -> bool) -> anyhow::Result<()> {
        let gone: Vec<_> = self
            .listeners
            .keys()
            .filter_map(Result::ok)
            .filter(gone)
            .collect();
        for place in gone {
            self.listeners.remove(&place).context("removing a door")?;
        }
        Ok(())
    }

    /// Counters for these listeners and no others.
    fn count_for(&mut self, doorways: &[Doorway]) -> anyhow::Result<()> {
        let known: HashSet<u32> = self.rejected.keys().filter_map(Result::ok).collect();
        let wanted: HashSet<u32> = doorways.iter().map(|doorway| doorway.listener).collect();
        for listener in wanted.difference(&known) {
            let cpus = nr_cpus().map_err(|(file, error)| anyhow::anyhow!("{file}: {error}"))?;
            let zeros = PerCpuValues::try_from(vec![Rejected::default(); cpus])?;
            self.rejected
                .insert(listener, zeros, 0)
                .context("a listener's counters")?;
        }
        for listener in known.difference(&wanted) {
            self.rejected
                .remove(listener)
                .context("removing a listener's counters")?;
            self.told.remove(listener);
        }
        Ok(())
    }
}

/// Opens all doors that an earlier daemon has left, for one without a fast path: its
/// rules are others, and it enforces them itself.
pub(super) fn abandon(pin_dir: &FsPath) -> anyhow::Result<()> {
    if !attach::versioned(pin_dir).is_dir() {
        return Ok(());
    }
    let pins = match PinDir::open(pin_dir) {
        // The doors of a daemon that runs are its own.
        Err(error) if error.is::<attach::InUse>() => return Ok(()),
        pins => pins?,
    };
    if !pins.pin("LISTENERS").exists() {
        return Ok(());
    }
    Doors::open(&pins)?.clear()
}

fn key(number: u32, network: &IpNet) -> Key<Network> {
    let (family, before) = match network {
        IpNet::V4(_) => (Family::V4, Network::BITS_MAPPED),
        IpNet::V6(_) => (Family::V6, 0),
    };
    let bits = Network::BITS_BEFORE + before + u32::from(network.prefix_len());
    let network = Network {
        number,
        family: u32::from(family as u8),
        source: address::octets(network.network()),
    };
    Key::new(bits, network)
}

fn number(key: Key<Network>) -> u32 {
    let Network { number, .. } = key.data();
    number
}

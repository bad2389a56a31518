//! What a daemon would do with each interface; for those who ask before there is one.

use super::super::types::Settings;
use super::choice::{Choice, choose};
use super::{ethtool, netlink, versioned, wanted, xdp};

/// An interface and what would be chosen for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dataplane) struct Prospect {
    /// Its name.
    pub(in crate::dataplane) name: String,
    /// Its driver, or what kind of virtual one it is.
    pub(in crate::dataplane) driver: String,
    /// None while there is no such interface.
    pub(in crate::dataplane) choice: Option<Choice>,
    /// Features that are on and spoil what XDP would see.
    pub(in crate::dataplane) merging: Vec<String>,
}

/// What makes one packet of several before XDP could see them: of those it could send on
/// only pieces, or a driver refuses either (kernel Documentation/networking/
/// netdev-features.rst). GRO without hardware comes after XDP.
const MERGING: [&str; 2] = ["rx-lro", "rx-gro-hw"];

/// Looks at each interface that the settings mean.
pub(in crate::dataplane) fn prospects(settings: &Settings) -> anyhow::Result<Vec<Prospect>> {
    let pins = versioned(&settings.pin_dir);
    let mut all = Vec::new();
    for name in wanted(&settings.interfaces)? {
        let (mut driver, mut choice, mut merging) = (String::new(), None, Vec::new());
        if let Some(interface) = netlink::interface(&name)? {
            let facts = xdp::facts(&pins, &name, &interface);
            let chosen = choose(settings.mode, &facts);
            if chosen.xdp.is_some() {
                // Who names no features has none to spoil anything.
                merging = ethtool::features(&name).unwrap_or_default();
                merging.retain(|feature| MERGING.contains(&feature.as_str()));
            }
            choice = Some(chosen);
            driver = facts.driver;
        }
        all.push(Prospect {
            name,
            driver,
            choice,
            merging,
        });
    }
    Ok(all)
}

//! What a daemon would do with each interface; for those who ask before there is one.

use super::super::types::Settings;
use super::choice::{Choice, choose};
use super::{netlink, versioned, wanted, xdp};

/// An interface and what would be chosen for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dataplane) struct Prospect {
    /// Its name.
    pub(in crate::dataplane) name: String,
    /// Its driver, or what kind of virtual one it is.
    pub(in crate::dataplane) driver: String,
    /// None while there is no such interface.
    pub(in crate::dataplane) choice: Option<Choice>,
}

/// Looks at each interface that the settings mean.
pub(in crate::dataplane) fn prospects(settings: &Settings) -> anyhow::Result<Vec<Prospect>> {
    let pins = versioned(&settings.pin_dir);
    let mut all = Vec::new();
    for name in wanted(&settings.interfaces)? {
        let (mut driver, mut choice) = (String::new(), None);
        if let Some(interface) = netlink::interface(&name)? {
            let facts = xdp::facts(&pins, &name, &interface);
            choice = Some(choose(settings.mode, &facts));
            driver = facts.driver;
        }
        all.push(Prospect {
            name,
            driver,
            choice,
        });
    }
    Ok(all)
}

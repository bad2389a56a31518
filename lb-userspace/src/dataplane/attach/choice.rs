//! Which hooks an interface is given, and why: pure, from what is known of it.

use aya::programs::XdpMode;

use super::super::types::Mode;

/// Drivers whose native XDP also takes redirected packets (`ndo_xdp_xmit`).
///
/// Not veth: there TC sees whole GSO packets and native XDP takes them away from the
/// peer. Not virtio_net: under XDP it drops packets with partial checksums and wants
/// a queue more for each CPU. Not ena: it wants half its channels and a small MTU.
const NATIVE: [&str; 16] = [
    "bnxt_en",
    "fsl_dpaa2_eth",
    "fsl_enetc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "mana",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "qede",
    "rvu-nicpf",
    "sfc",
    "st_gmac",
];

/// What is known of an interface.
#[derive(Debug, Clone)]
pub(in crate::dataplane) struct Facts {
    /// Its kind if software makes it, else its driver; empty if it says neither.
    pub(in crate::dataplane) driver: String,
    /// Hardware has no kind.
    pub(in crate::dataplane) is_virtual: bool,
    /// Where this host's own sockets meet.
    pub(in crate::dataplane) is_loopback: bool,
    /// Another's XDP program, by id.
    pub(in crate::dataplane) foreign_xdp: Option<u32>,
}

/// The hooks beside TC, and why these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dataplane) struct Choice {
    /// In front of TC.
    pub(in crate::dataplane) xdp: Option<XdpMode>,
    /// For people.
    pub(in crate::dataplane) reason: String,
}

/// Chooses for a mode of the fast path.
pub(in crate::dataplane) fn choose(mode: Mode, facts: &Facts) -> Choice {
    let tc = |reason: String| Choice { xdp: None, reason };
    let xdp = match mode {
        Mode::Tc | Mode::Off => return tc("fastpath.mode is tc".into()),
        Mode::XdpGeneric => XdpMode::Skb,
        Mode::Xdp | Mode::Auto => XdpMode::Driver,
    };
    // It would see packets with partial checksums only, and it cannot send any there.
    if facts.is_loopback {
        return tc("the loopback: ends on this host are TC's".into());
    }
    if let Some(id) = facts.foreign_xdp {
        return tc(format!("another XDP program (id {id}) is left alone"));
    }
    if mode == Mode::Auto
        && let Some(reason) = against_native(facts)
    {
        return tc(reason);
    }
    let reason = match mode {
        Mode::Auto => format!("auto: driver {} has native XDP", facts.driver),
        Mode::Xdp | Mode::XdpGeneric | Mode::Tc | Mode::Off => "set by fastpath.mode".into(),
    };
    Choice {
        xdp: Some(xdp),
        reason,
    }
}

/// Why `auto` stays with TC.
fn against_native(facts: &Facts) -> Option<String> {
    let driver = &facts.driver;
    let why = match driver.as_str() {
        "veth" => "TC sees whole GSO packets on veth, XDP does not",
        "virtio_net" => {
            "under XDP virtio_net drops packets with partial checksums and wants more queues"
        }
        "ena" => "under XDP ena wants half of its channels and an MTU below 3498",
        _ if facts.is_virtual => return Some(format!("auto: {driver} has no native XDP")),
        "" => "the interface names no driver",
        known if NATIVE.contains(&known) => return None,
        _ => {
            return Some(format!(
                "auto: native XDP of driver {driver} is not known to do"
            ));
        }
    };
    Some(format!("auto: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(driver: &str) -> Facts {
        Facts {
            driver: driver.into(),
            is_virtual: false,
            is_loopback: false,
            foreign_xdp: None,
        }
    }

    #[test]
    fn no_mode_puts_xdp_on_the_loopback() {
        for mode in [Mode::Auto, Mode::Xdp, Mode::XdpGeneric, Mode::Tc] {
            let facts = Facts {
                is_loopback: true,
                ..facts("")
            };
            assert_eq!(choose(mode, &facts).xdp, None, "{mode:?}");
        }
    }

    #[test]
    fn auto_takes_native_xdp_only_where_it_is_worth_it() {
        let virtual_one = |kind| Facts {
            is_virtual: true,
            ..facts(kind)
        };
        let table = [
            (
                facts("ixgbe"),
                Some(XdpMode::Driver),
                "driver ixgbe has native XDP",
            ),
            (
                facts("mlx5_core"),
                Some(XdpMode::Driver),
                "driver mlx5_core has",
            ),
            (virtual_one("veth"), None, "whole GSO packets"),
            (virtual_one("vlan"), None, "vlan has no native XDP"),
            (virtual_one("bond"), None, "bond has no native XDP"),
            (facts("virtio_net"), None, "partial checksums"),
            (facts("ena"), None, "half of its channels"),
            (facts("e1000e"), None, "e1000e is not known"),
            (facts(""), None, "names no driver"),
        ];
        for (facts, xdp, why) in table {
            let choice = choose(Mode::Auto, &facts);
            assert_eq!(choice.xdp, xdp, "{facts:?}");
            assert!(choice.reason.contains(why), "{facts:?}: {}", choice.reason);
        }
    }

    #[test]
    fn a_mode_that_is_set_is_obeyed() {
        for driver in ["veth", "virtio_net", "ena", "e1000e", "ixgbe"] {
            let facts = facts(driver);
            assert_eq!(choose(Mode::Xdp, &facts).xdp, Some(XdpMode::Driver));
            assert_eq!(choose(Mode::XdpGeneric, &facts).xdp, Some(XdpMode::Skb));
            assert_eq!(choose(Mode::Tc, &facts).xdp, None);
        }
    }

    #[test]
    fn a_strangers_program_is_left_alone_in_every_mode() {
        for mode in [Mode::Auto, Mode::Xdp, Mode::XdpGeneric] {
            let facts = Facts {
                foreign_xdp: Some(77),
                ..facts("ixgbe")
            };
            let choice = choose(mode, &facts);
            assert_eq!(choice.xdp, None);
            assert!(choice.reason.contains("(id 77) is left alone"));
        }
    }
}

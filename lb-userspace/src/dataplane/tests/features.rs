//! What the kernel says an interface does for its packets.

use std::process::Command;

use super::super::attach::features;
use super::kernel::with_kernel;

/// A veth can do GRO or not; it has neither LRO nor GRO of hardware.
#[test]
fn are_read_as_ethtool_shows_and_sets_them() {
    with_kernel(|_| {
        for (state, on) in [("on", true), ("off", false), ("on", true)] {
            let set = ["-K", "clients", "gro", state];
            let done = Command::new("ethtool").args(set).status();
            assert!(done.expect("ethtool runs (Debian package)").success());
            let features = features("clients").expect("a veth has features");
            assert_eq!(
                features.iter().any(|one| one == "rx-gro"),
                on,
                "{features:?}"
            );
            assert!(!features.iter().any(|one| one == "rx-lro"), "{features:?}");
        }
        assert!(features("nowhere").is_err());
    });
}

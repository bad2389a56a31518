//! Stable 64-bit names: the same configuration name gives the same number on
//! every balancer and after every restart, so cookies and flows can carry it.

use std::net::SocketAddr;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The id of a listener or a target group: a hash of its name.
pub(crate) fn name_id(name: &str) -> u64 {
    fnv1a(FNV_OFFSET, name.as_bytes())
}

/// The id of a target: a hash of its group and its address.
pub(crate) fn target_id(group: &str, address: SocketAddr) -> u64 {
    // The separator cannot be part of a name, so ("a", "b…") and ("ab", "…") differ.
    let group = fnv1a(name_id(group), &[0]);
    fnv1a(group, address.to_string().as_bytes())
}

/// What a flow keeps of an id: the flow table has room for half of it.
pub(crate) fn flow_label(id: u64) -> u32 {
    (id & u64::from(u32::MAX)) as u32
}

/// FNV-1a: not for adversaries, but names come from the configuration only.
fn fnv1a(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_never_change_between_versions() {
        assert_eq!(name_id(""), FNV_OFFSET);
        assert_eq!(name_id("a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn target_ids_depend_on_group_and_address() {
        let address: SocketAddr = "10.0.0.1:80".parse().expect("an address");
        assert_ne!(target_id("a", address), target_id("b", address));
        assert_ne!(target_id("a", address), name_id("a10.0.0.1:80"));
    }
}

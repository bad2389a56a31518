//! Lets the program ask the routing table for a flow's next hop.
//!
//! The kernel answers `bpf_fib_lookup` only about an interface that forwards. The
//! program asks as if the packet came from this host itself, that is from the loopback,
//! so forwarding is turned on there and nowhere else: no other interface's packets are
//! routed by that, the host does not become a router.

use std::fs;
use std::io;

/// Turns it on for both families. What cannot be is logged: flows of that family then
/// leave where their packets come in, and XDP leaves them to TC.
pub(super) fn open() {
    for family in ["ipv4", "ipv6"] {
        if let Err(error) = open_family(family) {
            tracing::warn!(
                family,
                %error,
                "the program cannot ask the routing table: \
                 flows leave by the interface their packets come in by"
            );
        }
    }
}

/// Lets the stack take packets off the loopback that have not been sent there by a
/// socket of this host, as those are that the program hands on to an end here: it would
/// take their sources for forged. Other interfaces are not concerned. False if that
/// cannot be; IPv6 has no such switches.
pub(super) fn deliver() -> bool {
    ["accept_local", "route_localnet"].iter().all(|name| {
        let path = format!("/proc/sys/net/ipv4/conf/lo/{name}");
        let done = set(&path);
        if let Err(error) = &done {
            tracing::warn!(
                path,
                %error,
                "connections of clients and targets on this host are relayed"
            );
        }
        done.is_ok()
    })
}

/// Writes nothing where nothing need be changed: that may not be allowed.
fn set(path: &str) -> io::Result<()> {
    if fs::read_to_string(path)?.trim() == "1" {
        return Ok(());
    }
    fs::write(path, "1")
}

fn open_family(family: &str) -> io::Result<()> {
    let path = format!("/proc/sys/net/{family}/conf/lo/forwarding");
    if fs::read_to_string(&path)?.trim() == "1" {
        return Ok(());
    }
    // A kernel that begins to forward IPv6 anywhere forgets the default routes that
    // routers have announced (net/ipv6/addrconf.c, rt6_purge_dflt_routers).
    if family == "ipv6" && has_announced_default(&fs::read_to_string("/proc/net/ipv6_route")?) {
        return Err(io::Error::other(
            "a default route learned from a router would be lost with \
             net.ipv6.conf.lo.forwarding=1; a static one would not",
        ));
    }
    fs::write(path, "1")
}

/// Whether a table as `/proc/net/ipv6_route` shows it has a default route from a router
/// advertisement (include/uapi/linux/ipv6_route.h).
fn has_announced_default(table: &str) -> bool {
    const RTF_DEFAULT: u32 = 0x0001_0000;
    const RTF_ADDRCONF: u32 = 0x0004_0000;
    table.lines().any(|line| {
        let mut words = line.split_whitespace();
        let everything = words.nth(1) == Some("00");
        let flags = words
            .nth(6)
            .and_then(|text| u32::from_str_radix(text, 16).ok());
        everything && flags.is_some_and(|flags| flags & (RTF_DEFAULT | RTF_ADDRCONF) != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::has_announced_default;

    const STATIC: &str = "\
00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
fd710000000000000000000000000001 00000400 00000001 00000000 00000003     eth0
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
00000000000000000000000000000000 00000100 00000001 00000000 00040001     eth0
";
    const ANNOUNCED: &str = "\
00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0
";

    #[test]
    fn only_a_default_route_of_a_router_advertisement() {
        assert!(has_announced_default(ANNOUNCED));
        assert!(!has_announced_default(STATIC));
        assert!(!has_announced_default(""));
    }
}

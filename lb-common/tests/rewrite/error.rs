//! ICMP errors in Ethernet frames, built and taken apart by hand, without the code
//! under test (RFC 792, RFC 4443).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::frame::{be16, sum};

const ETHERNET: usize = 14;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

/// Fragmentation needed; packet too big.
pub(crate) const TOO_BIG_V4: [u8; 2] = [3, 4];
pub(crate) const TOO_BIG_V6: [u8; 2] = [2, 0];

/// Everything an error says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) ttl: u8,
    /// Type and code.
    pub(crate) kind: [u8; 2],
    /// The 32 bits behind the checksum; of "too big", the MTU.
    pub(crate) rest: u32,
    /// The packet it is about, from its IP header on, as much as is quoted.
    pub(crate) quoted: Vec<u8>,
}

impl Error {
    /// "Too big", from a router to the sender of `frame`, of which `quoted` bytes
    /// behind the IP header are quoted.
    pub(crate) fn too_big(frame: &[u8], router: IpAddr, mtu: u32, quoted: usize) -> Self {
        let ip = &frame[ETHERNET..];
        let (to, kind, header): (IpAddr, _, _) = match router {
            IpAddr::V4(_) => (Ipv4Addr::from(array::<4>(ip, 12)).into(), TOO_BIG_V4, 20),
            IpAddr::V6(_) => (Ipv6Addr::from(array::<16>(ip, 8)).into(), TOO_BIG_V6, 40),
        };
        Self {
            from: router,
            to,
            ttl: 60,
            kind,
            rest: mtu,
            quoted: ip[..ip.len().min(header + quoted)].to_vec(),
        }
    }

    /// The frame.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut icmp = self.kind.to_vec();
        icmp.extend([0, 0]);
        icmp.extend(self.rest.to_be_bytes());
        icmp.extend(&self.quoted);
        let checksum = !icmp_sum(self.from, self.to, &icmp);
        icmp[2..4].copy_from_slice(&checksum.to_be_bytes());
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend([0x08, 0x00, 0x45, 0xc0]);
                frame.extend((20 + icmp.len() as u16).to_be_bytes());
                frame.extend([0, 7, 0, 0, self.ttl, ICMP, 0, 0]);
                frame.extend(from.octets());
                frame.extend(to.octets());
                let checksum = !sum(&frame[ETHERNET..]);
                frame[24..26].copy_from_slice(&checksum.to_be_bytes());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend((icmp.len() as u16).to_be_bytes());
                frame.extend([ICMP_V6, self.ttl]);
                frame.extend(from.octets());
                frame.extend(to.octets());
            }
            mixed => panic!("no packet is of two families: {mixed:?}"),
        }
        frame.extend(icmp);
        frame
    }

    /// Takes a frame apart. Panics where a length or a checksum is wrong.
    pub(crate) fn read(frame: &[u8]) -> Self {
        let ip = &frame[ETHERNET..];
        let (from, to, ttl, icmp): (IpAddr, IpAddr, _, _) = match be16(frame, 12) {
            0x0800 => {
                assert_eq!((ip[0], ip[9]), (0x45, ICMP), "a plain header before ICMP");
                assert_eq!(sum(&ip[..20]), 0xffff, "IPv4 header checksum");
                assert_eq!(usize::from(be16(ip, 2)), ip.len(), "IPv4 total length");
                let (from, to) = (array::<4>(ip, 12), array::<4>(ip, 16));
                (from.into(), to.into(), ip[8], &ip[20..])
            }
            0x86dd => {
                assert_eq!(
                    (ip[0] >> 4, ip[6]),
                    (6, ICMP_V6),
                    "a plain header before ICMP"
                );
                assert_eq!(
                    usize::from(be16(ip, 4)) + 40,
                    ip.len(),
                    "IPv6 payload length"
                );
                let (from, to) = (array::<16>(ip, 8), array::<16>(ip, 24));
                (from.into(), to.into(), ip[7], &ip[40..])
            }
            other => panic!("no IP: ethertype {other:04x}"),
        };
        assert_eq!(icmp_sum(from, to, icmp), 0xffff, "ICMP checksum");
        Self {
            from,
            to,
            ttl,
            kind: [icmp[0], icmp[1]],
            rest: u32::from_be_bytes(array(icmp, 4)),
            quoted: icmp[8..].to_vec(),
        }
    }
}

/// ICMPv6 sums over a pseudo header too (RFC 4443 section 2.3).
fn icmp_sum(from: IpAddr, to: IpAddr, icmp: &[u8]) -> u16 {
    let mut bytes = Vec::with_capacity(40 + icmp.len());
    if let (IpAddr::V6(from), IpAddr::V6(to)) = (from, to) {
        bytes.extend(from.octets());
        bytes.extend(to.octets());
        bytes.extend((icmp.len() as u32).to_be_bytes());
        bytes.extend([0, 0, 0, ICMP_V6]);
    }
    bytes.extend(icmp);
    sum(&bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

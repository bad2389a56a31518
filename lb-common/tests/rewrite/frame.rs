//! TCP segments in Ethernet frames, built and taken apart by hand, without the
//! code under test (RFC 791, RFC 8200, RFC 9293; checksums by RFC 1071).

use std::net::{IpAddr, SocketAddr};

const ETHERNET: usize = 14;
const TCP: u8 = 6;
/// Source and destination of every frame built here.
const MACS: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

/// Everything a segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) ttl: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// As on the wire; a multiple of four, at most forty.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Plain {
    /// The frame.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = MACS.to_vec();
        let tcp = self.tcp();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend([0x08, 0x00, 0x45, 0]);
                frame.extend((20 + tcp.len() as u16).to_be_bytes());
                frame.extend([0x12, 0x34, 0x40, 0, self.ttl, TCP, 0, 0]);
                frame.extend(from.octets());
                frame.extend(to.octets());
                let checksum = !sum(&frame[ETHERNET..]);
                frame[24..26].copy_from_slice(&checksum.to_be_bytes());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend((tcp.len() as u16).to_be_bytes());
                frame.extend([TCP, self.ttl]);
                frame.extend(from.octets());
                frame.extend(to.octets());
            }
            mixed => panic!("no packet is of two families: {mixed:?}"),
        }
        frame.extend(tcp);
        frame
    }

    /// Takes a frame apart that has no bytes behind the segment.
    ///
    /// Panics where a length or a checksum is wrong.
    pub(crate) fn read(frame: &[u8]) -> Self {
        let ip = &frame[ETHERNET..];
        let (ttl, from, to, tcp): (u8, IpAddr, IpAddr, &[u8]) = match be16(frame, 12) {
            0x0800 => {
                assert_eq!(
                    (ip[0], ip[9]),
                    (0x45, TCP),
                    "a plain IPv4 header before TCP"
                );
                assert_eq!(sum(&ip[..20]), 0xffff, "IPv4 header checksum");
                assert_eq!(usize::from(be16(ip, 2)), ip.len(), "IPv4 total length");
                (
                    ip[8],
                    array::<4>(ip, 12).into(),
                    array::<4>(ip, 16).into(),
                    &ip[20..],
                )
            }
            0x86dd => {
                assert_eq!(
                    (ip[0] >> 4, ip[6]),
                    (6, TCP),
                    "a plain IPv6 header before TCP"
                );
                assert_eq!(
                    usize::from(be16(ip, 4)) + 40,
                    ip.len(),
                    "IPv6 payload length"
                );
                (
                    ip[7],
                    array::<16>(ip, 8).into(),
                    array::<16>(ip, 24).into(),
                    &ip[40..],
                )
            }
            other => panic!("no IP: ethertype {other:04x}"),
        };
        assert_eq!(tcp_sum(from, to, tcp), 0xffff, "TCP checksum");
        let header = usize::from(tcp[12] >> 4) * 4;
        Self {
            from: SocketAddr::new(from, be16(tcp, 0)),
            to: SocketAddr::new(to, be16(tcp, 2)),
            ttl,
            seq: u32::from_be_bytes(array(tcp, 4)),
            ack: u32::from_be_bytes(array(tcp, 8)),
            flags: tcp[13],
            window: be16(tcp, 14),
            options: tcp[20..header].to_vec(),
            payload: tcp[header..].to_vec(),
        }
    }

    fn tcp(&self) -> Vec<u8> {
        assert!(self.options.len().is_multiple_of(4) && self.options.len() <= 40);
        let mut tcp = Vec::with_capacity(60 + self.payload.len());
        tcp.extend(self.from.port().to_be_bytes());
        tcp.extend(self.to.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([(5 + self.options.len() as u8 / 4) << 4, self.flags]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.options);
        tcp.extend(&self.payload);
        let checksum = !tcp_sum(self.from.ip(), self.to.ip(), &tcp);
        tcp[16..18].copy_from_slice(&checksum.to_be_bytes());
        tcp
    }
}

/// Over pseudo header and segment; all ones if the checksum in it is right.
fn tcp_sum(from: IpAddr, to: IpAddr, tcp: &[u8]) -> u16 {
    let mut bytes = Vec::with_capacity(40 + tcp.len());
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    bytes.extend((tcp.len() as u32).to_be_bytes());
    bytes.extend([0, 0, 0, TCP]);
    bytes.extend(tcp);
    sum(&bytes)
}

/// The sum of RFC 1071, not inverted.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

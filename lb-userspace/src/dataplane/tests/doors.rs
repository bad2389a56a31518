//! Listeners' doors: which SYNs reach the stack, and in what form.
//!
//! No test waits for a token: what is due is written into the table of sources, an
//! hour ahead or not at all.

use std::net::SocketAddr;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{HashMap, Map, MapData};
use lb_common::door::{Network, Rejection, Source};
use lb_common::flow::Side;
use nix::time::{ClockId, clock_gettime};

use super::super::address;
use super::super::doors::Turned;
use super::super::types::Doorway;
use super::frame::Plain;
use super::kernel::{Kernel, with_kernel};
use super::refusing::dropped_of;
use super::routes::BALANCER_MACS;
use super::run::{Hook, verdict};
use super::sample::{ACK, FIN, HOOKS, RST, SYN, Sample, samples};
use crate::door::Admission;

const HOUR: u64 = 3_600_000_000_000;
const LISTENER: u32 = 7;
const ECE: u8 = 0x40;
const CWR: u8 = 0x80;

/// A listener at the sample's address that lets these networks in.
fn doorway(sample: &Sample, allow: &[&str], rate: u32) -> Doorway {
    let networks = allow.iter().map(|text| text.parse().expect("a network"));
    Doorway {
        listener: LISTENER,
        addresses: vec![sample.near],
        admission: Admission {
            allow: (!allow.is_empty()).then(|| networks.collect()),
            rate,
        },
        ecn: false,
    }
}

/// What the client sends first.
fn syn(sample: &Sample) -> Plain {
    Plain {
        flags: SYN,
        payload: vec![],
        ..sample.segment(Side::Client)
    }
}

/// The frame as the client's interface gets it.
fn to_us(segment: &Plain) -> Vec<u8> {
    let mut frame = segment.frame();
    frame[..6].copy_from_slice(&BALANCER_MACS[0]);
    frame
}

fn anywhere(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => SocketAddr::new([0, 0, 0, 0].into(), address.port()),
        SocketAddr::V6(_) => SocketAddr::new([0u16; 8].into(), address.port()),
    }
}

fn set(kernel: &mut Kernel, doorways: &[Doorway]) {
    kernel.doors.set(doorways).expect("setting doors");
}

fn passes(kernel: &Kernel, hook: Hook, segment: &Plain, name: &str) {
    let frame = to_us(segment);
    let run = kernel.packet(hook, &frame);
    let pass = match hook {
        Hook::Tc => verdict::TC_OK,
        Hook::Xdp => verdict::XDP_PASS,
    };
    let name = format!("{name}, {hook:?}, to {}", segment.to);
    assert_eq!((run.verdict, &run.packet), (pass, &frame), "{name}");
    assert_eq!(run.counted, [("none", "no_flow")], "{name}");
}

fn rejected(kernel: &mut Kernel, hook: Hook, frame: &[u8], why: Rejection, name: &str) {
    let run = kernel.packet(hook, frame);
    dropped_of(&run, hook, "none", why.name(), name);
    let expected = Turned {
        listener: LISTENER,
        why,
        count: 1,
    };
    assert_eq!(kernel.doors.turned(), [expected], "{name}, {hook:?}");
}

#[test]
fn strangers_are_denied() {
    const ALLOW: [(&[&str], bool); 8] = [
        (&[], true),
        (&["10.1.0.0/24", "fd00:1::/64"], true),
        (&["10.1.0.2", "fd00:1::2"], true),
        (&["0.0.0.0/0", "::/0"], true),
        (&["10.1.0.3", "fd00:1::3"], false),
        (&["10.0.0.0/16", "fd00::/32"], false),
        (&["10.1.0.0/31", "fd00:1::/127"], false),
        (&["9.0.0.0/8", "::/8"], false),
    ];
    with_kernel(|kernel| {
        for sample in samples() {
            for (allow, comes_in) in ALLOW {
                let networks: Vec<String> = allow.iter().map(|text| whole(text)).collect();
                let networks: Vec<&str> = networks.iter().map(String::as_str).collect();
                set(kernel, &[doorway(&sample, &networks, 0)]);
                let name = format!("{allow:?}");
                for hook in HOOKS {
                    match comes_in {
                        true => passes(kernel, hook, &syn(&sample), &name),
                        false => {
                            let frame = to_us(&syn(&sample));
                            rejected(kernel, hook, &frame, Rejection::Denied, &name);
                        }
                    }
                }
            }
        }
    });
}

/// An address is a network of one.
fn whole(text: &str) -> String {
    match text.contains('/') {
        true => text.to_owned(),
        false if text.contains(':') => format!("{text}/128"),
        false => format!("{text}/32"),
    }
}

#[test]
fn a_network_of_one_family_is_none_of_the_other() {
    with_kernel(|kernel| {
        for (sample, other) in samples().into_iter().zip(["::/0", "0.0.0.0/0"]) {
            set(kernel, &[doorway(&sample, &[other], 0)]);
            for hook in HOOKS {
                let frame = to_us(&syn(&sample));
                rejected(kernel, hook, &frame, Rejection::Denied, other);
            }
        }
    });
}

#[test]
fn a_door_sees_nothing_but_syns_to_its_listener() {
    with_kernel(|kernel| {
        for sample in samples() {
            set(kernel, &[doorway(&sample, &["192.0.2.0/24"], 1)]);
            let syn = syn(&sample);
            let to = |address: SocketAddr, port| Plain {
                to: SocketAddr::new(address.ip(), port),
                ..syn.clone()
            };
            for hook in HOOKS {
                for flags in [ACK, SYN | ACK, RST, RST | ACK, FIN | ACK, 0] {
                    let other = Plain {
                        flags,
                        ..syn.clone()
                    };
                    passes(kernel, hook, &other, &format!("flags {flags:x}"));
                }
                passes(kernel, hook, &to(sample.near, 81), "another port");
                let other = to(sample.target, sample.near.port());
                passes(kernel, hook, &other, "another address");
                let back = Plain {
                    from: syn.to,
                    to: syn.from,
                    ..syn.clone()
                };
                passes(kernel, hook, &back, "one of our own");
            }
        }
    });
}

#[test]
fn a_flows_own_syns_are_none_of_its_business() {
    with_kernel(|kernel| {
        for sample in samples() {
            set(kernel, &[doorway(&sample, &["192.0.2.0/24"], 0)]);
            kernel.put(&sample.committed(kernel.routes));
            for hook in HOOKS {
                let run = kernel.packet(hook, &to_us(&syn(&sample)));
                assert_eq!(run.counted, [("client_to_target", "challenged")]);
            }
            kernel.put(&sample.observing());
            for hook in HOOKS {
                let run = kernel.packet(hook, &to_us(&syn(&sample)));
                assert_eq!(run.counted, [("client_to_target", "observed")]);
            }
        }
    });
}

/// As the stack picks a listener.
#[test]
fn the_door_of_an_address_goes_before_that_of_all() {
    with_kernel(|kernel| {
        for sample in samples() {
            let everyone = doorway(&sample, &[], 0);
            let nobody = doorway(&sample, &["192.0.2.0/24"], 0);
            let of_all = |doorway: &Doorway| Doorway {
                addresses: vec![anywhere(sample.near)],
                ..doorway.clone()
            };
            for hook in HOOKS {
                set(kernel, &[of_all(&nobody), everyone.clone()]);
                passes(kernel, hook, &syn(&sample), "its own lets in");
                set(kernel, &[of_all(&everyone), nobody.clone()]);
                let frame = to_us(&syn(&sample));
                rejected(kernel, hook, &frame, Rejection::Denied, "its own does not");
                set(kernel, &[of_all(&nobody)]);
                rejected(kernel, hook, &frame, Rejection::Denied, "that of all alone");
            }
        }
    });
}

/// A host that forwards sees SYNs to the same port of others.
#[test]
fn all_addresses_are_those_of_this_host() {
    with_kernel(|kernel| {
        for sample in samples() {
            let all = Doorway {
                addresses: vec![anywhere(sample.near)],
                ..doorway(&sample, &["192.0.2.0/24"], 0)
            };
            set(kernel, &[all]);
            let elsewhere = Plain {
                to: SocketAddr::new(sample.target.ip(), sample.near.port()),
                ..syn(&sample)
            };
            for hook in HOOKS {
                kernel.routes.forwarding(true);
                passes(kernel, hook, &elsewhere, "to be forwarded");
                let frame = to_us(&syn(&sample));
                rejected(kernel, hook, &frame, Rejection::Denied, "to this host");
                kernel.routes.forwarding(false);
                rejected(kernel, hook, &frame, Rejection::Denied, "of no router");
            }
        }
    });
}

/// A port of a bridge sees what is addressed to others.
#[test]
fn frames_to_other_hosts_are_left_alone() {
    with_kernel(|kernel| {
        for sample in samples() {
            set(kernel, &[doorway(&sample, &["192.0.2.0/24"], 0)]);
            let run = kernel.packet(Hook::Tc, &syn(&sample).frame());
            assert_eq!(run.counted, [("none", "no_flow")]);
        }
    });
}

#[test]
fn syns_in_odd_packets_are_judged_too() {
    with_kernel(|kernel| {
        for sample in samples() {
            set(kernel, &[doorway(&sample, &["192.0.2.0/24"], 0)]);
            let frame = to_us(&syn(&sample));
            let odd = match sample.near.is_ipv4() {
                true => {
                    let mut first = frame.clone();
                    first[20] = 0x20;
                    let short = first[..34 + 8].to_vec();
                    let mut options = frame.clone();
                    options[14] = 0x46;
                    options.splice(34..34, [0x94, 4, 0, 0]);
                    vec![first, short, options]
                }
                false => {
                    let mut fragment = frame.clone();
                    fragment[20] = 44;
                    fragment.splice(54..54, [6, 0, 0, 1, 0, 0, 0, 9]);
                    let short = fragment[..54 + 8 + 8].to_vec();
                    let mut options = frame.clone();
                    options[20] = 0;
                    options.splice(54..54, [6, 0, 5, 2, 0, 0, 1, 0]);
                    vec![fragment, short, options]
                }
            };
            for hook in HOOKS {
                for (number, frame) in odd.iter().enumerate() {
                    let name = format!("odd packet {number}");
                    rejected(kernel, hook, frame, Rejection::Denied, &name);
                }
            }
        }
    });
}

#[test]
fn a_source_takes_one_token_a_syn_at_tc_and_none_at_xdp() {
    with_kernel(|kernel| {
        for sample in samples() {
            set(kernel, &[doorway(&sample, &[], 1)]);
            let mut sources = sources(kernel);
            let source = source(&sample);
            passes(kernel, Hook::Xdp, &syn(&sample), "not known yet");
            assert!(sources.get(&source, 0).is_err(), "XDP takes nothing");
            passes(kernel, Hook::Tc, &syn(&sample), "not known yet");
            let due = sources.get(&source, 0).expect("known now");
            assert!(due > now() && due <= now() + HOUR, "due {due}");

            sources.insert(source, now() + HOUR, 0).expect("inserting");
            for hook in HOOKS {
                let frame = to_us(&syn(&sample));
                rejected(kernel, hook, &frame, Rejection::Limited, "not due");
            }
            let other = Plain {
                from: other_source(sample.client),
                ..syn(&sample)
            };
            for hook in [Hook::Xdp, Hook::Tc] {
                passes(kernel, hook, &other, "another source");
            }
            sources.insert(source, 0, 0).expect("inserting");
            for hook in [Hook::Xdp, Hook::Tc] {
                passes(kernel, hook, &syn(&sample), "due again");
            }
        }
    });
}

/// The neighbour of an IPv4 address; of IPv6 another /64.
fn other_source(address: SocketAddr) -> SocketAddr {
    let other = match address {
        SocketAddr::V4(_) => "10.1.0.3:40000",
        SocketAddr::V6(_) => "[fd00:1:0:1::2]:40000",
    };
    other.parse().expect("an address")
}

#[test]
fn hosts_of_one_64_share_a_bucket() {
    with_kernel(|kernel| {
        let [_, sample] = samples();
        set(kernel, &[doorway(&sample, &[], 1)]);
        let mut sources = sources(kernel);
        sources
            .insert(source(&sample), now() + HOUR, 0)
            .expect("inserting");
        let neighbour = Plain {
            from: "[fd00:1::ffff]:40000".parse().expect("an address"),
            ..syn(&sample)
        };
        for hook in HOOKS {
            let frame = to_us(&neighbour);
            rejected(kernel, hook, &frame, Rejection::Limited, "a neighbour");
        }
    });
}

/// A denied source takes no place in the table of sources.
#[test]
fn who_is_denied_is_not_remembered() {
    with_kernel(|kernel| {
        for sample in samples() {
            set(kernel, &[doorway(&sample, &["192.0.2.0/24"], 1)]);
            let frame = to_us(&syn(&sample));
            rejected(kernel, Hook::Tc, &frame, Rejection::Denied, "denied");
            assert!(sources(kernel).get(&source(&sample), 0).is_err());
        }
    });
}

#[test]
fn an_offer_of_ecn_is_taken_out() {
    with_kernel(|kernel| {
        for sample in samples() {
            let tcp = if sample.near.is_ipv4() { 34 } else { 54 };
            set(kernel, &[doorway(&sample, &[], 0)]);
            let plain = kernel.packet(Hook::Tc, &to_us(&syn(&sample))).packet;
            for (accurate, flags) in [(0, ECE | CWR), (1, ECE | CWR), (1, 0), (0, CWR)] {
                let mut frame = to_us(&Plain {
                    flags: SYN | flags,
                    ..syn(&sample)
                });
                accurate_ecn(&mut frame, tcp, accurate);
                let run = kernel.packet(Hook::Tc, &frame);
                assert_eq!(run.counted, [("none", "no_flow")]);
                assert_eq!(run.verdict, verdict::TC_OK);
                assert_eq!(run.packet, plain, "{accurate} {flags:x}, checksum and all");
            }
        }
    });
}

/// Sets the bit and mends the checksum (RFC 1624), both by hand.
fn accurate_ecn(frame: &mut [u8], tcp: usize, bit: u8) {
    frame[tcp + 12] |= bit;
    let old = !u16::from_be_bytes([frame[tcp + 16], frame[tcp + 17]]);
    let sum = u32::from(old) + (u32::from(bit) << 8);
    let new = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[tcp + 16..tcp + 18].copy_from_slice(&new.to_be_bytes());
}

#[test]
fn an_offer_of_ecn_stays_where_nothing_is_handed_off() {
    with_kernel(|kernel| {
        for sample in samples() {
            let offer = Plain {
                flags: SYN | ECE | CWR,
                ..syn(&sample)
            };
            passes(kernel, Hook::Tc, &offer, "no listener");
            let https = Doorway {
                ecn: true,
                ..doorway(&sample, &[], 0)
            };
            set(kernel, &[https]);
            passes(kernel, Hook::Tc, &offer, "one that ends TLS");
        }
    });
}

#[test]
fn new_doors_replace_the_old_and_leave_nothing() {
    with_kernel(|kernel| {
        let [first, second] = samples();
        let networks = ["10.1.0.0/24", "fd00:1::/64", "192.0.2.0/24"];
        for _ in 0..3 {
            set(kernel, &[doorway(&first, &networks, 0)]);
            assert_eq!(trie(kernel).keys().count(), networks.len());
        }
        set(
            kernel,
            &[
                doorway(&first, &networks[..2], 0),
                doorway(&second, &networks[2..], 0),
            ],
        );
        assert_eq!(trie(kernel).keys().count(), networks.len());
        passes(kernel, Hook::Tc, &syn(&first), "still let in");
        let frame = to_us(&syn(&second));
        rejected(kernel, Hook::Tc, &frame, Rejection::Denied, "its own rules");

        set(kernel, &[doorway(&second, &[], 0)]);
        passes(kernel, Hook::Tc, &syn(&second), "open now");
        passes(kernel, Hook::Tc, &syn(&first), "no listener any more");
        assert_eq!(trie(kernel).keys().count(), 0);

        set(kernel, &[doorway(&first, &networks[2..], 0)]);
        kernel.doors.clear().expect("clearing");
        passes(kernel, Hook::Tc, &syn(&first), "all doors are open");
        assert_eq!(trie(kernel).keys().count(), 0);
    });
}

/// A daemon that died between writing networks and leading a door to them.
#[test]
fn networks_that_no_door_leads_to_are_swept() {
    with_kernel(|kernel| {
        let [sample, _] = samples();
        let key = aya::maps::lpm_trie::Key::new(
            Network::BITS_BEFORE,
            Network {
                number: 0,
                family: 4,
                source: address::octets(sample.client.ip()),
            },
        );
        trie(kernel).insert(&key, 1, 0).expect("inserting");
        set(kernel, &[doorway(&sample, &["192.0.2.0/24"], 0)]);
        assert_eq!(trie(kernel).keys().count(), 1);
        let frame = to_us(&syn(&sample));
        rejected(kernel, Hook::Tc, &frame, Rejection::Denied, "a stranger");
    });
}

#[test]
fn what_an_earlier_daemon_counted_is_not_told_again() {
    with_kernel(|kernel| {
        let [sample, _] = samples();
        set(kernel, &[doorway(&sample, &["192.0.2.0/24"], 0)]);
        let run = kernel.packet(Hook::Tc, &to_us(&syn(&sample)));
        assert_eq!(run.counted, [("none", "denied")]);
        assert_eq!(kernel.doors_again().turned(), []);
    });
}

fn sources(kernel: &Kernel) -> HashMap<MapData, Source, u64> {
    let map = Map::LruHashMap(kernel.pinned("SOURCES"));
    map.try_into().expect("a hash")
}

fn trie(kernel: &Kernel) -> LpmTrie<MapData, Network, u32> {
    let map = Map::LpmTrie(kernel.pinned("NETWORKS"));
    map.try_into().expect("a trie")
}

fn source(sample: &Sample) -> Source {
    let key = address::key(sample.near, sample.client);
    Source::of(key.tuple.peer, key.family, LISTENER)
}

/// The program's clock.
fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock");
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

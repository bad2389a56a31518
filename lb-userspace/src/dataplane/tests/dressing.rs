//! The balancer's own SYN to a target leaves with what the client's leg has, and
//! with nothing else changed.

use lb_common::flow::{Shifts, Side};
use lb_common::syn::Limits;

use super::super::table::Entry;
use super::frame::Plain;
use super::kernel::{Kernel, with_kernel};
use super::piece::{Piece, encode};
use super::run::verdict;
use super::sample::{ACK, SYN, Sample, samples};

const ECE: u8 = 0x40;
const CWR: u8 = 0x80;
const MSS: u8 = 2;
const SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;

fn mss(bytes: u16) -> Piece {
    Piece::Unknown(MSS, bytes.to_be_bytes().to_vec())
}

/// As Linux writes them, and in other orders: MSS, SACK permitted, timestamps, scale.
fn shapes(size: u16, sack: bool, stamps: bool) -> [Vec<u8>; 4] {
    use Piece::{Nop, Stamps, Unknown};
    let permitted = match sack {
        true => vec![Unknown(SACK_PERMITTED, vec![])],
        false => vec![Nop, Nop],
    };
    let stamp = match stamps {
        true => vec![Stamps(7, 0)],
        false => vec![Nop; 10],
    };
    let scale = vec![Unknown(SCALE, vec![10])];
    let one = [mss(size)];
    [
        [&one[..], &permitted, &stamp, &[Nop], &scale].concat(),
        [&scale[..], &[Nop], &stamp, &permitted, &one].concat(),
        [&[Nop][..], &permitted, &one, &stamp, &scale].concat(),
        [&stamp[..], &one, &permitted].concat(),
    ]
    .map(|pieces| encode(&pieces))
}

fn syn(sample: &Sample, options: Vec<u8>, flags: u8) -> Plain {
    Plain {
        from: sample.far,
        to: sample.target,
        flags,
        ack: 0,
        options,
        payload: vec![],
        ..sample.segment(Side::Client)
    }
}

fn asking(sample: &Sample, limits: Limits) -> Entry {
    let mut entry = sample.observing();
    entry.flow.shifts = limits.shifts(Shifts::default());
    entry
}

#[test]
fn options_the_client_has_not_are_not_offered() {
    with_kernel(|kernel| {
        for sample in samples() {
            for (timestamps, sack, cap) in [
                (false, true, u16::MAX),
                (true, false, u16::MAX),
                (false, false, u16::MAX),
                (true, true, 1260),
                (false, false, 1260),
                (true, true, 1460),
            ] {
                let limits = Limits {
                    mss: cap,
                    timestamps,
                    sack,
                };
                let wanted = shapes(cap.min(1460), sack, timestamps);
                for (asked, wanted) in shapes(1460, true, true).into_iter().zip(wanted) {
                    let entry = asking(&sample, limits);
                    let sent = syn(&sample, asked, SYN | ECE | CWR);
                    let expected = syn(&sample, wanted, SYN);
                    dressed(kernel, &entry, &sent, &expected);
                    let told = Limits::told(&kernel.flow(&entry).shifts);
                    assert_eq!(told, limits, "the daemon can tell");
                }
            }
        }
    });
}

#[test]
fn ecn_is_never_offered() {
    with_kernel(|kernel| {
        for sample in samples() {
            for flags in [SYN | ECE | CWR, SYN | ECE, SYN | CWR] {
                let [asked, ..] = shapes(1460, true, true);
                let entry = asking(&sample, Limits::NONE);
                let sent = syn(&sample, asked.clone(), flags);
                dressed(kernel, &entry, &sent, &syn(&sample, asked, SYN));
            }
        }
    });
}

#[test]
fn what_need_not_be_changed_leaves_as_it_is() {
    let strict = Limits {
        mss: 1000,
        timestamps: false,
        sack: false,
    };
    with_kernel(|kernel| {
        for sample in samples() {
            let [options, ..] = shapes(1460, true, true);
            let plain = syn(&sample, options.clone(), SYN);
            let unasked = asking(&sample, Limits::NONE);
            leaves(kernel, &unasked, &plain, 0, "nothing to be kept to");
            let entry = asking(&sample, strict);
            leaves(kernel, &entry, &plain, 9, "another host's, forwarded");
            let answer = Plain {
                flags: SYN | ACK,
                ..plain.clone()
            };
            leaves(kernel, &entry, &answer, 0, "an answer");
            let to_client = Plain {
                from: sample.near,
                to: sample.client,
                ..plain.clone()
            };
            leaves(kernel, &entry, &to_client, 0, "not to a target");
            let mut live = sample.committed(kernel.routes);
            live.flow.shifts.seq[0] = 0xffff_ffff;
            leaves(kernel, &live, &plain, 0, "about a live flow");
            let overrun = Plain {
                options: vec![MSS, 9, 1, 1],
                ..plain
            };
            leaves(kernel, &entry, &overrun, 0, "options nobody understands");
        }
    });
}

fn dressed(kernel: &mut Kernel, entry: &Entry, sent: &Plain, expected: &Plain) {
    kernel.put(entry);
    let run = kernel.leaving(&sent.frame(), 0);
    assert_eq!(run.verdict, verdict::TC_OK);
    assert_eq!(run.counted, [("client_to_target", "matched")]);
    // `read` sums the checksums from scratch.
    assert_eq!(&Plain::read(&run.packet), expected);
}

fn leaves(kernel: &mut Kernel, entry: &Entry, sent: &Plain, came_in: u32, name: &str) {
    kernel.put(entry);
    let frame = sent.frame();
    let run = kernel.leaving(&frame, came_in);
    assert_eq!((run.verdict, run.packet), (verdict::TC_OK, frame), "{name}");
    assert_eq!(run.counted, [], "{name}");
    assert_eq!(kernel.flow(entry), entry.flow, "{name}");
}

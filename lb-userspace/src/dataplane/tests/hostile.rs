//! Frames that no honest peer sends, by the thousand: the program never aborts, counts
//! each once, and the flow's constants stay what they are.

use lb_common::flow::{Flow, Shifts, Side, Tuple};
use lb_common::word;

use super::super::table::Entry;
use super::error::Error;
use super::frame::Plain;
use super::kernel::{Kernel, with_kernel};
use super::reference::forward;
use super::run::{Hook, verdict};
use super::sample::{HOOKS, SIDES, Sample, interface, samples};

/// Damaged frames of each kind; enough to hit every field often.
const DAMAGED: u64 = 200;
/// Option kinds: those with a meaning here, their neighbours, and the last.
const KINDS: [u8; 8] = [0, 1, 2, 4, 5, 8, 30, 255];

/// Every kind with every length, alone and behind something valid.
#[test]
fn every_option_length() {
    with_kernel(|kernel| {
        let sample = samples()[0];
        let entry = sample.committed(kernel.routes);
        kernel.put(&entry);
        for kind in KINDS {
            for length in (0..=41).chain([255]) {
                for before in [0, 1, 3] {
                    let mut options = vec![1; before];
                    options.extend([kind, length]);
                    options.resize(options.len().next_multiple_of(4).max(12), 1);
                    let plain = Plain {
                        options,
                        ..sample.segment(Side::Client)
                    };
                    survives(kernel, &entry, &plain.frame(), Side::Client);
                }
            }
        }
    });
}

/// Every length of TCP header with every length of frame around it.
#[test]
fn truncated_headers() {
    with_kernel(|kernel| {
        for sample in samples() {
            let entry = sample.committed(kernel.routes);
            kernel.put(&entry);
            let whole = sample.segment(Side::Client).frame();
            let tcp = if sample.client.is_ipv4() { 34 } else { 54 };
            for words in 0..=15u8 {
                let mut frame = whole.clone();
                frame[tcp + 12] = words << 4;
                survives(kernel, &entry, &frame, Side::Client);
            }
            for length in 14..whole.len() {
                survives(kernel, &entry, &whole[..length], Side::Client);
            }
        }
    });
}

/// One to four bytes of a valid frame changed, and perhaps its end cut off.
#[test]
fn damaged_segments_and_reports() {
    with_kernel(|kernel| {
        let mut chance = Chance(7);
        for sample in samples() {
            let entry = sample.committed(kernel.routes);
            kernel.put(&entry);
            for side in SIDES {
                for whole in [sample.segment(side).frame(), report(&sample, &entry, side)] {
                    for _ in 0..DAMAGED {
                        survives(kernel, &entry, &chance.damaged(&whole), side);
                    }
                }
            }
        }
    });
}

/// About the other side's packet, and so from this one.
fn report(sample: &Sample, entry: &Entry, side: Side) -> Vec<u8> {
    let mut onward = sample.segment(side.other()).frame();
    let done = forward(&mut onward, &entry.client.tuple, &entry.flow, side.other());
    done.expect("valid options");
    let router = match sample.client.is_ipv4() {
        true => [192, 0, 2, 7].into(),
        false => "2001:db8::7".parse().expect("an address"),
    };
    Error::too_big(&onward, router, 1300, 40).frame()
}

fn survives(kernel: &Kernel, entry: &Entry, frame: &[u8], side: Side) {
    for hook in HOOKS {
        if hook == Hook::Tc && !has_internet_header(frame) {
            continue;
        }
        let run = kernel.packet_from(hook, frame, interface(kernel, side));
        let verdicts: &[u32] = match hook {
            Hook::Tc => &[verdict::TC_OK, verdict::TC_SHOT, verdict::TC_REDIRECT],
            Hook::Xdp => &[
                verdict::XDP_DROP,
                verdict::XDP_PASS,
                verdict::XDP_TX,
                verdict::XDP_REDIRECT,
            ],
        };
        assert!(
            verdicts.contains(&run.verdict),
            "{hook:?} {run:?} {frame:02x?}"
        );
        assert_eq!(run.counted.len(), 1, "{hook:?} {run:?} {frame:02x?}");
        let flow = kernel.flow(entry);
        assert_eq!(
            constants(&flow),
            constants(&entry.flow),
            "{hook:?} {frame:02x?}"
        );
    }
}

/// The kernel takes no shorter packet for a test run at TC.
fn has_internet_header(frame: &[u8]) -> bool {
    match frame[12..14] {
        [0x08, 0x00] => frame.len() >= 34,
        [0x86, 0xdd] => frame.len() >= 54,
        _ => frame.len() > 14,
    }
}

/// What no packet may change.
fn constants(flow: &Flow) -> (u64, u64, Tuple, Shifts) {
    let lasting = flow.word & (word::COMMITTED | word::ENDED);
    (lasting, flow.id, flow.target, flow.shifts)
}

/// Numbers that look random and are the same in every run (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn damaged(&mut self, whole: &[u8]) -> Vec<u8> {
        let mut frame = whole.to_vec();
        for _ in 0..=self.below(4) {
            let at = 12 + self.below(frame.len() - 12);
            frame[at] = self.below(256) as u8;
        }
        if self.below(3) == 0 {
            frame.truncate(14 + self.below(frame.len() - 13));
        }
        frame
    }
}

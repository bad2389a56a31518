//! The control program: commit exactly if the word is still the one read, and the
//! flow still the one meant.

use lb_common::control::{Op, Reply, Request};
use lb_common::flow::{Shifts, Side};
use lb_common::word;

use super::super::table::Entry;
use super::kernel::with_kernel;
use super::run::{Hook, verdict};
use super::sample::samples;

const SHIFTS: Shifts = Shifts {
    seq: [1, 2],
    stamp: [3, 4],
    scale_sent: [5, 6],
    scale_announced: [7, 8],
    ifindex: [9, 10],
};

/// A commit on the word `expected`.
pub(super) fn request(entry: &Entry, expected: u64) -> Request {
    let (client, id) = (entry.client, entry.flow.id);
    Request {
        op: Op::Commit as u32,
        shifts: SHIFTS,
        client,
        id,
        expected,
    }
}

#[test]
fn a_commit_on_the_word_that_stands_makes_the_flow_live() {
    with_kernel(|kernel| {
        for sample in samples() {
            let entry = sample.observing();
            kernel.put(&entry);
            kernel.packet(Hook::Tc, &sample.segment(Side::Client).frame());
            let word = kernel.flow(&entry).word;
            assert_eq!(kernel.request(&request(&entry, word)), Reply::Done as u32);
            let flow = kernel.flow(&entry);
            assert_eq!((flow.word, flow.shifts), (word | word::COMMITTED, SHIFTS));
            let run = kernel.packet(Hook::Tc, &sample.segment(Side::Client).frame());
            assert_eq!(
                run.verdict,
                verdict::TC_REDIRECT,
                "the next packet is forwarded"
            );
        }
    });
}

/// Whatever a packet changes: the count, or a flag alone.
#[test]
fn a_commit_on_any_other_word_leaves_the_flow_observing() {
    with_kernel(|kernel| {
        let [sample, _] = samples();
        for change in [
            word::PACKET,
            word::SEEN,
            word::FIN << word::TARGET_SHIFT,
            word::UNTRACKED,
        ] {
            let mut entry = sample.observing();
            entry.flow.word = 5;
            let expected = entry.flow.word;
            entry.flow.word += change;
            kernel.put(&entry);
            assert_eq!(
                kernel.request(&request(&entry, expected)),
                Reply::Changed as u32
            );
            assert_eq!(
                kernel.flow(&entry).word,
                entry.flow.word,
                "change {change:x}"
            );
            let run = kernel.packet(Hook::Tc, &sample.segment(Side::Client).frame());
            assert_eq!(run.verdict, verdict::TC_OK, "still the stack's");
        }
    });
}

#[test]
fn requests_that_cannot_be_meant_change_nothing() {
    with_kernel(|kernel| {
        let [sample, _] = samples();
        let entry = sample.committed(kernel.routes);
        kernel.put(&entry);
        let good = request(&entry, entry.flow.word & !word::COMMITTED);
        let mut elsewhere = good;
        elsewhere.client.tuple.peer_port ^= 1;
        let table = [
            (
                "another flow of this key",
                Request {
                    id: good.id + 1,
                    ..good
                },
                Reply::Gone,
            ),
            ("no flow of this key", elsewhere, Reply::Gone),
            (
                "a committed word",
                Request {
                    expected: entry.flow.word,
                    ..good
                },
                Reply::Invalid,
            ),
            (
                "an ended word",
                Request {
                    expected: word::ENDED,
                    ..good
                },
                Reply::Invalid,
            ),
            ("no operation", Request { op: 0, ..good }, Reply::Invalid),
            (
                "an unknown operation",
                Request { op: 3, ..good },
                Reply::Invalid,
            ),
        ];
        for (name, request, reply) in table {
            assert_eq!(kernel.request(&request), reply as u32, "{name}");
            assert_eq!(kernel.flow(&entry), entry.flow, "{name}");
        }
        let short = &good.as_bytes()[..good.as_bytes().len() - 1];
        assert_eq!(kernel.control(short), Reply::Invalid as u32, "cut short");
    });
}

/// A second commit has lost before it began. Its constants must not reach packets
/// that the first one's carry.
#[test]
fn a_late_commit_does_not_touch_a_live_flow() {
    with_kernel(|kernel| {
        let [sample, _] = samples();
        let entry = sample.committed(kernel.routes);
        kernel.put(&entry);
        let late = request(&entry, entry.flow.word & !word::COMMITTED);
        assert_eq!(kernel.request(&late), Reply::Changed as u32);
        assert_eq!(kernel.flow(&entry), entry.flow);
    });
}

#[test]
fn end_sets_its_flag_and_nothing_else() {
    with_kernel(|kernel| {
        for sample in samples() {
            let entry = sample.committed(kernel.routes);
            kernel.put(&entry);
            kernel.table.end(&entry).expect("ending");
            kernel.table.end(&entry).expect("ending twice is the same");
            let mut expected = entry.flow;
            expected.word |= word::ENDED;
            assert_eq!(kernel.flow(&entry), expected);
        }
    });
}

/// The daemon's way to the same program.
#[test]
fn the_table_tells_a_won_commit_from_a_lost_one() {
    with_kernel(|kernel| {
        let [sample, _] = samples();
        let entry = sample.observing();
        kernel.put(&entry);
        assert!(!kernel.table.commit(&entry, 1, SHIFTS).expect("running"));
        assert!(kernel.table.commit(&entry, 0, SHIFTS).expect("running"));
        assert_eq!(kernel.flow(&entry).shifts, SHIFTS);
    });
}

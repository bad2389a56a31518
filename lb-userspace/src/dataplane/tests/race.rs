//! Packets and commits at the same time on all processors: the word that a commit
//! won on counts exactly the packets that were given to the stack.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use lb_common::flow::{Shifts, Side};
use lb_common::word;

use super::super::table::Entry;
use super::kernel::{Kernel, with_kernel};
use super::run::verdict;
use super::sample::{Sample, samples};

const ROUNDS: usize = 60;
const SENDERS: usize = 4;
/// Each sender goes on this long after the commit.
const AFTERWARDS: usize = 5;
/// Packets that must have passed before a commit is tried, more each round.
const STEP: u64 = 3;
const COUNT: u64 = (1 << 48) - 1;

#[test]
fn no_packet_is_both_passed_and_missing_in_the_word() {
    with_kernel(|kernel| {
        let mut lost = 0;
        for round in 0..ROUNDS {
            for sample in samples() {
                let entry = sample.observing();
                kernel.put(&entry);
                lost += one_round(kernel, &sample, &entry, round as u64 * STEP);
            }
        }
        assert!(lost > 0, "no commit ever lost, so nothing has raced");
    });
}

/// Returns the commits that were lost before one was won.
fn one_round(kernel: &Kernel, sample: &Sample, entry: &Entry, least: u64) -> usize {
    let (passed, committed) = (AtomicU64::new(0), AtomicBool::new(false));
    let start = Barrier::new(SENDERS + 1);
    let (word, lost) = thread::scope(|scope| {
        for number in 0..SENDERS {
            let (passed, committed, start) = (&passed, &committed, &start);
            scope.spawn(move || {
                start.wait();
                send(kernel, sample, number, passed, committed);
            });
        }
        start.wait();
        let won = commit(kernel, entry, least);
        committed.store(true, SeqCst);
        won
    });
    assert_eq!(
        word & COUNT,
        passed.load(SeqCst),
        "the word counts what was passed"
    );
    let flow = kernel.flow(entry);
    assert!(flow.word & word::COMMITTED != 0);
    let forwarded: u64 = flow.packets.iter().sum();
    assert!(
        forwarded >= (SENDERS * AFTERWARDS) as u64,
        "every later packet is forwarded"
    );
    lost
}

/// Odd senders are the target. Data until a while after the commit.
fn send(
    kernel: &Kernel,
    sample: &Sample,
    number: usize,
    passed: &AtomicU64,
    committed: &AtomicBool,
) {
    let side = if number.is_multiple_of(2) {
        Side::Client
    } else {
        Side::Target
    };
    let mut segment = sample.segment(side);
    segment.seq = segment.seq.wrapping_add(number as u32 * 100);
    let (frame, mut afterwards) = (segment.frame(), 0);
    while afterwards < AFTERWARDS {
        let late = committed.load(SeqCst);
        match kernel.verdict(&frame) {
            verdict::TC_OK => {
                assert!(!late, "passed to the stack after the commit");
                passed.fetch_add(1, SeqCst);
            }
            verdict::TC_REDIRECT => afterwards += usize::from(late),
            other => panic!("verdict {other}"),
        }
    }
}

fn commit(kernel: &Kernel, entry: &Entry, least: u64) -> (u64, usize) {
    let mut lost = 0;
    loop {
        let word = kernel.flow(entry).word;
        if word & COUNT < least {
            continue;
        }
        if kernel
            .table
            .commit(entry, word, Shifts::default())
            .expect("running")
        {
            return (word, lost);
        }
        lost += 1;
    }
}

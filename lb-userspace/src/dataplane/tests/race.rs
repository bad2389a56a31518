//! Packets and commits at the same time on all processors: the word that a commit
//! won on counts exactly the packets that were given to the stack, and no packet takes
//! back what another has recorded.

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
/// Positions recorded while repeated packets are.
const POSITIONS: u32 = 5_000;

#[test]
fn no_packet_is_both_passed_and_missing_in_the_word() {
    with_kernel(|kernel| {
        for round in 0..ROUNDS {
            for sample in samples() {
                let entry = sample.observing();
                kernel.put(&entry);
                one_round(kernel, &sample, &entry, round as u64 * STEP);
            }
        }
    });
}

/// One processor has new packets of a side, another an old one again and again.
#[test]
fn no_packet_takes_back_a_position() {
    with_kernel(|kernel| {
        for sample in samples() {
            let entry = sample.committed(kernel.routes);
            kernel.put(&entry);
            let done = AtomicBool::new(false);
            let old = sample.segment(Side::Client);
            let (kernel, start) = (&*kernel, Barrier::new(2));
            thread::scope(|scope| {
                scope.spawn(|| {
                    let frame = old.frame();
                    start.wait();
                    while !done.load(SeqCst) {
                        assert_eq!(kernel.verdict(&frame), verdict::TC_REDIRECT);
                    }
                });
                start.wait();
                let kept = (1..=POSITIONS).all(|step| {
                    let mut segment = old.clone();
                    segment.seq = segment.seq.wrapping_add(step);
                    let end = segment.seq.wrapping_add(segment.payload.len() as u32);
                    kernel.verdict(&segment.frame());
                    kernel.flow(&entry).halves[Side::Client.index()].passed_end == end
                });
                done.store(true, SeqCst);
                assert!(kept, "a position that was recorded is gone");
            });
        }
    });
}

fn one_round(kernel: &Kernel, sample: &Sample, entry: &Entry, least: u64) {
    let before = [counted(kernel, "observed"), counted(kernel, "forwarded")];
    let (sent, committed) = (Sent::default(), AtomicBool::new(false));
    let start = Barrier::new(SENDERS + 1);
    let word = thread::scope(|scope| {
        for number in 0..SENDERS {
            let (sent, committed, start) = (&sent, &committed, &start);
            scope.spawn(move || {
                start.wait();
                send(kernel, sample, number, sent, committed);
            });
        }
        start.wait();
        lose(kernel, entry, least);
        let won = commit(kernel, entry);
        committed.store(true, SeqCst);
        won
    });
    let (passed, forwarded) = (sent.passed.load(SeqCst), sent.forwarded.load(SeqCst));
    assert_eq!(word & COUNT, passed, "the word counts what was passed");
    assert!(kernel.flow(entry).word & word::COMMITTED != 0);
    // The flow's own figures may miss one where two processors book at once.
    assert_eq!(counted(kernel, "observed") - before[0], passed);
    assert_eq!(counted(kernel, "forwarded") - before[1], forwarded);
}

/// Packets of this outcome so far, from both sides.
fn counted(kernel: &Kernel, outcome: &str) -> u64 {
    let counters = kernel.table.counters();
    let of = counters.iter().filter(|counter| counter.1 == outcome);
    of.map(|counter| counter.2).sum()
}

/// What became of the senders' packets, by verdict.
#[derive(Default)]
struct Sent {
    passed: AtomicU64,
    forwarded: AtomicU64,
}

/// Odd senders are the target. Data until a while after the commit.
fn send(kernel: &Kernel, sample: &Sample, number: usize, sent: &Sent, committed: &AtomicBool) {
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
                sent.passed.fetch_add(1, SeqCst);
            }
            verdict::TC_REDIRECT => {
                sent.forwarded.fetch_add(1, SeqCst);
                afterwards += usize::from(late);
            }
            other => panic!("verdict {other}"),
        }
    }
}

/// A commit on a word that the senders have since gone past. Free races alone would
/// leave it to the scheduler whether any commit is ever lost.
fn lose(kernel: &Kernel, entry: &Entry, least: u64) {
    let read = reach(kernel, entry, least);
    reach(kernel, entry, (read & COUNT) + 1);
    assert!(!won(kernel, entry, read), "a packet came in between");
}

/// Waits until that many packets have passed; the word that says so.
fn reach(kernel: &Kernel, entry: &Entry, least: u64) -> u64 {
    loop {
        let word = kernel.flow(entry).word;
        if word & COUNT >= least {
            return word;
        }
        thread::yield_now();
    }
}

/// Races the senders until a commit is won; the word it was won on.
fn commit(kernel: &Kernel, entry: &Entry) -> u64 {
    loop {
        let word = kernel.flow(entry).word;
        if won(kernel, entry, word) {
            return word;
        }
    }
}

fn won(kernel: &Kernel, entry: &Entry, word: u64) -> bool {
    kernel
        .table
        .commit(entry, word, Shifts::default())
        .expect("running")
}

//! What became of everybody when a target left.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::super::numbers::Numbers;
use super::fleet::{Fleet, Seen};

/// Lines of a histogram.
const LINES: u32 = 15;
/// What its longest line is, in characters.
const WIDTH: usize = 50;

/// One target's leaving.
pub(super) struct Round<'a> {
    fleet: &'a Fleet<'a>,
    gone: u8,
    before: Vec<Seen>,
    failures: usize,
}

/// The numbers that are to be none.
#[derive(Debug, Default, PartialEq, Eq)]
struct Harm {
    /// Clients that are not connected.
    lost: usize,
    /// Clients whose connections ended more than once.
    doubled: usize,
    /// Clients of other targets whose connections ended.
    others: usize,
    /// Connections that led to the target that has left.
    to_the_gone: usize,
}

impl<'a> Round<'a> {
    pub(super) fn begin(fleet: &'a Fleet<'a>, gone: u8) -> Self {
        Self {
            fleet,
            gone,
            before: fleet.seen().map(|seen| seen.clone()).collect(),
            failures: fleet.failures(),
        }
    }

    /// Clients of the target that have not come back yet, to another.
    pub(super) fn missing(&self) -> usize {
        let pairs = self.before.iter().zip(self.fleet.seen());
        let missing = pairs.filter(|(before, now)| {
            let is_back = now.target.is_some_and(|target| target != self.gone);
            before.target == Some(self.gone) && !is_back
        });
        missing.count()
    }

    pub(super) fn print(&self, how: &str, window: Duration) {
        let clients = self.before.iter();
        let clients = clients.filter(|seen| seen.target == Some(self.gone));
        let (ends, mut gaps) = (self.ends(), self.gaps());
        let first = ends.iter().min().copied();
        let back: Vec<Duration> = self
            .connects()
            .filter_map(|(at, _)| Some(at.saturating_duration_since(first?)))
            .collect();
        println!(
            "\ntarget {} {how}: {} clients, {} came back, from the first end on",
            self.gone,
            clients.count(),
            back.len()
        );
        print_histogram(&back, window);
        let gaps = Numbers::of(&mut gaps, window);
        println!(
            "    without a connection: {:.1} ms, 99 of 100 within {:.1} ms; \
             handshakes that failed: {}",
            gaps.p50 / 1e3,
            gaps.p99 / 1e3,
            self.fleet.failures() - self.failures
        );
    }

    /// Prints what is to be none, and fails where it is not.
    pub(super) fn check(&self) -> Result<()> {
        let harm = self.harm();
        println!(
            "    lost: {}, ended twice: {}, of other targets: {}, sent to the one that left: {}",
            harm.lost, harm.doubled, harm.others, harm.to_the_gone
        );
        ensure!(harm == Harm::default(), "not as it is to be: {harm:?}");
        Ok(())
    }

    fn harm(&self) -> Harm {
        let mut harm = Harm::default();
        for (before, now) in self.before.iter().zip(self.fleet.seen()) {
            let ends = now.ends.len() - before.ends.len();
            harm.lost += usize::from(now.target.is_none());
            harm.doubled += usize::from(ends > 1);
            harm.others += usize::from(before.target != Some(self.gone) && ends > 0);
        }
        harm.to_the_gone = self
            .connects()
            .filter(|(_, target)| *target == self.gone)
            .count();
        harm
    }

    fn ends(&self) -> Vec<Instant> {
        let pairs = self.before.iter().zip(self.fleet.seen());
        let ends = pairs.map(|(before, now)| now.ends[before.ends.len()..].to_vec());
        ends.flatten().collect()
    }

    fn connects(&self) -> impl Iterator<Item = (Instant, u8)> {
        let pairs = self.before.iter().zip(self.fleet.seen());
        pairs.flat_map(|(before, now)| now.connects[before.connects.len()..].to_vec())
    }

    /// From each end to the connect behind it.
    fn gaps(&self) -> Vec<Duration> {
        let pairs = self.before.iter().zip(self.fleet.seen());
        let gaps = pairs.flat_map(|(before, now)| {
            let ends = now.ends[before.ends.len()..].iter();
            let connects = now.connects[before.connects.len()..].iter();
            let gaps = ends.zip(connects).map(|(end, (at, _))| *at - *end);
            gaps.collect::<Vec<_>>()
        });
        gaps.collect()
    }
}

/// Of the window, and of what comes after it in a last line.
fn print_histogram(times: &[Duration], window: Duration) {
    let step = window / LINES;
    let counts = histogram(times, step);
    let most = counts.iter().max().copied().unwrap_or_default().max(1);
    for (line, count) in (0..).zip(&counts) {
        let from = (step * line).as_secs_f64();
        let bar = "#".repeat((count * WIDTH).div_ceil(most));
        match line {
            LINES => println!("    {from:>5.1} s on      {count:>6} {bar}"),
            _ => println!(
                "    {from:>5.1} - {:>5.1} s {count:>6} {bar}",
                from + step.as_secs_f64()
            ),
        }
    }
}

fn histogram(times: &[Duration], step: Duration) -> Vec<usize> {
    let mut counts = vec![0; LINES as usize + 1];
    for time in times {
        let line = (time.as_secs_f64() / step.as_secs_f64()) as usize;
        counts[line.min(LINES as usize)] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_is_in_the_last_line() {
        let times = [0, 1_999, 2_000, 29_999, 30_000, 99_000].map(Duration::from_millis);
        let counts = histogram(&times, Duration::from_secs(2));
        assert_eq!(counts.len(), 16);
        assert_eq!((counts[0], counts[1], counts[14], counts[15]), (2, 1, 1, 2));
        assert_eq!(counts.iter().sum::<usize>(), times.len());
    }
}

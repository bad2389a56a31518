//! What one measurement says, and what several say together.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};

/// One measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Numbers {
    /// Messages there and back, per second.
    pub(super) rate: f64,
    /// Half of the messages were back within this many microseconds.
    pub(super) p50: f64,
    /// All but one in a hundred.
    pub(super) p99: f64,
}

/// The word for whether an aim is.
pub(super) fn reached(is: bool) -> &'static str {
    match is {
        true => "reached",
        false => "NOT reached",
    }
}

impl Numbers {
    pub(super) fn of(times: &mut [Duration], elapsed: Duration) -> Self {
        times.sort_unstable();
        let at = |percent: usize| {
            let time = times
                .get(times.len() * percent / 100)
                .copied()
                .unwrap_or_default();
            time.as_secs_f64() * 1e6
        };
        let rate = times.len() as f64 / elapsed.as_secs_f64();
        Self {
            rate,
            p50: at(50),
            p99: at(99),
        }
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.rate, self.p50, self.p99)
    }
}

impl FromStr for Numbers {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace().map(str::parse);
        let mut next = || {
            words
                .next()
                .with_context(|| format!("not numbers: {line:?}"))?
                .context("a number")
        };
        Ok(Self {
            rate: next()?,
            p50: next()?,
            p99: next()?,
        })
    }
}

/// Middle, least and most of several measurements of the same.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) least: f64,
    pub(super) most: f64,
}

impl Spread {
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        Self {
            median: at(values.len() / 2),
            least: at(0),
            most: at(values.len().saturating_sub(1)),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!(
            "{:.0} ({:.0}-{:.0})",
            self.median, self.least, self.most
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Numbers, Spread};

    #[test]
    fn numbers_come_back_from_their_line() {
        let mut times: Vec<_> = (1..=200).rev().map(Duration::from_micros).collect();
        let numbers = Numbers::of(&mut times, Duration::from_secs(2));
        assert_eq!((numbers.rate, numbers.p50.round()), (100.0, 101.0));
        assert_eq!(numbers.to_string().parse::<Numbers>().ok(), Some(numbers));
    }

    #[test]
    fn a_spread_is_median_and_range() {
        assert_eq!(
            Spread::of([3.0, 1.0, 2.0].into_iter()).to_string(),
            "2 (1-3)"
        );
    }
}

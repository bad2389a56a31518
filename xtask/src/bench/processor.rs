//! Processor time that a process has used.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::Pid;

/// A tick of the kernel's accounting (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// In user mode and in the kernel, all threads together.
pub(super) fn time_of(process: Pid) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name before it may have spaces of its own.
    let fields = text.rsplit_once(')').context("no name")?.1;
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: Vec<u32> = ticks.map(str::parse).collect::<Result<_, _>>()?;
    Ok(TICK * ticks.iter().sum())
}

//! One guest: what it does, and how it is watched from outside, by its console.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::kernel::{Kernel, directory};
use crate::shell::say;

/// One run of a test binary.
#[derive(Debug)]
pub(super) struct Step {
    /// The test binary's name.
    pub(super) binary: &'static str,
    /// What it is about.
    pub(super) name: &'static str,
    /// The tests, by their whole names.
    pub(super) tests: &'static [&'static str],
}

/// Begins every line that is for the one who watches.
const MARK: &str = ":::: ";
/// A guest that takes longer hangs. One took 60 to 90 s on two cores.
const SECONDS: &str = "900";
/// Deadlines of the lab are for a real machine.
const PATIENCE: u32 = 20;

const BEGIN: &str = include_str!("init.sh");

/// The guest's init: every step, then off.
pub(super) fn script(steps: &[Step]) -> String {
    let mut script = format!("{BEGIN}export LIMPET_LAB_PATIENCE={PATIENCE}\n");
    for step in steps {
        script.push_str(&format!(
            "step '{}' {} /bin/test-{} {}\n",
            step.name,
            step.tests.len(),
            step.binary,
            step.tests.join(" ")
        ));
    }
    script.push_str("poweroff -f\n");
    script
}

/// Boots and watches to the end; fails unless this many steps held.
pub(super) fn boot(kernel: &Kernel, archive: &Path, steps: usize) -> Result<()> {
    let path = directory().join(format!("{}.log", kernel.version));
    say(format!(
        "booting {}, console in {}",
        kernel.version,
        path.display()
    ));
    let mut guest = Command::new("timeout")
        .args([SECONDS, "qemu-system-x86_64", "-accel", "tcg,thread=multi"])
        .args(["-cpu", "max", "-smp", "2", "-m", "2048"])
        .args([
            "-nodefaults",
            "-nographic",
            "-no-reboot",
            "-serial",
            "stdio",
        ])
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(archive)
        .args(["-append", "console=ttyS0 loglevel=3 panic=-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("running qemu-system-x86_64")?;
    let console = guest.stdout.take().context("no console")?;
    let held = watch(BufReader::new(console), &mut File::create(&path)?)?;
    let status = guest.wait()?;
    if held < steps || !status.success() {
        let log = std::fs::read(&path)?;
        println!("{}", String::from_utf8_lossy(&log));
        bail!(
            "{held} of {steps} steps held on {} (qemu: {status}); its console is above",
            kernel.version
        );
    }
    std::fs::remove_file(archive).context("removing the initramfs")
}

/// Shows the marked lines, keeps all; answers how many steps held.
fn watch(mut console: impl BufRead, log: &mut impl Write) -> Result<usize> {
    let (mut held, mut line) = (0, Vec::new());
    while console.read_until(b'\n', &mut line)? > 0 {
        log.write_all(&line)?;
        let text = String::from_utf8_lossy(&line);
        if let Some((_, said)) = text.split_once(MARK) {
            println!("    {}", said.trim_end());
            held += usize::from(said.starts_with("held "));
        }
        line.clear();
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_steps_that_held_are_counted() {
        let console =
            "noise\n:::: begin a\n:::: held a (1 s)\r\n:::: begin b\n:::: failed b (2 s)\n";
        let mut log = Vec::new();
        assert_eq!(watch(console.as_bytes(), &mut log).unwrap(), 1);
        assert_eq!(log, console.as_bytes());
    }
}

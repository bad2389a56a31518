//! A run: the name under which everything one lab makes can be found and removed.

use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::{Command, id};
use std::time::Duration;
use std::{fs, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{shell, trace};

const PREFIX: &str = "limpet-lab-";
const NAMESPACES: &str = "/var/run/netns";
pub(crate) const BPFFS: &str = "/sys/fs/bpf";

/// One lab's name, `limpet-lab-<pid>-<random>`: unique, and it says who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run(String);

impl Run {
    pub(crate) fn new() -> Self {
        let random = RandomState::new().hash_one(id());
        Self(format!("{PREFIX}{}-{:08x}", id(), random & 0xffff_ffff))
    }

    /// The name.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// The run that something on this machine belongs to, from its name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?;
        let mut parts = rest.split('-');
        let (pid, random) = (parts.next()?, parts.next()?);
        pid.parse::<i32>().ok()?;
        Some(Self(format!("{PREFIX}{pid}-{random}")))
    }

    /// Every run that left a trace on this machine, dead or alive.
    pub(crate) fn all() -> Vec<Self> {
        let mut runs = Vec::new();
        for place in [
            Path::new(NAMESPACES),
            Path::new(BPFFS),
            &std::env::temp_dir(),
        ] {
            for run in names_in(place).iter().filter_map(|name| Self::of(name)) {
                if !runs.contains(&run) {
                    runs.push(run);
                }
            }
        }
        runs
    }

    /// Whether the process that made it is still there.
    pub(crate) fn is_alive(&self) -> bool {
        self.pid()
            .is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
    }

    fn pid(&self) -> Option<i32> {
        self.0.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
    }

    /// The name of one of its namespaces.
    pub(crate) fn namespace(&self, role: &str) -> String {
        format!("{}-{role}", self.0)
    }

    /// Where its daemons pin their programs and maps.
    pub fn pin_dir(&self) -> PathBuf {
        Path::new(BPFFS).join(&self.0)
    }

    /// Where its configuration, state and logs are.
    pub fn directory(&self) -> PathBuf {
        std::env::temp_dir().join(&self.0)
    }

    /// Ends its processes and removes everything it made; says what it could not.
    pub(crate) fn remove(&self) {
        for namespace in self.namespaces() {
            end_processes(&namespace);
            if let Err(error) = shell::output(Command::new("ip").args(["netns", "del", &namespace]))
            {
                eprintln!("lab: {error:#}");
            }
        }
        trace::remove(self);
        for directory in [self.pin_dir(), self.directory()] {
            if directory.exists()
                && let Err(error) = fs::remove_dir_all(&directory)
            {
                eprintln!("lab: {}: {error}", directory.display());
            }
        }
    }

    fn namespaces(&self) -> Vec<String> {
        let mine = format!("{}-", self.0);
        let mut names = names_in(Path::new(NAMESPACES));
        names.retain(|name| name.starts_with(&mine));
        names
    }
}

fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Kills what still runs in a namespace and waits until it is gone: a process
/// keeps its namespace, and its attached programs, alive.
fn end_processes(namespace: &str) {
    for _ in 0..100 {
        let pids = shell::output(Command::new("ip").args(["netns", "pids", namespace]));
        let others: Vec<i32> = pids
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .filter(|pid| u32::try_from(*pid) != Ok(id()))
            .collect();
        if others.is_empty() {
            return;
        }
        for pid in others {
            // A process that ended in between is what was wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

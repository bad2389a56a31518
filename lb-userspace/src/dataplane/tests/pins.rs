//! Where one test pins its maps: a directory of its own, gone with it however it ends.

use std::fs;
use std::ops::Deref;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::attach::PinDir;

const BPFFS: &str = "/sys/fs/bpf";
/// What its name begins with, before the process and a number.
const PREFIX: &str = "limpet-test-";

/// A pin directory that is removed when dropped.
pub(super) struct Pins {
    /// None only while it is dropped.
    open: Option<PinDir>,
    base: PathBuf,
}

impl Pins {
    /// A fresh one; the first of a process also removes what dead processes have left.
    pub(super) fn make() -> Self {
        static SWEEP: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        SWEEP.call_once(sweep);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let base = FsPath::new(BPFFS).join(name);
        let open = PinDir::open(&base).expect("needs root and BPF: a pin directory");
        Self {
            open: Some(open),
            base,
        }
    }

    /// What is configured as `fastpath.pin_dir`.
    pub(super) fn base(&self) -> &FsPath {
        &self.base
    }
}

impl Deref for Pins {
    type Target = PinDir;

    fn deref(&self) -> &PinDir {
        self.open.as_ref().expect("until it is dropped")
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let removed = self.open.take().map_or(Ok(()), PinDir::remove);
        let gone = removed.is_ok() && !self.base.exists();
        // A second panic would abort, and leave what the others have pinned.
        if !std::thread::panicking() {
            assert!(gone, "{}: {removed:?}", self.base.display());
        }
    }
}

/// A test that is killed removes nothing itself.
fn sweep() {
    for entry in fs::read_dir(BPFFS).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        let dead = pid.is_some_and(|pid| !FsPath::new("/proc").join(pid).exists());
        if dead && let Err(error) = fs::remove_dir_all(entry.path()) {
            eprintln!("{}: {error}", entry.path().display());
        }
    }
}

//! The pin directory: what outlives the daemon, and whose it is.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path as FsPath, PathBuf};

use anyhow::Context;
use lb_common::LAYOUT;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::MsFlags;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{tc, xdp};

/// What the names of pinned links begin with, before the interface's index.
const KINDS: [&str; 3] = [tc::HOOKS[0].pin, tc::HOOKS[1].pin, xdp::PIN];

/// Where a bpffs is by custom.
pub(in crate::dataplane) const CUSTOMARY: &str = "/sys/fs/bpf";

/// A pin directory that this process owns; the lock goes with it.
#[derive(Debug)]
pub(in crate::dataplane) struct PinDir {
    path: PathBuf,
    handle: u32,
    _lock: Flock<File>,
}

/// Another daemon holds the pin directory.
#[derive(Debug, thiserror::Error)]
#[error("another limpet runs on {}: stop it, or give each its own fastpath.pin_dir", .0.display())]
pub(in crate::dataplane) struct InUse(PathBuf);

impl PinDir {
    /// Opens, makes and locks the directory for this layout.
    ///
    /// # Errors
    /// [`InUse`] if another process has it.
    pub(in crate::dataplane) fn open(pin_dir: &FsPath) -> anyhow::Result<Self> {
        mount_bpffs(pin_dir)?;
        let path = versioned(pin_dir);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("making {}", path.display()))?;
        Self::lock(path)
    }

    /// Locks a directory that is there.
    pub(super) fn lock(path: PathBuf) -> anyhow::Result<Self> {
        let directory = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        let inode = directory.metadata()?.ino();
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self {
                path,
                // Never zero, which would mean that the kernel chooses one.
                handle: inode as u32 | 1 << 31,
                _lock: lock,
            }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(anyhow::Error::new(InUse(path))),
            Err((_, error)) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// Detaches the programs and removes everything pinned here.
    pub(in crate::dataplane) fn remove(self) -> io::Result<()> {
        tc::remove_filters(self.handle, &[]);
        for entry in fs::read_dir(&self.path)? {
            fs::remove_file(entry?.path())?;
        }
        fs::remove_dir(&self.path)?;
        // Other layouts or strangers may have files beside ours.
        if let Some(parent) = self.path.parent() {
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }

    /// The directory.
    pub(in crate::dataplane) fn path(&self) -> &FsPath {
        &self.path
    }

    /// Path of something pinned here.
    pub(in crate::dataplane) fn pin(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Tells this directory's TC filters, which cannot be pinned, from those of
    /// another: an inode number of bpffs is not used twice while a machine runs.
    pub(super) fn handle(&self) -> u32 {
        self.handle
    }

    /// Removes pinned links of interfaces that are gone or no longer wanted, which
    /// detaches the programs.
    pub(super) fn keep_links_of(&self, indices: &[u32]) {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let link = name.to_str().and_then(|name| name.split_once('-'));
            let Some((kind, index)) = link else { continue };
            let known = KINDS.contains(&kind);
            if !known || !indices.iter().any(|one| index == one.to_string()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Where this layout's pins are.
pub(in crate::dataplane) fn versioned(pin_dir: &FsPath) -> PathBuf {
    pin_dir.join(format!("v{LAYOUT}"))
}

/// Mounts a bpffs where the customary place has none yet.
fn mount_bpffs(pin_dir: &FsPath) -> anyhow::Result<()> {
    if !pin_dir.starts_with(CUSTOMARY) || is_bpffs(FsPath::new(CUSTOMARY))? {
        return Ok(());
    }
    let none: Option<&str> = None;
    nix::mount::mount(
        none,
        CUSTOMARY,
        Some("bpf"),
        MsFlags::empty(),
        Some("mode=0700"),
    )
    .context("mounting a bpffs on /sys/fs/bpf")
}

/// Whether a path lies on a bpffs.
pub(in crate::dataplane) fn is_bpffs(path: &FsPath) -> anyhow::Result<bool> {
    let found = statfs(path).with_context(|| format!("looking at {}", path.display()))?;
    Ok(found.filesystem_type() == BPF_FS_MAGIC)
}

//! Loading the program and keeping it attached, also while no daemon runs.
//!
//! Maps and links are pinned under `pin_dir/v<layout>/`. A daemon that starts
//! where one ran before takes over the maps and replaces the programs in the
//! links atomically; no packet meets an interface without a program.

use std::fs::{self, File};
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path as FsPath, PathBuf};

use anyhow::{Context, bail};
use aya::maps::{Map, MapInfo, MapType, RingBuf};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, Pod};
use lb_common::LAYOUT;
use lb_common::flow::{Flow, FlowKey};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::MsFlags;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::types::{InterfaceStatus, Mode, Path, Settings};

/// A pin directory that this process owns; the lock goes with it.
#[derive(Debug)]
pub(super) struct PinDir {
    path: PathBuf,
    _lock: Flock<File>,
}

impl PinDir {
    /// Opens, makes and locks the directory for this layout.
    pub(super) fn open(pin_dir: &FsPath) -> anyhow::Result<Self> {
        mount_bpffs(pin_dir)?;
        let path = versioned(pin_dir);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("making {}", path.display()))?;
        let directory = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { path, _lock: lock }),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(anyhow::Error::new(InUse(path))),
            Err((_, error)) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// Removes everything pinned here, which detaches the programs.
    pub(super) fn remove(self) -> io::Result<()> {
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

    /// Path of something pinned here.
    pub(super) fn pin(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Another daemon holds the pin directory.
#[derive(Debug, thiserror::Error)]
#[error("another limpet runs on {}: stop it, or give each its own fastpath.pin_dir", .0.display())]
pub(super) struct InUse(PathBuf);

/// Whether a pin directory of this layout is there at all.
pub(super) fn exists(pin_dir: &FsPath) -> bool {
    versioned(pin_dir).is_dir()
}

/// Loads the object with the pinned maps, making those that are missing.
pub(super) fn load(
    pins: &PinDir,
    max_flows: u32,
    source_ports: &RangeInclusive<u16>,
) -> anyhow::Result<(Ebpf, RingBuf<aya::maps::MapData>)> {
    verify_pins(pins)?;
    let ports = [*source_ports.start(), *source_ports.end()];
    let mut ebpf = EbpfLoader::new()
        .override_global("SOURCE_PORTS", &ports, true)
        .default_map_pin_directory(&pins.path)
        .map_max_entries("FLOWS", max_flows)
        .map_max_entries("TARGETS", max_flows)
        .load(OBJECT)
        .context("loading the kernel object")?;
    for name in ["limpet_tc", "limpet_egress", "limpet_control"] {
        classifier(&mut ebpf, name)?
            .load()
            .with_context(|| format!("loading program {name}"))?;
    }
    let events: Map = ebpf
        .take_map("EVENTS")
        .context("the kernel object has no map EVENTS")?;
    Ok((ebpf, events.try_into()?))
}

/// Attaches to the interfaces; what failed is in the status, not an error.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    pins: &PinDir,
    settings: &Settings,
) -> anyhow::Result<Vec<InterfaceStatus>> {
    let interfaces = interfaces(settings)?;
    drop_stale_links(pins, &interfaces);
    let mut status = Vec::new();
    for (name, index) in interfaces {
        status.push(match attach_one(ebpf, pins, settings.mode, &name, index) {
            Ok((path, reason)) => InterfaceStatus { name, path, reason },
            Err(error) => {
                let reason = format!("{error:#}");
                InterfaceStatus {
                    name,
                    path: Path::Userspace,
                    reason,
                }
            }
        });
    }
    if status
        .iter()
        .all(|interface| interface.path == Path::Userspace)
    {
        let why: Vec<_> = status
            .iter()
            .map(|i| format!("{}: {}", i.name, i.reason))
            .collect();
        bail!("no interface to attach to ({})", why.join("; "));
    }
    Ok(status)
}

const OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LIMPET_EBPF_OBJECT"));

/// TC first: it carries everything by itself, XDP in front only takes over more.
fn attach_one(
    ebpf: &mut Ebpf,
    pins: &PinDir,
    mode: Mode,
    name: &str,
    index: u32,
) -> anyhow::Result<(Path, String)> {
    let egress = classifier(ebpf, "limpet_egress")?;
    attach_tc(
        egress,
        &pins.pin(&format!("egress-{index}")),
        name,
        TcAttachType::Egress,
    )?;
    let tc = classifier(ebpf, "limpet_tc")?;
    attach_tc(
        tc,
        &pins.pin(&format!("tc-{index}")),
        name,
        TcAttachType::Ingress,
    )?;
    let pin = pins.pin(&format!("xdp-{index}"));
    let xdp_mode = match mode {
        Mode::Xdp => XdpMode::Driver,
        Mode::XdpGeneric => XdpMode::Skb,
        Mode::Auto | Mode::Tc | Mode::Off => {
            // A daemon in another mode may have left it.
            let _ = fs::remove_file(&pin);
            let reason = if mode == Mode::Auto {
                "auto: TC works on every driver"
            } else {
                "set"
            };
            return Ok((Path::Tc, reason.into()));
        }
    };
    let xdp: &mut Xdp = ebpf
        .program_mut("limpet_xdp")
        .context("the kernel object has no program limpet_xdp")?
        .try_into()?;
    match attach_xdp(xdp, &pin, index, xdp_mode) {
        Ok(()) => Ok((Path::Xdp, "set".into())),
        Err(error) => Ok((Path::Tc, format!("XDP refused ({error:#}), TC instead"))),
    }
}

fn attach_tc(
    program: &mut SchedClassifier,
    pin: &FsPath,
    name: &str,
    hook: TcAttachType,
) -> anyhow::Result<()> {
    if let Ok(old) = PinnedLink::from_pin(pin) {
        let link: SchedClassifierLink = FdLink::from(old).try_into()?;
        program
            .attach_to_link(link)
            .context("replacing the TC program")?;
        return Ok(());
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program
        .attach_with_options(name, hook, options)
        .context("attaching to TC (tcx)")?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    link.pin(pin)
        .with_context(|| format!("pinning {}", pin.display()))?;
    Ok(())
}

fn attach_xdp(program: &mut Xdp, pin: &FsPath, index: u32, mode: XdpMode) -> anyhow::Result<()> {
    if program.fd().is_err() {
        program.load().context("loading program limpet_xdp")?;
    }
    if let Ok(old) = PinnedLink::from_pin(pin) {
        let link: XdpLink = FdLink::from(old).try_into()?;
        program
            .attach_to_link(link)
            .context("replacing the XDP program")?;
        return Ok(());
    }
    let id = program.attach_to_if_index(index, mode)?;
    let link: FdLink = program
        .take_link(id)?
        .try_into()
        .context("this kernel has no XDP links")?;
    link.pin(pin)
        .with_context(|| format!("pinning {}", pin.display()))?;
    Ok(())
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> anyhow::Result<&'a mut SchedClassifier> {
    let program = ebpf.program_mut(name);
    Ok(program
        .with_context(|| format!("the kernel object has no program {name}"))?
        .try_into()?)
}

/// Links of interfaces that are gone or no longer configured.
fn drop_stale_links(pins: &PinDir, interfaces: &[(String, u32)]) {
    let Ok(entries) = fs::read_dir(&pins.path) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some((_, index)) = name.to_str().and_then(|name| name.split_once('-')) else {
            continue;
        };
        if !interfaces
            .iter()
            .any(|(_, known)| index == known.to_string())
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The configured interfaces, or all that are up, have an address and are not
/// loopback: those that can lead to clients and targets.
fn interfaces(settings: &Settings) -> anyhow::Result<Vec<(String, u32)>> {
    let mut names = settings.interfaces.clone();
    if names.is_empty() {
        use nix::net::if_::InterfaceFlags as Flags;
        for interface in nix::ifaddrs::getifaddrs().context("listing interfaces")? {
            let usable = interface.flags.contains(Flags::IFF_UP)
                && !interface.flags.contains(Flags::IFF_LOOPBACK)
                && interface.address.is_some();
            if usable && !names.contains(&interface.interface_name) {
                names.push(interface.interface_name);
            }
        }
    }
    let index = |name: String| {
        let index = nix::net::if_::if_nametoindex(name.as_str())
            .with_context(|| format!("fastpath.interfaces: {name}"))?;
        Ok((name, index))
    };
    names.into_iter().map(index).collect()
}

fn versioned(pin_dir: &FsPath) -> PathBuf {
    pin_dir.join(format!("v{LAYOUT}"))
}

/// aya takes over a pinned map without a look at its shape.
fn verify_pins(pins: &PinDir) -> anyhow::Result<()> {
    verify::<FlowKey, Flow>(&pins.pin("FLOWS"))?;
    verify::<FlowKey, FlowKey>(&pins.pin("TARGETS"))
}

fn verify<K: Pod, V: Pod>(pin: &FsPath) -> anyhow::Result<()> {
    if !pin.exists() {
        return Ok(());
    }
    let info = MapInfo::from_pin(pin).with_context(|| format!("reading {}", pin.display()))?;
    let sizes = (info.key_size() as usize, info.value_size() as usize);
    if info.map_type()? != MapType::Hash || sizes != (size_of::<K>(), size_of::<V>()) {
        bail!(
            "{} was not made by this version of limpet (keys of {} and values of {} bytes); \
             `limpet detach` removes it",
            pin.display(),
            sizes.0,
            sizes.1
        );
    }
    Ok(())
}

/// Mounts a bpffs where the customary place has none yet.
fn mount_bpffs(pin_dir: &FsPath) -> anyhow::Result<()> {
    const CUSTOMARY: &str = "/sys/fs/bpf";
    if !pin_dir.starts_with(CUSTOMARY) {
        return Ok(());
    }
    let found = statfs(CUSTOMARY).context("looking at /sys/fs/bpf")?;
    if found.filesystem_type() == BPF_FS_MAGIC {
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

//! The XDP hook, in front of TC where it is worth having.

use std::fs;
use std::path::Path as FsPath;

use anyhow::Context;
use aya::Ebpf;
use aya::maps::{DevMapHash, Map, MapData};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{Xdp, XdpMode};

use super::PinDir;
use super::choice::Facts;
use super::netlink::Interface;
use super::{ethtool, pin_name};

/// What the pinned link's name begins with.
pub(super) const PIN: &str = "xdp";

/// Attaches the program, or replaces the one that an earlier daemon has attached.
/// Answers its id.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    pins: &PinDir,
    index: u32,
    mode: XdpMode,
) -> anyhow::Result<u32> {
    let program: &mut Xdp = ebpf
        .program_mut("limpet_xdp")
        .context("the kernel object has no program limpet_xdp")?
        .try_into()?;
    if program.fd().is_err() {
        program.load().context("loading program limpet_xdp")?;
    }
    let pin = pins.pin(&pin_name(PIN, index));
    if !replace(program, &pin)? {
        let id = program.attach_to_if_index(index, mode)?;
        let link: FdLink = program
            .take_link(id)?
            .try_into()
            .context("this kernel has no XDP links")?;
        link.pin(&pin)
            .with_context(|| format!("pinning {}", pin.display()))?;
    }
    devices(pins)?
        .insert(index, index, None, 0)
        .context("telling the program which interfaces take packets from XDP")?;
    Ok(program.info()?.id())
}

/// Detaches what a daemon in another mode may have left.
pub(super) fn detach(pins: &PinDir, index: u32) {
    if fs::remove_file(pins.pin(&pin_name(PIN, index))).is_ok()
        && let Ok(mut devices) = devices(pins)
    {
        let _ = devices.remove(index);
    }
}

/// The program in the pinned link of this interface, if there is one.
fn linked(pins: &FsPath, index: u32) -> Option<u32> {
    let link = PinnedLink::from_pin(pins.join(pin_name(PIN, index))).ok()?;
    Some(FdLink::from(link).info().ok()?.program_id())
}

/// What there is to know of an interface before choosing; `pins` is the directory with
/// our own links.
pub(super) fn facts(pins: &FsPath, name: &str, interface: &Interface) -> Facts {
    let ours = linked(pins, interface.index);
    Facts {
        driver: match &interface.kind {
            Some(kind) => kind.clone(),
            None => ethtool::driver(name).unwrap_or_default(),
        },
        is_virtual: interface.kind.is_some(),
        is_loopback: interface.is_loopback,
        foreign_xdp: interface.xdp.filter(|id| Some(*id) != ours),
    }
}

fn replace(program: &mut Xdp, pin: &FsPath) -> anyhow::Result<bool> {
    let Ok(old) = PinnedLink::from_pin(pin) else {
        return Ok(false);
    };
    let link: XdpLink = FdLink::from(old).try_into()?;
    if let Ok(id) = program.attach_to_link(link) {
        // The pin alone holds the link.
        drop(program.take_link(id)?);
        return Ok(true);
    }
    // A link that somebody has cut off cannot be used again.
    fs::remove_file(pin)?;
    Ok(false)
}

fn devices(pins: &PinDir) -> anyhow::Result<DevMapHash<MapData>> {
    let map = MapData::from_pin(pins.pin("DEVICES"))?;
    Ok(Map::DevMapHash(map).try_into()?)
}

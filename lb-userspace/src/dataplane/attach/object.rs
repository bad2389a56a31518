//! The embedded kernel object: loaded onto the pinned maps.

use std::ops::RangeInclusive;
use std::path::Path as FsPath;

use anyhow::{Context, bail};
use aya::maps::{Map, MapData, MapInfo, MapType, RingBuf};
use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader, Pod};
use lb_common::flow::{Flow, FlowKey};

use super::PinDir;

const OBJECT: &[u8] = aya::include_bytes_aligned!(env!("LIMPET_EBPF_OBJECT"));

/// Loads the object with the pinned maps, making those that are missing.
pub(in crate::dataplane) fn load(
    pins: &PinDir,
    max_flows: u32,
    source_ports: &RangeInclusive<u16>,
) -> anyhow::Result<(Ebpf, RingBuf<MapData>)> {
    verify_pins(pins)?;
    let ports = [*source_ports.start(), *source_ports.end()];
    let mut ebpf = EbpfLoader::new()
        .override_global("SOURCE_PORTS", &ports, true)
        .default_map_pin_directory(pins.path())
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

/// A TC program of the object.
pub(super) fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &str,
) -> anyhow::Result<&'a mut SchedClassifier> {
    let program = ebpf.program_mut(name);
    Ok(program
        .with_context(|| format!("the kernel object has no program {name}"))?
        .try_into()?)
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

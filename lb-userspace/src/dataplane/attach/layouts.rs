//! What other versions of limpet have left attached: two layouts never run at once.
//!
//! Both would see every packet, and neither would know the other's flows and the source
//! ports they hold. So what an other layout left is removed if no flow lives in it, and
//! otherwise this daemon does not start.

use std::fs;
use std::path::{Path as FsPath, PathBuf};

use anyhow::{Context, bail};
use aya::maps::{HashMap, Map, MapData, MapInfo};
use lb_common::LAYOUT;
use lb_common::flow::FlowKey;
use lb_common::word;

use super::PinDir;

/// Flows live in another layout.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} holds {flows} connections that another version of limpet has handed to the kernel: run \
     that version until they have ended, or cut them with `limpet detach --force`",
    path.display()
)]
pub(in crate::dataplane) struct OtherLayout {
    path: PathBuf,
    flows: usize,
}

/// The directories of other layouts beside ours.
pub(in crate::dataplane) fn other_layouts(pin_dir: &FsPath) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(pin_dir) else {
        return Vec::new();
    };
    let is_other = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.strip_prefix('v'))
            .and_then(|number| number.parse::<u32>().ok())
            .is_some_and(|number| number != LAYOUT)
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_other)
        .collect()
}

/// Removes what other layouts have left. With `force` also if that cuts flows, without
/// resets: what would have to be in them is only known to the version that made them.
///
/// # Errors
/// [`OtherLayout`] if flows live there, [`super::InUse`] if a daemon runs there.
pub(in crate::dataplane) fn clear(pin_dir: &FsPath, force: bool) -> anyhow::Result<usize> {
    let others = other_layouts(pin_dir);
    for path in &others {
        let pins = PinDir::lock(path.clone())?;
        if !force {
            let flows = live_flows(&pins.pin("FLOWS")).with_context(|| {
                format!("{}; `limpet detach --force` removes it", path.display())
            })?;
            if flows > 0 {
                let path = path.clone();
                return Err(OtherLayout { path, flows }.into());
            }
        }
        pins.remove()
            .with_context(|| format!("removing {}", path.display()))?;
        tracing::info!(path = %path.display(), "removed what another version of limpet had left");
    }
    Ok(others.len())
}

/// How many flows another layout's table carries. In every layout so far keys are alike
/// and values begin with the word.
fn live_flows(pin: &FsPath) -> anyhow::Result<usize> {
    if !pin.exists() {
        return Ok(0);
    }
    let info = MapInfo::from_pin(pin)?;
    match (info.key_size() as usize, info.value_size()) {
        (KEY, 152) => count::<152>(pin),
        (KEY, 160) => count::<160>(pin),
        (KEY, 168) => count::<168>(pin),
        (key, value) => bail!("keys of {key} and values of {value} bytes are of no known layout"),
    }
}

const KEY: usize = size_of::<FlowKey>();

fn count<const SIZE: usize>(pin: &FsPath) -> anyhow::Result<usize> {
    let map = Map::HashMap(MapData::from_pin(pin)?);
    let flows: HashMap<_, [u8; KEY], [u8; SIZE]> = map.try_into()?;
    let live = |value: [u8; SIZE]| {
        let state = value.first_chunk().copied().map_or(0, u64::from_ne_bytes);
        state & (word::COMMITTED | word::ENDED) == word::COMMITTED
    };
    Ok(flows
        .iter()
        .filter_map(Result::ok)
        .filter(|(_, value)| live(*value))
        .count())
}

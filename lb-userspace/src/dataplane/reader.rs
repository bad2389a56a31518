//! The flow table as it is walked: in batches, beside whoever changes it.

use std::io;

use aya::maps::{HashMap, Map, MapData};
use lb_common::flow::{Flow, FlowKey};

use super::attach::PinDir;
use super::batch::{Batch, Batches};
use super::table::Entry;

/// Entries read in one system call: some 200 kB, a fraction of a millisecond.
const BATCH: usize = 1024;

/// A view of the flow table of its own, so that a walk over many flows does not
/// hold up handoffs.
pub(super) struct Reader {
    flows: Batches<FlowKey, Flow>,
    targets: Batches<FlowKey, FlowKey>,
    index: HashMap<MapData, FlowKey, FlowKey>,
}

/// Where a walk stands: in front of a bucket, or within one behind an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// The bucket.
    pub(crate) bucket: u32,
    /// Ids up to this one are behind us in that bucket.
    pub(crate) after: u64,
}

impl Reader {
    /// Opens the pinned maps.
    pub(super) fn open(pins: &PinDir) -> anyhow::Result<Self> {
        let open = |name| MapData::from_pin(pins.pin(name));
        Ok(Self {
            flows: Batches::new(open("FLOWS")?)?,
            targets: Batches::new(open("TARGETS")?)?,
            index: Map::HashMap(open("TARGETS")?).try_into()?,
        })
    }

    /// The entries from a bucket on that one call reads, and where to go on.
    pub(super) fn batch(&self, bucket: u32) -> io::Result<Read<Entry>> {
        whole(&self.flows, bucket)
            .map(|(pairs, next)| (pairs.into_iter().map(Entry::from).collect(), next))
    }

    /// Visits every entry. One that is there all the time is met once.
    pub(super) fn each(&self, mut visit: impl FnMut(Entry)) -> io::Result<()> {
        let mut bucket = Some(0);
        while let Some(at) = bucket {
            let (entries, next) = self.batch(at)?;
            entries.into_iter().for_each(&mut visit);
            bucket = next;
        }
        Ok(())
    }

    /// At most `limit` of the wanted entries from a place on, and where to go on if
    /// there are more.
    pub(super) fn page(
        &self,
        from: Place,
        limit: usize,
        wanted: impl Fn(&Entry) -> bool,
    ) -> io::Result<(Vec<Entry>, Option<Place>)> {
        let (page, next) = self.fill(from, limit, &wanted)?;
        let more = match next {
            Some(place) => !self.fill(place, 1, &wanted)?.0.is_empty(),
            None => false,
        };
        Ok((page, next.filter(|_| more)))
    }

    /// As `page`, but what is left may turn out to be nothing.
    fn fill(
        &self,
        from: Place,
        limit: usize,
        wanted: impl Fn(&Entry) -> bool,
    ) -> io::Result<(Vec<Entry>, Option<Place>)> {
        let (mut page, mut place) = (Vec::new(), from);
        let mut count = if from.after == 0 { BATCH } else { 1 };
        // Whether the next read is known to be just the bucket of `place`.
        let mut exact = false;
        while page.len() < limit {
            let (pairs, next) = match self.flows.read(place.bucket, count)? {
                Batch::Pairs(pairs, next) => (pairs, next),
                Batch::TooSmall(bucket) => {
                    if bucket != place.bucket {
                        place = Place { bucket, after: 0 };
                    }
                    (count, exact) = (count + 1, true);
                    continue;
                }
            };
            let behind = |id: u64| id == place.after || exact && id < place.after;
            let mut found: Vec<Entry> = pairs.into_iter().map(Entry::from).collect();
            found.retain(|entry| !behind(entry.flow.id) && wanted(entry));
            let room = limit - page.len();
            if found.len() > room && !exact {
                // Fewer buckets at a time: a page ends between two, if it can.
                count = (count / 2).max(1);
                continue;
            }
            found.sort_unstable_by_key(|entry| entry.flow.id);
            if found.len() > room {
                found.truncate(room);
                place.after = found.last().map_or(0, |entry| entry.flow.id);
                page.extend(found);
                break;
            }
            page.extend(found);
            let Some(bucket) = next else {
                return Ok((page, None));
            };
            place = Place { bucket, after: 0 };
            (count, exact) = (BATCH, false);
        }
        Ok((page, Some(place)))
    }

    /// The client leg that a target leg's key leads to.
    pub(super) fn client_of(&self, target: &FlowKey) -> Option<FlowKey> {
        self.index.get(target, 0).ok()
    }

    /// Visits every pair of the index: target leg, client leg.
    pub(super) fn each_index(&self, mut visit: impl FnMut(FlowKey, FlowKey)) -> io::Result<()> {
        let mut bucket = Some(0);
        while let Some(at) = bucket {
            let (pairs, next) = whole(&self.targets, at)?;
            pairs
                .into_iter()
                .for_each(|(target, client)| visit(target, client));
            bucket = next;
        }
        Ok(())
    }
}

impl From<(FlowKey, Flow)> for Entry {
    fn from((client, flow): (FlowKey, Flow)) -> Self {
        Self { client, flow }
    }
}

/// What one call has read, and the bucket to go on with.
type Read<T> = (Vec<T>, Option<u32>);

/// One batch, enlarged until the next bucket fits in.
fn whole<K: aya::Pod, V: aya::Pod>(map: &Batches<K, V>, bucket: u32) -> io::Result<Read<(K, V)>> {
    let mut count = BATCH;
    loop {
        match map.read(bucket, count)? {
            Batch::Pairs(pairs, next) => return Ok((pairs, next)),
            Batch::TooSmall(_) => count *= 2,
        }
    }
}

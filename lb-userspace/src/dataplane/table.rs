//! The flow table from the daemon's side: the only place that writes it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData, MapError, MapInfo, PerCpuArray};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};
use lb_common::control::{Op, Reply, Request};
use lb_common::flow::{Flow, FlowKey, LOCAL, Shifts, Tuple};
use lb_common::outcome::{COUNTERS, Direction, Outcome, counter};
use lb_common::word;
use nix::time::{ClockId, clock_gettime};

use super::address;
use super::attach::PinDir;
use super::census::Census;
use super::types::{FlowHandle, FlowInfo, Owner, Path, Request as Asked};

/// BPF_NOEXIST: an entry that is there belongs to somebody.
const NO_EXIST: u64 = 1;

/// How often a change of a table is tried again that has met another.
const BUSY_TRIES: usize = 16;

/// The maps of the data plane and the program that changes flows atomically.
pub(super) struct Table {
    flows: HashMap<MapData, FlowKey, Flow>,
    targets: HashMap<MapData, FlowKey, FlowKey>,
    counts: PerCpuArray<MapData, u64>,
    ebpf: aya::Ebpf,
    capacity: u64,
    census: Census,
}

/// A flow with its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    /// Key of the client leg.
    pub(super) client: FlowKey,
    /// The entry as it was when read.
    pub(super) flow: Flow,
}

impl Table {
    /// Takes the maps out of a loaded object.
    pub(super) fn new(mut ebpf: aya::Ebpf, pins: &PinDir) -> anyhow::Result<Self> {
        let mut take = |name: &str| -> anyhow::Result<Map> {
            ebpf.take_map(name)
                .ok_or_else(|| anyhow::anyhow!("the kernel object has no map {name}"))
        };
        let flows = take("FLOWS")?.try_into()?;
        let targets = take("TARGETS")?.try_into()?;
        let counts = take("COUNTS")?.try_into()?;
        let capacity = u64::from(MapInfo::from_pin(pins.pin("FLOWS"))?.max_entries());
        Ok(Self {
            flows,
            targets,
            counts,
            ebpf,
            capacity,
            census: Census::default(),
        })
    }

    /// The object with its programs.
    pub(super) fn ebpf(&mut self) -> &mut aya::Ebpf {
        &mut self.ebpf
    }

    /// How many flows fit.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Inserts an observing flow. `AlreadyExists`: a flow with the client's or the
    /// target leg's key is still there; `StorageFull`: the table is full.
    pub(super) fn insert(&mut self, client: &FlowKey, flow: &Flow) -> io::Result<()> {
        let flows = &mut self.flows;
        patiently(|| flows.insert(client, flow, NO_EXIST)).map_err(into_io)?;
        let target = address::target_key(client, &flow.target);
        let targets = &mut self.targets;
        patiently(|| targets.insert(target, client, NO_EXIST)).map_err(|error| {
            let _ = patiently(|| self.flows.remove(client));
            into_io(error)
        })?;
        self.census.came(flow);
        Ok(())
    }

    /// Counts an entry that an earlier daemon has inserted.
    pub(super) fn adopt(&mut self, entry: &Entry) {
        self.census.came(&entry.flow);
    }

    /// What is in the table.
    pub(super) fn census(&self) -> &Census {
        &self.census
    }

    /// The entry of a client leg.
    pub(super) fn get(&self, client: &FlowKey) -> io::Result<Option<Flow>> {
        match self.flows.get(client, 0) {
            Ok(flow) => Ok(Some(flow)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(into_io(error)),
        }
    }

    /// Reads a flow so that its word is not younger than its records: a packet
    /// that came in between is missing in the word and fails the swap.
    pub(super) fn get_ordered(&self, client: &FlowKey) -> io::Result<Option<Flow>> {
        let Some(Flow { word, .. }) = self.get(client)? else {
            return Ok(None);
        };
        Ok(self.get(client)?.map(|flow| Flow { word, ..flow }))
    }

    /// Deletes a flow if it still has this id; false if it has not.
    pub(super) fn remove(&mut self, entry: &Entry) -> io::Result<bool> {
        let found = self.get(&entry.client)?;
        let Some(flow) = found.filter(|flow| flow.id == entry.flow.id) else {
            return Ok(false);
        };
        let target = address::target_key(&entry.client, &entry.flow.target);
        ignore_missing(patiently(|| self.targets.remove(&target)))?;
        ignore_missing(patiently(|| self.flows.remove(&entry.client)))?;
        self.census.went(&flow);
        Ok(true)
    }

    /// Writes the shifts and swaps the word from `expected` to committed. Whoever
    /// succeeds says so to the census, see [`Self::count_committed`].
    pub(super) fn commit(&self, entry: &Entry, expected: u64, shifts: Shifts) -> io::Result<bool> {
        Ok(self.control(Op::Commit, entry, expected, shifts)? == Reply::Done as u32)
    }

    /// Counts an entry among the flows of the kernel.
    pub(super) fn count_committed(&mut self, entry: &Entry) {
        self.census.committed(&entry.flow);
    }

    /// Marks a flow ended: its packets are dropped, resets of this host pass.
    pub(super) fn end(&self, entry: &Entry) -> io::Result<()> {
        self.control(Op::End, entry, 0, Shifts::default()).map(drop)
    }

    fn control(&self, op: Op, entry: &Entry, expected: u64, shifts: Shifts) -> io::Result<u32> {
        let request = Request {
            op: op as u32,
            shifts,
            client: entry.client,
            id: entry.flow.id,
            expected,
        };
        let program: &SchedClassifier = self
            .ebpf
            .program("limpet_control")
            .and_then(|program| program.try_into().ok())
            .ok_or_else(|| io::Error::other("the kernel object has no control program"))?;
        let options = TestRunOptions {
            data_in: Some(request.as_bytes()),
            ..TestRunOptions::default()
        };
        program
            .test_run(options)
            .map(|result| result.return_value)
            .map_err(io::Error::other)
    }

    /// Removes an index entry that leads nowhere.
    pub(super) fn remove_index(&mut self, target: &FlowKey) -> io::Result<()> {
        ignore_missing(patiently(|| self.targets.remove(target)))
    }

    /// Packets by direction and outcome, summed over CPUs.
    pub(super) fn counters(&self) -> Vec<(&'static str, &'static str, u64)> {
        let mut sums = Vec::with_capacity(COUNTERS as usize);
        for direction in Direction::ALL {
            for outcome in Outcome::ALL {
                let values = self.counts.get(&counter(direction, outcome), 0);
                let sum = values.map_or(0, |values| values.iter().sum());
                sums.push((direction.name(), outcome.name(), sum));
            }
        }
        sums
    }
}

impl Entry {
    /// A new entry in the observing state.
    ///
    /// `local`: which of client and target are on this host.
    pub(super) fn observing(
        client: FlowKey,
        target: Tuple,
        id: u64,
        request: &Asked,
        local: [bool; 2],
    ) -> Self {
        let shifts = Shifts {
            scale_announced: local.map(|local| if local { LOCAL } else { 0 }),
            ..Shifts::default()
        };
        let flow = Flow {
            id,
            target,
            listener: request.owner.listener,
            target_group: request.owner.target_group,
            shifts: request.limits.shifts(shifts),
            last_seen: monotonic().as_nanos() as u64,
            ..Flow::default()
        };
        Self { client, flow }
    }

    /// Whether the kernel forwards it.
    pub(super) fn committed(&self) -> bool {
        self.flow.word & word::COMMITTED != 0
    }

    /// Time since the last payload, at `now` of [`monotonic`].
    pub(super) fn idle(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_nanos(self.flow.last_seen))
    }

    /// As the rest of the daemon sees it.
    pub(super) fn info(&self, path: Path, now: Duration, unix: u64) -> FlowInfo {
        let Flow {
            word,
            id,
            target,
            listener,
            target_group,
            bytes,
            packets,
            ..
        } = self.flow;
        FlowInfo {
            handle: FlowHandle {
                client: self.client,
                id,
            },
            id,
            owner: Owner {
                listener,
                target_group,
            },
            client: address::peer(&self.client.tuple),
            target: address::peer(&target),
            age: Duration::from_secs(unix.saturating_sub(id >> 32)),
            idle: self.idle(now),
            closing: word::closing(word),
            bytes_in: bytes[0],
            bytes_out: bytes[1],
            packets_in: packets[0],
            packets_out: packets[1],
            path,
        }
    }

    /// Source address and port toward the target.
    pub(super) fn source(&self) -> SocketAddr {
        address::local(&self.flow.target)
    }
}

/// The clock of `Flow::last_seen`.
pub(super) fn monotonic() -> Duration {
    // CLOCK_MONOTONIC cannot fail; zero would only make flows look fresh.
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
        .map(Duration::from)
        .unwrap_or_default()
}

/// Before Linux 6.15 a change of a hash answers EBUSY if it meets another in the same
/// bucket on the same processor (`htab_lock_bucket`). The other is over in microseconds.
fn patiently<T>(mut change: impl FnMut() -> Result<T, MapError>) -> Result<T, MapError> {
    for _ in 0..BUSY_TRIES {
        match change() {
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EBUSY) =>
            {
                std::thread::yield_now();
            }
            result => return result,
        }
    }
    change()
}

fn ignore_missing(result: Result<(), MapError>) -> io::Result<()> {
    match result {
        Err(MapError::KeyNotFound) | Ok(()) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        Err(error) => Err(into_io(error)),
    }
}

/// Keeps the system's error kind: callers tell a full table from a taken key.
fn into_io(error: MapError) -> io::Error {
    match error {
        MapError::SyscallError(error) => match error.io_error.raw_os_error() {
            Some(libc::E2BIG | libc::ENOMEM) => io::ErrorKind::StorageFull.into(),
            _ => error.io_error,
        },
        error => io::Error::other(error),
    }
}

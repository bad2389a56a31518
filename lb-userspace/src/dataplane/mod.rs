//! The data plane: everything that knows eBPF, socket repair and flows.
//!
//! Commands and descriptors go in, events come out, and nothing of HTTP is
//! known here, so that it can one day run as a small privileged process beside
//! an unprivileged one that parses.

mod active;
mod address;
mod adopt;
mod attach;
mod batch;
mod candidate;
mod census;
mod closing;
mod doctor;
mod doors;
mod judge;
#[cfg(feature = "kernel-log")]
mod kernel_log;
mod lifecycle;
mod ports;
mod reader;
mod reset;
mod routing;
mod socket;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod vigil;

use std::io;
use std::net::SocketAddr;
use std::path::Path as FsPath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use active::Active;
pub(crate) use candidate::{Candidate, limits, round_trip};
pub(crate) use doctor::{Finding, Level, examine};
pub(crate) use doors::Turned;
pub(crate) use lb_common::syn::Limits;
pub(crate) use reader::Place;
pub(crate) use types::{
    Doorway, EndCause, Event, FlowHandle, FlowInfo, Handoff, InterfaceStatus, Loss, Mode, Owner,
    Path, Refusal, Request, Settings,
};

/// Ended flows the daemon may be behind with before the thread that ends them waits.
const EVENTS: usize = 1024;

/// The data plane as the rest of the daemon sees it; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Dataplane {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    next: AtomicU32,
    fastpath: Fastpath,
}

#[derive(Debug)]
enum Fastpath {
    On(Arc<Active>),
    /// Every connection is relayed, for this reason.
    Off(String),
}

impl Dataplane {
    /// Loads and attaches the program, adopts flows left by an earlier daemon.
    /// Never fails for want of a capability: it falls back and `status` says why.
    ///
    /// # Errors
    /// Where going on would harm: another daemon on the same pin directory.
    pub(crate) async fn open(settings: Settings) -> anyhow::Result<(Self, mpsc::Receiver<Event>)> {
        let (events, receiver) = mpsc::channel(EVENTS);
        let fastpath = match settings.mode {
            Mode::Off => Fastpath::Off("fastpath.mode is off".into()),
            Mode::Auto | Mode::Xdp | Mode::XdpGeneric | Mode::Tc => start(&settings, events)?,
        };
        if let Fastpath::Off(reason) = &fastpath {
            tracing::warn!(reason, "no fast path: every connection is relayed");
            if let Err(error) = doors::abandon(&settings.pin_dir) {
                tracing::warn!(
                    "rules of listeners that an earlier daemon left in the kernel stay: {error:#}"
                );
            }
        }
        let next = AtomicU32::new(random_start());
        Ok((
            Self {
                shared: Arc::new(Shared { next, fastpath }),
            },
            receiver,
        ))
    }

    /// Opens a fresh connection to `target` that may later be handed off. It is
    /// observed from its first packet on.
    pub(crate) async fn connect(
        &self,
        target: SocketAddr,
        request: Request,
    ) -> io::Result<(TcpStream, Candidate)> {
        let id = self.next_id() | u64::from(request.note) & types::NOTE;
        let connect = async {
            match &self.shared.fastpath {
                Fastpath::On(active) => candidate::connect(active, id, target, &request).await,
                Fastpath::Off(_) => candidate::plain(id, target, Refusal::Off).await,
            }
        };
        self.connected(target, bounded(request.connect_timeout, connect).await)
    }

    /// Opens a fresh connection to `target` that stays in userspace, for `refusal`.
    /// Nothing is observed.
    pub(crate) async fn relay(
        &self,
        target: SocketAddr,
        connect_timeout: Duration,
        refusal: Refusal,
    ) -> io::Result<(TcpStream, Candidate)> {
        let connect = candidate::plain(self.next_id(), target, refusal);
        self.connected(target, bounded(connect_timeout, connect).await)
    }

    /// Keeps in mind how connecting went: a target may be lost.
    fn connected<T>(&self, target: SocketAddr, result: io::Result<T>) -> io::Result<T> {
        if let Fastpath::On(active) = &self.shared.fastpath {
            active.connected(target, result.as_ref().err());
        }
        result
    }

    /// At most `limit` of the wanted flows from a place in the table on, and the
    /// place to go on from. A flow that lives all the while is met once. Blocks while
    /// it walks: about a second for a million flows of which none is wanted.
    pub(crate) fn page(
        &self,
        from: Place,
        limit: usize,
        wanted: impl Fn(&FlowInfo) -> bool,
    ) -> io::Result<(Vec<FlowInfo>, Option<Place>)> {
        let Fastpath::On(active) = &self.shared.fastpath else {
            return Ok((Vec::new(), None));
        };
        let (path, now, unix) = (active.path(), table::monotonic(), unix_seconds());
        let info = |entry: &table::Entry| entry.info(path, now, unix);
        let (entries, next) = active.reader().page(from, limit, |entry| {
            entry.committed() && wanted(&info(entry))
        })?;
        Ok((entries.iter().map(info).collect(), next))
    }

    /// How many flows are wanted. Blocks as [`Self::page`] does.
    pub(crate) fn count(&self, wanted: impl Fn(&FlowInfo) -> bool) -> io::Result<u64> {
        let Fastpath::On(active) = &self.shared.fastpath else {
            return Ok(0);
        };
        let (path, now, unix) = (active.path(), table::monotonic(), unix_seconds());
        let mut count = 0;
        active.reader().each(|entry| {
            count += u64::from(entry.committed() && wanted(&entry.info(path, now, unix)));
        })?;
        Ok(count)
    }

    /// Ends a flow, with a reset to both ends; nothing happens if it is gone. The end
    /// is told as any other, by an event.
    pub(crate) fn end(&self, flow: FlowHandle, cause: EndCause) {
        if let Fastpath::On(active) = &self.shared.fastpath {
            active.order(flow, cause);
        }
    }

    /// Ids of connections made from now on are not below this one.
    pub(crate) fn next_id(&self) -> u64 {
        let count = self.shared.next.fetch_add(1, Ordering::Relaxed);
        unix_seconds() << 32 | u64::from(count << types::NOTE_BITS)
    }

    /// Flows by owner and target, without a walk.
    pub(crate) fn census(&self) -> Vec<(Owner, SocketAddr, u64)> {
        match &self.shared.fastpath {
            Fastpath::On(active) => active.census(),
            Fastpath::Off(_) => Vec::new(),
        }
    }

    /// What carries flows; userspace when the fast path is off.
    pub(crate) fn path(&self) -> Path {
        match &self.shared.fastpath {
            Fastpath::On(active) => active.path(),
            Fastpath::Off(_) => Path::Userspace,
        }
    }

    /// Entries in the flow table, observed connections included, and its capacity.
    pub(crate) fn occupancy(&self) -> (u64, u64) {
        match &self.shared.fastpath {
            Fastpath::On(active) => (active.entries(), active.capacity),
            Fastpath::Off(_) => (0, 0),
        }
    }

    /// How long flows of `listener` may be without payload; others one hour.
    pub(crate) fn set_idle_timeout(&self, listener: u32, timeout: Duration) {
        if let Fastpath::On(active) = &self.shared.fastpath {
            active.set_idle_timeout(listener, timeout);
        }
    }

    /// From now on the kernel asks these things of SYNs to listeners, and nothing
    /// else. Without a fast path, or where it fails, the daemon's own doors remain.
    pub(crate) fn set_doors(&self, doorways: &[Doorway]) {
        if let Fastpath::On(active) = &self.shared.fastpath {
            active.set_doors(doorways);
        }
    }

    /// SYNs that the kernel has turned away since the last call.
    pub(crate) fn turned_away(&self) -> Vec<Turned> {
        match &self.shared.fastpath {
            Fastpath::On(active) => active.turned_away(),
            Fastpath::Off(_) => Vec::new(),
        }
    }

    /// What is attached where; empty when the fast path is off.
    pub(crate) fn status(&self) -> Vec<InterfaceStatus> {
        match &self.shared.fastpath {
            Fastpath::On(active) => active.status(),
            Fastpath::Off(_) => Vec::new(),
        }
    }

    /// Why there is no fast path.
    pub(crate) fn off_reason(&self) -> Option<&str> {
        match &self.shared.fastpath {
            Fastpath::On(_) => None,
            Fastpath::Off(reason) => Some(reason),
        }
    }

    /// Packets: (direction, outcome, count), summed over CPUs.
    pub(crate) fn packet_counters(&self) -> Vec<(&'static str, &'static str, u64)> {
        match &self.shared.fastpath {
            Fastpath::On(active) => active.counters(),
            Fastpath::Off(_) => Vec::new(),
        }
    }

    /// Source ports in use and how many there are, per target.
    pub(crate) fn source_ports(&self) -> Vec<(SocketAddr, u64, u64)> {
        let Fastpath::On(active) = &self.shared.fastpath else {
            return Vec::new();
        };
        let (used, capacity) = active.ports_used();
        used.into_iter()
            .map(|(target, used)| (target, used, capacity))
            .collect()
    }
}

/// Removes everything an earlier daemon left attached and pinned.
#[derive(Debug)]
pub(crate) struct DetachReport {
    /// Flows that were ended with resets.
    pub(crate) ended: usize,
    /// Whether there was anything to remove.
    pub(crate) found: bool,
}

/// Detaches the programs and removes the maps. Refuses while flows live unless
/// `force`, which resets both ends of each.
pub(crate) fn detach(pin_dir: &FsPath, force: bool) -> anyhow::Result<DetachReport> {
    let others = attach::clear(pin_dir, force)?;
    if !attach::versioned(pin_dir).is_dir() {
        return Ok(DetachReport {
            ended: 0,
            found: others > 0,
        });
    }
    let pins = attach::PinDir::open(pin_dir)?;
    // A directory without maps, or with another version's, has no flows to ask about.
    let ended = match reader::Reader::open(&pins) {
        Ok(reader) => end_all(&pins, &reader, force)?,
        Err(error) if force => {
            tracing::warn!(%error, "the flow table cannot be read, removed all the same");
            0
        }
        Err(_) if !pins.pin("FLOWS").exists() => 0,
        Err(error) => return Err(error.context("reading the flow table; --force removes it")),
    };
    pins.remove()
        .context("removing the pinned maps and links")?;
    Ok(DetachReport { ended, found: true })
}

fn end_all(pins: &attach::PinDir, reader: &reader::Reader, force: bool) -> anyhow::Result<usize> {
    let mut live = 0;
    reader.each(|entry| live += usize::from(entry.committed()))?;
    if live == 0 {
        return Ok(0);
    }
    if !force {
        anyhow::bail!(
            "{live} connections are carried by the kernel; --force ends them with resets"
        );
    }
    let (ebpf, _) = attach::load(pins, 1, &(0..=0))?;
    let table = table::Table::new(ebpf, pins)?;
    let mut result = Ok(());
    reader.each(|entry| {
        if entry.committed() && result.is_ok() {
            result = cut(&table, &entry);
        }
    })?;
    result.map(|()| live)
}

fn cut(table: &table::Table, entry: &table::Entry) -> anyhow::Result<()> {
    table.end(entry)?;
    reset::both_ends(&entry.client, &entry.flow)
        .with_context(|| format!("resetting connection {:x}", entry.flow.id))
}

fn start(settings: &Settings, events: mpsc::Sender<Event>) -> anyhow::Result<Fastpath> {
    let (active, hints) = match prepare(settings) {
        Ok(prepared) => prepared,
        Err(error) if error.is::<attach::InUse>() || error.is::<attach::OtherLayout>() => {
            return Err(error);
        }
        Err(error) => {
            let whole = format!("{error:#}");
            // Of a refused program, what the verifier minded is at the end.
            tracing::debug!(error = whole, "no fast path");
            return Ok(Fastpath::Off(first_line(&whole)));
        }
    };
    let adopted = adopt::adopt(&active).context("adopting the flows of an earlier daemon")?;
    for interface in active.status() {
        let InterfaceStatus { name, path, reason } = interface;
        tracing::info!(interface = name, ?path, reason, "attached");
    }
    tracing::info!(adopted, "fast path ready");
    let active = Arc::new(active);
    let keeper = Arc::clone(&active);
    std::thread::Builder::new()
        .name("limpet-flows".into())
        .spawn(move || lifecycle::run(keeper, hints, events))
        .context("starting the thread that ends flows")?;
    Ok(Fastpath::On(active))
}

/// Without what follows: of a refused program, the verifier's log of thousands of lines.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn prepare(
    settings: &Settings,
) -> anyhow::Result<(Active, aya::maps::RingBuf<aya::maps::MapData>)> {
    attach::clear(&settings.pin_dir, false)?;
    let pins = attach::PinDir::open(&settings.pin_dir)?;
    routing::open();
    let delivers = routing::deliver();
    let (mut ebpf, hints) = attach::load(&pins, settings.max_flows, &settings.source_ports)?;
    #[cfg(feature = "kernel-log")]
    kernel_log::start(&mut ebpf)?;
    let reader = reader::Reader::open(&pins)?;
    let attachments = attach::Attachments::new(&mut ebpf, pins, settings)?;
    let table = table::Table::new(ebpf, attachments.pins())?;
    let ports = ports::Ports::new(settings.source_ports.clone(), random_start() as u16);
    let doors = doors::Doors::open(attachments.pins())?;
    let active = Active::new(table, ports, reader, doors, attachments, delivers);
    Ok((active, hints))
}

async fn bounded<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, work).await?
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// Differs from one start to the next; nothing secret depends on it.
fn random_start() -> u32 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.subsec_nanos())
}

//! The data plane with its fast path on: table, ports and who may touch them.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lb_common::flow::{Flow, FlowKey, Shifts};
use lb_common::word;

use super::address;
use super::attach::Attachments;
use super::doors::{Doors, Turned};
use super::ports::{Ports, Route};
use super::reader::Reader;
use super::table::{Entry, Table};
use super::types::{Doorway, EndCause, FlowHandle, InterfaceStatus, Owner, Path};
use super::vigil::FailedConnects;

/// Where packets between this host's own sockets pass.
const LOOPBACK: &str = "lo";
/// `websocket_idle_timeout` of listeners that are not configured any more.
pub(super) const DEFAULT_IDLE: Duration = Duration::from_secs(3600);

/// Shared by every candidate and the thread that ends flows.
pub(super) struct Active {
    table: Mutex<Table>,
    ports: Mutex<Ports>,
    reader: Reader,
    orders: Mutex<Vec<Order>>,
    doors: Mutex<Doors>,
    idle: Mutex<HashMap<u32, Duration>>,
    failed_connects: Mutex<HashMap<SocketAddr, FailedConnects>>,
    attachments: Mutex<Attachments>,
    /// The stack takes packets that the program hands to it by the loopback.
    delivers: bool,
    /// Flows the table can hold.
    pub(super) capacity: u64,
}

/// What the thread that ends flows is told by others.
#[derive(Debug)]
pub(super) enum Order {
    /// End this flow.
    End(FlowHandle, EndCause),
    /// This entry was over and has made room for another of its key.
    Book(Entry),
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Active")
            .field("attachments", &self.attachments)
            .finish_non_exhaustive()
    }
}

impl Active {
    pub(super) fn new(
        table: Table,
        ports: Ports,
        reader: Reader,
        doors: Doors,
        attachments: Attachments,
        delivers: bool,
    ) -> Self {
        let capacity = table.capacity();
        Self {
            table: Mutex::new(table),
            ports: Mutex::new(ports),
            reader,
            orders: Mutex::default(),
            doors: Mutex::new(doors),
            idle: Mutex::default(),
            failed_connects: Mutex::default(),
            attachments: Mutex::new(attachments),
            delivers,
            capacity,
        }
    }

    /// What carries flows: XDP if it does anywhere.
    pub(super) fn path(&self) -> Path {
        match self
            .status()
            .iter()
            .any(|interface| interface.path == Path::Xdp)
        {
            true => Path::Xdp,
            false => Path::Tc,
        }
    }

    /// Whether connections of this host's own ends can be handed off.
    pub(super) fn carries_local(&self) -> bool {
        let attached = |one: &InterfaceStatus| one.name == LOOPBACK && one.path != Path::Userspace;
        self.delivers && self.status().iter().any(attached)
    }

    /// What is attached where.
    pub(super) fn status(&self) -> Vec<InterfaceStatus> {
        locked(&self.attachments).status()
    }

    /// Attaches to interfaces that have come or lost their programs. The table waits
    /// only when there is something to be done.
    pub(super) fn look_after_interfaces(&self) {
        let mut attachments = locked(&self.attachments);
        if attachments.need_care() {
            attachments.care(locked(&self.table).ebpf());
        }
    }

    pub(super) fn take_port(&self, route: Route) -> Option<u16> {
        locked(&self.ports).take(route, Instant::now())
    }

    /// Gives back the source port of an entry.
    pub(super) fn release(&self, entry: &Entry, rest: Duration) {
        let (route, port) = route(entry);
        locked(&self.ports).release(route, port, rest, Instant::now());
    }

    /// Counts an entry of an earlier daemon.
    pub(super) fn found(&self, entry: &Entry) {
        locked(&self.table).adopt(entry);
    }

    /// Books the source port of an adopted flow.
    pub(super) fn adopt(&self, entry: &Entry) {
        let (route, port) = route(entry);
        locked(&self.ports).adopt(route, port);
    }

    /// Entries in the table.
    pub(super) fn entries(&self) -> u64 {
        locked(&self.table).census().entries()
    }

    /// Flows by owner and target.
    pub(super) fn census(&self) -> Vec<(Owner, SocketAddr, u64)> {
        locked(&self.table).census().flows()
    }

    /// Has a flow ended by the thread that ends flows.
    pub(super) fn order(&self, flow: FlowHandle, cause: EndCause) {
        locked(&self.orders).push(Order::End(flow, cause));
    }

    /// What was ordered since the last call.
    pub(super) fn take_orders(&self) -> Vec<Order> {
        std::mem::take(&mut *locked(&self.orders))
    }

    pub(super) fn ports_used(&self) -> (Vec<(SocketAddr, u64)>, u64) {
        let ports = locked(&self.ports);
        (ports.used(), u64::from(ports.capacity()))
    }

    /// Inserts an entry; one of the same client that is over makes room.
    pub(super) fn observe(&self, entry: &Entry) -> io::Result<()> {
        let mut table = locked(&self.table);
        match table.insert(&entry.client, &entry.flow) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => return done,
        }
        let old = table.get(&entry.client)?.map(|flow| Entry {
            client: entry.client,
            flow,
        });
        if let Some(old) = old.filter(|old| old.flow.word & word::REUSED != 0)
            && table.remove(&old)?
        {
            locked(&self.orders).push(Order::Book(old));
        }
        table.insert(&entry.client, &entry.flow)
    }

    /// Deletes an entry; false if it was not there.
    pub(super) fn forget(&self, entry: &Entry) -> bool {
        locked(&self.table).remove(entry).unwrap_or_else(|error| {
            tracing::error!(%error, id = entry.flow.id, "a flow could not be deleted");
            false
        })
    }

    pub(super) fn forget_index(&self, target: &FlowKey) -> io::Result<()> {
        locked(&self.table).remove_index(target)
    }

    /// A flow, its word not younger than its records.
    pub(super) fn read(&self, client: &FlowKey) -> io::Result<Option<Flow>> {
        locked(&self.table).get_ordered(client)
    }

    pub(super) fn commit(&self, entry: &Entry, word: u64, shifts: Shifts) -> io::Result<bool> {
        let mut table = locked(&self.table);
        let done = table.commit(entry, word, shifts)?;
        if done {
            table.count_committed(entry);
        }
        Ok(done)
    }

    pub(super) fn end(&self, entry: &Entry) -> io::Result<()> {
        locked(&self.table).end(entry)
    }

    pub(super) fn counters(&self) -> Vec<(&'static str, &'static str, u64)> {
        locked(&self.table).counters()
    }

    pub(super) fn set_doors(&self, doorways: &[Doorway]) {
        let mut doors = locked(&self.doors);
        let Err(error) = doors.set(doorways) else {
            return;
        };
        tracing::error!("the kernel does not enforce the listeners' rules: {error:#}");
        // Rather no rules than some of old and some of new ones.
        if let Err(error) = doors.clear() {
            tracing::error!("its old ones stay: {error:#}");
        }
    }

    pub(super) fn turned_away(&self) -> Vec<Turned> {
        locked(&self.doors).turned()
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Keeps in mind how a connect to a target has gone.
    pub(super) fn connected(&self, target: SocketAddr, error: Option<&io::Error>) {
        use io::ErrorKind as Kind;
        let mut failed = locked(&self.failed_connects);
        match error.map(io::Error::kind) {
            None => {
                failed.remove(&target);
            }
            Some(
                Kind::ConnectionRefused
                | Kind::TimedOut
                | Kind::HostUnreachable
                | Kind::NetworkUnreachable,
            ) => {
                let fresh = FailedConnects {
                    since: Instant::now(),
                    count: 0,
                };
                failed.entry(target).or_insert(fresh).count += 1;
            }
            // This host's own trouble says nothing of the target.
            Some(_) => {}
        }
    }

    /// Connects to a target that have failed since the last that has not.
    pub(super) fn failed_connects(&self, target: &SocketAddr) -> Option<FailedConnects> {
        locked(&self.failed_connects).get(target).copied()
    }

    pub(super) fn set_idle_timeout(&self, listener: u32, timeout: Duration) {
        locked(&self.idle).insert(listener, timeout);
    }

    pub(super) fn idle_timeout(&self, listener: u32) -> Duration {
        locked(&self.idle)
            .get(&listener)
            .copied()
            .unwrap_or(DEFAULT_IDLE)
    }

    /// The shortest idle timeout set.
    pub(super) fn shortest_idle(&self) -> Duration {
        locked(&self.idle)
            .values()
            .copied()
            .min()
            .unwrap_or(DEFAULT_IDLE)
    }
}

fn route(entry: &Entry) -> (Route, u16) {
    let source = entry.source();
    (
        (source.ip(), address::peer(&entry.flow.target)),
        source.port(),
    )
}

/// A panic elsewhere must not take the data plane down: the maps are whole after
/// each call.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

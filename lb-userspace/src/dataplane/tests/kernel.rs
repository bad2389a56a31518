//! The embedded object, loaded as the daemon loads it, with maps of its own.

use aya::Ebpf;
use aya::maps::{DevMapHash, HashMap, Map, MapData, RingBuf};
use aya::programs::{SchedClassifier, TcAttachType, Xdp};
use lb_common::event::Event;
use lb_common::flow::{Flow, FlowKey};

use super::super::attach;
use super::super::doors::Doors;
use super::super::table::{Entry, Table};
use super::pins::Pins;
use super::routes::Routes;
use super::sample::SOURCE_PORTS;

/// Programs and maps of one test.
pub(super) struct Kernel {
    pub(super) ebpf: Ebpf,
    events: RingBuf<MapData>,
    pub(super) table: Table,
    pub(super) doors: Doors,
    pub(super) routes: Routes,
    pub(super) pins: Pins,
}

/// Runs a test inside a network namespace with routes to the sample's ends.
pub(super) fn with_kernel(test: impl FnOnce(&mut Kernel) + Send) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "needs root and BPF: these tests load the kernel program"
    );
    let inside = || test(&mut Kernel::load(Routes::make()));
    let done = std::thread::scope(|scope| scope.spawn(inside).join());
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

impl Kernel {
    fn load(routes: Routes) -> Self {
        let pins = Pins::make();
        let load = || attach::load(&pins, 64, &SOURCE_PORTS).expect("needs root and BPF: loading");
        let (mut ebpf, events) = load();
        let xdp: &mut Xdp = ebpf
            .program_mut("limpet_xdp")
            .expect("the XDP program")
            .try_into()
            .expect("of its type");
        xdp.load().expect("the verifier accepts the XDP program");
        let devices = MapData::from_pin(pins.pin("DEVICES")).expect("the pinned map");
        let mut devices: DevMapHash<_> = Map::DevMapHash(devices).try_into().expect("devices");
        for index in [routes.client, routes.target] {
            devices
                .insert(index, index, None, 0)
                .expect("an interface that takes packets");
        }
        // The daemon's table takes an object for itself; the maps are the same.
        let table = Table::new(load().0, &pins).expect("the maps");
        let doors = Doors::open(&pins).expect("the doors' maps");
        Self {
            ebpf,
            events,
            table,
            doors,
            routes,
            pins,
        }
    }

    /// Makes an entry the only one of its key.
    pub(super) fn put(&mut self, entry: &Entry) {
        self.table.remove(entry).expect("removing what was there");
        self.table
            .insert(&entry.client, &entry.flow)
            .expect("inserting a flow");
    }

    /// Writes an index entry alone.
    pub(super) fn index(&mut self, target: &FlowKey, client: &FlowKey) {
        let map = self.pinned("TARGETS");
        let mut map: HashMap<_, FlowKey, FlowKey> = Map::HashMap(map).try_into().expect("a hash");
        map.insert(target, client, 0).expect("inserting");
    }

    /// The doors as another daemon finds them.
    pub(super) fn doors_again(&self) -> Doors {
        Doors::open(&self.pins).expect("the doors' maps")
    }

    /// A map of the program, opened again.
    pub(super) fn pinned(&self, name: &str) -> MapData {
        MapData::from_pin(self.pins.pin(name)).expect("the pinned map")
    }

    /// The entry as packets have left it.
    pub(super) fn flow(&self, entry: &Entry) -> Flow {
        self.table
            .get(&entry.client)
            .expect("reading")
            .expect("the flow is there")
    }

    /// Events told since the last call.
    pub(super) fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(bytes) = self.events.next() {
            events.push(Event::from_bytes(&bytes).expect("an event has its length"));
        }
        events
    }

    /// Attaches the TC program to the client's interface, for packets off a wire.
    pub(super) fn attach(&mut self) {
        let program: &mut SchedClassifier = self
            .ebpf
            .program_mut("limpet_tc")
            .expect("a program of this name")
            .try_into()
            .expect("of its type");
        program
            .attach("clients", TcAttachType::Ingress)
            .expect("attaching to TC");
    }
}

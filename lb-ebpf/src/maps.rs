//! The maps, all pinned by name in the daemon's pin directory.

use aya_ebpf::bindings::bpf_fib_lookup;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{
    DevMapHash, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf, lpm_trie::Key,
};
use lb_common::door::{Door, Network, Place, Rejected, Source};
use lb_common::flow::{Address, Flow, FlowKey};
use lb_common::options::Options;
use lb_common::outcome::{COUNTERS, Direction, Outcome, counter};
use lb_common::packet::Segment;

/// BPF_F_NO_PREALLOC: a table sized for a million flows must not take their
/// memory at start. Never LRU, which would evict a live idle WebSocket.
const NO_PREALLOC: u32 = 1;
/// Replaced by the daemon with `fastpath.max_flows`.
const FLOWS_MAX: u32 = 1024;

/// Client leg -> flow. Inserted and deleted by the daemon, updated by packets and
/// by the control program.
#[map]
pub static FLOWS: HashMap<FlowKey, Flow> = HashMap::pinned(FLOWS_MAX, NO_PREALLOC);

/// Target leg -> client leg of the same flow. Written by the daemon only.
#[map]
pub static TARGETS: HashMap<FlowKey, FlowKey> = HashMap::pinned(FLOWS_MAX, NO_PREALLOC);

/// First and last source port toward targets. Set by the daemon when it loads the
/// program.
#[unsafe(no_mangle)]
static SOURCE_PORTS: [u16; 2] = [0, 0];

/// Whether a port is one that the daemon uses toward targets.
#[inline(always)]
pub fn is_source_port(port: u16) -> bool {
    // SAFETY: a static is valid to read; volatile, because the value that the
    // compiler sees is not the one that is loaded.
    let [first, last] = unsafe { (&raw const SOURCE_PORTS).read_volatile() };
    first <= port && port <= last
}

/// Packets by direction and outcome. Written by packets, read by the daemon.
#[map]
pub static COUNTS: PerCpuArray<u64> = PerCpuArray::pinned(COUNTERS, 0);

/// Doors there may be, and listeners with counters.
const DOORS_MAX: u32 = 4096;
/// Room for the networks of all listeners twice over: new ones stand beside the old
/// until every door leads to the new.
const NETWORKS_ROOM: u32 = 2 * lb_common::door::NETWORKS_MAX + 1;
/// Sources remembered at once, some 6 MB. Here forgetting is right: it is the source
/// not heard of for longest, and it costs no more than a burst too many.
const SOURCES_MAX: u32 = 65_536;

/// Where listeners are bound -> what is asked of SYNs. Written by the daemon only.
#[map]
pub static LISTENERS: HashMap<Place, Door> = HashMap::pinned(DOORS_MAX, NO_PREALLOC);

/// Networks that doors let in; the value says nothing. Written by the daemon only, and never changed while a door leads to it.
#[map]
pub static NETWORKS: LpmTrie<Network, u32> = LpmTrie::pinned(NETWORKS_ROOM, NO_PREALLOC);

/// When a source's next SYN is due, see `lb_common::door::Pace`. Written by packets.
#[map]
pub static SOURCES: LruHashMap<Source, u64> = LruHashMap::pinned(SOURCES_MAX, 0);

/// SYNs turned away, by listener. Elements are made and deleted by the daemon,
/// counted up by packets.
#[map]
pub static REJECTED: PerCpuHashMap<u32, Rejected> = PerCpuHashMap::pinned(DOORS_MAX, NO_PREALLOC);

/// Flows that begin to end, for the daemon.
#[map]
pub static EVENTS: RingBuf = RingBuf::pinned(256 * 1024, 0);

/// Interfaces that take packets from XDP, by index. Written by the daemon; the kernel
/// removes those that go.
#[map]
pub static DEVICES: DevMapHash = DevMapHash::pinned(1024, 0);

/// The packet being worked on; the stack has no room for it. Programs of one CPU
/// run one after the other (softirqs off), so it is never shared.
#[map]
static SCRATCH: PerCpuArray<Segment> = PerCpuArray::with_max_entries(1, 0);

/// A place to parse a packet into.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Segment> {
    // SAFETY: array values live as long as the map, which the program holds; the
    // bytes begin as zeros or as an earlier Segment, and `family`, the one field
    // with forbidden values, is written by `parse` before anything reads it.
    SCRATCH
        .get_ptr_mut(0)
        .map(|segment| unsafe { &mut *segment })
}

/// Room for a packet's options.
#[map]
static OPTIONS: PerCpuArray<Options> = PerCpuArray::with_max_entries(1, 0);

/// Where a packet's options are worked on.
#[inline(always)]
pub fn options() -> Option<&'static mut Options> {
    // SAFETY: as for `scratch`; any bytes are valid Options.
    OPTIONS
        .get_ptr_mut(0)
        .map(|options| unsafe { &mut *options })
}

/// A question to the routing table and its answer; here and not on the stack for its
/// place and because its MAC addresses stand unaligned.
#[repr(C)]
pub struct Answer {
    pub from: Address,
    pub to: Address,
    /// Family and flags it was asked with.
    pub kind: u32,
    /// The tick from which it is to be asked again.
    pub until: u64,
    pub said: bpf_fib_lookup,
}

/// Answers of the routing table that are remembered, a power of two: some 28 KB for
/// each processor.
pub const ANSWERS_MAX: u32 = 256;

/// The routing table's latest answers, by a hash of the addresses; the last element is
/// for questions whose answers are not remembered.
#[map]
static ANSWERS: PerCpuArray<Answer> = PerCpuArray::with_max_entries(ANSWERS_MAX + 1, 0);

/// The answer at this place, up to [`ANSWERS_MAX`].
#[inline(always)]
pub fn answer(place: u32) -> Option<&'static mut Answer> {
    // SAFETY: as for `scratch`; it is integers and unions of integers.
    ANSWERS
        .get_ptr_mut(place)
        .map(|answer| unsafe { &mut *answer })
}

/// What the doors' maps are asked with; the stack has no room for it.
#[repr(C)]
pub struct Asked {
    pub place: Place,
    pub source: Source,
    pub due: u64,
    pub network: Key<Network>,
}

/// Room for questions to the doors' maps.
#[map]
static ASKED: PerCpuArray<Asked> = PerCpuArray::with_max_entries(1, 0);

/// Where questions to the doors' maps are written.
#[inline(always)]
pub fn asked() -> Option<&'static mut Asked> {
    // SAFETY: as for `scratch`; it is integers only, any bytes are valid.
    ASKED.get_ptr_mut(0).map(|asked| unsafe { &mut *asked })
}

/// Counts one packet.
#[inline(always)]
pub fn count(direction: Direction, outcome: Outcome) {
    if let Some(value) = COUNTS.get_ptr_mut(counter(direction, outcome)) {
        // SAFETY: a per-CPU value, and a program is not preempted by another of
        // its kind on the same CPU, so nobody else writes it now.
        unsafe { *value += 1 }
    }
}

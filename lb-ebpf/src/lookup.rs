//! From a packet's key to its flow.

use lb_common::flow::{Flow, FlowKey, Side, Tuple};

use crate::maps::{self, FLOWS, TARGETS};

/// A flow found, and the side the packet comes from.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// The entry. It stays readable until the program returns; the daemon deletes
    /// it only when the flow has lingered, so it is not reused under us.
    pub flow: *mut Flow,
    /// Key of the client leg.
    pub client: &'a FlowKey,
    /// Who sent the packet.
    pub side: Side,
}

/// The flow of a packet that came in with this key.
#[inline(always)]
pub fn find(key: &FlowKey) -> Option<Found<'_>> {
    // Ports the daemon uses toward targets tell which table is likely to know the
    // key; a listener may have such a port too, so the other is asked as well.
    if maps::is_source_port(u16::from_be(key.tuple.local_port)) {
        from_target(key).or_else(|| from_client(key))
    } else {
        from_client(key).or_else(|| from_target(key))
    }
}

/// Whether an end of a flow is on the balancer's own host.
#[inline(always)]
pub fn is_local(found: &Found<'_>, side: Side) -> bool {
    // SAFETY: an element of FLOWS, see above; the flag is there from its making on.
    unsafe { (*found.flow).shifts.is_local(side) }
}

#[inline(always)]
fn from_client(key: &FlowKey) -> Option<Found<'_>> {
    let flow = entry(key)?;
    Some(Found {
        flow,
        client: key,
        side: Side::Client,
    })
}

#[inline(always)]
fn from_target(key: &FlowKey) -> Option<Found<'_>> {
    // SAFETY: TARGETS values are written whole by the daemon before the leg's
    // first packet and never changed while the entry lives.
    let client = unsafe { &*TARGETS.get_ptr(key)? };
    let flow = entry(client)?;
    // SAFETY: `target` is written once, before the entry is reachable.
    let target: &Tuple = unsafe { &(*flow).target };
    // An index entry that outlived its flow must not lead into another one.
    (*target == key.tuple).then_some(Found {
        flow,
        client,
        side: Side::Target,
    })
}

/// Reads from each cache line of the entry at once: with a million flows none of them is
/// in a cache, and one after the other, as they are needed, they take longer to come.
#[inline(always)]
fn entry(key: &FlowKey) -> Option<*mut Flow> {
    let flow = FLOWS.get_ptr_mut(key)?;
    // SAFETY: an element of FLOWS, see `Found`; plain aligned fields, their values unused.
    unsafe {
        (&raw const (*flow).shifts.stamp[0]).read_volatile();
        (&raw const (*flow).halves[1].stamp).read_volatile();
        (&raw const (*flow).packets[1]).read_volatile();
    }
    Some(flow)
}

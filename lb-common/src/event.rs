//! What the program tells the daemon through the ring buffer: hints only, a
//! scan of the table finds what was missed while nobody listened.

use crate::flow::FlowKey;

/// A flow has begun to end (FIN or an accepted RST passed).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Key of the client leg.
    pub client: FlowKey,
    /// The flow's id, to tell it from a later one with the same key.
    pub id: u64,
    /// The state word after the packet.
    pub word: u64,
}

impl Event {
    /// Reads an event as the ring buffer delivers it; `None` on any other length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Event> {
        let bytes: &[u8; size_of::<Event>()] = bytes.try_into().ok()?;
        // SAFETY: Event is repr(C), integers only, no padding (asserted below);
        // the array has exactly its size and read_unaligned asks no alignment.
        Some(unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast()) })
    }
}

const _: () = assert!(size_of::<Event>() == 56);

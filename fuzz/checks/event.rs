//! Any bytes from the ring buffer are an event or none, and an event is those bytes.

use lb_common::event::Event;

/// Length of an event.
const LENGTH: usize = 56;

/// Panics where the reader is wrong.
pub(crate) fn check(bytes: &[u8]) {
    let Some(event) = Event::from_bytes(bytes) else {
        assert_ne!(bytes.len(), LENGTH, "a whole event is read");
        return;
    };
    assert_eq!(bytes.len(), LENGTH, "only a whole event is read");
    assert_eq!(event.id.to_ne_bytes(), bytes[40..48], "the id");
    assert_eq!(event.word.to_ne_bytes(), bytes[48..56], "the word");
    let tuple = &event.client.tuple;
    assert_eq!(tuple.peer.octets(), bytes[..16], "the client's address");
    assert_eq!(
        tuple.local.octets(),
        bytes[16..32],
        "the listener's address"
    );
    assert_eq!(
        tuple.peer_port.to_ne_bytes(),
        bytes[32..34],
        "the client's port"
    );
    assert_eq!(
        tuple.local_port.to_ne_bytes(),
        bytes[34..36],
        "the listener's port"
    );
}

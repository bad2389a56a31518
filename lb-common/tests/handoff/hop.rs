//! Packets under way on one hop: few, and without order.

/// How many there can be; a further one is lost.
const ROOM: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Hop<T> {
    packets: [Option<T>; ROOM],
}

impl<T: Copy + Ord> Hop<T> {
    pub(crate) const EMPTY: Self = Hop {
        packets: [None; ROOM],
    };

    pub(crate) fn len(&self) -> usize {
        self.packets.iter().flatten().count()
    }

    pub(crate) fn full(&self) -> bool {
        self.len() == ROOM
    }

    /// Puts one behind the others. Panics where there is no room.
    pub(crate) fn push(&mut self, packet: T) {
        let len = self.len();
        self.packets[len] = Some(packet);
    }

    /// Takes one out and closes the gap.
    pub(crate) fn remove(&mut self, at: usize) -> T {
        let packet = self.packets[at].take().expect("a packet stands there");
        self.packets[at..].rotate_left(1);
        packet
    }

    pub(crate) fn sort(&mut self) {
        let len = self.len();
        self.packets[..len].sort_unstable();
    }
}

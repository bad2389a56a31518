//! Everything at once, and every step any part of it can take.
//!
//! Side 0 is the client, side 1 the target; `ends` are theirs, `legs` the
//! balancer's sockets toward them.

use crate::endpoint::{Endpoint, Segment, WrongByte};
use crate::hop::Hop;
use crate::program::Program;

/// First positions: different on each leg and in each direction, so that a missing
/// or wrong shift shows as a wrong position.
const FIRST: [[u8; 2]; 2] = [[10, 60], [110, 160]];
/// Bytes each side sends in all. (Two from one side passes as well, ten times slower.)
const BYTES: [u8; 2] = [1, 1];
/// Packets under way at once, wherever; a further one is lost.
const PACKETS: usize = 2;
/// Attempts at a handoff.
const ATTEMPTS: u8 = 1;

/// The rules of the handoff; a test breaks one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rules {
    pub(crate) swap_compares: bool,
    pub(crate) checks_passed_end: bool,
    pub(crate) checks_unread: bool,
    pub(crate) reads_word_first: bool,
    pub(crate) records_before_counting: bool,
    /// What a hold has not passed on stays in the queue when it is let go.
    pub(crate) releases_what_passed: bool,
    /// On a live flow no FIN and no reset of the host's own leaves.
    pub(crate) guards_ends: bool,
}

impl Rules {
    pub(crate) const KEPT: Rules = Rules {
        swap_compares: true,
        checks_passed_end: true,
        checks_unread: true,
        reads_word_first: true,
        records_before_counting: true,
        releases_what_passed: true,
        guards_ends: true,
    };
}

/// Where a packet is inside the balancer, between wire and socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Stage {
    /// The program has done the first of its two steps.
    Program,
    /// Let through, not at the socket yet.
    Passed,
}

/// What the daemon is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Daemon {
    Relaying,
    /// Both sockets in repair; nothing read yet.
    Parked,
    /// The word was read.
    Word,
    /// The records too.
    Records([u8; 2]),
    /// And the client leg's socket.
    Client([u8; 2], Leg),
    /// And the target leg's: ready to judge.
    Both([u8; 2], [Leg; 2]),
    /// Committed, the sockets still open.
    Committed,
    /// Committed after a hold: the sockets are out of repair while their queues are
    /// read.
    Reading,
    /// The sockets are closed.
    Closed,
    /// Killed before the commit: the connection is allowed to be cut.
    Killed,
}

/// What a socket in repair shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Leg {
    received: u8,
    sent: u8,
    unread: u8,
    unacknowledged: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct System {
    rules: Rules,
    pub(crate) ends: [Endpoint; 2],
    legs: [Endpoint; 2],
    /// Bytes the relay has read of each leg.
    read: [u8; 2],
    /// While held: bytes of each leg that were passed on but not read.
    held: Option<[u8; 2]>,
    /// The stack has told the ends that the connection is over.
    pub(crate) cut: bool,
    /// Toward the balancer, from each side.
    inward: [Hop<Segment>; 2],
    /// Inside it.
    inside: [Hop<(Stage, Segment)>; 2],
    /// Toward each side.
    outward: [Hop<Segment>; 2],
    program: Program,
    pub(crate) daemon: Daemon,
    attempts: u8,
}

impl System {
    pub(crate) fn new(rules: Rules) -> Self {
        let end = |side: usize| Endpoint::new(FIRST[side][0], FIRST[side][1], BYTES[side]);
        let leg = |side: usize| Endpoint::new(FIRST[side][1], FIRST[side][0], BYTES[1 - side]);
        System {
            rules,
            ends: [end(0), end(1)],
            legs: [leg(0), leg(1)],
            read: [0; 2],
            held: None,
            cut: false,
            inward: [Hop::EMPTY; 2],
            inside: [Hop::EMPTY; 2],
            outward: [Hop::EMPTY; 2],
            program: Program {
                changed: false,
                committed: false,
                passed_end: [FIRST[0][0], FIRST[1][0]],
                shift: [0; 2],
            },
            daemon: Daemon::Relaying,
            attempts: ATTEMPTS,
        }
    }

    /// Whether both ends have all and know it.
    pub(crate) fn finished(&self) -> bool {
        let [client, target] = &self.ends;
        client.acknowledged()
            && target.acknowledged()
            && client.received() == target.bytes
            && target.received() == client.bytes
    }

    /// Every state one step away.
    pub(crate) fn steps(&self) -> Result<Vec<System>, WrongByte> {
        let mut next = Vec::new();
        // Once killed too early, the connection may be cut: nothing more to prove.
        if self.finished() || self.cut || self.daemon == Daemon::Killed {
            return Ok(next);
        }
        for side in 0..2 {
            self.endpoint_steps(side, &mut next);
            self.arrival_steps(side, &mut next)?;
            self.inside_steps(side, &mut next)?;
            self.relay_step(side, &mut next);
        }
        self.daemon_steps(&mut next);
        Ok(next)
    }

    /// An end sends, repeats, or asks again for what it may have missed.
    fn endpoint_steps(&self, side: usize, next: &mut Vec<System>) {
        if self.full() || self.inward[side].full() {
            return;
        }
        let end = self.ends[side];
        if end.next < end.first + end.bytes {
            next.push(self.but(|system| {
                let segment = system.ends[side].send();
                system.inward[side].push(segment);
            }));
        }
        if end.unacknowledged < end.next {
            next.push(self.but(|system| {
                let segment = end.segment(end.unacknowledged);
                system.inward[side].push(segment);
            }));
        }
    }

    /// Packets on the wires are lost or arrive, in any order.
    fn arrival_steps(&self, side: usize, next: &mut Vec<System>) -> Result<(), WrongByte> {
        for at in 0..self.inward[side].len() {
            next.push(self.but(|system| {
                system.inward[side].remove(at);
            }));
            if !self.inside[side].full() {
                next.push(self.but(|system| system.enter(side, at)));
            }
        }
        for at in 0..self.outward[side].len() {
            next.push(self.but(|system| {
                system.outward[side].remove(at);
            }));
            let mut system = *self;
            let segment = system.outward[side].remove(at);
            if system.ends[side].take(segment)? && !system.full() && !system.inward[side].full() {
                let acknowledgment = system.ends[side].acknowledgment();
                system.inward[side].push(acknowledgment);
            }
            next.push(system.sorted());
        }
        Ok(())
    }

    /// The program's first step on a packet.
    fn enter(&mut self, side: usize, at: usize) {
        let segment = self.inward[side].remove(at);
        if self.program.committed {
            self.forward(side, segment);
        } else if self.rules.records_before_counting {
            self.program.record(side, segment);
            self.inside[side].push((Stage::Program, segment));
        } else if self.program.count(segment) {
            self.forward(side, segment);
        } else {
            self.inside[side].push((Stage::Program, segment));
        }
    }

    /// The program's second step, or the packet's way to the socket.
    fn inside_steps(&self, side: usize, next: &mut Vec<System>) -> Result<(), WrongByte> {
        for at in 0..self.inside[side].len() {
            let mut system = *self;
            let (stage, segment) = system.inside[side].remove(at);
            match stage {
                Stage::Program => system.second_step(side, segment),
                Stage::Passed => system.reach_socket(side, segment)?,
            }
            next.push(system.sorted());
        }
        Ok(())
    }

    fn second_step(&mut self, side: usize, segment: Segment) {
        if !self.rules.records_before_counting {
            self.program.record(side, segment);
        } else if self.program.count(segment) {
            return self.forward(side, segment);
        }
        self.inside[side].push((Stage::Passed, segment));
    }

    /// Where no socket is left the stack answers with a reset, which the guard drops.
    fn reach_socket(&mut self, side: usize, segment: Segment) -> Result<(), WrongByte> {
        if self.daemon == Daemon::Closed {
            return Ok(());
        }
        if self.legs[side].take(segment)? {
            let acknowledgment = self.legs[side].acknowledgment();
            self.out(side, acknowledgment);
        }
        Ok(())
    }

    fn forward(&mut self, side: usize, segment: Segment) {
        let segment = self.program.translate(side, segment);
        self.out(1 - side, segment);
    }

    fn full(&self) -> bool {
        let sides = self.inward.iter().chain(&self.outward);
        let wires: usize = sides.map(Hop::len).sum();
        wires + self.inside.iter().map(Hop::len).sum::<usize>() >= PACKETS
    }

    /// A full hop loses the packet.
    fn out(&mut self, side: usize, segment: Segment) {
        if !self.full() && !self.outward[side].full() {
            self.outward[side].push(segment);
        }
    }

    /// The relay moves one byte on; a socket repeats what was not acknowledged.
    fn relay_step(&self, side: usize, next: &mut Vec<System>) {
        if self.daemon != Daemon::Relaying {
            return;
        }
        let leg = self.legs[side];
        if self.read[side] + self.ahead()[side] < leg.received() {
            next.push(self.but(|system| {
                match &mut system.held {
                    Some(ahead) => ahead[side] += 1,
                    None => system.read[side] += 1,
                }
                let segment = system.legs[1 - side].send();
                system.out(1 - side, segment);
            }));
        }
        if leg.unacknowledged < leg.next {
            next.push(self.but(|system| {
                let segment = leg.segment(leg.unacknowledged);
                system.out(side, segment);
            }));
        }
    }

    fn daemon_steps(&self, next: &mut Vec<System>) {
        let to = |daemon: Daemon| self.but(|system| system.daemon = daemon);
        match self.daemon {
            Daemon::Relaying if self.attempts > 0 => next.push(self.but(|system| {
                system.attempts -= 1;
                system.daemon = Daemon::Parked;
            })),
            Daemon::Parked => next.push(self.but(|system| {
                system.program.changed = false;
                system.daemon = Daemon::Word;
            })),
            Daemon::Word => next.push(to(Daemon::Records(self.program.passed_end))),
            Daemon::Records(ends) => next.push(to(Daemon::Client(ends, self.leg(0)))),
            Daemon::Client(ends, client) => {
                next.push(to(Daemon::Both(ends, [client, self.leg(1)])));
            }
            Daemon::Both(ends, legs) => next.push(self.judge(ends, legs)),
            Daemon::Relaying
            | Daemon::Committed
            | Daemon::Reading
            | Daemon::Closed
            | Daemon::Killed => {}
        }
        if self.daemon == Daemon::Relaying && self.attempts > 0 && self.held.is_none() {
            next.push(self.but(|system| system.held = Some([0; 2])));
        }
        match self.daemon {
            Daemon::Committed if self.ahead() != [0; 2] => next.push(to(Daemon::Reading)),
            Daemon::Committed => next.push(to(Daemon::Closed)),
            Daemon::Reading => next.extend([
                to(Daemon::Closed),
                // A death in between: the stack ends the sockets as any others.
                self.but(|system| {
                    system.daemon = Daemon::Closed;
                    system.cut = !system.rules.guards_ends;
                }),
            ]),
            Daemon::Closed | Daemon::Killed => {}
            _ => next.push(to(Daemon::Killed)),
        }
    }

    fn ahead(&self) -> [u8; 2] {
        self.held.unwrap_or_default()
    }

    /// Ends a hold, if there was one: what was passed on is read.
    fn release(&mut self) {
        let Some(ahead) = self.held.take() else {
            return;
        };
        for (side, ahead) in ahead.into_iter().enumerate() {
            self.read[side] = match self.rules.releases_what_passed {
                true => self.read[side] + ahead,
                false => self.legs[side].received(),
            };
        }
    }

    fn leg(&self, side: usize) -> Leg {
        let leg = self.legs[side];
        Leg {
            received: leg.expected,
            sent: leg.next,
            unread: leg.received() - self.read[side],
            unacknowledged: leg.next - leg.unacknowledged,
        }
    }

    /// Conditions and swap; in one step, as the control program does it.
    fn judge(&self, ends: [u8; 2], legs: [Leg; 2]) -> System {
        let quiet = (0..2).all(|side| {
            (legs[side].unread == self.ahead()[side] || !self.rules.checks_unread)
                && legs[side].unacknowledged == 0
                && (ends[side] == legs[side].received || !self.rules.checks_passed_end)
        });
        // Read only now, the word could not have changed since.
        let compares = self.rules.swap_compares && self.rules.reads_word_first;
        let unchanged = !self.program.changed || !compares;
        self.but(|system| {
            if !quiet || !unchanged {
                system.daemon = Daemon::Relaying;
                system.release();
                return;
            }
            system.program.shift = [
                legs[1].sent.wrapping_sub(legs[0].received),
                legs[0].sent.wrapping_sub(legs[1].received),
            ];
            system.program.committed = true;
            system.daemon = Daemon::Committed;
        })
    }

    fn but(&self, change: impl FnOnce(&mut System)) -> System {
        let mut system = *self;
        change(&mut system);
        system.sorted()
    }

    /// Packets have no order among themselves, so states that differ only in it are
    /// one.
    fn sorted(mut self) -> System {
        for side in 0..2 {
            self.inward[side].sort();
            self.inside[side].sort();
            self.outward[side].sort();
        }
        self
    }
}

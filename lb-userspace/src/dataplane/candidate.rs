//! A connection that may become a flow: from the target's SYN to the commit.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use lb_common::syn::Limits;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::active::Active;
use super::address;
use super::judge::{Leg, PROMISED_WINDOW, judge, takes, unobserved};
use super::ports::REST_TIME_WAIT;
use super::socket::{self, Positions, Repaired, option};
use super::table::Entry;
use super::types::{Handoff, Refusal, Request};

/// Source ports tried when a connection of an earlier daemon is still in the way.
const PORT_TRIES: usize = 8;
/// What a socket takes from the relay beyond what it can send, in bytes: all of it
/// must have left before the handoff.
const UNSENT: u32 = 64 * 1024;
/// Attempts that may ask a slow peer for its acknowledgment by a window probe; the
/// one probe after the 101 matters, more would only add packets.
const PROBES: u32 = 3;
/// A target is not asked to send segments smaller than every host takes (RFC 9293
/// section 3.7.1), whatever a client announces.
const LEAST_MSS: u32 = 536;

/// A connection that may become a flow. Dropping it gives back port and entry.
#[derive(Debug)]
pub(crate) struct Candidate {
    id: u64,
    state: State,
    attempts: u32,
}

#[derive(Debug)]
enum State {
    /// Watched by the program, with a port of ours.
    Observing {
        active: Arc<Active>,
        entry: Box<Entry>,
    },
    /// Will stay in userspace; with the port it has of ours, if any.
    Refused(Refusal, Option<(Arc<Active>, Box<Entry>)>),
    /// In the kernel.
    Committed,
}

impl Candidate {
    /// A connection that stays in userspace.
    pub(super) fn refused(id: u64, refusal: Refusal) -> Self {
        Self {
            id,
            state: State::Refused(refusal, None),
            attempts: 0,
        }
    }

    /// The connection's id for its whole life, in userspace and in the kernel.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Makes both sockets ready to be handed off later.
    ///
    /// To be called while the window announced to the client is open: the kernel
    /// takes the window of that moment for what it may announce from then on.
    pub(crate) fn prepare(&self, client: &TcpStream, target: &TcpStream) -> io::Result<()> {
        let State::Observing { .. } = self.state else {
            return Ok(());
        };
        socket::bound_window(client.as_fd(), PROMISED_WINDOW)?;
        for socket in [client, target] {
            socket::bound_unsent(socket.as_fd(), UNSENT)?;
        }
        Ok(())
    }

    /// Why it will stay in userspace, if that is settled.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        match &self.state {
            State::Refused(refusal, _) => Some(*refusal),
            State::Observing { .. } | State::Committed => None,
        }
    }

    /// Tries once to move the connection into the kernel; nothing may be waiting
    /// in the relay. `ahead`: bytes of the client and of the target that the relay
    /// has passed on but not read. Blocks for some tens of microseconds.
    pub(crate) fn try_handoff(
        &mut self,
        client: &TcpStream,
        target: &TcpStream,
        ahead: [usize; 2],
    ) -> Handoff {
        let (active, entry) = match &self.state {
            State::Observing { active, entry } => (Arc::clone(active), **entry),
            State::Refused(refusal, _) => return Handoff::Never(*refusal),
            State::Committed => return Handoff::Committed,
        };
        self.attempts += 1;
        let probe = self.attempts <= PROBES;
        let sockets = [(client.as_fd(), ahead[0]), (target.as_fd(), ahead[1])];
        let result = attempt(&active, &entry, sockets, probe).unwrap_or_else(|error| {
            tracing::warn!(id = self.id, %error, "handoff failed, the connection is relayed");
            Handoff::Never(Refusal::Error)
        });
        match result {
            Handoff::Committed => self.state = State::Committed,
            Handoff::Never(refusal) => self.refuse(refusal),
            Handoff::NotNow(_) => {}
        }
        result
    }

    /// Reads back what the target was told in the SYN; the entry keeps it no longer
    /// than until the first attempt.
    fn told(mut self) -> Self {
        if let State::Observing { active, entry } = &mut self.state
            && let Ok(Some(flow)) = active.read(&entry.client)
        {
            entry.flow.shifts = flow.shifts;
        }
        self
    }

    /// Stops observing: the program need not look at its packets any more. The
    /// port stays taken until the connection is dropped.
    fn refuse(&mut self, refusal: Refusal) {
        let refused = State::Refused(refusal, None);
        if let State::Observing { active, entry } = std::mem::replace(&mut self.state, refused) {
            active.forget(&entry);
            self.state = State::Refused(refusal, Some((active, entry)));
        }
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        match &self.state {
            State::Observing { active, entry } => {
                active.forget(entry);
                active.release(entry, REST_TIME_WAIT);
            }
            State::Refused(_, Some((active, entry))) => active.release(entry, REST_TIME_WAIT),
            State::Refused(_, None) | State::Committed => {}
        }
    }
}

/// Dials the target from a port of ours, observed from its first packet on.
pub(super) async fn connect(
    active: &Arc<Active>,
    id: u64,
    target: SocketAddr,
    request: &Request,
) -> io::Result<(TcpStream, Candidate)> {
    let client = address::canonical(request.client);
    let local = address::canonical(request.local);
    let (source, local_ends) = match eligible(client, target) {
        Ok((_, ends)) if ends != [false; 2] && !active.carries_local() => {
            return plain(id, target, Refusal::Local).await;
        }
        Ok(eligible) => eligible,
        Err(refusal) => return plain(id, target, refusal).await,
    };
    let client = address::key(local, client);
    for _ in 0..PORT_TRIES {
        let Some(port) = active.take_port((source, target)) else {
            return plain(id, target, Refusal::Ports).await;
        };
        let tuple = address::tuple((source, port).into(), target);
        let entry = Entry::observing(client, tuple, id, request, local_ends);
        // From here on dropping the candidate gives everything back.
        let candidate = Candidate {
            id,
            state: State::Observing {
                active: Arc::clone(active),
                entry: Box::new(entry),
            },
            attempts: 0,
        };
        if let Err(error) = active.observe(&entry) {
            if error.kind() == io::ErrorKind::AlreadyExists {
                continue;
            }
            let refusal = match error.kind() {
                io::ErrorKind::StorageFull => Refusal::TableFull,
                _ => Refusal::Error,
            };
            drop(candidate);
            return plain(id, target, refusal).await;
        }
        match dial((source, port).into(), target).await {
            Ok(stream) => return Ok((stream, candidate.told())),
            Err(error) if in_the_way(&error) => drop(candidate),
            Err(error) => return Err(error),
        }
    }
    plain(id, target, Refusal::Ports).await
}

/// A connection whose port the kernel chooses, for the relay alone.
pub(super) async fn plain(
    id: u64,
    target: SocketAddr,
    refusal: Refusal,
) -> io::Result<(TcpStream, Candidate)> {
    Ok((
        TcpStream::connect(target).await?,
        Candidate::refused(id, refusal),
    ))
}

/// The source address toward the target, if both ends can be spliced at all; and which
/// of client and target are on this host.
fn eligible(client: SocketAddr, target: SocketAddr) -> Result<(IpAddr, [bool; 2]), Refusal> {
    if client.is_ipv4() != target.is_ipv4() {
        return Err(Refusal::Family);
    }
    let source = address::source(target.ip()).map_err(|_| Refusal::Error)?;
    let toward_client = address::source(client.ip()).map_err(|_| Refusal::Error)?;
    // The route to an address of this host leaves from that address itself.
    let local = [toward_client == client.ip(), source == target.ip()];
    Ok((source, local))
}

async fn dial(source: SocketAddr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(target),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&source.into())?;
    let stream = TcpSocket::from_std_stream(socket.into())
        .connect(target)
        .await?;
    // Before much was received: the promise must never have been larger.
    socket::bound_window(stream.as_fd(), PROMISED_WINDOW)?;
    Ok(stream)
}

/// Somebody else's socket, or TIME_WAIT of our own from before a restart.
fn in_the_way(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
    )
}

/// One attempt: repair, read, judge, commit. Each socket comes with the bytes of it
/// that were passed on but not read.
fn attempt(
    active: &Active,
    entry: &Entry,
    [(client, client_ahead), (target, target_ahead)]: [(BorrowedFd<'_>, usize); 2],
    probe: bool,
) -> io::Result<Handoff> {
    let ahead = [client_ahead, target_ahead];
    // A delayed acknowledgment would be lost with the socket and cost the peer a
    // retransmission.
    socket::acknowledge(client)?;
    socket::acknowledge(target)?;
    let client = Repaired::enter(client)?;
    let target = match Repaired::enter(target) {
        Ok(target) => target,
        Err(error) => {
            client.leave()?;
            return Err(error);
        }
    };
    let result = decide(active, entry, (&client, &target), ahead);
    let waiting = match result {
        // Both stay in repair until they are dropped, which then sends nothing.
        Ok((Handoff::Committed, _)) => {
            reopen(client, client_ahead, entry.flow.id);
            reopen(target, target_ahead, entry.flow.id);
            return Ok(Handoff::Committed);
        }
        Ok((_, waiting)) => waiting,
        Err(_) => [false; 2],
    };
    // Both must be tried: a socket left in repair would be mute for ever.
    let first = resume(client, probe && waiting[0]);
    let second = resume(target, probe && waiting[1]);
    first.and(second)?;
    result.map(|(refused, _)| refused)
}

/// The decision, and for each leg whether it waits for an acknowledgment.
fn decide(
    active: &Active,
    entry: &Entry,
    (client, target): (&Repaired<'_>, &Repaired<'_>),
    ahead: [usize; 2],
) -> io::Result<(Handoff, [bool; 2])> {
    // The word first: a packet after this moment fails the swap.
    let Some(flow) = active.read(&entry.client)? else {
        return Ok((Handoff::Never(Refusal::Error), [false; 2]));
    };
    let told = u32::from(Limits::told(&entry.flow.shifts).mss);
    let mut legs = (leg(client, ahead[0])?, leg(target, ahead[1])?);
    legs.1.announced_mss = legs.1.announced_mss.min(told);
    let waiting = [legs.0.at.unacknowledged != 0, legs.1.at.unacknowledged != 0];
    let handoff = match judge(&flow, &legs.0, &legs.1) {
        Err(Handoff::Never(Refusal::Unobserved)) => {
            let now = active.read(&entry.client)?.unwrap_or_default();
            unobserved(flow.word, now.word)
        }
        Err(refused) => refused,
        Ok(shifts) => match active.commit(entry, flow.word, shifts)? {
            true => Handoff::Committed,
            false => Handoff::NotNow(Refusal::Pending),
        },
    };
    Ok((handoff, waiting))
}

/// What the SYN to a target may ask for, so that its leg can be joined to the one of
/// this client. Of a socket that says nothing nothing is known.
pub(crate) fn limits(client: &TcpStream) -> Limits {
    let Ok(info) = socket::info(client.as_fd()) else {
        return Limits::NONE;
    };
    let options = info.tcpi_options;
    let mss = match takes(options, info.tcpi_snd_mss) {
        0..LEAST_MSS => u16::MAX,
        mss => u16::try_from(mss).unwrap_or(u16::MAX),
    };
    Limits {
        mss,
        timestamps: options & option::TIMESTAMPS != 0,
        sack: options & option::SACK != 0,
    }
}

/// What a packet and its acknowledgment need between client and target, over both legs;
/// zero of sockets that say nothing.
pub(crate) fn round_trip(client: &TcpStream, target: &TcpStream) -> Duration {
    let of = |socket: &TcpStream| {
        socket::info(socket.as_fd()).map_or(0, |info| u64::from(info.tcpi_rtt))
    };
    Duration::from_micros(of(client) + of(target))
}

fn leg(socket: &Repaired<'_>, ahead: usize) -> io::Result<Leg> {
    let at: Positions = socket.positions()?;
    let info = socket.info()?;
    Ok(Leg {
        at,
        ahead: u32::try_from(ahead).map_err(io::Error::other)?,
        state: info.tcpi_state,
        options: info.tcpi_options,
        peer_scale: info.tcpi_snd_rcv_wscale & 0x0f,
        own_scale: info.tcpi_snd_rcv_wscale >> 4,
        send_mss: info.tcpi_snd_mss,
        announced_mss: info.tcpi_advmss,
        clock: socket.timestamp()?,
    })
}

/// Opens the window of a held end: the stack tells it when the bytes are read that
/// have filled it. The flow is committed, so the guard keeps back whatever else the
/// socket might send, were the daemon to die here; and a window that stays closed
/// costs the end a probe, not the connection.
fn reopen(socket: Repaired<'_>, ahead: usize, id: u64) {
    if ahead > 0
        && let Err(error) = socket.read_off(ahead)
    {
        tracing::warn!(id, %error, "a held end must find out by itself that it may go on");
    }
}

fn resume(socket: Repaired<'_>, probe: bool) -> io::Result<()> {
    if probe {
        socket.leave_probing()
    } else {
        socket.leave()
    }
}

//! Resets to both ends of a flow that has no socket.
//!
//! For each end a socket is put into repair, given the flow's numbers and so
//! connected without a packet; closing it with SO_LINGER 0 lets the kernel make
//! the reset. Needs no raw socket and works for both families alike.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use lb_common::flow::{Flow, FlowKey, Half, Side};
use socket2::{Domain, Protocol, Socket, Type};

use super::address::{local, peer};
use super::socket::Repaired;

/// Resets both ends. The flow must be marked ended, or the guard drops them.
pub(super) fn both_ends(client: &FlowKey, flow: &Flow) -> io::Result<()> {
    let first = one_end(
        local(&client.tuple),
        peer(&client.tuple),
        &flow.halves[Side::Client.index()],
    );
    let second = one_end(
        local(&flow.target),
        peer(&flow.target),
        &flow.halves[Side::Target.index()],
    );
    first.and(second)
}

/// The reset's sequence number is the last acknowledgment that came from the end,
/// the only one it must believe (RFC 5961 section 3.2).
fn one_end(from: SocketAddr, to: SocketAddr, half: &Half) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    let repaired = Repaired::enter(socket.as_fd())?;
    socket.bind(&from.into())?;
    repaired.set_positions(half.passed_end, half.last_ack)?;
    socket.connect(&to.into())?;
    socket.set_linger(Some(Duration::ZERO))?;
    repaired.leave()
}

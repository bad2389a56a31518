//! Packets off a wire, in forms that test runs cannot have: headers that do not lie
//! in the linear part of the buffer, and a VLAN tag that the kernel has taken off.

use std::io;
use std::time::{Duration, Instant};

use lb_common::flow::Side;
use nix::net::if_::if_nametoindex;

use super::frame::Plain;
use super::kernel::{Kernel, with_kernel};
use super::sample::samples;

/// Linux makes buffers below a page linear; this is more.
const LONG: usize = 6000;
/// Reading the counters again until then; they move within microseconds.
const DEADLINE: Duration = Duration::from_secs(2);

/// As every driver delivers them.
#[test]
fn headers_in_the_linear_part() {
    arrives(1000, "client_to_target", "forwarded");
}

/// As drivers that receive into pages do while GRO is off: virtio_net leaves all but
/// the Ethernet header of any frame over 128 bytes in pages.
#[test]
fn headers_in_a_page() {
    arrives(LONG, "client_to_target", "forwarded");
}

/// The same addresses in a VLAN are another network: its own interface's business.
#[test]
fn in_a_vlan() {
    with_kernel(|kernel| {
        for sample in samples() {
            kernel.put(&sample.committed(kernel.routes));
        }
        kernel.attach();
        for sample in samples() {
            let mut frame = sample.segment(Side::Client).frame();
            frame.splice(12..12, [0x81, 0x00, 0, 5]);
            let counted = counted_on_arrival(kernel, &frame, frame.len());
            assert_eq!(counted, [("none", "other")]);
        }
    });
}

fn arrives(payload: usize, direction: &'static str, outcome: &'static str) {
    with_kernel(|kernel| {
        kernel.attach();
        for sample in samples() {
            kernel.put(&sample.committed(kernel.routes));
            let payload = vec![1; payload];
            let frame = Plain {
                payload,
                ..sample.segment(Side::Client)
            }
            .frame();
            let counted = counted_on_arrival(kernel, &frame, 14);
            assert_eq!(counted, [(direction, outcome)], "{}", sample.client);
        }
    });
}

/// Puts a frame on the client's end of the wire; the counters that move.
fn counted_on_arrival(
    kernel: &Kernel,
    frame: &[u8],
    linear: usize,
) -> Vec<(&'static str, &'static str)> {
    let before = kernel.table.counters();
    put_on_wire(frame, linear as u16).expect("needs root: a packet socket");
    let end = Instant::now() + DEADLINE;
    let mut counted = Vec::new();
    while counted.is_empty() && Instant::now() < end {
        let moved = before
            .iter()
            .zip(kernel.table.counters())
            .filter(|(old, new)| old.2 != new.2);
        counted = moved.map(|(_, new)| (new.0, new.1)).collect();
    }
    counted
}

/// Sends through a packet socket, whose virtio header says how much is to lie in the
/// linear part.
fn put_on_wire(frame: &[u8], linear: u16) -> io::Result<()> {
    const PACKET_VNET_HDR: i32 = 15;
    let socket = socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, None)?;
    let on = 1i32;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: an integer of the size told, for a descriptor that is open.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::SOL_PACKET,
            PACKET_VNET_HDR,
            (&raw const on).cast(),
            4,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: sockaddr_ll is integers only, zero is valid.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = if_nametoindex("client")? as i32;
    let [low, high] = linear.to_le_bytes();
    let packet = [&[0, 0, low, high, 0, 0, 0, 0, 0, 0][..], frame].concat();
    // SAFETY: a buffer and an address of the sizes told, both alive for the call.
    let sent = unsafe {
        libc::sendto(
            fd,
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const to).cast(),
            size_of_val(&to) as u32,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

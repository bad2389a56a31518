//! Socket options that std has no name for: TCP_REPAIR and what it shows.
//!
//! Facts of the kernel this rests on (net/ipv4/tcp.c, Linux 6.12): entering
//! repair stops neither reception nor acknowledgment; closing in repair sends
//! nothing and leaves no TIME_WAIT; leaving repair clears SO_REUSEADDR.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, c_void, socklen_t};
use nix::sys::socket::{MsgFlags, recv};

const TCP_REPAIR_OFF: c_int = 0;
const TCP_REPAIR_ON: c_int = 1;
const TCP_REPAIR_OFF_NO_WP: c_int = -1;
const TCP_RECV_QUEUE: c_int = 1;
const TCP_SEND_QUEUE: c_int = 2;

/// `tcpi_options` (include/uapi/linux/tcp.h).
pub(super) mod option {
    /// Timestamps were negotiated.
    pub(crate) const TIMESTAMPS: u8 = 1;
    /// SACK was.
    pub(crate) const SACK: u8 = 2;
    /// ECN was.
    pub(crate) const ECN: u8 = 8;
    /// Timestamps count microseconds.
    pub(crate) const USEC_TS: u8 = 64;
}

/// A socket in repair; leaving is explicit, because it may send a packet.
#[derive(Debug)]
pub(super) struct Repaired<'a> {
    fd: BorrowedFd<'a>,
}

/// The positions of a connection, in its own sequence spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Positions {
    /// Next byte expected from the peer.
    pub(super) received: u32,
    /// Next byte to be sent to the peer.
    pub(super) sent: u32,
    /// Bytes received and not read.
    pub(super) unread: u32,
    /// Bytes sent and not acknowledged, or not sent yet.
    pub(super) unacknowledged: u32,
}

impl<'a> Repaired<'a> {
    /// Enters repair: from here on the process sends and reads nothing, and its
    /// death sends no FIN.
    pub(super) fn enter(fd: BorrowedFd<'a>) -> io::Result<Self> {
        set(fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, TCP_REPAIR_ON)?;
        Ok(Self { fd })
    }

    /// Where the connection stands.
    pub(super) fn positions(&self) -> io::Result<Positions> {
        Ok(Positions {
            received: self.queue_position(TCP_RECV_QUEUE)?,
            sent: self.queue_position(TCP_SEND_QUEUE)?,
            unread: queued(self.fd, libc::FIONREAD)?,
            unacknowledged: queued(self.fd, libc::TIOCOUTQ)?,
        })
    }

    /// See [`info`].
    pub(super) fn info(&self) -> io::Result<libc::tcp_info> {
        info(self.fd)
    }

    /// The connection's own timestamp clock (TCP_TIMESTAMP). Its lowest bit is a
    /// flag and reads zero; the true value may be one higher, and what the socket
    /// sends a moment later another one. That is returned.
    pub(super) fn timestamp(&self) -> io::Result<u32> {
        Ok((get::<u32>(self.fd, libc::TCP_TIMESTAMP)? & !1).wrapping_add(2))
    }

    /// Sets the positions of a socket that is not connected yet.
    pub(super) fn set_positions(&self, received: u32, sent: u32) -> io::Result<()> {
        for (queue, position) in [(TCP_RECV_QUEUE, received), (TCP_SEND_QUEUE, sent)] {
            set(self.fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, queue)?;
            set(self.fd, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ, position)?;
        }
        Ok(())
    }

    /// Back to normal, sending nothing.
    pub(super) fn leave(self) -> io::Result<()> {
        self.leave_with(TCP_REPAIR_OFF_NO_WP)
    }

    /// Back to normal with a window probe: the peer acknowledges at once what it
    /// has, also what it meant to acknowledge later.
    pub(super) fn leave_probing(self) -> io::Result<()> {
        self.leave_with(TCP_REPAIR_OFF)
    }

    /// Reads `bytes` from the receive queue and forgets them; the window that opens
    /// by it is told to the peer. In repair again at the end, but not in between.
    pub(super) fn read_off(self, bytes: usize) -> io::Result<Self> {
        let fd = self.fd;
        self.leave()?;
        let result = discard(fd, bytes);
        let again = Self::enter(fd)?;
        result.map(|()| again)
    }

    fn leave_with(self, how: c_int) -> io::Result<()> {
        set(self.fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, how)?;
        set(self.fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)
    }

    fn queue_position(&self, queue: c_int) -> io::Result<u32> {
        set(self.fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, queue)?;
        get(self.fd, libc::TCP_QUEUE_SEQ)
    }
}

/// TCP_INFO; of libc's structure only the fields every kernel fills.
pub(super) fn info(fd: BorrowedFd<'_>) -> io::Result<libc::tcp_info> {
    // SAFETY: tcp_info is integers only, zero is valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    get_into(fd, libc::TCP_INFO, &mut info)?;
    Ok(info)
}

/// Reads and forgets bytes that are there.
fn discard(fd: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    let mut left = vec![0; bytes];
    while !left.is_empty() {
        match recv(fd.as_raw_fd(), &mut left, MsgFlags::MSG_DONTWAIT)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => left.truncate(left.len() - count),
        }
    }
    Ok(())
}

/// Bounds the window announced from now on, in bytes; the window scale is settled.
///
/// The kernel lifts the clamp whenever it learns better how much of the buffer packets
/// take, so what holds in the end is the buffer, no longer sized by itself. It has room
/// for the overhead of small packets, or a full window would be dropped in part; and
/// the kernel doubles what it is given.
pub(super) fn bound_window(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes * 2)?;
    set(fd, libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, bytes)
}

/// Bounds what waits in the send queue for its turn, in bytes (TCP_NOTSENT_LOWAT).
pub(super) fn bound_unsent(fd: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes)
}

/// Sends a delayed acknowledgment now.
pub(super) fn acknowledge(fd: BorrowedFd<'_>) -> io::Result<()> {
    set(fd, libc::IPPROTO_TCP, libc::TCP_QUICKACK, 1)
}

fn set<T>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: T) -> io::Result<()> {
    // SAFETY: the pointer and length describe `value`, which lives over the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast::<c_void>(),
            size_of::<T>() as socklen_t,
        )
    };
    check(result)
}

fn get<T: Default>(fd: BorrowedFd<'_>, name: c_int) -> io::Result<T> {
    let mut value = T::default();
    get_into(fd, name, &mut value)?;
    Ok(value)
}

fn get_into<T>(fd: BorrowedFd<'_>, name: c_int, value: &mut T) -> io::Result<()> {
    let mut length = size_of::<T>() as socklen_t;
    // SAFETY: the pointer and length describe `value`; callers use types made of
    // integers, for which whatever the kernel writes is valid.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            name,
            std::ptr::from_mut(value).cast::<c_void>(),
            &raw mut length,
        )
    };
    check(result)
}

fn queued(fd: BorrowedFd<'_>, request: libc::c_ulong) -> io::Result<u32> {
    let mut bytes: c_int = 0;
    // SAFETY: both requests write one int, which `bytes` is.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request, &raw mut bytes) })?;
    Ok(bytes.unsigned_abs())
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

//! A raw hand on one end of a wire: sees every frame there and sends any.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

use crate::lab::END;
use crate::namespace::Namespace;

/// Longer than any frame of the lab but those of GSO.
const LONGEST: usize = 2048;

/// A packet socket on the interface of an end.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
    interface: LinkAddr,
}

impl Tap {
    /// On the interface of this end of a lab.
    pub fn on(end: &Namespace) -> Result<Self> {
        Self::on_interface(end, END)
    }

    /// On any interface of a namespace.
    pub(crate) fn on_interface(namespace: &Namespace, name: &str) -> Result<Self> {
        namespace.run(|| {
            let socket = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
            .context("opening a packet socket (this needs root)")?;
            let interface = getifaddrs()?
                .filter(|interface| interface.interface_name == name)
                .find_map(|interface| interface.address?.as_link_addr().copied())
                .with_context(|| format!("no interface {name}"))?;
            // Of no other interface.
            bind(socket.as_raw_fd(), &interface)?;
            Ok(Self { socket, interface })
        })
    }

    /// Puts a frame on the wire.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        let sent = sendto(
            self.socket.as_raw_fd(),
            frame,
            &self.interface,
            MsgFlags::empty(),
        )?;
        ensure!(sent == frame.len(), "sent {sent} of {} bytes", frame.len());
        Ok(())
    }

    /// The next frame that has come or gone, if there is one.
    pub fn next(&self) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0; LONGEST];
        match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(Errno::EAGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

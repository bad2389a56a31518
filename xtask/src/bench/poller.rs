//! epoll, as lean as it gets: what measures must cost less than what is measured.

use std::os::fd::AsFd;

use anyhow::Result;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

const EVENTS: usize = 256;

/// Waits for many sockets; each has a number of the caller's.
pub(super) struct Poller {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

/// What a connection wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interest {
    Read,
    ReadAndWrite,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Read => EpollFlags::EPOLLIN,
            Self::ReadAndWrite => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
        }
    }
}

impl Poller {
    pub(super) fn new() -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self {
            epoll,
            events: vec![EpollEvent::empty(); EVENTS],
        })
    }

    pub(super) fn add(&self, socket: impl AsFd, number: usize) -> Result<()> {
        Ok(self.epoll.add(
            socket,
            EpollEvent::new(Interest::Read.flags(), number as u64),
        )?)
    }

    pub(super) fn change(&self, socket: impl AsFd, number: usize, to: Interest) -> Result<()> {
        let mut event = EpollEvent::new(to.flags(), number as u64);
        Ok(self.epoll.modify(socket, &mut event)?)
    }

    /// The numbers of those that are ready, or none when time is up.
    pub(super) fn wait(&mut self, milliseconds: u16) -> Result<Vec<usize>> {
        let timeout = EpollTimeout::from(milliseconds);
        let count = match self.epoll.wait(&mut self.events, timeout) {
            Err(nix::errno::Errno::EINTR) => 0,
            other => other?,
        };
        let ready = self.events.iter().take(count);
        Ok(ready
            .map(|event| usize::try_from(event.data()).unwrap_or(usize::MAX))
            .collect())
    }
}

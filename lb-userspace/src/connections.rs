//! Upgraded connections that the daemon relays, as the admin API lists them.
//! Those in the kernel are in the data plane's flow table, not here.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::dataplane::{EndCause, Handoff, Refusal};

/// One relayed connection.
#[derive(Debug)]
pub(crate) struct Relayed {
    /// The id that its flow would have.
    pub(crate) id: u64,
    pub(crate) listener: String,
    pub(crate) target_group: String,
    pub(crate) target: SocketAddr,
    pub(crate) client: SocketAddr,
    pub(crate) opened: Instant,
    reason: Mutex<Refusal>,
    fate: Mutex<Fate>,
    to_end: Notify,
    closing: AtomicBool,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    /// Milliseconds from `opened` to the last payload.
    last_payload: AtomicU64,
}

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    /// It was asked to end.
    End(EndCause),
    /// The kernel has it.
    HandedOff,
}

/// What a connection is, at its start.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) id: u64,
    pub(crate) listener: String,
    pub(crate) target_group: String,
    pub(crate) target: SocketAddr,
    pub(crate) client: SocketAddr,
}

impl Relayed {
    fn new(identity: Identity) -> Self {
        Self {
            id: identity.id,
            listener: identity.listener,
            target_group: identity.target_group,
            target: identity.target,
            client: identity.client,
            opened: Instant::now(),
            reason: Mutex::new(Refusal::Pending),
            fate: Mutex::new(Fate::Open),
            to_end: Notify::new(),
            closing: AtomicBool::new(false),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            last_payload: AtomicU64::new(0),
        }
    }

    /// Why it is not in the kernel.
    pub(crate) fn reason(&self) -> Refusal {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_reason(&self, reason: Refusal) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    /// Asks the relay to end the connection; false if it is not relayed any more.
    pub(crate) fn end(&self, cause: EndCause) -> bool {
        let mut fate = self.fate();
        if *fate == Fate::Open {
            *fate = Fate::End(cause);
            self.to_end.notify_one();
        }
        *fate != Fate::HandedOff
    }

    /// Why the connection is to end, if it was asked to.
    pub(crate) fn ending(&self) -> Option<EndCause> {
        match *self.fate() {
            Fate::End(cause) => Some(cause),
            Fate::Open | Fate::HandedOff => None,
        }
    }

    /// Waits until the connection is asked to end.
    pub(crate) async fn asked_to_end(&self) -> EndCause {
        loop {
            if let Some(cause) = self.ending() {
                return cause;
            }
            self.to_end.notified().await;
        }
    }

    /// Makes an attempt to hand off, unless the connection is to end. Whoever asks for
    /// its end meanwhile learns whether the kernel has it now.
    pub(crate) fn hand_off(&self, attempt: impl FnOnce() -> Handoff) -> Option<Handoff> {
        let mut fate = self.fate();
        if *fate != Fate::Open {
            return None;
        }
        let result = attempt();
        if result == Handoff::Committed {
            *fate = Fate::HandedOff;
        }
        Some(result)
    }

    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One side has ended its half.
    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(crate) fn set_closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Bytes from and to the client.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (
            self.bytes_in.load(Ordering::Relaxed),
            self.bytes_out.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn set_bytes(&self, inward: u64, outward: u64) {
        self.bytes_in.store(inward, Ordering::Relaxed);
        self.bytes_out.store(outward, Ordering::Relaxed);
        let since = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_payload.store(since, Ordering::Relaxed);
    }

    /// Time without payload.
    pub(crate) fn idle(&self) -> Duration {
        let last = Duration::from_millis(self.last_payload.load(Ordering::Relaxed));
        self.opened.elapsed().saturating_sub(last)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    next: AtomicU64,
    relayed: Mutex<HashMap<u64, Arc<Relayed>>>,
}

impl Connections {
    /// Lists a connection for as long as the returned guard lives.
    pub(crate) fn enter(self: &Arc<Self>, identity: Identity) -> Listed {
        let key = self.next.fetch_add(1, Ordering::Relaxed);
        let relayed = Arc::new(Relayed::new(identity));
        self.lock().insert(key, relayed.clone());
        Listed {
            key,
            relayed,
            connections: self.clone(),
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// A snapshot, in no order.
    pub(crate) fn relayed(&self) -> Vec<Arc<Relayed>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Relayed>>> {
        self.relayed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection in the list.
#[derive(Debug)]
pub(crate) struct Listed {
    key: u64,
    relayed: Arc<Relayed>,
    connections: Arc<Connections>,
}

impl std::ops::Deref for Listed {
    type Target = Relayed;

    fn deref(&self) -> &Relayed {
        &self.relayed
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.connections.lock().remove(&self.key);
    }
}

//! Commands that must be atomic with packets: run in the kernel through
//! BPF_PROG_TEST_RUN of the `control` program, the request as its packet.

use crate::flow::{FlowKey, Shifts};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Op {
    /// Write the shifts, then swap the word from `expected` to committed.
    Commit = 1,
    /// Mark a flow ended.
    End = 2,
}

/// A request; integers in native byte order.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// An [`Op`] as number.
    pub op: u32,
    /// Constants for `Commit`.
    pub shifts: Shifts,
    /// Client leg of the flow.
    pub client: FlowKey,
    /// Id the flow must have.
    pub id: u64,
    /// For `Commit`: the word the decision was made on.
    pub expected: u64,
}

const _: () = assert!(size_of::<Request>() == 88);

/// The program's return value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reply {
    /// Done.
    Done = 0,
    /// The word has changed: a packet came in between.
    Changed = 1,
    /// No such flow.
    Gone = 2,
    /// The request was not understood.
    Invalid = 3,
}

impl Request {
    /// The bytes to be given to BPF_PROG_TEST_RUN.
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: Request is repr(C) without padding (size asserted above), so
        // all its bytes are initialised; the slice borrows self.
        unsafe { core::slice::from_raw_parts((self as *const Self).cast(), size_of::<Self>()) }
    }
}

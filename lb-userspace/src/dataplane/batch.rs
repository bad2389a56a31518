//! Reading a hash map many entries at a time, by BPF_MAP_LOOKUP_BATCH.
//!
//! aya walks from key to key, two system calls for each entry, and begins again
//! when the key it stands on is deleted. This call reads whole buckets and goes on
//! by bucket: what is there the whole time is met once, whatever is inserted and
//! deleted meanwhile. Every kernel that has the links the fast path needs has it
//! (Linux 5.6), so there is no other way to fall back to.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};

use aya::Pod;
use aya::maps::MapData;

/// BPF_MAP_LOOKUP_BATCH (include/uapi/linux/bpf.h).
const LOOKUP_BATCH: libc::c_int = 24;

/// A map that is read in batches.
#[derive(Debug)]
pub(super) struct Batches<K, V> {
    map: MapData,
    pairs: PhantomData<(K, V)>,
}

/// What one call has read.
#[derive(Debug)]
pub(super) enum Batch<K, V> {
    /// Whole buckets, and the bucket to go on with, if any is left.
    Pairs(Vec<(K, V)>, Option<u32>),
    /// The next bucket that is not empty, this one, holds more than was asked for.
    TooSmall(u32),
}

/// `struct { ... } batch` of `union bpf_attr`.
#[repr(C)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

impl<K: Pod, V: Pod> Batches<K, V> {
    /// Of a hash map with these keys and values.
    ///
    /// # Errors
    /// The map's are of another size.
    pub(super) fn new(map: MapData) -> anyhow::Result<Self> {
        let info = map.info()?;
        let sizes = (info.key_size() as usize, info.value_size() as usize);
        anyhow::ensure!(
            sizes == (size_of::<K>(), size_of::<V>()),
            "keys of {} and values of {} bytes",
            sizes.0,
            sizes.1
        );
        Ok(Self {
            map,
            pairs: PhantomData,
        })
    }

    /// Reads from a bucket on, at most `count` entries.
    pub(super) fn read(&self, bucket: u32, count: usize) -> io::Result<Batch<K, V>> {
        let mut keys = Vec::<K>::with_capacity(count);
        let mut values = Vec::<V>::with_capacity(count);
        let mut next = 0u32;
        let mut attributes = Attributes {
            in_batch: (&raw const bucket) as u64,
            out_batch: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            map_fd: self.map.fd().as_fd().as_raw_fd().unsigned_abs(),
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the attributes are those of this command; the buffers have room for
        // `count` keys and values of the map's own sizes (`new`), a hash map's batch
        // is a u32, and all of them live over the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                LOOKUP_BATCH,
                &raw mut attributes,
                size_of::<Attributes>(),
            )
        };
        let next = match result {
            0 => Some(next),
            _ => match io::Error::last_os_error() {
                // The last bucket has been read; what came before it counts.
                error if error.raw_os_error() == Some(libc::ENOENT) => None,
                error if error.raw_os_error() == Some(libc::ENOSPC) => {
                    return Ok(Batch::TooSmall(next));
                }
                error => return Err(error),
            },
        };
        let read = (attributes.count as usize).min(count);
        // SAFETY: the kernel has filled the first `read` of both, within capacity, and
        // any bytes make a Pod.
        unsafe {
            keys.set_len(read);
            values.set_len(read);
        }
        Ok(Batch::Pairs(keys.into_iter().zip(values).collect(), next))
    }
}

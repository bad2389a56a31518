//! Taking over what an earlier daemon left in the table, and cutting what cannot go on.

use std::io;

use super::active::Active;
use super::table::Entry;
use super::{address, reset};

/// Takes over what an earlier daemon left: whole committed flows live on, all
/// others are ended or deleted. Returns how many were adopted.
pub(super) fn adopt(active: &Active) -> io::Result<usize> {
    let mut adopted = 0;
    active.reader().each(|entry| {
        active.found(&entry);
        let target = address::target_key(&entry.client, &entry.flow.target);
        let whole = active.reader().client_of(&target) == Some(entry.client);
        if entry.committed() && whole {
            active.adopt(&entry);
            adopted += 1;
        } else {
            give_up(active, &entry);
        }
    })?;
    drop_dangling(active)?;
    Ok(adopted)
}

/// The sockets of an observing flow died with the daemon; half a flow cannot go on.
fn give_up(active: &Active, entry: &Entry) {
    if entry.committed() {
        cut(active, entry);
    }
    active.forget(entry);
}

/// Marks a flow ended, so that its packets are dropped and the guard lets the
/// resets pass, and resets both ends.
pub(super) fn cut(active: &Active, entry: &Entry) {
    let result = active
        .end(entry)
        .and_then(|()| reset::both_ends(&entry.client, &entry.flow));
    if let Err(error) = result {
        tracing::warn!(%error, id = entry.flow.id, "a reset could not be sent");
    }
}

fn drop_dangling(active: &Active) -> io::Result<()> {
    active.reader().each_index(|target, client| {
        let dangling = !matches!(active.read(&client), Ok(Some(_)));
        if dangling && let Err(error) = active.forget_index(&target) {
            tracing::error!(%error, "an index entry could not be deleted");
        }
    })
}

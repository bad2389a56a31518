//! Ends what is left of a target's connections when its drain is over, paced, so
//! that its clients do not all come back in one second.

use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::dataplane::EndCause;
use crate::ender::Ender;
use crate::events::Events;
use crate::selection::Selection;
use crate::target::Over;

/// Ends connections of drains that are over; returns when no more are told.
pub(crate) async fn run(
    mut over: mpsc::Receiver<Over>,
    ender: Ender,
    window: Duration,
    events: Events,
) {
    while let Some(one) = over.recv().await {
        // Each in its own time: two targets need not wait for each other.
        let (ender, events) = (ender.clone(), events.clone());
        tokio::spawn(async move {
            if let Err(error) = end(&one, &ender, window, &events).await {
                warn!(
                    target_group = one.target_group, target = %one.target, %error,
                    "connections of a drained target go on: the flow table could not be read"
                );
            }
        });
    }
}

async fn end(one: &Over, ender: &Ender, window: Duration, events: &Events) -> std::io::Result<()> {
    let selection = Selection::of_target(one.target_group.clone(), one.target);
    let ending = ender.select(selection).await?;
    let remaining = ending.count;
    events.tell(
        "drain",
        json!({
            "target_group": one.target_group, "target": one.target.to_string(),
            "remaining": remaining, "window_seconds": window.as_secs_f64(),
        }),
    );
    let ended = ending.run(EndCause::Drained, window).await?;
    info!(
        target_group = one.target_group, target = %one.target, remaining, ended, ?window,
        "the drain is over"
    );
    Ok(())
}

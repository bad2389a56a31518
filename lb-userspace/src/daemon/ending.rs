//! The end: nothing new, what goes on is waited for, flows are left or ended.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use super::signals::Signals;
use crate::access::AccessLog;
use crate::admin::Admin;
use crate::config::{Config, ShutdownFlows};
use crate::dataplane::EndCause;
use crate::drain::Drainer;
use crate::selection::{KERNEL, Selection};

/// Between two looks whether the last flow is booked.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// For that: an ended flow lingers for a second, and thousands take their time.
const BOOKED: Duration = Duration::from_secs(10);

/// Not ready any more, nothing new; then the deadline, or a second signal.
pub(super) async fn end(
    config: &Config,
    admin: &Admin,
    drainer: Drainer,
    signals: &mut Signals,
    access: &AccessLog,
) {
    admin.ready.store(false, Ordering::Release);
    drainer.start();
    let relayed = admin.connections.count();
    let (flows, _) = admin.dataplane.occupancy();
    let shutdown_flows = config.shutdown_flows;
    info!(relayed, flows, ?shutdown_flows, "ending");
    let ended = async {
        let flows = end_flows(config, admin);
        tokio::join!(drainer.finish(config.shutdown_deadline), flows);
    };
    tokio::select! {
        () = ended => info!("ended"),
        () = signals.terminate(access) => warn!("ended at once, by a second signal"),
    }
}

/// Leaves flows to the kernel, or ends them and waits until the last is booked.
async fn end_flows(config: &Config, admin: &Admin) {
    match config.shutdown_flows {
        ShutdownFlows::Keep => return,
        ShutdownFlows::End => {}
    }
    let selection = Selection {
        paths: Some(KERNEL),
        ..Selection::default()
    };
    let (cause, window) = (EndCause::Shutdown, config.end_window);
    match admin.ender.end_all(selection, cause, window).await {
        Ok(flows) => info!(flows, "flows ended"),
        Err(error) => warn!(%error, "not all flows were ended: the table could not be read"),
    }
    let booked = async {
        while !admin.dataplane.census().is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if timeout(BOOKED, booked).await.is_err() {
        warn!("some flows are left; the next start ends them");
    }
}

//! What the data plane tells: the books of connections that ended in the kernel, and
//! targets that are lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::StatusCode;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::access::{AccessLog, Record};
use crate::admin::{Admin, Names};
use crate::config::OnUnhealthy;
use crate::dataplane::{EndCause, Event, FlowInfo, Loss};
use crate::metrics::{Metrics, Origin};
use crate::names;
use crate::proxy::noted_verdict;
use crate::selection::Selection;

/// Writes the books of connections that ended in the kernel, and ends those whose
/// target is lost.
pub(super) async fn hear(mut events: mpsc::Receiver<Event>, admin: Arc<Admin>, access: AccessLog) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Ended { flow, cause } => {
                let cause = names::end_cause(cause);
                book_ended_flow(&flow, cause, &admin.names, &admin.metrics);
                access.write(&flow_record(&flow, cause, &admin.names));
            }
            Event::TargetLost {
                target_group,
                target,
                loss,
            } => {
                let name = admin.names.target_group(target_group).into_owned();
                hear_of_loss(&admin, name, target, loss);
            }
        }
    }
}

fn book_ended_flow(flow: &FlowInfo, cause: &str, known: &Names, metrics: &Metrics) {
    let path = names::path(flow.path);
    metrics.tunnel().ended(path, cause, flow.age);
    debug!(
        listener = %known.listener(flow.owner.listener),
        target_group = %known.target_group(flow.owner.target_group),
        target = %flow.target, client = %flow.client, path,
        bytes_in = flow.bytes_in, bytes_out = flow.bytes_out,
        duration_seconds = flow.age.as_secs_f64(), cause, "connection ended"
    );
}

/// What the flow table knows of a connection.
fn flow_record(flow: &FlowInfo, cause: &'static str, known: &Names) -> Record {
    let listener = known.listener(flow.owner.listener);
    let protocol = known.protocol(flow.owner.listener);
    let switched = (protocol == "websocket").then_some(StatusCode::SWITCHING_PROTOCOLS.as_u16());
    Record {
        begun: SystemTime::now() - flow.age,
        target_group: Some(known.target_group(flow.owner.target_group).into_owned()),
        target: Some(flow.target),
        status: switched,
        origin: switched.map(|_| Origin::Target.as_str()),
        verdict: noted_verdict(flow.note()),
        bytes_in: flow.bytes_in,
        bytes_out: flow.bytes_out,
        duration: flow.age,
        path: names::path(flow.path),
        cause,
        ..Record::new(protocol, &listener, flow.client)
    }
}

fn hear_of_loss(admin: &Arc<Admin>, target_group: String, target: SocketAddr, loss: Loss) {
    let group = admin.registry.find(&target_group);
    let ends = group.map(|group| group.config.on_unhealthy);
    warn!(
        target_group, %target, on_unhealthy = ?ends,
        "target lost: {}", names::loss(loss)
    );
    if ends == Some(OnUnhealthy::End) {
        tokio::spawn(end_lost(admin.clone(), target_group, target));
    }
}

async fn end_lost(admin: Arc<Admin>, target_group: String, target: SocketAddr) {
    let selection = Selection::of_target(target_group, target);
    let (cause, window) = (EndCause::TargetLost, admin.end_window);
    match admin.ender.end_all(selection, cause, window).await {
        Ok(connections) => info!(%target, connections, "connections of a lost target ended"),
        Err(error) => warn!(%error, "the flow table could not be read"),
    }
}

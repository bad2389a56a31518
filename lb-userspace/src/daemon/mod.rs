//! The daemon: puts the parts together, runs until a signal, and ends in order.
//!
//! In order of time: `listeners` are bound, `groups` filled, the parts made and started,
//! `listeners` opened; `flows` hears the data plane meanwhile; `signals` say when the
//! `ending` begins.

mod ending;
mod flows;
mod groups;
mod listeners;
mod signals;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::access::AccessLog;
use crate::admin::{self, Admin, Names};
use crate::config::{AdminBind, Config};
use crate::connections::Connections;
use crate::dataplane::Dataplane;
use crate::drain::{self, Drain};
use crate::ender::Ender;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::occupancy::Occupancy;
use crate::proxy::{Pools, Shared};
use crate::room::{Room, Sources, Streams};
use crate::target::{Registry, start_checks};
use crate::{capacity, retire, upgrades};
use signals::Signals;

/// Drains that end at a time and wait to be dealt with.
const DRAINS: usize = 16;
/// Readiness waits for one check of every target, but not for a very long timeout.
const FIRST_CHECKS: Duration = Duration::from_secs(10);

/// Runs until TERM or INT has been obeyed.
pub(crate) async fn run(config: Config, metrics: Arc<Metrics>) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("signals cannot be caught")?;
    capacity::raise_descriptor_limit();
    let sockets = listeners::bind_all(&config)?;
    let events = Events::default();
    let routes = groups::routes(&config, &events)?;
    let secrets = groups::secrets(&config)?;
    let (dataplane, ended) = Dataplane::open(config.fastpath.clone())
        .await
        .context("the data plane")?;
    dataplane.set_doors(&listeners::doorways(&sockets)?);
    let (drainer, drain) = drain::channel();
    let shared = Arc::new(share(&config, metrics, &dataplane, drain)?);
    let registry = Arc::new(groups::registry(&config, &routes));
    let (over, drains) = mpsc::channel(DRAINS);
    tokio::spawn(registry.clone().run(over));
    groups::follow_names(&config, &registry, &events, &shared).await;
    let first_checks = start_checks(registry.groups(), &shared.metrics);
    tokio::spawn(Occupancy::new(registry.clone(), dataplane.clone()).run());
    let watched = upgrades::watch(
        config.listeners.clone(),
        shared.metrics.clone(),
        events.clone(),
    );
    tokio::spawn(watched);
    let admin = Arc::new(administer(&config, registry, &shared, events));
    let ender = admin.ender.clone();
    let retiring = retire::run(drains, ender, config.end_window, admin.events.clone());
    tokio::spawn(retiring);
    let door = admin::bind(&config.admin.bind).context("admin.bind")?;
    tokio::spawn(admin::serve(door, admin.clone()));
    tokio::spawn(flows::hear(ended, admin.clone(), shared.access.clone()));
    listeners::open(sockets, &routes, &secrets, &shared, &signals.hangups()).context("TLS")?;
    let access = shared.access.clone();
    // What is left of `shared` here must not keep the drain waiting.
    drop(shared);
    // Else the first target found healthy would get all the requests.
    if timeout(FIRST_CHECKS, first_checks).await.is_err() {
        warn!("ready before every target has been checked once");
    }
    admin.ready.store(true, Ordering::Release);
    info!(
        version = env!("CARGO_PKG_VERSION"),
        listeners = config.listeners.len(),
        "ready"
    );
    signals.terminate(&access).await;
    ending::end(&config, &admin, drainer, &mut signals, &access).await;
    access.flush();
    Ok(())
}

fn share(
    config: &Config,
    metrics: Arc<Metrics>,
    dataplane: &Dataplane,
    drain: Drain,
) -> anyhow::Result<Shared> {
    let limits = &config.limits;
    let max_connections = capacity::max_connections(limits.max_connections);
    info!(max_connections, "room for clients");
    let room = Room::new(max_connections);
    Ok(Shared {
        limits: limits.clone(),
        streams: Streams::new(&room),
        room,
        sources: Sources::new(limits.max_connections_per_source),
        handshakes: Sources::new(limits.tls_handshakes_per_source),
        access: AccessLog::start(&config.log.access, metrics.access_log_dropped())?,
        dataplane: dataplane.clone(),
        targets: Pools::new(max_connections),
        connections: Arc::new(Connections::default()),
        metrics,
        drain,
    })
}

fn administer(config: &Config, registry: Arc<Registry>, shared: &Shared, events: Events) -> Admin {
    Admin {
        token: config.admin.token.clone(),
        check_host: matches!(config.admin.bind, AdminBind::Tcp(at) if at.ip().is_loopback()),
        started: Instant::now(),
        ready: AtomicBool::new(false),
        listeners: config.listeners.clone(),
        names: Arc::new(Names::new(&config.listeners, registry.groups())),
        registry,
        dataplane: shared.dataplane.clone(),
        connections: shared.connections.clone(),
        metrics: shared.metrics.clone(),
        ender: Ender::new(shared.dataplane.clone(), shared.connections.clone()),
        end_window: config.end_window,
        events,
    }
}

//! The daemon: puts the parts together, runs until a signal, and ends in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::access::{AccessLog, Record};
use crate::admin::{self, Admin, Names};
use crate::config::{self, Config, OnUnhealthy, Secret, ShutdownFlows};
use crate::connections::Connections;
use crate::dataplane::{Dataplane, Doorway, EndCause, Event, FlowInfo};
use crate::door::Door;
use crate::drain::{self, Drain, Drainer};
use crate::ender::Ender;
use crate::events::Events;
use crate::metrics::{Metrics, Origin};
use crate::occupancy::Occupancy;
use crate::proxy::{Groups, Pools, Proxy, Rules, Shared, noted_verdict};
use crate::room::{Room, Sources};
use crate::selection::{Address, KERNEL, Selection};
use crate::target::{Follower, Group, Registry, Resolver, start_checks};
use crate::tls::{self, Certificates, Rotation};
use crate::{capacity, id, listen, names, retire, state_dir, upgrades};

/// Between two looks whether the last flow is booked.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// For that: an ended flow lingers for a second, and thousands take their time.
const BOOKED: Duration = Duration::from_secs(10);
/// Drains that end at a time and wait to be dealt with.
const DRAINS: usize = 16;
/// The start waits for one answer of DNS to each name, but not for a resolver that is away.
const FIRST_ANSWERS: Duration = Duration::from_secs(10);
/// The same where all names have answers of the last run: they will do.
const FRESH_ANSWERS: Duration = Duration::from_secs(2);
/// Readiness waits for one check of every target, but not for a very long timeout.
const FIRST_CHECKS: Duration = Duration::from_secs(10);

/// Runs until TERM or INT has been obeyed.
pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("signals cannot be caught")?;
    capacity::raise_descriptor_limit();
    let sockets = bind_all(&config)?;
    let events = Events::default();
    let routes = routes(&config, &events)?;
    let secrets = group_secrets(&config)?;
    let (dataplane, ended) = Dataplane::open(config.fastpath.clone())
        .await
        .context("the data plane")?;
    dataplane.set_doors(&doorways(&sockets)?);
    let (drainer, drain) = drain::channel();
    let shared = Arc::new(share(&config, &dataplane, drain)?);
    let registry = Arc::new(registry(&config, &routes));
    let (over, drains) = mpsc::channel(DRAINS);
    tokio::spawn(registry.clone().run(over));
    follow_names(&config, &registry, &events, &shared).await;
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
    tokio::spawn(hear_dataplane(ended, admin.clone(), shared.access.clone()));
    open_listeners(sockets, &routes, &secrets, &shared, &signals.hangups()).context("TLS")?;
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
    end(&config, &admin, drainer, &mut signals, &access).await;
    access.flush();
    Ok(())
}

/// A listener with its sockets.
type Bound = (config::Listener, Vec<TcpListener>);

fn bind_all(config: &Config) -> anyhow::Result<Vec<Bound>> {
    let mut all = Vec::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let mut sockets = Vec::new();
        for address in &listener.binds {
            let socket = listen::bind_asking(*address, listener.mss)
                .with_context(|| format!("listener[{index}].bind: {address}"))?;
            info!(listener = listener.name, address = %socket.local_addr()?, "listening");
            sockets.push(socket);
        }
        all.push((listener.clone(), sockets));
    }
    Ok(all)
}

/// The listeners as the kernel's doors know them.
fn doorways(bound: &[Bound]) -> std::io::Result<Vec<Doorway>> {
    let doorway = |(listener, sockets): &Bound| {
        let addresses = sockets.iter().map(TcpListener::local_addr);
        Ok(Doorway {
            listener: id::flow_label(id::name_id(&listener.name)),
            addresses: addresses.collect::<Result<_, _>>()?,
            admission: listener.admission.clone(),
            // What comes by TLS never becomes a flow.
            ecn: listener.protocol.ends_tls(),
        })
    };
    bound.iter().map(doorway).collect()
}

fn routes(config: &Config, events: &Events) -> anyhow::Result<Groups> {
    let mut groups = Groups::new();
    for group in &config.target_groups {
        let mut stickiness = group.stickiness.clone();
        if let Some(stickiness) = stickiness.as_mut().filter(|one| one.secrets.is_empty()) {
            stickiness
                .secrets
                .push(state_dir::cookie_key(&config.state_dir)?);
        }
        groups.insert(
            group.name.clone(),
            (Arc::new(Group::new(group, events.clone())), stickiness),
        );
    }
    Ok(groups)
}

/// What seals the cookies of divisions among groups that have no secrets.
fn group_secrets(config: &Config) -> anyhow::Result<Vec<Secret>> {
    if config.listeners.iter().any(config::Listener::keeps_groups) {
        return Ok(vec![state_dir::cookie_key(&config.state_dir)?]);
    }
    Ok(Vec::new())
}

fn share(config: &Config, dataplane: &Dataplane, drain: Drain) -> anyhow::Result<Shared> {
    let metrics = Arc::new(Metrics::new()?);
    let limits = &config.limits;
    let max_connections = capacity::max_connections(limits.max_connections);
    info!(max_connections, "room for clients");
    Ok(Shared {
        limits: limits.clone(),
        room: Room::new(max_connections),
        sources: Sources::new(limits.max_connections_per_source),
        handshakes: Sources::new(limits.tls_handshakes_per_source),
        access: AccessLog::start(&config.log.access, metrics.access_log_dropped())?,
        dataplane: dataplane.clone(),
        targets: Pools::default(),
        connections: Arc::new(Connections::default()),
        metrics,
        drain,
    })
}

/// The groups with what was said of them through the admin API.
fn registry(config: &Config, groups: &Groups) -> Registry {
    let groups = groups.values().map(|(group, _)| group.clone()).collect();
    Registry::open(config.state_dir.clone(), groups)
}

/// Before the first checks, so that readiness waits for those of named targets too.
async fn follow_names(config: &Config, registry: &Arc<Registry>, events: &Events, shared: &Shared) {
    let follower = Follower {
        registry: registry.clone(),
        resolver: Resolver::new(&config.resolver),
        events: events.clone(),
        metrics: shared.metrics.clone(),
    };
    let patience = match registry.knows_all_names() {
        true => FRESH_ANSWERS,
        false => FIRST_ANSWERS,
    };
    if timeout(patience, follower.start()).await.is_err() {
        warn!("started before every name of a target had an answer");
    }
}

fn administer(config: &Config, registry: Arc<Registry>, shared: &Shared, events: Events) -> Admin {
    Admin {
        token: config.admin.token.clone(),
        check_host: matches!(config.admin.bind, config::AdminBind::Tcp(at) if at.ip().is_loopback()),
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

fn open_listeners(
    sockets: Vec<Bound>,
    groups: &Groups,
    secrets: &[Secret],
    shared: &Arc<Shared>,
    hangups: &watch::Receiver<()>,
) -> Result<(), rustls::Error> {
    for (listener, sockets) in sockets {
        let Some(rules) = Rules::new(&listener, groups, secrets) else {
            continue;
        };
        let tls = match listener.protocol.ends_tls() {
            false => None,
            true => Some(serve_tls(&listener, shared, hangups)?),
        };
        let id = id::name_id(&listener.name);
        let admission = listener.admission.clone();
        let door = match shared.dataplane.off_reason() {
            Some(_) => Door::first(admission),
            None => Door::second(admission),
        };
        shared
            .dataplane
            .set_idle_timeout(id::flow_label(id), listener.websocket_idle_timeout);
        let room = Room::new(listener.max_connections);
        let proxy = Arc::new(Proxy {
            listener,
            id,
            rules,
            tls,
            door,
            room,
            shared: shared.clone(),
        });
        for socket in sockets {
            tokio::spawn(listen::accept(socket, proxy.clone()));
        }
    }
    Ok(())
}

/// A listener's TLS, with certificates that follow their files.
fn serve_tls(
    listener: &config::Listener,
    shared: &Shared,
    hangups: &watch::Receiver<()>,
) -> Result<tls::Server, rustls::Error> {
    let certificates = Arc::new(Certificates::new(&listener.certificates));
    let alpn: &[&str] = match (listener.protocol.is_http(), listener.http2) {
        (true, true) => &[tls::HTTP2, tls::HTTP1],
        (true, false) => &[tls::HTTP1],
        (false, _) => &[],
    };
    let clients = listener.client_certificates.clone();
    let server = tls::Server::new(certificates.clone(), alpn, clients.as_ref())?;
    let rotation = Rotation {
        listener: listener.name.clone(),
        pairs: listener.certificates.clone(),
        clients,
        certificates,
        server: server.clone(),
        metrics: shared.metrics.clone(),
    };
    tokio::spawn(rotation.run(shared.drain.clone(), hangups.clone()));
    Ok(server)
}

/// Not ready any more, nothing new; then the deadline, or a second signal.
async fn end(
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
    let ended = match admin.ender.select(selection).await {
        Ok(ending) => ending.run(EndCause::Shutdown, config.end_window).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(flows) => info!(flows, "flows ended"),
        Err(error) => warn!(%error, "not all flows were ended: the table could not be read"),
    }
    let booked = async {
        while !admin.dataplane.census().is_empty() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    if tokio::time::timeout(BOOKED, booked).await.is_err() {
        warn!("some flows are left; the next start ends them");
    }
}

/// Writes the books of connections that ended in the kernel, and ends those whose
/// target is lost.
async fn hear_dataplane(mut events: mpsc::Receiver<Event>, admin: Arc<Admin>, access: AccessLog) {
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
                let ends = admin
                    .registry
                    .find(&name)
                    .map(|group| group.config.on_unhealthy);
                warn!(
                    target_group = name, target = %target, on_unhealthy = ?ends,
                    "target lost: {}", names::loss(loss)
                );
                if ends == Some(OnUnhealthy::End) {
                    tokio::spawn(end_lost(admin.clone(), name, target));
                }
            }
        }
    }
}

async fn end_lost(admin: Arc<Admin>, target_group: String, target: SocketAddr) {
    let selection = Selection {
        target: Some(Address::Socket(target)),
        target_group: Some(target_group),
        ..Selection::default()
    };
    let ended = match admin.ender.select(selection).await {
        Ok(ending) => ending.run(EndCause::TargetLost, admin.end_window).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(connections) => info!(%target, connections, "connections of a lost target ended"),
        Err(error) => warn!(%error, "the flow table could not be read"),
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

/// The signals that the daemon obeys.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
    hangups: watch::Sender<()>,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
            hangups: watch::Sender::new(()),
        })
    }

    /// Hears of each HUP that is obeyed.
    fn hangups(&self) -> watch::Receiver<()> {
        self.hangups.subscribe()
    }

    /// Waits for TERM or INT.
    async fn terminate(&mut self, access: &AccessLog) {
        loop {
            tokio::select! {
                _ = self.term.recv() => return,
                _ = self.int.recv() => return,
                _ = self.hup.recv() => {
                    access.reopen();
                    self.hangups.send_replace(());
                    warn!("HUP: the access log is reopened, certificates are read again; reloading is not implemented yet, the configuration is unchanged");
                }
            }
        }
    }
}

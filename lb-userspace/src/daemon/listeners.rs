//! The listeners: bound before anything else is done, opened when all is ready for clients.

use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

use crate::config::{Config, Listener, Secret};
use crate::dataplane::Doorway;
use crate::door::Door;
use crate::proxy::{Groups, Proxy, Rules, Shared};
use crate::room::Room;
use crate::tls::{self, Certificates, Rotation};
use crate::{id, listen};

/// A listener with its sockets.
pub(super) type Bound = (Listener, Vec<TcpListener>);

pub(super) fn bind_all(config: &Config) -> anyhow::Result<Vec<Bound>> {
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
pub(super) fn doorways(bound: &[Bound]) -> std::io::Result<Vec<Doorway>> {
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

pub(super) fn open(
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
    listener: &Listener,
    shared: &Shared,
    hangups: &watch::Receiver<()>,
) -> Result<tls::Server, rustls::Error> {
    let certificates = Arc::new(Certificates::new(&listener.certificates));
    let clients = listener.client_certificates.clone();
    let server = tls::Server::new(certificates.clone(), listener.alpn(), clients.as_ref())?;
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

//! Listening sockets and the loops that accept from them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::door::Rejection;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

use crate::drain::Stage;
use crate::proxy::{Proxy, serve};
use crate::room::{Admitted, Full};

/// Connections that may wait to be accepted; the kernel caps it at `somaxconn`.
const BACKLOG: i32 = 4096;
/// After descriptors or memory have run out, connections end before more come.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens one listening socket.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    bind_asking(address, None)
}

/// The same; clients are asked for segments of `mss` bytes at most.
pub(crate) fn bind_asking(address: SocketAddr, mss: Option<u16>) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can be bound side by side.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    if let Some(mss) = mss {
        socket.set_tcp_mss(mss.into())?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the daemon drains; the listening socket is closed then.
pub(crate) async fn accept(listener: TcpListener, proxy: Arc<Proxy>) {
    let mut drain = proxy.shared.drain.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.reached(Stage::Draining) => return,
        };
        match accepted {
            Ok((stream, client)) => match admit(&proxy, client) {
                Ok(admitted) => start(stream, client, admitted, &proxy),
                Err(reason) => proxy.refuse(&stream, reason),
            },
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                warn!(listener = proxy.listener.name, %error, "a connection could not be accepted");
                proxy
                    .shared
                    .metrics
                    .rejected(&proxy.listener.name, "accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether a client may come in; the error is the label of `rejected_total`.
fn admit(proxy: &Proxy, client: SocketAddr) -> Result<Admitted, &'static str> {
    let judged = proxy.door.admit(client.ip(), Instant::now());
    judged.map_err(Rejection::name)?;
    Admitted::new(&proxy.shared.room, &proxy.room).map_err(Full::reason)
}

fn start(stream: TcpStream, client: SocketAddr, admitted: Admitted, proxy: &Arc<Proxy>) {
    let closing = proxy.shared.drain.watch(Stage::Closing);
    let serving = serve(proxy.clone(), stream, client, admitted);
    tokio::spawn(async move {
        tokio::select! {
            () = serving => {}
            () = closing => {}
        }
    });
}

/// The client was gone before it was accepted.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

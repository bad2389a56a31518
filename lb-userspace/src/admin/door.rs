//! The socket of the admin API, TCP or unix.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tracing::{info, warn};

use super::Admin;
use crate::config::AdminBind;
use crate::listen;

/// For a whole request head; operators' tools are quick.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A request has few headers, and a small body if any.
const REQUEST_BYTES: usize = 16 * 1024;
/// After descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// The open door.
#[derive(Debug)]
pub(crate) enum Door {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Opens it.
pub(crate) fn bind(bind: &AdminBind) -> anyhow::Result<Door> {
    match bind {
        AdminBind::Tcp(address) => {
            let listener = listen::bind(*address).with_context(|| address.to_string())?;
            info!(address = %listener.local_addr()?, "admin API listening");
            Ok(Door::Tcp(listener))
        }
        AdminBind::Unix(path) => {
            let listener = bind_unix(path).with_context(|| path.display().to_string())?;
            info!(path = %path.display(), "admin API listening");
            Ok(Door::Unix(listener))
        }
    }
}

/// Answers until the daemon ends.
pub(crate) async fn serve(door: Door, admin: Arc<Admin>) {
    loop {
        let accepted = match &door {
            Door::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| start(stream, &admin)),
            Door::Unix(listener) => listener
                .accept()
                .await
                .map(|(stream, _)| start(stream, &admin)),
        };
        if let Err(error) = accepted {
            warn!(%error, "a call of the admin API could not be accepted");
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn start(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, admin: &Arc<Admin>) {
    let admin = admin.clone();
    let service = service_fn(move |request| {
        let admin = admin.clone();
        async move { Ok::<_, Infallible>(admin.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(REQUEST_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::spawn(async move {
        // A caller that breaks off is no concern of ours.
        let _ = connection.await;
    });
}

/// A socket that an earlier daemon left is replaced, one in use is not.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let left = std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if left {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

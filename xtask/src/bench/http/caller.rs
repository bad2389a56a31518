//! Asks by HTTP/1.1: many connections, one request underway on each.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use lb_tests::namespace::Namespace;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::super::numbers::Numbers;
use super::super::own;
use super::super::poller::Poller;

const BUFFER: usize = 64 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Whom to ask.
    #[arg(long)]
    pub(in crate::bench) address: SocketAddr,
    /// What for.
    #[arg(long)]
    pub(in crate::bench) path: String,
    /// The cookie that comes with it, `name=value`.
    #[arg(long)]
    pub(in crate::bench) cookie: String,
    /// How many connections.
    #[arg(long)]
    pub(in crate::bench) connections: usize,
    /// How long to measure, in seconds.
    #[arg(long)]
    pub(in crate::bench) seconds: u32,
    /// Ask by TLS and trust this certificate.
    #[arg(long)]
    pub(in crate::bench) ca: Option<PathBuf>,
    /// A new connection for each request.
    #[arg(long)]
    pub(in crate::bench) fresh: bool,
    /// New TLS connections resume an earlier session.
    #[arg(long)]
    pub(in crate::bench) resume: bool,
}

impl Options {
    /// Has this program measure so, in a namespace.
    pub(in crate::bench) fn measure(&self, namespace: &Namespace) -> Result<Numbers> {
        let mut command = own();
        command
            .arg("http-caller")
            .args(["--address", &self.address.to_string(), "--path", &self.path])
            .args(["--cookie", &self.cookie])
            .args(["--connections", &self.connections.to_string()])
            .args(["--seconds", &self.seconds.to_string()]);
        if let Some(ca) = &self.ca {
            command.arg("--ca").arg(ca);
        }
        if self.fresh {
            command.arg("--fresh");
        }
        if self.resume {
            command.arg("--resume");
        }
        command.stdout(Stdio::piped());
        let caller = namespace.start(&mut command)?.wait_with_output()?;
        let said = String::from_utf8(caller.stdout)?;
        said.trim().parse().context("what the caller said")
    }
}

/// Measures once and prints the [`Numbers`].
pub(in crate::bench) fn run(options: &Options) -> Result<()> {
    let mut poller = Poller::new()?;
    let dialer = Dialer::new(options)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nCookie: {}\r\n\r\n",
        options.path, options.address, options.cookie
    );
    let mut buffer = vec![0; BUFFER];
    let start = Instant::now();
    let mut callers = Vec::new();
    for number in 0..options.connections {
        callers.push(Caller::ask(dialer.dial(number, &poller)?, &request)?);
    }
    let mut times = Vec::new();
    while start.elapsed() < Duration::from_secs(options.seconds.into()) {
        let ready = poller.wait(1_000)?;
        ensure!(!ready.is_empty(), "no answer for a second");
        for number in ready {
            let caller = callers.get_mut(number).context("a number of nobody")?;
            if !caller.answered(&mut buffer)? {
                continue;
            }
            times.push(caller.since.elapsed());
            if options.fresh {
                // The old one leaves the poller with its descriptor.
                *caller = Caller::ask(dialer.dial(number, &poller)?, &request)?;
            } else {
                caller.again(&request)?;
            }
        }
    }
    println!("{}", Numbers::of(&mut times, start.elapsed()));
    Ok(())
}

/// Makes connections.
struct Dialer {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Dialer {
    fn new(options: &Options) -> Result<Self> {
        let tls = options.ca.as_ref().map(|file| -> Result<_> {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(&fs::read(file)?)?)?;
            let mut config = ClientConfig::builder()
                .with_root_certificates(roots)
                .with_no_client_auth();
            if !options.resume {
                config.resumption = Resumption::disabled();
            }
            Ok(Arc::new(config))
        });
        Ok(Self {
            address: options.address,
            tls: tls.transpose()?,
        })
    }

    fn dial(&self, number: usize, poller: &Poller) -> Result<Transport> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        poller.add(&stream, number)?;
        Ok(match &self.tls {
            None => Transport::Plain(stream),
            Some(config) => {
                let name = ServerName::IpAddress(self.address.ip().into());
                let session = ClientConnection::new(Arc::clone(config), name)?;
                Transport::Tls(Box::new(session), stream)
            }
        })
    }
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<ClientConnection>, TcpStream),
}

impl Transport {
    /// A request is short: the socket takes it whole.
    fn send(&mut self, request: &str) -> Result<()> {
        match self {
            Self::Plain(stream) => Ok(stream.write_all(request.as_bytes())?),
            Self::Tls(session, stream) => {
                session.writer().write_all(request.as_bytes())?;
                match session.complete_io(stream) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error.into()),
                    _ => Ok(()),
                }
            }
        }
    }

    /// What has come; `None`: nothing now.
    fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
        let read = match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(session, stream) => rustls::Stream::new(&mut **session, stream).read(buffer),
        };
        match read {
            Ok(0) => bail!("closed before the answer was whole"),
            Ok(count) => Ok(buffer.get(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

struct Caller {
    transport: Transport,
    since: Instant,
    /// What has come of the answer's head; empty once it is whole.
    head: Vec<u8>,
    /// Bytes of the body still to come; `None` while the head is not whole.
    missing: Option<usize>,
}

impl Caller {
    fn ask(transport: Transport, request: &str) -> Result<Self> {
        let mut caller = Self {
            transport,
            since: Instant::now(),
            head: Vec::new(),
            missing: None,
        };
        caller.again(request)?;
        Ok(caller)
    }

    fn again(&mut self, request: &str) -> Result<()> {
        self.since = Instant::now();
        self.missing = None;
        self.transport.send(request)
    }

    /// Whether the answer is whole, after taking in what has come.
    fn answered(&mut self, buffer: &mut [u8]) -> Result<bool> {
        while let Some(bytes) = self.transport.receive(buffer)? {
            let body = match self.missing {
                Some(missing) => missing.checked_sub(bytes.len()),
                None => {
                    self.head.extend_from_slice(bytes);
                    let Some(end) = end_of_head(&self.head) else {
                        continue;
                    };
                    let length = content_length(&self.head)?;
                    let begun = self.head.len() - end;
                    self.head.clear();
                    length.checked_sub(begun)
                }
            };
            let missing = body.context("more than was announced")?;
            self.missing = Some(missing);
            if missing == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(at + 4)
}

fn content_length(head: &[u8]) -> Result<usize> {
    let head = String::from_utf8_lossy(head);
    ensure!(head.starts_with("HTTP/1.1 200 "), "{head:?}");
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    });
    length.context("no Content-Length")
}

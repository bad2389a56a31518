//! One network namespace: made, entered and removed.

use std::fs::File;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::process::{Child, Command};
use std::thread;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::shell;

/// How many connections may wait in a scripted listener.
const BACKLOG: u32 = 4096;

/// A named network namespace. Removed with its [`crate::lab::Lab`].
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: File,
}

impl Namespace {
    pub(crate) fn create(name: String) -> Result<Self> {
        shell::output(Command::new("ip").args(["netns", "add", &name]))
            .context("making a network namespace (this needs root)")?;
        let path = format!("/var/run/netns/{name}");
        let handle = File::open(&path).with_context(|| format!("opening {path}"))?;
        Ok(Self { name, handle })
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a closure on a thread of its own inside the namespace. Sockets and
    /// processes made in it belong to the namespace, wherever they are used.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(&self.handle, CloneFlags::CLONE_NEWNET).expect("entering the lab's namespace");
            work()
        };
        let done = thread::scope(|scope| scope.spawn(inside).join());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a future to its end on a runtime inside the namespace.
    pub fn block_on<F: Future<Output: Send>>(&self, make: impl FnOnce() -> F + Send) -> F::Output {
        self.run(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime")
                .block_on(make())
        })
    }

    /// Starts a program inside.
    pub fn start(&self, command: &mut Command) -> io::Result<Child> {
        self.run(|| command.spawn())
    }

    /// Runs a tool inside to its end and answers what it printed.
    pub fn output(&self, command: &mut Command) -> Result<String> {
        self.run(|| shell::output(command))
            .with_context(|| format!("in {}", self.name))
    }

    /// Gives orders to a tool inside through its standard input.
    pub fn feed(&self, command: &mut Command, orders: &str) -> Result<()> {
        self.run(|| shell::feed(command, orders))
            .with_context(|| format!("in {}", self.name))
    }

    /// Gives orders to `ip`, one a line.
    pub fn ip(&self, orders: &str) -> Result<()> {
        self.feed(Command::new("ip").args(["-batch", "-"]), orders)
    }

    /// Sets a sysctl of the namespace, `net/...`.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{name}");
        self.run(|| std::fs::write(&path, value))
            .with_context(|| format!("writing {value:?} to {path} in {}", self.name))
    }

    /// A new TCP socket inside, for the family of `address`.
    pub fn socket(&self, address: SocketAddr) -> io::Result<TcpSocket> {
        self.run(|| match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        })
    }

    /// Connects from inside.
    pub async fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        let connection = self.socket(address)?.connect(address).await;
        let stream = connection.with_context(|| format!("{} to {address}", self.name))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Listens inside.
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        let socket = self.socket(address)?;
        socket.set_reuseaddr(true)?;
        socket
            .bind(address)
            .with_context(|| format!("{address} in {}", self.name))?;
        Ok(socket.listen(BACKLOG)?)
    }
}

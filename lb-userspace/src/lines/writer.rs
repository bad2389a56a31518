//! The thread that writes lines. It may wait for a disk, a pipe or a syslog daemon;
//! nobody waits for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Mutex, PoisonError};

use prometheus::IntCounter;
use tracing::{info, warn};

use super::held::Held;
use crate::config::AccessTo;

/// Where syslog daemons listen, journald too.
const SYSLOG: &str = "/dev/log";
/// Facility `daemon`, severity `info` (RFC 3164 section 4.1.1).
const PRIORITY: u8 = 3 * 8 + 6;
/// Lines are written together up to about this many bytes.
const BATCH: usize = 64 * 1024;

/// Held while lines are written to stdout, or two threads' could mix. The standard
/// library's own lock is not: others would wait for it with us.
static STDOUT: Mutex<()> = Mutex::new(());

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    Line(String),
    /// The file has been renamed: begin a new one.
    Reopen,
    /// Say when everything before this has been written.
    Flush(SyncSender<()>),
}

/// The writing end.
#[derive(Debug)]
pub(super) struct Writer {
    /// What is written, for the log.
    what: &'static str,
    sink: Sink,
    held: Held,
    lost: IntCounter,
    failing: bool,
}

#[derive(Debug)]
enum Sink {
    Stdout(File),
    File {
        path: PathBuf,
        file: File,
    },
    Syslog {
        path: PathBuf,
        socket: Option<UnixDatagram>,
    },
}

impl Writer {
    /// Opens what is written to; `None` if nothing is. Counts lost lines.
    pub(super) fn open(
        what: &'static str,
        to: &AccessTo,
        held: Held,
        lost: IntCounter,
    ) -> io::Result<Option<Self>> {
        let sink = match to {
            AccessTo::Off => return Ok(None),
            AccessTo::Stdout => Sink::Stdout(io::stdout().as_fd().try_clone_to_owned()?.into()),
            AccessTo::File(path) => Sink::File {
                file: open_file(path)?,
                path: path.clone(),
            },
            AccessTo::Syslog => Sink::Syslog {
                path: SYSLOG.into(),
                socket: None,
            },
        };
        Ok(Some(Self {
            what,
            sink,
            held,
            lost,
            failing: false,
        }))
    }

    /// Writes until the daemon has no more to say.
    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        let mut lines = Vec::new();
        while let Ok(order) = orders.recv() {
            let mut next = Some(order);
            let mut length = 0;
            while let Some(order) = next {
                match order {
                    Order::Line(line) => {
                        length += line.len();
                        lines.push(line);
                    }
                    Order::Reopen => {
                        self.write(&mut lines);
                        self.reopen();
                    }
                    Order::Flush(done) => {
                        self.write(&mut lines);
                        // Who asked may have given up.
                        let _ = done.try_send(());
                    }
                }
                next = (length < BATCH).then(|| orders.try_recv().ok()).flatten();
            }
            self.write(&mut lines);
        }
    }

    /// Writes the lines and forgets them.
    fn write(&mut self, lines: &mut Vec<String>) {
        let what = self.what;
        let result = self.sink.write(lines);
        match result {
            Ok(()) if self.failing => info!("{what} is written again"),
            Ok(()) => {}
            Err((lost, ref error)) => {
                self.lost.inc_by(lost);
                if !self.failing {
                    warn!(%error, "{what} cannot be written");
                }
            }
        }
        self.failing = result.is_err();
        for line in lines.drain(..) {
            self.held.give_up(&line);
        }
    }

    fn reopen(&mut self) {
        let what = self.what;
        if let Sink::File { path, file } = &mut self.sink {
            match open_file(path) {
                Ok(new) => *file = new,
                Err(error) => {
                    warn!(path = %path.display(), %error, "{what} cannot be reopened, the old file is kept");
                }
            }
        }
    }
}

impl Sink {
    /// On failure, how many lines are lost.
    fn write(&mut self, lines: &[String]) -> Result<(), (u64, io::Error)> {
        let all = |error| (lines.len() as u64, error);
        match self {
            Self::Stdout(file) => {
                let _turn = STDOUT.lock().unwrap_or_else(PoisonError::into_inner);
                file.write_all(lines.concat().as_bytes()).map_err(all)
            }
            Self::File { file, .. } => file.write_all(lines.concat().as_bytes()).map_err(all),
            Self::Syslog { path, socket } => {
                let mut result = Ok(());
                let mut lost = 0;
                for line in lines {
                    if let Err(error) = send(path, socket, line) {
                        lost += 1;
                        result = Err((lost, error));
                    }
                }
                result
            }
        }
    }
}

/// Readable by the group, as other daemons' logs are.
fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(path)
}

/// One datagram a line, with the receiver's clock (RFC 3164 section 4.3.2 lets
/// it add the time). A daemon that was restarted is found again.
fn send(path: &Path, socket: &mut Option<UnixDatagram>, line: &str) -> io::Result<()> {
    let process = std::process::id();
    let text = format!("<{PRIORITY}>limpet[{process}]: {}", line.trim_end());
    if let Some(known) = socket
        && known.send(text.as_bytes()).is_ok()
    {
        return Ok(());
    }
    let fresh = UnixDatagram::unbound()?;
    fresh.connect(path)?;
    fresh.send(text.as_bytes())?;
    *socket = Some(fresh);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::scratch::Scratch;

    fn counter() -> IntCounter {
        IntCounter::new("lost", "lines").expect("a counter")
    }

    fn line(text: &str) -> Order {
        Order::Line(format!("{text}\n"))
    }

    fn run(writer: Writer, orders: Vec<Order>) {
        let (sender, receiver) = std::sync::mpsc::channel();
        for order in orders {
            sender.send(order).expect("a receiver");
        }
        drop(sender);
        writer.run(&receiver);
    }

    #[test]
    fn a_renamed_file_is_begun_anew() {
        let scratch = Scratch::new("access-file");
        let (path, old) = (scratch.path("access.log"), scratch.path("access.log.1"));
        let lost = counter();
        let to = AccessTo::File(path.clone());
        let open = || Writer::open("the test", &to, Held::up_to(0), lost.clone());
        let writer = open().expect("opened").expect("a writer");
        fs::rename(&path, &old).expect("renamed");
        run(
            writer,
            vec![line("one"), Order::Reopen, line("two"), line("three")],
        );
        assert_eq!(fs::read_to_string(&old).expect("a file"), "one\n");
        assert_eq!(fs::read_to_string(&path).expect("a file"), "two\nthree\n");
        assert_eq!(lost.get(), 0);
        drop(scratch);
        assert!(open().is_err());
    }

    #[test]
    fn syslog_gets_datagrams_and_losses_are_counted() {
        let scratch = Scratch::new("access-syslog");
        let path = scratch.path("log");
        let daemon = UnixDatagram::bind(&path).expect("bound");
        let lost = counter();
        let writer = |path: &Path| Writer {
            what: "the test",
            held: Held::up_to(0),
            sink: Sink::Syslog {
                path: path.to_owned(),
                socket: None,
            },
            lost: lost.clone(),
            failing: false,
        };
        run(writer(&path), vec![line("one"), line("two")]);
        for text in ["one", "two"] {
            let mut bytes = [0; 100];
            let count = daemon.recv(&mut bytes).expect("a datagram");
            let wanted = format!("<30>limpet[{}]: {text}", std::process::id());
            assert_eq!(&bytes[..count], wanted.as_bytes());
        }
        run(
            writer(&scratch.path("nobody")),
            vec![line("one"), line("two")],
        );
        assert_eq!(lost.get(), 2);
    }
}

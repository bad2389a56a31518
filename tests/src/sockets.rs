//! The TCP sockets of a namespace, as `ss` sees them.

use std::process::Command;

use anyhow::Result;

use crate::namespace::Namespace;

/// One line of `ss -tanHo`.
#[derive(Debug, Clone)]
pub struct Socket {
    /// `ESTAB`, `LISTEN`, ...
    pub state: String,
    /// Address and port of this end.
    pub local: String,
    /// Address and port of the other end.
    pub peer: String,
    /// What it waits for, if it does: `keepalive`, `persist` (a closed window), `on`...
    pub timer: Option<Timer>,
}

/// A timer of a socket.
#[derive(Debug, Clone)]
pub struct Timer {
    /// Which.
    pub name: String,
    /// What it has sent since the other end was last heard.
    pub unanswered: u32,
}

/// All of them, listeners and dead ones too.
pub fn list(namespace: &Namespace) -> Result<Vec<Socket>> {
    let text = namespace.output(Command::new("ss").arg("-tanHo"))?;
    Ok(text.lines().filter_map(parse).collect())
}

/// Those that belong to connections between the two ends: neither listeners,
/// nor anything on the loopback (the admin API).
pub fn connections(namespace: &Namespace) -> Result<Vec<Socket>> {
    let mut sockets = list(namespace)?;
    sockets.retain(|socket| {
        socket.state != "LISTEN"
            && socket.state != "TIME-WAIT"
            && !socket.local.contains("127.0.0.1")
    });
    Ok(sockets)
}

fn parse(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace();
    let state = words.next()?.to_owned();
    let local = words.nth(2)?.to_owned();
    let peer = words.next()?.to_owned();
    let timer = words.next().and_then(timer);
    Some(Socket {
        state,
        local,
        peer,
        timer,
    })
}

/// `timer:(persist,1.2sec,0)`
fn timer(word: &str) -> Option<Timer> {
    let inner = word.strip_prefix("timer:(")?.strip_suffix(')')?;
    let mut parts = inner.split(',');
    let name = parts.next()?.to_owned();
    let unanswered = parts.nth(1)?.parse().ok()?;
    Some(Timer { name, unanswered })
}

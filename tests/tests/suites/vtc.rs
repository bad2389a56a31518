//! Proves with varnishtest, which speaks HTTP/1 and HTTP/2 by code that is nobody else's
//! here and checks no more than it is told to, what its scripts in `tests/vtc` say: one
//! file per claim, each with a listener and a target of its own. Health checks end at a
//! relay before the targets, or they would take the place of a script's request.
//!
//! | folder | client speaks | target speaks |
//! |---|---|---|
//! | `http1` | HTTP/1.1 | HTTP/1.1 |
//! | `client2` | HTTP/2, through a relay that adds the TLS | HTTP/1.1 |
//! | `target2` | HTTP/1.1 | HTTP/2 in the clear |

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use lb_tests::certificate::Certificate;
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::Lab;

/// Of the first script; each has the next.
const LISTENER_PORT: u16 = 8100;
const TARGET_PORT: u16 = 9100;
/// Seconds after which varnishtest gives a script up; each takes less than one.
const GIVEN_UP: &str = "60";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http1,
    Client2,
    Target2,
}

const KINDS: [(&str, Kind); 3] = [
    ("http1", Kind::Http1),
    ("client2", Kind::Client2),
    ("target2", Kind::Target2),
];

#[derive(Debug)]
struct Script {
    file: PathBuf,
    kind: Kind,
    listener: SocketAddr,
    target: SocketAddr,
}

/// All of them, in a lab's balancer namespace: client and target are one process, so
/// they share it with the daemon.
fn scripts(lab: &Lab) -> Result<Vec<Script>> {
    let mut scripts = Vec::new();
    for (folder, kind) in KINDS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("vtc")
            .join(folder);
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let number = u16::try_from(scripts.len())?;
            let at = |port| SocketAddr::from((lab.front().ip(), port + number));
            scripts.push(Script {
                file: entry?.path(),
                kind,
                listener: at(LISTENER_PORT),
                target: at(TARGET_PORT),
            });
        }
    }
    Ok(scripts)
}

impl Script {
    /// Its listener and its target.
    fn tables(&self, certificate: &Certificate) -> String {
        let name = self.listener.port();
        let (listener, group) = match self.kind {
            Kind::Http1 => (String::new(), ""),
            Kind::Client2 => (certificate.listener(), ""),
            Kind::Target2 => (String::new(), "protocol = \"h2c\"\n"),
        };
        format!(
            "[[listener]]\nname = \"l{name}\"\nbind = \"{}\"\ntarget_group = \"g{name}\"\n\
             {listener}\n\
             [[target_group]]\nname = \"g{name}\"\n{group}\
             health_check = {{ protocol = \"tcp\" }}\n\
             [[target_group.target]]\naddress = \"{}\"\n",
            self.listener, self.target,
        )
    }

    /// Where its client connects.
    fn front(&self) -> SocketAddr {
        match self.kind {
            Kind::Client2 => loopback(self.listener),
            Kind::Http1 | Kind::Target2 => self.listener,
        }
    }

    fn start(&self, lab: &Lab) -> Result<Child> {
        let at = |name, to: SocketAddr| format!("{name}={} {}", to.ip(), to.port());
        let mut command = Command::new("varnishtest");
        command
            .args(["-t", GIVEN_UP])
            .args(["-D", &at("front", self.front())])
            .args(["-D", &at("target", loopback(self.target))])
            .arg(&self.file)
            .env("TMPDIR", lab.run().directory())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = lab.balancer.start(&mut command);
        started.context("starting varnishtest: run `cargo xtask test` once")
    }
}

/// Stands before the targets, and before the listeners that speak TLS.
struct Relay(Child);

impl Relay {
    fn start(lab: &Lab, scripts: &[Script]) -> Result<Self> {
        let mut command = Command::new("node");
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("apps/relay.js"))
            .stdout(Stdio::piped());
        for script in scripts {
            command.arg(format!("{}={}", script.target, loopback(script.target)));
            if script.kind == Kind::Client2 {
                let (from, to) = (script.front(), script.listener);
                command.arg(format!("tls+{from}={to}"));
            }
        }
        let mut relay = Self(lab.balancer.start(&mut command).context("starting node")?);
        let output = relay.0.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line == "ready\n", "the relay says {line:?}");
        Ok(relay)
    }
}

/// The same port there.
fn loopback(address: SocketAddr) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, address.port()).into()
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It ends with its test, however that ends.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_scripts_say_holds() -> Result<()> {
    let lab = Lab::new()?;
    let scripts = scripts(&lab)?;
    ensure!(scripts.len() > 10, "{} scripts", scripts.len());
    let certificate = Certificate::new(&lab)?;
    let mut config = Config::new(&lab, "off");
    config.targets.clear();
    config.more.tables = scripts
        .iter()
        .map(|script| script.tables(&certificate))
        .collect();
    let _relay = Relay::start(&lab, &scripts)?;
    let _daemon = Daemon::start(&lab, &config).await?;
    let started: Vec<_> = scripts
        .iter()
        .map(|script| script.start(&lab))
        .collect::<Result<_>>()?;
    let mut failed = String::new();
    for (script, started) in scripts.iter().zip(started) {
        let done = started.wait_with_output()?;
        // A script that is skipped (77) proves nothing.
        if !done.status.success() {
            let said = [&done.stdout, &done.stderr].map(|text| String::from_utf8_lossy(text));
            writeln!(failed, "{}: {}", script.file.display(), done.status)?;
            failed.extend(said);
        }
    }
    ensure!(failed.is_empty(), "{failed}");
    Ok(())
}

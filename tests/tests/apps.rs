//! Proves that real applications keep their sessions: Socket.IO, SockJS and plain
//! WebSockets by every transport they have, with a cookie jar and without, while a target
//! is added, drained and killed. Nobody is ever answered by a target that is not its own,
//! and who loses its target begins anew once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::daemon::{Config, Daemon, limpet};
use lb_tests::lab::{Lab, TARGETS};
use lb_tests::until::{until, when};
use serde::Deserialize;

/// Clients of each of the ten kinds.
const OF_EACH: usize = 2;
/// Answers that each client is to get before anything else happens.
const ANSWERS: u64 = 5;
/// For a client that asks ten times a second, or begins anew; a loaded machine takes its
/// time.
const SOON: Duration = Duration::from_secs(60);

/// Where `cargo xtask test` installs what `tests/apps/package.json` names.
fn modules() -> Result<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let modules = root.join("target/apps/node_modules");
    ensure!(
        modules.is_dir(),
        "{} is missing: run `cargo xtask test` once",
        modules.display()
    );
    Ok(modules)
}

fn node(script: &str) -> Result<Command> {
    let mut command = Command::new("node");
    command
        .arg(format!("{}/apps/{script}", env!("CARGO_MANIFEST_DIR")))
        .env("NODE_PATH", modules()?)
        .stdout(Stdio::piped());
    Ok(command)
}

/// A process that ends with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed by the test already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The applications of every target.
struct Servers {
    processes: Vec<Process>,
    /// What they said beyond being ready: requests of sessions that they do not know.
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Servers {
    /// Started, and ready.
    fn start(lab: &Lab) -> Result<Self> {
        let complaints = Arc::<Mutex<Vec<String>>>::default();
        let mut processes = Vec::new();
        let mut outputs = Vec::new();
        for number in 1..=TARGETS {
            let address = lab.target(number);
            let mut command = node("server.js")?;
            command.args([
                &format!("target-{number}"),
                &address.ip().to_string(),
                &address.port().to_string(),
            ]);
            let namespace = lab.targets.get(number - 1).context("no such target")?;
            let mut child = namespace.start(&mut command).context("starting node")?;
            outputs.push(BufReader::new(child.stdout.take().context("no output")?).lines());
            processes.push(Process(child));
        }
        for mut lines in outputs {
            let first = lines.next().context("a server that says nothing")??;
            ensure!(first.contains("\"ready\":true"), "{first}");
            let complaints = complaints.clone();
            std::thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    let mut complaints = complaints.lock().unwrap_or_else(PoisonError::into_inner);
                    complaints.push(line);
                }
            });
        }
        Ok(Self {
            processes,
            complaints,
        })
    }

    fn kill(&mut self, number: usize) -> Result<()> {
        let process = self
            .processes
            .get_mut(number - 1)
            .context("no such target")?;
        process.0.kill()?;
        process.0.wait()?;
        Ok(())
    }

    fn complaints(&self) -> Vec<String> {
        let complaints = self.complaints.lock();
        complaints.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What one client has seen.
#[derive(Debug, Clone, Deserialize)]
struct Seen {
    kind: String,
    /// Sessions that it began.
    connects: u64,
    answers: u64,
    /// Answers by another target than the first of the session.
    wrong: u64,
    errors: Vec<String>,
    target: Option<String>,
    /// The application's name of the session, if it has one.
    id: Option<String>,
}

/// Clients of every kind, in one process.
struct Clients {
    _process: Process,
    orders: ChildStdin,
    reports: std::io::Lines<BufReader<ChildStdout>>,
}

impl Clients {
    fn start(lab: &Lab, ids: SocketAddr) -> Result<Self> {
        let mut command = node("client.js")?;
        command
            .args([
                format!("http://{}", lab.front()),
                format!("http://{ids}"),
                OF_EACH.to_string(),
            ])
            .stdin(Stdio::piped());
        let mut child = lab.client.start(&mut command).context("starting node")?;
        Ok(Self {
            orders: child.stdin.take().context("no input")?,
            reports: BufReader::new(child.stdout.take().context("no output")?).lines(),
            _process: Process(child),
        })
    }

    fn report(&mut self) -> Result<Vec<Seen>> {
        self.orders.write_all(b"report\n")?;
        let line = self.reports.next().context("the clients have ended")??;
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits until each has had some more answers, from a target that is not `gone`.
    async fn go_on(&mut self, gone: &str) -> Result<Vec<Seen>> {
        let before = self.report()?;
        until("every client goes on", SOON, async || {
            let now = self.report()?;
            let late = before.iter().zip(&now).find(|(before, now)| {
                let lives = now.target.as_deref().is_some_and(|target| target != gone);
                now.answers < before.answers + ANSWERS || !lives
            });
            Ok(match late {
                None => Ok(now.clone()),
                Some((_, late)) => Err(format!("{late:?}")),
            })
        })
        .await
    }
}

/// All of them have begun so many sessions, and had no answer of a wrong target.
fn check(seen: &[Seen], sessions: impl Fn(&Seen, usize) -> u64) -> Result<()> {
    ensure!(seen.len() == 10 * OF_EACH, "{} clients", seen.len());
    for (index, client) in seen.iter().enumerate() {
        ensure!(client.wrong == 0 && client.errors.is_empty(), "{client:?}");
        let sessions = sessions(client, index);
        ensure!(
            client.connects == sessions,
            "{sessions} sessions expected: {client:?}"
        );
    }
    Ok(())
}

fn targets(seen: &[Seen]) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut targets = BTreeMap::<&str, BTreeSet<&str>>::new();
    for client in seen {
        if let Some(target) = &client.target {
            targets.entry(target).or_default().insert(&client.kind);
        }
    }
    targets
}

/// Runs a verb for both target groups and expects it to succeed.
fn tell(lab: &Lab, verb: &str, target: usize) -> Result<()> {
    let target = lab.target(target).to_string();
    for group in ["chat", "jarless"] {
        let done = limpet(lab, &[verb, group, &target])?;
        ensure!(done.status.success(), "{verb} {group} {target}: {done:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_outlive_what_happens_to_targets() -> Result<()> {
    let lab = Lab::new()?;
    let ids = SocketAddr::from((lab.front().ip(), 4000));
    let mut config = Config::new(&lab, "auto");
    config.targets.pop();
    let listed = config.targets.iter();
    let listed =
        listed.map(|address| format!("[[target_group.target]]\naddress = \"{address}\"\n"));
    config.more.tables = format!(
        "[[listener]]\nname = \"ids\"\nbind = \"{ids}\"\ntarget_group = \"jarless\"\n\
         [[target_group]]\nname = \"jarless\"\n\
         [target_group.stickiness]\nmode = \"query\"\n{}",
        listed.collect::<String>()
    );
    let mut servers = Servers::start(&lab)?;
    let daemon = Daemon::start(&lab, &config).await?;
    let mut clients = Clients::start(&lab, ids)?;

    let begun = clients.go_on("").await?;
    check(&begun, |_, _| 1)?;
    let both = targets(&begun);
    ensure!(both.len() == 2, "{both:?}");

    tell(&lab, "register", 3)?;
    let address = lab.target(3).to_string();
    until("the third target is healthy", SOON, async || {
        let targets = daemon.admin.targets().await?;
        let healthy = targets
            .get(&address)
            .is_some_and(|(state, _)| state == "healthy");
        when(healthy, || format!("{targets:?}"))
    })
    .await?;
    check(&clients.go_on("").await?, |_, _| 1)?;

    // Its sessions stay, and nobody new comes.
    tell(&lab, "drain", 1)?;
    let drained = clients.go_on("").await?;
    check(&drained, |_, _| 1)?;
    ensure!(targets(&drained) == both, "{drained:?}");
    ensure!(
        servers.complaints().is_empty(),
        "{:?}",
        servers.complaints()
    );

    servers.kill(2)?;
    let killed = clients.go_on("target-2").await?;
    check(&killed, |_, index| {
        let lost = drained
            .get(index)
            .and_then(|client| client.target.as_deref());
        1 + u64::from(lost == Some("target-2"))
    })?;
    let now = targets(&killed);
    ensure!(
        now.contains_key("target-1") && now.contains_key("target-3"),
        "{now:?}"
    );
    // What was on its way to the lost target went to another, which says that it does not
    // know the session: no other session was sent there.
    let lost = drained
        .iter()
        .filter(|client| client.target.as_deref() == Some("target-2"));
    let lost: Vec<&str> = lost.filter_map(|client| client.id.as_deref()).collect();
    for complaint in servers.complaints() {
        ensure!(
            lost.iter().any(|id| complaint.contains(id)),
            "{complaint}, not of {lost:?}"
        );
    }
    Ok(())
}

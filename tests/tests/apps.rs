//! Proves that real applications keep their sessions: Socket.IO, SockJS and plain
//! WebSockets by every transport they have, with a cookie jar and without, while a target
//! is added, drained and killed, or flaps and is slow. Nobody is ever answered by a target that is not its own,
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
    orders: Vec<ChildStdin>,
    /// What they said beyond being ready: requests of sessions that they do not know.
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Servers {
    /// Started, and ready.
    fn start(lab: &Lab) -> Result<Self> {
        let complaints = Arc::<Mutex<Vec<String>>>::default();
        let (mut processes, mut orders) = (Vec::new(), Vec::new());
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
            command.stdin(Stdio::piped());
            let mut child = namespace.start(&mut command).context("starting node")?;
            orders.push(child.stdin.take().context("no input")?);
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
            orders,
            complaints,
        })
    }

    /// Tells one what `tests/apps/server.js` obeys.
    fn tell(&mut self, number: usize, order: &str) -> Result<()> {
        let orders = self.orders.get_mut(number - 1).context("no such target")?;
        Ok(writeln!(orders, "{order}")?)
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
    /// Its sessions that are over.
    losses: Vec<Loss>,
    target: Option<String>,
    /// The application's name of the session, if it has one.
    id: Option<String>,
    /// Of Socket.IO.
    transport: Option<String>,
}

/// A session that is over.
#[derive(Debug, Clone, Deserialize)]
struct Loss {
    /// Who has answered in it; `None`: nobody yet.
    target: Option<String>,
    id: Option<String>,
}

impl Seen {
    /// Whether each of its messages is a request of its own, or several.
    fn asks_by_requests(&self) -> bool {
        match self.kind.as_str() {
            "socket.io upgrade" | "socket.io sid upgrade" => {
                self.transport.as_deref() != Some("websocket")
            }
            kind => !["sockjs websocket", "ws"].contains(&kind),
        }
    }

    /// Whether it keeps cookies.
    fn has_jar(&self) -> bool {
        !self.kind.contains("sid")
    }
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

/// The first targets of the lab in two groups, one for clients with a cookie jar and one
/// for those without; and where the latter connect to.
fn config(lab: &Lab, targets: usize, check: &str) -> (Config, SocketAddr) {
    let ids = SocketAddr::from((lab.front().ip(), 4000));
    let mut config = Config::new(lab, "auto");
    config.targets.truncate(targets);
    config.more.target_group = check.to_owned();
    let listed = config.targets.iter();
    let listed =
        listed.map(|address| format!("[[target_group.target]]\naddress = \"{address}\"\n"));
    config.more.tables = format!(
        "[[listener]]\nname = \"ids\"\nbind = \"{ids}\"\ntarget_group = \"jarless\"\n\
         [[target_group]]\nname = \"jarless\"\n{check}\n\
         [target_group.stickiness]\nmode = \"query\"\n{}",
        listed.collect::<String>()
    );
    (config, ids)
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_outlive_what_happens_to_targets() -> Result<()> {
    let lab = Lab::new()?;
    let (config, ids) = config(&lab, 2, "");
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

/// Checks of the second test. A target that is only busy is not taken for a slow one: that
/// takes three answers in a row that are later than two seconds.
const CHECK: &str = "health_check = { path = \"/health\", interval = \"200ms\", \
                     timeout = \"2s\", unhealthy_threshold = 3, healthy_threshold = 2 }";
/// Later than that, in milliseconds.
const LATE: u32 = 3_000;
/// Times that a target is taken for sick and for well again.
const FLAPS: usize = 3;

/// Waits until both groups have target 1 in this state.
async fn becomes(daemon: &Daemon<'_>, address: &str, state: &str) -> Result<()> {
    until(&format!("target 1 is {state}"), SOON, async || {
        let groups: serde_json::Value =
            serde_json::from_str(&daemon.admin.get("/v1/target-groups").await?.body)?;
        let groups = groups["target_groups"].as_array().context("no groups")?;
        let targets = groups
            .iter()
            .filter_map(|group| group["targets"].as_array());
        let mut targets = targets.flatten().filter(|one| one["address"] == address);
        let all = targets.clone().count() == 2 && targets.all(|one| one["state"] == state);
        when(all, || format!("{groups:?}"))
    })
    .await
}

/// Whoever asks by requests leaves a target that is not well, once; open WebSockets stay,
/// and so does everybody who is elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_target_that_flaps_and_is_slow_are_lost_once() -> Result<()> {
    let lab = Lab::new()?;
    let (config, ids) = config(&lab, TARGETS, CHECK);
    let mut servers = Servers::start(&lab)?;
    let daemon = Daemon::start(&lab, &config).await?;
    let one = lab.target(1).to_string();
    becomes(&daemon, &one, "healthy").await?;
    let mut clients = Clients::start(&lab, ids)?;
    clients.go_on("").await?;
    let begun = until("who can has upgraded", SOON, async || {
        let seen = clients.report()?;
        let late = seen
            .iter()
            .find(|client| client.kind.contains("upgrade") && client.asks_by_requests());
        let late = late.cloned();
        Ok(late.map_or(Ok(seen), |late| Err(format!("{late:?}"))))
    })
    .await?;
    check(&begun, |_, _| 1)?;
    let by_target = targets(&begun);
    ensure!(by_target.len() == TARGETS, "{by_target:?}");
    ensure!(
        servers.complaints().is_empty(),
        "{:?}",
        servers.complaints()
    );

    for _ in 0..FLAPS {
        servers.tell(1, "sick")?;
        becomes(&daemon, &one, "unhealthy").await?;
        servers.tell(1, "well")?;
        becomes(&daemon, &one, "healthy").await?;
    }
    check_losses(&begun, &clients.go_on("").await?)?;

    servers.tell(1, &format!("late {LATE}"))?;
    becomes(&daemon, &one, "unhealthy").await?;
    until("who asks by requests has left", SOON, async || {
        let stays = clients.report()?.into_iter().find(|client| {
            client.asks_by_requests() && client.target.as_deref().is_none_or(|at| at == "target-1")
        });
        when(stays.is_none(), || format!("{stays:?}"))
    })
    .await?;
    servers.tell(1, "late 0")?;
    becomes(&daemon, &one, "healthy").await?;
    // Who has moved stays moved.
    let ended = clients.go_on("").await?;
    check_losses(&begun, &ended)?;
    for (client, then) in ended.iter().zip(&begun) {
        let was_there = then.target.as_deref() == Some("target-1");
        let must_leave = was_there && then.asks_by_requests();
        ensure!(
            !must_leave || client.target.as_deref() != Some("target-1"),
            "{client:?}"
        );
        ensure!(
            must_leave != client.losses.is_empty() || !then.has_jar(),
            "{client:?}, {then:?}"
        );
    }
    let losses = ended.iter().flat_map(|client| &client.losses);
    let lost: Vec<&str> = losses.filter_map(|loss| loss.id.as_deref()).collect();
    for complaint in servers.complaints() {
        ensure!(
            lost.iter().any(|id| complaint.contains(id)),
            "{complaint}, not of {lost:?}"
        );
    }
    Ok(())
}

/// Only sessions of target 1 are lost, by requests, and each but once. A client without a
/// jar has nothing to say where it is to begin anew: it may come back while the target is
/// taken for well.
fn check_losses(begun: &[Seen], now: &[Seen]) -> Result<()> {
    check(now, |client, _| 1 + client.losses.len() as u64)?;
    for (client, then) in now.iter().zip(begun) {
        let mut losses = client.losses.iter();
        let right = losses.all(|loss| match (&loss.target, then.has_jar()) {
            (Some(target), _) => target == "target-1",
            (None, has_jar) => !has_jar,
        });
        let most = match (then.asks_by_requests(), then.has_jar()) {
            (false, _) => 0,
            (true, true) => 1,
            (true, false) => FLAPS + 1,
        };
        ensure!(right && client.losses.len() <= most, "{client:?}, {then:?}");
    }
    Ok(())
}

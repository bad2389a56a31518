//! The daemon under test, in the balancer's namespace.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::admin::{Admin, BIND};
use crate::lab::Lab;
use crate::until::until;

/// Loading and attaching the kernel program takes a second on a busy machine.
const READY: Duration = Duration::from_secs(20);
const ENDED: Duration = Duration::from_secs(20);

/// What differs between tests in the daemon's configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `fastpath.mode`.
    pub mode: &'static str,
    /// `fastpath.interfaces`.
    pub interfaces: Vec<String>,
    /// The targets of its one group.
    pub targets: Vec<SocketAddr>,
    /// `stickiness.mode`.
    pub stickiness: &'static str,
    /// `listener.websocket_idle_timeout`.
    pub idle_timeout: &'static str,
    /// `log.level`.
    pub log_level: &'static str,
    /// `fastpath.max_flows`.
    pub max_flows: u32,
    /// What the daemon is allowed to do.
    pub privileges: Privileges,
    /// Descriptors it may have (RLIMIT_NOFILE, soft and hard); `None`: as many as we.
    pub descriptors: Option<u32>,
    /// More lines of TOML for the tables this has of its own.
    pub more: More,
}

/// Lines of TOML, each put behind what the configuration says of a table.
#[derive(Debug, Clone, Default)]
pub struct More {
    /// In front of all tables.
    pub root: String,
    /// For `[log]`.
    pub log: String,
    /// For `[limits]`.
    pub limits: String,
    /// For `[fastpath]`.
    pub fastpath: String,
    /// For the listener `web`.
    pub listener: String,
    /// For the target group `chat`, before its stickiness.
    pub target_group: String,
    /// For its stickiness.
    pub stickiness: String,
    /// Whole tables, at the end.
    pub tables: String,
}

/// What the daemon is allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privileges {
    /// All that root has.
    All,
    /// Root in name only: no capability at all.
    None,
}

impl Config {
    /// All three targets of a lab, by this mode of the fast path.
    pub fn new(lab: &Lab, mode: &'static str) -> Self {
        Self {
            mode,
            interfaces: lab.interfaces(),
            targets: (1..=lab.targets.len())
                .map(|number| lab.target(number))
                .collect(),
            stickiness: "lb_cookie",
            idle_timeout: "1h",
            log_level: "debug",
            max_flows: 100_000,
            privileges: Privileges::All,
            descriptors: None,
            more: More::default(),
        }
    }

    /// The whole file.
    pub fn text(&self, lab: &Lab) -> String {
        let directory = lab.run().directory();
        let targets: String = self
            .targets
            .iter()
            .map(|address| format!("[[target_group.target]]\naddress = \"{address}\"\n"))
            .collect();
        format!(
            r#"state_dir = "{state}"
shutdown_deadline = "2s"
{root}

[log]
level = "{level}"
{log}

[admin]
bind = "{BIND}"

[limits]
{limits}

[fastpath]
mode = "{mode}"
interfaces = {interfaces:?}
max_flows = {max_flows}
pin_dir = "{pins}"
{fastpath}

[[listener]]
name = "web"
bind = ["{front}", "{front6}"]
protocol = "http"
target_group = "chat"
websocket_idle_timeout = "{idle}"
{listener}

[[target_group]]
name = "chat"
{target_group}

[target_group.stickiness]
mode = "{mode_of_stickiness}"
{stickiness}

{targets}
{tables}"#,
            root = self.more.root,
            level = self.log_level,
            log = self.more.log,
            limits = self.more.limits,
            fastpath = self.more.fastpath,
            listener = self.more.listener,
            target_group = self.more.target_group,
            mode_of_stickiness = self.stickiness,
            stickiness = self.more.stickiness,
            tables = self.more.tables,
            state = directory.join("state").display(),
            mode = self.mode,
            interfaces = self.interfaces,
            max_flows = self.max_flows,
            pins = lab.run().pin_dir().display(),
            front = lab.front(),
            front6 = lab.front6(),
            idle = self.idle_timeout,
        )
    }
}

/// A running `limpet`, killed when dropped.
#[derive(Debug)]
pub struct Daemon<'lab> {
    lab: &'lab Lab,
    child: Child,
    limits: (Privileges, Option<u32>),
    /// The admin API.
    pub admin: Admin<'lab>,
    shows_log: bool,
}

impl<'lab> Daemon<'lab> {
    /// Writes the configuration, starts the daemon, waits until it is ready.
    pub async fn start(lab: &'lab Lab, config: &Config) -> Result<Self> {
        // A log of this daemon's own: a lab may see several.
        File::create(log_file(lab))?;
        Self::start_to(lab, config, open_log(lab)?).await
    }

    /// The same with another stdout.
    pub async fn start_to(
        lab: &'lab Lab,
        config: &Config,
        stdout: impl Into<Stdio>,
    ) -> Result<Self> {
        fs::write(config_file(lab), config.text(lab))?;
        let limits = (config.privileges, config.descriptors);
        let child = spawn(lab, limits, stdout.into())?;
        let admin = Admin::new(&lab.balancer);
        let mut daemon = Self {
            lab,
            child,
            limits,
            admin,
            shows_log: true,
        };
        daemon.ready(READY).await?;
        Ok(daemon)
    }

    /// Kills it as a crash would.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill()?;
        let status = self.child.wait()?;
        ensure!(
            status.signal() == Some(Signal::SIGKILL as i32),
            "ended by itself: {status}"
        );
        Ok(())
    }

    /// Starts it again with the same configuration, waits until it is ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.child = spawn(self.lab, self.limits, open_log(self.lab)?.into())?;
        self.ready(READY).await
    }

    /// The same, for one that has much to take over.
    pub async fn restart_within(&mut self, deadline: Duration) -> Result<()> {
        self.child = spawn(self.lab, self.limits, open_log(self.lab)?.into())?;
        self.ready(deadline).await
    }

    /// TERM, and how it ended.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        kill(self.pid(), Signal::SIGTERM)?;
        let child = &mut self.child;
        until("the daemon ends after TERM", ENDED, async || {
            Ok(child.try_wait()?.ok_or_else(|| "running".to_owned()))
        })
        .await
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap_or_default())
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(log_file(self.lab)).unwrap_or_default()
    }

    /// Its log is normally printed at its end, where a failing test shows it.
    pub fn hide_log(&mut self) {
        self.shows_log = false;
    }

    async fn ready(&mut self, deadline: Duration) -> Result<()> {
        let Self {
            admin, child, lab, ..
        } = self;
        until("the daemon is ready", deadline, async || {
            if let Some(status) = child.try_wait()? {
                let log = fs::read_to_string(log_file(lab)).unwrap_or_default();
                bail!("the daemon ended with {status} instead of getting ready:\n{log}");
            }
            Ok(match admin.get("/readyz").await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(format!("{} {}", answer.status, answer.body)),
                Err(error) => Err(format!("{error:#}")),
            })
        })
        .await
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        // It may have been killed by the test already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if self.shows_log {
            println!("--- the daemon's log\n{}---", self.log());
        }
    }
}

/// Runs `limpet` with arguments, inside the balancer's namespace, to its end.
pub fn limpet(lab: &Lab, arguments: &[&str]) -> Result<Output> {
    let binary = binary()?;
    Ok(lab
        .balancer
        .run(|| Command::new(binary).args(arguments).output())?)
}

/// The daemon's binary: `LIMPET_BIN`, or where `cargo xtask build` leaves it.
pub fn binary() -> Result<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    let built = root.join(target).join("release/limpet");
    let binary = std::env::var_os("LIMPET_BIN").map_or(built, PathBuf::from);
    ensure!(
        binary.is_file(),
        "{} is missing: run `cargo xtask build`",
        binary.display()
    );
    Ok(binary)
}

fn open_log(lab: &Lab) -> Result<File> {
    let mut options = File::options();
    Ok(options.append(true).create(true).open(log_file(lab))?)
}

fn spawn(
    lab: &Lab,
    (privileges, descriptors): (Privileges, Option<u32>),
    stdout: Stdio,
) -> Result<Child> {
    // Each of these replaces itself by what comes behind it.
    let mut command = Command::new("env");
    match privileges {
        Privileges::All => {}
        Privileges::None => {
            command.args(["setpriv", "--bounding-set=-all", "--inh-caps=-all"]);
        }
    }
    if let Some(most) = descriptors {
        command
            .arg("prlimit")
            .arg(format!("--nofile={most}:{most}"));
    }
    command
        .arg(binary()?)
        .args(["run", "--config"])
        .arg(config_file(lab))
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(open_log(lab)?)
        // Ctrl-C is for whoever raised the lab; they end the daemon in order.
        .process_group(0);
    lab.balancer
        .start(&mut command)
        .with_context(|| format!("starting {command:?}"))
}

/// The configuration file of the daemon in a lab.
pub fn config_file(lab: &Lab) -> PathBuf {
    lab.run().directory().join("limpet.toml")
}

/// Its log.
pub fn log_file(lab: &Lab) -> PathBuf {
    lab.run().directory().join("limpet.log")
}

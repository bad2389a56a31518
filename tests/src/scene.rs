//! A lab with everything running in it, and what every test asks of it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::admin::Connection;
use crate::client::Client;
use crate::daemon::{Config, Daemon};
use crate::lab::{Lab, Offloads};
use crate::sockets;
use crate::target::{End, Targets};
use crate::until::{until, when};

/// A handoff takes milliseconds; a loaded machine takes its time.
const HANDED_OFF: Duration = Duration::from_secs(10);
/// A stream goes on after a few retransmissions, whatever has become of its path.
const GOES_ON: Duration = Duration::from_secs(40);
/// The daemon learns of an end by an event, or by the next scan.
const ENDED: Duration = Duration::from_secs(15);
/// Some checks of a busy machine.
const TURNED: Duration = Duration::from_secs(30);

/// Targets, daemon and a client in one lab.
#[derive(Debug)]
pub struct Scene<'lab> {
    /// The lab.
    pub lab: &'lab Lab,
    /// The targets, all of them running.
    pub targets: Targets,
    /// The daemon, ready.
    pub daemon: Daemon<'lab>,
    /// A client of its listener.
    pub client: Client<'lab>,
    mode: &'static str,
}

impl<'lab> Scene<'lab> {
    /// Starts targets and the daemon.
    pub async fn set(lab: &'lab Lab, config: &Config) -> Result<Self> {
        Ok(Self {
            lab,
            targets: Targets::start(lab)?,
            daemon: Daemon::start(lab, config).await?,
            client: Client::new(&lab.client, lab.front()),
            mode: config.mode,
        })
    }

    /// Waits until this many connections exist and each is where it belongs: in
    /// the kernel, on the hook that was asked for; or in userspace, reason `off`.
    pub async fn settled(&self, count: usize) -> Result<Vec<Connection>> {
        self.settled_within(count, HANDED_OFF).await
    }

    /// The same with another deadline.
    pub async fn settled_within(
        &self,
        count: usize,
        deadline: Duration,
    ) -> Result<Vec<Connection>> {
        until(
            "every connection is where it belongs",
            deadline,
            async || {
                let connections = self.daemon.admin.connections().await?;
                let settled = connections.iter().filter(|one| self.belongs(one)).count();
                if settled == count && connections.len() == count {
                    return Ok(Ok(connections));
                }
                let other = connections.iter().find(|one| !self.belongs(one));
                Ok(Err(format!(
                    "{settled} of {}, {count} expected; {other:?}",
                    connections.len()
                )))
            },
        )
        .await
    }

    fn belongs(&self, connection: &Connection) -> bool {
        match self.mode {
            "off" => connection.path == "userspace" && connection.reason.as_deref() == Some("off"),
            "auto" => connection.in_kernel(),
            mode => connection.path == mode && connection.reason.is_none(),
        }
    }

    /// Waits until every checked stream has received more than this in each direction
    /// since `before` (an earlier [`Streams::progress`]).
    ///
    /// [`Streams::progress`]: crate::raw::Streams::progress
    pub async fn streams_go_on(&self, before: &[u64], bytes: u64) -> Result<()> {
        let streams = &self.targets.notes.streams;
        streams.go_further(before, bytes, GOES_ON).await
    }

    /// Ends the checked streams and waits until all that was sent has arrived.
    pub async fn streams_end(&self) -> Result<()> {
        let streams = &self.targets.notes.streams;
        streams.stop();
        until("the streams end", GOES_ON, async || {
            when(streams.all_ended(), || format!("{:?}", streams.progress()))
        })
        .await?;
        streams.check_complete().map(drop)
    }

    /// Waits until the balancer's namespace has no socket of any connection.
    pub async fn no_sockets(&self) -> Result<()> {
        until(
            "no TCP socket of a connection is left",
            HANDED_OFF,
            async || {
                let left = sockets::connections(&self.lab.balancer)?;
                // Connections to targets that wait to be used again are not ours.
                let ours = left.iter().filter(|socket| {
                    socket.local.contains(&self.lab.front().ip().to_string())
                        || socket.local.contains(&self.lab.front6().ip().to_string())
                });
                let ours: Vec<_> = ours.collect();
                when(ours.is_empty(), || format!("{ours:?} of {}", left.len()))
            },
        )
        .await
    }

    /// Waits until no connection is left anywhere, and nothing it needed either.
    pub async fn all_gone(&self) -> Result<()> {
        let admin = &self.daemon.admin;
        until("every connection is gone", ENDED, async || {
            let left = admin.connections().await?;
            when(left.is_empty(), || {
                format!("{} left, {:?}", left.len(), left.first())
            })
        })
        .await?;
        for name in [
            "limpet_flows",
            "limpet_flow_table_entries",
            "limpet_source_ports_used",
        ] {
            until(&format!("{name} is zero"), ENDED, async || {
                let value = admin.metric(name).await?;
                when(value == 0.0, || value.to_string())
            })
            .await?;
        }
        Ok(())
    }

    /// Who answers this many requests without a cookie, and how many of them.
    pub async fn spread(&self, requests: usize) -> Result<BTreeMap<String, usize>> {
        let mut counts = BTreeMap::new();
        for _ in 0..requests {
            let answer = self.client.get("/", None).await?;
            ensure!(answer.status == 200, "{answer:?}");
            *counts.entry(answer.body).or_default() += 1;
        }
        Ok(counts)
    }

    /// Waits until target `number` is in this state, and answers why it is.
    pub async fn target_becomes(&self, number: usize, state: &str) -> Result<String> {
        let address = self.lab.target(number).to_string();
        until(&format!("{address} is {state}"), TURNED, async || {
            let targets = self.daemon.admin.targets().await?;
            Ok(match targets.get(&address) {
                Some((is, reason)) if is == state => Ok(reason.clone()),
                _ => Err(format!("{targets:?}")),
            })
        })
        .await
    }

    /// Waits until a target saw a WebSocket end like this.
    pub async fn target_saw(&self, what: &str, matches: impl Fn(&End) -> bool) -> Result<()> {
        until(&format!("a target sees {what}"), ENDED, async || {
            let ends = self.targets.notes.ends();
            when(ends.iter().any(&matches), || format!("{ends:?}"))
        })
        .await
    }
}

/// Raises a lab for a mode of the fast path and plays a behaviour in it.
pub async fn play(
    mode: &'static str,
    behaviour: impl AsyncFnOnce(&mut Scene<'_>) -> Result<()>,
) -> Result<()> {
    let offloads = if mode == "xdp" {
        Offloads::Xdp
    } else {
        Offloads::Full
    };
    let lab = Lab::with(offloads)?;
    let mut scene = Scene::set(&lab, &Config::new(&lab, mode)).await?;
    behaviour(&mut scene)
        .await
        .with_context(|| format!("fast path {mode}"))
}

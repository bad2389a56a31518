//! Bulk streams, both ways at once, over paths that lose, double and reorder packets:
//! by the balancer, from the 101 on and across the handoff, and by a plain router.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::client::Client;
use crate::counters::Counters;
use crate::daemon::Config;
use crate::lab::{Lab, Offloads};
use crate::namespace::Namespace;
use crate::raw::Streams;
use crate::scene::Scene;
use crate::target::Targets;
use crate::until::{until, when};

const CONNECTIONS: usize = 10;
/// Share of packets that come twice and late, in percent.
const DETOURS: f64 = 2.0;
/// What befalls the handshake shows in the counters as well: a SYN-ACK that comes
/// again after a lost one is answered with a challenge ACK.
const ESTABLISHED: &str = "tcp flags & syn == 0";

/// What is carried, and over which path.
#[derive(Debug, Clone, Copy)]
pub struct Passage {
    /// The fast path's mode, `tc` or `xdp`.
    pub mode: &'static str,
    /// How the ends' interfaces send.
    pub offloads: Offloads,
    /// Share of packets lost at either end, in percent.
    pub loss: f64,
    /// In all, over both directions of every connection.
    pub bytes: u64,
    /// How long it may take at most.
    pub takes: Duration,
}

/// What came of it besides every byte in its place.
#[derive(Debug)]
pub struct Outcome {
    /// What the ends' TCP found wrong, summed over the ends.
    pub complaints: Vec<(&'static str, u64)>,
    /// Segments that the ends sent again.
    pub retransmitted: u64,
    /// Segments that the ends received out of order.
    pub reordered: u64,
    /// Segments that the ends received twice.
    pub doubled: u64,
    /// Bytes that had arrived when the last connection was in the kernel.
    pub relayed: u64,
}

impl Passage {
    /// Carries it by the balancer. An error where a byte is lost, doubled or wrong,
    /// a connection does not reach the kernel, or a reset of the balancer's own leaves.
    pub async fn by_the_balancer(&self) -> Result<Outcome> {
        let lab = self.lab()?;
        lab.balancer
            .feed(Command::new("nft").args(["-f", "-"]), RESETS)?;
        let mut scene = Scene::set(&lab, &Config::new(&lab, self.mode)).await?;
        let streams = &scene.targets.notes.streams;
        self.open(streams, &scene.client).await?;
        scene.settled_within(CONNECTIONS, self.takes).await?;
        let relayed = streams.progress().iter().sum();
        scene.no_sockets().await?;
        streams.go_on();
        self.finish(streams).await?;
        let resets = own_resets(&scene).await?;
        ensure!(resets == 0, "{resets} resets of the balancer's own");
        scene.all_gone().await?;
        scene.daemon.hide_log();
        outcome(&lab, relayed)
    }

    /// The same with a plain router in the balancer's place.
    pub async fn by_a_router(&self) -> Result<Outcome> {
        let lab = self.lab()?;
        lab.balancer.sysctl("net/ipv4/ip_forward", "1")?;
        let targets = Targets::start(&lab)?;
        let streams = &targets.notes.streams;
        streams.go_on();
        self.open(streams, &Client::new(&lab.client, lab.target(1)))
            .await?;
        self.finish(streams).await?;
        outcome(&lab, 0)
    }

    fn lab(&self) -> Result<Lab> {
        let lab = Lab::with(self.offloads)?;
        lab.detour_percent_of(ESTABLISHED, DETOURS)?;
        if self.loss > 0.0 {
            lab.drop_percent_of(ESTABLISHED, self.loss)?;
        }
        Ok(lab)
    }

    /// Bytes of one direction of one connection.
    fn each(&self) -> u64 {
        self.bytes / CONNECTIONS as u64 / 2
    }

    async fn open(&self, streams: &std::sync::Arc<Streams>, client: &Client<'_>) -> Result<()> {
        streams.bulk(self.each());
        let all = (0..CONNECTIONS).map(|id| streams.open(client, id));
        futures_util::future::try_join_all(all).await.map(drop)
    }

    async fn finish(&self, streams: &Streams) -> Result<()> {
        until("every stream ends", self.takes, async || {
            streams.check()?;
            when(streams.all_ended(), || format!("{:?}", streams.progress()))
        })
        .await?;
        let totals = streams.check_complete()?;
        let all = self.each() * CONNECTIONS as u64 * 2;
        ensure!(totals.bytes == all, "{totals:?}, not {all} bytes");
        Ok(())
    }
}

/// Counts resets that the balancer's own stack makes; what it forwards does not pass.
/// (An end that is through resets what comes twice; that is between the ends.)
const RESETS: &str = "table inet resets { counter made {}; chain output { \
    type filter hook output priority 0; \
    oifname != lo tcp flags & rst == rst counter name made; }; }\n";

/// Those of them that have left: the egress program keeps back the stack's.
async fn own_resets(scene: &Scene<'_>) -> Result<u64> {
    let list = ["-j", "list", "counter", "inet", "resets", "made"];
    let json = scene.lab.balancer.output(Command::new("nft").args(list))?;
    let json: serde_json::Value = serde_json::from_str(&json)?;
    let made = json["nftables"]
        .as_array()
        .and_then(|all| {
            all.iter()
                .find_map(|one| one["counter"]["packets"].as_u64())
        })
        .with_context(|| format!("no counter in {json}"))?;
    let admin = &scene.daemon.admin;
    let kept = admin
        .metric_with("limpet_fastpath_packets_total", "outcome=\"guarded\"")
        .await?;
    Ok(made.saturating_sub(kept as u64))
}

fn outcome(lab: &Lab, relayed: u64) -> Result<Outcome> {
    let ends: Vec<&Namespace> = lab.targets.iter().chain([&lab.client]).collect();
    let all: Vec<Counters> = ends
        .into_iter()
        .map(Counters::read)
        .collect::<Result<_>>()?;
    let sum = |name: &str| all.iter().map(|end| end.get(name)).sum::<Result<u64>>();
    let complaints = Counters::COMPLAINTS
        .iter()
        .map(|name| Ok((*name, sum(name)?)))
        .collect::<Result<_>>()?;
    Ok(Outcome {
        complaints,
        retransmitted: sum("Tcp.RetransSegs")?,
        reordered: sum("TcpExt.TCPOFOQueue")?,
        doubled: sum("TcpExt.TCPDSACKOldSent")?,
        relayed,
    })
}

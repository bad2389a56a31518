//! Proves that whatever TCP options the two ends have, every connection is carried
//! by the kernel with every byte intact; and that where the legs cannot be made
//! alike it is relayed, with the reason shown.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use lb_tests::admin::Connection;
use lb_tests::client::{Client, who};
use lb_tests::counters::Counters;
use lb_tests::daemon::Config;
use lb_tests::lab::{Lab, Offloads};
use lb_tests::namespace::Namespace;
use lb_tests::pattern::Pattern;
use lb_tests::scene::Scene;
use lb_tests::until::{until, when};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

const SETTLED: Duration = Duration::from_secs(30);
/// How far every direction of every connection must get, in bytes.
const FAR: u64 = 10_000;
const TAKES: Duration = Duration::from_secs(60);

/// What an end's TCP is like; the first is how the lab is raised.
#[derive(Debug, Clone, Copy)]
struct Kind {
    name: &'static str,
    timestamps: bool,
    sack: bool,
    scaling: bool,
    ecn: &'static str,
    /// The largest receive buffer, in bytes; the scale follows from it.
    buffer: u32,
}

const USUAL: Kind = Kind {
    name: "usual",
    timestamps: true,
    sack: true,
    scaling: true,
    ecn: "2",
    buffer: 6_291_456,
};

const KINDS: [Kind; 8] = [
    USUAL,
    Kind {
        name: "offers ECN, as Apple's",
        ecn: "1",
        ..USUAL
    },
    Kind {
        name: "no timestamps, as Windows",
        timestamps: false,
        ..USUAL
    },
    Kind {
        name: "no SACK",
        sack: false,
        ..USUAL
    },
    Kind {
        name: "no scaling",
        scaling: false,
        ..USUAL
    },
    Kind {
        name: "nothing at all",
        timestamps: false,
        sack: false,
        scaling: false,
        ..USUAL
    },
    Kind {
        name: "the largest scale",
        buffer: 1 << 30,
        ..USUAL
    },
    Kind {
        name: "a small scale",
        buffer: 1 << 17,
        ..USUAL
    },
];

impl Kind {
    fn set(&self, namespace: &Namespace) -> Result<()> {
        let switch = |on| if on { "1" } else { "0" };
        let buffer = format!("4096 131072 {}", self.buffer);
        [
            ("tcp_timestamps", switch(self.timestamps)),
            ("tcp_sack", switch(self.sack)),
            ("tcp_window_scaling", switch(self.scaling)),
            ("tcp_ecn", self.ecn),
            ("tcp_rmem", buffer.as_str()),
        ]
        .iter()
        .try_for_each(|(name, value)| namespace.sysctl(&format!("net/ipv4/{name}"), value))
    }
}

/// Where a connection must end up: its path, and the reason if it is relayed.
type Place = (&'static str, Option<&'static str>);

#[tokio::test(flavor = "multi_thread")]
async fn every_mix_over_tc() -> Result<()> {
    let lab = Lab::new()?;
    every_mix(&lab, "tc", lab.front(), lab.target(1)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mix_over_xdp_and_ipv6() -> Result<()> {
    let lab = Lab::with(Offloads::Xdp)?;
    every_mix(&lab, "xdp", lab.front6(), lab.target6(1)).await
}

async fn every_mix(
    lab: &Lab,
    mode: &'static str,
    front: SocketAddr,
    target: SocketAddr,
) -> Result<()> {
    // It would offer ECN to targets that take it.
    lab.balancer.sysctl("net/ipv4/tcp_ecn", "1")?;
    let config = Config {
        targets: vec![target],
        ..Config::new(lab, mode)
    };
    let scene = Scene::set(lab, &config).await?;
    let client = Client::new(&lab.client, front);
    let streams = &scene.targets.notes.streams;
    let mut expected = HashMap::new();
    for near in KINDS {
        for far in KINDS {
            near.set(&lab.client)?;
            far.set(&lab.targets[0])?;
            // RFC 7323 section 3.2 lets an end that agreed on timestamps drop
            // segments without, and the client has been promised them.
            let place = match near.timestamps && !far.timestamps {
                true => ("userspace", Some("options")),
                false => (mode, None),
            };
            let name = format!("client: {}, target: {}", near.name, far.name);
            let address = streams.open(&client, expected.len()).await;
            expected.insert(address.context(name.clone())?.to_string(), (name, place));
        }
    }
    arrive(&scene, expected.len(), |one| {
        let (name, place) = expected.get(&one.client)?;
        Some((name.clone(), *place))
    })
    .await
}

/// A target behind a smaller link than the client was told of takes too small
/// segments; a listener that says so beforehand has it carried all the same.
#[tokio::test(flavor = "multi_thread")]
async fn links_of_different_sizes() -> Result<()> {
    let lab = Lab::new()?;
    let narrow = SocketAddr::new(lab.front().ip(), 81);
    let mut config = Config::new(&lab, "tc");
    config.more.tables = format!(
        "[[listener]]\nname = \"narrow\"\nbind = \"{narrow}\"\ntarget_group = \"chat\"\nmss = 1260\n"
    );
    mtu(&lab.client, "1400")?;
    mtu(&lab.targets[1], "1300")?;
    let scene = Scene::set(&lab, &config).await?;
    let streams = &scene.targets.notes.streams;
    let narrow = Client::new(&lab.client, narrow);
    // One to each target in turn.
    for id in 0..3 {
        streams.open(&scene.client, id).await?;
        streams.open(&narrow, id + 3).await?;
    }
    arrive(&scene, 6, |one| {
        let too_small = one.listener == "web" && one.target == lab.target(2).to_string();
        let place = match too_small {
            true => ("userspace", Some("mtu")),
            false => ("tc", None),
        };
        Some((format!("{} to {}", one.listener, one.target), place))
    })
    .await
}

/// A client that reads nothing stops its target from reading, too: the target's window
/// closes, the client probes it, and all that waited arrives once the client reads.
#[tokio::test(flavor = "multi_thread")]
async fn closed_windows_open_again() -> Result<()> {
    let lab = Lab::new()?;
    let unscaled = Kind {
        scaling: false,
        ..USUAL
    };
    unscaled.set(&lab.client)?;
    let config = Config {
        targets: vec![lab.target(1)],
        ..Config::new(&lab, "tc")
    };
    let scene = Scene::set(&lab, &config).await?;
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    who(&mut socket).await?;
    scene.settled(1).await?;
    let (mut to_target, mut from_target) = socket.split();
    let messages = || (0..MORE_THAN_BUFFERS_HOLD).map(|n| Pattern::new(n).bytes(65_536));
    let sender = tokio::spawn(async move {
        for message in messages() {
            to_target.send(Message::binary(message)).await?;
        }
        anyhow::Ok(())
    });
    // The target cannot get rid of its echo, and stops reading.
    for (end, counter) in [
        (&lab.targets[0], "TcpExt.TCPToZeroWindowAdv"),
        (&lab.client, "TcpExt.TCPWinProbe"),
    ] {
        until(counter, TAKES, async || {
            let count = Counters::read(end)?.get(counter)?;
            when(count > 0, || format!("never in {}", end.name()))
        })
        .await?;
    }
    for message in messages() {
        let echo = timeout(TAKES, from_target.next())
            .await?
            .context("closed")??;
        ensure!(echo.into_data() == message, "not what was sent");
    }
    sender.await??;
    Ok(())
}

/// Messages of 64 KiB that do not all fit in the buffers from here to there and back.
const MORE_THAN_BUFFERS_HOLD: u64 = 500;

/// Packets that are yet to be cut into segments and longer than the length field of
/// IPv4 can say (BIG TCP).
#[tokio::test(flavor = "multi_thread")]
async fn giant_packets() -> Result<()> {
    let lab = Lab::new()?;
    for end in [&lab.client, &lab.targets[0]] {
        end.output(Command::new("/usr/bin/python3").args(["-c", GIANTS]))?;
        end.feed(Command::new("nft").args(["-f", "-"]), COUNT_GIANTS)?;
    }
    let config = Config {
        targets: vec![lab.target(1)],
        ..Config::new(&lab, "tc")
    };
    let scene = Scene::set(&lab, &config).await?;
    let streams = &scene.targets.notes.streams;
    streams.bulk(8_000_000);
    streams.open(&scene.client, 0).await?;
    scene.settled(1).await?;
    let before = [giants(&lab.client)?, giants(&lab.targets[0])?];
    streams.go_on();
    until("every stream ends", TAKES, async || {
        streams.check()?;
        when(streams.all_ended(), || format!("{:?}", streams.progress()))
    })
    .await?;
    streams.check_complete()?;
    let after = [giants(&lab.client)?, giants(&lab.targets[0])?];
    let came = before
        .iter()
        .zip(&after)
        .all(|(before, after)| before < after);
    ensure!(came, "no giants: {before:?} {after:?}");
    // TCP would mend their loss, slowly.
    let admin = &scene.daemon.admin;
    let dropped = admin
        .metric_with("limpet_fastpath_packets_total", "outcome=\"malformed\"")
        .await?;
    ensure!(dropped == 0.0, "{dropped} were dropped");
    scene.all_gone().await
}

/// Lets an end make them; iproute2 has a word for it only from version 6.3 on.
const GIANTS: &str = "
import socket, struct
IFLA_GSO_IPV4_MAX_SIZE, RTM_NEWLINK, REQUEST_AND_ACK = 63, 16, 5
link = struct.pack('=BxHiII', 0, 0, socket.if_nametoindex('eth0'), 0, 0)
link += struct.pack('=HHI', 8, IFLA_GSO_IPV4_MAX_SIZE, 200000)
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
netlink.send(struct.pack('=IHHII', 16 + len(link), RTM_NEWLINK, REQUEST_AND_ACK, 1, 0) + link)
error = struct.unpack_from('=i', netlink.recv(4096), 16)[0]
assert error == 0, error
";

const COUNT_GIANTS: &str = "table netdev giants { counter sent {}; chain egress { \
    type filter hook egress device eth0 priority 0; meta length > 65549 counter name sent; }; }\n";

fn giants(end: &Namespace) -> Result<u64> {
    let list = ["-j", "list", "counter", "netdev", "giants", "sent"];
    let json = end.output(Command::new("nft").args(list))?;
    let json: serde_json::Value = serde_json::from_str(&json)?;
    json["nftables"]
        .as_array()
        .and_then(|all| {
            all.iter()
                .find_map(|one| one["counter"]["packets"].as_u64())
        })
        .with_context(|| format!("no counter in {json}"))
}

fn mtu(namespace: &Namespace, bytes: &str) -> Result<()> {
    let tool = &mut Command::new("ip");
    namespace
        .output(tool.args(["link", "set", "eth0", "mtu", bytes]))
        .map(drop)
}

/// Waits until each is where it belongs, lets both directions of each get far from
/// there, and compares what was sent with what has arrived.
async fn arrive(
    scene: &Scene<'_>,
    count: usize,
    place: impl Fn(&Connection) -> Option<(String, Place)>,
) -> Result<()> {
    let streams = &scene.targets.notes.streams;
    until("each is where it belongs", SETTLED, async || {
        streams.check()?;
        let connections = scene.daemon.admin.connections().await?;
        let misplaced = connections.iter().find_map(|one| {
            let (name, place) = place(one)?;
            let found = (one.path.as_str(), one.reason.as_deref());
            (found != place).then(|| format!("{name}: {one:?}"))
        });
        when(misplaced.is_none() && connections.len() == count, || {
            misplaced.unwrap_or_else(|| format!("{} listed", connections.len()))
        })
    })
    .await?;
    let before = streams.progress();
    streams.go_further(&before, FAR, TAKES).await?;
    streams.stop();
    until("every stream ends", TAKES, async || {
        streams.check()?;
        when(streams.all_ended(), || "some go on".to_owned())
    })
    .await?;
    let totals = streams.check_complete()?;
    ensure!(totals.connections == count, "{totals:?}");
    scene.all_gone().await
}

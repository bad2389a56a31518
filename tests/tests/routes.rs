//! Proves that connections in the kernel follow what becomes of their path: routes that
//! move, next hops with another hardware address, interfaces that go down and come back;
//! and that client and target may be behind one interface. No daemon is needed for it.

use std::time::Duration;

use anyhow::{Context, Result};
use lb_tests::client::Client;
use lb_tests::daemon::Config;
use lb_tests::lab::{Lab, Offloads};
use lb_tests::scene::Scene;

/// Of each direction, after a change.
const BYTES: u64 = 5_000;
/// Streams that never rest take a little longer to hand off.
const SETTLED: Duration = Duration::from_secs(30);
/// Nobody's.
const WRONG: &str = "02:00:00:00:99:99";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// A second wire between the balancer and target 1.
const SECOND_WIRE: &str = "\
link add spare type veth peer name eth1 netns {target}
addr add 10.73.1.1/24 dev spare
addr add fd73:1::1/64 dev spare nodad
link set spare up
";
const ITS_END: &str = "\
addr add 10.73.1.2/24 dev eth1
addr add fd73:1::2/64 dev eth1 nodad
link set eth1 up
";
/// Each side's way to the other's address, over the second wire.
const BALANCER_MOVES: &str = "\
route replace 10.71.1.2/32 via 10.73.1.2 dev spare
route replace fd71:1::2/128 via fd73:1::2 dev spare
";
const TARGET_MOVES: &str = "\
route replace 10.71.1.1/32 via 10.73.1.1 dev eth1
route replace fd71:1::1/128 via fd73:1::1 dev eth1
";

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_moves() -> Result<()> {
    moved(Family::V4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_moves_over_ipv6() -> Result<()> {
    moved(Family::V6).await
}

async fn moved(family: Family) -> Result<()> {
    let lab = with_second_wire()?;
    let mut scene = streaming(&lab, family, "tc", &["spare"]).await?;
    scene.daemon.kill9()?;
    // Only one side's at first: the other's packets still come the old way.
    lab.balancer.ip(BALANCER_MOVES)?;
    goes_on(&scene, "the balancer's route has moved").await?;
    lab.targets[0].ip(TARGET_MOVES)?;
    lab.balancer.ip("link set target1 down\n")?;
    goes_on(
        &scene,
        "both routes have moved and the old interface is down",
    )
    .await?;
    scene.streams_end().await
}

/// Where the routing table does not answer, the peer's own packets show the way.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_moves() -> Result<()> {
    let lab = with_second_wire()?;
    let mut scene = streaming(&lab, Family::V4, "tc", &["spare"]).await?;
    scene.daemon.kill9()?;
    lab.balancer.sysctl("net/ipv4/conf/lo/forwarding", "0")?;
    lab.balancer.ip(BALANCER_MOVES)?;
    lab.targets[0].ip(TARGET_MOVES)?;
    goes_on(&scene, "both routes have moved").await?;
    lab.balancer.ip("link set target1 down\n")?;
    goes_on(&scene, "the old interface is down").await?;
    scene.streams_end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_hardware_address() -> Result<()> {
    neighbours(Family::V4, "tc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_hardware_address_over_ipv6() -> Result<()> {
    neighbours(Family::V6, "tc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_hardware_address_behind_xdp() -> Result<()> {
    neighbours(Family::V4, "xdp").await
}

async fn neighbours(family: Family, mode: &'static str) -> Result<()> {
    let lab = Lab::with(match mode {
        "xdp" => Offloads::Xdp,
        _ => Offloads::Full,
    })?;
    // The same states as ever, only sooner.
    for kind in ["ipv4", "ipv6"] {
        for (name, value) in [
            ("base_reachable_time_ms", "1000"),
            ("delay_first_probe_time", "1"),
            ("retrans_time_ms", "200"),
        ] {
            let name = format!("net/{kind}/neigh/target1/{name}");
            lab.balancer.sysctl(&name, value)?;
        }
    }
    let mut scene = streaming(&lab, family, mode, &[]).await?;
    scene.daemon.kill9()?;
    let target = lab.target(1).ip();
    let target6 = lab.target6(1).ip();
    // As after a change that nobody has announced: known, not lately confirmed, wrong.
    lab.balancer.ip(&format!(
        "neigh replace {target} lladdr {WRONG} nud stale dev target1\n\
             neigh replace {target6} lladdr {WRONG} nud stale dev target1\n"
    ))?;
    goes_on(&scene, "the neighbour has become wrong").await?;
    lab.targets[0].ip(&format!("link set eth0 address {WRONG}\n"))?;
    lab.balancer.ip("neigh flush dev target1\n")?;
    goes_on(&scene, "the neighbour has moved and is unknown").await?;
    scene.streams_end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_comes_back() -> Result<()> {
    let lab = Lab::new()?;
    let mut scene = streaming(&lab, Family::V4, "tc", &[]).await?;
    scene.daemon.kill9()?;
    for interface in ["target1", "client"] {
        lab.balancer.ip(&format!("link set {interface} down\n"))?;
        lab.balancer.ip(&format!("link set {interface} up\n"))?;
        goes_on(&scene, &format!("{interface} was down")).await?;
    }
    scene.streams_end().await
}

/// Client and target on one machine beyond, with one address even.
#[tokio::test(flavor = "multi_thread")]
async fn behind_one_interface() -> Result<()> {
    one_armed("tc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_one_interface_by_xdp() -> Result<()> {
    one_armed("xdp").await
}

async fn one_armed(mode: &'static str) -> Result<()> {
    let lab = Lab::with(match mode {
        "xdp" => Offloads::Xdp,
        _ => Offloads::Full,
    })?;
    let target = (lab.client_address(), 8080).into();
    let config = Config {
        targets: vec![target],
        interfaces: vec!["client".into()],
        ..Config::new(&lab, mode)
    };
    let mut scene = Scene::set(&lab, &config).await?;
    scene.targets.listen(&lab.client, target, 4)?;
    open(&scene, Family::V4).await?;
    scene.daemon.kill9()?;
    goes_on(&scene, "the end of the daemon").await?;
    scene.streams_end().await
}

fn with_second_wire() -> Result<Lab> {
    let lab = Lab::new()?;
    let target = lab.targets[0].name();
    lab.balancer.ip(&SECOND_WIRE.replace("{target}", target))?;
    lab.targets[0].ip(ITS_END)?;
    Ok(lab)
}

/// A scene with two streams to target 1 in the kernel.
async fn streaming<'lab>(
    lab: &'lab Lab,
    family: Family,
    mode: &'static str,
    more: &[&str],
) -> Result<Scene<'lab>> {
    let mut config = Config::new(lab, mode);
    config.targets = match family {
        Family::V4 => vec![lab.target(1)],
        Family::V6 => vec![lab.target6(1)],
    };
    config
        .interfaces
        .extend(more.iter().map(|&name| name.into()));
    let scene = Scene::set(lab, &config).await?;
    open(&scene, family).await?;
    Ok(scene)
}

async fn open(scene: &Scene<'_>, family: Family) -> Result<()> {
    let client = match family {
        Family::V4 => Client::new(&scene.lab.client, scene.lab.front()),
        Family::V6 => Client::new(&scene.lab.client, scene.lab.front6()),
    };
    for id in 0..2 {
        scene.targets.notes.streams.open(&client, id).await?;
    }
    scene.settled_within(2, SETTLED).await.map(drop)
}

async fn goes_on(scene: &Scene<'_>, after: &str) -> Result<()> {
    let before = scene.targets.notes.streams.progress();
    let went = scene.streams_go_on(&before, BYTES).await;
    went.with_context(|| format!("after {after}"))
}

//! Proves that a connection in the kernel finds out what its path takes: a router's ICMP
//! reaches the end that must send less, and where the balancer's own interface is the
//! narrow place, the program says so itself. What was under way arrives all the same.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::{Client, WebSocket, ask};
use lb_tests::daemon::Config;
use lb_tests::lab::Lab;
use lb_tests::pattern::Pattern;
use lb_tests::router::Router;
use lb_tests::scene::Scene;
use tokio_tungstenite::tungstenite::Message;

/// Below every segment of a path of 1500 bytes, above IPv6's least.
const MTU: u32 = 1300;
/// Of each direction, behind the change: segments of all lengths.
const BYTES: u64 = 10_000;
/// Of one message, sent in whole GSO packets.
const MESSAGE: usize = 300_000;
/// Streams that never rest take a little longer to hand off.
const SETTLED: Duration = Duration::from_secs(30);
const DIRECTIONS: [&str; 2] = ["client_to_target", "target_to_client"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_tells_both_ends() -> Result<()> {
    routers(Family::V4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_tells_both_ends_over_ipv6() -> Result<()> {
    routers(Family::V6).await
}

async fn routers(family: Family) -> Result<()> {
    let lab = Lab::new()?;
    let routers = [Router::before(&lab, 0)?, Router::before(&lab, 1)?];
    // What the client sends is too long for the way to the target, and the reverse.
    discovered(
        &lab,
        family,
        "too_big",
        ["target_to_client", "client_to_target"],
        || routers.iter().try_for_each(|router| router.narrow(MTU)),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_balancers_own_interfaces() -> Result<()> {
    own_interfaces(Family::V4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_balancers_own_interfaces_over_ipv6() -> Result<()> {
    own_interfaces(Family::V6).await
}

async fn own_interfaces(family: Family) -> Result<()> {
    let lab = Lab::new()?;
    // The way to the target alone: narrow at both wires, the client would know itself.
    discovered(&lab, family, "narrow", ["client_to_target"], || {
        lab.mtu(1, MTU)
    })
    .await?;
    let lab = Lab::new()?;
    discovered(&lab, family, "narrow", ["target_to_client"], || {
        lab.mtu(0, MTU)
    })
    .await
}

/// Streams from the 101 on and a long message, while the path becomes narrow.
async fn discovered<const N: usize>(
    lab: &Lab,
    family: Family,
    outcome: &str,
    directions: [&str; N],
    narrow: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let (front, target) = match family {
        Family::V4 => (lab.front(), lab.target(1)),
        Family::V6 => (lab.front6(), lab.target6(1)),
    };
    let config = Config {
        targets: vec![target],
        ..Config::new(lab, "tc")
    };
    let scene = Scene::set(lab, &config).await?;
    let client = Client::new(&lab.client, front);
    let streams = &scene.targets.notes.streams;
    streams.open(&client, 0).await?;
    let (mut socket, _) = client.web_socket("/ws", None).await?;
    ask(&mut socket, "hello").await?;
    scene.settled_within(2, SETTLED).await?;
    for direction in DIRECTIONS {
        let early = scene.daemon.admin.packets(direction, outcome).await?;
        ensure!(early == 0, "{early} {outcome} before anything was narrow");
    }
    narrow()?;
    let before = streams.progress();
    echo(&mut socket).await.context("a long message")?;
    scene.streams_go_on(&before, BYTES).await?;
    for direction in directions {
        let told = scene.daemon.admin.packets(direction, outcome).await?;
        ensure!(told > 0, "no {outcome} {direction}");
    }
    let doubted = scene.daemon.admin.packets(directions[0], "doubted").await?;
    ensure!(doubted == 0, "{doubted} honest reports were doubted");
    scene.settled_within(2, SETTLED).await?;
    scene.streams_end().await
}

async fn echo(socket: &mut WebSocket) -> Result<()> {
    let bytes = Pattern::new(7).bytes(MESSAGE);
    let answer = ask(socket, Message::binary(bytes.clone())).await?;
    ensure!(answer.into_data() == bytes, "another message came back");
    Ok(())
}

//! Proves that sessions without a cookie go where the algorithm says, and that the
//! load of a target includes what the kernel carries, also after a restart.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::{WebSocket, who};
use lb_tests::daemon::Config;
use lb_tests::lab::Lab;
use lb_tests::scene::Scene;
use lb_tests::until::{until, when};

/// A connection that ends is noticed within seconds; a loaded machine takes its time.
const SOON: Duration = Duration::from_secs(30);

fn by(lab: &Lab, algorithm: &str) -> Config {
    let mut config = Config::new(lab, "auto");
    config.more.target_group = format!("algorithm = \"{algorithm}\"");
    config
}

/// Opens WebSockets without a cookie, and answers how many each target has got.
async fn open(
    scene: &Scene<'_>,
    sockets: &mut Vec<WebSocket>,
    count: usize,
) -> Result<BTreeMap<String, usize>> {
    let mut names = BTreeMap::new();
    for _ in 0..count {
        let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
        *names.entry(who(&mut socket).await?).or_default() += 1;
        sockets.push(socket);
    }
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_outstanding_counts_flows_of_before_the_restart() -> Result<()> {
    let lab = Lab::new()?;
    let mut config = by(&lab, "least_outstanding");
    let all = std::mem::replace(&mut config.targets, vec![lab.target(1)]);
    let mut scene = Scene::set(&lab, &config).await?;
    let mut sockets = Vec::new();
    open(&scene, &mut sockets, 6).await?;
    scene.settled(6).await?;
    scene.daemon.kill9()?;
    // The same daemon with more targets: target 1 has six connections in the kernel.
    config.targets = all;
    let daemon = lb_tests::daemon::Daemon::start(&lab, &config).await?;
    drop(std::mem::replace(&mut scene.daemon, daemon));
    scene.settled(6).await?;
    let names = open(&scene, &mut sockets, 8).await?;
    // One that is handed off in the moment of counting may count twice: not exactly four.
    let others = names.len() == 2 && names.values().all(|count| *count >= 3);
    ensure!(others && !names.contains_key("target-1"), "{names:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_keeps_its_target_without_any_cookie() -> Result<()> {
    let lab = Lab::new()?;
    let mut config = by(&lab, "source_hash");
    let mut scene = Scene::set(&lab, &config).await?;
    let first = scene.spread(6).await?;
    ensure!(first.len() == 1, "{first:?}");
    // Another balancer, its targets in another order.
    config.targets.reverse();
    scene.daemon.kill9()?;
    let daemon = lb_tests::daemon::Daemon::start(&lab, &config).await?;
    drop(std::mem::replace(&mut scene.daemon, daemon));
    let again = scene.spread(6).await?;
    ensure!(again == first, "{again:?} instead of {first:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_target_gets_no_more_until_one_has_left() -> Result<()> {
    let lab = Lab::new()?;
    let mut config = Config::new(&lab, "auto");
    config.targets.truncate(2);
    config.more.target_group = "max_connections_per_target = 2".to_owned();
    config.more.limits = "connect_timeout = \"3s\"".to_owned();
    let scene = Scene::set(&lab, &config).await?;
    let mut sockets = Vec::new();
    let names = open(&scene, &mut sockets, 4).await?;
    ensure!(names.values().all(|count| *count == 2), "{names:?}");
    // They count in the kernel too.
    scene.settled(4).await?;
    let refused = scene.client.get("/", None).await?;
    ensure!(refused.status == 503, "{refused:?}");
    let admin = &scene.daemon.admin;
    let timed_out = "limpet_queued_total{result=\"timed_out\",target_group=\"chat\"}";
    ensure!(admin.metric_of(timed_out).await? == 1.0);
    // One leaves: its target has room, the other has none.
    let mut socket = sockets.pop().context("a socket")?;
    let freed = who(&mut socket).await?;
    socket.close(None).await?;
    drop(socket);
    until("there is room again", SOON, async || {
        let answer = scene.client.get("/", None).await?;
        when(answer.status == 200 && answer.body == freed, || {
            format!("{answer:?}, not from {freed}")
        })
    })
    .await?;
    for _ in 0..3 {
        let answer = scene.client.get("/", None).await?;
        ensure!(answer.body == freed, "{answer:?}, not from {freed}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn chance_reaches_all() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, &by(&lab, "weighted_random")).await?;
    // That 120 requests miss one of three happens once in 10^21 runs.
    let counts = scene.spread(120).await?;
    ensure!(counts.len() == 3, "{counts:?}");
    Ok(())
}

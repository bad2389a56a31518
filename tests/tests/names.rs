//! Proves that targets follow a DNS name: an address that comes is a target, one that
//! leaves is drained; and that a restart while DNS is down loses nobody, be the target
//! leaving or not.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::who;
use lb_tests::daemon::Config;
use lb_tests::lab::{Lab, TARGET_PORT};
use lb_tests::name_server::NameServer;
use lb_tests::scene::Scene;
use lb_tests::until::{until, when};

/// Answers hold for a second; a busy machine takes its time.
const FOLLOWED: Duration = Duration::from_secs(30);
const NAME: &str = "chat.lab";
/// The balancer's own, as a resolver on the host would be.
const SERVER: ([u8; 4], u16) = ([127, 0, 0, 53], 53);

fn config(lab: &Lab) -> Config {
    let mut config = Config::new(lab, "auto");
    config.targets.clear();
    config.more.root = format!("resolver = [\"{}\"]", SocketAddr::from(SERVER));
    config.more.tables = format!("[[target_group.target]]\naddress = \"{NAME}:{TARGET_PORT}\"");
    config
}

fn start(lab: &Lab, numbers: &[usize]) -> Result<NameServer> {
    let server = NameServer::start(&lab.balancer, SERVER.into())?;
    server.set(NAME, &addresses(lab, numbers))?;
    Ok(server)
}

fn addresses(lab: &Lab, numbers: &[usize]) -> Vec<IpAddr> {
    let targets = numbers.iter().map(|number| lab.target(*number).ip());
    targets.collect()
}

/// Waits until the targets of a lab are in these states; those without one are none.
async fn are(scene: &Scene<'_>, expected: [Option<&str>; 3]) -> Result<()> {
    let expected = (1..).zip(expected).filter_map(|(number, state)| {
        let address = scene.lab.target(number).to_string();
        Some((address, state?.to_owned()))
    });
    let expected: BTreeSet<_> = expected.collect();
    until("the targets are those of the name", FOLLOWED, async || {
        let targets = scene.daemon.admin.targets().await?;
        let states = targets.iter();
        let states: BTreeSet<_> = states
            .map(|(address, (state, _))| (address.clone(), state.clone()))
            .collect();
        when(states == expected, || format!("{targets:?}"))
    })
    .await
}

/// New sessions go to targets 2 and 3, and nowhere else.
async fn new_sessions_go_to_two_and_three(scene: &Scene<'_>) -> Result<()> {
    let counts = scene.spread(8).await?;
    let who: Vec<&str> = counts.keys().map(String::as_str).collect();
    ensure!(who == ["target-2", "target-3"], "{counts:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_follow_a_name_and_outlast_dns_and_a_restart() -> Result<()> {
    let lab = Lab::new()?;
    let server = start(&lab, &[1])?;
    let mut scene = Scene::set(&lab, &config(&lab)).await?;
    let first = scene.client.get("/", None).await?;
    let cookie = first.cookie().context("no cookie")?;
    ensure!(first.body == "target-1", "{first:?}");
    let (mut socket, _) = scene.client.web_socket("/ws", Some(&cookie)).await?;
    scene.settled(1).await?;

    server.set(NAME, &addresses(&lab, &[2, 3]))?;
    let moved = [Some("draining"), Some("healthy"), Some("healthy")];
    are(&scene, moved).await?;
    new_sessions_go_to_two_and_three(&scene).await?;

    // The server is down, and the daemon crashes.
    server.stop().await;
    scene.daemon.kill9()?;
    scene.daemon.restart().await?;
    are(&scene, moved).await?;
    new_sessions_go_to_two_and_three(&scene).await?;
    // Who leaves keeps its sessions, by cookie and in the kernel.
    let kept = scene.client.get("/", Some(&cookie)).await?;
    ensure!(kept.body == "target-1", "moved to {}", kept.body);
    ensure!(who(&mut socket).await? == "target-1", "another target");

    // DNS is there again, and by what was kept the daemon knows who has left meanwhile.
    let server = start(&lab, &[1, 2])?;
    scene.daemon.kill9()?;
    scene.daemon.restart().await?;
    are(&scene, [Some("healthy"), Some("healthy"), Some("draining")]).await?;
    server.stop().await;

    // Half a file is none, and is not lost.
    scene.daemon.kill9()?;
    let file = lab.run().directory().join("state/answers.json");
    let whole = fs::read(&file)?;
    fs::write(&file, whole.get(..whole.len() / 2).context("empty")?)?;
    let _server = start(&lab, &[2])?;
    scene.daemon.restart().await?;
    are(&scene, [None, Some("healthy"), None]).await?;
    ensure!(
        scene.daemon.log().contains("answers.json.damaged-1"),
        "nothing was said of the damaged file"
    );
    Ok(())
}

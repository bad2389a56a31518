//! Proves that the kernel carries IPv6 as it carries IPv4, and that a connection
//! between the two families is relayed, with the reason shown.

use anyhow::{Context, Result, ensure};
use lb_tests::client::{Client, who};
use lb_tests::daemon::Config;
use lb_tests::lab::{Lab, Offloads};
use lb_tests::scene::Scene;
use lb_tests::until::{until, when};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn tc_carries_ipv6() -> Result<()> {
    carried("tc", Offloads::Full).await
}

#[tokio::test(flavor = "multi_thread")]
async fn xdp_carries_ipv6() -> Result<()> {
    carried("xdp", Offloads::Xdp).await
}

async fn carried(mode: &'static str, offloads: Offloads) -> Result<()> {
    let lab = Lab::with(offloads)?;
    let config = Config {
        targets: (1..=3).map(|number| lab.target6(number)).collect(),
        ..Config::new(&lab, mode)
    };
    let mut scene = Scene::set(&lab, &config).await?;
    let client = Client::new(&lab.client, lab.front6());
    let (mut socket, _) = client.web_socket("/ws", None).await?;
    let name = who(&mut socket).await?;
    let settled = scene.settled(1).await?.remove(0);
    ensure!(settled.client.starts_with('['), "{settled:?}");
    scene.no_sockets().await?;
    scene.daemon.kill9()?;
    for _ in 0..100 {
        ensure!(who(&mut socket).await? == name, "another target");
    }
    scene.daemon.restart().await?;
    let after = scene.settled(1).await?.remove(0);
    ensure!(after.packets_out > settled.packets_out, "{after:?}");
    socket.close(None).await?;
    drop(socket);
    scene.all_gone().await
}

#[tokio::test(flavor = "multi_thread")]
async fn between_the_families_it_is_relayed() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, &Config::new(&lab, "auto")).await?;
    let client = Client::new(&lab.client, lab.front6());
    let (mut socket, _) = client.web_socket("/ws", None).await?;
    let name = who(&mut socket).await?;
    until("the reason is shown", Duration::from_secs(10), async || {
        let all = scene.daemon.admin.connections().await?;
        let one = all.first().context("no connection is listed")?;
        when(one.reason.as_deref() == Some("family"), || {
            format!("{one:?}")
        })
    })
    .await?;
    ensure!(who(&mut socket).await? == name, "another target");
    Ok(())
}

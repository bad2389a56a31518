//! Proves that without a fast path everything works all the same, and that
//! `/v1/connections` says why a connection is not in the kernel. (Every
//! behaviour of a WebSocket in this mode is in upgrade.rs.)

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::admin::Connection;
use lb_tests::client::{ask, who};
use lb_tests::daemon::{Config, Privileges};
use lb_tests::lab::Lab;
use lb_tests::scene::{Scene, play};
use lb_tests::until::{until, when};

#[tokio::test(flavor = "multi_thread")]
async fn switched_off() -> Result<()> {
    play("off", same_answers).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_capability() -> Result<()> {
    let lab = Lab::new()?;
    lab.balancer
        .sysctl("net/ipv4/ip_unprivileged_port_start", "0")?;
    let config = Config {
        privileges: Privileges::None,
        ..Config::new(&lab, "auto")
    };
    let mut scene = Scene::set(&lab, &config).await?;
    same_answers(&mut scene).await
}

async fn same_answers(scene: &mut Scene<'_>) -> Result<()> {
    let first = scene.client.get("/", None).await?;
    let cookie = first.cookie().context("no cookie")?;
    let (mut socket, _) = scene.client.web_socket("/ws", Some(&cookie)).await?;
    ensure!(
        who(&mut socket).await? == first.body,
        "not on {}",
        first.body
    );
    for number in 0..100 {
        let text = format!("message {number}");
        ensure!(
            ask(&mut socket, text.as_str()).await?.to_text()? == text,
            "not {text}"
        );
    }
    let connections = scene.daemon.admin.connections().await?;
    ensure!(connections.len() == 1, "{connections:?}");
    ensure!(connections[0].path == "userspace", "{connections:?}");
    ensure!(
        connections[0].reason.as_deref() == Some("off"),
        "{connections:?}"
    );
    socket.close(None).await?;
    drop(socket);
    scene.all_gone().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_table() -> Result<()> {
    let lab = Lab::new()?;
    let config = Config {
        max_flows: 1,
        ..Config::new(&lab, "auto")
    };
    let scene = Scene::set(&lab, &config).await?;
    let (mut first, _) = scene.client.web_socket("/ws", None).await?;
    who(&mut first).await?;
    scene.settled(1).await?;
    let (mut second, _) = scene.client.web_socket("/ws", None).await?;
    who(&mut second).await?;
    until(
        "the reason is the table",
        Duration::from_secs(10),
        async || {
            let connections = scene.daemon.admin.connections().await?;
            let full = |one: &Connection| one.reason.as_deref() == Some("table_full");
            when(connections.iter().any(full), || format!("{connections:?}"))
        },
    )
    .await?;
    who(&mut first).await?;
    who(&mut second).await?;
    Ok(())
}

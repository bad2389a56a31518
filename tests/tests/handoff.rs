//! Proves the handoff: the kernel carries the connection, no socket of it is
//! left, nothing the daemon suffers disturbs it, and its end removes it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::{WebSocket, ask, who};
use lb_tests::daemon::{Config, config_file, limpet};
use lb_tests::lab::Lab;
use lb_tests::scene::{Scene, play};
use lb_tests::until::patient;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

/// Enough to notice a flow that limps on one retransmission after another.
const MESSAGES: usize = 200;
const MESSAGES_TAKE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn tc_outlives_kill_9() -> Result<()> {
    play("tc", outlives_kill_9).await
}

#[tokio::test(flavor = "multi_thread")]
async fn xdp_outlives_kill_9() -> Result<()> {
    play("xdp", outlives_kill_9).await
}

#[tokio::test(flavor = "multi_thread")]
async fn auto_finds_a_way() -> Result<()> {
    play("auto", outlives_kill_9).await
}

async fn outlives_kill_9(scene: &mut Scene<'_>) -> Result<()> {
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    let name = who(&mut socket).await?;
    let before = scene.settled(1).await?.remove(0);
    scene.no_sockets().await?;
    for name in [
        "limpet_flows",
        "limpet_flow_table_entries",
        "limpet_source_ports_used",
    ] {
        let value = scene.daemon.admin.metric(name).await?;
        ensure!(value == 1.0, "{name} is {value}");
    }
    chat(&mut socket).await.context("carried by the kernel")?;

    scene.daemon.kill9()?;
    chat(&mut socket).await.context("after kill -9")?;

    scene.daemon.restart().await?;
    let after = scene.settled(1).await?.remove(0);
    ensure!(
        after.id == before.id,
        "adopted as another: {before:?} {after:?}"
    );
    ensure!(
        after.target == before.target && after.client == before.client,
        "{after:?}"
    );
    ensure!(
        after.bytes_in > before.bytes_in && after.packets_out > before.packets_out,
        "{after:?}"
    );
    chat(&mut socket).await.context("after the restart")?;
    ensure!(who(&mut socket).await? == name, "another target");

    socket.close(None).await?;
    drop(socket);
    scene.all_gone().await
}

#[tokio::test(flavor = "multi_thread")]
async fn term_leaves_flows_running() -> Result<()> {
    play("auto", async |scene| {
        let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
        who(&mut socket).await?;
        let before = scene.settled(1).await?.remove(0);
        let status = scene.daemon.terminate().await?;
        ensure!(status.success(), "{status}");
        chat(&mut socket).await.context("after TERM")?;
        scene.daemon.restart().await?;
        let after = scene.settled(1).await?.remove(0);
        ensure!(
            after.id == before.id,
            "adopted as another: {before:?} {after:?}"
        );
        chat(&mut socket).await.context("after the restart")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_without_the_daemon_is_gone_after_its_restart() -> Result<()> {
    play("auto", async |scene| {
        let (mut closed, _) = scene.client.web_socket("/ws", None).await?;
        let (mut alive, _) = scene.client.web_socket("/ws", None).await?;
        scene.settled(2).await?;
        scene.daemon.kill9()?;
        closed.close(None).await?;
        drop(closed);
        chat(&mut alive).await?;
        scene.daemon.restart().await?;
        scene.settled(1).await?;
        alive.close(None).await?;
        drop(alive);
        scene.all_gone().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_flow_is_reset_at_both_ends() -> Result<()> {
    idle("auto").await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_relay_is_ended_too() -> Result<()> {
    idle("off").await
}

async fn idle(mode: &'static str) -> Result<()> {
    let lab = Lab::new()?;
    let config = Config {
        idle_timeout: "2s",
        ..Config::new(&lab, mode)
    };
    let scene = Scene::set(&lab, &config).await?;
    let (socket, _) = scene.client.web_socket("/ws", None).await?;
    scene.settled(1).await?;
    let mut stream = socket.into_inner();
    let end = timeout(Duration::from_secs(15), stream.read(&mut [0; 16]))
        .await
        .context("an idle connection lives on")?;
    if mode != "off" {
        ensure!(
            end.as_ref()
                .is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
            "{end:?}"
        );
    }
    scene.target_saw("the end", |_| true).await?;
    scene.all_gone().await
}

#[tokio::test(flavor = "multi_thread")]
async fn detach_refuses_while_flows_live() -> Result<()> {
    play("auto", async |scene| {
        let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
        scene.settled(1).await?;
        scene.daemon.kill9()?;
        let file = config_file(scene.lab);
        let arguments = ["detach", "--config", file.to_str().context("a path")?];
        let refused = limpet(scene.lab, &arguments)?;
        ensure!(refused.status.code() == Some(1), "{refused:?}");
        chat(&mut socket).await.context("after a refused detach")?;
        let forced = limpet(scene.lab, &[&arguments[..], &["--force"]].concat())?;
        ensure!(forced.status.success(), "{forced:?}");
        ensure!(
            ask(&mut socket, "anyone there?").await.is_err(),
            "it lives on"
        );
        let pins = scene.lab.run().pin_dir();
        ensure!(!pins.exists(), "left: {:?}", entries(&pins));
        for name in scene.lab.interfaces() {
            for side in ["ingress", "egress"] {
                let show = ["filter", "show", "dev", &name, side];
                let filters = scene.lab.balancer.output(Command::new("tc").args(show))?;
                ensure!(filters.trim().is_empty(), "{name} {side}: {filters}");
            }
        }
        let again = limpet(scene.lab, &arguments)?;
        ensure!(again.status.success(), "nothing to remove: {again:?}");
        ensure!(!pins.exists(), "made again: {:?}", entries(&pins));
        Ok(())
    })
    .await
}

/// Everything under a directory, for whoever reads the failure.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            all.extend(entries(&entry.path()));
        }
        all.push(entry.path());
    }
    all
}

async fn chat(socket: &mut WebSocket) -> Result<()> {
    let all = async {
        for number in 0..MESSAGES {
            let text = format!("message {number}");
            ensure!(
                ask(socket, text.as_str()).await?.to_text()? == text,
                "not {text}"
            );
        }
        Ok(())
    };
    timeout(patient(MESSAGES_TAKE), all)
        .await
        .context("too slow")?
}

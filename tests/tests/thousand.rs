//! Proves that a thousand connections are handed off while both ends talk, with
//! no byte lost, doubled, swapped or late, also on a path that loses packets;
//! and that the daemon's death and return, and their end, go as quietly.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::Client;
use lb_tests::daemon::Config;
use lb_tests::lab::{Lab, Offloads};
use lb_tests::raw::Streams;
use lb_tests::scene::Scene;
use lb_tests::until::{until, when};
use tokio::sync::Mutex;

const CONNECTIONS: usize = 1_000;
/// How many handshakes are underway at once.
const AT_ONCE: usize = 50;
const HANDED_OFF: Duration = Duration::from_secs(60);
/// Every direction of every connection must move this far in each phase.
const FURTHER: u64 = 5_000;
const FURTHER_TAKES: Duration = Duration::from_secs(60);
/// The longest a byte may be underway: a few retransmissions where packets get
/// lost, not a connection that hangs.
const LATE: Duration = Duration::from_secs(10);

/// Two thousand streams are all two cores can do: one test at a time.
static MACHINE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn over_tc() -> Result<()> {
    thousand("tc", 0.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tc_with_loss() -> Result<()> {
    thousand("tc", 1.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_xdp() -> Result<()> {
    thousand("xdp", 0.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_xdp_with_loss() -> Result<()> {
    thousand("xdp", 1.0).await
}

async fn thousand(mode: &'static str, loss: f64) -> Result<()> {
    let _turn = MACHINE.lock().await;
    let lab = Lab::with(if mode == "xdp" {
        Offloads::Xdp
    } else {
        Offloads::Full
    })?;
    let mut scene = Scene::set(&lab, &Config::new(&lab, mode)).await?;
    if loss > 0.0 {
        lab.drop_percent(loss)?;
    }
    let streams = scene.targets.notes.streams.clone();
    open_all(&scene.client, &streams).await?;

    scene.settled_within(CONNECTIONS, HANDED_OFF).await?;
    streams.check().context("during the handoff")?;
    scene.no_sockets().await?;
    go_on(&streams).await.context("carried by the kernel")?;

    scene.daemon.kill9()?;
    go_on(&streams).await.context("after kill -9")?;

    scene.daemon.restart().await?;
    scene
        .settled(CONNECTIONS)
        .await
        .context("after the restart")?;
    go_on(&streams).await.context("after the restart")?;

    streams.stop();
    until("every stream ends", FURTHER_TAKES, async || {
        streams.check()?;
        when(streams.all_ended(), || "some go on".to_owned())
    })
    .await?;
    let totals = streams.check_complete()?;
    println!("{mode}, loss {loss} %: {totals:?}");
    ensure!(
        totals.slowest < LATE,
        "a byte was underway for {:?}",
        totals.slowest
    );
    scene.all_gone().await
}

async fn open_all(client: &Client<'_>, streams: &std::sync::Arc<Streams>) -> Result<()> {
    for first in (0..CONNECTIONS).step_by(AT_ONCE) {
        let batch = (first..first + AT_ONCE).map(|id| streams.open(client, id));
        futures_util::future::try_join_all(batch).await?;
    }
    Ok(())
}

async fn go_on(streams: &Streams) -> Result<()> {
    let before = streams.progress();
    streams.go_further(&before, FURTHER, FURTHER_TAKES).await
}

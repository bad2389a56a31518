//! Proves that connections whose streams never pause are handed off all the same,
//! whichever way the streams go, with every byte in its place, also on a path that
//! loses packets; and that they outlive the daemon.

use std::time::Duration;

use anyhow::{Context, Result};
use lb_tests::daemon::Config;
use lb_tests::lab::{Lab, Offloads};
use lb_tests::raw::{FLOOD, Pace, SILENCE, Streams};
use lb_tests::scene::Scene;
use lb_tests::until::{until, when};
use tokio::sync::Mutex;

/// One connection of each kind: up, down.
const KINDS: [[Pace; 2]; 3] = [[FLOOD, SILENCE], [SILENCE, FLOOD], [FLOOD, FLOOD]];
/// A hold that packet loss has spoilt is tried again after a second, then two.
const HANDED_OFF: Duration = Duration::from_secs(120);
/// Every stream must move this far in each phase.
const FURTHER: u64 = 2_000_000;
const FURTHER_TAKES: Duration = Duration::from_secs(60);

/// A flood takes all two cores can do: one test at a time.
static MACHINE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn over_tc() -> Result<()> {
    flood("tc", 0.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tc_with_loss() -> Result<()> {
    flood("tc", 1.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_xdp() -> Result<()> {
    flood("xdp", 0.0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_xdp_with_loss() -> Result<()> {
    flood("xdp", 1.0).await
}

async fn flood(mode: &'static str, loss: f64) -> Result<()> {
    let _turn = MACHINE.lock().await;
    let lab = Lab::with(match mode {
        "xdp" => Offloads::Xdp,
        _ => Offloads::Full,
    })?;
    let mut scene = Scene::set(&lab, &Config::new(&lab, mode)).await?;
    if loss > 0.0 {
        lab.drop_percent(loss)?;
    }
    let streams = scene.targets.notes.streams.clone();
    for (id, paces) in KINDS.into_iter().enumerate() {
        streams.open_at(&scene.client, id, paces).await?;
    }
    scene.settled_within(KINDS.len(), HANDED_OFF).await?;
    let handed_off = streams.check().context("during the handoff")?;
    report(&scene, mode, loss, handed_off.stall).await?;
    scene.no_sockets().await?;
    go_on(&streams).await.context("carried by the kernel")?;

    scene.daemon.kill9()?;
    go_on(&streams).await.context("after kill -9")?;

    scene.daemon.restart().await?;
    scene.settled(KINDS.len()).await?;
    streams.stop();
    until("every stream ends", FURTHER_TAKES, async || {
        streams.check()?;
        when(streams.all_ended(), || "some go on".to_owned())
    })
    .await?;
    println!("{mode}, loss {loss} %: {:?}", streams.check_complete()?);
    scene.all_gone().await
}

/// Figures for the reader; how fast it must be is the benchmark's business.
async fn report(scene: &Scene<'_>, mode: &str, loss: f64, stall: Duration) -> Result<()> {
    let mut of = Vec::new();
    for name in ["handoff_duration", "handoff_hold"] {
        for part in ["sum", "count"] {
            let name = format!("limpet_{name}_seconds_{part}");
            of.push((part, scene.daemon.admin.metric(&name).await?));
        }
    }
    println!(
        "{mode}, loss {loss} %: to the kernel {:?}, held {:?}, longest stall {stall:?}",
        &of[..2],
        &of[2..]
    );
    Ok(())
}

async fn go_on(streams: &Streams) -> Result<()> {
    let before = streams.progress();
    streams.go_further(&before, FURTHER, FURTHER_TAKES).await
}

//! Proves that clients far away are handed off like others: idle ones as soon as they
//! have acknowledged the 101, without a hold; streams that never pause are held where
//! that can end in time, and else not delayed in vain.

use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::daemon::Config;
use lb_tests::distance::Distance;
use lb_tests::lab::Lab;
use lb_tests::raw::{FLOOD, Pace, SILENCE};
use lb_tests::scene::Scene;
use lb_tests::until::{until, when};

const HOLDS: &str = "limpet_handoff_hold_seconds_count";
/// On a machine that does much else.
const SOON: Duration = Duration::from_secs(30);
/// What a stream goes on by, in bytes.
const FURTHER: u64 = 500_000;

/// Of a target that says more than the way to the client carries: there is always
/// something that is not acknowledged, so nothing but a hold makes a quiet moment.
const DOWN: [Pace; 2] = [SILENCE, FLOOD];

/// Three round trips are longer than streams are held at most.
#[tokio::test(flavor = "multi_thread")]
async fn too_far_for_a_hold() -> Result<()> {
    let lab = Lab::new()?;
    let _distance = Distance::to(&lab, 0, Duration::from_millis(40))?;
    let scene = Scene::set(&lab, &Config::new(&lab, "auto")).await?;
    let idle = scene.client.raw("/ws", None).await?;
    scene.settled(1).await?;
    let streams = &scene.targets.notes.streams;
    streams.open_at(&scene.client, 0, DOWN).await?;
    until("the stream is busy", SOON, async || {
        let connections = scene.daemon.admin.connections().await?;
        let busy = |reason: &Option<String>| reason.as_deref() == Some("busy");
        let is = connections.iter().any(|one| busy(&one.reason));
        when(is, || format!("{connections:?}"))
    })
    .await?;
    streams
        .go_further(&streams.progress(), FURTHER, SOON)
        .await?;
    let holds = scene.daemon.admin.metric(HOLDS).await?;
    ensure!(holds == 0.0, "{holds} holds");
    drop(idle);
    scene.streams_end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn near_enough_for_one() -> Result<()> {
    let lab = Lab::new()?;
    let _distance = Distance::to(&lab, 0, Duration::from_millis(10))?;
    let scene = Scene::set(&lab, &Config::new(&lab, "auto")).await?;
    let streams = &scene.targets.notes.streams;
    streams.open_at(&scene.client, 0, DOWN).await?;
    scene.settled_within(1, SOON).await?;
    let holds = scene.daemon.admin.metric(HOLDS).await?;
    ensure!(holds > 0.0, "there was a quiet moment");
    streams
        .go_further(&streams.progress(), FURTHER, SOON)
        .await?;
    scene.streams_end().await
}

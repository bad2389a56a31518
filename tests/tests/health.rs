//! Proves that a target that is not well gets no requests, that its clients move
//! once and stay moved, and that the balancer never makes a bad day worse.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use lb_tests::client::who;
use lb_tests::daemon::Config;
use lb_tests::lab::Lab;
use lb_tests::scene::Scene;
use lb_tests::target::Mood;
use lb_tests::until::{until, when};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn checked(lab: &Lab, check: &str) -> Config {
    let mut config = Config::new(lab, "auto");
    config.more.target_group = format!("health_check = {{ {check} }}");
    config
}

/// Quick, and quick to forgive.
const QUICK: &str = r#"path = "/health", interval = "200ms", healthy_threshold = 2"#;

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_sick_target_move_and_stay_moved() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, &checked(&lab, QUICK)).await?;
    let notes = &scene.targets.notes;
    let first = scene.client.get("/", None).await?;
    let cookie = first.cookie().context("no cookie")?;
    let sick: usize = first.body.trim_start_matches("target-").parse()?;
    let (mut socket, _) = scene.client.web_socket("/ws", Some(&cookie)).await?;
    scene.settled(1).await?;

    notes.set_mood(sick, Mood::Sick);
    let reason = scene.target_becomes(sick, "unhealthy").await?;
    ensure!(reason.contains("503"), "{reason}");
    ensure!(scene.daemon.admin.metric("limpet_target_healthy").await? == 2.0);
    let counts = scene.spread(12).await?;
    ensure!(!counts.contains_key(&first.body), "{counts:?}");
    let moved = scene.client.get("/", Some(&cookie)).await?;
    ensure!(moved.status == 200 && moved.body != first.body, "{moved:?}");
    let fresh = moved.cookie().context("no fresh cookie")?;
    // A failed check alone ends no established connection.
    ensure!(who(&mut socket).await? == first.body, "another target");

    notes.set_mood(sick, Mood::Well);
    scene.target_becomes(sick, "healthy").await?;
    let counts = scene.spread(12).await?;
    ensure!(counts.len() == 3, "{counts:?}");
    for _ in 0..6 {
        let answer = scene.client.get("/", Some(&fresh)).await?;
        ensure!(answer.body == moved.body, "back on {}", answer.body);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_are_sick_all_get_requests() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, &checked(&lab, QUICK)).await?;
    let cookie = scene.client.get("/", None).await?;
    for number in 1..=3 {
        scene.targets.notes.set_mood(number, Mood::Sick);
    }
    for number in 1..=3 {
        scene.target_becomes(number, "unhealthy").await?;
    }
    let counts = scene.spread(12).await?;
    ensure!(counts.len() == 3, "{counts:?}");
    // And nobody moves: the others are no better.
    let held = cookie.cookie().context("no cookie")?;
    let answer = scene.client.get("/", Some(&held)).await?;
    ensure!(answer.body == cookie.body, "moved to {}", answer.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_clients_is_ejected_between_two_checks() -> Result<()> {
    let lab = Lab::new()?;
    let mut scene = Scene::set(&lab, &checked(&lab, r#"interval = "5m""#)).await?;
    scene.targets.stop_one(1).await;
    let address = lab.target(1).to_string();
    until("it is ejected", PATIENCE, async || {
        // No client sees anything of it.
        let answer = scene.client.get("/", None).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let targets = scene.daemon.admin.targets().await?;
        let (state, reason) = targets.get(&address).context("no target")?;
        when(state == "unhealthy" && reason.contains("refused"), || {
            format!("{targets:?}")
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_came_late_is_found() -> Result<()> {
    let lab = Lab::new()?;
    let config = checked(&lab, QUICK);
    let mut scene = Scene::set(&lab, &config).await?;
    scene.targets.stop_one(2).await;
    let reason = scene.target_becomes(2, "unhealthy").await?;
    ensure!(reason.contains("refused"), "{reason}");
    scene.targets.start_one(&lab, 2)?;
    scene.target_becomes(2, "healthy").await?;
    let counts = scene.spread(12).await?;
    let expected = (1..=3).map(|number| (format!("target-{number}"), 4));
    ensure!(counts == BTreeMap::from_iter(expected), "{counts:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_of_silent_targets_do_not_pile_up() -> Result<()> {
    let lab = Lab::new()?;
    let check = r#"path = "/health", interval = "100ms", timeout = "500ms""#;
    let scene = Scene::set(&lab, &checked(&lab, check)).await?;
    for number in 1..=3 {
        scene.targets.notes.set_mood(number, Mood::Silent);
    }
    for number in 1..=3 {
        let reason = scene.target_becomes(number, "unhealthy").await?;
        ensure!(reason.contains("no answer within 500ms"), "{reason}");
    }
    let most = scene.targets.notes.most_checks_at_a_time();
    // A check that was given up on may not be known as such to its target yet.
    ensure!(most <= 6, "{most} checks of three targets at a time");
    ensure!(scene.spread(6).await?.len() == 3, "not served");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn web_socket_and_tcp_checks() -> Result<()> {
    for check in [
        r#"protocol = "websocket", path = "/ws", interval = "500ms""#,
        r#"protocol = "tcp", interval = "500ms""#,
    ] {
        let lab = Lab::new()?;
        let scene = Scene::set(&lab, &checked(&lab, check)).await?;
        for number in 1..=3 {
            scene.target_becomes(number, "healthy").await?;
        }
    }
    let lab = Lab::new()?;
    let check = r#"protocol = "websocket", path = "/refuse", interval = "100ms""#;
    let scene = Scene::set(&lab, &checked(&lab, check)).await?;
    let reason = scene.target_becomes(1, "unhealthy").await?;
    ensure!(reason.contains("403"), "{reason}");
    Ok(())
}

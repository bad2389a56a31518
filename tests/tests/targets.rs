//! Proves that targets can be changed while the daemon runs: registered, weighed,
//! drained and deregistered, by the API and by the command line, and that a restart
//! forgets nothing of it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::{ask, receive, who};
use lb_tests::daemon::{Config, limpet};
use lb_tests::lab::Lab;
use lb_tests::scene::Scene;
use lb_tests::until::{until, when};

const PATIENCE: Duration = Duration::from_secs(20);

/// Two of the three targets are in the file.
fn two(lab: &Lab, delay: &str) -> Config {
    let mut config = Config::new(lab, "auto");
    config.targets.pop();
    config.more.target_group = format!("deregistration_delay = \"{delay}\"");
    config
}

/// Runs a verb and expects it to succeed.
fn tell(lab: &Lab, arguments: &[&str]) -> Result<String> {
    let Output {
        status,
        stdout,
        stderr,
    } = limpet(lab, arguments)?;
    ensure!(
        status.success(),
        "{arguments:?}: {status} {}",
        String::from_utf8_lossy(&stderr)
    );
    Ok(String::from_utf8(stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_was_told_holds_after_kill_9() -> Result<()> {
    let lab = Lab::new()?;
    let mut scene = Scene::set(&lab, &two(&lab, "300s")).await?;
    let [one, two, three] = [1, 2, 3].map(|number| lab.target(number).to_string());
    tell(&lab, &["register", "chat", &three, "--weight", "2"])?;
    tell(&lab, &["weight", "chat", &two, "0"])?;
    tell(&lab, &["drain", "chat", &one])?;
    for _ in 0..2 {
        let states = scene.daemon.admin.targets().await?;
        ensure!(states.len() == 3, "{states:?}");
        ensure!(states[&one].0 == "draining", "{states:?}");
        ensure!(states[&two].0 == "unused", "{states:?}");
        let counts = scene.spread(12).await?;
        ensure!(
            counts == BTreeMap::from([("target-3".into(), 12)]),
            "{counts:?}"
        );
        scene.daemon.kill9()?;
        scene.daemon.restart().await?;
    }
    tell(&lab, &["ready", "chat", &one])?;
    tell(&lab, &["weight", "chat", &two, "1"])?;
    let counts = scene.spread(12).await?;
    let expected = [("target-1", 3), ("target-2", 3), ("target-3", 6)];
    let expected = expected.map(|(name, count)| (name.to_owned(), count));
    ensure!(counts == BTreeMap::from(expected), "{counts:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_target_keeps_its_clients_and_gets_no_others() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, &two(&lab, "300s")).await?;
    let first = scene.client.get("/", None).await?;
    let cookie = first.cookie().context("no cookie")?;
    let (mut socket, _) = scene.client.web_socket("/ws", Some(&cookie)).await?;
    scene.settled(1).await?;
    let number = first.body.trim_start_matches("target-").parse()?;
    let address = lab.target(number).to_string();
    tell(&lab, &["drain", "chat", &address])?;
    let counts = scene.spread(12).await?;
    ensure!(!counts.contains_key(&first.body), "{counts:?}");
    let again = scene.client.get("/", Some(&cookie)).await?;
    ensure!(again.body == first.body, "moved to {}", again.body);
    ensure!(who(&mut socket).await? == first.body, "another target");
    let listed = tell(&lab, &["targets"])?;
    let line = listed.lines().find(|line| line.contains(&address));
    let line = line.with_context(|| listed.clone())?;
    ensure!(line.contains("draining") && line.contains(" 1 "), "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cookie_holders_can_be_moved_while_draining() -> Result<()> {
    let lab = Lab::new()?;
    let mut config = two(&lab, "300s");
    config.more.stickiness = "while_draining = \"move\"".to_owned();
    let scene = Scene::set(&lab, &config).await?;
    let first = scene.client.get("/", None).await?;
    let cookie = first.cookie().context("no cookie")?;
    let number = first.body.trim_start_matches("target-").parse()?;
    tell(&lab, &["drain", "chat", &lab.target(number).to_string()])?;
    let moved = scene.client.get("/", Some(&cookie)).await?;
    ensure!(moved.body != first.body, "still on {}", moved.body);
    let fresh = moved.cookie().context("no fresh cookie")?;
    // Once moved, moved: the old target's return changes nothing.
    tell(&lab, &["ready", "chat", &lab.target(number).to_string()])?;
    for _ in 0..6 {
        let answer = scene.client.get("/", Some(&fresh)).await?;
        ensure!(answer.body == moved.body, "back on {}", answer.body);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deregistered_target_leaves() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, &two(&lab, "1s")).await?;
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    ask(&mut socket, "hello").await?;
    let address = lab.target(1).to_string();
    tell(&lab, &["deregister", "chat", &address, "--wait"])?;
    until("it has left", PATIENCE, async || {
        let states = scene.daemon.admin.targets().await?;
        when(!states.contains_key(&address), || format!("{states:?}"))
    })
    .await?;
    let counts = scene.spread(12).await?;
    ensure!(
        counts == BTreeMap::from([("target-2".into(), 12)]),
        "{counts:?}"
    );
    let unknown = limpet(&lab, &["ready", "chat", &address])?;
    ensure!(unknown.status.code() == Some(1), "{unknown:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_file_is_set_aside_and_said() -> Result<()> {
    let lab = Lab::new()?;
    let mut scene = Scene::set(&lab, &two(&lab, "300s")).await?;
    tell(&lab, &["register", "chat", &lab.target(3).to_string()])?;
    let file = lab.run().directory().join("state/targets.json");
    let whole = fs::read(&file)?;
    scene.daemon.kill9()?;
    fs::write(&file, &whole[..whole.len() / 2])?;
    scene.daemon.restart().await?;
    ensure!(
        scene.daemon.admin.targets().await?.len() == 2,
        "half a file was believed"
    );
    ensure!(
        scene.daemon.log().contains("targets.json.damaged-1"),
        "nothing was said of the damaged file"
    );
    let aside = lab.run().directory().join("state/targets.json.damaged-1");
    ensure!(
        fs::read(aside)? == whole[..whole.len() / 2],
        "not kept as it was"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_orders_change_nothing_and_say_why() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, &two(&lab, "300s")).await?;
    let before = scene.daemon.admin.targets().await?;
    let three = lab.target(3).to_string();
    for (arguments, status, word) in [
        (["drain", "chat", &three].as_slice(), 1, "not a target"),
        (&["ready", "nobody", &three], 1, "nothing here"),
        (
            &["register", "chat", "0.0.0.0:80"],
            1,
            "cannot be connected",
        ),
        (
            &["weight", "chat", &lab.target(1).to_string(), "1000"],
            1,
            "999",
        ),
        (&["register", "chat", "somewhere"], 2, "somewhere"),
        (
            &["drain", "chat", &three, "--admin", "http://127.0.0.1:1"],
            3,
            "reached",
        ),
    ] {
        let done = limpet(&lab, arguments)?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(
            done.status.code() == Some(status),
            "{arguments:?}: {done:?}"
        );
        ensure!(said.contains(word), "{arguments:?}: {said}");
    }
    ensure!(
        scene.daemon.admin.targets().await? == before,
        "something changed"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_deadline_what_is_left_is_ended_spread_over_the_window() -> Result<()> {
    const EACH: usize = 10;
    let lab = Lab::new()?;
    let mut config = Config::new(&lab, "auto");
    config.more.target_group = "deregistration_delay = \"5s\"".to_owned();
    config.more.root = "end_window = \"2s\"".to_owned();
    let scene = Scene::set(&lab, &config).await?;
    let cookie = cookie_of_target(&scene, "target-1").await?;
    let mut sockets = Vec::new();
    for _ in 0..EACH {
        let (socket, _) = scene.client.web_socket("/ws", Some(&cookie)).await?;
        sockets.push(socket);
    }
    let (mut other, _) = scene
        .client
        .web_socket("/ws", Some(&cookie_of_target(&scene, "target-2").await?))
        .await?;
    scene.settled(EACH + 1).await?;
    let address = lab.target(1).to_string();
    let admin = &scene.daemon.admin;
    tell(&lab, &["drain", "chat", &address])?;
    let left = admin.metric("limpet_drain_remaining_connections").await?;
    ensure!(left == EACH as f64, "{left} remain");
    // The command returns when the last of them is gone.
    tell(&lab, &["drain", "chat", &address, "--wait"])?;
    for socket in &mut sockets {
        let end = receive(socket).await;
        ensure!(end.is_err(), "{end:?} instead of an end");
    }
    until("all are booked", PATIENCE, async || {
        let log = scene.daemon.log();
        let booked = log.matches("cause=\"drained\"").count();
        when(booked == EACH, || format!("{booked} are"))
    })
    .await?;
    ensure!(who(&mut other).await? == "target-2", "another target");
    // Past the deadline nobody is kept: a client that comes back is not ended again.
    let back = scene.client.get("/", Some(&cookie)).await?;
    ensure!(
        back.body != "target-1" && back.cookie().is_some(),
        "{back:?}"
    );
    ensure!(admin.targets().await?[&address].0 == "draining");
    Ok(())
}

/// A cookie of the target of this name.
async fn cookie_of_target(scene: &Scene<'_>, name: &str) -> Result<String> {
    for _ in 0..12 {
        let answer = scene.client.get("/", None).await?;
        if answer.body == name {
            return answer.cookie().context("no cookie");
        }
    }
    anyhow::bail!("{name} never answers")
}

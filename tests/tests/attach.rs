//! Proves that the programs stay where they are needed: past the daemon's replacement,
//! on interfaces that come, go and come again, beside programs of others, in a VLAN.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::{WebSocket, ask, who};
use lb_tests::daemon::{Config, limpet};
use lb_tests::lab::{Lab, Offloads};
use lb_tests::raw::Streams;
use lb_tests::scene::{Scene, play};
use lb_tests::until::{until, when};
use serde_json::Value;

/// The daemon looks every second.
const NOTICED: Duration = Duration::from_secs(20);
const STREAMS: usize = 5;
/// Every direction of every stream must move this far in each phase, in bytes.
const FURTHER: u64 = 5_000;
const FURTHER_TAKES: Duration = Duration::from_secs(60);

/// The newer daemon replaces the programs under streams that are checked byte by byte.
#[tokio::test(flavor = "multi_thread")]
async fn streams_go_on_while_the_daemon_is_replaced() -> Result<()> {
    play("tc", async |scene| {
        let streams = scene.targets.notes.streams.clone();
        for id in 0..STREAMS {
            streams.open(&scene.client, id).await?;
        }
        scene.settled(STREAMS).await?;
        go_on(&streams).await.context("carried by the kernel")?;
        ensure!(scene.daemon.terminate().await?.success());
        scene.daemon.restart().await?;
        scene.settled(STREAMS).await?;
        go_on(&streams).await.context("under the new daemon")?;
        streams.stop();
        until("every stream ends", FURTHER_TAKES, async || {
            streams.check()?;
            when(streams.all_ended(), || "some go on".to_owned())
        })
        .await?;
        streams.check_complete()?;
        scene.all_gone().await
    })
    .await
}

async fn go_on(streams: &Streams) -> Result<()> {
    let before = streams.progress();
    streams.go_further(&before, FURTHER, FURTHER_TAKES).await
}

/// Who unpins a link detaches its program.
#[tokio::test(flavor = "multi_thread")]
async fn programs_that_somebody_detached_come_back() -> Result<()> {
    play("auto", async |scene| {
        let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
        who(&mut socket).await?;
        scene.settled(1).await?;
        for version in fs::read_dir(scene.lab.run().pin_dir())? {
            for pin in fs::read_dir(version?.path())? {
                let pin = pin?;
                if pin.file_name().to_string_lossy().starts_with("tc-") {
                    fs::remove_file(pin.path())?;
                }
            }
        }
        for interface in scene.lab.interfaces() {
            reason(
                scene,
                &interface,
                "attached again: somebody had detached it",
            )
            .await?;
        }
        chat(&mut socket).await?;
        let (mut other, _) = scene.client.web_socket("/ws", None).await?;
        who(&mut other).await?;
        scene.settled(2).await?;
        Ok(())
    })
    .await
}

/// Flows over it may be reset: until it is attached, their packets meet the stack.
#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_is_made_anew_is_attached_again() -> Result<()> {
    play("auto", async |scene| {
        for number in 1..=scene.lab.targets.len() {
            scene.lab.unplug(number)?;
            scene.lab.plug(number, Offloads::Full)?;
            let interface = &scene.lab.interfaces()[number];
            reason(scene, interface, "attached again: the interface").await?;
        }
        let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
        who(&mut socket).await?;
        scene.settled(1).await?;
        chat(&mut socket).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_comes_later_is_attached() -> Result<()> {
    let lab = Lab::new()?;
    let config = Config {
        targets: vec![lab.target(3)],
        ..Config::new(&lab, "auto")
    };
    let mut scene = Scene::set(&lab, &config).await?;
    scene.daemon.kill9()?;
    lab.unplug(3)?;
    scene.daemon.restart().await?;
    reason(&scene, "target3", "there is no such interface yet").await?;
    lab.plug(3, Offloads::Full)?;
    reason(&scene, "target3", "attached again: the interface has come").await?;
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    ensure!(who(&mut socket).await? == "target-3");
    scene.settled(1).await?;
    chat(&mut socket).await
}

/// A second daemon with a pin directory of its own may share the interfaces, but XDP
/// is the first one's. With the first one's pin directory it does not start.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_keeps_out_of_the_first_ones_way() -> Result<()> {
    let lab = Lab::with(Offloads::Xdp)?;
    let scene = Scene::set(&lab, &Config::new(&lab, "xdp")).await?;
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    who(&mut socket).await?;
    scene.settled(1).await?;

    let pins = lab.run().pin_dir().display().to_string();
    let refused = second(&lab, &pins)?.wait_with_output()?;
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure!(
        text(&refused).contains("another limpet runs on"),
        "{refused:?}"
    );

    let mut other = second(&lab, &format!("{pins}/second"))?;
    let found = until("the second daemon has attached", NOTICED, async || {
        let status = limpet(
            &lab,
            &["status", "--json", "--admin", "http://127.0.0.1:9901"],
        )?;
        let status: Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        let first = &status["fastpath"]["interfaces"][0];
        Ok(match first["mode"].as_str() {
            Some(mode) => Ok((mode.to_owned(), first["reason"].to_string())),
            None => Err(status.to_string()),
        })
    })
    .await;
    other.kill()?;
    other.wait()?;
    let (mode, reason) = found?;
    ensure!(mode == "tc", "{mode}: {reason}");
    ensure!(reason.contains("is left alone"), "{reason}");
    chat(&mut socket).await
}

/// Two layouts never run at once, and what another has handed over is not cut unasked.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_does_not_start_beside_flows_of_another_layout() -> Result<()> {
    play("auto", async |scene| {
        let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
        who(&mut socket).await?;
        scene.settled(1).await?;
        scene.daemon.kill9()?;
        let pins = scene.lab.run().pin_dir();
        let (ours, other) = (only_entry(&pins)?, pins.join("v1"));
        fs::rename(&ours, &other)?;
        let refused = scene.daemon.restart().await;
        let text = format!("{:#}", refused.err().context("it has started")?);
        let told = format!("{} holds 1 connections", other.display());
        ensure!(text.contains(&told), "{text}");
        chat(&mut socket).await.context("nothing was cut")?;
        fs::rename(&other, &ours)?;
        scene.daemon.restart().await?;
        scene.settled(1).await?;
        chat(&mut socket).await
    })
    .await
}

fn only_entry(directory: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(directory)?;
    Ok(entries.next().context("an empty directory")??.path())
}

/// A daemon that serves nothing of this lab's; it runs, or ends by itself.
fn second(lab: &Lab, pins: &str) -> Result<std::process::Child> {
    let directory = lab.run().directory();
    let file = directory.join("second.toml");
    let config = format!(
        "state_dir = \"{}\"\n[admin]\nbind = \"127.0.0.1:9901\"\n\
         [fastpath]\nmode = \"xdp\"\ninterfaces = [\"client\"]\npin_dir = \"{pins}\"\n\
         [[listener]]\nname = \"b\"\nbind = \"127.0.0.1:81\"\ntarget_group = \"b\"\n\
         [[target_group]]\nname = \"b\"\n[[target_group.target]]\naddress = \"{}\"\n",
        directory.join("second").display(),
        lab.target(1)
    );
    fs::write(&file, config)?;
    let mut command = Command::new(lb_tests::daemon::binary()?);
    command
        .args(["run", "--config"])
        .arg(file)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    Ok(lab.balancer.start(&mut command)?)
}

/// In a VLAN the connection's packets come in twice: with their tag on the parent, whose
/// programs are not to touch them, and without it on the VLAN's own interface.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs 8021q: `cargo xtask vm` runs it, in kernels that have it"]
async fn in_a_vlan_over_tc() -> Result<()> {
    vlan("tc", Offloads::Full).await
}

/// There the parent's XDP program cannot even see the tag.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs 8021q: `cargo xtask vm` runs it, in kernels that have it"]
async fn in_a_vlan_over_xdp() -> Result<()> {
    vlan("xdp", Offloads::Xdp).await
}

async fn vlan(mode: &'static str, offloads: Offloads) -> Result<()> {
    let lab = Lab::with(offloads)?;
    lab.tag(0, 5)?;
    let mut interfaces = lab.interfaces();
    interfaces.push("client.5".to_owned());
    let config = Config {
        interfaces,
        ..Config::new(&lab, mode)
    };
    let scene = Scene::set(&lab, &config).await?;
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    let name = who(&mut socket).await?;
    scene.settled(1).await?;
    scene.no_sockets().await?;
    chat(&mut socket).await?;
    ensure!(who(&mut socket).await? == name, "another target");
    socket.close(None).await?;
    drop(socket);
    scene.all_gone().await
}

/// Waits until the status says this of an interface.
async fn reason(scene: &Scene<'_>, interface: &str, wanted: &str) -> Result<()> {
    until(&format!("{interface}: {wanted}"), NOTICED, async || {
        let answer = scene.daemon.admin.get("/v1/status").await?;
        let status: Value = serde_json::from_str(&answer.body)?;
        let all = status["fastpath"]["interfaces"].as_array();
        let found = all
            .into_iter()
            .flatten()
            .find(|one| one["name"] == interface);
        let reason = found.map_or("-".into(), |one| one["reason"].to_string());
        when(reason.contains(wanted), || reason)
    })
    .await
}

async fn chat(socket: &mut WebSocket) -> Result<()> {
    for number in 0..50 {
        let text = format!("message {number}");
        ensure!(
            ask(socket, text.as_str()).await?.to_text()? == text,
            "not {text}"
        );
    }
    Ok(())
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into()
}

//! Proves how connections end from here: each or many, whatever carries them,
//! with a reset to both ends.

use std::io::ErrorKind;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use lb_tests::admin::Connection;
use lb_tests::client::{WebSocket, who};
use lb_tests::counters::Counters;
use lb_tests::daemon::{Config, More, limpet};
use lb_tests::lab::Lab;
use lb_tests::scene::{Scene, play};
use lb_tests::sockets;
use lb_tests::target::End;
use lb_tests::until::{until, when};
use lb_tests::web_socket::text_frame;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

/// A target is given up when it was silent for 30 s, judged every 10 s.
const LOST: Duration = Duration::from_secs(120);
/// What takes milliseconds, on a machine that does much else.
const SOON: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn one_flow_is_ended_by_its_id() -> Result<()> {
    play("auto", ends_one).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_relayed_connection_is_ended_by_its_id() -> Result<()> {
    play("off", ends_one).await
}

async fn ends_one(scene: &mut Scene<'_>) -> Result<()> {
    let (ended, _) = scene.client.web_socket("/ws", None).await?;
    let first = scene.settled(1).await?.remove(0);
    let (mut other, _) = scene.client.web_socket("/ws", None).await?;
    scene.settled(2).await?;
    let arguments = ["reset", &first.id];
    let output = limpet(scene.lab, &arguments)?;
    ensure!(output.status.success(), "{output:?}");
    is_reset(ended).await?;
    scene.target_saw("a reset", is_broken).await?;
    scene.settled(1).await.context("only that one")?;
    who(&mut other).await.context("the other lives")?;
    until("the end is logged", SOON, async || {
        let log = scene.daemon.log();
        when(log.contains("cause=\"ended\""), || log.clone())
    })
    .await?;
    let again = limpet(scene.lab, &arguments)?;
    ensure!(again.status.code() == Some(1), "no longer there: {again:?}");
    other.close(None).await?;
    drop(other);
    scene.all_gone().await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_ended_over_the_window_and_no_others() -> Result<()> {
    let lab = Lab::new()?;
    let mut config = Config::new(&lab, "auto");
    config.more = More {
        root: "end_window = \"2s\"".to_owned(),
        ..More::default()
    };
    let scene = Scene::set(&lab, &config).await?;
    let mut sockets = Vec::new();
    for _ in 0..9 {
        sockets.push(scene.client.web_socket("/ws", None).await?.0);
    }
    scene.settled(9).await?;
    let admin = &scene.daemon.admin;
    for query in [
        "",
        "?path=tc",
        "?client=all",
        "?client=10.71.0.0/16&limit=5",
    ] {
        let refused = admin.delete(&format!("/v1/connections{query}")).await?;
        ensure!(refused.status == 400, "{query}: {refused:?}");
    }
    let nobody = admin.delete("/v1/connections?client=10.99.0.0/16").await?;
    ensure!(
        nobody.status == 202 && nobody.body.contains("\"connections\":0"),
        "{nobody:?}"
    );
    let start = Instant::now();
    let target = lab.target(1);
    let answer = admin
        .delete(&format!(
            "/v1/connections?target={target}&client=10.71.0.0/16"
        ))
        .await?;
    ensure!(
        answer.status == 202 && answer.body.contains("\"connections\":3"),
        "{answer:?}"
    );
    scene.settled(6).await?;
    ensure!(
        start.elapsed() >= Duration::from_secs(2),
        "not paced: {:?}",
        start.elapsed()
    );
    let left = admin.connections().await?;
    ensure!(
        left.iter().all(|one| one.target != target.to_string()),
        "{left:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_each_once_while_others_come_and_go() -> Result<()> {
    play("auto", async |scene| {
        let mut sockets = Vec::new();
        for _ in 0..7 {
            sockets.push(scene.client.web_socket("/ws", None).await?.0);
        }
        let all = scene.settled(7).await?;
        let admin = &scene.daemon.admin;
        for limit in [1, 2, 7, 1000] {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            loop {
                let (page, next) = admin.page(&format!("limit={limit}{cursor}")).await?;
                ensure!(page.len() <= limit, "{} of {limit}", page.len());
                ensure!(
                    next.is_none() || page.len() == limit,
                    "a short page goes on"
                );
                seen.extend(page.into_iter().map(|one| one.id));
                // One more between two pages, gone before the next round.
                scene.client.get("/", None).await?;
                let Some(next) = next else { break };
                cursor = format!("&cursor={next}");
            }
            seen.sort();
            let mut expected: Vec<_> = all.iter().map(|one| one.id.clone()).collect();
            expected.sort();
            ensure!(
                seen == expected,
                "limit {limit}: {seen:?}, not {expected:?}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn term_ends_flows_where_it_is_told_to() -> Result<()> {
    let lab = Lab::new()?;
    let mut config = Config::new(&lab, "auto");
    config.more = More {
        root: "shutdown_flows = \"end\"\nend_window = \"1s\"".to_owned(),
        ..More::default()
    };
    let mut scene = Scene::set(&lab, &config).await?;
    let (first, _) = scene.client.web_socket("/ws", None).await?;
    let (second, _) = scene.client.web_socket("/ws", None).await?;
    scene.settled(2).await?;
    let status = scene.daemon.terminate().await?;
    ensure!(status.success(), "{status}");
    is_reset(first).await?;
    is_reset(second).await?;
    let log = scene.daemon.log();
    let booked = log.matches("cause=\"shutdown\"").count();
    ensure!(booked == 2, "{booked} booked:\n{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_use_its_port_again_right_after_the_end() -> Result<()> {
    play("auto", async |scene| {
        // Its end closes last, so nothing but the flow's entry is in the way.
        let port = 41_234;
        for _ in 0..3 {
            let stream = connect_from(scene, port).await?;
            let (mut socket, _) = scene.client.upgrade(stream, "/ws", None).await?;
            let alive = scene.settled(1).await.context("the one before is gone")?;
            ensure!(alive[0].client.ends_with(&format!(":{port}")), "{alive:?}");
            who(&mut socket).await?;
            target_closes_first(socket).await?;
            until("the client's socket is gone", SOON, async || {
                let left = sockets::connections(&scene.lab.client)?;
                when(left.is_empty(), || format!("{left:?}"))
            })
            .await?;
        }
        scene.all_gone().await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_rests_for_a_target_that_closed_first_while_no_daemon_ran() -> Result<()> {
    play("auto", async |scene| {
        let (target_first, _) = scene.client.web_socket("/ws", None).await?;
        let first = scene.settled(1).await?.remove(0);
        let (mut client_first, _) = scene.client.web_socket("/ws", None).await?;
        let both = scene.settled(2).await?;
        let second = both.iter().find(|one| one.id != first.id).context("two")?;
        scene.daemon.kill9()?;
        target_closes_first(target_first).await?;
        client_first.get_mut().shutdown().await?;
        drop(client_first);
        scene.daemon.restart().await?;
        scene.all_gone().await?;
        for (id, rest) in [(&first.id, "rest=60s"), (&second.id, "rest=2s")] {
            until("the end is logged", SOON, async || {
                let log = scene.daemon.log();
                let told = |line: &&str| line.contains(id) && line.contains("flow deleted");
                let line = log.lines().find(told).unwrap_or_default();
                when(line.contains(rest), || format!("{line:?}, not {rest}"))
            })
            .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_targets_connections_are_ended_and_no_others() -> Result<()> {
    let lab = Lab::new()?;
    let mut config = Config::new(&lab, "auto");
    config.more = More {
        root: "end_window = \"1s\"".to_owned(),
        target_group: "on_unhealthy = \"end\"".to_owned(),
        ..More::default()
    };
    let scene = Scene::set(&lab, &config).await?;
    let mut sockets = Vec::new();
    for count in 1..=6 {
        let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
        let name = who(&mut socket).await?;
        sockets.push((name, socket));
        scene.settled(count).await?;
    }
    let (mut lost, mut others): (Vec<_>, Vec<_>) = sockets
        .into_iter()
        .partition(|(name, _)| name == "target-1");
    ensure!(lost.len() == 2, "{} on target 1", lost.len());
    // A host that has lost its power: it hears nothing, and says nothing any more, not
    // even again what a client's late acknowledgment was for.
    let silence = "table inet dead { \
                   chain input { type filter hook input priority 0; drop; }; \
                   chain output { type filter hook output priority 0; drop; }; }\n";
    lab.targets[0].feed(Command::new("nft").args(["-f", "-"]), silence)?;
    let (_, mut talking) = lost.remove(0);
    talking.send("anyone there?".into()).await?;
    // That one asks in vain; the other says nothing at all.
    let (_, silent) = lost.remove(0);
    for socket in [talking, silent] {
        let end = timeout(LOST, socket.into_inner().read(&mut [0; 16])).await;
        let end = end.context("a client of a lost target is left waiting")?;
        ensure!(
            end.as_ref()
                .is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
            "{end:?}"
        );
    }
    scene.settled(4).await?;
    for (_, socket) in &mut others {
        who(socket).await.context("another target's")?;
    }
    until("both are booked", SOON, async || {
        let name = "limpet_connections_ended_total{cause=\"target_lost\"";
        let booked = scene.daemon.admin.metric_of(name).await?;
        when(booked == 2.0, || booked.to_string())
    })
    .await
}

/// Half a connection may stay closed as long as its other half says something; what
/// TCP's keepalives carry is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_connection_lives_by_what_it_says_and_not_by_keepalives() -> Result<()> {
    let lab = Lab::new()?;
    let config = Config {
        idle_timeout: "12s",
        ..Config::new(&lab, "auto")
    };
    let scene = Scene::set(&lab, &config).await?;
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    who(&mut socket).await?;
    scene.settled(1).await?;
    keep_alive(socket.get_ref())?;
    timeout(SOON, socket.send("fin".into())).await??;
    let mut stream = socket.into_inner();
    let read = timeout(SOON, stream.read(&mut [0; 16])).await?;
    ensure!(matches!(read, Ok(0)), "not the target's end: {read:?}");
    let half = has_rested(&scene, 3.0).await?;
    ensure!(half.state == "closing" && half.in_kernel(), "{half:?}");
    stream.write_all(&pong()).await?;
    until("what it says is carried, and counts", SOON, async || {
        let one = scene.settled(1).await?.remove(0);
        let counts = one.bytes_in > half.bytes_in && one.idle_seconds < half.idle_seconds;
        when(counts, || format!("{one:?}"))
    })
    .await?;
    let alive = has_rested(&scene, 3.0).await?;
    ensure!(alive.id == half.id, "{alive:?}, not {half:?}");
    until("it is ended for saying nothing", LOST, async || {
        let log = scene.daemon.log();
        when(log.contains("cause=\"idle\""), || "lives on".to_owned())
    })
    .await?;
    scene.target_saw("a reset", is_broken).await?;
    scene.all_gone().await
}

/// Unasked for (RFC 6455, 5.5.3): nobody answers it, which half a connection could not.
fn pong() -> Vec<u8> {
    let mut frame = text_frame("still here");
    frame[0] = 0x8a;
    frame
}

/// Every second, whatever the host has set.
fn keep_alive(stream: &TcpStream) -> Result<()> {
    let every = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new().with_time(every).with_interval(every);
    Ok(SockRef::from(stream).set_tcp_keepalive(&keepalive)?)
}

/// Waits until the one connection has been without payload for this long, and the client
/// has sent as many keepalives in that time.
async fn has_rested(scene: &Scene<'_>, seconds: f64) -> Result<Connection> {
    let sent = || Counters::read(&scene.lab.client)?.get("TcpExt.TCPKeepAlive");
    let before = sent()?;
    until("it is kept alive and says nothing", SOON, async || {
        let (one, sent) = (scene.settled(1).await?.remove(0), sent()? - before);
        let rested = one.idle_seconds >= seconds && sent as f64 >= seconds;
        Ok(if rested {
            Ok(one)
        } else {
            Err(format!("{sent} sent, {one:?}"))
        })
    })
    .await
}

/// A client that reads nothing closes its window. What the target asks it then is carried
/// to it, and does not stand in the way of a reset.
#[tokio::test(flavor = "multi_thread")]
async fn a_flow_with_closed_windows_is_ended_by_its_id() -> Result<()> {
    let lab = Lab::new()?;
    let config = Config {
        targets: vec![lab.target(1)],
        ..Config::new(&lab, "auto")
    };
    let scene = Scene::set(&lab, &config).await?;
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    who(&mut socket).await?;
    let id = scene.settled(1).await?.remove(0).id;
    let (mut to_target, mut from_target) = socket.split();
    let sender = tokio::spawn(async move {
        loop {
            to_target.send(Message::binary(vec![7; 65_536])).await?;
        }
        #[expect(unreachable_code, reason = "says what an error is")]
        anyhow::Ok(())
    });
    until("the target probes the client's window", LOST, async || {
        let probes = Counters::read(&lab.targets[0])?.get("TcpExt.TCPWinProbe")?;
        when(probes > 2, || format!("{probes} probes"))
    })
    .await?;
    let output = limpet(&lab, &["reset", &id])?;
    ensure!(output.status.success(), "{output:?}");
    let sent = timeout(SOON, sender).await.context("still sending")??;
    ensure!(sent.is_err(), "sent without an end");
    // What had arrived before is there all the same.
    let end = timeout(SOON, async {
        loop {
            match from_target.next().await {
                Some(Ok(_)) => {}
                end => return end,
            }
        }
    });
    let end = end.await.context("the client is left waiting")?;
    ensure!(matches!(end, Some(Err(_))), "{end:?}");
    until("the target need not ask any more", SOON, async || {
        let left = sockets::connections(&lab.targets[0])?;
        when(left.is_empty(), || format!("{left:?}"))
    })
    .await?;
    scene.all_gone().await
}

/// From a port of the client's choice.
async fn connect_from(scene: &Scene<'_>, port: u16) -> Result<TcpStream> {
    let socket = scene.lab.client.socket(scene.lab.front())?;
    socket.set_reuseaddr(true)?;
    socket.bind((scene.lab.client_address(), port).into())?;
    Ok(timeout(SOON, socket.connect(scene.lab.front())).await??)
}

/// The target ends its half; the client answers with its own end.
async fn target_closes_first(mut socket: WebSocket) -> Result<()> {
    timeout(SOON, socket.send("fin".into())).await??;
    let mut stream = socket.into_inner();
    let read = timeout(SOON, stream.read(&mut [0; 16])).await?;
    ensure!(matches!(read, Ok(0)), "not the target's end: {read:?}");
    Ok(())
}

async fn is_reset(socket: WebSocket) -> Result<()> {
    let end = timeout(SOON, socket.into_inner().read(&mut [0; 16])).await;
    let end = end.context("the client is left waiting")?;
    ensure!(
        end.as_ref()
            .is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
        "{end:?}"
    );
    Ok(())
}

fn is_broken(end: &End) -> bool {
    matches!(end, End::Broken(_))
}

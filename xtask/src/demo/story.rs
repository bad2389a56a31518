//! What the demo shows, step by step. A step that does not hold is an error.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_tests::admin::Connection;
use lb_tests::client::{Answer, WebSocket, ask, who};
use lb_tests::scene::Scene;
use lb_tests::sockets;

use super::memory;
use super::screen::Screen;

const REQUESTS: usize = 20;
const MESSAGES: usize = 1_000;

/// Tells it all; answers the rows of the closing table.
pub(super) async fn tell(
    screen: &mut Screen,
    scene: &mut Scene<'_>,
) -> Result<Vec<(String, String)>> {
    let first = screen
        .step(
            "A first request",
            "an answer, and a cookie that nobody can read",
            cookie(scene),
        )
        .await?;
    let sticky = first.cookie().context("no cookie")?;
    screen
        .step(
            &format!("{REQUESTS} more requests with the cookie"),
            &format!("all on {}", first.body),
            twenty(scene, &sticky, &first.body),
        )
        .await?;
    screen
        .step(
            "The same without a cookie",
            "spread over all targets",
            spread(scene),
        )
        .await?;
    let empty = memory::of_maps(&scene.lab.run().pin_dir()).unwrap_or(0);
    let mut socket = screen
        .step(
            "A WebSocket with the cookie",
            &format!("on {} too", first.body),
            open(scene, &sticky, &first.body),
        )
        .await?;
    let before = screen
        .step(
            "A moment later",
            "the path is tc or xdp: the kernel carries it",
            carried(scene),
        )
        .await?;
    let full = memory::of_maps(&scene.lab.run().pin_dir()).unwrap_or(0);
    screen
        .step(
            "Its sockets in the balancer's namespace",
            "none",
            no_sockets(scene),
        )
        .await?;
    let took = screen
        .step(
            &format!("{MESSAGES} messages"),
            "all answered, without the daemon seeing one",
            chat(&mut socket),
        )
        .await?;
    screen
        .step("kill -9 on the daemon", "it is dead", kill(scene))
        .await?;
    screen
        .step(
            &format!("{MESSAGES} messages without a daemon"),
            "all answered, as if nothing had happened",
            chat(&mut socket),
        )
        .await?;
    let after = screen
        .step(
            "The daemon starts again",
            "it adopts the connection",
            adopted(scene, &before),
        )
        .await?;
    screen
        .step(
            &format!("{MESSAGES} messages after the restart"),
            &format!("all answered, still by {}", first.body),
            chat_with(&mut socket, &first.body),
        )
        .await?;
    screen
        .step(
            "The client closes",
            "the flow is removed, its port is free",
            close(scene, socket),
        )
        .await?;
    Ok(table(took, &after, full.saturating_sub(empty)))
}

fn table(took: Duration, after: &Connection, memory: u64) -> Vec<(String, String)> {
    let each = took / u32::try_from(MESSAGES).unwrap_or(1);
    let packets = after.packets_in + after.packets_out;
    [
        ("messages answered", (3 * MESSAGES + 2).to_string()),
        ("one message there and back", format!("{each:.0?}")),
        (
            "packets the kernel carried until the restart",
            packets.to_string(),
        ),
        ("sockets the balancer held for them", "0".to_owned()),
        ("kernel memory of the flow", format!("{memory} bytes")),
        ("daemons that died meanwhile", "1".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

async fn cookie(scene: &Scene<'_>) -> Result<(String, Answer)> {
    let answer = scene.client.get("/", None).await?;
    ensure!(answer.status == 200, "{answer:?}");
    let whole = answer.head.get("set-cookie").context("no cookie")?;
    Ok((format!("200 from {}; {whole}", answer.body), answer))
}

async fn twenty(scene: &Scene<'_>, cookie: &str, name: &str) -> Result<(String, ())> {
    for number in 1..=REQUESTS {
        let body = scene.client.get("/", Some(cookie)).await?.body;
        ensure!(body == name, "request {number} on {body}");
    }
    Ok((format!("{REQUESTS} of {REQUESTS} on {name}"), ()))
}

async fn spread(scene: &Scene<'_>) -> Result<(String, ())> {
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..REQUESTS {
        *counts
            .entry(scene.client.get("/", None).await?.body)
            .or_default() += 1;
    }
    ensure!(counts.len() == scene.lab.targets.len(), "{counts:?}");
    let words: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{count} on {name}"))
        .collect();
    Ok((words.join(", "), ()))
}

async fn open(scene: &Scene<'_>, cookie: &str, name: &str) -> Result<(String, WebSocket)> {
    let (mut socket, _) = scene.client.web_socket("/ws", Some(cookie)).await?;
    let answer = who(&mut socket).await?;
    ensure!(answer == name, "on {answer}");
    Ok((format!("101, and asked who it is: {answer}"), socket))
}

async fn carried(scene: &Scene<'_>) -> Result<(String, Connection)> {
    let connection = scene.settled(1).await?.remove(0);
    let seen = format!(
        "connection {}: {} -> {}, path {}",
        connection.id, connection.client, connection.target, connection.path
    );
    Ok((seen, connection))
}

async fn no_sockets(scene: &Scene<'_>) -> Result<(String, ())> {
    scene.no_sockets().await?;
    let left = sockets::list(&scene.lab.balancer)?;
    let listening = left
        .iter()
        .filter(|socket| socket.state == "LISTEN")
        .count();
    Ok((
        format!("ss -tan: {listening} listeners, no socket of the client's connection"),
        (),
    ))
}

async fn chat(socket: &mut WebSocket) -> Result<(String, Duration)> {
    let start = Instant::now();
    for number in 0..MESSAGES {
        let text = format!("message {number}");
        let answer = ask(socket, text.as_str())
            .await
            .with_context(|| text.clone())?;
        ensure!(answer.to_text()? == text, "{answer:?} instead of {text}");
    }
    let took = start.elapsed();
    Ok((format!("{MESSAGES} of {MESSAGES} in {took:.0?}"), took))
}

async fn chat_with(socket: &mut WebSocket, name: &str) -> Result<(String, ())> {
    let (seen, _) = chat(socket).await?;
    let answer = who(socket).await?;
    ensure!(answer == name, "now on {answer}");
    Ok((format!("{seen}; asked who it is: {answer}"), ()))
}

async fn kill(scene: &mut Scene<'_>) -> Result<(String, ())> {
    let pid = scene.daemon.pid();
    scene.daemon.kill9()?;
    ensure!(
        scene.client.connect().await.is_err(),
        "something still accepts connections"
    );
    Ok((
        format!("process {pid} ended by SIGKILL; new connections are refused"),
        (),
    ))
}

async fn adopted(scene: &mut Scene<'_>, before: &Connection) -> Result<(String, Connection)> {
    scene.daemon.restart().await?;
    let after = scene.settled(1).await?.remove(0);
    ensure!(after.id == before.id, "another id: {after:?}");
    ensure!(
        after.packets_in > before.packets_in,
        "no packets were counted: {after:?}"
    );
    let seen = format!(
        "process {}: connection {} on path {}, {} packets in, {} out",
        scene.daemon.pid(),
        after.id,
        after.path,
        after.packets_in,
        after.packets_out
    );
    Ok((seen, after))
}

async fn close(scene: &Scene<'_>, mut socket: WebSocket) -> Result<(String, ())> {
    socket.close(None).await?;
    drop(socket);
    scene.all_gone().await?;
    Ok((
        "no connection, an empty flow table, no source port in use".to_owned(),
        (),
    ))
}

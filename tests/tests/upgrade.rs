//! Proves that a WebSocket works like one without a balancer, however its bytes
//! travel: relayed, on TC, on XDP; before, during and after the handoff.

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use lb_tests::client::{ask, read_answer, read_switching, receive, who};
use lb_tests::pattern::Pattern;
use lb_tests::scene::{Scene, play};
use lb_tests::target::{End, digest, reset_on_drop};
use lb_tests::web_socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Message};

/// One test of each behaviour in each mode, so that a failure says which.
macro_rules! in_each_mode {
    ($($behaviour:ident)*) => {
        in_each_mode! { mode off "off": $($behaviour)* }
        in_each_mode! { mode tc "tc": $($behaviour)* }
        in_each_mode! { mode xdp "xdp": $($behaviour)* }
    };
    (mode $name:ident $mode:literal: $($behaviour:ident)*) => {
        mod $name {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $behaviour() -> anyhow::Result<()> {
                    super::play($mode, super::$behaviour).await
                }
            )*
        }
    };
}

in_each_mode! {
    first_frames_with_the_handshake
    messages_of_every_size
    pings_are_answered
    the_client_closes_with_a_code
    the_target_closes_with_a_code
    the_client_resets
    the_target_resets
    the_client_half_closes
    the_target_half_closes
    requests_before_the_upgrade
    a_refused_upgrade
    over_ipv6
}

/// Around every length field of RFC 6455, up to a mebibyte.
const SIZES: [usize; 9] = [1, 2, 125, 126, 1_400, 65_535, 65_536, 300_000, 1 << 20];

async fn first_frames_with_the_handshake(scene: &mut Scene<'_>) -> Result<()> {
    let mut socket = scene.client.eager("/ws", &["one", "two", "who"]).await?;
    for text in ["one", "two"] {
        ensure!(receive(&mut socket).await?.to_text()? == text, "not {text}");
    }
    let name = receive(&mut socket).await?.into_text()?;
    scene.settled(1).await?;
    ensure!(
        who(&mut socket).await? == name.as_str(),
        "another target after the handoff"
    );
    Ok(())
}

async fn messages_of_every_size(scene: &mut Scene<'_>) -> Result<()> {
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    let mut bytes = Pattern::new(7);
    for round in ["as it comes", "settled"] {
        for size in SIZES {
            let binary = Message::Binary(Bytes::from(bytes.bytes(size)));
            ensure!(
                ask(&mut socket, binary.clone()).await? == binary,
                "{round}: binary {size}"
            );
            let text = Message::text(bytes.bytes(size).iter().map(letter).collect::<String>());
            ensure!(
                ask(&mut socket, text.clone()).await? == text,
                "{round}: text {size}"
            );
        }
        scene.settled(1).await?;
    }
    Ok(())
}

async fn pings_are_answered(scene: &mut Scene<'_>) -> Result<()> {
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    for payload in ["early", "settled"] {
        socket
            .send(Message::Ping(Bytes::from_static(payload.as_bytes())))
            .await?;
        let answer = socket.next().await.context("closed")??;
        ensure!(answer == Message::Pong(payload.into()), "{answer:?}");
        scene.settled(1).await?;
    }
    Ok(())
}

async fn the_client_closes_with_a_code(scene: &mut Scene<'_>) -> Result<()> {
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    scene.settled(1).await?;
    socket
        .close(Some(CloseFrame {
            code: 4000.into(),
            reason: "enough".into(),
        }))
        .await?;
    scene
        .target_saw("the code", |end| *end == End::Closed(4000))
        .await?;
    while let Some(message) = socket.next().await {
        ensure!(message?.is_close(), "more than the answer to the close");
    }
    drop(socket);
    scene.all_gone().await
}

async fn the_target_closes_with_a_code(scene: &mut Scene<'_>) -> Result<()> {
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    scene.settled(1).await?;
    match ask(&mut socket, "close 4001 bye").await? {
        Message::Close(Some(frame)) => {
            ensure!(
                u16::from(frame.code) == 4001 && frame.reason == "bye",
                "{frame:?}"
            );
        }
        other => anyhow::bail!("{other:?}"),
    }
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    scene.all_gone().await
}

async fn the_client_resets(scene: &mut Scene<'_>) -> Result<()> {
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    who(&mut socket).await?;
    scene.settled(1).await?;
    reset_on_drop(socket.get_ref())?;
    drop(socket);
    scene
        .target_saw("the reset", |end| matches!(end, End::Broken(_)))
        .await?;
    scene.all_gone().await
}

async fn the_target_resets(scene: &mut Scene<'_>) -> Result<()> {
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    who(&mut socket).await?;
    scene.settled(1).await?;
    let end = ask(&mut socket, "reset").await;
    ensure!(end.is_err(), "the client got {end:?}");
    drop(socket);
    scene.all_gone().await
}

async fn the_client_half_closes(scene: &mut Scene<'_>) -> Result<()> {
    let bytes = Pattern::new(9).bytes(200_000);
    for settle in [false, true] {
        let (mut stream, mut got) = scene.client.raw("/sum", None).await?;
        if settle {
            scene.settled(1).await?;
        }
        stream.write_all(&bytes).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut got).await?;
        let got = String::from_utf8_lossy(&got);
        ensure!(got == digest(&bytes), "settled {settle}: {got}");
        drop(stream);
        scene.all_gone().await?;
    }
    Ok(())
}

async fn the_target_half_closes(scene: &mut Scene<'_>) -> Result<()> {
    let (mut stream, mut got) = scene.client.raw("/fin", None).await?;
    stream.read_to_end(&mut got).await?;
    ensure!(got == b"bye", "{:?}", String::from_utf8_lossy(&got));
    stream.write_all(b"still here").await?;
    stream.shutdown().await?;
    scene
        .target_saw("the client's FIN", |end| *end == End::Fin)
        .await?;
    drop(stream);
    scene.all_gone().await
}

async fn requests_before_the_upgrade(scene: &mut Scene<'_>) -> Result<()> {
    let host = scene.lab.front().to_string();
    let get = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let cookie = scene
        .client
        .get("/", None)
        .await?
        .cookie()
        .context("no cookie")?;
    let key = web_socket::key(3);
    let mut stream = scene.client.connect().await?;
    let upgrade = web_socket::handshake(&host, "/ws", &key, Some(&cookie));
    let mut all = format!("{get}{get}{upgrade}").into_bytes();
    all.extend(web_socket::text_frame("who"));
    stream.write_all(&all).await?;
    let mut buffer = Vec::new();
    for _ in 0..2 {
        let answer = read_answer(&mut stream, &mut buffer).await?;
        ensure!(
            answer.status == 200 && answer.body.starts_with("target-"),
            "{answer:?}"
        );
    }
    let rest = read_switching(&mut stream, &mut buffer, &key).await?;
    let mut socket = WebSocketStream::from_partially_read(stream, rest, Role::Client, None).await;
    ensure!(
        receive(&mut socket)
            .await?
            .to_text()?
            .starts_with("target-"),
        "not a name"
    );
    scene.settled(1).await?;
    who(&mut socket).await?;
    Ok(())
}

async fn a_refused_upgrade(scene: &mut Scene<'_>) -> Result<()> {
    let host = scene.lab.front().to_string();
    let upgrade = web_socket::handshake(&host, "/refuse", &web_socket::key(4), None);
    let answer = scene.client.exchange(upgrade.as_bytes()).await?;
    ensure!(
        answer.status == 403 && answer.body == "refused",
        "{answer:?}"
    );
    scene.all_gone().await
}

async fn over_ipv6(scene: &mut Scene<'_>) -> Result<()> {
    let client = lb_tests::client::Client::new(&scene.lab.client, scene.lab.front6());
    ensure!(
        client.get("/", None).await?.status == 200,
        "no answer over IPv6"
    );
    let (mut socket, _) = client.web_socket("/ws", None).await?;
    let name = who(&mut socket).await?;
    ensure!(name.starts_with("target-"), "{name}");
    Ok(())
}

fn letter(byte: &u8) -> char {
    char::from(b'a' + byte % 26)
}

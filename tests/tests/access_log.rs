//! Proves that every request leaves one line in the access log, a WebSocket at
//! its end wherever it was carried, and that the file can be rotated.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use lb_tests::client::{ask, who};
use lb_tests::daemon::Config;
use lb_tests::lab::Lab;
use lb_tests::scene::Scene;
use lb_tests::until::{until, when};
use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

/// Lines are written at once; a loaded machine takes its time.
const WRITTEN: Duration = Duration::from_secs(15);

fn log_file(lab: &Lab) -> PathBuf {
    lab.run().directory().join("access.log")
}

fn config(lab: &Lab, mode: &'static str) -> Config {
    let mut config = Config::new(lab, mode);
    config.more.log = format!("access = {{ to = {:?} }}", log_file(lab));
    config
}

/// The lines of a file, once there are as many as expected.
async fn lines(file: &Path, count: usize) -> Result<Vec<Value>> {
    until("the lines are written", WRITTEN, async || {
        let text = fs::read_to_string(file).unwrap_or_default();
        // A line that is being written is not one yet.
        let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
        let lines: Vec<Value> = whole
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect::<Result<_>>()?;
        Ok(if lines.len() >= count {
            Ok(lines)
        } else {
            Err(text)
        })
    })
    .await
}

/// Sees to it that a line says this.
fn says(line: &Value, fields: &[(&str, Value)]) -> Result<()> {
    for (name, value) in fields {
        ensure!(line[*name] == *value, "{name} is not {value}: {line}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_refusals() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, &config(&lab, "off")).await?;
    let first = scene.client.get("/a?b=1", None).await?;
    let cookie = first.cookie().context("no cookie")?;
    let post = "POST /x HTTP/1.1\r\nHost: a\r\nUser-Agent: \u{9b}2J\"\r\nReferer: r\r\nContent-Length: 5\r\n\r\n12345";
    scene.client.exchange(post.as_bytes()).await?;
    let with = format!("GET /c HTTP/1.0\r\nHost: a\r\nCookie: {cookie}\r\n\r\n");
    scene.client.exchange(with.as_bytes()).await?;
    scene.client.exchange(b"GET / HTTP/1.1\r\n\r\n").await?;
    scene.client.exchange(b"NONSENSE\r\n\r\n").await?;
    let lines = lines(&log_file(&lab), 5).await?;
    ensure!(lines.len() == 5, "{lines:#?}");
    let text = fs::read_to_string(log_file(&lab))?;
    ensure!(
        text.contains("\\u009b2J"),
        "a control came through: {text:?}"
    );
    let by = |field: &str, value: Value| {
        lines
            .iter()
            .find(|line| line[field] == value)
            .with_context(|| format!("no line with {field} {value}: {lines:#?}"))
    };
    let line = by("uri", "/a?b=1".into())?;
    says(
        line,
        &[
            ("protocol", "http".into()),
            ("listener", "web".into()),
            ("target_group", "chat".into()),
            ("method", "GET".into()),
            ("version", "HTTP/1.1".into()),
            ("host", lab.front().to_string().into()),
            ("status", 200.into()),
            ("origin", "target".into()),
            ("fault", Value::Null),
            ("verdict", "none".into()),
            ("bytes_out", first.body.len().into()),
            ("path", "userspace".into()),
            ("cause", "done".into()),
        ],
    )?;
    let client = line["client"].as_str().unwrap_or_default();
    ensure!(client.starts_with("10.71.0.2:"), "{line}");
    says(
        by("method", "POST".into())?,
        &[
            ("bytes_in", 5.into()),
            ("user_agent", "\u{9b}2J\"".into()),
            ("referer", "r".into()),
        ],
    )?;
    let valid = by("verdict", "valid".into())?;
    says(valid, &[("version", "HTTP/1.0".into())])?;
    says(
        by("uri", "/".into())?,
        &[
            ("status", 400.into()),
            ("origin", "balancer".into()),
            ("fault", "malformed".into()),
            ("target", Value::Null),
        ],
    )?;
    let unread = by("method", Value::Null)?;
    says(
        unread,
        &[
            ("status", 400.into()),
            ("origin", "balancer".into()),
            ("fault", "malformed".into()),
        ],
    )
}

/// A WebSocket of 12 bytes and more in each direction, and its one line.
async fn web_socket(mode: &'static str, path: &str) -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, &config(&lab, mode)).await?;
    let cookie = scene.client.get("/", None).await?.cookie();
    let (mut socket, _) = scene.client.web_socket("/ws", cookie.as_deref()).await?;
    who(&mut socket).await?;
    scene.settled(1).await?;
    ensure!(
        ask(&mut socket, Message::text("hello, kernel"))
            .await?
            .len()
            == 13
    );
    socket.close(None).await?;
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    scene.all_gone().await?;
    let lines = lines(&log_file(&lab), 2).await?;
    ensure!(lines.len() == 2, "{lines:#?}");
    let line = lines
        .iter()
        .find(|line| line["protocol"] == "websocket")
        .with_context(|| format!("no line of it: {lines:#?}"))?;
    says(
        line,
        &[
            ("listener", "web".into()),
            ("target_group", "chat".into()),
            ("status", 101.into()),
            ("origin", "target".into()),
            ("verdict", "valid".into()),
            ("path", path.into()),
            ("cause", "closed".into()),
        ],
    )?;
    for field in ["bytes_in", "bytes_out"] {
        ensure!(line[field].as_u64() >= Some(13), "{field}: {line}");
    }
    ensure!(line["duration_seconds"].as_f64() >= Some(0.0), "{line}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relayed_web_socket_at_its_end() -> Result<()> {
    web_socket("off", "userspace").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_in_the_kernel_at_its_end() -> Result<()> {
    web_socket("tc", "tc").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_file_is_begun_anew_on_hup() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, &config(&lab, "off")).await?;
    let (file, old) = (log_file(&lab), lab.run().directory().join("access.log.1"));
    scene.client.get("/old", None).await?;
    lines(&file, 1).await?;
    fs::rename(&file, &old)?;
    kill(scene.daemon.pid(), Signal::SIGHUP)?;
    until("the file is there again", WRITTEN, async || {
        when(file.exists(), || "no file".to_owned())
    })
    .await?;
    scene.client.get("/new", None).await?;
    says(&lines(&file, 1).await?[0], &[("uri", "/new".into())])?;
    says(&lines(&old, 1).await?[0], &[("uri", "/old".into())])
}

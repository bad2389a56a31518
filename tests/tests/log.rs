//! Proves that nobody waits for who should read the daemon's stdout: not requests, not
//! the admin API, not the end.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use lb_tests::client::{Client, PATIENCE};
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::Lab;
use lb_tests::target::Targets;
use lb_tests::until::patient;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use tokio::time::timeout;

/// The least that a pipe holds: some ten lines.
const PIPE: i32 = 4096;
/// Their lines are many times what the pipe holds.
const REQUESTS: usize = 200;

/// Targets, a daemon whose stdout is a pipe that is full, and the pipe's other end.
async fn unread(lab: &Lab) -> Result<(Targets, Daemon<'_>, OwnedFd)> {
    let targets = Targets::start(lab)?;
    let (reader, stdout) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&stdout, FcntlArg::F_SETPIPE_SZ(PIPE))?;
    let mut config = Config::new(lab, "off");
    config.log_level = "info";
    let daemon = Daemon::start_to(lab, &config, stdout).await?;
    let client = Client::new(&lab.client, lab.front());
    for _ in 0..REQUESTS {
        ensure!(client.get("/before", None).await?.status == 200);
    }
    Ok((targets, daemon, reader))
}

/// Logs a line at level `info`.
async fn change(lab: &Lab, daemon: &Daemon<'_>) -> Result<()> {
    let path = format!("/v1/target-groups/chat/targets/{}", lab.target(1));
    let answer = daemon.admin.delete(&path).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_pipe_stops_nothing_and_is_written_again_when_it_is_read() -> Result<()> {
    let lab = Lab::new()?;
    let (_targets, daemon, reader) = unread(&lab).await?;
    change(&lab, &daemon).await?;
    let client = Client::new(&lab.client, lab.front());
    for _ in 0..20 {
        ensure!(client.get("/after", None).await?.status == 200);
        ensure!(daemon.admin.get("/healthz").await?.status == 200);
    }
    // Ends with the daemon at the latest.
    let reading = tokio::task::spawn_blocking(move || read(reader, &["/after", "told by"]));
    let text = timeout(patient(PATIENCE), reading).await???;
    let whole = |line: &&str| match line.starts_with('{') {
        true => line.ends_with('}'),
        false => line.starts_with("20") && !line.contains('{'),
    };
    let torn: Vec<_> = text.lines().filter(|line| !whole(line)).collect();
    ensure!(torn.is_empty(), "lines were mixed: {torn:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_pipe_does_not_keep_the_daemon_from_ending() -> Result<()> {
    let lab = Lab::new()?;
    let (_targets, mut daemon, reader) = unread(&lab).await?;
    change(&lab, &daemon).await?;
    let status = daemon.terminate().await?;
    ensure!(status.success(), "{status}");
    drop(reader);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_are_written() -> Result<()> {
    let lab = Lab::new()?;
    let mut daemon = Daemon::start(&lab, &Config::new(&lab, "off")).await?;
    daemon.terminate().await?;
    let log = daemon.log();
    let last = log.lines().last().context("no line")?;
    ensure!(last.contains("ended"), "{log}");
    Ok(())
}

/// Reads whole lines until all these words have come.
fn read(reader: OwnedFd, words: &[&str]) -> Result<String> {
    let (mut reader, mut text) = (File::from(reader), String::new());
    let mut bytes = [0; 4096];
    while !text.ends_with('\n') || !words.iter().all(|word| text.contains(word)) {
        let count = reader.read(&mut bytes)?;
        ensure!(count > 0, "ended without {words:?}:\n{text}");
        text.push_str(std::str::from_utf8(bytes.get(..count).unwrap_or_default())?);
    }
    Ok(text)
}

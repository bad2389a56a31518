//! What the daemon needs for a full table: to adopt it, list it, walk it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_tests::daemon::Daemon;
use lb_tests::until::until;

use crate::shell::say;

/// A million flows are adopted before the daemon is ready.
const ADOPTED: Duration = Duration::from_secs(180);
/// Walks come every ten seconds.
const WALKED: Duration = Duration::from_secs(60);

/// Starts the daemon on the table and prints how long each takes.
pub(super) async fn measure(daemon: &mut Daemon<'_>, flows: u64) -> Result<()> {
    let start = Instant::now();
    daemon.restart_within(ADOPTED).await?;
    tell("started, all flows adopted", start);
    let admin = &daemon.admin;
    let start = Instant::now();
    let entries = admin.metric("limpet_flow_table_entries").await?;
    tell("/metrics", start);
    ensure!(entries == flows as f64, "{entries} entries of {flows}");
    let start = Instant::now();
    let answer = admin.get("/v1/connections?client=192.0.2.1").await?;
    ensure!(answer.status == 200, "{answer:?}");
    tell("/v1/connections of a client that has none", start);
    let (start, mut pages, mut listed, mut cursor) = (Instant::now(), 0, 0, String::new());
    loop {
        let path = format!("/v1/connections?limit=1000{cursor}");
        let body = admin.get(&path).await?.body;
        (pages, listed) = (pages + 1, listed + body.matches("\"id\":").count());
        let (_, next) = body.split_once("\"next_cursor\":").context("no cursor")?;
        let Some(next) = next.split('"').nth(1) else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    tell(&format!("all {listed} connections in {pages} pages"), start);
    ensure!(listed as u64 == flows, "{listed} listed of {flows}");
    let walked = until("a walk is logged", WALKED, async || {
        let log = daemon.log();
        let line = log.lines().rfind(|line| line.contains("flow table walked"));
        Ok(line.map(str::to_owned).ok_or_else(|| "none yet".to_owned()))
    })
    .await?;
    say(format!(
        "walk: {}",
        walked.split("flow table").nth(1).unwrap_or_default()
    ));
    Ok(())
}

fn tell(what: &str, since: Instant) {
    say(format!(
        "{what}: {:.0} ms",
        since.elapsed().as_secs_f64() * 1e3
    ));
}

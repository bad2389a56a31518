//! `cargo xtask bench pick`: what stickiness costs. Opening a cookie, sealing one and
//! picking a target, in nanoseconds; and requests per second with stickiness and without.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use futures_util::future::try_join_all;
use lb_tests::client::{Client, read_answer};
use lb_tests::daemon::Config;
use lb_tests::lab::Lab;
use lb_tests::scene::Scene;
use tokio::io::AsyncWriteExt;

use super::numbers::{Spread, reached};
use super::prepare;
use crate::shell::{self, say};

/// With stickiness there are to be at least so many of the requests without.
const TO_REACH: f64 = 0.97;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Rounds with stickiness and without, one after the other.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Seconds of each.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Connections that ask, each its next request when it has the answer.
    #[arg(long, default_value_t = 32)]
    connections: usize,
}

/// Measures everything and prints it.
pub(super) fn run(options: &Options) -> Result<()> {
    let runtime = prepare()?;
    say("cookies and picks");
    shell::run(shell::cargo().args([
        "test",
        "--quiet",
        "--release",
        "--package",
        "lb-userspace",
        "--",
        "--ignored",
        "--nocapture",
        "pick_costs",
    ]))?;
    runtime.block_on(rates(options))
}

/// Requests per second, of two daemons in labs of their own that take turns.
async fn rates(options: &Options) -> Result<()> {
    say("requests with stickiness and without");
    let labs = [Lab::new()?, Lab::new()?];
    let [off, on] = &labs;
    let mut scenes = [scene(off, "off").await?, scene(on, "lb_cookie").await?];
    let mut rounds = [Vec::new(), Vec::new()];
    for round in 0..options.rounds {
        // Who is first takes turns too.
        for which in [round % 2, (round + 1) % 2] {
            let (Some(scene), Some(rates)) = (scenes.get(which), rounds.get_mut(which)) else {
                continue;
            };
            rates.push(rate(scene, options).await?);
        }
    }
    scenes.iter_mut().for_each(|scene| scene.daemon.hide_log());
    let [off, on] = rounds;
    let ratios = on.iter().zip(&off).map(|(on, off)| on / off);
    let ratio = Spread::of(ratios);
    println!("\nrequests per second, {} connections", options.connections);
    println!(
        "    without stickiness: {}",
        Spread::of(off.iter().copied())
    );
    println!("    by lb_cookie:       {}", Spread::of(on.iter().copied()));
    let reached = reached(ratio.median >= TO_REACH);
    println!(
        "    ratio of a round: {:.3} ({:.3}-{:.3}); {TO_REACH} to reach: {reached}",
        ratio.median, ratio.least, ratio.most
    );
    Ok(())
}

async fn scene<'lab>(lab: &'lab Lab, stickiness: &'static str) -> Result<Scene<'lab>> {
    let mut config = Config {
        stickiness,
        ..Config::new(lab, "off")
    };
    // Not what is measured.
    config.more.log = "access = { to = \"off\" }".to_owned();
    Scene::set(lab, &config).await
}

async fn rate(scene: &Scene<'_>, options: &Options) -> Result<f64> {
    let begun = Instant::now();
    let until = begun + Duration::from_secs(options.seconds);
    let asking = (0..options.connections).map(|_| ask_on(&scene.client, until));
    let counts = try_join_all(asking).await?;
    Ok(counts.iter().sum::<usize>() as f64 / begun.elapsed().as_secs_f64())
}

/// Asks over one connection, with the cookie of the first answer if there is one.
async fn ask_on(client: &Client<'_>, until: Instant) -> Result<usize> {
    let mut stream = client.connect().await?;
    let mut buffer = Vec::new();
    let mut request = "GET / HTTP/1.1\r\nHost: lab\r\n\r\n".to_owned();
    let mut count = 0;
    while Instant::now() < until {
        stream.write_all(request.as_bytes()).await?;
        let answer = read_answer(&mut stream, &mut buffer).await?;
        ensure!(answer.status == 200, "{answer:?}");
        if let Some(cookie) = answer.cookie() {
            request = format!("GET / HTTP/1.1\r\nHost: lab\r\nCookie: {cookie}\r\n\r\n");
        }
        count += 1;
    }
    Ok(count)
}

//! `cargo xtask demo`: one WebSocket, from its cookie to the kernel, past the
//! daemon's death and return, to its end; with real packets, step by step.

mod memory;
mod screen;
mod story;

use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use lb_tests::daemon::{Config, binary, config_file};
use lb_tests::lab::{Lab, enter_command};
use lb_tests::scene::Scene;

use crate::install::{self, Tool};
use crate::{build, shell, test};
use screen::Screen;

/// What the demo calls beyond the lab: it asks how much memory a flow takes.
const TOOLS: [Tool; 1] = [("bpftool", "bpftool")];

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave it all running afterwards, until Ctrl-C.
    #[arg(long)]
    keep: bool,
}

/// Builds, shows, cleans up; fails when one step did not hold.
pub(crate) fn run(options: &Options) -> Result<()> {
    shell::require_root(
        "demo",
        "it makes network namespaces and loads a BPF program",
    )?;
    install::tools(&test::TOOLS)?;
    install::tools(&TOOLS)?;
    build::run()?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(show(options))
}

async fn show(options: &Options) -> Result<()> {
    let start = Instant::now();
    let mut screen = Screen::new();
    screen.title("Limpet: a WebSocket stuck to its target, and carried by the kernel");
    screen.note("raising the lab: five network namespaces, wired like this");
    screen.note("  client 10.71.0.2 -- 10.71.0.1 balancer 10.71.{1,2,3}.1 -- .2 targets 1, 2, 3");
    let lab = Lab::new()?;
    let mut scene = Scene::set(&lab, &Config::new(&lab, "auto")).await?;
    scene.daemon.hide_log();
    let told = story::tell(&mut screen, &mut scene).await;
    if told.is_err() {
        screen.note(&format!("the daemon's log:\n{}", scene.daemon.log()));
    }
    let table = told.context("the demo did not hold")?;
    screen.table(&table);
    screen.note(&format!(
        "every step held, in {:.1} s",
        start.elapsed().as_secs_f32()
    ));
    if options.keep {
        keep(&screen, &lab)?;
        std::future::pending::<()>().await;
    }
    drop(scene);
    drop(lab);
    screen.note("removed the lab");
    Ok(())
}

fn keep(screen: &Screen, lab: &Lab) -> Result<()> {
    let (client, balancer) = (enter_command(&lab.client), enter_command(&lab.balancer));
    let limpet = binary()?.canonicalize()?;
    screen.title("Left running until Ctrl-C. To try:");
    for line in [
        format!("{client} curl -i http://{}/", lab.front().ip()),
        format!(
            "{client} python3 -m websockets ws://{}/ws",
            lab.front().ip()
        ),
        format!("{balancer} {} status", limpet.display()),
        format!("{balancer} {} connections", limpet.display()),
        format!("{balancer} ss -tan"),
        format!("cat {}", config_file(lab).display()),
    ] {
        screen.note(&format!("  {line}"));
    }
    Ok(())
}

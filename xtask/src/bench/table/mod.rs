//! `cargo xtask bench table`: the flow table with one, a thousand and a million flows:
//! what a packet costs, what a flow takes, and how long the daemon needs for all.
//!
//! The program and the maps are those of a daemon in a lab; while packets are
//! measured it does not run.

mod daemon;
#[path = "../../../../lb-common/tests/rewrite/frame.rs"]
#[expect(dead_code, reason = "the tests take frames apart too")]
mod frame;
mod memory;
mod packets;
mod ring;

use anyhow::{Context, Result};
use aya::maps::{HashMap, Map, MapData};
use clap::Args;
use lb_common::flow::{Flow, FlowKey};
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::Lab;

use super::prepare;
use crate::shell::say;
use packets::{Cost, Packets};
use ring::Ring;

/// Room for all and a power of two, as the kernel rounds the buckets up.
const MAX_FLOWS: u32 = 1 << 20;
/// What one packet on one key is to cost at most, in nanoseconds.
const ONE_KEY: u64 = 150;
/// What random keys may cost at a million flows, against a thousand.
const RANDOM: u64 = 3;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Calls of BPF_PROG_TEST_RUN for each figure, of 250 packets each.
    #[arg(long, default_value_t = 2000)]
    calls: u32,
    /// Flows in the table at most, a million by default.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1_001..1_048_576))]
    flows: u32,
}

/// Measures everything and prints it.
pub(super) fn run(options: &Options) -> Result<()> {
    let runtime = prepare()?;
    runtime.block_on(measure(options))
}

async fn measure(options: &Options) -> Result<()> {
    let lab = Lab::new()?;
    let config = Config {
        max_flows: MAX_FLOWS,
        ..Config::new(&lab, "tc")
    };
    let mut daemon = Daemon::start(&lab, &config).await?;
    daemon.hide_log();
    // The program goes on without it.
    daemon.kill9()?;
    let mut table = Table::open(&lab)?;
    let packets = Packets::new(&lab, table.flows.map_id)?;
    let mut costs = Vec::new();
    for size in [1, 1_000, options.flows] {
        let ring = Ring::new(size, &packets);
        let before = memory::Memory::now(&table.flows.data, &table.targets.data)?;
        let took = table.fill(&ring)?;
        if size == options.flows {
            let after = memory::Memory::now(&table.flows.data, &table.targets.data)?;
            say(format!(
                "{size} flows inserted in {:.1} s",
                took.as_secs_f64()
            ));
            after.print_since(&before, size);
        }
        costs.push((size, packets.measure(&lab, &ring, options.calls)?));
        if size != options.flows {
            table.empty(&ring)?;
        }
    }
    print_costs(&costs);
    let flows = u64::from(options.flows) + 1;
    daemon::measure(&mut daemon, flows).await
}

/// A map, and its descriptor for the kernel's own figures.
struct Opened<V: aya::Pod> {
    map: HashMap<MapData, FlowKey, V>,
    data: MapData,
    map_id: u32,
}

struct Table {
    flows: Opened<Flow>,
    targets: Opened<FlowKey>,
}

impl Table {
    fn open(lab: &Lab) -> Result<Self> {
        Ok(Self {
            flows: open(lab, "FLOWS")?,
            targets: open(lab, "TARGETS")?,
        })
    }

    fn fill(&mut self, ring: &Ring) -> Result<std::time::Duration> {
        let start = std::time::Instant::now();
        for (client, flow) in ring.flows() {
            self.flows.map.insert(client, flow, 0)?;
            self.targets
                .map
                .insert(ring::target_key(&flow), client, 0)?;
        }
        Ok(start.elapsed())
    }

    fn empty(&mut self, ring: &Ring) -> Result<()> {
        for (client, flow) in ring.flows() {
            self.flows.map.remove(&client)?;
            self.targets.map.remove(&ring::target_key(&flow))?;
        }
        Ok(())
    }
}

fn open<V: aya::Pod>(lab: &Lab, name: &str) -> Result<Opened<V>> {
    let pin = lab
        .run()
        .pin_dir()
        .join(format!("v{}", lb_common::LAYOUT))
        .join(name);
    let data = || MapData::from_pin(&pin).with_context(|| pin.display().to_string());
    Ok(Opened {
        map: Map::HashMap(data()?).try_into()?,
        map_id: data()?.info()?.id(),
        data: data()?,
    })
}

fn print_costs(costs: &[(u32, Cost)]) {
    println!("\n| flows | client, one key | client, random | target, one key | target, random |");
    println!("|---|---|---|---|---|");
    for (size, Cost { client, target }) in costs {
        println!(
            "| {size} | {} ns | {} ns | {} ns | {} ns |",
            client.one_key, client.random, target.one_key, target.random
        );
    }
    let [.., (_, thousand), (_, million)] = costs else {
        return;
    };
    for (side, small, large) in [
        ("client", thousand.client, million.client),
        ("target", thousand.target, million.target),
    ] {
        println!(
            "{side}: one key {} ns ({} is to be reached); random keys {:.1} times a \
             thousand's (at most {RANDOM})",
            large.one_key,
            ONE_KEY,
            large.random as f64 / small.random as f64
        );
    }
}

//! Proves that both directions of connections arrive whole, from the 101 on and
//! across the handoff, over paths that lose, double and reorder packets; that the
//! balancer resets nothing; and that the ends' own TCP finds no more wrong with what
//! reaches it than over the same path without a balancer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::lab::Offloads;
use lb_tests::passage::{Outcome, Passage};
use tokio::sync::Mutex;

const TAKES: Duration = Duration::from_secs(120);
/// A packet that one processor is slow with, overtaken by its retransmission or by
/// newer acknowledgments, counts as well. It is rare and chance in either run; a
/// wrong shift would count every packet, of which there are thousands.
const CHANCE: u64 = 10;

/// Each wants the whole machine.
static MACHINE: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn over_tc_without_loss() -> Result<()> {
    arrive("tc", Offloads::Full, 0.0, 100_000_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tc_with_little_loss() -> Result<()> {
    arrive("tc", Offloads::Segments, 0.1, 100_000_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_xdp_with_little_loss() -> Result<()> {
    arrive("xdp", Offloads::Xdp, 0.1, 100_000_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tc_with_much_loss() -> Result<()> {
    arrive("tc", Offloads::Segments, 1.0, 100_000_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tc_with_terrible_loss() -> Result<()> {
    arrive("tc", Offloads::Segments, 5.0, 5_000_000).await
}

async fn arrive(mode: &'static str, offloads: Offloads, loss: f64, bytes: u64) -> Result<()> {
    let _turn = MACHINE.lock().await;
    let passage = Passage {
        mode,
        offloads,
        loss,
        bytes,
        takes: TAKES,
    };
    let with = passage.by_the_balancer().await?;
    let without = passage.by_a_router().await.context("without a balancer")?;
    println!("{passage:?}: {with:?}; without a balancer: {without:?}");
    for (one, reference) in with.complaints.iter().zip(&without.complaints) {
        let chance = if one.0.starts_with("Tcp.") { 0 } else { CHANCE };
        ensure!(
            one.1 <= reference.1.max(chance),
            "{one:?}, without a balancer {reference:?}"
        );
    }
    // The path was as bad as it was meant to be.
    for Outcome {
        retransmitted,
        reordered,
        doubled,
        ..
    } in [with, without]
    {
        ensure!(loss == 0.0 || retransmitted > 0, "nothing was lost");
        ensure!(doubled > 0, "nothing came twice");
        // A burst of whole GSO packets is too few to be overtaken for certain.
        ensure!(
            reordered > 0 || offloads == Offloads::Full,
            "nothing came late"
        );
    }
    Ok(())
}

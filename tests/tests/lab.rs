//! Proves the lab itself, with the balancer's namespace as a plain router: what
//! a scripted peer says arrives, faults of the path are noticed, and a lab that
//! is gone has left nothing behind.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_tests::client::{self, Client};
use lb_tests::lab::{Lab, Offloads};
use lb_tests::sockets;
use lb_tests::target::Targets;
use lb_tests::until::{until, when};

async fn router(offloads: Offloads) -> Result<Lab> {
    let lab = Lab::with(offloads)?;
    lab.balancer.sysctl("net/ipv4/ip_forward", "1")?;
    lab.balancer.sysctl("net/ipv6/conf/all/forwarding", "1")?;
    Ok(lab)
}

async fn peers_talk(offloads: Offloads) -> Result<()> {
    let lab = router(offloads).await?;
    let _targets = Targets::start(&lab)?;
    for number in 1..=3 {
        for address in [lab.target(number), lab.target6(number)] {
            let client = Client::new(&lab.client, address);
            assert_eq!(
                client.get("/", None).await?.body,
                format!("target-{number}")
            );
            let (mut socket, _) = client.web_socket("/ws", None).await?;
            assert_eq!(client::who(&mut socket).await?, format!("target-{number}"));
        }
    }
    ensure!(
        sockets::connections(&lab.balancer)?.is_empty(),
        "a router has no sockets"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_talk_through_a_plain_router() -> Result<()> {
    peers_talk(Offloads::Full).await?;
    peers_talk(Offloads::Xdp).await
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_survive_lost_packets_and_are_complete() -> Result<()> {
    let lab = router(Offloads::Full).await?;
    let targets = Targets::start(&lab)?;
    lab.drop_percent(1.0)?;
    let client = Client::new(&lab.client, lab.target(1));
    let streams = &targets.notes.streams;
    for id in 0..50 {
        streams.open(&client, id).await?;
    }
    until("every stream moved", Duration::from_secs(20), async || {
        let least = streams.check()?.least;
        when(least > 20_000, || format!("{least} bytes"))
    })
    .await?;
    streams.stop();
    until("every stream ended", Duration::from_secs(20), async || {
        when(streams.all_ended(), || "some are open".to_owned())
    })
    .await?;
    let totals = streams.check_complete()?;
    assert_eq!(totals.connections, 50);
    println!("{totals:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_behind() -> Result<()> {
    let lab = Lab::new()?;
    let names = [&lab.client, &lab.balancer, &lab.targets[0]].map(|ns| ns.name().to_owned());
    let directory = lab.run().directory();
    let mut sleeper = lab
        .client
        .start(std::process::Command::new("sleep").arg("1000"))?;
    drop(lab);
    for name in names {
        ensure!(
            !Path::new("/var/run/netns").join(&name).exists(),
            "{name} is still there"
        );
    }
    ensure!(
        !directory.exists(),
        "{} is still there",
        directory.display()
    );
    ensure!(!sleeper.wait()?.success(), "its process was not ended");
    Ok(())
}

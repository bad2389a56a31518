//! Proves who may connect: strangers and those who come too often are turned away by
//! the kernel before the stack, or by the daemon where no program looks, and nobody
//! else notices. And that an offer of ECN keeps no client out of the kernel.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lb_tests::client::{Client, read_answer, who};
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::{Lab, Offloads};
use lb_tests::scene::Scene;
use lb_tests::sockets::{self, Socket};
use lb_tests::until::{until, when};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The client's second address.
const OTHER: [u8; 4] = [10, 71, 0, 3];
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: doors\r\nConnection: close\r\n\r\n";
/// A SYN is repeated after one second, then after two more.
const REPEATED: Duration = Duration::from_secs(20);
/// An answer, or a refusal, takes no time but what a loaded machine takes.
const TOLD: Duration = Duration::from_secs(30);
/// Far more than one a second lets in while a test runs.
const CROWD: usize = 200;

/// A lab whose client has a second address.
fn lab(offloads: Offloads) -> Result<Lab> {
    let lab = Lab::with(offloads)?;
    let address = format!("{}/24", IpAddr::from(OTHER));
    let tool = &mut Command::new("ip");
    lab.client
        .output(tool.args(["address", "add", &address, "dev", "eth0"]))?;
    Ok(lab)
}

fn config(lab: &Lab, mode: &'static str, listener: &str) -> Config {
    let mut config = Config::new(lab, mode);
    config.more.listener = listener.to_owned();
    config
}

/// The client's own address alone.
const ALLOW: &str = "allow = [\"10.71.0.2\"]";

#[tokio::test(flavor = "multi_thread")]
async fn strangers_hear_nothing_over_tc() -> Result<()> {
    strangers_hear_nothing("tc", Offloads::Full).await
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_hear_nothing_over_xdp() -> Result<()> {
    strangers_hear_nothing("xdp", Offloads::Xdp).await
}

async fn strangers_hear_nothing(mode: &'static str, offloads: Offloads) -> Result<()> {
    let lab = lab(offloads)?;
    let scene = Scene::set(&lab, &config(&lab, mode, ALLOW)).await?;
    let mut stranger = crowd(&lab, OTHER.into(), 1)?;
    // A SYN is repeated only by who has heard nothing.
    rejections(&scene.daemon, "denied", 2.0).await?;
    ensure!(stranger.try_join_next().is_none(), "it was told something");
    ensure!(scene.client.get("/", None).await?.status == 200);
    let packets = scene
        .daemon
        .admin
        .metric_with("limpet_fastpath_packets_total", "outcome=\"denied\"");
    ensure!(packets.await? >= 2.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_reset_with_the_fast_path_off() -> Result<()> {
    let lab = lab(Offloads::Full)?;
    strangers_are_reset(&lab, &config(&lab, "off", ALLOW)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_reset_on_an_interface_without_the_program() -> Result<()> {
    let lab = lab(Offloads::Full)?;
    let mut config = config(&lab, "tc", ALLOW);
    config.interfaces.remove(0);
    strangers_are_reset(&lab, &config).await
}

async fn strangers_are_reset(lab: &Lab, config: &Config) -> Result<()> {
    let scene = Scene::set(lab, config).await?;
    let [answer] = &answers(crowd(lab, OTHER.into(), 1)?).await?[..] else {
        anyhow::bail!("one was asked for");
    };
    ensure!(answer.is_empty(), "served: {answer:?}");
    rejections(&scene.daemon, "denied", 1.0).await?;
    ensure!(scene.client.get("/", None).await?.status == 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_source_is_limited_over_tc() -> Result<()> {
    limited_in_the_kernel("tc", Offloads::Full).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_source_is_limited_over_xdp() -> Result<()> {
    limited_in_the_kernel("xdp", Offloads::Xdp).await
}

async fn limited_in_the_kernel(mode: &'static str, offloads: Offloads) -> Result<()> {
    let lab = lab(offloads)?;
    let scene = Scene::set(&lab, &config(&lab, mode, "syn_rate_per_source = 1")).await?;
    let flood = crowd(&lab, OTHER.into(), CROWD)?;
    rejections(&scene.daemon, "limited", CROWD as f64 / 2.0).await?;
    ensure!(
        scene.client.get("/", None).await?.status == 200,
        "another source"
    );
    drop(flood);
    let late = answers(crowd(&lab, OTHER.into(), 1)?).await?;
    ensure!(served(&late) == 1, "not let in again: {late:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_source_is_limited_with_the_fast_path_off() -> Result<()> {
    let lab = lab(Offloads::Full)?;
    let scene = Scene::set(&lab, &config(&lab, "off", "syn_rate_per_source = 1")).await?;
    let start = Instant::now();
    let answers = answers(crowd(&lab, OTHER.into(), CROWD)?).await?;
    // One at once, then one for each second that it took, however long that was.
    let most = 1 + usize::try_from(start.elapsed().as_secs())? + 1;
    let served = served(&answers);
    ensure!(
        (1..=most).contains(&served),
        "{served} served, {most} at most"
    );
    rejections(&scene.daemon, "limited", (CROWD - served) as f64).await?;
    ensure!(
        scene.client.get("/", None).await?.status == 200,
        "another source"
    );
    Ok(())
}

/// Also while no daemon runs, and a daemon without the fast path goes by its own.
#[tokio::test(flavor = "multi_thread")]
async fn changed_rules_leave_connections_alone() -> Result<()> {
    let lab = lab(Offloads::Full)?;
    let mut scene = Scene::set(&lab, &config(&lab, "tc", "")).await?;
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    let name = who(&mut socket).await?;
    scene.settled(1).await?;

    let other = format!("allow = [\"{}\"]", IpAddr::from(OTHER));
    scene.daemon.kill9()?;
    scene.daemon = Daemon::start(&lab, &config(&lab, "tc", &other)).await?;
    ensure!(who(&mut socket).await? == name, "another target");
    scene.settled(1).await?;
    let shut_out = crowd(&lab, lab.client_address(), 1)?;
    rejections(&scene.daemon, "denied", 2.0).await?;
    drop(shut_out);
    ensure!(served(&answers(crowd(&lab, OTHER.into(), 1)?).await?) == 1);

    // Nobody listens: who gets as far as the stack is told so.
    scene.daemon.kill9()?;
    let mut shut_out = crowd(&lab, lab.client_address(), 1)?;
    knocks(&lab).await?;
    let told = answers(crowd(&lab, OTHER.into(), 1)?).await?;
    ensure!(served(&told) == 0, "nobody is there: {told:?}");
    ensure!(shut_out.try_join_next().is_none(), "it was told something");
    ensure!(who(&mut socket).await? == name, "another target");

    scene.daemon = Daemon::start(&lab, &config(&lab, "off", "")).await?;
    ensure!(who(&mut socket).await? == name, "another target");
    ensure!(
        scene.client.get("/", None).await?.status == 200,
        "still shut out"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_offer_ecn_get_into_the_kernel() -> Result<()> {
    for (mode, offloads) in [("tc", Offloads::Full), ("xdp", Offloads::Xdp)] {
        let lab = Lab::with(offloads)?;
        lab.client.sysctl("net/ipv4/tcp_ecn", "1")?;
        lab.balancer.sysctl("net/ipv4/tcp_ecn", "1")?;
        let scene = Scene::set(&lab, &config(&lab, mode, "")).await?;
        let (mut first, _) = scene.client.web_socket("/ws", None).await?;
        who(&mut first).await?;
        scene.settled(1).await.context(mode)?;
    }
    Ok(())
}

/// Connections begun at once from an address, and what each was answered: nothing if
/// it was refused, whether that showed at the connect, in sending or in receiving.
fn crowd(lab: &Lab, from: IpAddr, count: usize) -> Result<JoinSet<Vec<u8>>> {
    let mut all = JoinSet::new();
    for _ in 0..count {
        let socket = lab.client.socket(lab.front())?;
        socket.bind(SocketAddr::new(from, 0))?;
        let front = lab.front();
        all.spawn(async move {
            let mut answer = Vec::new();
            // Whatever error it ends with, it is what was read that counts.
            let _refused = talk(socket, front, &mut answer).await;
            answer
        });
    }
    Ok(all)
}

async fn talk(socket: TcpSocket, to: SocketAddr, answer: &mut Vec<u8>) -> io::Result<()> {
    let mut stream = socket.connect(to).await?;
    stream.write_all(REQUEST).await?;
    stream.read_to_end(answer).await.map(drop)
}

/// Waits until each was answered or refused.
async fn answers(crowd: JoinSet<Vec<u8>>) -> Result<Vec<String>> {
    let all = timeout(TOLD, crowd.join_all()).await;
    let all = all.context("neither answered nor refused")?;
    let text = |answer: &Vec<u8>| String::from_utf8_lossy(answer).into_owned();
    Ok(all.iter().map(text).collect())
}

fn served(answers: &[String]) -> usize {
    let served = |answer: &&String| answer.starts_with("HTTP/1.1 200 ");
    answers.iter().filter(served).count()
}

/// Waits until a SYN of the client's own address is on its way.
async fn knocks(lab: &Lab) -> Result<()> {
    let address = lab.client_address().to_string();
    until("a SYN is on its way", TOLD, async || {
        let sockets = sockets::list(&lab.client)?;
        let knocks = |one: &Socket| one.state == "SYN-SENT" && one.local.starts_with(&address);
        when(sockets.iter().any(knocks), || format!("{sockets:?}"))
    })
    .await
}

async fn rejections(daemon: &Daemon<'_>, reason: &str, least: f64) -> Result<()> {
    let name = format!("limpet_rejected_total{{listener=\"web\",reason=\"{reason}\"}}");
    until(&format!("{least} are {reason}"), REPEATED, async || {
        let count = daemon.admin.metric_of(&name).await?;
        when(count >= least, || count.to_string())
    })
    .await
}

/// A client of the lab's IPv6 address is judged by networks of IPv6.
#[tokio::test(flavor = "multi_thread")]
async fn each_family_has_its_own_networks() -> Result<()> {
    let lab = lab(Offloads::Full)?;
    let scene = Scene::set(&lab, &config(&lab, "tc", "allow = [\"fd71::/64\"]")).await?;
    let client = Client::new(&lab.client, lab.front6());
    ensure!(client.get("/", None).await?.status == 200);
    let mut stranger = crowd(&lab, lab.client_address(), 1)?;
    rejections(&scene.daemon, "denied", 2.0).await?;
    ensure!(stranger.try_join_next().is_none(), "it was told something");
    Ok(())
}

/// A connection that has been answered, and stays.
async fn holds(client: Client<'_>) -> Result<TcpStream> {
    let mut stream = client.connect().await?;
    let request = b"GET / HTTP/1.1\r\nHost: doors\r\n\r\n";
    stream.write_all(request).await?;
    let answer = read_answer(&mut stream, &mut Vec::new()).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(stream)
}

/// A reset may overtake what `connect` finds.
fn is_reset(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

/// A connection is reset, and that is counted as this.
async fn reset_as(daemon: &Daemon<'_>, client: Client<'_>, label: &str) -> Result<()> {
    let name = format!("limpet_rejected_total{{{label}}}");
    let before = daemon.admin.metric(&name).await?;
    let read = async { Ok(client.connect().await?.read_u8().await?) };
    let error = timeout(TOLD, read).await?.err().context("it was let in")?;
    ensure!(is_reset(&error), "{error:#}");
    let after = daemon.admin.metric(&name).await?;
    ensure!(after == before + 1.0, "{label}: {before}, then {after}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_room_for_so_many() -> Result<()> {
    let lab = Lab::new()?;
    let mut config = config(&lab, "off", "max_connections = 2");
    config.more.limits = "max_connections = 4\nmax_connections_per_source = 3".into();
    let second = (lab.front().ip(), 81).into();
    let second6 = (lab.front6().ip(), 81).into();
    config.more.tables = format!(
        "[[listener]]\nname = \"second\"\nbind = [\"{second}\", \"{second6}\"]\n\
         target_group = \"chat\"\n"
    );
    let scene = Scene::set(&lab, &config).await?;
    let (web, daemon) = (scene.client, &scene.daemon);
    let second = Client::new(&lab.client, second);
    let second6 = Client::new(&lab.client, second6);

    let held = [holds(web).await?, holds(web).await?];
    let label = "listener=\"web\",reason=\"listener_max_connections\"";
    reset_as(daemon, web, label).await?;
    let _third = holds(second).await?;
    let label = "listener=\"second\",reason=\"max_connections_per_source\"";
    reset_as(daemon, second, label).await?;
    let _fourth = holds(second6).await?;
    let label = "listener=\"second\",reason=\"max_connections\"";
    reset_as(daemon, second6, label).await?;
    drop(held);
    until("there is room again", TOLD, async || {
        Ok(holds(web)
            .await
            .map(drop)
            .map_err(|error| error.to_string()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kernel_carries_takes_no_place() -> Result<()> {
    let lab = Lab::new()?;
    let scene = Scene::set(&lab, &config(&lab, "tc", "max_connections = 1")).await?;
    let mut sockets = Vec::new();
    for count in 1..=3 {
        let opened = until("there is room again", TOLD, async || {
            let opened = scene.client.web_socket("/ws", None).await;
            Ok(opened.map_err(|error| error.to_string()))
        });
        sockets.push(opened.await?.0);
        scene.settled(count).await?;
    }
    for socket in &mut sockets {
        who(socket).await?;
    }
    Ok(())
}

/// That the daemon has. Half of them are clients' and targets' where it may choose.
const DESCRIPTORS: u32 = 96;

#[tokio::test(flavor = "multi_thread")]
async fn descriptors_that_run_out_are_waited_for() -> Result<()> {
    let lab = Lab::new()?;
    let mut config = config(&lab, "off", "");
    config.descriptors = Some(DESCRIPTORS);
    // More than there are: nothing but accepting fails.
    config.more.limits = "max_connections = 1000".into();
    let scene = Scene::set(&lab, &config).await?;
    let mut crowd = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        crowd.push(scene.client.connect().await?);
    }
    until("accepting fails", TOLD, async || {
        let log = scene.daemon.log();
        let failed = log.contains("a connection could not be accepted");
        when(failed, || "nothing of it in the log".into())
    })
    .await?;
    drop(crowd);
    until("it is well again", TOLD, async || {
        let answer = scene.client.get("/", None).await;
        let well = answer.as_ref().is_ok_and(|answer| answer.status == 200);
        when(well, || format!("{answer:?}"))
    })
    .await?;
    let label = "limpet_rejected_total{listener=\"web\",reason=\"accept\"}";
    let counted = scene.daemon.admin.metric(label).await?;
    ensure!(counted >= 1.0, "{counted}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_room_for_as_many_as_descriptors_allow() -> Result<()> {
    let lab = Lab::new()?;
    let mut config = config(&lab, "off", "");
    config.descriptors = Some(DESCRIPTORS);
    let scene = Scene::set(&lab, &config).await?;
    let mut crowd = Vec::new();
    for _ in 0..DESCRIPTORS {
        match scene.client.connect().await {
            Ok(stream) => crowd.push(stream),
            Err(error) => ensure!(is_reset(&error), "{error:#}"),
        }
    }
    // The admin API is not locked out meanwhile.
    let label = "limpet_rejected_total{listener=\"web\",reason=\"max_connections\"}";
    until("the others are refused", TOLD, async || {
        let refused = scene.daemon.admin.metric(label).await?;
        when(refused >= f64::from(DESCRIPTORS) / 2.0, || {
            refused.to_string()
        })
    })
    .await?;
    ensure!(!scene.daemon.log().contains("could not be accepted"));
    drop(crowd);
    until("it is well again", TOLD, async || {
        let answer = scene.client.get("/", None).await;
        let well = answer.as_ref().is_ok_and(|answer| answer.status == 200);
        when(well, || format!("{answer:?}"))
    })
    .await
}

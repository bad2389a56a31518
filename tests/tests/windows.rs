//! Proves that a flow waits for a receiver that has stopped reading: window probes and
//! keepalives of its ends are carried and answered, none of them counts as payload, and
//! when the reader goes on every byte is there.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use lb_tests::client::{WebSocket, who};
use lb_tests::counters::Counters;
use lb_tests::daemon::Config;
use lb_tests::lab::Lab;
use lb_tests::namespace::Namespace;
use lb_tests::pattern::Pattern;
use lb_tests::scene::Scene;
use lb_tests::sockets::{self, Socket, Timer};
use lb_tests::until::{patient, until, when};
use socket2::SockRef;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

/// What takes seconds, on a machine that does much else.
const SOON: Duration = Duration::from_secs(30);
/// More than what lies between the target and a client that does not read.
const MORE_THAN_FITS: usize = 4 << 20;
const MESSAGE: usize = 64 << 10;
const SEED: u64 = 22;

/// What an end sends that has nothing to say, or may not say it.
#[derive(Debug, Clone, Copy)]
enum Asks {
    /// Whether the other end is there, every second.
    Alive,
    /// Whether its window is open, ever more rarely.
    Window,
}

impl Asks {
    /// The kernel's counter of it, and its name as a timer.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Alive => ("TcpExt.TCPKeepAlive", "keepalive"),
            Self::Window => ("TcpExt.TCPWinProbe", "persist"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_may_pause_for_long() -> Result<()> {
    let lab = Lab::new()?;
    let mut scene = set(&lab, "1h").await?;
    let socket = open(&scene).await?;
    let flow = scene.settled(1).await?.remove(0);
    nothing_but(&scene, (Asks::Alive, 2), (Asks::Alive, 2)).await?;

    let (mut to_target, from_target) = socket.split();
    let mut pattern = Pattern::new(SEED);
    fill(&mut to_target, &mut pattern).await?;
    nothing_but(&scene, (Asks::Alive, 2), (Asks::Window, 3))
        .await
        .context("the client reads nothing")?;

    let enough = AtomicBool::new(false);
    let sending = say_more(&mut to_target, &mut pattern, &enough);
    let (sent, received) = tokio::try_join!(sending, async {
        // The target asks already, more rarely every time.
        nothing_but(&scene, (Asks::Window, 3), (Asks::Window, 1))
            .await
            .context("neither end reads anything")?;
        enough.store(true, Relaxed);
        read_all(from_target).await
    })?;
    ensure!(sent == received, "{received} of {sent} bytes");

    let after = scene.settled(1).await?.remove(0);
    ensure!(after.id == flow.id, "{after:?}, not {flow:?}");
    for end in ends(&lab) {
        let counters = Counters::read(end)?;
        for name in ["Tcp.EstabResets", "Tcp.OutRsts", "TcpExt.TCPAbortOnTimeout"] {
            ensure!(counters.get(name)? == 0, "{name} in {}", end.name());
        }
    }
    scene.daemon.hide_log();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_do_not_keep_an_idle_flow() -> Result<()> {
    let lab = Lab::new()?;
    let scene = set(&lab, "3s").await?;
    let (mut to_target, _unread) = open(&scene).await?.split();
    scene.settled(1).await?;
    fill(&mut to_target, &mut Pattern::new(SEED)).await?;
    until("it is ended for saying nothing", SOON, async || {
        let log = scene.daemon.log();
        when(log.contains("cause=\"idle\""), || "lives on".to_owned())
    })
    .await?;
    for end in ends(&lab) {
        let counters = Counters::read(end)?;
        ensure!(counters.get("Tcp.EstabResets")? == 1, "no reset came");
    }
    let probes = Counters::read(&lab.targets[0])?.get("TcpExt.TCPWinProbe")?;
    ensure!(probes > 0, "its window was open");
    scene.all_gone().await
}

/// One target; ends that give each other up after three keepalives without an answer.
async fn set<'lab>(lab: &'lab Lab, idle_timeout: &'static str) -> Result<Scene<'lab>> {
    for end in ends(lab) {
        for (name, value) in [("time", "1"), ("intvl", "1"), ("probes", "3")] {
            end.sysctl(&format!("net/ipv4/tcp_keepalive_{name}"), value)?;
        }
    }
    let config = Config {
        targets: vec![lab.target(1)],
        idle_timeout,
        ..Config::new(lab, "auto")
    };
    Scene::set(lab, &config).await
}

fn ends(lab: &Lab) -> [&Namespace; 2] {
    [&lab.client, &lab.targets[0]]
}

/// A WebSocket with keepalives; the target's has them too.
async fn open(scene: &Scene<'_>) -> Result<WebSocket> {
    let (mut socket, _) = scene.client.web_socket("/ws", None).await?;
    SockRef::from(socket.get_ref()).set_keepalive(true)?;
    who(&mut socket).await?;
    Ok(socket)
}

/// Has the target answer more than a client takes that does not read.
async fn fill(to_target: &mut Sink, pattern: &mut Pattern) -> Result<()> {
    let message = Message::binary(pattern.bytes(MORE_THAN_FITS));
    Ok(timeout(patient(SOON), to_target.send(message)).await??)
}

/// Waits until client and target have each sent this many more of these, with an answer
/// to each, and nothing that counts as payload.
async fn nothing_but(scene: &Scene<'_>, client: (Asks, u64), target: (Asks, u64)) -> Result<()> {
    let ends = ends(scene.lab).into_iter().zip([client, target]);
    let sent = |end, asks: Asks| Counters::read(end)?.get(asks.names().0);
    let mut goals = Vec::new();
    for (end, (asks, more)) in ends {
        goals.push((end, asks, sent(end, asks)? + more));
    }
    until("they ask, and are answered", SOON, async || {
        let one = scene.settled(1).await?.remove(0);
        let mut enough = one.idle_seconds >= 1.0;
        let mut seen = format!("{one:?}");
        for (end, asks, goal) in &goals {
            let sent = sent(end, *asks)?;
            let sockets = sockets::connections(end)?;
            let answered = |socket: &Socket| {
                let answered = |it: &Timer| it.name == asks.names().1 && it.unanswered == 0;
                socket.timer.as_ref().is_some_and(answered)
            };
            enough &= sent >= *goal && sockets.iter().all(answered);
            seen += &format!("; {asks:?} {sent} of {goal}, {sockets:?}");
        }
        when(enough, || seen)
    })
    .await
}

type Sink = SplitSink<WebSocket, Message>;

/// Talks until told that it is enough; answers how many bytes there were in all, the
/// first message included.
async fn say_more(
    to_target: &mut Sink,
    pattern: &mut Pattern,
    enough: &AtomicBool,
) -> Result<usize> {
    let mut sent = MORE_THAN_FITS;
    while !enough.load(Relaxed) {
        to_target
            .send(Message::binary(pattern.bytes(MESSAGE)))
            .await?;
        sent += MESSAGE;
    }
    to_target.send("all".into()).await?;
    Ok(sent)
}

/// Reads what was said before the last word; the number of bytes, all of them right.
async fn read_all(mut from_target: SplitStream<WebSocket>) -> Result<usize> {
    let (mut expected, mut count) = (Pattern::new(SEED), 0);
    loop {
        let next = timeout(patient(SOON), from_target.next()).await;
        match next.context("left waiting")?.context("closed")?? {
            Message::Binary(bytes) => {
                if let Err(offset) = expected.check(&bytes) {
                    bail!("another byte than was sent, at {}", count + offset);
                }
                count += bytes.len();
            }
            Message::Text(_) => return Ok(count),
            other => bail!("{other:?}"),
        }
    }
}

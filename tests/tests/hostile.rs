//! Proves that nothing a stranger with a raw socket puts on the wire disturbs a
//! connection in the kernel, short of knowing its exact numbers: spoofed segments,
//! broken headers, fragments, lies by ICMP. Each is counted by what it was.

#[expect(dead_code, reason = "what is built here is read elsewhere")]
#[path = "../../lb-common/tests/rewrite/error.rs"]
mod error;
#[path = "../../lb-common/tests/rewrite/frame.rs"]
mod frame;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::Client;
use lb_tests::daemon::Config;
use lb_tests::lab::{Lab, Offloads};
use lb_tests::scene::Scene;
use lb_tests::tap::Tap;
use lb_tests::trace::Exceptions;
use lb_tests::until::{until, when};

use error::Error;
use frame::Plain;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Of each direction, after the lies.
const BYTES: u64 = 5_000;
const PATIENCE: Duration = Duration::from_secs(30);
/// How often each lie is told.
const TIMES: u64 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

/// What a stranger sends, and as what it is counted; `None`: several, or elsewhere.
type Lie = (&'static str, Option<&'static str>, Vec<u8>);

#[tokio::test(flavor = "multi_thread")]
async fn lies_to_tc() -> Result<()> {
    lies("tc", Family::V4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_to_tc_over_ipv6() -> Result<()> {
    lies("tc", Family::V6).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_to_xdp() -> Result<()> {
    lies("xdp", Family::V4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_to_xdp_over_ipv6() -> Result<()> {
    lies("xdp", Family::V6).await
}

async fn lies(mode: &'static str, family: Family) -> Result<()> {
    // Whole checksums at the ends, so that what is seen there can be read.
    let lab = Lab::with(Offloads::Xdp)?;
    let (front, target) = match family {
        Family::V4 => (lab.front(), lab.target(1)),
        Family::V6 => (lab.front6(), lab.target6(1)),
    };
    let config = Config {
        targets: vec![target],
        ..Config::new(&lab, mode)
    };
    let scene = Scene::set(&lab, &config).await?;
    let exceptions = match mode {
        "xdp" => Some(Exceptions::watch(lab.run(), &lab.balancer)?),
        _ => None,
    };
    let client = Client::new(&lab.client, front);
    scene.targets.notes.streams.open(&client, 0).await?;
    scene.settled_within(1, PATIENCE).await?;
    for (end, balancer, direction) in [
        (&lab.client, front, "client_to_target"),
        (&lab.targets[0], target, "target_to_client"),
    ] {
        let tap = Tap::on(end)?;
        let heard = overheard(&tap, balancer).await?;
        for (name, outcome, frame) in [spoofed(&heard), broken(&heard), reports(&heard)].concat() {
            told(&scene, &tap, direction, outcome, &frame)
                .await
                .with_context(|| format!("{direction}: {name}"))?;
        }
        let before = scene.targets.notes.streams.progress();
        scene.streams_go_on(&before, BYTES).await?;
    }
    if let Some(exceptions) = exceptions {
        let aborted = exceptions.noted()?;
        ensure!(aborted.is_empty(), "the program gave up: {aborted:#?}");
    }
    let connection = scene.settled_within(1, PATIENCE).await?.remove(0);
    ensure!(connection.state == "established", "{connection:?}");
    scene.streams_end().await?;
    scene.all_gone().await
}

/// Tells a lie a few times and waits until each is counted.
async fn told(
    scene: &Scene<'_>,
    tap: &Tap,
    direction: &str,
    outcome: Option<&str>,
    frame: &[u8],
) -> Result<()> {
    let admin = &scene.daemon.admin;
    let Some(outcome) = outcome else {
        return (0..TIMES).try_for_each(|_| tap.send(frame));
    };
    let before = admin.packets(direction, outcome).await?;
    (0..TIMES).try_for_each(|_| tap.send(frame))?;
    until(&format!("{outcome} is counted"), PATIENCE, async || {
        let counted = admin.packets(direction, outcome).await? - before;
        when(counted >= TIMES, || format!("{counted} of {TIMES}"))
    })
    .await
}

/// A segment as it was on the wire.
struct Heard {
    macs: [u8; 12],
    plain: Plain,
}

impl Heard {
    /// A frame from the same to the same.
    fn frame(&self, plain: &Plain) -> Vec<u8> {
        self.addressed(plain.frame())
    }

    fn addressed(&self, mut frame: Vec<u8>) -> Vec<u8> {
        frame[..12].copy_from_slice(&self.macs);
        frame
    }

    /// The number behind it.
    fn end(&self) -> u32 {
        let length = u32::try_from(self.plain.payload.len()).expect("a segment");
        self.plain.seq.wrapping_add(length)
    }

    /// The same without data, with these flags, `ahead` of what would come next.
    fn bare(&self, flags: u8, ahead: u32) -> Plain {
        Plain {
            flags,
            seq: self.end().wrapping_add(ahead),
            payload: vec![],
            ..self.plain.clone()
        }
    }

    /// With data that the end has never sent.
    fn false_data(&self, flags: u8, ahead: u32) -> Plain {
        Plain {
            payload: b"this was never said!".to_vec(),
            ..self.bare(flags, ahead)
        }
    }
}

/// Ports that flows have toward targets are below (`fastpath.source_ports`); the system gives
/// others to the daemon's other connections there, health checks.
const OTHER_PORTS: u16 = 32_768;

/// The next segment with data that this end sends on the flow of `at`: the listener, or the
/// target itself.
async fn overheard(tap: &Tap, at: SocketAddr) -> Result<Heard> {
    until("the end says something", PATIENCE, async || {
        while let Some(frame) = tap.next()? {
            // What comes in may have been merged on the way up.
            if !sent_over_tcp(&frame, at) {
                continue;
            }
            let plain = Plain::read(&frame);
            let of_flow = plain.to == at || plain.from == at && plain.to.port() < OTHER_PORTS;
            if !plain.payload.is_empty() && of_flow {
                let macs = frame[..12].try_into()?;
                return Ok(Ok(Heard { macs, plain }));
            }
        }
        Ok(Err("nothing yet".into()))
    })
    .await
}

/// Whether a frame is a TCP segment to the listener or from the target.
fn sent_over_tcp(frame: &[u8], at: SocketAddr) -> bool {
    let (protocol, from, to) = match at {
        SocketAddr::V4(_) => (23, 26..30, 30..34),
        SocketAddr::V6(_) => (20, 22..38, 38..54),
    };
    let (ethertype, tcp) = match at {
        SocketAddr::V4(_) => ([0x08, 0x00], 34),
        SocketAddr::V6(_) => ([0x86, 0xdd], 54),
    };
    let address = match at.ip() {
        std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
        std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let port = at.port().to_be_bytes();
    frame.len() >= tcp + 20
        && frame[12..14] == ethertype
        && frame[protocol] == 6
        && (frame[to] == address && frame[tcp + 2..tcp + 4] == port && at.port() == 80
            || frame[from] == address && frame[tcp..tcp + 2] == port && at.port() != 80)
}

/// Well-formed segments that the end has not sent. Their numbers are not exactly right.
fn spoofed(heard: &Heard) -> Vec<Lie> {
    let far = 1 << 30;
    let lie = |name, outcome, plain: Plain| (name, Some(outcome), heard.frame(&plain));
    vec![
        lie(
            "a reset in the window",
            "forwarded",
            heard.bare(RST, 40_000),
        ),
        lie("a reset behind it", "forwarded", heard.bare(RST, !5_000)),
        lie(
            "a reset far away",
            "forwarded",
            heard.bare(RST | ACK, 1 << 31),
        ),
        lie("a SYN", "challenged", heard.bare(SYN, far)),
        lie("a SYN in the window", "challenged", heard.bare(SYN, 40_000)),
        lie("a SYN with ACK", "challenged", heard.bare(SYN | ACK, 0)),
        lie("a SYN with data", "malformed", heard.false_data(SYN, 0)),
        lie("a SYN with reset", "malformed", heard.bare(SYN | RST, 0)),
        lie(
            "a FIN of long ago",
            "forwarded",
            heard.bare(FIN | ACK, !5_000),
        ),
        lie("a FIN far ahead", "forwarded", heard.bare(FIN | ACK, far)),
        lie(
            "data far ahead",
            "forwarded",
            heard.false_data(PSH | ACK, far),
        ),
        lie("data without ACK", "forwarded", heard.false_data(PSH, 0)),
        lie("no flags", "forwarded", heard.false_data(0, 0)),
        lie("all other flags", "forwarded", heard.false_data(0xe8, 0)),
    ]
}

/// Frames that are broken in one place.
fn broken(heard: &Heard) -> Vec<Lie> {
    let data = heard.frame(&heard.false_data(PSH | ACK, 0));
    let v4 = heard.plain.from.is_ipv4();
    let tcp = if v4 { 34 } else { 54 };
    let changed = |at: usize, to: u8| {
        let mut frame = data.clone();
        frame[at] = to;
        frame
    };
    let option = |kind: u8, length: u8| {
        let mut plain = heard.false_data(PSH | ACK, 0);
        plain.options = vec![1, 1, kind, length];
        heard.frame(&plain)
    };
    let mut lies: Vec<Lie> = vec![
        (
            "a wrong TCP checksum",
            Some("forwarded"),
            changed(tcp + 16, !data[tcp + 16]),
        ),
        (
            "a header too short",
            Some("malformed"),
            changed(tcp + 12, 0x40),
        ),
        ("a header beyond the end", Some("malformed"), {
            let mut frame = changed(tcp + 12, 0xf0);
            let length = if v4 { 16 } else { 18 };
            let short = if v4 { 44u16 } else { 24 };
            frame[length..length + 2].copy_from_slice(&short.to_be_bytes());
            frame
        }),
        (
            "cut in its header",
            Some("malformed"),
            data[..tcp + 12].to_vec(),
        ),
        ("cut in its ports", None, data[..tcp + 3].to_vec()),
        (
            "the last hop",
            Some("expired"),
            changed(if v4 { 22 } else { 21 }, 1),
        ),
    ];
    for kind in [2, 3, 4, 5, 8, 253] {
        for length in [0, 1, 3, 40, 255] {
            lies.push((
                "an option's length",
                Some("malformed"),
                option(kind, length),
            ));
        }
    }
    if v4 {
        lies.extend([
            (
                "a wrong IP checksum",
                Some("forwarded"),
                changed(24, !data[24]),
            ),
            ("a first fragment", Some("fragment"), changed(20, 0x20)),
            ("a later fragment", None, changed(21, 8)),
            (
                "IP options",
                Some("headers"),
                inserted(&changed(14, 0x46), 34, &[0x94, 4, 0, 0]),
            ),
        ]);
    } else {
        let fragment = [6, 0, 0, 1, 0, 0, 0, 9];
        let options = [6, 0, 1, 4, 0, 0, 0, 0];
        lies.extend([
            (
                "a first fragment",
                Some("fragment"),
                inserted(&changed(20, 44), 54, &fragment),
            ),
            (
                "hop by hop",
                Some("headers"),
                inserted(&changed(20, 0), 54, &options),
            ),
            (
                "destination options",
                Some("headers"),
                inserted(&changed(20, 60), 54, &options),
            ),
        ]);
    }
    lies
}

/// More bytes at `at`, and as many more in the IP header's length.
fn inserted(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame.splice(at..at, bytes.iter().copied());
    let field = if frame[12] == 0x08 { 16 } else { 18 };
    let length = u16::from_be_bytes([frame[field], frame[field + 1]]) + bytes.len() as u16;
    frame[field..field + 2].copy_from_slice(&length.to_be_bytes());
    frame
}

/// ICMP errors about what this end was sent: `ahead` of what it has acknowledged.
fn reports(heard: &Heard) -> Vec<Lie> {
    let v4 = heard.plain.from.is_ipv4();
    let quote = |ahead: u32| {
        let mut quoted = heard.bare(ACK, 0);
        (quoted.from, quoted.to) = (heard.plain.to, heard.plain.from);
        quoted.seq = heard.plain.ack.wrapping_add(ahead);
        quoted.frame()
    };
    let error = |ahead, mtu| Error::too_big(&quote(ahead), heard.plain.from.ip(), mtu, 20);
    let unreachable = Error {
        kind: if v4 { [3, 3] } else { [1, 4] },
        ..error(0, 0)
    };
    let elsewhere = Error {
        quoted: heard.frame(&heard.bare(ACK, 0))[14..].to_vec(),
        ..error(0, 600)
    };
    let cut = Error {
        quoted: quote(0)[14..40].to_vec(),
        ..error(0, 600)
    };
    let lie = |name, outcome, error: Error| (name, outcome, heard.addressed(error.frame()));
    let least = if v4 { 600 } else { 1280 };
    vec![
        lie(
            "too big, but not sent",
            Some("doubted"),
            error(100_000, 600),
        ),
        lie("too big, far away", Some("doubted"), error(1 << 31, 600)),
        lie(
            "too big, of long ago",
            Some("doubted"),
            error(!(1 << 20), 600),
        ),
        lie("too big, perhaps", Some("too_big"), error(0, least)),
        lie("no such port", Some("unreachable"), unreachable),
        lie("about what it sent itself", None, elsewhere),
        lie("quotes too little", None, cut),
    ]
}

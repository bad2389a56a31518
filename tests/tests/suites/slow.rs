//! Proves with slowhttptest that clients who take their time are sent away by the limits
//! on it, and that others are answered meanwhile.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::Client;
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::Lab;
use lb_tests::target::Targets;

/// Slow clients of each kind.
const CROWD: &str = "50";
/// Seconds after which slowhttptest gives up itself; they are to be sent away long before.
const GIVEN_UP: &str = "60";
/// For one step of a client.
const LIMITS: (&str, &str) = ("header_timeout = \"5s\"\n", "idle_timeout = \"5s\"\n");
/// From one request of the other client to the next.
const PAUSE: Duration = Duration::from_millis(25);

/// What they ask for, and how slowly.
const ATTACKS: [(&str, &[&str]); 3] = [
    // A header line every seven seconds.
    ("/", &["-H", "-i", "7"]),
    // A piece of a body of 8 KiB every seven seconds.
    ("/", &["-B", "-i", "7", "-s", "8192"]),
    // A window of some hundred bytes every two seconds: no step forward for the balancer.
    (
        "/large",
        &["-X", "-n", "2", "-z", "512", "-w", "128", "-y", "256"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_sent_away() -> Result<()> {
    let lab = Lab::new()?;
    let _targets = Targets::start(&lab)?;
    let mut config = Config::new(&lab, "off");
    config.more.limits = LIMITS.0.to_owned();
    config.more.listener = LIMITS.1.to_owned();
    let _daemon = Daemon::start(&lab, &config).await?;
    let client = Client::new(&lab.client, lab.front());
    let mut attacks: Vec<_> = ATTACKS
        .iter()
        .map(|(path, options)| start(&lab, path, options))
        .collect::<Result<_>>()?;
    let mut answered = 0;
    while under_way(&mut attacks)? {
        let answer = client.get("/", None).await;
        let answer = answer.with_context(|| format!("after {answered} answers"))?;
        ensure!(answer.status == 200, "{answer:?}");
        answered += 1;
        tokio::time::sleep(PAUSE).await;
    }
    ensure!(answered > 0, "nobody asked meanwhile");
    for ((path, options), attack) in ATTACKS.iter().zip(attacks) {
        let said = attack.wait_with_output()?.stdout;
        let said = String::from_utf8_lossy(&said);
        // Not by its own end, and not by being refused.
        ensure!(
            said.contains("No open connections left"),
            "{options:?} of {path}: {said}"
        );
    }
    Ok(())
}

fn start(lab: &Lab, path: &str, options: &[&str]) -> Result<Child> {
    let mut command = Command::new("slowhttptest");
    command
        .args(options)
        .args(["-c", CROWD, "-r", CROWD, "-l", GIVEN_UP])
        .args(["-u", &format!("http://{}{path}", lab.front())])
        .stdout(Stdio::piped());
    let started = lab.client.start(&mut command);
    started.context("starting slowhttptest: run `cargo xtask test` once")
}

fn under_way(attacks: &mut [Child]) -> Result<bool> {
    for attack in attacks {
        if attack.try_wait()?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

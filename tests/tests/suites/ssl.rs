//! Proves with testssl.sh that it finds nothing above LOW wrong with an https listener but
//! the test's certificate, which is its own issuer and lasts two days.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lb_tests::certificate::Certificate;
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::Lab;
use lb_tests::target::Targets;
use serde_json::Value;

/// Findings about the certificate: who signed it, and for how long.
const CERTIFICATE: [&str; 5] = [
    "cert_chain_of_trust",
    "cert_trust",
    "cert_expirationStatus",
    "cert_notAfter",
    "cert_revocation",
];
/// What it could not look at (`WARN`) for reasons of its own: openssl has no such engine, and
/// at the end of its input does not wait for the ticket of TLS 1.3, of no server.
const ITS_OWN: [&str; 3] = [
    "engine_problem",
    "sessionresumption_ticket",
    "sessionresumption_ID",
];
/// Severities that need no change.
const FINE: [&str; 4] = ["OK", "INFO", "LOW", "DEBUG"];
/// testssl.sh looks at some hundred things.
const LEAST: usize = 100;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: cargo xtask test --suites"]
async fn nothing_above_low_is_found() -> Result<()> {
    let lab = Lab::new()?;
    let _targets = Targets::start(&lab)?;
    let mut config = Config::new(&lab, "off");
    let front = SocketAddr::new(lab.front().ip(), 443);
    config.more.tables = Certificate::new(&lab)?.table("secure", front);
    let _daemon = Daemon::start(&lab, &config).await?;
    let report = lab.run().directory().join("testssl.json");
    let mut command = Command::new("testssl");
    command
        .args([
            "--quiet",
            "--color",
            "0",
            "--nodns",
            "none",
            "--warnings",
            "off",
        ])
        .arg("--jsonfile")
        .arg(&report)
        .arg(front.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let started = lab.client.start(&mut command);
    // Its status counts what it has found.
    started
        .context("starting testssl: run `cargo xtask test --suites` once")?
        .wait()?;
    let findings: Vec<Value> = serde_json::from_str(&fs::read_to_string(&report)?)?;
    ensure!(findings.len() >= LEAST, "{} findings only", findings.len());
    let severe: Vec<_> = findings
        .iter()
        .filter(|finding| is_severe(finding))
        .collect();
    ensure!(severe.is_empty(), "{severe:#?}");
    Ok(())
}

fn is_severe(finding: &Value) -> bool {
    let field = |name| {
        finding
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    // Each certificate of a server has a number behind the name of what is said of it.
    let of_certificate = |name: &&str| field("id").starts_with(name);
    let of_its_own = field("severity") == "WARN" && ITS_OWN.contains(&field("id"));
    !FINE.contains(&field("severity")) && !of_its_own && !CERTIFICATE.iter().any(of_certificate)
}

//! Proves with headless Chromium that pages over TLS come by HTTP/1.1 and by HTTP/2, that
//! their WebSockets come by the same and reach the page's target, and that it keeps the
//! cookie as it should.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::certificate::Certificate;
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::Lab;
use lb_tests::target::Targets;
use lb_tests::until::{until, when};
use serde_json::Value;

/// Lines are written when what they tell of has ended.
const SOON: Duration = Duration::from_secs(15);
/// A port for each protocol, as the browser and the access log call it.
const LISTENERS: [(u16, &str, &str); 2] = [(443, "h2", "HTTP/2.0"), (444, "http/1.1", "HTTP/1.1")];
/// What the browser decided about its connections, and why: in `target`, to outlive the
/// test.
const NET_LOG: &str = "chromium-net-log.json";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium: cargo xtask test --suites"]
async fn chromium_is_served_by_both_versions() -> Result<()> {
    let lab = Lab::new()?;
    let _targets = Targets::start(&lab)?;
    let certificate = Certificate::new(&lab)?;
    let mut config = Config::new(&lab, "off");
    let log = lab.run().directory().join("access.log");
    config.more.log = format!("access = {{ to = {log:?} }}");
    let front = lab.front().ip();
    for (port, protocol, _) in LISTENERS {
        let name = format!("secure-{port}");
        config.more.tables += &certificate.table(&name, SocketAddr::new(front, port));
        config.more.tables += &format!("http2 = {}\n", protocol == "h2");
    }
    let _daemon = Daemon::start(&lab, &config).await?;
    // It closes all it has when an address comes or goes, and one of IPv6 comes by itself up
    // to a second after its link; the WebSocket would find no HTTP/2 connection then.
    lab.client.sysctl("net/ipv6/conf/all/disable_ipv6", "1")?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Without `..`, which the browser does not open.
    let target = here.with_file_name("target");
    let mut command = Command::new("node");
    command
        .arg(here.join("apps/browser.js"))
        .arg(lab.run().directory().join("chromium"))
        .arg(target.join(NET_LOG))
        .args(LISTENERS.map(|(port, ..)| format!("https://{front}:{port}/")))
        .env("NODE_PATH", target.join("apps/node_modules"));
    let said = lab.client.output(&mut command)?;
    let lines: Vec<Value> = said
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure!(lines.len() == LISTENERS.len(), "{said}");
    for (line, (_, protocol, _)) in lines.iter().zip(LISTENERS) {
        served(line, protocol).with_context(|| line.to_string())?;
    }
    for (port, _, version) in LISTENERS {
        let listener = format!("\"listener\":\"secure-{port}\"");
        let version = format!("\"version\":\"{version}\"");
        let parts = ["\"protocol\":\"websocket\"", &listener, &version];
        until("the WebSocket's line is written", SOON, async || {
            let text = fs::read_to_string(&log)?;
            let found = |line: &str| parts.iter().all(|part| line.contains(part));
            when(text.lines().any(found), || text.clone())
        })
        .await?;
    }
    Ok(())
}

fn served(page: &Value, protocol: &str) -> Result<()> {
    let field = |name: &str| page.get(name).cloned().unwrap_or_default();
    ensure!(field("protocol") == protocol, "not by {protocol}");
    ensure!(field("code") == 1000, "not closed in order");
    let target = field("page");
    ensure!(
        field("said") == Value::from(vec![target, Value::from("h\u{e9}llo")]),
        "not by the target of the page"
    );
    ensure!(field("cookies_of_scripts") == "", "scripts see the cookie");
    let cookies = field("cookies");
    let cookies = cookies.as_array().context("no cookies")?;
    let [cookie] = cookies.as_slice() else {
        anyhow::bail!("{} cookies", cookies.len());
    };
    for (name, value) in [
        ("name", Value::from("LIMPET")),
        ("path", Value::from("/")),
        ("httpOnly", Value::from(true)),
        ("secure", Value::from(true)),
        ("sameSite", Value::from("Lax")),
        ("session", Value::from(false)),
    ] {
        ensure!(cookie.get(name) == Some(&value), "{name}");
    }
    Ok(())
}

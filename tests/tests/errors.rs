//! Proves that bad input is answered as users of other balancers expect: every
//! error of a configuration at once, and the right status for a bad request, a
//! dead target and an empty group.

use std::fs;

use anyhow::{Result, ensure};
use lb_tests::client::Client;
use lb_tests::daemon::{Config, Daemon, limpet};
use lb_tests::lab::Lab;
use lb_tests::scene::play;

const WRONG: &str = r#"
colour = "blue"
[fastpath]
mode = "warp"
[[listener]]
name = "web"
bind = "nowhere"
target_group = "nobody"
[[target_group]]
name = "chat"
[[target_group.target]]
weight = 1
"#;

/// Where each of the faults above is.
const KEYS: [&str; 5] = [
    "colour",
    "fastpath.mode",
    "listener[0].bind",
    "listener[0].target_group",
    "target_group[0].target[0].address",
];

/// Refused by every server worth the name (RFC 9112).
const MALFORMED: [&str; 6] = [
    "NONSENSE\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn every_error_of_a_configuration_at_once() -> Result<()> {
    let lab = Lab::new()?;
    let file = lab.run().directory().join("wrong.toml");
    fs::write(&file, WRONG)?;
    for verb in ["check", "run"] {
        let done = limpet(&lab, &[verb, "--config", &file.to_string_lossy()])?;
        ensure!(done.status.code() == Some(1), "{verb}: {done:?}");
        let said = String::from_utf8_lossy(&done.stderr);
        for key in KEYS {
            ensure!(said.contains(key), "{verb} does not name {key}:\n{said}");
        }
    }
    let usage = limpet(&lab, &["run"])?;
    ensure!(usage.status.code() == Some(2), "{usage:?}");
    let unreached = limpet(&lab, &["status"])?;
    ensure!(unreached.status.code() == Some(3), "{unreached:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_target_is_502() -> Result<()> {
    let lab = Lab::new()?;
    let config = Config {
        targets: vec![lab.target(1)],
        ..Config::new(&lab, "off")
    };
    let _daemon = Daemon::start(&lab, &config).await?;
    let answer = Client::new(&lab.client, lab.front()).get("/", None).await?;
    ensure!(answer.status == 502, "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_group_is_503() -> Result<()> {
    let lab = Lab::new()?;
    let config = Config {
        targets: Vec::new(),
        ..Config::new(&lab, "off")
    };
    let _daemon = Daemon::start(&lab, &config).await?;
    let answer = Client::new(&lab.client, lab.front()).get("/", None).await?;
    ensure!(answer.status == 503, "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_request_is_400() -> Result<()> {
    play("off", async |scene| {
        for request in MALFORMED {
            let answer = scene.client.exchange(request.as_bytes()).await;
            let status = answer.as_ref().map(|answer| answer.status).ok();
            ensure!(status == Some(400), "{request:?}: {answer:?}");
        }
        ensure!(
            scene.client.get("/", None).await?.status == 200,
            "not well afterwards"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_handshake_never_reaches_a_target() -> Result<()> {
    play("off", async |scene| {
        let good = "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
        for (part, bad) in [
            ("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="),
            ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""),
            ("Version: 13", "Version: 12"),
        ] {
            let answer = scene.client.exchange(good.replace(part, bad).as_bytes()).await?;
            ensure!(matches!(answer.status, 400 | 426), "{bad:?}: {answer:?}");
        }
        Ok(())
    })
    .await
}

//! Proves with Autobahn's fuzzing client that a WebSocket means the same through the
//! balancer: each case ends as it does without one, carried by the kernel, relayed, and
//! over TLS.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use lb_tests::certificate::Certificate;
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::Lab;
use lb_tests::namespace::Namespace;
use lb_tests::target::Targets;
use serde_json::{Value, json};

/// Left out: megabytes of echo (9), which prove nothing of frames, and compression (12,
/// 13), which the targets do not offer.
const LEFT_OUT: [&str; 3] = ["9.*", "12.*", "13.*"];
/// Where xtask has put it; its packages are found by their `.pth` files.
const START: &str = "import os, site; site.addsitedir(os.environ['AUTOBAHN']); \
                     from autobahntestsuite.wstest import run; run()";
/// Cases that are left.
const LEAST: usize = 200;
const TLS_PORT: u16 = 443;

/// Passed as well: a target that is sent nonsense behind a message may break off before
/// its echo of the message has left, by chance.
const AS_GOOD: &str = "NON-STRICT";

/// How each case ended: what came of it, and of the close.
type Verdicts = BTreeMap<String, (String, String)>;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes, and Python 2.7: cargo xtask test --suites"]
async fn cases_end_as_they_do_without_a_balancer() -> Result<()> {
    let lab = Lab::new()?;
    let _targets = Targets::start(&lab)?;
    let direct = verdicts(
        &lab,
        &lab.balancer,
        "direct",
        &format!("ws://{}/ws", lab.target(1)),
    )?;
    ensure!(direct.len() >= LEAST, "{} cases only", direct.len());
    let certificate = Certificate::new(&lab)?;
    for mode in ["off", "tc"] {
        let mut config = Config::new(&lab, mode);
        let secure = SocketAddr::new(lab.front().ip(), TLS_PORT);
        config.more.tables = certificate.table("secure", secure);
        let daemon = Daemon::start(&lab, &config).await?;
        let plain = format!("ws://{}/ws", lab.front());
        same(&direct, &verdicts(&lab, &lab.client, mode, &plain)?, mode)?;
        if mode == "off" {
            let secure = format!("wss://{secure}/ws");
            same(
                &direct,
                &verdicts(&lab, &lab.client, "wss", &secure)?,
                "wss",
            )?;
        }
        let committed = ("limpet_handoffs_total", "result=\"committed\"");
        let handed_off = daemon.admin.metric_with(committed.0, committed.1).await?;
        println!("{mode}: {handed_off} handed off");
        ensure!(
            mode == "off" || handed_off > 0.0,
            "none was carried by the kernel"
        );
    }
    Ok(())
}

/// Runs all cases against a URL.
fn verdicts(lab: &Lab, from: &Namespace, name: &str, url: &str) -> Result<Verdicts> {
    let directory = lab.run().directory().join(name);
    fs::create_dir_all(&directory)?;
    let orders = json!({
        "outdir": directory,
        "servers": [{ "agent": name, "url": url, "options": { "version": 18 } }],
        "cases": ["*"],
        "exclude-cases": LEFT_OUT,
        "exclude-agent-cases": {},
    });
    let file = directory.join("orders.json");
    fs::write(&file, orders.to_string())?;
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/autobahn");
    let python = env::var("LIMPET_PYTHON2").context("run `cargo xtask test --suites`")?;
    let mut command = Command::new(python);
    command
        .args(["-W", "ignore", "-c", START])
        .args(["-m", "fuzzingclient", "-s"])
        .arg(&file)
        .current_dir(&directory)
        .env("AUTOBAHN", suite)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let ended = from.start(&mut command)?.wait()?;
    ensure!(ended.success(), "the fuzzing client: {ended}");
    let index: Value = serde_json::from_str(&fs::read_to_string(directory.join("index.json"))?)?;
    let cases = index
        .get(name)
        .and_then(Value::as_object)
        .context("no cases")?;
    let said = |case: &Value, what| {
        let said = case.get(what).and_then(Value::as_str)?;
        Some(said.replace(AS_GOOD, "OK"))
    };
    cases
        .iter()
        .map(|(number, case)| {
            let verdict = said(case, "behavior").zip(said(case, "behaviorClose"));
            Ok((number.clone(), verdict.context("no verdict")?))
        })
        .collect()
}

fn same(direct: &Verdicts, through: &Verdicts, name: &str) -> Result<()> {
    let differ =
        |(case, verdict): &(&String, &(String, String))| through.get(*case) != Some(verdict);
    let different: Vec<_> = direct
        .iter()
        .filter(differ)
        .map(|(case, verdict)| {
            format!(
                "{case}: {verdict:?}, through the balancer {:?}",
                through.get(case)
            )
        })
        .collect();
    ensure!(different.is_empty(), "{name}: {different:#?}");
    Ok(())
}

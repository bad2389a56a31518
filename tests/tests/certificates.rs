//! Proves that changed certificate files are served after a hangup, that a pair that cannot
//! be used leaves the old one in place and is counted, and that connections that are open
//! notice nothing.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::daemon::Config;
use lb_tests::lab::Lab;
use lb_tests::scene::Scene;
use lb_tests::until::{until, when};
use nix::sys::signal::{Signal, kill};

/// Files are looked at at once; a loaded machine takes its time.
const LOOKED_AT: Duration = Duration::from_secs(30);
const PORT: u16 = 8443;

/// Certificate and key, as the listener names them.
fn files(lab: &Lab) -> [PathBuf; 2] {
    ["site.crt", "site.key"].map(|name| lab.run().directory().join(name))
}

/// Writes a new pair of this name over the old one.
fn write_pair(lab: &Lab, name: &str) -> Result<()> {
    let [certificate, key] = files(lab);
    lab.client.output(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-subj", &format!("/CN={name}")])
            .args(["-addext", &format!("subjectAltName=DNS:{name}")])
            .arg("-out")
            .arg(certificate)
            .arg("-keyout")
            .arg(key),
    )?;
    Ok(())
}

fn config(lab: &Lab) -> Config {
    let mut config = Config::new(lab, "off");
    let [certificate, key] = files(lab);
    config.more.tables = format!(
        "[[listener]]\nname = \"secure\"\nbind = \"{}:{PORT}\"\nprotocol = \"https\"\n\
         target_group = \"chat\"\ncertificates = [{{ cert = {certificate:?}, key = {key:?} }}]\n",
        lab.front().ip()
    );
    config
}

/// A client that has shaken hands, and speaks when it is told to.
struct Client {
    child: Child,
    from: BufReader<ChildStdout>,
}

impl Client {
    fn connect(lab: &Lab, more: &[&str]) -> Result<Self> {
        let address = format!("{}:{PORT}", lab.front().ip());
        // Ended in any case, so that nothing here waits for ever.
        let mut command = Command::new("timeout");
        command
            .args(["120", "openssl", "s_client", "-connect", &address])
            .args(["-servername", "a.test"])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = lab.client.start(&mut command)?;
        let from = BufReader::new(child.stdout.take().context("stdout")?);
        Ok(Self { child, from })
    }

    /// A request and its answer, on this connection.
    fn ask(&mut self) -> Result<()> {
        let request = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        self.child
            .stdin
            .as_mut()
            .context("stdin")?
            .write_all(request)?;
        let (mut first, mut length) = (String::new(), None);
        self.from.read_line(&mut first)?;
        ensure!(first.starts_with("HTTP/1.1 200 "), "{first:?}");
        loop {
            let mut line = String::new();
            ensure!(self.from.read_line(&mut line)? > 0, "closed in a head");
            let line = line.trim_end().to_lowercase();
            match line.split_once(": ") {
                Some(("content-length", value)) => length = Some(value.parse()?),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length.context("no length")?];
        Ok(self.from.read_exact(&mut body)?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whose certificate a new connection gets.
fn served(lab: &Lab) -> Result<String> {
    let mut client = Client::connect(lab, &[])?;
    // The end of its input ends the connection.
    drop(client.child.stdin.take());
    let mut said = String::new();
    client.from.read_to_string(&mut said)?;
    let subject = said.lines().find(|line| line.starts_with("subject="));
    Ok(subject.with_context(|| said.clone())?.replace(' ', ""))
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_are_served_and_broken_ones_are_not() -> Result<()> {
    let lab = Lab::new()?;
    write_pair(&lab, "first")?;
    let scene = Scene::set(&lab, &config(&lab)).await?;
    let hang_up = || kill(scene.daemon.pid(), Signal::SIGHUP);
    ensure!(served(&lab)? == "subject=CN=first", "{}", served(&lab)?);
    // Without what s_client says of itself.
    let mut open = Client::connect(&lab, &["-quiet"])?;
    open.ask()?;
    write_pair(&lab, "second")?;
    hang_up()?;
    until("the new certificate is served", LOOKED_AT, async || {
        let subject = served(&lab)?;
        when(subject == "subject=CN=second", || subject)
    })
    .await?;
    let admin = &scene.daemon.admin;
    let broken = async || {
        let line = "limpet_certificate_reloads_total{listener=\"secure\",result=\"broken\"}";
        admin.metric_of(line).await
    };
    // A look between the two files of the pair has found it broken.
    let before = broken().await?;
    let [_, key] = files(&lab);
    fs::write(key, "no key\n")?;
    hang_up()?;
    until("the broken pair is counted", LOOKED_AT, async || {
        let now = broken().await?;
        when(now > before, || now.to_string())
    })
    .await?;
    ensure!(served(&lab)? == "subject=CN=second", "{}", served(&lab)?);
    open.ask()
}

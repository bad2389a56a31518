//! Proves stickiness: a first answer sets a sealed cookie, whoever sends it back
//! comes to the same target every time, and a cookie nobody sealed is no error. So it is
//! with the application's own sessions, and with addresses.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::client::{Answer, Client, cookie_of, who};
use lb_tests::daemon::{Config, Daemon, binary};
use lb_tests::lab::Lab;
use lb_tests::scene::{Scene, play};
use lb_tests::until::{until, when};

/// Everything here takes milliseconds; a loaded machine takes its time.
const SOON: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_is_opaque_and_well_attributed() -> Result<()> {
    play("off", async |scene| {
        let answer = scene.client.get("/", None).await?;
        let whole = answer.head.get("set-cookie").context("no cookie")?;
        let mut attributes = whole.split("; ");
        let (name, value) = attributes
            .next()
            .and_then(|pair| pair.split_once('='))
            .context("=")?;
        ensure!(name == "LIMPET" && value.len() < 100, "{whole}");
        ensure!(
            !value.contains("10.71") && !value.contains("8080"),
            "an address in {whole}"
        );
        let attributes: HashSet<_> = attributes.map(str::to_ascii_lowercase).collect();
        for wanted in ["path=/", "httponly", "samesite=lax", "max-age=86400"] {
            ensure!(attributes.contains(wanted), "no {wanted} in {whole}");
        }
        ensure!(
            !attributes.contains("secure"),
            "a plain listener cannot promise {whole}"
        );
        let shared = answer.head.get("cache-control").unwrap_or_default();
        ensure!(
            shared.contains("private")
                || shared.contains("no-cache")
                || shared.contains("no-store"),
            "a shared cache may hand this cookie to others: {shared:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_of_twenty_requests_reach_the_same_target() -> Result<()> {
    play("off", async |scene| {
        let first = scene.client.get("/", None).await?;
        let cookie = first.cookie().context("no cookie")?;
        for _ in 0..20 {
            let answer = scene.client.get("/", Some(&cookie)).await?;
            ensure!(
                answer.body == first.body,
                "{} instead of {}",
                answer.body,
                first.body
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_cookie_are_spread() -> Result<()> {
    play("off", async |scene| {
        let mut counts = std::collections::BTreeMap::<_, usize>::new();
        for _ in 0..30 {
            *counts
                .entry(scene.client.get("/", None).await?.body)
                .or_default() += 1;
        }
        ensure!(
            counts.len() == 3 && counts.values().all(|count| *count == 10),
            "{counts:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_goes_where_the_cookie_says() -> Result<()> {
    play("auto", async |scene| {
        for _ in 0..6 {
            let first = scene.client.get("/", None).await?;
            let (mut socket, _) = scene
                .client
                .web_socket("/ws", first.cookie().as_deref())
                .await?;
            ensure!(
                who(&mut socket).await? == first.body,
                "not on {}",
                first.body
            );
        }
        let admin = &scene.daemon.admin;
        let names = "listener=\"web\"";
        let group = "target_group=\"chat\"";
        let asked = format!("limpet_upgrades_requested_total{{{names},{group}}}");
        let accepted = format!("limpet_upgrades_total{{{names},result=\"accepted\",{group}}}");
        for metric in [asked, accepted] {
            let count = admin.metric_of(&metric).await?;
            ensure!(count == 6.0, "{metric} is {count}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_can_start_with_the_web_socket() -> Result<()> {
    play("auto", async |scene| {
        let (mut socket, headers) = scene.client.web_socket("/ws", None).await?;
        let values = headers
            .get_all("set-cookie")
            .iter()
            .flat_map(|value| value.to_str());
        let cookie = cookie_of(values).context("no cookie with the 101")?;
        let answer = scene.client.get("/", Some(&cookie)).await?;
        ensure!(
            who(&mut socket).await? == answer.body,
            "not on {}",
            answer.body
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tampered_cookie_gets_a_fresh_one() -> Result<()> {
    play("off", async |scene| {
        let cookie = scene
            .client
            .get("/", None)
            .await?
            .cookie()
            .context("no cookie")?;
        let (name, value) = cookie.split_once('=').context("=")?;
        let other = if value.starts_with('A') { 'B' } else { 'A' };
        let flipped = format!("{name}={other}{}", &value[1..]);
        for bad in [
            flipped.as_str(),
            "LIMPET=",
            "LIMPET=nonsense",
            "LIMPET=%00%ff;;;=",
        ] {
            let answer = scene.client.get("/", Some(bad)).await?;
            ensure!(answer.status == 200, "{bad}: {}", answer.status);
            let fresh = answer
                .cookie()
                .with_context(|| format!("{bad}: no fresh cookie"))?;
            let again = scene.client.get("/", Some(&fresh)).await?;
            ensure!(
                again.body == answer.body,
                "{bad}: the fresh cookie does not stick"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_never_see_it() -> Result<()> {
    play("off", async |scene| {
        let cookie = scene
            .client
            .get("/", None)
            .await?
            .cookie()
            .context("no cookie")?;
        let mixed = format!("theirs=1; {cookie}; more=2");
        let seen = scene
            .client
            .get("/head", Some(&mixed))
            .await?
            .body
            .to_lowercase();
        ensure!(!seen.contains("limpet="), "{seen}");
        ensure!(
            seen.contains("theirs=1") && seen.contains("more=2"),
            "{seen}"
        );
        Ok(())
    })
    .await
}

/// A scene with another mode of stickiness.
async fn play_mode(
    mode: &'static str,
    behaviour: impl AsyncFnOnce(&Scene<'_>) -> Result<()>,
) -> Result<()> {
    let lab = Lab::new()?;
    let config = Config {
        stickiness: mode,
        ..Config::new(&lab, "auto")
    };
    let scene = Scene::set(&lab, &config).await?;
    behaviour(&scene)
        .await
        .with_context(|| format!("stickiness {mode}"))
}

/// Begins a session: its id, which begins with the target's name, and both cookies.
async fn begin(scene: &Scene<'_>) -> Result<(String, String, Answer)> {
    let answer = scene.client.get("/session", None).await?;
    let id = answer.head.get("x-session").context("no session")?;
    let (target, _) = id.split_once('.').context("no target")?;
    Ok((id.to_owned(), target.to_owned(), answer.clone()))
}

async fn verdicts(scene: &Scene<'_>, verdict: &str) -> Result<f64> {
    let label = format!("verdict=\"{verdict}\"");
    let admin = &scene.daemon.admin;
    admin.metric_with("limpet_stickiness_total", &label).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lasts_as_long_as_the_applications_cookie() -> Result<()> {
    play_mode("app_cookie", async |scene| {
        let stranger = scene.client.get("/", None).await?;
        ensure!(stranger.cookie().is_none(), "no session, and a cookie");
        let (id, target, answer) = begin(scene).await?;
        let own = answer.cookie().context("no cookie beside theirs")?;
        let both = format!("JSESSIONID={id}; {own}");
        for _ in 0..10 {
            let answer = scene.client.get("/", Some(&both)).await?;
            ensure!(answer.body == target, "{} not {target}", answer.body);
            ensure!(answer.cookie().is_none(), "a new cookie for nothing");
        }
        let (mut socket, _) = scene.client.web_socket("/ws", Some(&both)).await?;
        ensure!(who(&mut socket).await? == target, "not on {target}");
        ensure!(verdicts(scene, "valid").await? == 11.0);
        // Ours alone is worth nothing.
        let mut reached = HashSet::new();
        for _ in 0..3 {
            reached.insert(scene.client.get("/", Some(&own)).await?.body);
        }
        ensure!(reached.len() == 3, "{reached:?}");
        let seen = scene.client.get("/head", Some(&both)).await?.body;
        ensure!(seen.contains(&id) && !seen.contains("LIMPET"), "{seen}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_in_a_header_goes_to_who_answered_with_it() -> Result<()> {
    play_mode("header", async |scene| {
        let (id, target, answer) = begin(scene).await?;
        ensure!(answer.cookie().is_none(), "a cookie nobody asked for");
        for _ in 0..10 {
            let headers = [("X-Session", id.as_str())];
            let answer = scene.client.get_with("/", &headers).await?;
            ensure!(answer.body == target, "{} not {target}", answer.body);
        }
        ensure!(verdicts(scene, "valid").await? == 10.0);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_in_the_query_goes_to_who_began_the_session() -> Result<()> {
    play_mode("query", async |scene| {
        let mut sessions = Vec::new();
        for _ in 0..6 {
            sessions.push(begin(scene).await?);
        }
        for (id, target, _) in &sessions {
            for _ in 0..4 {
                let answer = scene.client.get(&format!("/?EIO=4&sid={id}"), None).await?;
                ensure!(answer.body == *target, "{} not {target}", answer.body);
            }
            let path = format!("/ws?EIO=4&transport=websocket&sid={id}");
            let (mut socket, _) = scene.client.web_socket(&path, None).await?;
            ensure!(who(&mut socket).await? == *target, "not on {target}");
        }
        ensure!(verdicts(scene, "valid").await? == 30.0);
        // Whoever accepts an unknown one has it from then on.
        let first = scene.client.get("/?sid=unknown", None).await?;
        for _ in 0..4 {
            let again = scene.client.get("/?sid=unknown", None).await?;
            ensure!(
                again.body == first.body,
                "{} not {}",
                again.body,
                first.body
            );
        }
        ensure!(verdicts(scene, "invalid").await? == 1.0);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_keeps_its_target_by_tcp_too() -> Result<()> {
    an_address_keeps_its_target("off").await
}

/// A connection that ends as soon as it is answered may be on its way to the kernel.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_keeps_its_target_by_tcp_in_the_kernel() -> Result<()> {
    an_address_keeps_its_target("tc").await
}

async fn an_address_keeps_its_target(mode: &'static str) -> Result<()> {
    let lab = Lab::new()?;
    let blind = SocketAddr::from((lab.front().ip(), 4000));
    let log = lab.run().directory().join("access.log");
    let mut config = Config {
        stickiness: "source_ip",
        ..Config::new(&lab, mode)
    };
    config.more.log = format!("access = {{ to = {log:?} }}");
    config.more.tables = format!(
        "[[listener]]\nname = \"blind\"\nbind = \"{blind}\"\nprotocol = \"tcp\"\n\
         target_group = \"chat\"\n"
    );
    let mut scene = Scene::set(&lab, &config).await?;
    let tcp = Client::new(&lab.client, blind);
    let first = scene.client.get("/", None).await?;
    for _ in 0..6 {
        for client in [&scene.client, &tcp] {
            let answer = client.get("/", None).await?;
            ensure!(answer.body == first.body, "{} moved", answer.body);
            ensure!(answer.cookie().is_none(), "a cookie nobody asked for");
        }
    }
    ensure!(verdicts(&scene, "valid").await? == 13.0);
    until("lines of both listeners say so", SOON, async || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines = |listener: &str| {
            let names = format!("\"listener\":\"{listener}\"");
            let said = text.lines().filter(|line| line.contains(&names));
            said.filter(|line| line.contains("\"verdict\":\"valid\""))
                .count()
        };
        when(lines("web") == 7 && lines("blind") == 6, || text.clone())
    })
    .await?;
    // Its target is gone: one of the others has its clients, and always the same.
    let number = first.body.strip_prefix("target-").context("a name")?;
    scene.targets.stop_one(number.parse()?).await;
    let second = tcp.get("/", None).await?;
    ensure!(second.body != first.body, "answered by one that is stopped");
    for _ in 0..6 {
        let answer = tcp.get("/", None).await?;
        ensure!(answer.body == second.body, "{} moved", answer.body);
    }
    ensure!(verdicts(&scene, "down").await? == 7.0);
    Ok(())
}

/// A file with a secret, as a configuration names it.
fn secret(lab: &Lab, name: &str) -> Result<String> {
    let file = lab.run().directory().join(name);
    std::fs::write(&file, format!("the secret called {name}"))?;
    Ok(format!("{file:?}"))
}

fn secret_files(secrets: &[&String]) -> String {
    let secrets: Vec<&str> = secrets.iter().map(|secret| secret.as_str()).collect();
    format!("secret_files = [{}]", secrets.join(", "))
}

/// One balancer after the other, each with its targets in another order and with other
/// secrets: nobody moves who has a cookie that one of them opens.
#[tokio::test(flavor = "multi_thread")]
async fn other_balancers_and_newer_secrets_move_nobody() -> Result<()> {
    let lab = Lab::new()?;
    let (old, new) = (secret(&lab, "old")?, secret(&lab, "new")?);
    let config = |targets: &[usize], secrets: &[&String]| {
        let mut config = Config::new(&lab, "off");
        config.targets = targets.iter().map(|number| lab.target(*number)).collect();
        config.more.stickiness = secret_files(secrets);
        config
    };
    let mut scene = Scene::set(&lab, &config(&[1, 2], &[&old])).await?;
    let mut sessions = Vec::<(String, String)>::new();
    for (targets, secrets) in [
        (&[1, 2][..], &[&old][..]),
        // Grown, in another order, and the next secret is known everywhere.
        (&[3, 2, 1], &[&old, &new]),
        (&[2, 1, 3], &[&new, &old]),
    ] {
        scene.daemon.kill9()?;
        let daemon = Daemon::start(&lab, &config(targets, secrets)).await?;
        drop(std::mem::replace(&mut scene.daemon, daemon));
        for (cookie, target) in &sessions {
            let answer = scene.client.get("/", Some(cookie)).await?;
            ensure!(answer.body == *target, "{} not {target}", answer.body);
            ensure!(answer.cookie().is_none(), "a new cookie for nothing");
        }
        for _ in 0..4 {
            let answer = scene.client.get("/", None).await?;
            sessions.push((answer.cookie().context("no cookie")?, answer.body));
        }
    }
    // The old secret is gone, and so is target 1: only those move who must.
    scene.daemon.kill9()?;
    let daemon = Daemon::start(&lab, &config(&[3, 2], &[&new])).await?;
    drop(std::mem::replace(&mut scene.daemon, daemon));
    let (olds, news) = sessions.split_at(8);
    for (cookie, target) in news {
        let answer = scene.client.get("/", Some(cookie)).await?;
        let stays = answer.cookie().is_none() && answer.body == *target;
        ensure!(stays == (target != "target-1"), "{target}: {answer:?}");
    }
    for (cookie, _) in olds {
        let answer = scene.client.get("/", Some(cookie)).await?;
        ensure!(
            answer.status == 200 && answer.cookie().is_some(),
            "{answer:?}"
        );
    }
    ensure!(verdicts(&scene, "invalid").await? == 8.0);
    Ok(())
}

/// Another balancer in front of the same targets, ended when dropped.
struct Beside<'lab> {
    child: Child,
    client: Client<'lab>,
}

impl<'lab> Beside<'lab> {
    /// Starts it: what differs from the lab's is where it listens and what it keeps.
    async fn start(lab: &'lab Lab, config: &Config) -> Result<Self> {
        let front = SocketAddr::new(lab.front().ip(), 81);
        let text = config
            .text(lab)
            .replace(&lab.front().to_string(), &front.to_string())
            .replace(&format!(", \"{}\"", lab.front6()), "")
            .replace("127.0.0.1:9900", "127.0.0.1:9901");
        let directory = lab.run().directory();
        let (state, own) = (directory.join("state"), directory.join("state-beside"));
        let text = text.replace(&format!("{state:?}"), &format!("{own:?}"));
        let file = directory.join("beside.toml");
        std::fs::write(&file, text)?;
        let mut command = Command::new(binary()?);
        command.args(["run", "--config"]).arg(file);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let beside = Self {
            child: lab.balancer.start(&mut command)?,
            client: Client::new(&lab.client, front),
        };
        until("the second balancer answers", SOON, async || {
            let answer = beside.client.get("/", None).await;
            let answers = answer.as_ref().is_ok_and(|answer| answer.status == 200);
            when(answers, || format!("{answer:?}"))
        })
        .await?;
        Ok(beside)
    }
}

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has seen then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two balancers with one secret, which is rotated on one after the other while clients
/// come to either.
#[tokio::test(flavor = "multi_thread")]
async fn two_balancers_agree_while_their_secret_is_rotated() -> Result<()> {
    let lab = Lab::new()?;
    let (old, new) = (secret(&lab, "old")?, secret(&lab, "new")?);
    let config = |secrets: &[&String]| {
        let mut config = Config::new(&lab, "off");
        config.more.stickiness = secret_files(secrets);
        config
    };
    let mut scene = Scene::set(&lab, &config(&[&old])).await?;
    let mut beside = Beside::start(&lab, &config(&[&old])).await?;
    let mut sessions = Vec::<(String, String)>::new();
    for (of_first, of_second) in [
        (None, None),
        (None, Some(vec![&old, &new])),
        (Some(vec![&old, &new]), None),
        (None, Some(vec![&new, &old])),
        (Some(vec![&new, &old]), None),
    ] {
        if let Some(secrets) = of_first {
            scene.daemon.kill9()?;
            let daemon = Daemon::start(&lab, &config(&secrets)).await?;
            drop(std::mem::replace(&mut scene.daemon, daemon));
        }
        if let Some(secrets) = of_second {
            drop(beside);
            beside = Beside::start(&lab, &config(&secrets)).await?;
        }
        for client in [&scene.client, &beside.client] {
            for (cookie, target) in &sessions {
                let answer = client.get("/", Some(cookie)).await?;
                ensure!(answer.body == *target, "{} not {target}", answer.body);
                ensure!(answer.cookie().is_none(), "a new cookie for nothing");
            }
            for _ in 0..3 {
                let answer = client.get("/", None).await?;
                sessions.push((answer.cookie().context("no cookie")?, answer.body));
            }
        }
    }
    Ok(())
}

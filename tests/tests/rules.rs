//! Proves that rules decide by the request, the first in order of priority, and
//! that redirects, fixed responses and divisions by weight are what users of
//! other balancers expect.

use anyhow::{Context, Result, ensure};
use lb_tests::client::{Answer, Client};
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::Lab;
use lb_tests::target::Targets;

/// Rules of the listener `web`, not in the order of their priorities.
const RULES: &str = r#"
[[listener.rule]]
priority = 30
when = { path = ["/api/*"] }
target_group = "api"

[[listener.rule]]
priority = 20
when = { path = ["/api/closed*"], method = ["GET"] }
fixed_response = { status = 503, content_type = "application/json", body = "{\"closed\":true}" }

[[listener.rule]]
priority = 40
when = { host = ["old.*"], query = { move = ["yes"] } }
redirect = { status = 308, host = "new.test", path = "/moved/#{path}", query = "" }

[[listener.rule]]
priority = 50
when = { header = { x-env = ["beta*"] }, source = ["10.71.0.0/16"] }
forward = [{ target_group = "api", weight = 1 }, { target_group = "beta", weight = 1 }]
group_stickiness = "1h"
"#;

/// A second listener, which sends everybody to HTTPS; target 2 is the group
/// `api`, target 3 the group `beta`.
fn config(lab: &Lab) -> Config {
    let mut config = Config {
        targets: vec![lab.target(1)],
        ..Config::new(lab, "off")
    };
    config.more.listener = RULES.to_owned();
    let (api, beta) = (lab.target(2), lab.target(3));
    config.more.tables = format!(
        "[[listener]]\nname = \"old\"\nbind = \"{}\"\nredirect = {{}}\n\
         [[target_group]]\nname = \"api\"\n\
         [target_group.stickiness]\nmode = \"lb_cookie\"\n\
         [[target_group.target]]\naddress = \"{api}\"\n\
         [[target_group]]\nname = \"beta\"\n\
         [[target_group.target]]\naddress = \"{beta}\"\n",
        old(lab),
    );
    config
}

fn old(lab: &Lab) -> std::net::SocketAddr {
    (lab.front().ip(), 8000).into()
}

async fn ask(client: &Client<'_>, first: &str, headers: &str) -> Result<Answer> {
    let request = format!("{first} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    client.exchange(request.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_rule_that_fits_decides() -> Result<()> {
    let lab = Lab::new()?;
    let _targets = Targets::start(&lab)?;
    let daemon = Daemon::start(&lab, &config(&lab)).await?;
    let client = Client::new(&lab.client, lab.front());
    let host = "Host: a.test\r\n";

    let plain = ask(&client, "GET /apis", host).await?;
    ensure!(plain.body.starts_with("target-1"), "{plain:?}");
    let api = ask(&client, "GET /api/x?y", host).await?;
    ensure!(api.body.starts_with("target-2"), "{api:?}");

    let closed = ask(&client, "GET /api/closed", host).await?;
    ensure!(
        closed.status == 503 && closed.body == "{\"closed\":true}",
        "{closed:?}"
    );
    ensure!(
        closed.head.get("content-type") == Some("application/json"),
        "{closed:?}"
    );
    let posted = ask(
        &client,
        "POST /api/closed",
        "Host: a\r\nContent-Length: 0\r\n",
    )
    .await?;
    ensure!(posted.status == 200, "{posted:?}");

    let moved = ask(&client, "GET /a/b?move=yes", "Host: OLD.test:80\r\n").await?;
    ensure!(moved.status == 308, "{moved:?}");
    ensure!(
        moved.head.get("location") == Some("https://new.test/moved/a/b"),
        "{moved:?}"
    );
    for (rows, labels) in [
        (
            1.0,
            r#"{code="503",listener="web",origin="balancer",target_group=""}"#,
        ),
        (
            1.0,
            r#"{code="308",listener="web",origin="balancer",target_group=""}"#,
        ),
        (
            2.0,
            r#"{code="200",listener="web",origin="target",target_group="api"}"#,
        ),
    ] {
        let counted = daemon
            .admin
            .metric(&format!("limpet_requests_total{labels}"))
            .await?;
        ensure!(counted == rows, "{labels}: {counted}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirecting_listener_keeps_host_path_and_query() -> Result<()> {
    let lab = Lab::new()?;
    let _daemon = Daemon::start(&lab, &config(&lab)).await?;
    let client = Client::new(&lab.client, old(&lab));
    for method in ["GET", "HEAD"] {
        let answer = ask(&client, &format!("{method} /a?b=1"), "Host: host\r\n").await?;
        ensure!(answer.status == 301 && answer.body.is_empty(), "{answer:?}");
        ensure!(
            answer.head.get("location") == Some("https://host/a?b=1"),
            "{answer:?}"
        );
    }
    let forged = ask(&client, "GET /", "Host: a/b\r\n").await?;
    ensure!(forged.status == 400, "{forged:?}");
    Ok(())
}

/// Groups of one listener with the same cookie name do not take each other's
/// clients away, and a client stays in the group it was given.
#[tokio::test(flavor = "multi_thread")]
async fn clients_stay_in_their_group_and_on_their_target() -> Result<()> {
    let lab = Lab::new()?;
    let _targets = Targets::start(&lab)?;
    let _daemon = Daemon::start(&lab, &config(&lab)).await?;
    let client = Client::new(&lab.client, lab.front());

    let chat = ask(&client, "GET /", "Host: a\r\n").await?;
    let api = ask(&client, "GET /api/", "Host: a\r\n").await?;
    let names = [set_cookies(&chat), set_cookies(&api)];
    ensure!(
        names[0][0].starts_with("LIMPET=") && names[1][0].starts_with("LIMPET-"),
        "{names:?}"
    );
    let jar = format!("Host: a\r\nCookie: {}; {}\r\n", names[0][0], names[1][0]);
    for path in ["/", "/api/"] {
        let again = ask(&client, &format!("GET {path}"), &jar).await?;
        ensure!(
            again.status == 200 && set_cookies(&again).is_empty(),
            "{again:?}"
        );
    }

    let mut seen = Vec::new();
    for _ in 0..2 {
        let first = ask(&client, "GET /", "Host: a\r\nX-Env: beta-1\r\n").await?;
        let cookies = set_cookies(&first);
        let group = cookies
            .iter()
            .find(|cookie| cookie.starts_with("LIMPET-GROUP-"))
            .with_context(|| format!("no group cookie: {first:?}"))?;
        let jar = format!("Host: a\r\nX-Env: beta-1\r\nCookie: {group}\r\n");
        for _ in 0..4 {
            let again = ask(&client, "GET /", &jar).await?;
            ensure!(again.body == first.body, "{again:?} after {first:?}");
        }
        seen.push(first.body);
    }
    ensure!(seen[0] != seen[1], "weights of one to one, but {seen:?}");
    Ok(())
}

/// The cookies that an answer sets, as `name=value`.
fn set_cookies(answer: &Answer) -> Vec<String> {
    answer
        .head
        .all("set-cookie")
        .filter_map(|cookie| cookie.split(';').next())
        .map(str::to_owned)
        .collect()
}

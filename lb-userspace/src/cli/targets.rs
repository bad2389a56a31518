//! `targets`, and the verbs that change one: `register`, `deregister`, `drain`,
//! `ready`, `weight`.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::Ask;
use super::client::{call, get};
use super::table;
use super::verbs::{encode, text};

/// Between two looks at what `--wait` waits for; a drain takes seconds to minutes.
const LOOK: Duration = Duration::from_millis(500);

/// A target of a group.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The target group.
    group: String,
    /// The target's address and port.
    #[arg(value_name = "ADDR")]
    address: SocketAddr,
}

impl Named {
    fn group_path(&self) -> String {
        format!("/v1/target-groups/{}", encode(&self.group))
    }

    fn path(&self) -> String {
        let address = encode(&self.address.to_string());
        format!("{}/targets/{address}", self.group_path())
    }
}

/// `limpet targets`.
pub(super) fn list(ask: &Ask) -> anyhow::Result<()> {
    let answer = get(ask, "/v1/target-groups")?;
    if ask.json {
        println!("{answer:#}");
        return Ok(());
    }
    let heading = [
        "TARGET GROUP",
        "TARGET",
        "STATE",
        "WEIGHT",
        "CONNECTIONS",
        "REASON",
    ];
    let mut rows = Vec::new();
    for group in items(&answer["target_groups"]) {
        rows.extend(items(&group["targets"]).iter().map(|target| {
            vec![
                text(&group["name"]),
                text(&target["address"]),
                text(&target["state"]),
                text(&target["weight"]),
                connections(target).to_string(),
                text(&target["reason"]),
            ]
        }));
        let unanswered = items(&group["names"]).iter();
        let unanswered = unanswered.filter(|name| !name["failure"].is_null());
        rows.extend(unanswered.map(|name| {
            vec![
                text(&group["name"]),
                text(&name["name"]),
                "no answer".to_owned(),
                String::new(),
                String::new(),
                text(&name["failure"]),
            ]
        }));
    }
    table::print(&heading, &rows);
    Ok(())
}

/// `limpet register`.
pub(super) fn register(ask: &Ask, target: &Named, weight: Option<u32>) -> anyhow::Result<()> {
    let body = match weight {
        Some(weight) => json!({"weight": weight}),
        None => json!({}),
    };
    change(ask, Method::PUT, target, &body).map(|state| say(ask, &state))
}

/// `limpet deregister`.
pub(super) fn deregister(ask: &Ask, target: &Named, wait: bool) -> anyhow::Result<()> {
    let mut state = call(ask, Method::DELETE, &target.path(), None)?;
    if wait {
        until(ask, target, |target| target.is_none())?;
        state["state"] = "unused".into();
        state["reason"] = "not registered any more".into();
    }
    say(ask, &state);
    Ok(())
}

/// `limpet drain`.
pub(super) fn drain(ask: &Ask, target: &Named, wait: bool) -> anyhow::Result<()> {
    let mut state = change(ask, Method::PATCH, target, &json!({"state": "draining"}))?;
    if wait {
        let empty = |target: Option<&Value>| target.is_none_or(|one| connections(one) == 0);
        state = until(ask, target, empty)?.unwrap_or(state);
    }
    say(ask, &state);
    Ok(())
}

/// `limpet ready`.
pub(super) fn ready(ask: &Ask, target: &Named) -> anyhow::Result<()> {
    let body = json!({"state": "active"});
    change(ask, Method::PATCH, target, &body).map(|state| say(ask, &state))
}

/// `limpet weight`.
pub(super) fn weigh(ask: &Ask, target: &Named, weight: u32) -> anyhow::Result<()> {
    let body = json!({"weight": weight});
    change(ask, Method::PATCH, target, &body).map(|state| say(ask, &state))
}

fn change(ask: &Ask, method: Method, target: &Named, body: &Value) -> anyhow::Result<Value> {
    call(ask, method, &target.path(), Some(body))
}

/// Looks at the target until it is as wished; `None` is a target that has left.
fn until(
    ask: &Ask,
    named: &Named,
    wished: impl Fn(Option<&Value>) -> bool,
) -> anyhow::Result<Option<Value>> {
    let address = named.address.to_string();
    loop {
        let group = get(ask, &named.group_path()).context("while waiting")?;
        let target = items(&group["targets"])
            .iter()
            .find(|target| target["address"] == address);
        if wished(target) {
            return Ok(target.cloned());
        }
        thread::sleep(LOOK);
    }
}

fn say(ask: &Ask, target: &Value) {
    if ask.json {
        println!("{target:#}");
    } else {
        println!(
            "{} {}, weight {}: {}",
            text(&target["address"]),
            text(&target["state"]),
            text(&target["weight"]),
            text(&target["reason"])
        );
    }
}

/// Upgraded connections of a target, whatever carries them.
fn connections(target: &Value) -> u64 {
    let by_path = target["connections"].as_object();
    by_path
        .into_iter()
        .flat_map(|by_path| by_path.values())
        .filter_map(Value::as_u64)
        .sum()
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

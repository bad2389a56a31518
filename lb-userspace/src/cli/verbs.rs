//! `status`, `connections` and `reset`, for people and as JSON.

use http::Method;
use serde_json::Value;

use super::Ask;
use super::client::{call, get};
use super::table;

/// Rows that are asked for at a time: the API's most.
const PAGE: usize = 1000;

/// `limpet status`.
pub(super) fn status(ask: &Ask) -> anyhow::Result<()> {
    let status = get(ask, "/v1/status")?;
    if ask.json {
        println!("{status:#}");
        return Ok(());
    }
    println!(
        "limpet {}, up {}, {}",
        text(&status["version"]),
        seconds(&status["uptime_seconds"]),
        if status["ready"] == true {
            "ready"
        } else {
            "not ready"
        }
    );
    let fastpath = &status["fastpath"];
    println!(
        "flows in the kernel: {} of {}; relayed: {}",
        fastpath["flows"], fastpath["capacity"], status["relayed"]
    );
    if let Some(reason) = fastpath["off"].as_str() {
        println!("no fast path: {reason}");
    }
    println!();
    print_list(
        &fastpath["interfaces"],
        &["INTERFACE", "PATH", "REASON"],
        &["name", "mode", "reason"],
    );
    println!();
    print_list(
        &status["listeners"],
        &["LISTENER", "BIND", "TARGET GROUP"],
        &["name", "bind", "target_group"],
    );
    Ok(())
}

/// `limpet connections`.
pub(super) fn connections(
    ask: &Ask,
    target: Option<&str>,
    path: Option<&str>,
) -> anyhow::Result<()> {
    let all = fetch_all(ask, target, path)?;
    if ask.json {
        println!("{:#}", Value::from(all));
        return Ok(());
    }
    let heading = [
        "ID", "PATH", "REASON", "CLIENT", "TARGET", "STATE", "AGE", "IDLE", "IN", "OUT",
    ];
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    table::print(&heading, &rows);
    Ok(())
}

/// `limpet reset`.
pub(super) fn reset(ask: &Ask, id: &str) -> anyhow::Result<()> {
    let path = format!("/v1/connections/{}", encode(id));
    let done = call(ask, Method::DELETE, &path, None)?;
    match ask.json {
        true => println!("{done:#}"),
        false => println!("connection {id} is ended"),
    }
    Ok(())
}

fn fetch_all(ask: &Ask, target: Option<&str>, path: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let mut query = format!("/v1/connections?limit={PAGE}");
    for (key, value) in [("target", target), ("path", path)] {
        if let Some(value) = value {
            query.push_str(&format!("&{key}={}", encode(value)));
        }
    }
    let mut all = Vec::new();
    let mut page = get(ask, &query)?;
    loop {
        if let Some(connections) = page.get_mut("connections").and_then(Value::as_array_mut) {
            all.append(connections);
        }
        let Some(cursor) = page["next_cursor"].as_str() else {
            return Ok(all);
        };
        page = get(ask, &format!("{query}&cursor={cursor}"))?;
    }
}

fn row(connection: &Value) -> Vec<String> {
    let cell = |key: &str| text(&connection[key]);
    vec![
        cell("id"),
        cell("path"),
        cell("reason"),
        cell("client"),
        cell("target"),
        cell("state"),
        seconds(&connection["age_seconds"]),
        seconds(&connection["idle_seconds"]),
        cell("bytes_in"),
        cell("bytes_out"),
    ]
}

fn print_list(items: &Value, heading: &[&str], keys: &[&str]) {
    let items = items.as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| keys.iter().map(|key| text(&item[*key])).collect())
        .collect();
    table::print(heading, &rows);
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// A duration, to the two units that matter.
fn seconds(value: &Value) -> String {
    let seconds = value.as_f64().unwrap_or(0.0) as u64;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Percent-encoding of everything that could mean something in a query or a path.
pub(super) fn encode(value: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'-' | b'_' | b'/' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

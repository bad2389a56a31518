//! Packets by an independent library: scapy builds them, the kernel program and
//! lb-common rewrite them, scapy takes them apart and sums them again.
//!
//! Needs python3 with scapy and fails without: a check that is skipped when its
//! second opinion is missing is none.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use lb_common::flow::Side;
use serde_json::{Value, json};

use super::super::table::Entry;
use super::kernel::{Kernel, with_kernel};
use super::reference::forward;
use super::run::Hook;
use super::sample::{Sample, interface, samples};

const SCRIPT: &str = include_str!("packets.py");
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn scapy_agrees_with_every_byte() {
    let orders: Vec<_> = samples()
        .iter()
        .map(|sample| flow(sample).to_string())
        .collect();
    let built = scapy("build", &orders.join("\n"));
    let built: Vec<Value> = built
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON from scapy"))
        .collect();
    assert!(built.len() > 200, "scapy built {} packets", built.len());
    let mut rows = String::new();
    with_kernel(|kernel| {
        let entries = samples().map(|sample| (sample, sample.committed(kernel.routes)));
        for (_, entry) in &entries {
            kernel.put(entry);
        }
        for row in &built {
            let (sample, entry) = &entries[usize::from(row["family"] == 6)];
            for line in rewritten(kernel, sample, entry, row) {
                rows += &format!("{line}\n");
            }
        }
    });
    let checked = scapy("check", &rows);
    assert_eq!(
        checked.trim(),
        (built.len() * 3).to_string(),
        "all were checked"
    );
}

/// The packet as each of three makes it, with what scapy needs to judge.
fn rewritten(kernel: &Kernel, sample: &Sample, entry: &Entry, row: &Value) -> Vec<Value> {
    let side = match row["direction"] == "client_to_target" {
        true => Side::Client,
        false => Side::Target,
    };
    let frame = bytes(row["frame"].as_str().expect("hex"));
    let mut reference = frame.clone();
    forward(&mut reference, &entry.client.tuple, &entry.flow, side).expect("valid options");
    let from = interface(kernel, side);
    let run = |hook| {
        let run = kernel.packet_from(hook, &frame, from);
        assert_eq!(run.counted.len(), 1);
        assert_eq!(run.counted[0].1, "forwarded", "{hook:?} {row}");
        run.packet
    };
    let leg = match side {
        Side::Client => [sample.far, sample.target],
        Side::Target => [sample.near, sample.client],
    };
    let outs = [
        ("lb-common", reference),
        ("TC", run(Hook::Tc)),
        ("XDP", run(Hook::Xdp)),
    ];
    let shifts = |side: Side| {
        let (all, i) = (&entry.flow.shifts, side.index());
        json!({"seq": all.seq[i], "stamp": all.stamp[i],
               "sent": all.scale_sent[i], "announced": all.scale_announced[i]})
    };
    outs.map(|(by, out)| {
        let mut row = row.clone();
        row["by"] = by.into();
        row["out"] = hex(&out).into();
        row["leg"] = json!(leg.map(end));
        row["near"] = shifts(side);
        row["far"] = shifts(side.other());
        row
    })
    .to_vec()
}

fn flow(sample: &Sample) -> Value {
    json!({
        "family": if sample.client.is_ipv4() { 4 } else { 6 },
        "client_to_target": [end(sample.client), end(sample.near)],
        "target_to_client": [end(sample.target), end(sample.far)],
    })
}

fn end(address: SocketAddr) -> Value {
    json!([address.ip().to_string(), address.port()])
}

/// Runs the script; its complaint is the test's.
fn scapy(verb: &str, input: &str) -> String {
    let missing = "needs python3 with scapy: apt-get install python3-scapy";
    let found = Command::new(PYTHON).args(["-c", "import scapy"]).output();
    assert!(found.is_ok_and(|found| found.status.success()), "{missing}");
    let mut child = Command::new(PYTHON)
        .args(["-c", SCRIPT, verb])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect(missing);
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    // Beside reading, or both ends would wait for each other's full pipe.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("the script ends");
    let written = writer.join().expect("the writer ends");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && written.is_ok(),
        "scapy: {complaint}"
    );
    String::from_utf8(output.stdout).expect("text")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |pair: &[u8]| std::str::from_utf8(pair).map(|pair| u8::from_str_radix(pair, 16));
    hex.as_bytes()
        .chunks(2)
        .map(|pair| digits(pair).expect("text").expect("hex"))
        .collect()
}

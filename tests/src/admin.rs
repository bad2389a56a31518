//! The admin API, asked from inside the balancer's namespace.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::client::{Answer, Client};
use crate::namespace::Namespace;

/// Where the lab's daemons have it.
pub(crate) const BIND: &str = "127.0.0.1:9900";
const PAGE: usize = 1000;

/// One row of `GET /v1/connections`.
#[derive(Debug, Clone, Deserialize)]
pub struct Connection {
    /// Its id, the same before and after a restart.
    pub id: String,
    /// Which listener accepted it.
    pub listener: String,
    /// Where it went.
    pub target: String,
    /// Where it came from.
    pub client: String,
    /// `websocket`, `tcp` or `tls`.
    pub protocol: String,
    /// `xdp`, `tc` or `userspace`.
    pub path: String,
    /// Why it is not in the kernel.
    pub reason: Option<String>,
    /// `established` or `closing`.
    pub state: String,
    /// Since the last payload.
    pub idle_seconds: f64,
    /// From the client.
    pub bytes_in: u64,
    /// To the client.
    pub bytes_out: u64,
    /// From the client.
    pub packets_in: u64,
    /// To the client.
    pub packets_out: u64,
}

impl Connection {
    /// Whether the kernel carries it.
    pub fn in_kernel(&self) -> bool {
        self.path == "tc" || self.path == "xdp"
    }
}

#[derive(Debug, Deserialize)]
struct Page {
    connections: Vec<Connection>,
    next_cursor: Option<String>,
}

/// A client of the admin API.
#[derive(Debug, Clone, Copy)]
pub struct Admin<'lab>(Client<'lab>);

impl<'lab> Admin<'lab> {
    /// Of the daemon in this namespace.
    pub fn new(namespace: &'lab Namespace) -> Self {
        let address: SocketAddr = BIND.parse().expect("an address");
        Self(Client::new(namespace, address))
    }

    /// Any path; an error only when there is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.0.get(path, None).await
    }

    /// DELETE of any path; an error only when there is no answer.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        let request =
            format!("DELETE {path} HTTP/1.1\r\nHost: {BIND}\r\nConnection: close\r\n\r\n");
        self.0.exchange(request.as_bytes()).await
    }

    /// `GET /v1/connections` with a query, one page as it is.
    pub async fn page(&self, query: &str) -> Result<(Vec<Connection>, Option<String>)> {
        let text = self.ok(&format!("/v1/connections?{query}")).await?;
        let page: Page = serde_json::from_str(&text).with_context(|| text.clone())?;
        Ok((page.connections, page.next_cursor))
    }

    async fn ok(&self, path: &str) -> Result<String> {
        let answer = self.get(path).await?;
        ensure!(
            answer.status == 200,
            "GET {path}: {} {}",
            answer.status,
            answer.body
        );
        Ok(answer.body)
    }

    /// `GET /v1/status`.
    pub async fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ok("/v1/status").await?)?)
    }

    /// All connections, page by page.
    pub async fn connections(&self) -> Result<Vec<Connection>> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let text = self
                .ok(&format!("/v1/connections?limit={PAGE}{cursor}"))
                .await?;
            let page: Page = serde_json::from_str(&text).with_context(|| text.clone())?;
            all.extend(page.connections);
            match page.next_cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(all),
            }
        }
    }

    /// State and reason of the targets of the group `chat`, by address.
    pub async fn targets(&self) -> Result<BTreeMap<String, (String, String)>> {
        let text = self.ok("/v1/target-groups/chat").await?;
        let group: Value = serde_json::from_str(&text)?;
        let targets = group["targets"].as_array().context("no targets")?;
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(targets
            .iter()
            .map(|target| {
                let state = (word(&target["state"]), word(&target["reason"]));
                (word(&target["address"]), state)
            })
            .collect())
    }

    /// Packets of this direction and outcome that the kernel program has seen.
    pub async fn packets(&self, direction: &str, outcome: &str) -> Result<u64> {
        let text = self.ok("/metrics").await?;
        let (direction, outcome) = (
            format!("direction=\"{direction}\""),
            format!("outcome=\"{outcome}\""),
        );
        let count: f64 = text
            .lines()
            .filter(|line| line.contains(&direction) && line.contains(&outcome))
            .filter_map(|line| sample(line, "limpet_fastpath_packets_total"))
            .sum();
        Ok(count as u64)
    }

    /// The sum of a metric over its labels; zero when it has no sample (yet).
    pub async fn metric(&self, name: &str) -> Result<f64> {
        self.metric_with(name, "").await
    }

    /// The sum over the samples with this label, `name="value"`.
    pub async fn metric_with(&self, name: &str, label: &str) -> Result<f64> {
        let text = self.ok("/metrics").await?;
        let lines = text.lines().filter(|line| line.contains(label));
        Ok(lines.filter_map(|line| sample(line, name)).sum())
    }
}

impl Admin<'_> {
    /// The sum of the samples whose line begins so, labels included.
    pub async fn metric_of(&self, beginning: &str) -> Result<f64> {
        let text = self.ok("/metrics").await?;
        let lines = text.lines().filter(|line| line.starts_with(beginning));
        let value = |line: &str| line.rsplit_once(' ')?.1.parse::<f64>().ok();
        Ok(lines.filter_map(value).sum())
    }
}

fn sample(line: &str, name: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let value = match rest.strip_prefix('{') {
        Some(labelled) => labelled.rsplit_once('}')?.1,
        None => rest.strip_prefix(' ')?,
    };
    value.trim().parse().ok()
}

//! The balancers that are compared: one target, a sticky cookie where they have one (nginx
//! has none), connections to the target kept, no access log.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use lb_tests::certificate::Certificate;
use lb_tests::client::Client;
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::Lab;

use super::super::contender::{Other, accepts};
use super::case::Case;

/// Where each listens for TLS.
const TLS_PORT: u16 = 8443;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Balancer {
    Limpet,
    Haproxy,
    Nginx,
}

/// In the order they are measured and shown.
pub(in crate::bench) const ALL: [Balancer; 3] =
    [Balancer::Limpet, Balancer::Haproxy, Balancer::Nginx];

impl fmt::Display for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Limpet => "Limpet",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
        })
    }
}

/// Runs between client and target until dropped.
pub(in crate::bench) struct Running<'lab> {
    front: SocketAddr,
    certificate: PathBuf,
    process: Process<'lab>,
}

enum Process<'lab> {
    Limpet(Box<Daemon<'lab>>),
    Other(Other),
}

impl Balancer {
    /// Starts it and waits until it accepts connections.
    pub(in crate::bench) async fn start(self, lab: &Lab) -> Result<Running<'_>> {
        let front = lab.front();
        let certificate = Certificate::new(lab)?;
        let process = match self {
            Self::Limpet => Process::Limpet(limpet(lab, &certificate).await?),
            Self::Haproxy => Process::Other(haproxy(lab, &certificate)?),
            Self::Nginx => Process::Other(nginx(lab, &certificate)?),
        };
        accepts(Client::new(&lab.client, tls(front))).await?;
        Ok(Running {
            front,
            certificate: certificate.certificate,
            process,
        })
    }
}

impl Running<'_> {
    pub(super) fn address(&self, case: &Case) -> SocketAddr {
        if case.tls {
            tls(self.front)
        } else {
            self.front
        }
    }

    pub(in crate::bench) fn tls_address(&self) -> String {
        tls(self.front).to_string()
    }

    /// Its first process.
    pub(in crate::bench) fn process(&self) -> u32 {
        match &self.process {
            Process::Limpet(daemon) => daemon.pid().as_raw().unsigned_abs(),
            Process::Other(other) => other.process(),
        }
    }

    pub(in crate::bench) fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The cookie it gives a client, to come back with every request.
    pub(super) async fn cookie(&self, lab: &Lab) -> Result<String> {
        let answer = Client::new(&lab.client, self.front)
            .get("/1k", None)
            .await?;
        let mut set = answer.head.all("set-cookie");
        let pair = set.next().and_then(|value| value.split(';').next());
        Ok(pair.unwrap_or("none=none").to_owned())
    }
}

async fn limpet<'lab>(lab: &'lab Lab, pair: &Certificate) -> Result<Box<Daemon<'lab>>> {
    let mut config = Config {
        targets: vec![lab.target(1)],
        log_level: "warn",
        ..Config::new(lab, "off")
    };
    config.more.log = "access = { to = \"off\" }".to_owned();
    config.more.tables = pair.table("secure", tls(lab.front()));
    config.more.target_group = r#"health_check = { protocol = "tcp" }"#.to_owned();
    let mut daemon = Daemon::start(lab, &config).await?;
    daemon.hide_log();
    Ok(Box::new(daemon))
}

fn haproxy(lab: &Lab, pair: &Certificate) -> Result<Other> {
    let directory = lab.run().directory();
    let (file, both) = (directory.join("haproxy.cfg"), directory.join("site.pem"));
    // It takes certificate and key in one file only.
    let text = [&pair.certificate, &pair.key].map(fs::read_to_string);
    fs::write(&both, text.into_iter().collect::<Result<String, _>>()?)?;
    fs::write(
        &file,
        format!(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  \
             timeout server 60s\n  timeout tunnel 1h\n  option forwardfor\n\
             frontend front\n  bind {}\n  bind {} ssl crt {} alpn h2,http/1.1\n  \
             default_backend targets\n\
             backend targets\n  cookie AT insert indirect nocache httponly\n  \
             server one {} cookie one\n",
            lab.front(),
            tls(lab.front()),
            both.display(),
            lab.target(1)
        ),
    )?;
    let mut command = Command::new("haproxy");
    Other::start(&lab.balancer, command.arg("-db").arg("-f").arg(file))
}

fn nginx(lab: &Lab, pair: &Certificate) -> Result<Other> {
    let directory = lab.run().directory();
    let file = directory.join("nginx.conf");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("  {what}_temp_path {}/{what};\n", directory.display()))
        .collect();
    fs::write(
        &file,
        format!(
            "user root;\nworker_processes auto;\npid {pid};\nerror_log stderr crit;\n\
             events {{ worker_connections 16384; }}\nhttp {{\n  access_log off;\n{temporary}  \
             map $http_upgrade $hop {{ default upgrade; '' ''; }}\n  \
             proxy_read_timeout 1h;\n  \
             keepalive_requests 100000000;\n  \
             upstream targets {{ server {target}; keepalive 64; keepalive_requests 100000000; }}\n  \
             server {{\n    listen {front};\n    listen {tls} ssl http2;\n    \
             ssl_certificate {certificate};\n    ssl_certificate_key {key};\n    \
             ssl_session_cache shared:sessions:10m;\n    location / {{\n      \
             proxy_pass http://targets;\n      proxy_http_version 1.1;\n      \
             proxy_set_header Upgrade $http_upgrade;\n      \
             proxy_set_header Connection $hop;\n      \
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n    }}\n  }}\n}}\n",
            pid = directory.join("nginx.pid").display(),
            target = lab.target(1),
            front = lab.front(),
            tls = tls(lab.front()),
            certificate = pair.certificate.display(),
            key = pair.key.display(),
        ),
    )?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&directory).arg("-c").arg(file);
    command.args(["-e", "stderr", "-g", "daemon off;"]);
    Other::start(&lab.balancer, &mut command).context("nginx")
}

fn tls(front: SocketAddr) -> SocketAddr {
    SocketAddr::new(front.ip(), TLS_PORT)
}

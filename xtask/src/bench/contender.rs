//! What is compared: each is put between client and target in a lab of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use lb_tests::client::Client;
use lb_tests::daemon::{Config, Daemon};
use lb_tests::lab::{Lab, Offloads};
use lb_tests::namespace::Namespace;
use lb_tests::until::{until, when};

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Contender {
    Forwarding,
    LimpetTc,
    LimpetUserspace,
    Haproxy,
    Nginx,
    ForwardingBare,
    LimpetXdp,
}

/// In the order they are measured and shown.
pub(super) const ALL: [Contender; 7] = [
    Contender::Forwarding,
    Contender::LimpetTc,
    Contender::LimpetUserspace,
    Contender::Haproxy,
    Contender::Nginx,
    Contender::ForwardingBare,
    Contender::LimpetXdp,
];

/// Runs between client and target until dropped.
pub(super) enum Running<'lab> {
    Kernel,
    Limpet(Box<Daemon<'lab>>, &'static str),
    #[expect(dead_code, reason = "held for its end")]
    Other(Other),
}

/// A server that is not ours, ended when dropped.
pub(super) struct Other(Child);

impl Contender {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Forwarding => "plain kernel forwarding",
            Self::LimpetTc => "Limpet, TC",
            Self::LimpetUserspace => "Limpet, userspace",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::ForwardingBare => "plain forwarding, offloads off",
            Self::LimpetXdp => "Limpet, XDP, offloads off",
        }
    }

    pub(super) fn offloads(self) -> Offloads {
        match self {
            Self::ForwardingBare | Self::LimpetXdp => Offloads::Xdp,
            Self::Forwarding
            | Self::LimpetTc
            | Self::LimpetUserspace
            | Self::Haproxy
            | Self::Nginx => Offloads::Full,
        }
    }

    /// Where the client connects to.
    pub(super) fn address(self, lab: &Lab) -> SocketAddr {
        match self {
            Self::Forwarding | Self::ForwardingBare => lab.target(1),
            Self::LimpetTc
            | Self::LimpetUserspace
            | Self::Haproxy
            | Self::Nginx
            | Self::LimpetXdp => lab.front(),
        }
    }

    /// Starts it and waits until it accepts connections.
    pub(super) async fn start(self, lab: &Lab) -> Result<Running<'_>> {
        let running = match self {
            Self::Forwarding | Self::ForwardingBare => {
                lab.balancer.sysctl("net/ipv4/ip_forward", "1")?;
                Running::Kernel
            }
            Self::LimpetTc => limpet(lab, "tc").await?,
            Self::LimpetXdp => {
                // XDP may ask for the next hop only where forwarding is on.
                lab.balancer.sysctl("net/ipv4/ip_forward", "1")?;
                limpet(lab, "xdp").await?
            }
            Self::LimpetUserspace => limpet(lab, "off").await?,
            Self::Haproxy => Running::Other(haproxy(lab)?),
            Self::Nginx => Running::Other(nginx(lab)?),
        };
        accepts(Client::new(&lab.client, self.address(lab))).await?;
        Ok(running)
    }
}

/// Waits until somebody listens there.
pub(super) async fn accepts(client: Client<'_>) -> Result<()> {
    until(
        "it accepts connections",
        Duration::from_secs(10),
        async || {
            let connected = client.connect().await;
            when(connected.is_ok(), || format!("{connected:?}"))
        },
    )
    .await
}

impl Running<'_> {
    /// Waits until every connection is on the path that is to be measured.
    pub(super) async fn settled(&self, count: usize) -> Result<()> {
        let Self::Limpet(daemon, mode) = self else {
            return Ok(());
        };
        // The admin API calls what the mode `off` leads to by another name.
        let path = if *mode == "off" { "userspace" } else { mode };
        until(
            "every connection is on its path",
            Duration::from_secs(20),
            async || {
                let all = daemon.admin.connections().await?;
                let there = all.iter().filter(|one| one.path == path).count();
                when(there == count, || {
                    format!("{there} of {count}, {:?}", all.first())
                })
            },
        )
        .await
    }
}

impl Other {
    pub(super) fn start(namespace: &Namespace, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = namespace.start(command);
        Ok(Self(
            child.with_context(|| format!("starting {command:?}"))?,
        ))
    }

    /// Its first process.
    pub(super) fn process(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // The lab's end would end it too; this is only sooner.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn limpet<'lab>(lab: &'lab Lab, mode: &'static str) -> Result<Running<'lab>> {
    let mut config = Config {
        targets: vec![lab.target(1)],
        ..Config::new(lab, mode)
    };
    // The echo server speaks nothing but WebSocket.
    config.more.target_group = r#"health_check = { protocol = "tcp" }"#.to_owned();
    let mut daemon = Daemon::start(lab, &config).await?;
    daemon.hide_log();
    Ok(Running::Limpet(Box::new(daemon), mode))
}

fn haproxy(lab: &Lab) -> Result<Other> {
    let file = lab.run().directory().join("haproxy.cfg");
    fs::write(
        &file,
        format!(
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  \
             timeout server 60s\n  timeout tunnel 60s\n\
             frontend front\n  bind {}\n  default_backend targets\n\
             backend targets\n  server target-1 {}\n",
            lab.front(),
            lab.target(1)
        ),
    )?;
    let mut command = Command::new("haproxy");
    Other::start(&lab.balancer, command.arg("-db").arg("-f").arg(file))
}

fn nginx(lab: &Lab) -> Result<Other> {
    let directory = lab.run().directory();
    let file = directory.join("nginx.conf");
    fs::write(&file, nginx_config(&directory, lab.front(), lab.target(1)))?;
    let mut command = Command::new("nginx");
    command
        .arg("-p")
        .arg(&directory)
        .arg("-c")
        .arg(file)
        .args(["-e", "stderr"]);
    Other::start(&lab.balancer, command.args(["-g", "daemon off;"]))
}

fn nginx_config(directory: &Path, front: SocketAddr, target: SocketAddr) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("  {what}_temp_path {}/{what};\n", directory.display()))
        .collect();
    format!(
        "user root;\nworker_processes auto;\npid {}/nginx.pid;\nerror_log stderr crit;\n\
         events {{ worker_connections 2048; }}\nhttp {{\n  access_log off;\n{temporary}  \
         server {{\n    listen {front};\n    location / {{\n      proxy_pass http://{target};\n      \
         proxy_http_version 1.1;\n      proxy_set_header Upgrade $http_upgrade;\n      \
         proxy_set_header Connection upgrade;\n    }}\n  }}\n}}\n",
        directory.display()
    )
}

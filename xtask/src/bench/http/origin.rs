//! The target: nginx with files of 1 KB and 100 KB.

use std::fs;
use std::net::SocketAddr;
use std::ops::Range;
use std::process::Command;

use anyhow::Result;
use lb_tests::client::Client;
use lb_tests::lab::Lab;

use super::super::contender::{Other, accepts};

/// Starts it as target 1, listening on more ports as well, and waits until it accepts
/// connections.
pub(in crate::bench) async fn start(lab: &Lab, more: Range<u16>) -> Result<Other> {
    let directory = lab.run().directory().join("origin");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("1k"), [b'x'; 1_000])?;
    fs::write(directory.join("100k"), vec![b'x'; 100_000])?;
    let file = directory.join("nginx.conf");
    let directory = directory.display();
    let target = lab.target(1);
    let listens = more.map(|port| SocketAddr::new(target.ip(), port));
    let listens = [target].into_iter().chain(listens);
    let listens: String = listens.map(|at| format!("listen {at}; ")).collect();
    fs::write(
        &file,
        format!(
            "user root;\nworker_processes 1;\npid {directory}/nginx.pid;\nerror_log stderr crit;\n\
             events {{ worker_connections 8192; }}\nhttp {{\n  access_log off;\n  sendfile on;\n  \
             keepalive_requests 100000000;\n  open_file_cache max=10;\n  \
             server {{ {listens}root {directory}; }}\n}}\n"
        ),
    )?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(file).args(["-e", "stderr"]);
    let origin = Other::start(&lab.targets[0], command.args(["-g", "daemon off;"]))?;
    accepts(Client::new(&lab.balancer, target)).await?;
    Ok(origin)
}

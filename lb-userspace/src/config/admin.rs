//! `[admin]`: where the daemon can be asked, and by whom.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::defaults;
use super::reader::Section;
use super::secret::Secret;

/// `[admin]`.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) bind: AdminBind,
    /// When set, every call but `/healthz` and `/readyz` must carry it.
    pub(crate) token: Option<Secret>,
}

/// `admin.bind`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminBind {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

pub(super) fn read(mut section: Section) -> Admin {
    let text: String = section.or("bind", defaults::ADMIN_BIND.to_owned());
    let bind = parse_bind(&text).unwrap_or_else(|message| {
        section.problem("bind", message);
        AdminBind::Unix(PathBuf::new())
    });
    let file: Option<PathBuf> = section.optional("token_file");
    let named = file.is_some();
    let token = file.and_then(|file| {
        Secret::read_token(&file)
            .map_err(|message| section.problem("token_file", message))
            .ok()
    });
    if !named && !private(&bind) {
        section.problem(
            "token_file",
            format!("is required, because {text} can be reached from other hosts"),
        );
    }
    section.finish();
    Admin { bind, token }
}

fn parse_bind(text: &str) -> Result<AdminBind, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        if !path.starts_with('/') {
            return Err(format!(
                "{text:?} must be an absolute path, such as unix:/run/limpet/admin.sock"
            ));
        }
        return Ok(AdminBind::Unix(path.into()));
    }
    text.parse()
        .map(AdminBind::Tcp)
        .map_err(|_| format!("{text:?} is neither an address and port nor unix:/path"))
}

/// Only this host can reach it.
fn private(bind: &AdminBind) -> bool {
    match bind {
        AdminBind::Tcp(address) => address.ip().is_loopback(),
        AdminBind::Unix(_) => true,
    }
}

//! `[target_group.stickiness]`: how a client is known again, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use http::header::HeaderName;

use super::defaults;
use super::reader::Section;
use super::secret::Secret;

/// `[target_group.stickiness]`.
#[derive(Debug, Clone)]
pub(crate) struct Stickiness {
    pub(crate) mode: StickinessMode,
    /// The name of the balancer's own cookie, in the modes that have one.
    pub(crate) cookie: String,
    pub(crate) same_site: SameSite,
    /// Empty: the host that the client asked for.
    pub(crate) domain: String,
    pub(crate) duration: Duration,
    /// `while_draining = "move"`: a draining target's clients go to others.
    pub(crate) moves_while_draining: bool,
    /// First seals, all open; empty: the balancer's own, made once.
    pub(crate) secrets: Vec<Secret>,
}

/// `stickiness.mode`: how a client is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StickinessMode {
    /// By a cookie of the balancer's.
    LbCookie,
    /// By one beside the application's of this name, for as long as that lasts.
    AppCookie(String),
    /// By its address.
    SourceIp,
    /// By an id in this header.
    Header(HeaderName),
    /// By an id under this key of the query.
    Query(String),
}

/// `stickiness.same_site`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SameSite {
    Lax,
    Strict,
    None,
}

#[cfg(test)]
impl Stickiness {
    /// In this mode, with a secret of its own.
    pub(super) fn of(mode: StickinessMode) -> Self {
        Self {
            mode,
            cookie: "LIMPET".to_owned(),
            same_site: SameSite::Lax,
            domain: String::new(),
            duration: Duration::from_secs(100),
            moves_while_draining: false,
            secrets: vec![Secret::new(vec![1; 16]).expect("long enough")],
        }
    }
}

pub(super) fn read(mut section: Section) -> Option<Stickiness> {
    let mode = read_mode(&mut section);
    let same_sites = [
        ("lax", SameSite::Lax),
        ("strict", SameSite::Strict),
        ("none", SameSite::None),
    ];
    let cookie = read_cookie_name(&mut section, "cookie", defaults::COOKIE);
    if mode == Some(StickinessMode::AppCookie(cookie.clone())) {
        section.problem("app_cookie", "must not be the balancer's own cookie");
    }
    let stickiness = Stickiness {
        mode: mode.clone().unwrap_or(StickinessMode::LbCookie),
        cookie,
        same_site: section.choice("same_site", &same_sites, SameSite::Lax),
        domain: read_domain(&mut section),
        duration: read_duration(&mut section),
        moves_while_draining: section.choice(
            "while_draining",
            &[("keep", false), ("move", true)],
            false,
        ),
        secrets: read_secrets(&mut section),
    };
    section.finish();
    mode.map(|_| stickiness)
}

/// What a mode needs may stand there in the others too: switching is one word.
fn read_mode(section: &mut Section) -> Option<StickinessMode> {
    let app_cookie = read_cookie_name(section, "app_cookie", defaults::APP_COOKIE);
    let header = read_header_name(section);
    let query = read_query_key(section);
    let modes = [
        ("off", None),
        ("lb_cookie", Some(StickinessMode::LbCookie)),
        ("app_cookie", Some(StickinessMode::AppCookie(app_cookie))),
        ("source_ip", Some(StickinessMode::SourceIp)),
        ("header", Some(StickinessMode::Header(header))),
        ("query", Some(StickinessMode::Query(query))),
    ];
    let choices: Vec<_> = modes.iter().map(|(word, mode)| (*word, mode)).collect();
    section.choice("mode", &choices, &None).clone()
}

fn read_header_name(section: &mut Section) -> HeaderName {
    let name: String = section.or("header", defaults::STICKINESS_HEADER.to_string());
    HeaderName::try_from(&name).unwrap_or_else(|_| {
        section.problem("header", format!("{name:?} is not the name of a header"));
        defaults::STICKINESS_HEADER
    })
}

fn read_query_key(section: &mut Section) -> String {
    let key: String = section.or("query", defaults::STICKINESS_QUERY.to_owned());
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    if key.is_empty() || key.len() > 64 || !key.chars().all(fits) {
        section.problem(
            "query",
            format!("{key:?} is not a key that needs no escapes"),
        );
    }
    key
}

fn read_cookie_name(section: &mut Section, key: &str, default: &str) -> String {
    let name: String = section.or(key, default.to_owned());
    let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) {
        section.problem(key, format!("{name:?} is not the name of a cookie"));
    }
    name
}

fn read_domain(section: &mut Section) -> String {
    let domain: String = section.or("domain", String::new());
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    if !domain.chars().all(fits) {
        section.problem("domain", format!("{domain:?} is not a domain"));
    }
    domain
}

fn read_duration(section: &mut Section) -> Duration {
    let duration = section.or("duration", defaults::STICKINESS);
    if duration < Duration::from_secs(1) || duration > defaults::STICKINESS_MAX {
        section.problem("duration", "must be between 1s and 7d");
    }
    duration
}

fn read_secrets(section: &mut Section) -> Vec<Secret> {
    let files: Vec<PathBuf> = section.or("secret_files", Vec::new());
    let mut secrets = Vec::new();
    for file in files {
        match Secret::read(&file) {
            Ok(secret) => secrets.push(secret),
            Err(message) => section.problem("secret_files", message),
        }
    }
    secrets
}

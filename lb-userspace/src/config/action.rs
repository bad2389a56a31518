//! What a listener or one of its rules does with a request: forward it, send the
//! client elsewhere, or answer in a target's place.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::reader::Section;
use super::template::Template;
use super::{TargetGroup, defaults};

/// An action.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Forward(Forward),
    Redirect(Redirect),
    Fixed(Fixed),
}

impl Action {
    /// The word of the configuration.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::Forward(_) => "forward",
            Self::Redirect(_) => "redirect",
            Self::Fixed(_) => "fixed_response",
        }
    }
}

/// `target_group`, or `forward` with several.
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    /// At least one.
    pub(crate) groups: Vec<Weighted>,
    /// `group_stickiness`: a client stays in the group it was given first.
    pub(crate) stickiness: Option<Duration>,
}

/// One item of `forward`.
#[derive(Debug, Clone)]
pub(crate) struct Weighted {
    /// The name of a target group that exists.
    pub(crate) target_group: String,
    pub(crate) weight: u32,
}

/// `redirect`.
#[derive(Debug, Clone)]
pub(crate) struct Redirect {
    pub(crate) status: StatusCode,
    pub(crate) scheme: Template<Placeholder>,
    pub(crate) host: Template<Placeholder>,
    pub(crate) port: Template<Placeholder>,
    pub(crate) path: Template<Placeholder>,
    pub(crate) query: Template<Placeholder>,
}

/// What a redirect can take from the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placeholder {
    Protocol,
    Host,
    Port,
    /// Without the slash that it begins with.
    Path,
    Query,
}

const PLACEHOLDERS: [(&str, Placeholder); 5] = [
    ("protocol", Placeholder::Protocol),
    ("host", Placeholder::Host),
    ("port", Placeholder::Port),
    ("path", Placeholder::Path),
    ("query", Placeholder::Query),
];

/// `fixed_response`.
#[derive(Debug, Clone)]
pub(crate) struct Fixed {
    pub(crate) status: StatusCode,
    pub(crate) content_type: HeaderValue,
    pub(crate) body: Bytes,
}

/// Those that name one place to go to.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

/// A longer body belongs on a target.
const BODY_MAX: usize = 64 * 1024;

const KEYS: [&str; 4] = ["target_group", "forward", "redirect", "fixed_response"];

/// The one action of a listener or rule.
pub(super) fn read(section: &mut Section, groups: &[TargetGroup]) -> Option<Action> {
    let given: Vec<&str> = KEYS.into_iter().filter(|key| section.has(key)).collect();
    match given[..] {
        [] => section.problem(
            "target_group",
            "is missing; forward, redirect or fixed_response can stand in its place",
        ),
        [_] => {}
        [first, second, ..] => section.problem(second, format!("{first} is there already")),
    }
    // All are read, so that all errors are told at once.
    let target_group = read_target_group(section, groups).map(Action::Forward);
    let forward = read_forward(section, groups).map(Action::Forward);
    let redirect = section.optional_section("redirect").and_then(read_redirect);
    let fixed = section
        .optional_section("fixed_response")
        .and_then(read_fixed);
    target_group
        .or(forward)
        .or(redirect.map(Action::Redirect))
        .or(fixed.map(Action::Fixed))
}

fn read_target_group(section: &mut Section, groups: &[TargetGroup]) -> Option<Forward> {
    let target_group = existing_group(section, groups)?;
    let weight = defaults::WEIGHT;
    Some(Forward {
        groups: vec![Weighted {
            target_group,
            weight,
        }],
        stickiness: None,
    })
}

fn read_forward(section: &mut Section, groups: &[TargetGroup]) -> Option<Forward> {
    let stickiness: Option<Duration> = section.optional("group_stickiness");
    let several = section.has("forward");
    if stickiness.is_some() && !several {
        section.problem("group_stickiness", "is for forward");
    }
    if stickiness
        .is_some_and(|time| time < Duration::from_secs(1) || time > defaults::STICKINESS_MAX)
    {
        section.problem("group_stickiness", "must be between 1s and 7d");
    }
    if !several {
        return None;
    }
    let items: Vec<Weighted> = section
        .sections("forward")
        .into_iter()
        .filter_map(|item| read_weighted(item, groups))
        .collect();
    for (index, item) in items.iter().enumerate() {
        let name = &item.target_group;
        if items
            .iter()
            .take(index)
            .any(|one| one.target_group == *name)
        {
            section.problem("forward", format!("{name:?} is there twice"));
        }
    }
    if items.iter().all(|item| item.weight == 0) {
        section.problem("forward", "at least one target group needs a weight");
        return None;
    }
    Some(Forward {
        groups: items,
        stickiness,
    })
}

fn read_weighted(mut section: Section, groups: &[TargetGroup]) -> Option<Weighted> {
    let target_group = match section.has("target_group") {
        true => existing_group(&mut section, groups),
        false => section.required("target_group"),
    };
    let weight = section.or("weight", defaults::WEIGHT);
    if weight > defaults::WEIGHT_MAX {
        let most = defaults::WEIGHT_MAX;
        section.problem("weight", format!("must be between 0 and {most}"));
    }
    section.finish();
    Some(Weighted {
        target_group: target_group?,
        weight,
    })
}

/// The target group that is named, if one is.
fn existing_group(section: &mut Section, groups: &[TargetGroup]) -> Option<String> {
    let name: String = section.optional("target_group")?;
    if groups.iter().any(|group| group.name == name) {
        return Some(name);
    }
    section.problem("target_group", format!("there is no target group {name:?}"));
    None
}

fn read_redirect(mut section: Section) -> Option<Redirect> {
    let status = read_status(&mut section, Some(StatusCode::MOVED_PERMANENTLY));
    if status.is_some_and(|status| !REDIRECTS.contains(&status.as_u16())) {
        section.problem("status", "must be 301, 302, 303, 307 or 308");
    }
    let mut text = |key, default: &str| -> (String, Option<Template<Placeholder>>) {
        let text: String = section.or(key, default.to_owned());
        let template = Template::parse(&text, &PLACEHOLDERS);
        let template = template.map_err(|message| section.problem(key, message));
        (text, template.ok())
    };
    let (scheme_text, scheme) = text("scheme", "https");
    let (host_text, host) = text("host", "#{host}");
    let (port_text, port) = text("port", default_port(&scheme_text));
    let (path_text, path) = text("path", "/#{path}");
    let (query_text, query) = text("query", "#{query}");
    if !["http", "https", "#{protocol}"].contains(&scheme_text.as_str()) {
        section.problem("scheme", "must be http, https or #{protocol}");
    }
    if port_text != "#{port}" && port_text.parse::<u16>().is_err() {
        section.problem("port", "must be between 0 and 65535, or #{port}");
    }
    if !path_text.starts_with('/') {
        section.problem("path", "must begin with a slash");
    }
    let all = [scheme_text, host_text, port_text, path_text, query_text];
    if all == ["#{protocol}", "#{host}", "#{port}", "/#{path}", "#{query}"] {
        section.problem("path", "this redirect leads to where it came from");
    }
    section.finish();
    Some(Redirect {
        status: status?,
        scheme: scheme?,
        host: host?,
        port: port?,
        path: path?,
        query: query?,
    })
}

/// Where the scheme is served; a listener on another port says so.
fn default_port(scheme: &str) -> &'static str {
    match scheme {
        "https" => "443",
        "http" => "80",
        _ => "#{port}",
    }
}

fn read_fixed(mut section: Section) -> Option<Fixed> {
    let status = read_status(&mut section, None);
    if status.is_some_and(|status| status.is_informational() || status.as_u16() > 599) {
        section.problem("status", "must be between 200 and 599");
    }
    let content_type: String = section.or("content_type", defaults::CONTENT_TYPE.to_owned());
    let content_type = HeaderValue::try_from(&content_type)
        .map_err(|_| section.problem("content_type", "is not a header value"));
    let body: String = section.or("body", String::new());
    if body.len() > BODY_MAX {
        section.problem("body", format!("can have at most {BODY_MAX} bytes"));
    }
    let bodiless = [Some(StatusCode::NO_CONTENT), Some(StatusCode::NOT_MODIFIED)];
    if !body.is_empty() && bodiless.contains(&status) {
        section.problem("body", "an answer with this status has none");
    }
    section.finish();
    Some(Fixed {
        status: status?,
        content_type: content_type.ok()?,
        body: body.into(),
    })
}

fn read_status(section: &mut Section, default: Option<StatusCode>) -> Option<StatusCode> {
    let number: u32 = match default {
        Some(default) => section.or("status", default.as_u16().into()),
        None => section.required("status")?,
    };
    let status = u16::try_from(number)
        .ok()
        .and_then(|number| StatusCode::from_u16(number).ok());
    if status.is_none() {
        section.problem("status", format!("{number} is not a status code"));
    }
    status
}

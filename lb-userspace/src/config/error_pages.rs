//! `error_pages`, of all listeners or of one: what clients see in place of the
//! balancer's own words, by status code. Read here, so that a missing file is an error
//! of the configuration.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::reader::Section;

/// What the balancer can answer in a target's place; `proxy/fault` makes these.
pub(crate) const CODES: [u16; 10] = [400, 408, 414, 426, 431, 463, 501, 502, 503, 504];
/// It is held in memory, and sent to whoever sends nonsense.
const BYTES_MAX: usize = 64 * 1024;

/// Endings of files, and what is in them.
const TYPES: [(&str, &str); 4] = [
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("json", "application/json"),
    ("txt", "text/plain; charset=utf-8"),
];

/// A page as it is sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ErrorPage {
    pub(crate) content_type: HeaderValue,
    pub(crate) body: Bytes,
}

/// Pages by status code; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct ErrorPages(BTreeMap<u16, Arc<ErrorPage>>);

impl ErrorPages {
    /// The page for an answer with this code.
    pub(crate) fn find(&self, status: StatusCode) -> Option<&ErrorPage> {
        self.0.get(&status.as_u16()).map(Arc::as_ref)
    }
}

/// The pages of `section`, laid over those in `base`.
pub(super) fn read(section: &mut Section, base: &ErrorPages) -> ErrorPages {
    let mut pages = base.clone();
    let Some(mut section) = section.optional_section("error_pages") else {
        return pages;
    };
    for (code, file) in section.entries::<PathBuf>() {
        let page = known(&code).and_then(|code| Ok((code, load(&file)?)));
        match page {
            Ok((code, page)) => drop(pages.0.insert(code, Arc::new(page))),
            Err(message) => section.problem(&code, message),
        }
    }
    section.finish();
    pages
}

fn known(code: &str) -> Result<u16, String> {
    let known = CODES.into_iter().find(|known| known.to_string() == code);
    known.ok_or_else(|| {
        let all: Vec<String> = CODES.iter().map(u16::to_string).collect();
        format!("the balancer makes only {}", all.join(", "))
    })
}

fn load(file: &Path) -> Result<ErrorPage, String> {
    let ending = file.extension().and_then(|ending| ending.to_str());
    let known = TYPES.iter().find(|(one, _)| Some(*one) == ending);
    let shown = file.display();
    let Some((_, content_type)) = known else {
        let all: Vec<&str> = TYPES.iter().map(|(ending, _)| *ending).collect();
        return Err(format!("{shown} does not end in .{}", all.join(", .")));
    };
    let body = fs::read(file).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    if body.len() > BYTES_MAX {
        return Err(format!("{shown} is longer than {BYTES_MAX} bytes"));
    }
    Ok(ErrorPage {
        content_type: HeaderValue::from_static(content_type),
        body: body.into(),
    })
}

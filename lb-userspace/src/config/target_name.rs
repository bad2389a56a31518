//! `address = "app.internal:80"` and `srv = "_http._tcp.app.internal"` of
//! `[[target_group.target]]`: targets that DNS knows by name.

use std::collections::HashSet;
use std::fmt;

use super::reader::Section;

/// The longest name, in characters (RFC 1035 section 2.3.4).
const NAME: usize = 253;
/// The longest part between two dots.
const LABEL: usize = 63;

/// A name, and what its targets are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetName {
    pub(crate) question: Question,
    /// Of each of its targets; SRV records say their own instead.
    pub(crate) weight: u32,
}

/// What DNS is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    /// The addresses of a host (A, AAAA).
    Host { name: String, port: u16 },
    /// The hosts and ports of a service (SRV), then their addresses.
    Service { name: String },
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Service { name } => f.write_str(name),
        }
    }
}

impl Question {
    /// Reads a name and a port; the error is a sentence.
    pub(super) fn host(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not an address and port, such as 10.0.0.1:80 or [::1]:80, \
                 nor a name and port, such as app.internal:80"
            )
        };
        let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or_else(wrong)?;
        let name = canonical(name).ok_or_else(wrong)?;
        Ok(Self::Host { name, port })
    }

    fn service(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not the name of a service, such as _http._tcp.app.internal");
        let name = canonical(text).ok_or_else(wrong)?;
        Ok(Self::Service { name })
    }
}

/// Reads `srv`, beside which neither `address` nor `weight` has a meaning.
pub(super) fn read_service(section: &mut Section) -> Option<TargetName> {
    let text: String = section.optional("srv")?;
    if section.has("weight") {
        section.problem("weight", "is said by the SRV records");
        section.optional::<u32>("weight");
    }
    let question = Question::service(&text);
    let question = question.map_err(|message| section.problem("srv", message));
    Some(TargetName {
        question: question.ok()?,
        weight: 1,
    })
}

/// Complains about a name that the group has twice.
pub(super) fn check_once(
    section: &Section,
    key: &str,
    question: &Question,
    taken: &mut HashSet<Question>,
) {
    if !taken.insert(question.clone()) {
        section.problem(key, format!("{question} is in this group twice"));
    }
}

/// In small letters, if it can be a name; a dot at its end says that no search domain
/// is to be tried.
fn canonical(name: &str) -> Option<String> {
    let labels: Vec<&str> = name.strip_suffix('.').unwrap_or(name).split('.').collect();
    // Else a mistyped address would be asked for.
    let is_number = |label: &&str| label.chars().all(|c| c.is_ascii_digit());
    let fits = name.len() <= NAME
        && labels.iter().all(|label| is_label(label))
        && !labels.last().is_some_and(is_number);
    fits.then(|| name.to_ascii_lowercase())
}

fn is_label(label: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
    !label.is_empty() && label.len() <= LABEL && label.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_a_port() {
        let host = Question::host("App.internal:8080").expect("a name");
        let (name, port) = ("app.internal".to_owned(), 8080);
        assert_eq!(host, Question::Host { name, port });
        assert_eq!(host.to_string(), "app.internal:8080");
        assert!(Question::host("app.internal.:80").is_ok());
    }

    #[test]
    fn what_can_be_no_name_is_refused() {
        let long = format!("{}:80", "a".repeat(64));
        for text in [
            "app.internal",
            "app.internal:",
            "app.internal:0",
            "app.internal:65536",
            "10.0.0.256:80",
            "[::1:80",
            ":80",
            "a..b:80",
            "with space:80",
            &long,
        ] {
            assert!(Question::host(text).is_err(), "{text}");
        }
        assert!(Question::service("_http._tcp.app.internal:80").is_err());
        assert!(Question::service("_http._tcp.app.internal").is_ok());
    }
}

//! `listener.client_certificates`: whether clients must say who they are, and who vouches
//! for them.

use std::path::PathBuf;

use super::Protocol;
use super::reader::Section;
use crate::tls::{Asked, Clients};

const MODES: [(&str, Option<Asked>); 3] = [
    ("off", None),
    ("verify", Some(Asked::Certificate)),
    ("passthrough", Some(Asked::Subject)),
];

pub(super) fn read(listener: &mut Section, protocol: Protocol) -> Option<Clients> {
    let mut section = listener.optional_section("client_certificates")?;
    let asked = section.choice("mode", &MODES, None);
    let clients = match asked {
        // The file may not be there yet.
        None => section.optional::<PathBuf>("ca").and(None),
        Some(asked) => section
            .required("ca")
            .and_then(|file| match Clients::load(asked, file) {
                Ok(clients) => Some(clients),
                Err(broken) => {
                    section.problem(broken.key, &broken.message);
                    None
                }
            }),
    };
    if asked.is_some() && !protocol.ends_tls() {
        section.problem("mode", "needs protocol = \"https\" or \"tls\"");
    } else if asked == Some(Asked::Subject) && !protocol.is_http() {
        section.problem("mode", "passthrough needs requests, to put a header into");
    }
    section.finish();
    clients
}

//! `listener.certificates`: pairs of PEM files, read here so that a bad one is an
//! error of the configuration.

use super::Protocol;
use super::reader::Section;
use crate::tls::{Files, Pair};

pub(super) fn read(listener: &mut Section, protocol: Protocol) -> Vec<Pair> {
    let sections = listener.sections("certificates");
    match (protocol.ends_tls(), sections.is_empty()) {
        (true, true) => {
            let message = format!("there must be at least one for {}", protocol.as_str());
            listener.problem("certificates", message);
        }
        (false, false) => {
            listener.problem("certificates", "are for protocol = \"https\" or \"tls\"");
        }
        (true, false) | (false, true) => {}
    }
    sections.into_iter().filter_map(read_pair).collect()
}

fn read_pair(mut section: Section) -> Option<Pair> {
    let cert = section.required("cert");
    let key = section.required("key");
    let pair = match cert.zip(key) {
        Some((cert, key)) => Pair::load(Files { cert, key })
            .inspect_err(|all| {
                for broken in all {
                    section.problem(broken.key, &broken.message);
                }
            })
            .ok(),
        None => None,
    };
    section.finish();
    pair
}

//! `listener.certificates`: pairs of PEM files, read here so that a bad one is an
//! error of the configuration.

use super::Protocol;
use super::reader::Section;
use crate::tls::{Files, Pair};

pub(super) fn read(listener: &mut Section, protocol: Protocol) -> Vec<Pair> {
    let sections = listener.sections("certificates");
    match (protocol, sections.is_empty()) {
        (Protocol::Https, true) => {
            listener.problem("certificates", "there must be at least one for https");
        }
        (Protocol::Http, false) => {
            listener.problem("certificates", "are for protocol = \"https\"");
        }
        (Protocol::Https, false) | (Protocol::Http, true) => {}
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

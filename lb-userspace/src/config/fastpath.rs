//! `[fastpath]`: how connections get into the kernel.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::reader::Section;
use super::{defaults, units};
use crate::dataplane::{Mode, Settings};

const MODES: [(&str, Mode); 5] = [
    ("auto", Mode::Auto),
    ("xdp", Mode::Xdp),
    ("xdp-generic", Mode::XdpGeneric),
    ("tc", Mode::Tc),
    ("off", Mode::Off),
];

pub(super) fn read(mut section: Section) -> Settings {
    let settings = Settings {
        mode: section.choice("mode", &MODES, Mode::Auto),
        interfaces: section.or("interfaces", Vec::new()),
        max_flows: max_flows(&mut section),
        source_ports: source_ports(&mut section),
        pin_dir: section.or("pin_dir", PathBuf::from(defaults::PIN_DIR)),
    };
    section.finish();
    settings
}

fn max_flows(section: &mut Section) -> u32 {
    let flows = section.or("max_flows", defaults::MAX_FLOWS);
    if flows == 0 {
        section.problem(
            "max_flows",
            "must be more than zero; mode = \"off\" turns the fast path off",
        );
    }
    flows
}

fn source_ports(section: &mut Section) -> RangeInclusive<u16> {
    let text: String = section.or("source_ports", defaults::SOURCE_PORTS.to_owned());
    units::ports(&text).unwrap_or_else(|message| {
        section.problem("source_ports", message);
        1..=1
    })
}

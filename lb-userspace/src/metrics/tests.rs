//! The reference, docs/metrics.md, has what is counted.

use std::collections::BTreeSet;

use lb_common::outcome::Outcome;

const REFERENCE: &str = include_str!("../../../docs/metrics.md");

#[test]
fn the_reference_has_every_metric_and_no_other() {
    // Named where they are made: a metric without a sample is not in its registry.
    let sources = sources();
    let made = sources.split("new.").skip(1).filter_map(|call| {
        let (_, arguments) = call.split_once('(')?;
        let (name, _) = arguments.trim_start().strip_prefix('"')?.split_once('"')?;
        Some(name)
    });
    let made: BTreeSet<&str> = made.collect();
    let told = REFERENCE.split("`limpet_").skip(1).map(|text| {
        text.split(|c: char| c != '_' && !c.is_ascii_lowercase())
            .next()
            .unwrap_or_default()
    });
    let told: BTreeSet<&str> = told.collect();
    assert_eq!(told, made);
}

/// All files of this folder.
fn sources() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/metrics");
    let files = std::fs::read_dir(folder).expect("the folder");
    files
        .map(|file| std::fs::read_to_string(file.expect("a file").path()).expect("text"))
        .collect()
}

#[test]
fn the_reference_has_every_outcome() {
    for outcome in Outcome::ALL {
        let word = format!("`{}`", outcome.name());
        assert!(REFERENCE.contains(&word), "{word}");
    }
}

//! Targets by name, and who resolves them.

use super::{GOOD, complaints};
use crate::config::Config;

#[test]
fn targets_can_have_names() {
    let more = "[[target_group.target]]\naddress = 'App.internal:81'\nweight = 3\n\
                [[target_group.target]]\nsrv = '_chat._tcp.internal'\n";
    let text = format!("resolver = '127.0.0.1:53'\n{GOOD}\n{more}");
    let config = Config::parse(&text).expect("a good file");
    assert_eq!(
        config.resolver,
        ["127.0.0.1:53".parse().expect("an address")]
    );
    let names = &config.target_groups[0].names;
    let names = names
        .iter()
        .map(|one| (one.question.to_string(), one.weight));
    let expected = [("app.internal:81", 3), ("_chat._tcp.internal", 1)];
    let expected = expected.map(|(name, weight)| (name.to_owned(), weight));
    assert_eq!(names.collect::<Vec<_>>(), expected);
    assert_eq!(config.target_groups[0].targets.len(), 2);
}

#[test]
fn names_that_cannot_be_followed_are_refused() {
    for (lines, complaint) in [
        (
            "address = '10.0.0.256:80'",
            "address: \"10.0.0.256:80\" is not an address",
        ),
        (
            "address = 'app.internal'",
            "address: \"app.internal\" is not an address",
        ),
        (
            "srv = 'app.internal:80'",
            "srv: \"app.internal:80\" is not the name",
        ),
        (
            "srv = '_a._tcp.b'\nweight = 2",
            "weight: is said by the SRV records",
        ),
        ("srv = '_a._tcp.b'\naddress = 'c:1'", "address: unknown key"),
    ] {
        let found = complaints(&format!("{GOOD}\n[[target_group.target]]\n{lines}\n"));
        let [found] = found.as_slice() else {
            panic!("{lines}: {found:?}");
        };
        let expected = format!("target_group[0].target[2].{complaint}");
        assert!(found.starts_with(&expected), "{found}");
    }
    let twice = "[[target_group.target]]\naddress = 'a.b:1'\n".repeat(2);
    let found = complaints(&format!("{GOOD}\n{twice}"));
    let expected = "target_group[0].target[3].address: a.b:1 is in this group twice";
    assert_eq!(found, [expected]);
}

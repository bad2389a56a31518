//! Whatever stands in a configuration file, it is refused with reasons or can be used; and
//! the same settings, written anew, are read as the same.

use crate::config::Config;

/// The input is a file.
pub fn check(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    // Files that are named are read, and those there have no end.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    match Config::parse(text) {
        Ok(config) => {
            let table: toml::Table = text.parse().expect("it was read");
            let anew = toml::to_string(&table).expect("a file");
            let again = Config::parse(&anew).expect("accepted before");
            assert_eq!(format!("{config:?}"), format!("{again:?}"), "{anew}");
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "a reason");
            for problem in problems {
                assert!(!problem.message.is_empty(), "{problem}");
            }
        }
    }
}

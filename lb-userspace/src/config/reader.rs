//! Walks a TOML table key by key and keeps every complaint with its key path.
//!
//! A `Section` gives each key away once; what is left at `finish` is unknown
//! and refused. Reading goes on after an error, so that all are told at once.

use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use ipnet::IpNet;
use toml::{Table, Value};

use super::units;

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Key path, such as `listener[0].bind`; empty for the file as a whole.
    pub(crate) key: String,
    /// What is wrong, in a sentence.
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => f.write_str(&self.message),
            key => write!(f, "{key}: {}", self.message),
        }
    }
}

/// Where complaints are collected.
pub(super) type Problems = Rc<RefCell<Vec<Problem>>>;

/// A table being read.
#[derive(Debug)]
pub(super) struct Section {
    path: String,
    table: Table,
    problems: Problems,
}

impl Section {
    pub(super) fn root(table: Table, problems: Problems) -> Self {
        Self {
            path: String::new(),
            table,
            problems,
        }
    }

    /// The value of `key`, if it is there and fits.
    pub(super) fn optional<T: FromValue>(&mut self, key: &str) -> Option<T> {
        let value = self.table.remove(key)?;
        match T::from_value(value) {
            Ok(value) => Some(value),
            Err(message) => {
                self.problem(key, message);
                None
            }
        }
    }

    /// The value of `key`, or its default.
    pub(super) fn or<T: FromValue>(&mut self, key: &str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// The value of `key`, which must be there.
    pub(super) fn required<T: FromValue>(&mut self, key: &str) -> Option<T> {
        if !self.table.contains_key(key) {
            self.problem(key, "is missing");
            return None;
        }
        self.optional(key)
    }

    /// One of the words of `choices`, or the default.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)], default: T) -> T {
        let Some(word) = self.optional::<String>(key) else {
            return default;
        };
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
            return *value;
        }
        let known: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.problem(key, format!("{word:?} is not one of {}", known.join(", ")));
        default
    }

    /// The table under `key`; empty when it is not there.
    pub(super) fn section(&mut self, key: &str) -> Section {
        let table = match self.table.remove(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.problem(key, format!("expected a table, found {}", kind(&other)));
                Table::new()
            }
        };
        Section {
            path: self.path_of(key),
            table,
            problems: self.problems.clone(),
        }
    }

    /// The table under `key`, if it is there.
    pub(super) fn optional_section(&mut self, key: &str) -> Option<Section> {
        self.has(key).then(|| self.section(key))
    }

    /// Whether `key` is there and has not been read yet.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// All that is left, by key: for a table whose keys are the user's own.
    pub(super) fn entries<T: FromValue>(&mut self) -> Vec<(String, T)> {
        let keys: Vec<String> = self.table.keys().cloned().collect();
        keys.into_iter()
            .filter_map(|key| {
                let value = self.optional(&key)?;
                Some((key, value))
            })
            .collect()
    }

    /// The array of tables under `key`.
    pub(super) fn sections(&mut self, key: &str) -> Vec<Section> {
        let items = match self.table.remove(key) {
            None => Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                let message = format!("expected [[{key}]] tables, found {}", kind(&other));
                self.problem(key, message);
                Vec::new()
            }
        };
        let mut sections = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            match item {
                Value::Table(table) => {
                    sections.push(Section {
                        path,
                        table,
                        problems: self.problems.clone(),
                    });
                }
                other => self.push(path, format!("expected a table, found {}", kind(&other))),
            }
        }
        sections
    }

    /// Complains about `key` of this section.
    pub(super) fn problem(&self, key: &str, message: impl Into<String>) {
        self.push(self.path_of(key), message.into());
    }

    /// Refuses the keys that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            self.problem(key, "unknown key");
        }
    }

    fn push(&self, key: String, message: String) {
        self.problems.borrow_mut().push(Problem { key, message });
    }

    fn path_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }
}

/// What a TOML value can be read as; the error is a sentence without the key.
pub(super) trait FromValue: Sized {
    fn from_value(value: Value) -> Result<Self, String>;
}

impl FromValue for String {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(text),
            other => Err(format!("expected a string, found {}", kind(&other))),
        }
    }
}

impl FromValue for u32 {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Integer(number) => u32::try_from(number)
                .map_err(|_| format!("{number} is not between 0 and {}", u32::MAX)),
            other => Err(format!("expected a whole number, found {}", kind(&other))),
        }
    }
}

impl FromValue for bool {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Boolean(value) => Ok(value),
            other => Err(format!("expected true or false, found {}", kind(&other))),
        }
    }
}

impl FromValue for PathBuf {
    fn from_value(value: Value) -> Result<Self, String> {
        match String::from_value(value)? {
            text if text.is_empty() => Err("a path cannot be empty".to_owned()),
            text => Ok(text.into()),
        }
    }
}

impl FromValue for Duration {
    fn from_value(value: Value) -> Result<Self, String> {
        units::duration(&String::from_value(value)?)
    }
}

impl FromValue for SocketAddr {
    fn from_value(value: Value) -> Result<Self, String> {
        let text = String::from_value(value)?;
        text.parse().map_err(|_| {
            format!("{text:?} is not an address and port, such as 10.0.0.1:80 or [::1]:80")
        })
    }
}

impl FromValue for IpNet {
    fn from_value(value: Value) -> Result<Self, String> {
        let text = String::from_value(value)?;
        let alone = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse().or_else(|_| alone()).map_err(|_| {
            format!("{text:?} is not a range of addresses, such as 10.0.0.0/8 or fd00::/8")
        })
    }
}

/// A size in bytes, written with a unit.
pub(super) struct Size(pub(super) u64);

impl FromValue for Size {
    fn from_value(value: Value) -> Result<Self, String> {
        units::size(&String::from_value(value)?).map(Size)
    }
}

/// A list; one item may stand alone.
impl<T: FromValue> FromValue for Vec<T> {
    fn from_value(value: Value) -> Result<Self, String> {
        match value {
            Value::Array(items) => items.into_iter().map(T::from_value).collect(),
            single => Ok(vec![T::from_value(single)?]),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

//! A record as one line: JSON, the combined format of web servers, or a template.
//!
//! What a client sent may hold anything; nothing but printable text comes out, so
//! no line can forge another or speak to the terminal that shows it.

use std::fmt::Write;
use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

use super::record::{FIELDS, Field, Record, Value};
use crate::config::AccessFormat;

const RFC3339: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
/// As in Apache's common log format.
const COMMON: StaticFormatDescription =
    format_description!("[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000");

/// The line, with its end.
pub(super) fn line(record: &Record, format: &AccessFormat) -> String {
    let mut line = match format {
        AccessFormat::Json => json(record),
        AccessFormat::Combined => combined(record),
        AccessFormat::Template(template) => {
            template.render(|field, line| push_plain(line, record, field))
        }
    };
    line.push('\n');
    line
}

/// RFC 3339, in UTC.
pub(super) fn rfc3339(time: SystemTime) -> String {
    formatted(time, RFC3339)
}

fn formatted(time: SystemTime, format: StaticFormatDescription) -> String {
    // Fails for components that a date does not have; ours has them all.
    OffsetDateTime::from(time)
        .format(format)
        .unwrap_or_default()
}

fn json(record: &Record) -> String {
    let mut line = String::with_capacity(512);
    for (name, field) in FIELDS {
        if field == Field::ClientIp {
            continue;
        }
        line.push_str(if line.is_empty() { "{\"" } else { ",\"" });
        line.push_str(name);
        line.push_str("\":");
        push_json(&mut line, record.value(field));
    }
    line.push('}');
    line
}

fn push_json(line: &mut String, value: Value<'_>) {
    // Writing to a String cannot fail.
    let _ = match value {
        Value::Null => write!(line, "null"),
        Value::Number(number) => write!(line, "{number}"),
        Value::Seconds(seconds) => write!(line, "{seconds:.6}"),
        Value::Bytes(bytes) => {
            line.push('"');
            for char in String::from_utf8_lossy(&bytes).chars() {
                push_json_char(line, char);
            }
            write!(line, "\"")
        }
    };
}

/// Also DEL and the C1 controls, which JSON would let pass and terminals obey.
fn push_json_char(line: &mut String, char: char) {
    match char {
        '"' => line.push_str("\\\""),
        '\\' => line.push_str("\\\\"),
        char if char.is_control() => {
            let _ = write!(line, "\\u{:04x}", u32::from(char));
        }
        char => line.push(char),
    }
}

/// `client - - [time] "request" status bytes "referer" "user agent"`.
fn combined(record: &Record) -> String {
    let mut line = String::with_capacity(256);
    push_plain(&mut line, record, Field::ClientIp);
    let _ = write!(line, " - - [{}] \"", formatted(record.begun, COMMON));
    match record.head {
        Some(_) => {
            for (field, after) in [
                (Field::Method, ' '),
                (Field::Uri, ' '),
                (Field::Version, '"'),
            ] {
                push_plain(&mut line, record, field);
                line.push(after);
            }
        }
        None => line.push_str("-\""),
    }
    line.push(' ');
    push_plain(&mut line, record, Field::Status);
    let _ = write!(line, " {} \"", record.bytes_out);
    push_plain(&mut line, record, Field::Referer);
    line.push_str("\" \"");
    push_plain(&mut line, record, Field::UserAgent);
    line.push('"');
    line
}

/// The value for text formats, as nginx escapes: `-` for nothing, `\xHH` for what
/// is not printable ASCII, for quotes and for backslashes.
fn push_plain(line: &mut String, record: &Record, field: Field) {
    let _ = match record.value(field) {
        Value::Null => write!(line, "-"),
        Value::Number(number) => write!(line, "{number}"),
        Value::Seconds(seconds) => write!(line, "{seconds:.6}"),
        Value::Bytes(bytes) => {
            for byte in bytes.iter() {
                match byte {
                    b'"' | b'\\' | ..b' ' | 0x7f.. => {
                        let _ = write!(line, "\\x{byte:02X}");
                    }
                    _ => line.push(char::from(*byte)),
                }
            }
            Ok(())
        }
    };
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::record::Head;
    use super::*;
    use crate::config::Config;

    fn record() -> Record {
        let client = "203.0.113.7:51334".parse().expect("an address");
        Record {
            begun: SystemTime::UNIX_EPOCH + Duration::from_millis(1_784_542_503_007),
            target_group: Some("chat".to_owned()),
            target: Some("10.0.2.11:8080".parse().expect("an address")),
            head: Some(Head {
                method: "GET".to_owned(),
                uri: "/a?b=\"\\".to_owned(),
                version: "HTTP/1.1",
                host: Some(b"a.test".to_vec()),
                referer: None,
                user_agent: Some(b"\x1b[31m\n\x7f\xc2\x9b\xff x".to_vec()),
            }),
            status: Some(200),
            origin: Some("target"),
            verdict: Some("valid"),
            bytes_out: 12,
            duration: Duration::from_micros(1_500),
            cause: "done",
            ..Record::new("http", "web", client)
        }
    }

    #[test]
    fn json_lines() {
        let line = line(&record(), &AccessFormat::Json);
        assert_eq!(
            line,
            concat!(
                r#"{"time":"2026-07-20T10:15:03.007Z","protocol":"http","listener":"web","#,
                r#""target_group":"chat","target":"10.0.2.11:8080","client":"203.0.113.7:51334","#,
                r#""method":"GET","host":"a.test","uri":"/a?b=\"\\","version":"HTTP/1.1","#,
                r#""status":200,"origin":"target","fault":null,"verdict":"valid","bytes_in":0,"#,
                r#""bytes_out":12,"duration_seconds":0.001500,"path":"userspace","cause":"done","#,
                r#""referer":null,"user_agent":"\u001b[31m\u000a\u007f\u009b"#,
                "\u{fffd} x\"}\n"
            )
        );
        let parsed: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(parsed["uri"], "/a?b=\"\\");
    }

    #[test]
    fn combined_lines() {
        assert_eq!(
            line(&record(), &AccessFormat::Combined),
            concat!(
                r#"203.0.113.7 - - [20/Jul/2026:10:15:03 +0000] "GET /a?b=\x22\x5C HTTP/1.1" "#,
                r#"200 12 "-" "\x1B[31m\x0A\x7F\xC2\x9B\xFF x""#,
                "\n"
            )
        );
        let unread = Record {
            head: None,
            ..record()
        };
        assert_eq!(
            line(&unread, &AccessFormat::Combined),
            "203.0.113.7 - - [20/Jul/2026:10:15:03 +0000] \"-\" 200 12 \"-\" \"-\"\n"
        );
    }

    #[test]
    fn templates() {
        let text = "[log]\naccess = { format = 'template', template = '#{client} #{status} #{fault} #{duration_seconds}' }\n\
                    [[listener]]\nname='a'\nbind='127.0.0.1:0'\nredirect={}\n";
        let config = Config::parse(text).expect("a good configuration");
        assert_eq!(
            line(&record(), &config.log.access.format),
            "203.0.113.7:51334 200 - 0.001500\n"
        );
    }
}

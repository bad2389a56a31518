//! Patterns of rules: `*` stands for any text, `?` for any one byte, as in ALB.

use toml::Value;

use super::reader::FromValue;

/// ALB's limit; keeps the work of one comparison small.
const LENGTH_MAX: usize = 128;

/// Text with `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(String);

/// Whether `A` and `a` are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    Sensitive,
    Insensitive,
}

impl Pattern {
    pub(crate) fn parse(text: String) -> Result<Self, String> {
        match text.len() {
            0 => Err("a pattern cannot be empty; * matches everything".to_owned()),
            1..=LENGTH_MAX => Ok(Self(text)),
            _ => Err(format!(
                "a pattern can have at most {LENGTH_MAX} characters"
            )),
        }
    }

    /// As it was written.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Whether all of `text` fits. At most pattern times text steps: only the
    /// last star is ever tried again.
    pub(crate) fn matches(&self, text: &[u8], case: Case) -> bool {
        let pattern = self.0.as_bytes();
        let (mut at, mut read) = (0, 0);
        // Where to go on when the text after a star does not fit.
        let mut retry: Option<(usize, usize)> = None;
        while let Some(byte) = text.get(read) {
            match pattern.get(at) {
                Some(b'*') => {
                    retry = Some((at + 1, read + 1));
                    at += 1;
                }
                Some(wanted) if fits(*wanted, *byte, case) => {
                    at += 1;
                    read += 1;
                }
                _ => {
                    let Some((after_star, from)) = retry else {
                        return false;
                    };
                    retry = Some((after_star, from + 1));
                    (at, read) = (after_star, from);
                }
            }
        }
        pattern
            .get(at..)
            .is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
    }
}

fn fits(wanted: u8, byte: u8, case: Case) -> bool {
    wanted == b'?'
        || match case {
            Case::Sensitive => wanted == byte,
            Case::Insensitive => wanted.eq_ignore_ascii_case(&byte),
        }
}

impl FromValue for Pattern {
    fn from_value(value: Value) -> Result<Self, String> {
        Self::parse(String::from_value(value)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        let pattern = Pattern::parse(pattern.to_owned()).expect("a pattern");
        pattern.matches(text.as_bytes(), Case::Sensitive)
    }

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text) in [
            ("*", ""),
            ("*", "abc"),
            ("/api/*", "/api/"),
            ("/api/*", "/api/a/b"),
            ("*.example.com", "a.b.example.com"),
            ("a?c", "abc"),
            ("*a*b", "xaxbxb"),
            ("**a", "a"),
            ("a*b*c", "abbc"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("/api/*", "/api"),
            ("*.example.com", "example.com"),
            ("a?c", "ac"),
            ("abc", "abcd"),
            ("abc", "ab"),
            ("*a*b", "xbxa"),
            ("a", "A"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn case_counts_where_it_should() {
        let pattern = Pattern::parse("*.Example.com".to_owned()).expect("a pattern");
        assert!(pattern.matches(b"A.EXAMPLE.COM", Case::Insensitive));
        assert!(!pattern.matches(b"A.EXAMPLE.COM", Case::Sensitive));
    }

    #[test]
    fn a_hostile_text_costs_a_bounded_time() {
        let pattern = Pattern::parse("*a".repeat(63) + "b").expect("a pattern");
        assert!(!pattern.matches(&[b'a'; 16 * 1024], Case::Sensitive));
    }
}

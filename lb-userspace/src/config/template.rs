//! Text with placeholders, written `#{name}`, as ALB writes them.

use std::fmt::Write;

/// Text of the configuration, its placeholders known to exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template<T> {
    pieces: Vec<Piece<T>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece<T> {
    Text(String),
    Placeholder(T),
}

impl<T: Copy> Template<T> {
    /// Reads text whose placeholders are among `names`.
    ///
    /// # Errors
    /// A sentence that quotes the placeholder that is unknown or has no end.
    pub(super) fn parse(text: &str, names: &[(&str, T)]) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("#{") {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| format!("#{{{after} has no closing brace"))?;
            let (_, value) = names
                .iter()
                .find(|(known, _)| *known == name)
                .ok_or_else(|| unknown(name, names))?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Placeholder(*value));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { pieces })
    }

    /// The text, with what `fill` writes for each placeholder.
    pub(crate) fn render(&self, mut fill: impl FnMut(T, &mut String)) -> String {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Placeholder(name) => fill(*name, &mut text),
            }
        }
        text
    }
}

fn unknown<T>(name: &str, names: &[(&str, T)]) -> String {
    let mut text = format!("#{{{name}}} is not one of");
    for (index, (name, _)) in names.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma} #{{{name}}}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [(&str, u8); 2] = [("a", 1), ("b", 2)];

    fn rendered(text: &str) -> Result<String, String> {
        let template = Template::parse(text, &NAMES)?;
        Ok(template.render(|name, text| text.push_str(&name.to_string())))
    }

    #[test]
    fn placeholders_are_filled() {
        assert_eq!(rendered(""), Ok(String::new()));
        assert_eq!(rendered("x#{a}y#{b}#{a}"), Ok("x1y21".to_owned()));
        assert_eq!(rendered("# {a} }{"), Ok("# {a} }{".to_owned()));
    }

    #[test]
    fn mistakes_are_quoted() {
        assert_eq!(
            rendered("#{c}"),
            Err("#{c} is not one of #{a}, #{b}".to_owned())
        );
        assert_eq!(rendered("#{a"), Err("#{a has no closing brace".to_owned()));
    }
}

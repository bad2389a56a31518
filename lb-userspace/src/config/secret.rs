//! Secrets read from files; they are never printed.

use std::fmt;
use std::path::Path;

/// Fewer bytes than this can be guessed.
pub(crate) const MIN_SECRET: usize = 16;

/// The content of a secret file.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(Vec<u8>);

impl Secret {
    /// Takes bytes as a secret; fewer than `MIN_SECRET` are refused.
    pub(crate) fn new(bytes: Vec<u8>) -> Result<Self, String> {
        if bytes.len() < MIN_SECRET {
            return Err(format!(
                "holds {} bytes; at least {MIN_SECRET} are needed",
                bytes.len()
            ));
        }
        Ok(Self(bytes))
    }

    /// Reads a key file, byte for byte.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Self::new(bytes).map_err(|message| format!("{} {message}", file.display()))
    }

    /// Reads a token: text, without the line end that editors leave.
    pub(super) fn read_token(file: &Path) -> Result<Self, String> {
        let Self(bytes) = Self::read(file)?;
        Self::new(bytes.trim_ascii().to_vec())
            .map_err(|message| format!("{} {message}", file.display()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

//! `state_dir/answers.json`: what the names of targets have answered last, so that a
//! restart while DNS is away loses none of them.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tracing::warn;

use super::answers::Answers;
use crate::state_dir;

const FILE: &str = "answers.json";
/// What it means that this file is damaged.
const LOST: &str = "what DNS answered last is lost; names have no targets until they answer again";

/// The file.
#[derive(Debug)]
pub(super) struct Kept {
    state_dir: PathBuf,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    /// What the file has, as far as is known.
    content: Vec<u8>,
    /// The last attempt has failed.
    fails: bool,
}

impl Kept {
    /// The file, and what was kept in it.
    pub(super) fn open(state_dir: &Path) -> (Self, Answers) {
        let file = state_dir.join(FILE);
        let parse = |bytes: &[u8]| Answers::parse(bytes).map(|answers| (answers, bytes.to_vec()));
        let (answers, content) = state_dir::read(&file, parse, LOST).unwrap_or_default();
        let written = Written {
            content,
            fails: false,
        };
        let kept = Self {
            state_dir: state_dir.to_owned(),
            written: Mutex::new(written),
        };
        (kept, answers)
    }

    /// Writes what is news. A disk that does not take it must not keep targets from
    /// being followed: it is tried again with the next answer, and said once.
    pub(super) fn keep(&self, answers: &Answers) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let done = answers
            .to_bytes()
            .map_err(std::io::Error::other)
            .and_then(|bytes| {
                if bytes != written.content {
                    state_dir::replace(&self.state_dir, FILE, &bytes)?;
                    written.content = bytes;
                }
                Ok(())
            });
        if let Err(error) = &done
            && !written.fails
        {
            let file = self.state_dir.join(FILE);
            warn!(
                file = %file.display(), %error,
                "what DNS answers cannot be kept: a restart while it is away would lose it"
            );
        }
        written.fails = done.is_err();
    }
}

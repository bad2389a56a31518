//! A directory of one test's own.

use std::fs;
use std::path::PathBuf;

/// Gone with all that is in it when it is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// `name` is the test's alone.
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("limpet-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    /// Where a file of that name is, or would be.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// Writes a file; its path, as a configuration names it.
    pub(crate) fn write(&self, file: &str, text: &str) -> String {
        let path = self.path(file);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A second panic would hide the first.
        let _ = fs::remove_dir_all(&self.0);
    }
}

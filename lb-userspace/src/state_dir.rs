//! Files the daemon keeps for itself: the cookie key, made once, and what must
//! survive a restart. Each file is written whole or not at all.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tracing::error;

use crate::config::{MIN_SECRET, Secret};

/// Bytes of a key that the daemon makes: as many as the cipher's key has.
const KEY: usize = 2 * MIN_SECRET;

/// The balancer's own cookie key; made when it is not there.
pub(crate) fn cookie_key(state_dir: &Path) -> anyhow::Result<Secret> {
    let file = state_dir.join("cookie.key");
    if !file.exists() {
        make(state_dir, &file).with_context(|| {
            format!(
                "{} cannot be made; name stickiness.secret_files, or set state_dir",
                file.display()
            )
        })?;
    }
    Secret::read(&file).map_err(anyhow::Error::msg)
}

/// Puts a file in the place of an older one. After a crash at any moment either
/// the old or the new content is there, whole.
pub(crate) fn replace(state_dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    make_directory(state_dir)?;
    let draft = draft(state_dir, name);
    write(&draft, content)
        .and_then(|()| fs::rename(&draft, state_dir.join(name)))
        .inspect_err(|_| {
            // A full disk must not be left with half a file on it.
            let _ = fs::remove_file(&draft);
        })?;
    fs::File::open(state_dir)?.sync_all()
}

/// Reads a file that was replaced; `None` if there is none. One that is damaged is set
/// aside, and reported with what it means that it is lost.
pub(crate) fn read<T>(
    file: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
    meaning: &str,
) -> Option<T> {
    let damage = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => error.to_string(),
        Ok(bytes) => match parse(&bytes) {
            Ok(content) => return Some(content),
            Err(damage) => damage,
        },
    };
    let aside = match set_aside(file) {
        Ok(aside) => format!("set aside as {}", aside.display()),
        Err(error) => format!("and cannot be set aside: {error}"),
    };
    error!(file = %file.display(), damage, aside, "{meaning}");
    None
}

/// Renames a damaged file, so that nothing is lost and nothing reads it again.
fn set_aside(file: &Path) -> io::Result<PathBuf> {
    for number in 1_u32.. {
        let mut name = file.as_os_str().to_owned();
        name.push(format!(".damaged-{number}"));
        let aside = PathBuf::from(name);
        // Unlike a rename, a link never replaces what was set aside before.
        match fs::hard_link(file, &aside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return fs::remove_file(file).map(|()| aside),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Makes the file whole or not at all; another daemon's comes first.
fn make(state_dir: &Path, file: &Path) -> io::Result<()> {
    make_directory(state_dir)?;
    let draft = draft(state_dir, "cookie.key");
    let mut key = [0; KEY];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    write(&draft, &key)?;
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::File::open(state_dir)?.sync_all(),
    }
}

fn make_directory(state_dir: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
}

fn draft(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join(format!(".{name}.{}", std::process::id()))
}

fn write(draft: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(draft)?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("limpet-state-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_file_is_replaced_whole_and_a_damaged_one_set_aside() {
        let dir = directory("replace");
        for content in ["one", "two"] {
            replace(&dir, "file", content.as_bytes()).expect("written");
            let read = fs::read_to_string(dir.join("file")).expect("the file");
            assert_eq!(read, content);
        }
        assert_eq!(fs::read_dir(&dir).expect("the directory").count(), 1);
        let first = set_aside(&dir.join("file")).expect("set aside");
        replace(&dir, "file", b"three").expect("written");
        let second = set_aside(&dir.join("file")).expect("set aside");
        assert!(!dir.join("file").exists());
        assert_eq!(fs::read(first).expect("the first"), b"two");
        assert_eq!(fs::read(second).expect("the second"), b"three");
        fs::remove_dir_all(&dir).expect("the directory goes");
    }

    #[test]
    fn what_cannot_be_written_leaves_no_draft() {
        let dir = directory("draft");
        fs::create_dir_all(dir.join("file")).expect("a directory in the way");
        assert!(replace(&dir, "file", b"content").is_err());
        assert_eq!(fs::read_dir(&dir).expect("the directory").count(), 1);
        fs::remove_dir_all(&dir).expect("the directory goes");
    }

    #[test]
    fn the_key_is_made_once_and_is_private() {
        let dir = directory("key");
        let first = cookie_key(&dir).expect("a key");
        let second = cookie_key(&dir).expect("the key");
        assert!(first == second);
        let mode = fs::metadata(dir.join("cookie.key"))
            .expect("the file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&dir).expect("the directory").count(), 1);
        fs::remove_dir_all(&dir).expect("the directory goes");
    }
}

//! Files the daemon keeps for itself: the cookie key, made once.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::Context;

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

/// Makes the file whole or not at all; another daemon's comes first.
fn make(state_dir: &Path, file: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)?;
    let draft = state_dir.join(format!(".cookie.key.{}", std::process::id()));
    write_key(&draft)?;
    let linked = fs::hard_link(&draft, file);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::File::open(state_dir)?.sync_all(),
    }
}

fn write_key(draft: &Path) -> io::Result<()> {
    let mut key = [0; KEY];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(draft)?;
    file.write_all(&key)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_made_once_and_is_private() {
        let dir = std::env::temp_dir().join(format!("limpet-state-{}", std::process::id()));
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

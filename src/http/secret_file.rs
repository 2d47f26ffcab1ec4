//! Small secret files in the data directory: the key that signs, the token of this machine's programs.
//!
//! Each is made once, whole or not at all, by the first process that needs it, and is this user's alone. A file
//! that others can read is refused instead of tightened: it may have been copied already.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use secrecy::SecretString;

use super::session::random;

/// Longest secret file that is read, in bytes; the longest of ours has 65.
const MAX_FILE: u64 = 1_024;

/// What tokens of ours begin with, so that people and scanners of secrets know one when they see it.
const TOKEN_PREFIX: &str = "twelve_";
/// Bytes of chance in a token; written out they have 43 characters.
const TOKEN_BYTES: usize = 32;

/// A secret file of ours.
#[derive(Clone, Copy)]
pub struct SecretFile {
    /// Its name in the data directory.
    pub name: &'static str,
    what: &'static str,
    /// What may have happened if others can read it.
    danger: &'static str,
    /// What deleting it leads to.
    deleted: &'static str,
}

/// The secret that signs sessions and links, as 64 hexadecimal digits.
pub const KEY: SecretFile = SecretFile {
    name: "http.key",
    what: "key file",
    danger: "sessions could be forged",
    deleted: "everybody has to sign in again",
};

/// The token of programs on this machine.
pub const LOCAL_TOKEN: SecretFile = SecretFile {
    name: "local.token",
    what: "local token",
    danger: "others could use the service with it",
    deleted: "the next start of `twelve serve` makes a new one",
};

/// The signing key; the first process that needs it makes it.
///
/// # Errors
/// The file cannot be made or read, is not a key, or others can read it.
pub fn key(data_dir: &Path) -> anyhow::Result<[u8; 32]> {
    let text = KEY.ensure(data_dir, || Ok(HEXLOWER.encode(&random::<32>()?)))?;
    let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
    bytes.and_then(|bytes| bytes.try_into().ok()).with_context(|| {
        format!("{} does not hold 64 hexadecimal digits; delete it, and a new one is made", KEY.shown(data_dir))
    })
}

/// A token that nobody has yet.
///
/// # Errors
/// As [`random`].
pub fn fresh_token() -> anyhow::Result<String> {
    Ok(format!("{TOKEN_PREFIX}{}", BASE64URL_NOPAD.encode(&random::<TOKEN_BYTES>()?)))
}

/// The local token; the first start of the service makes it.
///
/// # Errors
/// As [`key`].
pub fn make_local_token(data_dir: &Path) -> anyhow::Result<SecretString> {
    is_token(LOCAL_TOKEN.ensure(data_dir, fresh_token)?, data_dir)
}

/// The local token of the service with this data directory; `None` if it was never started.
///
/// # Errors
/// The file cannot be read, is not a token, or others can read it.
pub fn local_token(data_dir: &Path) -> anyhow::Result<Option<SecretString>> {
    LOCAL_TOKEN.read(data_dir)?.map(|text| is_token(text, data_dir)).transpose()
}

fn is_token(text: String, data_dir: &Path) -> anyhow::Result<SecretString> {
    let chance = text.strip_prefix(TOKEN_PREFIX).and_then(|rest| BASE64URL_NOPAD.decode(rest.as_bytes()).ok());
    ensure!(
        chance.is_some_and(|chance| chance.len() == TOKEN_BYTES),
        "{} does not hold a token as the service makes it; delete it, and {}",
        LOCAL_TOKEN.shown(data_dir),
        LOCAL_TOKEN.deleted
    );
    Ok(SecretString::from(text))
}

impl SecretFile {
    fn shown(&self, data_dir: &Path) -> String {
        format!("the {} {}", self.what, data_dir.join(self.name).display())
    }

    /// What it holds, after it was made with `content` if it was not there.
    fn ensure(&self, data_dir: &Path, content: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<String> {
        let named = || self.shown(data_dir);
        if let Some(found) = self.read(data_dir)? {
            return Ok(found);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).with_context(|| {
            format!("the data directory {} cannot be made; set `app.data_dir` to another place", data_dir.display())
        })?;
        // Written beside, then linked into place: there is a whole file or none, and the first one stays.
        let fresh = data_dir.join(format!("{}.{}", self.name, HEXLOWER.encode(&random::<8>()?)));
        let written = (|| {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&fresh).with_context(named)?;
            writeln!(file, "{}", content()?).with_context(named)?;
            file.sync_all().with_context(named)?;
            match std::fs::hard_link(&fresh, data_dir.join(self.name)) {
                Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(e).with_context(named),
                Ok(()) | Err(_) => Ok(()),
            }
        })();
        // Also after a failure, for example of a full disk: nothing half done stays.
        let _ = std::fs::remove_file(&fresh);
        written?;
        self.read(data_dir)?.with_context(|| format!("{} is gone right after it was made", named()))
    }

    /// What it holds, without white space around it; `None` if it is not there.
    fn read(&self, data_dir: &Path) -> anyhow::Result<Option<String>> {
        use std::io::Read as _;
        let named = || self.shown(data_dir);
        let file = match std::fs::File::open(data_dir.join(self.name)) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                return Err(e).with_context(|| {
                    format!("{} is for the user that the service runs as; run this as that user", named())
                });
            }
            Err(e) => return Err(e).with_context(named),
        };
        let mode = file.metadata().with_context(named)?.permissions().mode();
        if mode & 0o077 != 0 {
            bail!(
                "{} can be read by others (mode {:o}), so {}; delete it ({}), or `chmod 600` it if you are sure",
                named(),
                mode & 0o777,
                self.danger,
                self.deleted
            );
        }
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text).with_context(named)?;
        Ok(Some(text.trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn race<T: Send>(make: impl Fn(&Path) -> T + Sync, data: &Path) -> Vec<T> {
        std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| make(data))).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        })
    }

    #[test]
    fn each_file_is_made_once_for_this_user_alone_and_refused_when_others_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("deep/data");
        let keys = race(|data| key(data).unwrap(), &data);
        assert!(keys.iter().all(|key| *key == keys[0] && *key != [0; 32]));
        let tokens = race(|data| make_local_token(data).unwrap().expose_secret().to_owned(), &data);
        assert!(tokens.iter().all(|token| *token == tokens[0] && token.len() == 50), "{tokens:?}");
        let mut names: Vec<_> = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [KEY.name, LOCAL_TOKEN.name], "nothing else is left");
        assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
        for name in names {
            let path = data.join(name);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        }
        assert!(key(&data).unwrap_err().to_string().contains("can be read by others (mode 640)"));
        for error in [make_local_token(&data).err(), local_token(&data).err()] {
            assert!(error.unwrap().to_string().contains("can be read by others (mode 640)"));
        }
    }

    #[test]
    fn what_is_not_a_token_is_named_and_never_used() {
        let dir = tempfile::tempdir().unwrap();
        assert!(local_token(dir.path()).unwrap().is_none(), "looking makes nothing");
        for text in ["", "short", "twelve_short", &"x".repeat(50), &format!("twelve_{}", "x".repeat(2_000))] {
            let path = dir.path().join(LOCAL_TOKEN.name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            for error in [make_local_token(dir.path()).err(), local_token(dir.path()).err()] {
                let said = error.unwrap().to_string();
                assert!(said.contains("does not hold a token") && !said.contains("xxx"), "{text}: {said}");
            }
        }
    }
}

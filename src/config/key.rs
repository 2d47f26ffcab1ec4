//! The key of this installation: hashes that stand in logs are made with it.
//!
//! Made once, whole or not at all, by the first process that needs it, and this user's alone. A key that others can
//! read is refused instead of tightened: it may have been copied already.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

/// The file's name, in the data directory.
pub const KEY_FILE: &str = "secrets.key";

/// The key under which values that only look like secrets are remembered. Without it (deleted, another directory)
/// nothing is lost but the answers: such values are asked about again.
///
/// # Errors
/// The file cannot be made or read, is not a key, or others can read it.
pub fn installation_key(data_dir: &Path) -> anyhow::Result<[u8; 32]> {
    let path = data_dir.join(KEY_FILE);
    let named = || format!("the key file {}", path.display());
    if !path.try_exists().with_context(named)? {
        make(data_dir, &path).with_context(named)?;
    }
    let mode = std::fs::metadata(&path).with_context(named)?.permissions().mode();
    if mode & 0o077 != 0 {
        bail!(
            "{} can be read by others (mode {:o}), so they could try out which values were let pass; delete it (people are \
             asked again about values that look like secrets), or `chmod 600` it if you are sure",
            named(),
            mode & 0o777
        );
    }
    let text = std::fs::read_to_string(&path).with_context(named)?;
    let bytes = HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .with_context(|| format!("{} does not hold 64 hexadecimal digits; delete it, and a new one is made", named()))
}

/// Written beside, then linked into place: there is a whole key or none, and the first one stays.
fn make(data_dir: &Path, path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir).with_context(|| {
        format!("the data directory {} cannot be made; set `app.data_dir` to another place", data_dir.display())
    })?;
    let fresh = data_dir.join(format!("{KEY_FILE}.{}", HEXLOWER.encode(&random::<8>()?)));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    writeln!(file, "{}", HEXLOWER.encode(&random::<32>()?))?;
    file.sync_all()?;
    let linked = std::fs::hard_link(&fresh, path);
    std::fs::remove_file(&fresh)?;
    match linked {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(e.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the operating system gave no random bytes"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_refused_when_others_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("deep/data");
        let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| installation_key(&data).unwrap())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]) && keys[0] != [0; 32]);
        let path = data.join(KEY_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "nothing is left lying beside it");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let refused = installation_key(&data).unwrap_err().to_string();
        assert!(refused.contains("can be read by others (mode 644)"), "{refused}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "short").unwrap();
        assert!(installation_key(&data).unwrap_err().to_string().contains("delete it, and a new one is made"));
    }
}

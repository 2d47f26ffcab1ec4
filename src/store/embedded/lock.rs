//! One process for one store: an advisory lock on a file beside the database.
//!
//! The operating system holds the lock for as long as the file is open, so a process that died leaves
//! no obstacle, only a stale text. The file is never removed: removing it would let two processes lock
//! two files of the same name.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// How much of the lock file is read to name its holder, in bytes.
const HOLDER_MAX: u64 = 300;

/// Locks the store at `path` until the returned file is dropped.
pub fn acquire(path: &Path) -> Result<File, StoreError> {
    let not_writable = |e: io::Error| {
        StoreError::NotWritable(format!(
            "The store {} cannot be opened for writing ({e}). Check that the directory exists and that this user may \
             write to it, or set `store.path`.",
            path.display()
        ))
    };
    let beside = lock_file(path).map_err(not_writable)?;
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(beside).map_err(not_writable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // The text is for people only: if it cannot be read, the lock still holds.
            let _ = file.take(HOLDER_MAX).read_to_string(&mut holder);
            let holder = match holder.trim().split_once(' ') {
                Some((pid, command)) => format!("process {pid} ({command})"),
                None => "another process".to_owned(),
            };
            return Err(StoreError::Locked(format!(
                "The store {} is in use by {holder}. Commands that look work beside it; if it is `twelve serve`, decide in \
                 its inbox or over REST. Otherwise stop it first.",
                path.display()
            )));
        }
        Err(TryLockError::Error(e)) => return Err(not_writable(e)),
    }
    let name_holder = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{} {}", std::process::id(), command())
    };
    // On a full disk the name is missing; that is no reason to keep people from their store.
    if let Err(e) = name_holder(&mut file) {
        tracing::warn!(error = %e, "the lock file of the store does not name its holder");
    }
    Ok(file)
}

/// `<database>.lock`, beside the real file if `path` is a link, so that one store has one lock.
fn lock_file(path: &Path) -> io::Result<PathBuf> {
    let real = match fs::canonicalize(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => path.to_owned(),
        other => other?,
    };
    let mut name = OsString::from(real);
    name.push(".lock");
    Ok(name.into())
}

/// The program and its subcommand, for example `twelve chat`. Further arguments may be messages: they
/// are nobody's business.
fn command() -> String {
    let mut args = std::env::args_os();
    let program = args.next().map(PathBuf::from);
    let program = program.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let subcommand = args.next().map(|arg| arg.to_string_lossy().into_owned());
    match (program.unwrap_or_else(|| "twelve".to_owned()), subcommand) {
        (program, Some(word)) if word.bytes().all(|b| b.is_ascii_lowercase()) => format!("{program} {word}"),
        (program, _) => program,
    }
}

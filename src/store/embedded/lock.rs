//! One process for one store: an advisory lock (`flock`) on the database file itself.
//!
//! It is held on a descriptor of the file, so it goes with the file: a removed lock file, another name of the
//! same file or a rename let no second process in. The operating system holds it for as long as the descriptor
//! is open, so a process that died leaves no obstacle.
//!
//! SQLite keeps POSIX locks on the same file. The two kinds do not see each other, but closing *any* descriptor
//! of a file drops all POSIX locks that the process has on it. So [`OPEN`] knows every database file that this
//! process uses: there is one descriptor of ours for each, and it is closed when no connection of SQLite is left.
//!
//! `<database>.lock` beside it names the holder for people. It is locked as well, because programs of before
//! look at nothing else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::store::StoreError;

/// How much of the lock file is read to name its holder, in bytes.
const HOLDER_MAX: u64 = 300;

/// What a file is, whatever its names: device and inode.
pub type Inode = (u64, u64);

/// The database files that this process uses.
static OPEN: Mutex<BTreeMap<Inode, Open>> = Mutex::new(BTreeMap::new());

#[derive(Default)]
struct Open {
    /// Stores of this process that have connections to it.
    users: usize,
    /// Our one descriptor, once somebody wanted to write.
    file: Option<Arc<File>>,
    /// Whether this process holds the lock.
    locked: bool,
}

/// A database file is in use. To be dropped after the last connection of SQLite.
pub struct InUse(Inode);

impl InUse {
    /// Of the file that is at `path` now.
    ///
    /// # Errors
    /// There is none.
    pub fn of(path: &Path) -> io::Result<Self> {
        let inode = inode(&fs::metadata(path)?);
        OPEN.lock().unwrap_or_else(PoisonError::into_inner).entry(inode).or_default().users += 1;
        Ok(Self(inode))
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = open.get_mut(&self.0) {
            entry.users = entry.users.saturating_sub(1);
            if entry.users == 0 {
                // Closes the descriptor: nothing of SQLite's is left that this could unlock.
                open.remove(&self.0);
            }
        }
    }
}

/// The lock of a store, until [`Lock::release`].
pub struct Lock {
    database: Arc<File>,
    in_use: Arc<InUse>,
    beside: File,
}

impl Lock {
    /// Locks the store at `path`; makes an empty file, for this user alone, if there is none.
    ///
    /// # Errors
    /// `Locked`, with the holder; `NotWritable`.
    pub fn acquire(path: &Path) -> Result<Self, StoreError> {
        let beside = lock_file(path).map_err(|e| not_writable(path, &e))?;
        let mut beside = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(beside)
            .map_err(|e| not_writable(path, &e))?;
        match beside.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(path, &mut beside)),
            Err(TryLockError::Error(e)) => return Err(not_writable(path, &e)),
        }
        let (database, in_use) = match lock_database(path) {
            Ok(locked) => locked,
            Err(TryLockError::WouldBlock) => return Err(held(path, &mut beside)),
            Err(TryLockError::Error(e)) => return Err(not_writable(path, &e)),
        };
        let mut name_holder = || {
            beside.set_len(0)?;
            beside.rewind()?;
            writeln!(beside, "{} {}", std::process::id(), command())
        };
        // On a full disk the name is missing; that is no reason to keep people from their store.
        if let Err(e) = name_holder() {
            tracing::warn!(error = %e, "the lock file of the store does not name its holder");
        }
        Ok(Self { database, in_use: Arc::new(in_use), beside })
    }

    pub fn database(&self) -> &Arc<File> {
        &self.database
    }

    /// To be kept by whoever has connections to the file.
    pub fn in_use(&self) -> Arc<InUse> {
        self.in_use.clone()
    }

    /// Gives the lock back. Said, not left to the closing of the file: a process that is being started this very
    /// moment has a copy of it until it runs its program.
    pub fn release(self) {
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.database.unlock();
        if let Some(entry) = open.get_mut(&self.in_use.0) {
            entry.locked = false;
        }
        drop(open);
        let _ = self.beside.unlock();
    }
}

fn lock_database(path: &Path) -> Result<(Arc<File>, InUse), TryLockError> {
    // Held throughout: no other thread may open and close the file meanwhile.
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = fs::metadata(path).ok().map(|found| inode(&found));
    let file = known.and_then(|inode| open.get(&inode)?.file.clone());
    let file = match file {
        Some(file) => file,
        None => {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
            Arc::new(options.open(path).map_err(TryLockError::Error)?)
        }
    };
    let inode = inode(&file.metadata().map_err(TryLockError::Error)?);
    let entry = open.entry(inode).or_default();
    let ours = entry.file.get_or_insert_with(|| file.clone()).clone();
    if !Arc::ptr_eq(&ours, &file) {
        // The name led to another file a moment ago. This descriptor must not be closed.
        std::mem::forget(file);
    }
    // Our descriptor has the lock of this process: a second lock on it would not be refused.
    let locked = if entry.locked { Err(TryLockError::WouldBlock) } else { ours.try_lock() };
    if let Err(e) = locked {
        if entry.users == 0 {
            open.remove(&inode);
        }
        return Err(e);
    }
    entry.locked = true;
    entry.users += 1;
    Ok((ours, InUse(inode)))
}

pub fn inode(found: &fs::Metadata) -> Inode {
    (found.dev(), found.ino())
}

fn not_writable(path: &Path, e: &io::Error) -> StoreError {
    StoreError::NotWritable(format!(
        "The store {} cannot be opened for writing ({e}). Check that the directory exists and that this user may write \
         to it, or set `store.path`.",
        path.display()
    ))
}

fn held(path: &Path, beside: &mut File) -> StoreError {
    let mut holder = String::new();
    // The text is for people only: if it cannot be read, the lock still holds.
    let _ = beside.take(HOLDER_MAX).read_to_string(&mut holder);
    let holder = match holder.trim().split_once(' ') {
        Some((pid, command)) => format!("process {pid} ({command})"),
        None => "another process".to_owned(),
    };
    StoreError::Locked(format!(
        "The store {} is in use by {holder}. Commands that look work beside it; if it is `twelve serve`, decide in its \
         inbox or over REST. Otherwise stop it first.",
        path.display()
    ))
}

/// `<database>.lock`, beside the real file if `path` is a link, so that one store has one lock.
fn lock_file(path: &Path) -> io::Result<PathBuf> {
    real(path).map(|path| beside(&path, ".lock"))
}

/// The file itself if `path` is a link to it.
pub fn real(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(path.to_owned()),
        other => other,
    }
}

/// The name of a file that belongs to this one.
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
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

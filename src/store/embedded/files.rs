//! Whether the names of the store still lead to the files that this process writes.
//!
//! SQLite writes to the files that it has open, wherever their names lead by now. What it keeps in a file that was
//! removed or replaced is gone with this process, so the writer looks before it begins and again before it tells
//! anybody that something is kept. It costs a few microseconds for each commit.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, access};

use super::lock::{Inode, beside, inode, real};
use super::schema::APPLICATION_ID;
use crate::store::{Fault, StoreError};

/// What a database file of SQLite begins with.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Where the header of a database file has the number that says whose it is.
const APPLICATION_ID_AT: usize = 68;
/// What a write-ahead log begins with, apart from its last bit, which says how checksums are made.
const WAL_MAGIC: u32 = 0x377f_0682;

/// The files of an open store: what each was when it was opened.
pub struct Files {
    path: PathBuf,
    database: Arc<File>,
    wal: File,
    names: Vec<(PathBuf, Inode)>,
    /// Bytes of the write-ahead log at our last commit.
    logged: u64,
}

impl Files {
    /// Of a store that SQLite has open. Makes them this user's alone, also where they were not.
    ///
    /// # Errors
    /// One of them is not there, or cannot be looked at.
    pub fn of(path: &Path, database: &Arc<File>) -> std::io::Result<Self> {
        let file = real(path)?;
        let (wal, shm) = (beside(&file, "-wal"), beside(&file, "-shm"));
        let named = |path: &Path| fs::metadata(path).map(|found| (path.to_owned(), inode(&found)));
        let mut names = vec![named(&file)?, named(&wal)?, named(&shm)?];
        if file != path {
            // A link may lead elsewhere one day.
            names.push(named(path)?);
        }
        for path in [&file, &wal, &shm, &beside(&file, ".lock")] {
            make_private(path);
        }
        let wal = File::open(wal)?;
        let logged = wal.metadata()?.len();
        Ok(Self { path: path.to_owned(), database: database.clone(), wal, names, logged })
    }

    /// Before a commit: whether it would be kept where the store is looked for.
    pub fn check(&self) -> Result<(), (Fault, StoreError)> {
        self.are_there()?;
        // A log that is shorter than what we wrote has lost some of it, unless somebody moved all of it into the
        // database, and then it is empty.
        let logged = self.wal.metadata().map_or(0, |found| found.len());
        let mut header = [0; 100];
        let read = self.database.read_exact_at(&mut header, 0);
        let id = header.get(APPLICATION_ID_AT..APPLICATION_ID_AT + 4);
        // Of a new store the number is in the log until that is moved into the database.
        let id_is_ours = |id: i64| id == 0 || id == APPLICATION_ID;
        let id = id.and_then(|id| Some(i64::from(u32::from_be_bytes(id.try_into().ok()?))));
        let ours = read.is_ok() && header.starts_with(MAGIC) && id.is_some_and(id_is_ours);
        if !ours || (logged > 0 && logged < self.logged) {
            return Err((
                Fault::Corrupt,
                StoreError::NotWritable(format!(
                    "The files of the store {} were overwritten or cut off by something else. Nothing of this was kept. \
                     Stop the service, then restore a backup or save what is readable with `sqlite3 {} .recover`.",
                    self.path.display(),
                    self.path.display()
                )),
            ));
        }
        if let Err(e) = access(&self.path, Access::WRITE_OK) {
            return Err((
                Fault::ReadOnly,
                StoreError::NotWritable(format!(
                    "The store {} cannot be written any more ({e}). Nothing of this was kept. Let this user write to it, \
                     then try again.",
                    self.path.display()
                )),
            ));
        }
        Ok(())
    }

    /// After a commit, before anybody is told: whether it is where the store is looked for.
    pub fn kept(&mut self) -> Result<(), (Fault, StoreError)> {
        self.found("It is not known whether this was kept: look before you repeat it.")?;
        let mut magic = [0; 4];
        let read = self.wal.read_exact_at(&mut magic, 0);
        if read.is_err() || u32::from_be_bytes(magic) & !1 != WAL_MAGIC {
            return Err((
                Fault::Corrupt,
                StoreError::NotWritable(format!(
                    "The write-ahead log of the store {} was overwritten or cut off by something else, so what was \
                     written last may be lost. Restart the service; `twelve audit verify` says what is left.",
                    self.path.display()
                )),
            ));
        }
        self.logged = self.wal.metadata().map_or(0, |found| found.len());
        Ok(())
    }

    /// Whether each name leads to the file that it led to when the store was opened.
    pub fn are_there(&self) -> Result<(), (Fault, StoreError)> {
        self.found("Nothing of this was kept.")
    }

    /// `kept`: what became of what was to be written.
    fn found(&self, kept: &str) -> Result<(), (Fault, StoreError)> {
        let is_there = |(path, inode): &(PathBuf, Inode)| {
            fs::metadata(path).is_ok_and(|found| super::lock::inode(&found) == *inode)
        };
        match self.names.iter().find(|name| !is_there(name)) {
            None => Ok(()),
            Some((path, _)) => Err((
                Fault::Gone,
                StoreError::NotWritable(format!(
                    "{} was removed or replaced while the store was open. {kept} Put the same file \
                     back, or restart the service to work with what is there now.",
                    path.display()
                )),
            )),
        }
    }
}

/// Takes away what others may do with a file or directory. What this user may not change stays: they are told by
/// `twelve doctor`.
fn make_private(path: &Path) {
    let Ok(found) = fs::metadata(path) else { return };
    if found.mode() & 0o077 != 0
        && let Err(error) = fs::set_permissions(path, Permissions::from_mode(found.mode() & 0o7700))
    {
        tracing::warn!(%error, "a file of the store can be read by others, and this user may not change that");
    }
}

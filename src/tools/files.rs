//! `read_file` and `write_file`: text files in one directory, and nothing else of this machine.
//!
//! Owns the `[tools.files]` section. All paths are resolved below a handle of the directory
//! (`openat2` with `RESOLVE_BENEATH`, or step by step where a kernel has none), so that `..`, absolute
//! paths and symbolic links cannot leave it, not even one that is swapped in while a call runs. Hard
//! links cannot be told from what they share, so files with a second name are refused.
//!
//! A write is whole or not at all: a new file beside the old one is made durable and then takes its name.
//! `write_file` counts as idempotent: the same bytes under the same name, once or twice, are the same.
//! What could make a second run harmful is a change by somebody else in between. Before the first run the
//! plan catches that, whose facts are a digest of what is replaced. Only after a crash in the middle is
//! the call run again without one, and asking people to look into a file each time would cost more than it
//! saves.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::ensure;
use cap_std::ambient_authority;
use cap_std::fs::{
    Dir, FileType, MetadataExt as _, OpenOptions, OpenOptionsExt as _, Permissions, PermissionsExt as _,
};
use rustix::fs::OFlags;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::canon::{FilePath, MAX_NAME};
use super::{Boxed, CallContext, Spec, Tool, or_default, text, typed, written};
use crate::agent::{Digest, EffectId, Outcome, Plan, Risk};

/// The most that `max_bytes` may be: files are held in memory.
pub const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Most entries of a directory that are listed, and most that are looked at.
pub const MAX_LISTED: usize = 200;
pub const MAX_SCANNED: usize = 10_000;

/// Most changed lines on either side that are compared one by one: that takes their product in the worst case.
const MAX_COMPARED: usize = 2_000;

/// How the names of files begin that are being written. Agents neither see nor name these.
const UNFINISHED: &str = ".twelve-";

/// `[tools.files]`: where `read_file` and `write_file` work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilesConfig {
    /// The directory; empty: `files` in `app.data_dir`. It is made at the first write.
    pub root: PathBuf,
    /// Largest file that is read or written, in bytes.
    pub max_bytes: usize,
}

impl Default for FilesConfig {
    fn default() -> Self {
        Self { root: PathBuf::new(), max_bytes: 256 * 1024 }
    }
}

/// The directory of the agents' files. It is opened by each call: an operator may replace it.
pub struct Files {
    root: PathBuf,
    max_bytes: usize,
}

impl Files {
    /// # Errors
    /// The first setting that cannot work, with its path.
    pub fn new(config: &FilesConfig, data_dir: &Path) -> anyhow::Result<Self> {
        let FilesConfig { root, max_bytes } = config;
        ensure!((1..=MOST_BYTES).contains(max_bytes), "tools.files.max_bytes: must be from 1 to {MOST_BYTES}");
        let own = root.as_os_str().is_empty();
        let root = if own { data_dir.join("files") } else { root.clone() };
        ensure!(
            !whole(data_dir).starts_with(whole(&root)),
            "tools.files.root: `{}` holds app.data_dir, whose store and keys are not for agents; name another directory",
            root.display()
        );
        Ok(Self { root, max_bytes: *max_bytes })
    }

    /// The directory, if it is there.
    fn open(&self) -> Result<Option<Dir>, String> {
        match Dir::open_ambient_dir(&self.root, ambient_authority()) {
            Ok(dir) => Ok(Some(dir)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(format!("the directory of the agents' files cannot be opened ({e}); see tools.files.root")),
        }
    }

    fn read(&self, args: &ReadArgs) -> Result<String, String> {
        let path = inside(&args.path)?;
        let shown = path.shown();
        let Some(root) = self.open()? else { return Err("there are no files yet".to_owned()) };
        if path.names.is_empty() {
            return list(&root, "the directory of files");
        }
        let file = match open_text(&root, &path.joined(), self.max_bytes).map_err(|e| e.said(&shown))? {
            Opened::Directory => {
                let dir = root.open_dir(path.joined()).map_err(|e| Wrong::Io(e).said(&shown))?;
                return list(&dir, &format!("`{shown}`"));
            }
            Opened::File { bytes, .. } => bytes,
        };
        let size = file.len();
        let Some(content) = as_text(file) else {
            return Err(format!("`{shown}` is not UTF-8 text ({size} bytes); only text is read"));
        };
        let (from, most) = (args.first_line.0.max(1), args.lines.unwrap_or(usize::MAX));
        let total = content.lines().count();
        let part: String = content.split_inclusive('\n').skip(from - 1).take(most).collect();
        let clean = text::clean(&part);
        let mut said = format!("{shown}, {size} bytes, {}", lines(total));
        if part.len() < content.len() {
            let last = (from - 1).saturating_add(part.lines().count());
            let _ =
                if last < from { write!(said, ", none from {from} on") } else { write!(said, "; {from} to {last}") };
        }
        let hidden = part.chars().count() - clean.chars().count();
        if hidden > 0 {
            let _ = write!(said, "; {hidden} control characters are left out here");
        }
        Ok(format!("{said}\n\n{clean}"))
    }

    /// What is there now, and the change in words.
    fn plan(&self, args: &WriteArgs) -> Result<Plan, String> {
        let path = self.writable(args)?;
        let new_file = || Plan {
            summary: format!("new file, {}, {} bytes", lines(args.content.lines().count()), args.content.len()),
            facts: json!({ "present": null }),
        };
        let Some(root) = self.open()? else { return Ok(new_file()) };
        let Some(present) = self.present(&root, &path)? else { return Ok(new_file()) };
        let facts = json!({ "present": { "digest": Digest::of(&present.bytes), "bytes": present.bytes.len() } });
        // So that two plans never look the same where they are not.
        let (size, now) = (present.bytes.len(), Digest::of(&present.bytes).prefix());
        let summary = match as_text(present.bytes) {
            None => format!("replaces {size} bytes that are not text (now {now})"),
            Some(old) if old == args.content => "changes nothing: the file is like that already".to_owned(),
            Some(old) => format!("{} (now {now}), {} bytes then", change(&old, &args.content), args.content.len()),
        };
        Ok(Plan { summary, facts })
    }

    /// Puts the content there. `stop` is asked last before the old content is gone.
    fn write(&self, args: &WriteArgs, effect: EffectId, stop: impl Fn() -> bool) -> Result<String, String> {
        let path = self.writable(args)?;
        let shown = path.shown();
        let failed = |e: io::Error| format!("{}; nothing was changed", Wrong::Io(e).said(&shown));
        if stop() {
            return Err("stopped before anything was written".to_owned());
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root).map_err(failed)?;
        let Some(root) = self.open()? else { return Err("the directory of files is gone".to_owned()) };
        let present = self.present(&root, &path)?;
        if present.as_ref().is_some_and(|present| present.bytes == args.content.as_bytes()) {
            return Ok(format!("{shown} is like that already"));
        }
        let (dir, name) = path.parent(&root).map_err(failed)?;
        let unfinished = format!("{UNFINISHED}{effect}.tmp");
        let mode = present.as_ref().map(|present| present.mode);
        let go_on = || if stop() { Err(io::Error::other("the call was stopped")) } else { Ok(()) };
        replace(&dir, name, &unfinished, args.content.as_bytes(), mode, go_on).map_err(failed)?;
        sync(&dir).map_err(|e| format!("{shown} was written, but the disk did not confirm it ({e})"))?;
        let what = if present.is_some() { "replaced" } else { "made" };
        Ok(format!("{what} {shown}, {} bytes", args.content.len()))
    }

    fn writable(&self, args: &WriteArgs) -> Result<Inside, String> {
        let path = inside(&args.path)?;
        if path.names.is_empty() {
            return Err("`path` names a directory; name a file in it".to_owned());
        }
        let most = self.max_bytes;
        if args.content.len() > most {
            return Err(format!("`content` is {} bytes long; at most {most} are written", args.content.len()));
        }
        if args.content.contains('\0') {
            return Err("`content` has a NUL character in it; only text is written".to_owned());
        }
        Ok(path)
    }

    /// The file that a write would replace, if there is one.
    fn present(&self, root: &Dir, path: &Inside) -> Result<Option<Present>, String> {
        let shown = path.shown();
        // A symbolic link at the end would be replaced, not followed; nobody who reads the card knows that.
        match root.symlink_metadata(path.joined()) {
            Ok(found) if found.is_symlink() => {
                return Err(format!("`{shown}` is a symbolic link; name the file that it points to"));
            }
            Ok(found) if found.is_dir() => return Err(format!("`{shown}` is a directory; name a file in it")),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Wrong::Io(e).said(&shown)),
        }
        match open_text(root, &path.joined(), self.max_bytes) {
            Ok(Opened::File { mode, .. }) if mode & 0o222 == 0 => Err(format!("`{shown}` is read-only")),
            Ok(Opened::File { bytes, mode }) => Ok(Some(Present { bytes, mode })),
            Ok(Opened::Directory) => Err(format!("`{shown}` is a directory; name a file in it")),
            Err(Wrong::Io(e)) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(wrong) => Err(wrong.said(&shown)),
        }
    }
}

/// A path below the directory, as names that are all plain.
#[derive(Debug)]
struct Inside {
    names: Vec<String>,
}

impl Inside {
    fn joined(&self) -> PathBuf {
        self.names.iter().collect()
    }

    fn shown(&self) -> String {
        text::one_line(&self.names.join("/"), text::MAX_QUOTE)
    }

    /// The directory that the last name is in, made if it is not there, and that name.
    fn parent(&self, root: &Dir) -> io::Result<(Dir, &str)> {
        let Some((name, above)) = self.names.split_last() else { return Err(ErrorKind::InvalidInput.into()) };
        let above: PathBuf = above.iter().collect();
        if above.as_os_str().is_empty() {
            return Ok((root.try_clone()?, name));
        }
        match root.open_dir(&above) {
            Ok(dir) => return Ok((dir, name)),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
        root.create_dir_all(&above)?;
        // A file is durable if all the directories are that lead to it.
        sync(root)?;
        for made in above.ancestors().filter(|made| !made.as_os_str().is_empty()) {
            sync(&root.open_dir(made)?)?;
        }
        Ok((root.open_dir(&above)?, name))
    }
}

/// # Errors
/// What is wrong with a path, for the model. Whether it leaves the directory by a link is seen when it is opened.
fn inside(path: &FilePath) -> Result<Inside, String> {
    let names: Vec<String> = path.as_str().split('/').filter(|name| *name != ".").map(str::to_owned).collect();
    if names.iter().any(|name| name.starts_with(UNFINISHED)) {
        return Err(format!("names that start with `{UNFINISHED}` are those of files that are being written"));
    }
    Ok(Inside { names })
}

struct Present {
    bytes: Vec<u8>,
    mode: u32,
}

enum Opened {
    Directory,
    File { bytes: Vec<u8>, mode: u32 },
}

/// Why a file was not opened.
enum Wrong {
    Io(io::Error),
    Other(String),
}

impl Wrong {
    fn said(self, path: &str) -> String {
        match self {
            Self::Other(what) => format!("`{path}` {what}"),
            Self::Io(e) => match e.kind() {
                ErrorKind::NotFound => format!("there is no `{path}`"),
                ErrorKind::NotADirectory => format!("a part of `{path}` is not a directory"),
                // Not the system's refusal, but that of the handle that everything is resolved below.
                ErrorKind::PermissionDenied if e.raw_os_error().is_none() => {
                    format!("`{path}` leads out of the directory of files")
                }
                _ => format!("`{path}` cannot be used ({e})"),
            },
        }
    }
}

/// Reads a regular file of at most `max` bytes. Nothing else is opened for longer than it takes to see that.
fn open_text(root: &Dir, path: &Path, max: usize) -> Result<Opened, Wrong> {
    let special = || Wrong::Other("is neither a file nor a directory".to_owned());
    // Opening a device can do something, so it is looked at first; once more below, since it may change.
    let plain = |kind: FileType| kind.is_file() || kind.is_dir();
    if !plain(root.metadata(path).map_err(Wrong::Io)?.file_type()) {
        return Err(special());
    }
    // Without waiting for a pipe's other end, and without becoming anybody's terminal.
    let careful = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let file = root.open_with(path, OpenOptions::new().read(true).custom_flags(careful)).map_err(Wrong::Io)?;
    let found = file.metadata().map_err(Wrong::Io)?;
    if found.is_dir() {
        return Ok(Opened::Directory);
    }
    if !found.is_file() {
        return Err(special());
    }
    if found.nlink() > 1 {
        return Err(Wrong::Other("has a second name (a hard link), which may be outside".to_owned()));
    }
    let too_long = |size: u64| Wrong::Other(format!("is {size} bytes long; at most {max} are handled"));
    if found.len() > max as u64 {
        return Err(too_long(found.len()));
    }
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).map_err(Wrong::Io)?;
    if bytes.len() > max {
        return Err(too_long(bytes.len() as u64));
    }
    Ok(Opened::File { bytes, mode: found.permissions().mode() & 0o777 })
}

fn as_text(bytes: Vec<u8>) -> Option<String> {
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// What is in a directory: one entry a line, in order.
fn list(dir: &Dir, what: &str) -> Result<String, String> {
    let failed = |e: io::Error| format!("{what} cannot be listed ({e})");
    let mut entries = Vec::new();
    for entry in dir.entries().map_err(failed)?.take(MAX_SCANNED) {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(UNFINISHED) {
            entries.push((name, entry));
        }
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let total = entries.len();
    let mut said = format!("{what}: {total} {}", if total == 1 { "entry" } else { "entries" });
    if total >= MAX_SCANNED {
        said.push_str(" or more");
    }
    if total > MAX_LISTED {
        let _ = write!(said, ", the first {MAX_LISTED} of them");
    }
    for (name, entry) in entries.iter().take(MAX_LISTED) {
        let name = text::one_line(name, MAX_NAME);
        let _ = match entry.metadata() {
            Ok(found) if found.is_dir() => write!(said, "\n{name}/"),
            Ok(found) if found.is_symlink() => write!(said, "\n{name} (a symbolic link)"),
            Ok(found) if found.is_file() => write!(said, "\n{name} ({} bytes)", found.len()),
            Ok(_) => write!(said, "\n{name} (neither a file nor a directory)"),
            Err(_) => write!(said, "\n{name}"),
        };
    }
    Ok(said)
}

/// Gives `name` the content, or leaves everything as it was: whoever opens it sees the old or the new one.
/// `go_on` is asked when nothing but the renaming is left.
fn replace(
    dir: &Dir,
    name: &str,
    unfinished: &str,
    content: &[u8],
    mode: Option<u32>,
    go_on: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    /// Removes the unfinished file however this ends; after the renaming there is none.
    struct Unfinished<'a>(&'a Dir, &'a str);
    impl Drop for Unfinished<'_> {
        fn drop(&mut self) {
            let _ = self.0.remove_file(self.1);
        }
    }
    // What a crash in an earlier attempt of the same call left behind.
    match dir.remove_file(unfinished) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // Not readable to more people than the old content was, at no time.
    let first = if mode.is_some() { 0o600 } else { 0o644 };
    let mut file = dir.open_with(unfinished, OpenOptions::new().write(true).create_new(true).mode(first))?;
    let _unfinished = Unfinished(dir, unfinished);
    file.write_all(content)?;
    if let Some(mode) = mode {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    file.sync_all()?;
    go_on()?;
    dir.rename(unfinished, dir, name)
}

fn sync(dir: &Dir) -> io::Result<()> {
    // The handle is for paths only; a directory is synced through one that can be read.
    dir.open_with(".", OpenOptions::new().read(true))?.sync_all()
}

fn lines(many: usize) -> String {
    if many == 1 { "1 line".to_owned() } else { format!("{many} lines") }
}

/// `replaces 3 of 40 lines`. The same for the same two texts at any time: it is part of what is approved.
fn change(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.split_inclusive('\n').collect(), new.split_inclusive('\n').collect());
    let total = lines(old.len());
    let same = |a: &[&str], b: &[&str], i: usize| a.get(i) == b.get(i) && i < a.len();
    let before = (0..old.len().min(new.len())).take_while(|&i| same(&old, &new, i)).count();
    let (old, new) = (old.get(before..).unwrap_or_default(), new.get(before..).unwrap_or_default());
    let after = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old, new) =
        (old.get(..old.len() - after).unwrap_or_default(), new.get(..new.len() - after).unwrap_or_default());
    let (mut gone, mut came) = (old.len(), new.len());
    if gone.max(came) <= MAX_COMPARED {
        let kept = similar::capture_diff_slices(similar::Algorithm::Myers, old, new)
            .iter()
            .filter(|op| op.tag() == similar::DiffTag::Equal)
            .map(|op| op.old_range().len())
            .sum::<usize>();
        gone -= kept;
        came -= kept;
    }
    match (gone, came) {
        (0, came) => format!("adds {} to {total}", lines(came)),
        (gone, 0) => format!("removes {gone} of {total}"),
        (gone, came) if gone == came => format!("replaces {gone} of {total}"),
        (gone, came) => format!("replaces {gone} of {total} with {came}"),
    }
}

/// The path without links, as far as it is there.
fn whole(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in absolute.ancestors() {
        if let Ok(real) = std::fs::canonicalize(there) {
            return absolute.strip_prefix(there).map_or_else(|_| real.clone(), |rest| real.join(rest));
        }
    }
    absolute
}

/// Runs work that blocks, aside. It is told if nobody waits for it any more.
async fn aside<T: Send + 'static>(
    work: impl FnOnce(&AtomicBool) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    struct Alone(Arc<AtomicBool>);
    impl Drop for Alone {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let alone = Alone(Arc::default());
    let told = alone.0.clone();
    tokio::task::spawn_blocking(move || work(&told))
        .await
        .unwrap_or_else(|e| Err(format!("it broke on our side ({e})")))
}

/// Reads a text file or lists a directory.
pub struct ReadFile {
    spec: Spec,
    files: Arc<Files>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadArgs {
    /// The file, as seen from the directory of files; a directory, or nothing, is listed.
    #[serde(default)]
    path: FilePath,
    /// The first line to read; 1 if left out.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<usize>", range(min = 1))]
    first_line: Line,
    /// How many lines to read; all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    lines: Option<usize>,
}

/// The number of a line; the first one if none is given.
#[derive(Deserialize, Serialize)]
struct Line(usize);

impl Default for Line {
    fn default() -> Self {
        Self(1)
    }
}

impl ReadFile {
    pub fn new(files: Arc<Files>) -> Self {
        let description = "Read a text file, or list a directory, in the directory of files.";
        Self { spec: Spec::of::<ReadArgs>("read_file", description).target(&["path"]), files }
    }
}

impl Tool for ReadFile {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn title(&self, args: &Value) -> String {
        match args.get("path").and_then(Value::as_str).unwrap_or_default() {
            "" | "." => "List the files".to_owned(),
            path => format!("Read {path}"),
        }
    }

    fn check(&self, args: &Value) -> Result<Value, String> {
        let args: ReadArgs = typed(args)?;
        inside(&args.path)?;
        written(&args)
    }

    fn run<'a>(&'a self, args: &'a Value, _: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let files = self.files.clone();
            let read = match typed::<ReadArgs>(args) {
                Ok(args) => aside(move |_| files.read(&args)).await,
                Err(error) => Err(error),
            };
            match read {
                Ok(text) => Outcome::Succeeded { text },
                Err(error) => Outcome::Failed { error },
            }
        })
    }
}

/// Makes or replaces a text file.
pub struct WriteFile {
    spec: Spec,
    files: Arc<Files>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WriteArgs {
    /// The file, as seen from the directory of files. Directories that lead to it are made.
    #[schemars(length(min = 1))]
    path: FilePath,
    /// All of its new content.
    content: String,
}

impl WriteFile {
    pub fn new(files: Arc<Files>) -> Self {
        let description = "Make a text file in the directory of files, or replace all of its content.";
        let spec = Spec::of::<WriteArgs>("write_file", description).acts(Risk::Medium).idempotent().plans();
        Self { spec: spec.own_words().target(&["path"]), files }
    }
}

impl Tool for WriteFile {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn title(&self, args: &Value) -> String {
        format!("Write {}", args.get("path").and_then(Value::as_str).unwrap_or("a file"))
    }

    fn check(&self, args: &Value) -> Result<Value, String> {
        if args.get("path").and_then(Value::as_str).is_some_and(|path| path.ends_with('/')) {
            return Err("`path` names a directory; name a file in it".to_owned());
        }
        let args: WriteArgs = typed(args)?;
        self.files.writable(&args)?;
        written(&args)
    }

    fn plan<'a>(&'a self, args: &'a Value) -> Boxed<'a, Result<Plan, String>> {
        Box::pin(async move {
            let (args, files) = (typed::<WriteArgs>(args)?, self.files.clone());
            aside(move |_| files.plan(&args)).await
        })
    }

    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let (files, effect, cancel) = (self.files.clone(), call.effect, call.cancel.clone());
            let written = match typed::<WriteArgs>(args) {
                Ok(args) => {
                    // A write that hung until the call timed out must not land on top of a later one.
                    let write = move |alone: &AtomicBool| {
                        files.write(&args, effect, || cancel.is_cancelled() || alone.load(Ordering::Relaxed))
                    };
                    aside(write).await
                }
                Err(error) => Err(error),
            };
            match written {
                Ok(text) => Outcome::Succeeded { text },
                Err(error) => Outcome::Failed { error },
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::panic::AssertUnwindSafe;

    use super::*;

    fn place() -> (tempfile::TempDir, Dir) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("name"), "old").unwrap();
        let handle = Dir::open_ambient_dir(dir.path(), ambient_authority()).unwrap();
        (dir, handle)
    }

    fn left(dir: &tempfile::TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn a_replacement_that_fails_at_the_last_step_leaves_the_old_content_and_nothing_beside_it() {
        let (dir, handle) = place();
        let put = |name: &str, go_on: &dyn Fn() -> io::Result<()>| {
            replace(&handle, name, ".twelve-x.tmp", b"new", Some(0o644), go_on)
        };
        // Stopped in time.
        let beside = || {
            assert_eq!(std::fs::read(dir.path().join(".twelve-x.tmp")).unwrap(), b"new", "all of it is there by then");
            assert_eq!(std::fs::read(dir.path().join("name")).unwrap(), b"old");
            Err(io::Error::other("stopped"))
        };
        assert!(put("name", &beside).is_err());
        assert_eq!(left(&dir), ["name"]);
        // The renaming itself is refused.
        let becomes_a_directory = || {
            std::fs::remove_file(dir.path().join("name"))?;
            std::fs::create_dir(dir.path().join("name"))
        };
        assert!(put("name", &becomes_a_directory).is_err());
        assert_eq!(left(&dir), ["name"]);
        // A panic in between.
        let broke = std::panic::catch_unwind(AssertUnwindSafe(|| put("name", &|| panic!("broke"))));
        assert!(broke.is_err());
        assert_eq!(left(&dir), ["name"]);
    }

    #[test]
    fn what_is_unfinished_can_be_read_by_no_more_people_than_the_old_content() {
        let (dir, handle) = place();
        let mode = |name: &str| std::fs::metadata(dir.path().join(name)).unwrap().mode() & 0o777;
        replace(&handle, "name", ".twelve-x.tmp", b"new", Some(0o640), || {
            assert_eq!(mode(".twelve-x.tmp"), 0o640);
            Ok(())
        })
        .unwrap();
        assert_eq!(mode("name"), 0o640);
        assert_eq!(std::fs::read(dir.path().join("name")).unwrap(), b"new");
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_is_told_so() {
        let (began, begins) = tokio::sync::oneshot::channel();
        let (saw, sees) = tokio::sync::oneshot::channel();
        let work = aside(move |alone| {
            began.send(()).unwrap();
            while !alone.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            saw.send(()).unwrap();
            Ok(())
        });
        tokio::select! {
            _ = work => panic!("it waits"),
            begun = begins => begun.unwrap(),
        }
        sees.await.unwrap();
    }
}

//! Paths of files below a directory: names separated by single slashes, in Unicode's composed form (NFC).
//!
//! Composed, because some file systems take `é` and `e` with an accent for one name: a rule has to, too. Case stays:
//! on the file systems that servers have it makes two names. Nothing here looks at a disk; symbolic links are up to
//! [`super::super::files`].

use icu_normalizer::ComposingNormalizerBorrowed;

use super::super::text;

/// Longest path in bytes, longest name in it (as Linux has it), and most names in it.
pub const MAX_PATH: usize = 1024;
pub const MAX_NAME: usize = 255;
pub const MAX_DEPTH: usize = 32;

/// One character of a name: none of what is refused (control characters, the backslash, what changes the reading order).
macro_rules! character {
    ($more:literal) => {
        concat!(r"[^/\\\x00-\x1f\x7f-\u{9f}\u{200e}\u{200f}\u{202a}-\u{202e}\u{2066}-\u{2069}", $more, "]")
    };
}

/// A name that is neither empty nor `.` nor `..`.
macro_rules! name {
    () => {
        concat!("(?:\\.?", character!("."), character!(""), "*|\\.\\.", character!(""), "+)")
    };
}

/// The directory itself, or names.
pub(super) const SHAPE: &str = concat!("\\.|", name!(), "(?:/", name!(), ")*");

pub(super) fn canonical(written: &str) -> Result<String, String> {
    let path = ComposingNormalizerBorrowed::new_nfc().normalize(written);
    if path.len() > MAX_PATH {
        return Err(format!("`path` is longer than {MAX_PATH} bytes"));
    }
    if path.contains(|c: char| c.is_control() || c == '\\') || text::clean(&path) != path {
        return Err("`path` has control characters or a backslash in it; names are separated by `/`".to_owned());
    }
    if path.starts_with('/') {
        let why = "`path` starts at the root of the machine; give it as seen from the directory of files";
        return Err(why.to_owned());
    }
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    if names.len() > MAX_DEPTH {
        return Err(format!("`path` has more than {MAX_DEPTH} names in it"));
    }
    if names.contains(&"..") {
        return Err("`path` has `..` in it; it cannot leave the directory of files".to_owned());
    }
    if names.iter().any(|name| name.len() > MAX_NAME) {
        return Err(format!("`path` has a name in it that is longer than {MAX_NAME} bytes"));
    }
    Ok(if names.is_empty() { ".".to_owned() } else { names.join("/") })
}

pub(super) fn meant(literal: &str) -> Option<String> {
    let path = ComposingNormalizerBorrowed::new_nfc().normalize(literal).replace('\\', "/");
    let names: Vec<&str> = path.split('/').filter(|name| !matches!(*name, "" | "." | "..")).collect();
    let end = if path.ends_with('/') && !names.is_empty() { "/" } else { "" };
    Some(format!("{}{end}", names.join("/")))
}

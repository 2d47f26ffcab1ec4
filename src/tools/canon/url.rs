//! Addresses on the web: one spelling for all that a server cannot, or should not, tell apart.
//!
//! Read by the URL parser that also sends the request. On top of it:
//! - Escapes of unreserved characters (RFC 3986: letters, digits, `-._~`) are decoded, all others are in upper case;
//!   characters that an address cannot hold are escaped. An escaped reserved character stays what it is: to a server
//!   `%2B` may mean something else than `+`.
//! - Dot segments are resolved; the fragment, an empty query, the port of the scheme and the last dot of a host go.
//! - Refused, since servers and gateways read them differently: names and passwords, backslashes, white space, an
//!   address without exactly two slashes before its host, empty segments of a path, and in a path escaped dots,
//!   slashes, backslashes, controls and escapes; escapes that are none or are not UTF-8; every form of a host but
//!   those of [`super::host`].
//!
//! Parsing the canonical form gives it back, byte for byte.

use std::fmt::Write as _;
use std::net::IpAddr;

use icu_normalizer::ComposingNormalizerBorrowed;
use reqwest::Url;

use super::super::address;
use super::host;

/// Longest address, in bytes; servers commonly refuse longer ones.
pub const MAX_URL: usize = 2048;

/// A character of a path but the dot; escapes are those that are neither decoded nor refused.
macro_rules! path_char {
    ($more:literal) => {
        concat!("(?:[A-Za-z0-9_~!$&'()*+,;=:@", $more, "-]|%(?:2[0-9A-C]|3[A-F]|40|5[BDE]|60|7[BCD]|[89A-F][0-9A-F]))")
    };
}

/// A segment that is neither empty nor `.` nor `..`.
macro_rules! segment {
    () => {
        concat!("(?:\\.?", path_char!(""), path_char!("."), "*|\\.\\.", path_char!("."), "+)")
    };
}

pub(super) const SHAPE: &str = concat!(
    "(?:http://",
    host::shape!(),
    // Any port but 80.
    "(?::(?:[1-9]|[1-79][0-9]|8[1-9]|[1-9][0-9]{2,4}))?",
    "|https://",
    host::shape!(),
    // Any port but 443.
    "(?::(?:[1-9][0-9]?|[1-35-9][0-9]{2}|4[0-35-9][0-9]|44[0-24-9]|[1-9][0-9]{3,4}))?)",
    "/(?:",
    segment!(),
    "/)*",
    segment!(),
    "?(?:\\?(?:[A-Za-z0-9_~!$&()*+,;=:@./?-]",
    "|%(?:[01][0-9A-F]|2[0-9A-CF]|3[A-F]|40|5[B-E]|60|7[BCDF]|[89A-F][0-9A-F]))+)?",
);

pub(super) fn canonical(written: &str) -> Result<String, String> {
    strict(written).map_err(|why| super::refused(why, instead(written)))
}

/// The part of an address whose characters are looked at.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Path,
    Query,
}

fn strict(written: &str) -> Result<String, String> {
    // People decide by what they read; the parser drops some of these and rewrites others.
    if written.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err("an address has no white space, control characters or backslashes in it".to_owned());
    }
    let composed = ComposingNormalizerBorrowed::new_nfc().normalize(written);
    let url = Url::parse(&composed).map_err(|e| format!("that is not an address ({e})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("only http:// and https:// can be asked".to_owned());
    }
    let raw = composed.get(url.scheme().len()..).and_then(|rest| rest.strip_prefix("://")).unwrap_or("/");
    if raw.starts_with('/') {
        return Err("exactly two slashes have to stand before the host".to_owned());
    }
    let (authority, raw_path) = raw.split_at(raw.find(['/', '?', '#']).unwrap_or(raw.len()));
    if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
        return Err("an address with a name or password in it is refused: it would end up in logs".to_owned());
    }
    let end = if authority.starts_with('[') { authority.find(']').map(|at| at + 1) } else { authority.find(':') };
    let host = host::read(&url, authority.get(..end.unwrap_or(authority.len())).unwrap_or(authority))?;
    let raw_path = raw_path.split(['?', '#']).next().unwrap_or_default();
    segments(raw_path)?;
    escapes(raw_path, Part::Path)?;
    // Once more without the escapes: the parser leaves those in place that no segment has to have.
    let path = escapes(url.path(), Part::Path)?;
    segments(&path)?;
    let built = build(&url, &host, &path, url.query().map(|query| escapes(query, Part::Query)).transpose()?);
    if built.len() > MAX_URL {
        return Err(format!("the address is longer than {MAX_URL} bytes"));
    }
    // What is sent is what the parser makes of it: it must have nothing left to change.
    match Url::parse(&built) {
        Ok(url) if url.as_str() == built => Ok(built),
        _ => Err("the address has no form that is always read alike".to_owned()),
    }
}

fn build(url: &Url, host: &str, path: &str, query: Option<String>) -> String {
    let mut built = format!("{}://{host}", url.scheme());
    // The parser leaves the usual port of the scheme out.
    if let Some(port) = url.port() {
        let _ = write!(built, ":{port}");
    }
    built.push_str(path);
    if let Some(query) = query.filter(|query| !query.is_empty()) {
        built.push('?');
        built.push_str(&query);
    }
    built
}

/// # Errors
/// A segment that some servers skip or climb by.
fn segments(path: &str) -> Result<(), String> {
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(segment) = parts.next() {
        if segment.is_empty() && parts.peek().is_some() {
            return Err("the path has an empty segment (`//`) in it".to_owned());
        }
        // Some servers take what follows a semicolon as no part of the name, so `/admin;x` would be `/admin` to them.
        if segment.contains(';') || segment.to_ascii_uppercase().contains("%3B") {
            return Err("the path has a `;` in it, which servers read in different ways".to_owned());
        }
    }
    Ok(())
}

/// `text` with the escapes of unreserved characters decoded, all others in upper case, and escapes for what cannot
/// stand there.
fn escapes(text: &str, part: Part) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte != b'%' {
            let plain = byte.is_ascii_alphanumeric() || b"-._~!$&()*+,;=:@/".contains(&byte);
            if plain || (byte == b'?' && part == Part::Query) || (byte == b'\'' && part == Part::Path) {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "%{byte:02X}");
            }
            continue;
        }
        let value = hex(bytes, at).ok_or("there is a `%` in it that is no escape; the character itself is `%25`")?;
        at += 2;
        match value {
            b'.' if part == Part::Path => return Err("the path has an escaped dot (`%2E`) in it".to_owned()),
            b'/' | b'\\' if part == Part::Path => {
                return Err(format!("the path has an escaped slash or backslash (`%{value:02X}`) in it"));
            }
            b'%' if part == Part::Path && hex(bytes, at).is_some() => {
                return Err("the path has an escape of an escape (`%25`) in it".to_owned());
            }
            0..=0x1f | 0x7f if part == Part::Path => {
                return Err(format!("the path has an escaped control character (`%{value:02X}`) in it"));
            }
            _ if value.is_ascii_alphanumeric() || b"-._~".contains(&value) => out.push(char::from(value)),
            _ => drop(write!(out, "%{value:02X}")),
        }
    }
    letters(&out, part)?;
    Ok(out)
}

fn hex(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    u8::try_from(digit(at)? * 16 + digit(at + 1)?).ok()
}

/// # Errors
/// Escapes that stand for letters with more than one spelling.
fn letters(escaped: &str, part: Part) -> Result<(), String> {
    if !escaped.contains('%') {
        return Ok(());
    }
    let decoded: Vec<u8> = {
        let (bytes, mut at, mut out) = (escaped.as_bytes(), 0, Vec::with_capacity(escaped.len()));
        while let Some(&byte) = bytes.get(at) {
            let value = if byte == b'%' { hex(bytes, at + 1) } else { None };
            at += if value.is_some() { 3 } else { 1 };
            out.push(value.unwrap_or(byte));
        }
        out
    };
    let Ok(decoded) = String::from_utf8(decoded) else {
        return if part == Part::Path {
            Err("the path has escapes in it that are not UTF-8".to_owned())
        } else {
            Ok(())
        };
    };
    if !ComposingNormalizerBorrowed::new_nfc().is_normalized(&decoded) {
        return Err(
            "it has letters in it that are put together of several (Unicode NFD); use composed ones (NFC)".to_owned()
        );
    }
    // A full-width slash or dot is one to servers that fold such characters.
    let folded = |c: char| {
        let mut buffer = [0; 4];
        let folded = ComposingNormalizerBorrowed::new_nfkc().normalize(c.encode_utf8(&mut buffer)).into_owned();
        !c.is_ascii() && folded.contains(['/', '\\', '.'])
    };
    if part == Part::Path && decoded.contains(folded) {
        return Err("the path has a character in it that some servers take for a dot or a slash".to_owned());
    }
    Ok(())
}

/// The address that was probably meant, if it is one that is taken.
fn instead(written: &str) -> Option<String> {
    let lenient = lenient(written)?;
    strict(&lenient).ok().filter(|canonical| *canonical == lenient)
}

/// Everything resolved that the parser would resolve, and empty segments left out.
fn lenient(written: &str) -> Option<String> {
    let composed = ComposingNormalizerBorrowed::new_nfc().normalize(written.trim()).replace('\\', "/");
    let url = Url::parse(&composed).ok()?;
    let host = url.host_str()?;
    let host = match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) if address::reached(ip) != ip => address::reached(ip).to_string(),
        Ok(_) => host.to_owned(),
        Err(_) => host.trim_end_matches('.').to_owned(),
    };
    let dots = url.path().replace("%2e", ".").replace("%2E", ".");
    let path: Vec<&str> = dots.split('/').filter(|segment| !segment.is_empty()).collect();
    let end = if dots.ends_with('/') && !path.is_empty() { "/" } else { "" };
    let path = format!("/{}{end}", path.join("/"));
    let resolved = Url::parse(&format!("{}://{host}{path}", url.scheme())).ok()?;
    let path = escapes(resolved.path(), Part::Path).ok()?;
    let query = url.query().map(|query| escapes(query, Part::Query)).transpose().ok()?;
    Some(build(&url, &host, &path, query))
}

/// For a text out of a pattern, which may end anywhere in an address.
pub(super) fn meant(literal: &str) -> Option<String> {
    let after = literal.split_once("//").map_or("", |(_, rest)| rest);
    match after.contains('/') {
        true if literal.contains("://") => lenient(literal),
        // The host, or a part of it.
        _ => Some(literal.to_lowercase()),
    }
}

//! Values behind a name: `password: hunter2`, `API_KEY=…`, `--token …`, `"client_secret": "…"`, `<password>…</password>`.
//!
//! The same signs are written in prose (`password: required`), in code (`token = parser.next()`) and for references
//! (`existingSecret: db-creds-v2`). So a name says how much a value has to look like a credential: behind `password`
//! nearly everything is one, behind `secret` and `token` only what nobody would call a thing by.
//!
//! Reading starts where a name was found and goes no further than its value.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::names::*;
use super::tokens::is_escape;
use super::value::*;

pub(super) const LABEL: &str = "assigned secret";

/// What stands between a name and its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Between {
    Sign,
    /// `--password value`.
    Flag,
    /// `name: DB_PASSWORD, value: …`, `<password>…`.
    Pair,
    /// `is`, `was`.
    Is,
    Space,
}

/// A name and its value, as they stand.
struct Assigned<'t> {
    class: Class,
    /// The whole identifier, in small letters.
    name: String,
    /// Whether the identifier is written as an environment variable is.
    shouted: bool,
    between: Between,
    /// Whether no white space stands around the sign.
    glued: bool,
    quoted: bool,
    /// Whether a word for what it opens stands before it: `auth token`, `access key`.
    opens: bool,
    value: &'t str,
    /// What comes after the value.
    after: &'t str,
}

/// `(prod)`, `for bob`, and then a sign, a verb or white space.
static BETWEEN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"^(?:(?: \([^()\n]{1,40}\)| (?:for|of|on|in|at) [^\s:=,;"']{1,40}(?: [^\s:=,;"'.]{1,24}){0,4}?)??"#,
        r#"(?:(?P<left>[ \t]{0,24})(?P<sign>=>|:=|===?|!==?|->|→|=|:|：)\*{0,2}(?P<right>[ \t]{0,24})"#,
        r#"|(?P<is>[ \t]{1,3}(?:is|was|to|ist|est|es|[|])[ \t]{1,24}(?:now |still |set to )?:?[ \t]?))|(?P<space>[ \t]{1,8}))"#
    ))
    .ok()
});

/// `…", "value": "`, `…"\n  value: `, `…" value="`.
static PAIR: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r#"^["'\\]{0,4}\s{0,4},?(?:(?:\s|\\n|\\r){0,40}["'\\]{0,4}(?i:value|val)["'\\]{0,4}\s{0,4}[:=]\s{0,4}"#,
        // `variable "db_password" { default = "…" }`
        r#"|\{[^{}]{0,160}?(?-u:\b)default\s{0,8}=\s{0,8})"#
    ))
    .ok()
});

/// `Some(`, `SecretString::new(`, `ConvertTo-SecureString `, and the letters before a string's quote.
static WRAP: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r#"^(?:(?:Some|[\w:.]{0,40}(?:Secret|Secure|Sensitive|String|bytes)\w{0,20}(?:::\w{1,20}|\.\w{1,20})?)\(|ConvertTo-SecureString\s{1,3}(?:-String\s{1,3})?|[bfruNL@]{1,2})\\{0,3}["']"#).ok()
});

/// `|-` and a new line, as YAML begins a block.
static BLOCK: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[|>][+-]?[0-9]?[ \t]{0,4}(?:\r?\n|(?:\\r)?\\n)[ \t]{1,40}").ok());

/// Bytes of a value by which it is judged. A longer one that is a secret is one to its end; a longer one that is not
/// costs no more than this, however often a name is written in it.
const JUDGED: usize = 256;

/// The value behind the name that stands at `start..end`, if it is a secret.
pub(super) fn value_of(class: Class, text: &str, start: usize, end: usize) -> Option<Range<usize>> {
    let bytes = text.as_bytes();
    let before = bytes.get(start.wrapping_sub(1)).copied().filter(|_| start > 0);
    let name_start = start - identifier_before(text, start);
    let capital = bytes.get(start).is_some_and(u8::is_ascii_uppercase);
    let word_starts = before.is_none_or(|b| !b.is_ascii_alphanumeric())
        || (capital && before.is_some_and(|b| b.is_ascii_lowercase()))
        || is_escape(text, start);
    if matches!(class, Class::ShortPassword | Class::Auth | Class::Signature | Class::Session) && !word_starts {
        return None;
    }
    let shouted = text.get(name_start..end)?.bytes().all(|b| !b.is_ascii_lowercase());
    let end = end_of_name(text, end, shouted)?;
    let name = text.get(name_start..end)?.to_ascii_lowercase();
    // `?key=…` in a URL is one that gives access, if it is random enough.
    let bare_key = class == Class::Key && !is_key_to_something(text, start);
    let counted = ["num_", "max_", "min_", "n_"].iter().any(|lead| name.starts_with(lead));
    if counted || NO_CREDENTIAL.iter().any(|word| name.contains(word)) || (bare_key && name != "key") {
        return None;
    }
    let (between, glued, at) = read_between(class, text, name_start, end)?;
    let rest = text.get(at..)?;
    let (value, quoted) = read_value(rest, JUDGED)?;
    let after = rest.get(value.end..).unwrap_or("");
    let opens = is_key_to_something(text, start);
    let assigned =
        Assigned { class, name, shouted, between, glued, quoted, opens, value: rest.get(value.clone())?, after };
    let in_url = text.get(..name_start).is_some_and(|t| t.ends_with(['?', '&', ';'])) || is_escape(text, name_start);
    let netrc = between == Between::Space && is_netrc(text.get(..name_start).unwrap_or(""));
    let sql =
        class == Class::Clause || (between == Between::Space && quoted && is_sql(text.get(..name_start).unwrap_or("")));
    let secret = match class {
        Class::Signature => in_url && is_random(assigned.value, 20) && assigned.is_given(),
        Class::Key if bare_key => in_url && is_random(assigned.value, 20) && assigned.is_given(),
        // `identified by` is said of other things as well.
        Class::Clause if name_is_prose(text, at, &assigned.name) => false,
        _ if netrc || sql => assigned.value.len() >= 3 && assigned.is_given() && !is_common(assigned.value),
        _ => assigned.is_secret(),
    };
    if !secret {
        return None;
    }
    let (value, _) = if value.end < JUDGED { (value, quoted) } else { read_value(rest, rest.len())? };
    Some(at + value.start..at + value.end)
}

/// `identified by` without a string behind it.
fn name_is_prose(text: &str, at: usize, name: &str) -> bool {
    let string = text.get(at..).is_some_and(|rest| rest.trim_start_matches('\\').starts_with(['\'', '"']));
    name.ends_with("by") && !string
}

/// Bytes of the identifier that the name at `start` is the end of.
fn identifier_before(text: &str, start: usize) -> usize {
    let head = text.as_bytes().get(..start).unwrap_or(&[]);
    let part = |b: &&u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$');
    let length = head.iter().rev().take(64).take_while(part).count();
    // An escape before it is no part of it: `\nDB_PASSWORD`.
    let escaped = |at: usize| head.get(at.wrapping_sub(1)) == Some(&b'\\') && at > 0;
    if length > 0 && escaped(start - length) && matches!(head.get(start - length), Some(b'n' | b'r' | b't')) {
        length - 1
    } else {
        length
    }
}

/// Where the name really ends: digits (`password2`) and what environments append (`API_KEY_PROD`) belong to it.
fn end_of_name(text: &str, end: usize, shouted: bool) -> Option<usize> {
    let tail = text.as_bytes().get(end..)?;
    let length = tail.iter().take(40).take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
    let suffix = text.get(end..end + length)?;
    if suffix.is_empty() || suffix.bytes().all(|b| b.is_ascii_digit()) {
        return Some(end + length);
    }
    let parts = || suffix.trim_start_matches('_').split('_');
    let appended = shouted
        && suffix.starts_with('_')
        && suffix.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && parts().count() <= 3
        && !parts().any(|part| OTHER_ENDS.contains(&part.to_ascii_uppercase().as_str()));
    appended.then_some(end + length)
}

fn is_key_to_something(text: &str, start: usize) -> bool {
    let head = text.get(..start).unwrap_or("").trim_end_matches(['_', '-', ' ', '.']);
    let word = head.bytes().rev().take(20).take_while(u8::is_ascii_alphabetic).count();
    let word = head.get(head.len() - word..).unwrap_or("");
    let lower = word.to_ascii_lowercase();
    KEYS.iter().any(|key| lower == *key || (lower.ends_with(key) && key.len() >= 6))
        // `myApiKey`, `DDAPIKEY`, `accessKey`.
        || ["api", "access", "secret", "private", "shared", "auth"].iter().any(|key| lower.ends_with(key))
}

/// What stands between the name and its value, whether that is glued to both, and where the value begins.
fn read_between(class: Class, text: &str, name_start: usize, end: usize) -> Option<(Between, bool, usize)> {
    let mut rest = text.get(end..)?;
    let limit = |rest: &str| rest.char_indices().map(|(at, _)| at).take_while(|at| *at <= 240).last().unwrap_or(0);
    if text.as_bytes().get(name_start.wrapping_sub(1)) == Some(&b'<') && name_start > 0 {
        let close = rest.find('>').filter(|at| *at < 80)?;
        return Some((Between::Pair, true, end + close + 1));
    }
    let window = rest.get(..limit(rest)).unwrap_or(rest);
    // What every one of them has in it is looked for first.
    let may_pair = ["val", "Val", "VAL", "default"].iter().any(|word| window.contains(word));
    if let Some(pair) = PAIR.as_ref().filter(|_| may_pair).and_then(|r| r.find(window)) {
        return Some((Between::Pair, true, end + pair.end()));
    }
    let closers = rest.bytes().take(8).take_while(|b| matches!(b, b'"' | b'\'' | b'\\' | b'`' | b'*')).count();
    let bracket = usize::from(closers > 0 && rest.as_bytes().get(closers) == Some(&b']'));
    // `\n` behind a name ends it.
    let closers =
        if rest.get(..closers).is_some_and(|c| c.ends_with('\\')) && !rest.get(closers..)?.starts_with(['"', '\'']) {
            closers - 1
        } else {
            closers
        };
    let skipped = closers + bracket;
    rest = rest.get(skipped..)?;
    // `define('DB_PASSWORD', '…')`, `("api_key", "…")`.
    // `<string name="api_key">…`.
    if closers > 0 && rest.starts_with('>') {
        return Some((Between::Pair, true, end + skipped + 1));
    }
    if closers > 0
        && let Some(next) = rest.strip_prefix(',')
    {
        let spaces = next.bytes().take(4).take_while(|b| *b == b' ').count();
        let opened = next.get(spaces..)?.trim_start_matches('\\').starts_with(['"', '\'']);
        return opened.then_some((Between::Pair, true, end + skipped + 1 + spaces));
    }
    // `setApiKey("…")`, `.password("…")`: less certain than a sign.
    if closers == 0 && rest.strip_prefix('(').is_some_and(|r| r.trim_start_matches('\\').starts_with(['"', '\''])) {
        return Some((Between::Space, false, end + 1));
    }
    let window = rest.get(..limit(rest)).unwrap_or(rest);
    if let Some((sign, lead, length)) = sign_at(window) {
        return after_sign(text, name_start, end + skipped + lead + length, sign, lead == 0);
    }
    // Words and qualifiers between begin with a space.
    if !window.starts_with([' ', '\t']) {
        return None;
    }
    let found = BETWEEN.as_ref()?.captures(window)?;
    let whole = found.get(0)?;
    let at = end + skipped + whole.end();
    if let Some(sign) = found.name("sign") {
        return after_sign(text, name_start, end + skipped + sign.end(), sign.as_str(), false);
    }
    if found.name("is").is_some() {
        return Some((Between::Is, false, at));
    }
    let dashed = text.get(name_start..end)?.starts_with('-');
    match class {
        _ if dashed && skipped == 0 && found.name("space").is_some_and(|m| m.len() == whole.len()) => {
            Some((Between::Flag, true, at))
        }
        Class::Session | Class::Signature | Class::Auth => None,
        _ => Some((Between::Space, false, at)),
    }
}

/// The sign at the front of `rest`, the white space before it and its length.
fn sign_at(rest: &str) -> Option<(&'static str, usize, usize)> {
    const SIGNS: &[&str] = &["=>", ":=", "===", "==", "!==", "!=", "->", "→", "=", ":", "："];
    let lead = rest.bytes().take(24).take_while(|b| matches!(b, b' ' | b'\t')).count();
    let at = rest.get(lead..)?;
    SIGNS.iter().find(|sign| at.starts_with(**sign)).map(|sign| (*sign, lead, sign.len()))
}

/// Where the value begins behind the sign that ends at `at`.
fn after_sign(
    text: &str,
    name_start: usize,
    at: usize,
    sign: &str,
    glued_before: bool,
) -> Option<(Between, bool, usize)> {
    let rest = text.get(at..)?;
    let stars = rest.bytes().take(2).take_while(|b| *b == b'*').count();
    let spaces = rest.bytes().skip(stars).take(24).take_while(|b| matches!(b, b' ' | b'\t')).count();
    // A value of stars is a stand-in, bold ends before white space.
    let skip = if spaces > 0 { stars + spaces } else { 0 };
    let next = rest.get(skip..)?;
    // `a::b`, `https://`, and a part of a longer name: `arn:…:secret:db`.
    let within = text.get(..name_start).is_some_and(|t| t.ends_with(':'));
    if sign == ":" && (within || next.starts_with(':') || next.starts_with("//")) {
        return None;
    }
    // A tag (`!!str`), an anchor (`&pw`) and the sign of a block stand before the value in YAML.
    let tag = if next.starts_with("!!") || (next.starts_with('&') && skip > 0) { tag_length(next) } else { 0 };
    let block = tag
        + BLOCK
            .as_ref()
            .filter(|_| next.starts_with(['|', '>', '!', '&']))
            .and_then(|r| r.find(next))
            .map_or(0, |m| m.end());
    Some((Between::Sign, (glued_before && skip == 0) || block > 0, at + skip + block))
}

/// Bytes of `!!str ` or `&anchor `.
fn tag_length(next: &str) -> usize {
    let word =
        next.bytes().skip(1).take(20).take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'!')).count();
    if next.as_bytes().get(word + 1) == Some(&b' ') { word + 2 } else { 0 }
}

/// The value at the front of `rest`, and whether it is quoted.
fn read_value(rest: &str, most: usize) -> Option<(Range<usize>, bool)> {
    let wrapped = WRAP
        .as_ref()
        .and_then(|r| r.find(rest.get(..80).unwrap_or(rest)))
        .map_or(0, |m| m.as_str().trim_end_matches(['"', '\'', '\\']).len());
    let inner = rest.get(wrapped..)?;
    let slashes = inner.bytes().take(7).take_while(|b| *b == b'\\').count();
    let opened = inner.get(slashes..)?.chars().next()?;
    let close = match opened {
        '"' | '\'' | '`' => opened,
        '“' => '”',
        '‘' => '’',
        _ => return unquoted(rest, most).map(|end| (0..end, false)),
    };
    let start = wrapped + slashes + opened.len_utf8();
    let body = rest.get(start..)?;
    let mut escaped = 0;
    for (at, c) in body.char_indices() {
        if c == close && (escaped == slashes || (slashes == 0 && escaped % 2 == 0)) {
            let end = start + at - if slashes > 0 { escaped } else { 0 };
            return (end > start).then_some((start..end, true));
        }
        if c == '\n' || at > most {
            return (at > 0).then_some((start..start + at, true));
        }
        escaped = if c == '\\' { escaped + 1 } else { 0 };
    }
    // The end of the text ends it too: what was cut off is still a secret.
    (!body.is_empty()).then_some((start..rest.len(), true))
}

/// Where a value without quotes ends. Signs that people use in passwords end it only where they separate.
fn unquoted(rest: &str, most: usize) -> Option<usize> {
    let bytes = rest.as_bytes();
    let next = |at: usize| bytes.get(at + 1).copied();
    let ends = |b: Option<u8>| {
        b.is_none_or(|b| b.is_ascii_whitespace() || matches!(b, b'"' | b'\'' | b'}' | b']' | b')' | b'\\' | b'`'))
    };
    let mut end = bytes.len().min(most);
    for (at, b) in bytes.iter().enumerate().take(most) {
        let stop = match b {
            b if b.is_ascii_whitespace() => true,
            b'"' | b'\'' | b'`' | b'<' | b'>' => true,
            b'\\' => matches!(next(at), Some(b'n' | b'r' | b't' | b'"' | b'\'' | b'u' | b'\\')),
            b',' | b';' => ends(next(at)) || starts_pair(rest.get(at + 1..).unwrap_or("")),
            b'&' => ends(next(at)) || next(at) == Some(b'&') || starts_pair(rest.get(at + 1..).unwrap_or("")),
            b')' | b']' | b'}' => ends(next(at)) || matches!(next(at), Some(b',' | b';' | b'.' | b':')),
            b'(' | b'[' | b'{' => {
                at > 0 && bytes.iter().take(at).all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'.' | b':'))
            }
            b'|' => at == 0 || ends(next(at)) || next(at) == Some(b'|'),
            _ => false,
        };
        if stop {
            end = at;
            break;
        }
    }
    while !rest.is_char_boundary(end) {
        end -= 1;
    }
    let value = rest.get(..end)?.trim_end_matches(['.', ',', ';', ':', '?', '*']);
    (!value.is_empty()).then_some(value.len())
}

/// `x=1`, `Server=db`, `token:e`: another setting begins here.
fn starts_pair(rest: &str) -> bool {
    let word = rest.bytes().take(32).take_while(|b| b.is_ascii_alphabetic() || *b == b'_').count();
    if word >= 2 && rest.as_bytes().get(word) == Some(&b':') {
        return true;
    }
    let length = rest
        .bytes()
        .take(32)
        .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b' ' | b'.'))
        .count();
    length > 0 && rest.as_bytes().get(length) == Some(&b'=')
}

/// At most the last `most` bytes.
pub(super) fn tail(text: &str, most: usize) -> &str {
    let from =
        (text.len().saturating_sub(most)..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text.get(from..).unwrap_or("")
}

/// `machine h login u password …`.
fn is_netrc(before: &str) -> bool {
    let before = tail(before, 200);
    let mut words = before.split_whitespace().rev().take(2);
    let _who = words.next();
    words.next().is_some_and(|word| matches!(word, "login" | "account" | "user"))
}

/// `CREATE USER x WITH PASSWORD '…'`.
fn is_sql(before: &str) -> bool {
    let near = tail(before, 120).to_ascii_lowercase();
    ["create user", "alter user", "create role", "alter role", "create login", "set "]
        .iter()
        .any(|words| near.contains(words))
}

impl Assigned<'_> {
    /// Whether the value is there at all: no stand-in, no path, no code, no other name.
    fn is_given(&self) -> bool {
        !is_placeholder(self.value) && !is_path(self.value) && (self.quoted || !self.is_program_text())
    }

    /// Code where a value would stand: a call, a type, a macro, an expression of minified JavaScript.
    fn is_program_text(&self) -> bool {
        let (value, after) = (self.value, self.after);
        let opens = after.starts_with(['(', '[', '{'])
            || after.starts_with("::")
            || (after.starts_with('<') && !after.starts_with("</"));
        let call = opens && value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'!'));
        let word = value.split(['(', '[']).next().unwrap_or("");
        let called = word.len() < value.len()
            && !word.is_empty()
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b':' | b'!'));
        let named = called || value.contains("::") || value.contains("![") || value.contains("](");
        let number = value.len() <= 10 && value.strip_prefix("0x").is_some_and(is_hex);
        // `PASSWORD: ObjectIdentifier = …`: a type, and the value behind it.
        let typed = self.between == Between::Sign && !self.glued && after.trim_start().starts_with("= ");
        let inside = |sign: &str| value.find(sign).is_some_and(|at| at + sign.len() < value.len());
        let logic = self.class != Class::Signature && ["&&", "||", "=>", "=="].iter().any(|sign| inside(sign));
        let ternary = self.glued && value.contains('?') && value.contains(':') && !has_digit(value);
        number || call || named || typed || logic || ternary || is_code(value)
    }

    fn is_secret(&self) -> bool {
        if !self.is_given() {
            return false;
        }
        match self.class {
            Class::Auth => is_basic(self.value) || (self.name.starts_with('_') && is_random(self.value, 16)),
            // Judged by where they stand, not here.
            Class::Signature => false,
            Class::Session => self.between != Between::Is && is_random(self.value, 16) && !is_uuid(self.value),
            Class::Password | Class::ShortPassword | Class::Clause => self.is_password(),
            Class::Key | Class::Token | Class::Secret => self.is_key(),
        }
    }

    fn is_explicit(&self) -> bool {
        matches!(self.between, Between::Sign | Between::Flag | Between::Pair)
    }

    /// Words alone, as a label, a variable or prose have them.
    fn is_talk(&self) -> bool {
        let joined = self.value.contains(['_', '-', '.', ' ']) || self.value.bytes().any(|b| b.is_ascii_uppercase());
        let deliberate = self.quoted || self.shouted || self.between == Between::Flag;
        // No variable has a hyphen in its name.
        let hyphens = self.value.contains('-') && !self.value.contains(['_', '.', ' ']) && self.is_of_a_password();
        let called = names_a_credential(self.value) && (joined && !hyphens || self.value.len() < 10 || !deliberate);
        is_common(self.value) || called
    }

    fn is_of_a_password(&self) -> bool {
        matches!(self.class, Class::Password | Class::ShortPassword | Class::Clause)
    }

    fn is_password(&self) -> bool {
        let value = self.value;
        let digits = value.bytes().filter(u8::is_ascii_digit).count();
        // `--- PASS: TestLogin2`, `pass to f32`.
        let verdict = self.name == "pass" && (self.shouted && !self.glued || !self.is_explicit());
        if value.chars().count() < 4 || verdict || (!self.quoted && is_common_throughout(value)) {
            return false;
        }
        if value.contains(char::is_whitespace) {
            let given = self.name.starts_with('-') || !is_prose(value);
            return self.is_explicit() && value.len() >= 8 && given;
        }
        if digits == value.len() {
            let counted = matches!(self.name.as_str(), "pass" | "pw" | "passed");
            return self.is_explicit() && !counted;
        }
        if !has_letter(value) && value.is_ascii() {
            return self.is_explicit() && (self.quoted || value.len() >= 6);
        }
        if digits == 0 && value.chars().all(|c| c.is_alphabetic() || matches!(c, '_' | '-' | '.')) {
            return !self.is_talk()
                && match self.between {
                    Between::Flag | Between::Pair => true,
                    Between::Sign => self.quoted || self.glued || self.stands_alone(),
                    Between::Is => self.quoted || self.stands_alone(),
                    Between::Space => false,
                };
        }
        match self.between {
            Between::Sign | Between::Flag | Between::Pair => true,
            Between::Is => {
                (has_letter(value) && digits > 0 && !value.contains('-')) || is_random(value, 8) || self.quoted
            }
            Between::Space => {
                let odd = value.bytes().any(|b| b.is_ascii_uppercase())
                    || value.contains(['!', '@', '#', '$', '%', '^', '&', '*', '+']);
                is_random(value, 6) && odd && !is_digest(value) || (self.quoted && digits > 0 && !is_name(value))
            }
        }
    }

    /// Whether the sentence ends with the value, or goes on with another subject.
    fn stands_alone(&self) -> bool {
        const GOES_ON: &[&str] = &[
            "and", "for", "on", "in", "at", "but", "or", "with", "as", "user", "username", "login", "host", "please",
            "then", "port", "und",
        ];
        let after = self.after.trim_start_matches([',', ';', '.', ')', '!', '?', '*']);
        if after.len() < self.after.len()
            || after.is_empty()
            || after.starts_with(['\n', '\r', '"', '\'', '\\', '}', '|', '<', '#'])
        {
            return true;
        }
        let next = after.split_whitespace().next().unwrap_or("");
        next.is_empty()
            || after.trim_start_matches([' ', '\t']).starts_with(['\n', '\r', '#'])
            || GOES_ON.contains(&next.to_ascii_lowercase().as_str())
    }

    fn is_key(&self) -> bool {
        let value = self.value;
        let refers = REFERS.iter().any(|word| self.name.contains(word));
        let qualified = match self.class {
            Class::Key => true,
            Class::Token => self.name.trim_start_matches(['-', '$', '_', '.']).len() > "token".len(),
            _ => OF_SECRETS.iter().any(|word| self.name.contains(word)) && !self.name.ends_with("credential"),
        };
        let certain = (qualified || self.between == Between::Flag) && !refers;
        if value.contains(char::is_whitespace) {
            return certain
                && self.quoted
                && self.is_explicit()
                && value.len() >= 12
                && !is_prose(value)
                && !is_wordy_label(value);
        }
        if !has_digit(value) {
            let odd = value.bytes().any(|b| b.is_ascii_uppercase())
                && value.bytes().any(|b| b.is_ascii_lowercase())
                && value.len() >= 16
                && !is_name(value);
            let word = certain
                && value.len() >= 8
                && value.bytes().all(|b| b.is_ascii_alphabetic())
                && (self.quoted || self.glued);
            return self.is_explicit() && (odd || word) && !self.is_talk() && !(refers && is_name(value));
        }
        if is_uuid(value) {
            return !refers && self.is_explicit();
        }
        if !has_letter(value) {
            return self.is_explicit() && certain && value.len() >= 16;
        }
        let short = certain
            && (self.quoted || self.glued || self.shouted)
            && value.len() >= 6
            && !value.contains(['-', '_', '.', '/']);
        match self.between {
            Between::Sign | Between::Flag | Between::Pair => {
                short
                    || is_random(value, 8)
                    || (self.shouted
                        && self.glued
                        && value.len() >= 6
                        && !refers
                        && !value.contains(['-', '_', '.', '/', ':']))
            }
            Between::Is => is_random(value, 8),
            Between::Space => is_random(value, 16) && (!is_digest(value) || self.opens),
        }
    }
}

/// `Title Case Labels` and sentences with a capital in front, as user interfaces have them.
fn is_wordy_label(value: &str) -> bool {
    value.starts_with(|c: char| c.is_uppercase()) && value.chars().all(|c| c.is_alphabetic() || c == ' ')
}

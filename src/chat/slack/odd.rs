//! Deliveries that are authentic and that nobody can read: kept for whoever wants to know what Slack sends.
//!
//! One file of JSON lines, `{"at", "kind", "why", "delivery"}`, for this machine's operator alone. It is bounded, and
//! what gives a right to do something (tokens, response URLs, triggers, addresses of private files) is left out, as
//! is whatever looks like a secret. Writing comes after the acknowledgement; that it fails is a warning.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

use super::Front;
use crate::agent::SecretFilter;

/// The file's name, in the data directory.
pub const FILE: &str = "slack-odd.jsonl";
/// Largest delivery that is kept whole, in bytes of JSON; of a larger one the beginning is kept, as text.
const MAX_ONE: usize = 64 * 1024;
/// Largest size of the file, in bytes. Then its older half goes.
const MAX_FILE: usize = 1024 * 1024;
/// Most deliveries that wait to be written. More are counted and logged only.
const MAX_WAITING: usize = 64;
/// Stands where something was left out.
const LEFT_OUT: &str = "[left out]";
/// Fields whose values give a right, or say whose tokens there are: by how their names begin.
const RIGHTS: [&str; 12] = [
    "token",
    "response_url",
    "trigger_id",
    "authorizations",
    "url_private",
    "permalink_public",
    "thumb_",
    "ticket",
    "client_secret",
    "app_token",
    "bot_access_token",
    "access_token",
];

/// The file, and whose turn it is to write.
#[derive(Clone)]
pub struct Kept {
    path: Option<PathBuf>,
    turn: Arc<Mutex<()>>,
    places: Arc<tokio::sync::Semaphore>,
}

impl Kept {
    /// Without a path nothing is kept.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path, turn: Arc::default(), places: Arc::new(tokio::sync::Semaphore::new(MAX_WAITING)) }
    }
}

impl Front {
    /// Keeps a delivery that nobody can read, after the acknowledgement: this returns at once, and
    /// [`Front::idle`] waits for it. `kind`: how it came; `why` holds no text of people.
    pub fn keep_odd(&self, kind: &'static str, why: &str, delivery: Value) {
        let kept = self.0.odd.clone();
        let Some(path) = kept.path.clone() else { return };
        let Ok(place) = kept.places.try_acquire_owned() else {
            tracing::warn!(kind, "too many unreadable deliveries at once; one was not kept");
            return;
        };
        let parts = self.0.runtime.parts();
        let (at, secrets, why, turn) =
            (parts.clock.now().to_string(), parts.secrets.clone(), why.to_owned(), kept.turn);
        self.after(async move {
            let write = move || {
                let line = line(&at, kind, &secrets.clean(&why), delivery, &secrets);
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                let written = append(&path, &line);
                drop(place);
                written
            };
            match tokio::task::spawn_blocking(write).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "an unreadable delivery of Slack could not be kept"),
                Err(error) => tracing::warn!(%error, "keeping an unreadable delivery of Slack broke"),
            }
        });
    }
}

fn line(at: &str, kind: &str, why: &str, delivery: Value, secrets: &SecretFilter) -> String {
    let delivery = without_rights(delivery, secrets);
    let text = delivery.to_string();
    let delivery = match text.len() > MAX_ONE {
        false => delivery,
        true => json!({"cut_after_bytes": MAX_ONE, "text": text.get(..floor(&text, MAX_ONE)).unwrap_or_default()}),
    };
    format!("{}\n", json!({"at": at, "kind": kind, "why": why, "delivery": delivery}))
}

/// The greatest index of a character at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn is_right(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    RIGHTS.iter().any(|right| name.starts_with(right))
}

fn without_rights(value: Value, secrets: &SecretFilter) -> Value {
    match value {
        Value::Object(fields) => {
            let clean = |(name, value): (String, Value)| {
                let value = if is_right(&name) { json!(LEFT_OUT) } else { without_rights(value, secrets) };
                (secrets.clean(&name).into_owned(), value)
            };
            Value::Object(fields.into_iter().map(clean).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| without_rights(item, secrets)).collect()),
        Value::String(text) => Value::String(secrets.clean(&blotted(&text)).into_owned()),
        other => other,
    }
}

/// A text that may be a broken delivery itself: behind every name of a right, all up to the next field is left out.
/// A form's `%22` and the like are resolved first, so that they hide nothing.
fn blotted(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if !RIGHTS.iter().any(|right| lower.contains(right)) {
        return text.to_owned();
    }
    let resolved = form_urlencoded::parse(format!("x={}", text.replace('&', "%26").replace('+', "%2B")).as_bytes())
        .next()
        .map_or_else(String::new, |(_, text)| text.into_owned());
    let lower = resolved.to_ascii_lowercase();
    let (mut out, mut at) = (String::new(), 0);
    while let Some((start, right)) =
        RIGHTS.iter().filter_map(|right| Some((at + lower.get(at..)?.find(right)?, *right))).min()
    {
        let value = start + right.len();
        let rest = resolved.get(value..).unwrap_or_default();
        let end = rest.find([',', '&', '}', '\n']).unwrap_or(rest.len());
        out.push_str(resolved.get(at..value).unwrap_or_default());
        out.push_str(LEFT_OUT);
        at = value + end;
    }
    out.push_str(resolved.get(at..).unwrap_or_default());
    out
}

fn append(path: &Path, line: &str) -> std::io::Result<()> {
    if let Ok(known) = std::fs::metadata(path)
        && known.len().saturating_add(line.len() as u64) > MAX_FILE as u64
    {
        halve(path)?;
    }
    let mut file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    // It may have been there before, with other rights.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(line.as_bytes())
}

/// Leaves the newer half of the lines.
fn halve(path: &Path) -> std::io::Result<()> {
    let old = std::fs::read(path)?;
    let middle = old.len().saturating_sub(MAX_FILE / 2);
    let newer = old.get(middle..).unwrap_or_default();
    let whole = newer.iter().position(|byte| *byte == b'\n').and_then(|end| newer.get(end + 1..)).unwrap_or_default();
    let fresh = path.with_extension("jsonl.new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(whole)?;
    drop(file);
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(delivery: Value) -> String {
        line("2026-11-22T00:00:00Z", "http", "odd", delivery, &SecretFilter::new(["hush-hush-hush"]))
    }

    #[test]
    fn what_gives_a_right_is_left_out_of_an_odd_delivery_wherever_it_stands() {
        let delivery = json!({
            "token": "t-123", "trigger_id": "t-123", "response_url": "t-123", "response_urls": [{"url": "t-123"}],
            "authorizations": [{"team_id": "t-123"}], "a": "hush-hush-hush",
            "event": {"files": [{"url_private_download": "t-123", "name": "n"}], "text": "hi"},
        });
        let line = kept(delivery);
        assert!(!line.contains("t-123") && !line.contains("hush-hush-hush"), "{line}");
        assert!(line.contains("\"text\":\"hi\"") && line.contains("\"name\":\"n\""), "{line}");
        for broken in [
            "{\"token\": \"t-123\", \"text\": \"hi",
            "payload=%7B%22token%22%3A%22t-123%22%2C%22text%22%3A%22hi",
            "{\"event\":{\"response_url\":\"https://hooks.example/t-123\",\"text\":\"hi\"",
            "token=t-123&text=hi",
        ] {
            let line = kept(json!(broken));
            assert!(!line.contains("t-123") && line.contains("hi"), "{line}");
        }
    }

    #[test]
    fn an_odd_delivery_takes_a_bounded_place_and_so_does_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let line = kept(json!({"text": "ä".repeat(MAX_ONE)}));
        assert!(line.len() < MAX_ONE + 300, "{}", line.len());
        for n in 0..40 {
            append(&path, &line.replace("odd", &n.to_string())).unwrap();
            assert!(std::fs::metadata(&path).unwrap().len() <= MAX_FILE as u64);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let whys: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["why"].as_str().unwrap().parse().unwrap())
            .collect();
        assert!(whys.last() == Some(&39) && whys.len() > 5 && whys.is_sorted() && whys[0] > 15, "{whys:?}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

//! A webhook: whether a request is its sender's, and what it says to the agent.
//!
//! Signatures are those of the Standard Webhooks specification 1.0.0: HMAC-SHA256 over
//! `id.timestamp.body`, the body as the bytes that came. Nothing of a body is parsed before its signature
//! is found right.

use std::collections::BTreeSet;
use std::fmt;

use hmac::{Hmac, Mac as _};
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, context};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq as _};

use super::program;
use crate::agent::{Answer, Digest, IdError, Refusal, Status, ThreadId, Timestamp, json};
use crate::config::WebhookConfig;
use crate::runtime::{DeliverError, Runtime, Said};
use crate::store::StoreError;

/// How far the time of signing may lie before or after now, in milliseconds: the specification leaves it
/// to the receiver, its own libraries take five minutes.
pub const TOLERANCE_MS: u64 = 5 * 60 * 1_000;
/// Shortest secret in bytes, as the specification has it.
pub const MIN_SECRET: usize = 24;
/// Longest id of a delivery in bytes. The specification's examples have about 30.
pub const MAX_ID: usize = 256;
/// Signatures of one request that are looked at: one for each key of a rotation.
const MAX_SIGNATURES: usize = 16;
/// Longest message template in bytes.
const MAX_TEMPLATE: usize = 64 * 1024;
/// Work that a template may do, in minijinja's units: one for each instruction and each 64 bytes made, so
/// at most about 3 MB.
const FUEL: u64 = 50_000;
/// The name of the one template in its environment.
const MESSAGE: &str = "message";

/// One sender of signed requests, and the agent that gets their messages.
pub struct Webhook {
    name: String,
    agent: String,
    secret_env: String,
    /// Without it nothing is taken.
    key: Option<Key>,
    template: Environment<'static>,
    /// Every path below `payload` that the template names: `payload.alert.title`.
    used: BTreeSet<String>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({} -> {})", self.name, self.agent)
    }
}

/// The headers with which a request says whose it is, as they came.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// `webhook-id`: the same for every attempt at one delivery.
    pub id: &'a str,
    /// `webhook-timestamp`: seconds since the Unix epoch.
    pub timestamp: &'a str,
    /// `webhook-signature`: `v1,<base64>`, several separated by spaces.
    pub signatures: &'a str,
}

/// Why a request is not taken as the sender's. For the log: the sender is not told which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    #[error("the signing secret is not set")]
    NoSecret,
    #[error("webhook-id is not 1 to {MAX_ID} visible ASCII characters without a full stop")]
    Id,
    #[error("webhook-timestamp is not a number of seconds")]
    Timestamp,
    #[error("webhook-timestamp is more than five minutes away from this clock")]
    Stale,
    #[error("no signature is right")]
    Signature,
}

/// Why a payload does not make a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the message: {why}")]
pub struct TemplateError {
    /// The line of the template, from 1.
    pub line: usize,
    pub why: String,
    /// What the payload lacks, if that is the reason: `payload.alert.title`.
    pub missing: Option<String>,
}

/// What a delivery led to.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    pub thread: ThreadId,
    /// None: the thread has been deleted since.
    pub status: Option<Status>,
    /// It had been delivered before, and nothing happened now.
    pub duplicate: bool,
}

/// Why a delivery whose signature is right starts nothing.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the body cannot be used: {0}")]
    Body(String),
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[error("{0}")]
    Refused(Refusal),
    #[error(transparent)]
    Id(#[from] IdError),
    #[error(transparent)]
    Deliver(#[from] DeliverError),
}

impl Webhook {
    pub(super) fn new(config: &WebhookConfig, secret: Option<&SecretString>) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let key = secret.and_then(|secret| {
            Key::new(secret).map_err(|why| problems.push(format!("the secret in {} {why}", config.secret_env))).ok()
        });
        match compile(&config.message) {
            Ok((template, used)) if problems.is_empty() => Ok(Self {
                name: config.name.clone(),
                agent: config.agent.clone(),
                secret_env: config.secret_env.clone(),
                key,
                template,
                used,
            }),
            Ok(_) => Err(problems),
            Err(more) => Err([problems, more].concat()),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn agent(&self) -> &str {
        &self.agent
    }

    /// What to set before it takes anything, if that is so.
    pub(super) fn missing(&self) -> Option<String> {
        let (name, variable) = (&self.name, &self.secret_env);
        let sentence = || {
            format!(
                "webhook `{name}`: the environment variable {variable} is not set; put the sender's signing secret there (at least {MIN_SECRET} bytes: `openssl rand -base64 24` makes one, written with whsec_ in front)"
            )
        };
        self.key.is_none().then(sentence)
    }

    /// Whether both check with the same key.
    pub(super) fn has_key_of(&self, other: &Webhook) -> bool {
        // The same text under one key each: equal exactly if the keys are.
        let signed = |key: &Key| key.sign("same", "0", b"").finalize().into_bytes();
        self.key.as_ref().zip(other.key.as_ref()).is_some_and(|(a, b)| signed(a) == signed(b))
    }

    /// Whether the sender signed exactly these bytes, just now.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn check(&self, signed: Signed, body: &[u8], now: Timestamp) -> Result<(), Unsigned> {
        let key = self.key.as_ref().ok_or(Unsigned::NoSecret)?;
        // A full stop separates what is signed; in an id it would be two requests with one signature.
        let in_id = |c: u8| c.is_ascii_graphic() && c != b'.';
        if signed.id.is_empty() || signed.id.len() > MAX_ID || !signed.id.bytes().all(in_id) {
            return Err(Unsigned::Id);
        }
        if !signed.timestamp.bytes().all(|c| c.is_ascii_digit()) {
            return Err(Unsigned::Timestamp);
        }
        let seconds: i64 = signed.timestamp.parse().map_err(|_| Unsigned::Timestamp)?;
        let at = seconds.checked_mul(1_000).ok_or(Unsigned::Timestamp)?;
        if now.0.abs_diff(at) > TOLERANCE_MS {
            return Err(Unsigned::Stale);
        }
        let right = key.sign(signed.id, signed.timestamp, body).finalize().into_bytes();
        let mut found = Choice::from(0);
        for one in signed.signatures.split(' ').filter(|one| !one.is_empty()).take(MAX_SIGNATURES) {
            // Another version is another scheme: a sender may sign with several.
            let Some(base64) = one.strip_prefix("v1,") else { continue };
            let Ok(given) = data_encoding::BASE64.decode(base64.as_bytes()) else { continue };
            found |= given.as_slice().ct_eq(right.as_slice());
        }
        if bool::from(found) { Ok(()) } else { Err(Unsigned::Signature) }
    }

    /// What the agent is told.
    ///
    /// # Errors
    /// The payload lacks something that the template uses, or the template does too much.
    pub fn message(&self, payload: &serde_json::Value) -> Result<String, TemplateError> {
        let payload_value = Value::from(Serde(payload));
        self.template
            .get_template(MESSAGE)
            .and_then(|template| template.render(context! { payload => payload_value }))
            .map(|text| text.trim().to_owned())
            .map_err(|error| {
                let missing = (error.kind() == ErrorKind::UndefinedError)
                    .then(|| self.used.iter().find(|path| !has(payload, path)).cloned())
                    .flatten();
                let why = match &missing {
                    Some(path) => format!("the payload has no `{}`", path.trim_start_matches("payload.")),
                    None => explain(&error),
                };
                TemplateError { line: error.line().unwrap_or(1), why, missing }
            })
    }

    /// Starts the agent with a delivery whose signature has been found right ([`Webhook::check`]). A
    /// delivery that came before changes nothing, whatever its body is now.
    pub async fn start(&self, runtime: &Runtime, id: &str, body: &[u8]) -> Result<Started, StartError> {
        let thread = self.thread(id)?;
        // The thread knows its sources for a day; senders try for three, so the thread itself is the proof.
        match runtime.parts().store.summary(thread.short()).await {
            Ok(summary) => return Ok(Started { thread, status: Some(summary.status), duplicate: true }),
            Err(StoreError::Deleted(_)) => return Ok(Started { thread, status: None, duplicate: true }),
            Err(StoreError::Unknown(_)) => {}
            Err(error) => return Err(DeliverError::from(error).into()),
        }
        let text = std::str::from_utf8(body).map_err(|_| StartError::Body("it is not UTF-8 text".to_owned()))?;
        let payload = json::parse(text).map_err(|error| StartError::Body(error.to_string()))?;
        if !payload.is_object() {
            return Err(StartError::Body("it is not a JSON object".to_owned()));
        }
        let said = Said {
            from: program(format!("webhook:{}", self.name)),
            text: self.message(&payload)?,
            source: Some(id.to_owned()),
            outside: Some(format!("webhook {}", self.name)),
            attached: Vec::new(),
            context: Vec::new(),
        };
        let delivered = runtime.message(&thread, &self.agent, said).await?;
        match delivered.answer {
            Answer::Accepted => Ok(Started { thread, status: Some(delivered.status), duplicate: false }),
            // Two attempts came at once, and the other one was first.
            Answer::Duplicate | Answer::Stale | Answer::Go { .. } => {
                Ok(Started { thread, status: Some(delivered.status), duplicate: true })
            }
            Answer::Refused(refusal) => Err(StartError::Refused(refusal)),
        }
    }

    /// The thread of a delivery: the same for every attempt.
    fn thread(&self, id: &str) -> Result<ThreadId, IdError> {
        // 128 bits of SHA-256: nobody finds two ids with the same.
        let hash: String = Digest::of(id.as_bytes()).to_string().chars().take(32).collect();
        format!("webhook:{}:{hash}", self.name).parse()
    }
}

/// A signing key, ready to sign.
struct Key(Hmac<Sha256>);

impl Key {
    /// From the text of the variable: `whsec_` and base64, or the secret itself.
    fn new(secret: &SecretString) -> Result<Self, String> {
        let text = secret.expose_secret().trim();
        let bytes = match text.strip_prefix("whsec_") {
            Some(base64) => data_encoding::BASE64
                .decode(base64.as_bytes())
                .map_err(|_| "begins with whsec_, but what follows is not base64; copy it again".to_owned())?,
            None => text.as_bytes().to_vec(),
        };
        if bytes.len() < MIN_SECRET {
            return Err(format!(
                "has {} bytes; at least {MIN_SECRET} are needed, so that nobody guesses it (`openssl rand -base64 24` makes one)",
                bytes.len()
            ));
        }
        Hmac::new_from_slice(&bytes).map(Self).map_err(|_| "cannot be used as a key".to_owned())
    }

    fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

/// The template in an environment of its own, and the paths that it reads; or all that is wrong with it.
fn compile(text: &str) -> Result<(Environment<'static>, BTreeSet<String>), Vec<String>> {
    if text.len() > MAX_TEMPLATE {
        return Err(vec![format!("the message has {} bytes; at most {MAX_TEMPLATE} are allowed", text.len())]);
    }
    if text.trim().is_empty() {
        return Err(vec!["the message is empty".to_owned()]);
    }
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_auto_escape_callback(|_| AutoEscape::None);
    env.set_fuel(Some(FUEL));
    // minijinja's own writes `null` for what is not there, strict or not.
    env.add_filter("tojson", |value: &Value, indent: Option<Value>, args: Kwargs| {
        if value.is_undefined() {
            return Err(minijinja::Error::from(ErrorKind::UndefinedError));
        }
        minijinja::filters::tojson(value, indent, args)
    });
    let at = |e: minijinja::Error| vec![format!("line {} of the message: {}", e.line().unwrap_or(1), explain(&e))];
    env.add_template_owned(MESSAGE, text.to_owned()).map_err(at)?;
    let used = env.get_template(MESSAGE).map_err(at)?.undeclared_variables(true);
    let globals: BTreeSet<String> = env.globals().map(|(name, _)| name.to_owned()).collect();
    let used: BTreeSet<String> =
        used.into_iter().filter(|name| !globals.contains(name.split('.').next().unwrap_or(name))).collect();
    let unknown: Vec<String> = used
        .iter()
        .filter(|name| *name != "payload" && !name.starts_with("payload."))
        .map(|name| format!("the message uses `{name}`; there is only `payload` (write `payload.{name}`?)"))
        .collect();
    if unknown.is_empty() { Ok((env, used)) } else { Err(unknown) }
}

/// Whether the payload has what a path of the template names.
fn has(payload: &serde_json::Value, path: &str) -> bool {
    path.split('.').skip(1).try_fold(payload, |at, key| at.get(key)).is_some()
}

fn explain(error: &minijinja::Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "it is more work than is allowed; look for a loop or a repetition".to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    }
}

//! Mail: what a message is, and how it leaves.
//!
//! Owns the reading of addresses, the composing of a message (through lettre) and the two ways out: a file
//! in an outbox, or a mail server over SMTP. It knows nothing of who may be written to, of tools or of
//! approvals: a tool that mails ([`crate::tools`]) and notices to people share it.
//!
//! The one hard question of mail is what happened when the line breaks. A server takes a message over with
//! its answer to the final dot. Until the text itself is sent nothing was handed over ([`NotSent::Failed`]);
//! from then on, without an answer, nobody can tell ([`NotSent::Unknown`]). So the steps of SMTP are made
//! one by one here instead of by lettre's transport, which says only that something failed.
//!
//! lettre's cargo feature `tracing` stays off: it writes the whole dialogue, passwords too, to the log.

use std::fmt;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use lettre::Address;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, SinglePart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Response, Severity};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::agent::visible::is_unseen;
use crate::agent::{Timestamp, span};

/// Longest address in bytes: 64 of the local part, `@`, 255 of the domain (RFC 5321, section 4.5.3.1).
pub const MAX_ADDRESS: usize = 320;

/// Longest name beside an address, in characters.
pub const MAX_DISPLAY_NAME: usize = 100;

/// Longest subject, in characters.
pub const MAX_SUBJECT: usize = 200;

/// Longest text of a message, in characters.
pub const MAX_TEXT: usize = 20_000;

/// Longest piece of a system's error or of an address that is repeated, in characters.
const MAX_QUOTE: usize = 160;

/// How long the goodbye may take once the server has the message: it changes nothing any more.
const GOODBYE: Duration = Duration::from_secs(1);

/// A mail server: `[tools.email.smtp]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpConfig {
    pub host: String,
    /// Without it: 587 with `starttls`, 465 with `tls`, 25 with `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(default)]
    pub tls: Tls,
    /// Whether `tls = "none"` is meant for a server that is not on this machine.
    #[serde(default)]
    pub plaintext: bool,
    /// Who signs in; with `password_env`, or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The name of the environment variable with the password, never the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
    /// How long the whole delivery of one message may take, in milliseconds.
    #[serde(default = "half_a_minute", with = "crate::agent::span")]
    pub timeout: u64,
}

fn half_a_minute() -> u64 {
    30_000
}

/// How the line to a mail server is encrypted. There is no "if the server offers it": whoever is in
/// between would take the offer away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Plain at first, then encrypted before anything is said; a server without it is not used.
    #[default]
    StartTls,
    /// Encrypted from the first byte.
    Tls,
    /// Not at all.
    None,
}

impl SmtpConfig {
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> anyhow::Result<()> {
        let legal = |c: char| c.is_ascii_alphanumeric() || ".-:_".contains(c);
        ensure!(
            !self.host.is_empty() && self.host.chars().all(legal),
            "host: `{}` is not the name or the address of a server",
            quote(&self.host)
        );
        ensure!(self.port != Some(0), "port: 0 is no port of a server");
        ensure!(self.timeout > 0, "timeout: must be longer than 0s");
        ensure!(
            self.user.is_some() == self.password_env.is_some(),
            "`user` and `password_env` go together: give both, or neither for a server that asks for none"
        );
        if let Some(name) = &self.password_env {
            let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            ensure!(
                !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()),
                "password_env: give the name of an environment variable, not the password (got {} characters)",
                name.chars().count()
            );
        }
        if self.tls == Tls::None && !self.is_loopback() {
            ensure!(
                self.plaintext,
                "tls: with \"none\" everybody on the way to {} can read and change the mail; use \"starttls\" or \
                 \"tls\", or set plaintext = true if that is meant",
                self.host
            );
            ensure!(self.user.is_none(), "tls: a password is not sent to {} without encryption", self.host);
        }
        Ok(())
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    fn port(&self) -> u16 {
        self.port.unwrap_or(match self.tls {
            Tls::StartTls => 587,
            Tls::Tls => 465,
            Tls::None => 25,
        })
    }
}

/// One message before it is composed.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Left part of the Message-ID and name of the file; the same for every attempt. Letters, digits, `_` and `-`.
    pub id: String,
    pub at: Timestamp,
    pub to: Vec<Mailbox>,
    pub subject: String,
    /// Plain text.
    pub text: String,
}

/// Why a message did not surely leave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// It surely reached nobody.
    #[error("{0}")]
    Failed(String),
    /// The server had all of it, or a part, and never said whether it took it.
    #[error("{0}")]
    Unknown(String),
}

/// Where messages of one sender leave.
pub struct Mailer {
    from: Mailbox,
    way: Way,
}

enum Way {
    /// One file for each message in this directory, which is made when the first one comes.
    Outbox(PathBuf),
    Smtp(SmtpConfig, OnceLock<Result<TlsParameters, String>>),
}

impl Mailer {
    /// Writes files and sends nothing.
    pub fn to_files(from: Mailbox, outbox: PathBuf) -> Self {
        Self { from, way: Way::Outbox(outbox) }
    }

    /// # Errors
    /// The first setting that cannot work.
    pub fn to_server(from: Mailbox, server: SmtpConfig) -> anyhow::Result<Self> {
        server.check()?;
        Ok(Self { from, way: Way::Smtp(server, OnceLock::new()) })
    }

    /// Longest time that one message may take.
    pub fn longest(&self) -> Duration {
        match &self.way {
            Way::Outbox(_) => Duration::from_secs(10),
            Way::Smtp(server, _) => Duration::from_millis(server.timeout) + GOODBYE,
        }
    }

    /// The message as it will be written or sent. Needs no I/O.
    ///
    /// # Errors
    /// What in it cannot be mailed, as a short sentence.
    pub fn compose(&self, mail: &Mail) -> Result<Message, String> {
        check_subject(&mail.subject)?;
        check_text(&mail.text)?;
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if mail.id.is_empty() || !mail.id.chars().all(legal) {
            return Err("the message has no usable id".to_owned());
        }
        let at = u64::try_from(mail.at.0)
            .map_or(SystemTime::UNIX_EPOCH, |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        let mut message = Message::builder()
            .from(self.from.clone())
            .date(at)
            .message_id(Some(format!("<{}@{}>", mail.id, self.from.email.domain())))
            .header(AutoSubmitted)
            .subject(mail.subject.clone());
        for to in &mail.to {
            message = message.to(to.clone());
        }
        // Line ends as SMTP has them; a text part picks an encoding that is plain ASCII on the wire.
        let text = mail.text.replace("\r\n", "\n");
        message.singlepart(SinglePart::plain(text)).map_err(|e| format!("the mail cannot be composed: {e}"))
    }

    /// Hands the message over. Says where it is.
    ///
    /// # Errors
    /// [`NotSent`], each with a sentence for a person and a model. A cancel counts only until the text is sent.
    pub async fn send(&self, mail: &Mail, cancel: &CancellationToken) -> Result<String, NotSent> {
        let message = self.compose(mail).map_err(NotSent::Failed)?;
        match &self.way {
            Way::Outbox(directory) => {
                let (directory, name) = (directory.clone(), format!("{}.eml", mail.id));
                let bytes = message.formatted();
                let written = tokio::task::spawn_blocking(move || {
                    write_file(&directory, &name, &bytes).map(|()| directory.join(name))
                });
                match written.await {
                    Ok(Ok(path)) => Ok(format!(
                        "written to {}; no mail server is configured, so it goes no further",
                        path.display()
                    )),
                    Ok(Err(e)) => Err(NotSent::Failed(format!("the outbox cannot be written: {e}"))),
                    Err(_) => Err(NotSent::Failed("the outbox cannot be written: it broke on our side".to_owned())),
                }
            }
            Way::Smtp(server, tls) => server.deliver(tls, &message, cancel).await,
        }
    }
}

/// A whole file or none, readable by this user alone. The same message again replaces its file.
fn write_file(directory: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let half = directory.join(format!(".{name}.part"));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&half, directory.join(name))
}

/// `Auto-Submitted: auto-generated` (RFC 3834): no machine answers this message, so none talks to another.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }
    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }
    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// What is being done, for the words of a failure.
#[derive(Clone, Copy)]
enum Step {
    Connect,
    SignIn,
    From,
    To,
    Data,
}

/// The step that is being made, to be read when the time is over.
struct At(Mutex<Step>);

impl At {
    fn set(&self, step: Step) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    fn get(&self) -> Step {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "at the connection",
            Self::SignIn => "at the sign-in",
            Self::From => "at the sender",
            Self::To => "at a recipient",
            Self::Data => "before the text",
        })
    }
}

impl SmtpConfig {
    async fn deliver(
        &self,
        tls: &OnceLock<Result<TlsParameters, String>>,
        message: &Message,
        cancel: &CancellationToken,
    ) -> Result<String, NotSent> {
        let failed = |why: String| NotSent::Failed(format!("{why}; nothing was sent"));
        let password = self.password().map_err(failed)?;
        let limit = Duration::from_millis(self.timeout);
        let deadline = Instant::now() + limit;
        let step = At(Mutex::new(Step::Connect));
        let opened = tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(failed("stopped before the mail was sent".to_owned())),
            opened = timeout_at(deadline, self.open(tls, message, password.as_deref(), &step)) => opened,
        };
        let mut line = match opened {
            Ok(Ok(line)) => line,
            Ok(Err(why)) => return Err(failed(format!("the mail server {}: {}", step.get(), why))),
            Err(_) => {
                let limit = span::show(self.timeout);
                return Err(failed(format!("the mail server {}: no answer within {limit}", step.get())));
            }
        };
        // From here on only the server's answer tells what became of it, so a cancel comes too late.
        let unknown = |why: &str| {
            NotSent::Unknown(format!("the mail was sent, but {}; look whether it arrived before it is sent again", why))
        };
        match timeout_at(deadline, line.message(&message.formatted())).await {
            Ok(Ok(answer)) if answer.code().severity == Severity::PositiveCompletion => {}
            Ok(Ok(answer)) => return Err(unknown(&format!("the server answered {}", answer.code()))),
            Ok(Err(e)) if e.status().is_some() => {
                let why = words(&e);
                return Err(NotSent::Failed(format!("the mail server refused the mail: {why}; it was not sent")));
            }
            Ok(Err(e)) => {
                return Err(unknown(&format!("the line broke before the server answered ({})", words(&e))));
            }
            Err(_) => return Err(unknown(&format!("the server did not answer within {}", shown(limit)))),
        }
        let _ = timeout(GOODBYE, line.quit()).await;
        Ok(format!("taken over by the mail server {}", self.host))
    }

    /// Everything before the text: after it the server waits for the message.
    ///
    /// # Errors
    /// Why the server does not want it. Nothing was handed over.
    async fn open(
        &self,
        tls: &OnceLock<Result<TlsParameters, String>>,
        message: &Message,
        password: Option<&str>,
        step: &At,
    ) -> Result<AsyncSmtpConnection, String> {
        // The verifier reads the system's certificates: only where they are needed, and once.
        let parameters = || tls.get_or_init(|| TlsParameters::new(self.host.clone()).map_err(|e| words(&e))).clone();
        let wrapped = if self.tls == Tls::Tls { Some(parameters()?) } else { None };
        let hello = ClientId::default();
        let limit = Some(Duration::from_millis(self.timeout));
        let address = (self.host.as_str(), self.port());
        let mut line =
            AsyncSmtpConnection::connect_tokio1(address, limit, &hello, wrapped, None).await.map_err(|e| words(&e))?;
        if self.tls == Tls::StartTls {
            if !line.can_starttls() {
                line.abort().await;
                return Err("it does not offer STARTTLS, and without encryption nothing is said to it".to_owned());
            }
            line.starttls(parameters()?, &hello).await.map_err(|e| words(&e))?;
        }
        step.set(Step::SignIn);
        if let (Some(user), Some(password)) = (&self.user, password) {
            let credentials = Credentials::new(user.clone(), password.to_owned());
            let answer = line.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
            positive(&mut line, answer).await?;
        }
        let envelope = message.envelope();
        step.set(Step::From);
        let answer = line.command(MailFrom::new(envelope.from().cloned(), vec![])).await;
        positive(&mut line, answer).await?;
        step.set(Step::To);
        for to in envelope.to() {
            // All or nobody: one that is refused must not leave the others with a mail that "failed".
            let answer = line.command(Rcpt::new(to.clone(), vec![])).await;
            positive(&mut line, answer).await.map_err(|why| format!("{to} is refused ({why})"))?;
        }
        step.set(Step::Data);
        match line.command(Data).await {
            Ok(answer) if answer.has_code(354) => Ok(line),
            Ok(answer) => {
                let code = answer.code();
                line.abort().await;
                Err(format!("an answer that does not belong there ({code})"))
            }
            Err(e) => {
                line.abort().await;
                Err(words(&e))
            }
        }
    }

    /// # Errors
    /// The variable with the password is not set.
    fn password(&self) -> Result<Option<String>, String> {
        let Some(name) = &self.password_env else { return Ok(None) };
        match std::env::var(name) {
            Ok(password) if !password.is_empty() => Ok(Some(password)),
            _ => Err(format!("the environment variable {name} is not set; an operator has to set it")),
        }
    }
}

/// A completed step; otherwise the line is closed, since the server may still be in the middle of it.
async fn positive(
    line: &mut AsyncSmtpConnection,
    answer: Result<Response, lettre::transport::smtp::Error>,
) -> Result<(), String> {
    let why = match answer {
        Ok(answer) if answer.code().severity == Severity::PositiveCompletion => return Ok(()),
        Ok(answer) => format!("an answer that does not belong there ({})", answer.code()),
        Err(e) => words(&e),
    };
    line.abort().await;
    Err(why)
}

/// What went wrong. Of a server's answer only its numbers: its words are text from outside (they could even
/// repeat the password), and a model reads this.
fn words(error: &lettre::transport::smtp::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match error.status() {
        Some(code) => match enhanced(&cause.to_string()) {
            Some(enhanced) => format!("{code} {enhanced}"),
            None => code.to_string(),
        },
        None if error.is_response() => "an answer that is not SMTP".to_owned(),
        None => quote(&cause.to_string()),
    }
}

/// The enhanced status code (RFC 3463, `5.1.1`) that an answer begins with: it says which reason it is.
fn enhanced(answer: &str) -> Option<&str> {
    let word = answer.split_whitespace().next()?;
    let parts: Vec<&str> = word.split('.').collect();
    let number = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    (parts.len() == 3 && parts.iter().all(number)).then_some(word)
}

/// Foreign text on one line, short, without what steers a terminal.
fn quote(text: &str) -> String {
    let clean: String = text.chars().filter(|c| !is_unseen(*c) || c.is_whitespace()).collect();
    let line = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= MAX_QUOTE {
        return line;
    }
    line.chars().take(MAX_QUOTE - 1).chain(['…']).collect()
}

fn shown(limit: Duration) -> String {
    span::show(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
}

/// `U+200B`.
fn code(c: char) -> String {
    format!("U+{:04X}", u32::from(c))
}

fn check_subject(subject: &str) -> Result<(), String> {
    if subject.trim().is_empty() {
        return Err("`subject` is empty".to_owned());
    }
    if subject.chars().count() > MAX_SUBJECT {
        return Err(format!("`subject` has more than {MAX_SUBJECT} characters"));
    }
    match subject.chars().find(|c| is_unseen(*c)) {
        Some(c) => Err(format!("`subject` holds {}, which is not seen", code(c))),
        None => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), String> {
    if text.chars().count() > MAX_TEXT {
        return Err(format!("`body` has more than {MAX_TEXT} characters"));
    }
    // A lone carriage return ends a line for some servers only; they could read commands out of a text.
    let rest = text.replace("\r\n", "\n");
    match rest.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        Some(c) => Err(format!("`body` holds the control character {}", code(c))),
        None => Ok(()),
    }
}

/// Reads `ada@example.com` or `Ada Lovelace <ada@example.com>`; the domain comes out in lower case.
///
/// Narrower than the standards on purpose, so that there is one reading only: plain local parts (no
/// quotes, no comments, no `%` or `!` by which old relays route on), domains in ASCII (an
/// internationalised one in its `xn--` form), no addresses of machines.
///
/// # Errors
/// What is wrong, without the whole text: it comes from a model.
pub fn address(text: &str) -> Result<Mailbox, String> {
    let text = text.trim_matches(' ');
    let shown = quote(text);
    let wrong = |why: &str| format!("`{shown}` is not a mail address: {why}");
    if let Some(c) = text.chars().find(|c| is_unseen(*c)) {
        return Err(wrong(&format!("it holds {}, which is not seen", code(c))));
    }
    let (name, email) = match text.strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, email)) => (name.trim(), email),
        None => ("", text),
    };
    let name = name.strip_prefix('"').and_then(|n| n.strip_suffix('"')).unwrap_or(name).trim();
    if name.chars().count() > MAX_DISPLAY_NAME {
        return Err(wrong("the name before it is too long"));
    }
    if name.contains(['<', '>', '@', '"', '\\']) {
        return Err(wrong("the name before it holds one of < > @ \" \\"));
    }
    if email.len() > MAX_ADDRESS {
        return Err(wrong("it is too long"));
    }
    let (local, domain) = email.rsplit_once('@').ok_or_else(|| wrong("it has no @"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-'&=~#$*".contains(c);
    if local.contains('@') {
        return Err(wrong("it has more than one @"));
    }
    if !local.chars().all(plain) || local.is_empty() {
        return Err(wrong("before the @ only plain letters, digits and ._+-'&=~#$* are taken"));
    }
    if !domain.is_ascii() {
        return Err(wrong("write a domain with other than plain letters in its xn-- form"));
    }
    let domain = domain.to_ascii_lowercase();
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !domain.split('.').all(label) || domain.rsplit('.').next().is_none_or(|top| top.parse::<u64>().is_ok()) {
        return Err(wrong("after the @ has to stand the name of a domain"));
    }
    let email = Address::new(local, &domain).map_err(|e| wrong(&e.to_string()))?;
    Ok(Mailbox::new(Some(name.to_owned()).filter(|name| !name.is_empty()), email))
}

/// Reads the address of a sender.
///
/// # Errors
/// As [`address`], with the setting's name.
pub fn sender(text: &str) -> anyhow::Result<Mailbox> {
    address(text).map_err(anyhow::Error::msg).context("from")
}

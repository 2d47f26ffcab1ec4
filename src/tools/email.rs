//! `send_email`: one plain-text mail to people that an operator allows.
//!
//! Owns who may be written to. How a mail is composed and leaves is in [`crate::mail`]. An address that is
//! allowed is one whose domain, or all of it, stands in the settings: a model can choose among these
//! people and write to nobody else, whatever it was told to do.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use lettre::message::Mailbox;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::canon::MailAddress;
use super::{Boxed, CallContext, Spec, Tool, text, typed, written};
use crate::agent::{Outcome, Risk, Timestamp};
use crate::mail::{self, Mail, Mailer, NotSent, SmtpConfig};

/// Most recipients that the settings can allow for one mail: people have to be able to read them on a card.
pub const MOST_RECIPIENTS: usize = 100;

/// The sender where nobody has set one. Good for files only.
const NOBODY: &str = "twelve@localhost";

/// `[tools.email]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmailConfig {
    /// The sender, for example `Support <support@example.com>`. A mail server needs one.
    pub from: String,
    /// Who may be written to: `*@example.com`, single addresses, or `*` for everybody. Nobody by default.
    pub allow: Vec<String>,
    /// Most recipients of one mail, from 1 to [`MOST_RECIPIENTS`].
    pub max_recipients: usize,
    pub transport: Transport,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp: Option<SmtpConfig>,
}

impl Default for EmailConfig {
    fn default() -> Self {
        Self { from: String::new(), allow: Vec::new(), max_recipients: 10, transport: Transport::File, smtp: None }
    }
}

/// How mails leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Files in `<data_dir>/outbox`; nothing is sent.
    #[default]
    File,
    /// The server of `[tools.email.smtp]`.
    Smtp,
}

impl EmailConfig {
    /// Where mails leave with these settings.
    ///
    /// # Errors
    /// The first setting that cannot work, with its path.
    pub fn mailer(&self, data_dir: &Path) -> anyhow::Result<Mailer> {
        let from = if self.from.is_empty() { NOBODY } else { &self.from };
        let from = mail::sender(from).context("in tools.email")?;
        if let Some(server) = &self.smtp {
            server.check().context("in tools.email.smtp")?;
        }
        match self.transport {
            Transport::File => Ok(Mailer::to_files(from, data_dir.join("outbox"))),
            Transport::Smtp => {
                ensure!(!self.from.is_empty(), "in tools.email: from: a mail server needs the address of a sender");
                let Some(server) = &self.smtp else {
                    bail!("in tools.email: transport: \"smtp\" needs the section [tools.email.smtp] with `host`")
                };
                Mailer::to_server(from, server.clone()).context("in tools.email.smtp")
            }
        }
    }
}

/// One entry of `allow`, read.
enum Allowed {
    Everybody,
    /// In lower case.
    Domain(String),
    /// The local part as it is written (RFC 5321 lets case matter there), the domain in lower case.
    One(String),
}

impl Allowed {
    fn read(entry: &str) -> anyhow::Result<Self> {
        if entry == "*" {
            return Ok(Self::Everybody);
        }
        let how = "write an address, `*@example.com`, or `*` for everybody";
        let (probe, whole_domain) = match entry.strip_prefix("*@") {
            Some(domain) => (format!("x@{domain}"), true),
            None => (entry.to_owned(), false),
        };
        ensure!(!probe.contains('*'), "`{entry}`: {how}");
        let mailbox = mail::address(&probe).map_err(|_| anyhow::anyhow!("`{entry}`: {how}"))?;
        ensure!(mailbox.name.is_none(), "`{entry}`: {how}, without a name");
        Ok(if whole_domain {
            Self::Domain(mailbox.email.domain().to_owned())
        } else {
            Self::One(mailbox.email.to_string())
        })
    }

    fn covers(&self, to: &Mailbox) -> bool {
        match self {
            Self::Everybody => true,
            Self::Domain(domain) => to.email.domain() == domain,
            Self::One(address) => AsRef::<str>::as_ref(&to.email) == address,
        }
    }
}

pub struct SendEmail {
    spec: Spec,
    allowed: Vec<Allowed>,
    max_recipients: usize,
    mailer: Mailer,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// Addresses, each like `ada@example.com`. The order does not matter.
    #[schemars(length(min = 1, max = 100))]
    to: Vec<MailAddress>,
    /// The subject, one line.
    #[schemars(length(min = 1, max = 200))]
    subject: String,
    /// The text, plain, with line breaks.
    #[schemars(length(min = 1, max = 20000))]
    body: String,
}

impl SendEmail {
    /// # Errors
    /// The first setting that cannot work, with its path.
    pub fn new(config: &EmailConfig, data_dir: &Path) -> anyhow::Result<Self> {
        ensure!(
            (1..=MOST_RECIPIENTS).contains(&config.max_recipients),
            "in tools.email: max_recipients: has to be from 1 to {MOST_RECIPIENTS}"
        );
        let allowed = config.allow.iter().map(|entry| Allowed::read(entry));
        let allowed = allowed.collect::<Result<Vec<_>, _>>().context("in tools.email.allow")?;
        let who = if config.allow.is_empty() {
            "Nobody may be written to yet.".to_owned()
        } else {
            format!("May be written to: {}.", text::list(config.allow.iter().map(String::as_str), 500))
        };
        let description = format!("Send one plain-text mail. {who}");
        // Of a mail server's answer only the numbers are repeated.
        let spec = Spec::of::<Args>("send_email", description).acts(Risk::Medium).own_words().target(&["to"]);
        let mailer = config.mailer(data_dir)?;
        Ok(Self { spec, allowed, max_recipients: config.max_recipients, mailer })
    }

    /// The mail that the arguments stand for.
    ///
    /// # Errors
    /// What cannot be mailed, or to whom, for the model.
    fn mail(&self, args: Args, id: String, at: Timestamp) -> Result<Mail, String> {
        let Args { to, subject, body } = args;
        if to.len() > self.max_recipients {
            let most = self.max_recipients;
            return Err(format!("{} recipients; at most {most} are allowed (tools.email.max_recipients)", to.len()));
        }
        let mut recipients: Vec<Mailbox> = Vec::with_capacity(to.len());
        for one in &to {
            let mailbox = mail::address(one.as_str())?;
            if !self.allowed.iter().any(|allowed| allowed.covers(&mailbox)) {
                return Err(format!(
                    "`{}` may not be written to; an operator allows recipients in the setting tools.email.allow",
                    text::one_line(mailbox.email.as_ref(), 80)
                ));
            }
            if recipients.iter().any(|known| known.email == mailbox.email) {
                return Err(format!("`{}` is named twice", mailbox.email));
            }
            recipients.push(mailbox);
        }
        Ok(Mail { id, at, to: recipients, subject, text: body })
    }
}

impl Tool for SendEmail {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn timeout(&self) -> Duration {
        /// For a busy machine: the inner limits should end a call, this one only backs them up.
        const SLACK: Duration = Duration::from_secs(10);
        self.mailer.longest() + SLACK
    }

    fn title(&self, args: &Value) -> String {
        let Ok(Args { to, subject, .. }) = typed(args) else { return "Send a mail".to_owned() };
        let first = to.first().map_or("nobody", MailAddress::as_str);
        match to.len() {
            0 | 1 => format!("Mail {first}: {subject}"),
            n => format!("Mail {first} and {} more: {subject}", n - 1),
        }
    }

    fn check(&self, args: &Value) -> Result<Value, String> {
        let Args { mut to, subject, body } = typed(args)?;
        to.sort();
        // Line ends as they are composed; the server gets its own.
        let args = Args { to, subject: subject.trim().to_owned(), body: body.replace("\r\n", "\n") };
        let canonical = written(&args)?;
        let mail = self.mail(args, "check".to_owned(), Timestamp(0))?;
        self.mailer.compose(&mail)?;
        Ok(canonical)
    }

    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let mail = typed(args).and_then(|args| self.mail(args, call.effect.to_string(), call.now));
            let mail = match mail {
                Ok(mail) => mail,
                Err(error) => return Outcome::Failed { error },
            };
            let to = mail.to.iter().map(|to| to.email.to_string()).collect::<Vec<_>>().join(", ");
            match self.mailer.send(&mail, &call.cancel).await {
                Ok(how) => Outcome::Succeeded { text: format!("mail to {to}: {how}") },
                Err(NotSent::Failed(error)) => Outcome::Failed { error },
                Err(NotSent::Unknown(error)) => Outcome::Unknown { error },
            }
        })
    }
}

//! `lookup_customer` and `create_support_ticket`, over the directory of this program or over a system that
//! speaks HTTP.
//!
//! Owns the two tools, their settings and what a model reads of a customer. The directory itself is in
//! [`super::directory`]. What is known of customers was written by others, so it counts as text from
//! outside; a ticket harms nobody, so its risk is low, and whether it asks is for the gates to say:
//! `create_support_ticket = "ask"` or `"auto"` under `[gates]` of an agent, or a rule of the policy.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use reqwest::{Method, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::deploy::is_variable;
use super::directory::{BUSY, Customer, Directory, DirectoryError, Found, NewTicket, Priority};
use super::http::{Answer, Http, NoAnswer, Payload};
use super::services::{check_placeholders, check_url};
use super::{Boxed, CallContext, Spec, Tool, or_default, text, typed, written};
use crate::agent::{Outcome, Risk};

/// Customers that one look-up shows; more are counted, so that a model asks more exactly.
pub const MAX_SHOWN: usize = 5;

/// Longest value of a customer that is shown, in characters: notes, and anything else.
const MAX_NOTES: usize = 1_000;
const MAX_VALUE: usize = 200;

/// Most further fields of a customer that are shown.
const MAX_EXTRA: usize = 20;

/// `[tools.support]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupportConfig {
    pub backend: BackEnd,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpDesk>,
}

/// Where customers and tickets are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackEnd {
    /// In [`super::directory`], filled by `twelve customers import`.
    #[default]
    Directory,
    /// In the system of `[tools.support.http]`.
    Http,
}

/// A system that has customers and takes tickets: `[tools.support.http]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpDesk {
    /// A GET of it, with `{query}` replaced, answers with a JSON list of customers (or an object with such a
    /// list as `customers`, and perhaps their number as `total`). `id` names a customer; `name`, `email`,
    /// `company`, `plan`, `notes` and any others are shown. A 404 says that there is none.
    pub customers_url: String,
    /// A POST to it of `customer`, `subject`, `body` and `priority` opens a ticket and answers with its
    /// `number` (or `id`). It carries an `Idempotency-Key`, by which the same call twice has to be one ticket.
    pub tickets_url: String,
    /// Name of the environment variable with the bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_env: Option<String>,
    /// How long an answer may take, in milliseconds.
    #[serde(default = "ten_seconds", with = "crate::agent::span")]
    pub timeout: u64,
}

fn ten_seconds() -> u64 {
    10_000
}

impl HttpDesk {
    fn check(&self) -> anyhow::Result<()> {
        check_placeholders(&self.customers_url, &["query"]).context("in customers_url")?;
        ensure!(
            self.customers_url.contains("{query}"),
            "customers_url: it has no `{{query}}`, so it finds always the same"
        );
        check_url(&self.customers_url.replace("{query}", "x"), &["http", "https"]).context("in customers_url")?;
        check_placeholders(&self.tickets_url, &[]).context("in tickets_url")?;
        check_url(&self.tickets_url, &["http", "https"]).context("in tickets_url")?;
        ensure!(self.timeout > 0, "timeout: must be longer than 0s");
        if let Some(wrong) = self.token_env.iter().find(|name| !is_variable(name)) {
            let n = wrong.chars().count();
            bail!("token_env: give the name of an environment variable, not the token (got {n} characters)");
        }
        Ok(())
    }

    /// # Errors
    /// Its variable is not set.
    fn token(&self) -> Result<Option<String>, String> {
        let Some(name) = &self.token_env else { return Ok(None) };
        match std::env::var(name) {
            Ok(token) if !token.is_empty() => Ok(Some(token)),
            _ => Err(format!("the environment variable {name} is not set; an operator has to set it")),
        }
    }

    fn limit(&self) -> Duration {
        Duration::from_millis(self.timeout)
    }

    async fn search(&self, http: &Http, query: &str) -> Result<Found, String> {
        let token = self.token()?;
        let address = self.customers_url.replace("{query}", &percent_encoded(query));
        let url = Url::parse(&address).map_err(|e| format!("the address of the customers is wrong: {e}"))?;
        let answer = http.get_as(url, token.as_deref(), self.limit()).await;
        let answer = answer.map_err(|e| format!("the customers cannot be reached ({})", e.into_text()))?;
        match answer.status {
            200..=299 if !answer.complete => Err("the answer about customers is too long or was cut off".to_owned()),
            200..=299 => found(&answer.body),
            404 => Ok(Found { customers: vec![], total: 0 }),
            _ => Err(format!("the customers cannot be read: {}", said(&answer, token.as_deref()))),
        }
    }

    async fn open_ticket(&self, http: &Http, ticket: &NewTicket, call: &CallContext) -> Result<String, Outcome> {
        let failed = |why: String| Outcome::Failed { error: format!("{why}; no ticket was opened") };
        let unknown = |why: String| Outcome::Unknown {
            error: format!("{why}; look whether there is a ticket before another is opened"),
        };
        let token = self.token().map_err(failed)?;
        let url = Url::parse(&self.tickets_url).map_err(|e| failed(format!("the address of tickets is wrong: {e}")))?;
        let body = json!({
            "customer": ticket.customer, "subject": ticket.subject, "body": ticket.body,
            "priority": ticket.priority.word(),
        });
        let payload = Payload { json: &body, idempotency_key: call.effect.to_string(), bearer: token.as_deref() };
        let answer = match http.send(Method::POST, url, Some(payload), self.limit()).await {
            Ok(answer) => answer,
            Err(NoAnswer::NotSent(why)) => return Err(failed(format!("the ticket system cannot be reached ({why})"))),
            Err(NoAnswer::Lost(why)) => return Err(unknown(format!("the ticket was sent, but {why}"))),
        };
        match answer.status {
            200..=299 => {
                let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let number = ["number", "id"].iter().find_map(|key| scalar(body.get(*key)?));
                let number = number.map(|n| text::one_line(&n, 60)).filter(|n| !n.is_empty());
                number.ok_or_else(|| unknown("the ticket system took the ticket, but told no number".to_owned()))
            }
            // A client error says that it was not accepted; a redirect, that it was not even read.
            300..=499 => Err(failed(format!("the ticket system refused it: {}", said(&answer, token.as_deref())))),
            _ => Err(unknown(format!("the ticket system answered {}", said(&answer, token.as_deref())))),
        }
    }
}

/// `HTTP 503: out of memory`, without the token if the other side repeats it.
fn said(answer: &Answer, token: Option<&str>) -> String {
    let body = String::from_utf8_lossy(&answer.body);
    // Before anything is cut: half a token is still part of a secret.
    let line = text::first_line(&token.map_or_else(|| body.to_string(), |token| body.replace(token, "[token]")));
    if line.is_empty() { format!("HTTP {}", answer.status) } else { format!("HTTP {}: {line}", answer.status) }
}

/// Everything but letters, digits and `-._~` as `%XX` (RFC 3986), so that a query stays one value wherever
/// in an address it stands.
fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// # Errors
/// It is not what [`HttpDesk::customers_url`] should answer.
fn found(body: &[u8]) -> Result<Found, String> {
    let wrong = || "the answer about customers is not a JSON list of customers".to_owned();
    let body: Value = serde_json::from_slice(body).map_err(|_| wrong())?;
    let list = body.as_array().or_else(|| body.get("customers")?.as_array()).ok_or_else(wrong)?;
    let total = body.get("total").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let mut customers = Vec::new();
    for item in list.iter().take(MAX_SHOWN) {
        let fields = item.as_object().ok_or_else(wrong)?;
        let mut customer = Customer::default();
        for (name, value) in fields {
            let Some(value) = scalar(value) else { continue };
            match name.as_str() {
                "id" => customer.id = value,
                "name" => customer.name = value,
                "email" => customer.email = value,
                "company" => customer.company = value,
                "plan" => customer.plan = value,
                "notes" => customer.notes = value,
                _ => customer.extra.push((name.clone(), value)),
            }
        }
        if customer.id.is_empty() {
            return Err("a customer in the answer has no `id`".to_owned());
        }
        customers.push(customer);
    }
    Ok(Found { total: total.max(list.len()), customers })
}

/// What a model reads of a search. Each value is one line: none can pass for another field or customer.
pub fn describe(query: &str, found: &Found) -> String {
    let query = text::one_line(query, 80);
    if found.customers.is_empty() {
        return format!("no customer fits `{query}`");
    }
    let mut out = match found.total {
        1 => format!("1 customer fits `{query}`"),
        n => format!("{n} customers fit `{query}`"),
    };
    for customer in &found.customers {
        let name = text::one_line(&customer.name, MAX_VALUE);
        let _ = write!(out, "\n{}: {name}", text::one_line(&customer.id, MAX_VALUE));
        let known = [("email", &customer.email), ("company", &customer.company), ("plan", &customer.plan)];
        let extra = customer.extra.iter().take(MAX_EXTRA).map(|(name, value)| (name.as_str(), value));
        for (name, value) in known.into_iter().chain(extra).chain([("notes", &customer.notes)]) {
            let most = if name == "notes" { MAX_NOTES } else { MAX_VALUE };
            let value = text::one_line(value, most);
            if !value.is_empty() {
                let _ = write!(out, "\n  {}: {value}", text::one_line(name, 60));
            }
        }
    }
    let more = found.total.saturating_sub(found.customers.len());
    if more > 0 {
        let _ = write!(out, "\n{more} more: be more specific");
    }
    out
}

/// Where customers are looked up and tickets opened, for both tools.
pub struct Desk {
    place: Place,
}

enum Place {
    Directory(Directory),
    Http(HttpDesk, Http),
}

impl Desk {
    /// Opens nothing.
    ///
    /// # Errors
    /// The first setting that cannot work, with its path.
    pub fn new(config: &SupportConfig, data_dir: &Path) -> anyhow::Result<Self> {
        if let Some(http) = &config.http {
            http.check().context("in tools.support.http")?;
        }
        let place = match (config.backend, &config.http) {
            (BackEnd::Directory, _) => Place::Directory(Directory::at(data_dir)),
            (BackEnd::Http, Some(http)) => Place::Http(http.clone(), Http::default()),
            (BackEnd::Http, None) => {
                bail!("in tools.support: backend: \"http\" needs the section [tools.support.http]")
            }
        };
        Ok(Self { place })
    }

    fn longest(&self) -> Duration {
        match &self.place {
            Place::Directory(_) => BUSY,
            Place::Http(http, _) => http.limit(),
        }
    }

    async fn search(&self, query: &str) -> Result<String, String> {
        match &self.place {
            Place::Http(http, client) => Ok(describe(query, &http.search(client, query).await?)),
            Place::Directory(directory) => {
                let (directory, query) = (directory.clone(), query.to_owned());
                blocking(move || {
                    let found = directory.search(&query, MAX_SHOWN).map_err(|e| e.to_string())?;
                    if found.total == 0 && directory.count().map_err(|e| e.to_string())? == 0 {
                        return Err("there are no customers in the directory yet; an operator brings them in with \
                                    `twelve customers import FILE.csv`"
                            .to_owned());
                    }
                    Ok(describe(&query, &found))
                })
                .await?
            }
        }
    }

    async fn open_ticket(&self, ticket: NewTicket, call: &CallContext) -> Result<String, Outcome> {
        let failed = |error: String| Outcome::Failed { error };
        match &self.place {
            Place::Http(http, client) => http.open_ticket(client, &ticket, call).await,
            Place::Directory(directory) => {
                let (directory, effect, at) = (directory.clone(), call.effect.to_string(), call.now);
                let opened: Result<String, DirectoryError> =
                    blocking(move || directory.open_ticket(&effect, at, &ticket)).await.map_err(failed)?;
                opened.map_err(|e| failed(e.to_string()))
            }
        }
    }
}

/// Off the threads that serve everybody: SQLite blocks.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|_| "the directory broke on our side".to_owned())
}

/// For a busy machine: the inner limits should end a call, this one only backs them up.
const SLACK: Duration = Duration::from_secs(10);

pub struct LookupCustomer {
    spec: Spec,
    desk: Arc<Desk>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LookupArgs {
    /// An id, a mail address, a name or a company, or a part of one.
    #[schemars(length(min = 1, max = 200))]
    query: String,
}

impl LookupCustomer {
    pub fn new(desk: Arc<Desk>) -> Self {
        let description = "Look up customers by id, mail address, name or company.";
        Self { spec: Spec::of::<LookupArgs>("lookup_customer", description), desk }
    }
}

impl Tool for LookupCustomer {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn timeout(&self) -> Duration {
        self.desk.longest() + SLACK
    }

    fn title(&self, args: &Value) -> String {
        format!("Look up the customer {}", args.get("query").and_then(Value::as_str).unwrap_or_default())
    }

    fn check(&self, args: &Value) -> Result<Value, String> {
        let LookupArgs { query } = typed(args)?;
        match query.trim() {
            "" => Err("`query` is empty".to_owned()),
            query => written(&LookupArgs { query: query.to_owned() }),
        }
    }

    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let LookupArgs { query } = match typed(args) {
                Ok(args) => args,
                Err(error) => return Outcome::Failed { error },
            };
            let found = tokio::select! {
                biased;
                () = call.cancel.cancelled() => Err("stopped before it was done".to_owned()),
                found = self.desk.search(&query) => found,
            };
            match found {
                Ok(text) => Outcome::Succeeded { text },
                Err(error) => Outcome::Failed { error },
            }
        })
    }
}

pub struct CreateSupportTicket {
    spec: Spec,
    desk: Arc<Desk>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TicketArgs {
    /// The id of the customer, as `lookup_customer` shows it; left out if it is about no customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 320))]
    customer: Option<String>,
    /// One line that says what it is about.
    #[schemars(length(min = 1, max = 200))]
    subject: String,
    /// Everything that whoever takes it up has to know.
    #[schemars(length(min = 1, max = 10000))]
    body: String,
    /// How urgent it is; `normal` if left out.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Priority>")]
    priority: Priority,
}

impl CreateSupportTicket {
    pub fn new(desk: Arc<Desk>) -> Self {
        let description = "Open a ticket for the people of support, about a customer or in general.";
        // The effect is a key: the same call twice is one ticket.
        let spec = Spec::of::<TicketArgs>("create_support_ticket", description).acts(Risk::Low).idempotent();
        // Elsewhere the number, and why a ticket is refused, are the other side's words.
        let spec = if matches!(desk.place, Place::Http(..)) { spec } else { spec.own_words() };
        Self { spec, desk }
    }
}

impl Tool for CreateSupportTicket {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn timeout(&self) -> Duration {
        self.desk.longest() + SLACK
    }

    fn title(&self, args: &Value) -> String {
        let Ok(TicketArgs { customer, subject, .. }) = typed(args) else { return "Open a ticket".to_owned() };
        match customer {
            Some(customer) => format!("Open a ticket for {customer}: {subject}"),
            None => format!("Open a ticket: {subject}"),
        }
    }

    fn check(&self, args: &Value) -> Result<Value, String> {
        let TicketArgs { customer, subject, body, priority } = typed(args)?;
        for (name, value) in [("subject", &subject), ("body", &body)] {
            if value.trim().is_empty() {
                return Err(format!("`{name}` is empty"));
            }
        }
        if subject.chars().any(char::is_control) {
            return Err("`subject` has to be one line".to_owned());
        }
        let customer = customer.map(|id| id.trim().to_owned());
        if customer.as_deref() == Some("") {
            return Err("`customer` is empty; leave it out if the ticket is about no customer".to_owned());
        }
        written(&TicketArgs { customer, subject: subject.trim().to_owned(), body, priority })
    }

    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let TicketArgs { customer, subject, body, priority } = match typed(args) {
                Ok(args) => args,
                Err(error) => return Outcome::Failed { error },
            };
            if call.cancel.is_cancelled() {
                return Outcome::Failed { error: "stopped before the ticket was opened".to_owned() };
            }
            let ticket = NewTicket { customer, subject, body, priority };
            match self.desk.open_ticket(ticket, call).await {
                Ok(number) => Outcome::Succeeded { text: format!("opened the ticket {number}") },
                Err(outcome) => outcome,
            }
        })
    }
}

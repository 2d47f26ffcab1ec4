//! Tools: the one open set of the program, hence the one trait.
//!
//! This module owns what a tool is, the [`Registry`] that knows them, validation of arguments, output
//! caps and timeouts. It does not decide whether a call may run: that is the core's gate
//! ([`crate::agent`]), and the runtime asks it before it calls [`Registry::run`].
//!
//! The tools themselves: [`basic`] (`log_message`, `sleep`), [`status`] (`check_service_status`),
//! [`deploy`] (`deploy_service`): what these two know of services is in [`services`]. [`fetch`] (`http_get`,
//! `http_post`) goes where a model says, through the guard in [`guarded`]; [`files`] (`read_file`,
//! `write_file`) stays in one directory. [`email`] (`send_email`); [`support`] (`lookup_customer`,
//! `create_support_ticket`): the directory of customers and tickets that this program keeps itself is in
//! [`directory`].
//!
//! Arguments have one spelling ([`canon`]): [`Tool::check`] gives the canonical ones, and everything after it (gate,
//! title, card, digest, window, run) sees these and no others. A tool normalises nothing after its check.

mod address;
pub mod basic;
pub mod canon;
mod command;
pub mod deploy;
pub mod directory;
pub mod email;
pub mod fetch;
pub mod files;
pub mod guarded;
mod http;
mod schema;
pub mod services;
mod spec;
pub mod status;
pub mod support;
mod text;

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::agent::{EffectId, Outcome, Plan, Timestamp, ToolDecl, ToolFacts, json, span};

pub use canon::pattern::Values;
pub use schema::schema_of;
pub use services::ToolsConfig;
pub use spec::Spec;
pub use text::{MAX_ERROR, MAX_OUTPUT};

/// Longest text of arguments that is read, in bytes. Ten times what a model writes in one reply.
pub const MAX_ARGUMENTS: usize = 256 * 1024;

/// Longest reason for refusing a call, in characters: it goes back to the model, which pays for it.
pub const MAX_REFUSAL: usize = 300;

/// Longest title in characters; Slack's header has room for 150 with its prefix.
pub const MAX_TITLE: usize = 130;

/// Longest time that a plan may take: people and the model wait for it.
pub const PLAN_TIMEOUT: Duration = Duration::from_secs(30);

/// A boxed future, so that the trait is object safe.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a running call is given besides its arguments.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// Idempotency key: the same for every attempt of this call.
    pub effect: EffectId,
    /// The moment at which the runtime started the call.
    pub now: Timestamp,
    /// Fires when the thread is cancelled; a tool that can stop, stops. A drain does not fire it: it waits.
    pub cancel: CancellationToken,
}

/// Something an agent can do.
pub trait Tool: Send + Sync {
    /// What it says of itself.
    fn spec(&self) -> &Spec;

    fn facts(&self) -> &ToolFacts {
        &self.spec().facts
    }

    /// JSON schema of the arguments, without `$ref`, `additionalProperties: false`.
    fn schema(&self) -> &Value {
        &self.spec().schema
    }

    /// The values of a kind of argument that this tool takes, where the settings list them.
    fn known(&self, _kind: canon::Kind) -> Option<Values> {
        None
    }

    /// How long one call may take.
    fn timeout(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// One sentence saying what the call does, for the card's first line: "Deploy api v1.2.3 to staging".
    fn title(&self, args: &Value) -> String;

    /// The canonical arguments: what a rule sees, people are shown, a digest binds, and [`Tool::plan`] and
    /// [`Tool::run`] act on as they are. Canonical arguments are given back unchanged. Makes all checks beyond the
    /// schema that need no I/O (known service, allowed version).
    ///
    /// # Errors
    /// What is refused, with the canonical form where there is one: a short text for the model.
    fn check(&self, args: &Value) -> Result<Value, String> {
        self.spec().canonical(args)
    }

    /// What the call would do right now. Only called if `facts().plans`. The arguments are canonical.
    fn plan<'a>(&'a self, _args: &'a Value) -> Boxed<'a, Result<Plan, String>> {
        Box::pin(async { Err("this tool has no plan".to_owned()) })
    }

    /// Does it. The arguments are canonical.
    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome>;
}

/// Arguments in their canonical form that passed every check that needs no I/O. Only [`Registry`] makes them.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedArgs(Value);

impl CheckedArgs {
    pub fn as_value(&self) -> &Value {
        &self.0
    }

    pub fn into_value(self) -> Value {
        self.0
    }
}

/// The tools of this process, in a fixed order. Immutable once it is built.
pub struct Registry {
    entries: Vec<Entry>,
}

struct Entry {
    tool: Arc<dyn Tool>,
    /// The schema as providers are told it.
    shown: Value,
    /// Compiled at the first call: a process that only lists threads never pays for it.
    validator: OnceLock<Result<jsonschema::Validator, String>>,
}

impl Registry {
    /// The built-in tools, wired to what the settings name; what they keep themselves is in `data_dir`.
    ///
    /// # Errors
    /// A setting that cannot work, with its path.
    pub fn from_config(config: &ToolsConfig, data_dir: &Path) -> anyhow::Result<Registry> {
        let web = Arc::new(guarded::Web::new(config.http.clone())?);
        let files = Arc::new(files::Files::new(&config.files, data_dir)?);
        let services = Arc::new(services::Services::new(config.clone())?);
        let desk = Arc::new(support::Desk::new(&config.support, data_dir)?);
        Registry::new(vec![
            Arc::new(basic::LogMessage::new()),
            Arc::new(basic::Sleep::new()),
            Arc::new(status::CheckServiceStatus::new(services.clone())),
            Arc::new(deploy::DeployService::new(services)),
            Arc::new(fetch::HttpGet::new(web.clone())),
            Arc::new(fetch::HttpPost::new(web)),
            Arc::new(files::ReadFile::new(files.clone())),
            Arc::new(files::WriteFile::new(files)),
            Arc::new(email::SendEmail::new(&config.email, data_dir)?),
            Arc::new(support::LookupCustomer::new(desk.clone())),
            Arc::new(support::CreateSupportTicket::new(desk)),
        ])
    }

    /// A registry of these tools, in this order.
    ///
    /// # Errors
    /// Two tools of one name, a name that a provider would refuse (the vendors agree on
    /// `[a-zA-Z0-9_-]`, 1 to 64), a schema that is not that of an object, or one with references.
    pub fn new(tools: Vec<Arc<dyn Tool>>) -> anyhow::Result<Registry> {
        let mut entries: Vec<Entry> = Vec::with_capacity(tools.len());
        for tool in tools {
            let name = &tool.facts().name;
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            ensure!(
                (1..=64).contains(&name.len()) && name.chars().all(legal),
                "the tool name `{name}` is not 1 to 64 letters, digits, `_` or `-`"
            );
            if entries.iter().any(|e| e.tool.facts().name == *name) {
                bail!("there are two tools with the name `{name}`");
            }
            check_schema(tool.schema()).with_context(|| format!("the schema of the tool `{name}`"))?;
            let shown = canon::undeclared(tool.schema());
            entries.push(Entry { tool, shown, validator: OnceLock::new() });
        }
        Ok(Registry { entries })
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|e| e.tool.facts().name.as_str())
    }

    pub fn facts(&self, name: &str) -> Option<&ToolFacts> {
        self.entry(name).map(|e| e.tool.facts())
    }

    /// How long a call of this tool may take.
    pub fn timeout(&self, name: &str) -> Option<Duration> {
        self.entry(name).map(|e| e.tool.timeout())
    }

    /// What a provider is told of these tools, in the order given. Unknown names are left out: an
    /// agent that names one is refused at start.
    pub fn decls<S: AsRef<str>>(&self, names: &[S]) -> Vec<ToolDecl> {
        let entries = names.iter().filter_map(|name| self.entry(name.as_ref()));
        entries
            .map(|e| ToolDecl {
                name: e.tool.facts().name.clone(),
                description: e.tool.facts().description.clone(),
                schema: e.shown.clone(),
            })
            .collect()
    }

    /// Reads and checks arguments as a model wrote them, and gives the canonical ones. An empty text stands for no
    /// arguments.
    ///
    /// # Errors
    /// What is wrong and what is allowed, in at most [`MAX_REFUSAL`] characters, for the model.
    pub fn check(&self, name: &str, raw_arguments: &str) -> Result<CheckedArgs, String> {
        let entry = self.known(name)?;
        if raw_arguments.len() > MAX_ARGUMENTS {
            let (given, most) = (raw_arguments.len(), MAX_ARGUMENTS);
            return Err(format!("the arguments of `{name}` are {given} bytes long; at most {most} are read"));
        }
        let text = if raw_arguments.trim().is_empty() { "{}" } else { raw_arguments };
        let args = json::parse(text).map_err(|e| refusal(name, &e.to_string()))?;
        entry.check(args).map(CheckedArgs)
    }

    /// The same for arguments that were already read strictly.
    ///
    /// # Errors
    /// As [`Registry::check`].
    pub fn check_value(&self, name: &str, args: Value) -> Result<CheckedArgs, String> {
        self.known(name)?.check(args).map(CheckedArgs)
    }

    /// The schema of the argument at a dotted path, as in a rule.
    pub fn argument(&self, name: &str, path: &str) -> Option<&Value> {
        schema::at(self.entry(name)?.tool.schema(), path)
    }

    /// What the argument at a dotted path can be, if that is declared: a kind, or known words.
    pub fn values(&self, name: &str, path: &str) -> Option<Values> {
        let (tool, schema) = (&self.entry(name)?.tool, self.argument(name, path)?);
        let kind = canon::Kind::of(schema);
        if let Some(known) = kind.and_then(|kind| tool.known(kind)) {
            return Some(known);
        }
        let words = schema.get("enum").and_then(Value::as_array);
        let words = words.map(|words| words.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        words.map(|names| Values::Known { what: "value", names }).or_else(|| kind.map(Values::Kind))
    }

    /// One line of at most [`MAX_TITLE`] characters saying what the call does. Total: a tool that is
    /// gone, or arguments that do not fit, still get a line.
    pub fn title(&self, name: &str, args: &Value) -> String {
        let title = self.entry(name).and_then(|e| catch_unwind(AssertUnwindSafe(|| e.tool.title(args))).ok());
        match title.map(|t| text::one_line(&t, MAX_TITLE)) {
            Some(title) if !title.is_empty() => title,
            _ => text::one_line(&format!("Call {name}"), MAX_TITLE),
        }
    }

    /// What the call would do right now, within [`PLAN_TIMEOUT`] and the tool's own timeout.
    ///
    /// # Errors
    /// Why there is no plan; it is the call's result then, and nobody is asked.
    pub async fn plan(&self, name: &str, args: &Value) -> Result<Plan, String> {
        let entry = self.known(name)?;
        entry.still_canonical(args)?;
        let limit = entry.tool.timeout().min(PLAN_TIMEOUT);
        let plan = match tokio::time::timeout(limit, contained(async { entry.tool.plan(args).await })).await {
            Ok(Ok(plan)) => plan,
            Ok(Err(panic)) => Err(broke(name, &panic)),
            Err(_) => Err(format!("the plan of `{name}` timed out after {}", shown(limit))),
        };
        match plan {
            Ok(plan) => Ok(Plan { summary: text::one_line(&plan.summary, MAX_REFUSAL), facts: plan.facts }),
            Err(error) => Err(text::cap(error, MAX_ERROR)),
        }
    }

    /// Does it, within the tool's timeout. A tool that panics or does not come back takes nothing else
    /// with it. What it says is capped to [`MAX_OUTPUT`], errors to [`MAX_ERROR`].
    ///
    /// The arguments are checked again, and refused where they are not canonical: settings, or what is canonical,
    /// may have changed since they were approved.
    /// A tool that blocks its thread cannot be timed out; tools await, or use `spawn_blocking`.
    pub async fn run(&self, name: &str, args: &Value, call: &CallContext) -> Outcome {
        let entry = match self.known(name).and_then(|e| e.still_canonical(args).map(|()| e)) {
            Ok(entry) => entry,
            Err(error) => return Outcome::Failed { error },
        };
        let facts = entry.tool.facts();
        let cut_off = |why: String| {
            if facts.side_effects && !facts.idempotent {
                Outcome::Unknown { error: format!("{why}; nobody can tell whether it took effect") }
            } else {
                Outcome::Failed { error: why }
            }
        };
        let limit = entry.tool.timeout();
        let ran = tokio::time::timeout(limit, contained(async { entry.tool.run(args, call).await })).await;
        bounded(match ran {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => {
                tracing::error!(tool.name = name, panic, "a tool panicked");
                cut_off(broke(name, &panic))
            }
            Err(_) => cut_off(format!("timed out after {}", shown(limit))),
        })
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.tool.facts().name == name)
    }

    fn known(&self, name: &str) -> Result<&Entry, String> {
        // Names of other tools are not told: they may be those of another agent.
        self.entry(name).ok_or_else(|| format!("there is no tool `{}`", text::one_line(name, 60)))
    }
}

impl Entry {
    /// The canonical arguments.
    fn check(&self, args: Value) -> Result<Value, String> {
        let args = canon::numbers(args);
        let canonical = self.once(&args)?;
        // What is canonical is its own canonical form: a tool of which that is not true takes nothing.
        if canonical != args && self.once(&canonical)? != canonical {
            let name = &self.tool.facts().name;
            return Err(refusal(name, "these arguments have no form that is always read alike"));
        }
        Ok(canonical)
    }

    /// # Errors
    /// Why arguments that were checked before are not what would be checked now.
    fn still_canonical(&self, args: &Value) -> Result<(), String> {
        let name = &self.tool.facts().name;
        let canonical = self.check(args.clone())?;
        if canonical == *args {
            return Ok(());
        }
        let form = text::cut(&json::canonical(&canonical), 120);
        Err(refusal(name, &format!("nothing was done: the arguments are not in their canonical form, which is {form}")))
    }

    fn once(&self, args: &Value) -> Result<Value, String> {
        let name = &self.tool.facts().name;
        match self.validator.get_or_init(|| schema::compile(self.tool.schema())) {
            Err(why) => {
                return Err(refusal(name, &format!("its schema is broken ({why}); an operator has to mend it")));
            }
            Ok(validator) => {
                if let Some(wrong) = schema::violations(validator, self.tool.schema(), args) {
                    return Err(refusal(name, &wrong));
                }
            }
        }
        match catch_unwind(AssertUnwindSafe(|| self.tool.check(args))) {
            Ok(checked) => checked.map(canon::numbers).map_err(|why| refusal(name, &why)),
            Err(panic) => Err(refusal(name, &broke(name, &panic_text(panic.as_ref())))),
        }
    }
}

fn check_schema(schema: &Value) -> anyhow::Result<()> {
    fn has_reference(value: &Value) -> bool {
        match value {
            Value::Object(object) => object.iter().any(|(key, v)| key == "$ref" || has_reference(v)),
            Value::Array(items) => items.iter().any(has_reference),
            _ => false,
        }
    }
    ensure!(schema.get("type").is_some_and(|t| t == "object"), "is not the schema of an object");
    ensure!(!has_reference(schema), "has a `$ref`; not every provider follows one, so write it out");
    ensure!(
        schema.get("additionalProperties") == Some(&Value::Bool(false)),
        "accepts arguments that it does not name; set `additionalProperties` to false"
    );
    Ok(())
}

/// Reads checked arguments into the tool's own type.
fn typed<T: DeserializeOwned>(args: &Value) -> Result<T, String> {
    T::deserialize(args).map_err(|e| e.to_string())
}

/// Writes a tool's own type back as arguments.
fn written<T: Serialize>(args: &T) -> Result<Value, String> {
    serde_json::to_value(args).map_err(|e| format!("the arguments cannot be written back ({e})"))
}

/// Reads an argument for which `null` stands for its default, so that leaving it out, `null` and the default are one.
fn or_default<'de, T, D>(reader: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(reader)?.unwrap_or_default())
}

fn refusal(name: &str, why: &str) -> String {
    text::cut(&format!("{name}: {why}"), MAX_REFUSAL)
}

fn broke(name: &str, panic: &str) -> String {
    format!("`{name}` broke on our side ({panic})")
}

fn shown(limit: Duration) -> String {
    span::show(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX))
}

/// Runs `work`; a panic in it comes back as its text.
pub(crate) async fn contained<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let mut work = pin!(work);
    poll_fn(move |cx| {
        // What a panic left half done lives inside the future, which is dropped and never polled again.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(panic) => Poll::Ready(Err(panic_text(panic.as_ref()))),
        }
    })
    .await
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text::one_line(said.unwrap_or("panic without a text"), text::MAX_QUOTE)
}

fn bounded(outcome: Outcome) -> Outcome {
    let said = |text: String, otherwise: &str| {
        if text.trim().is_empty() { otherwise.to_owned() } else { text }
    };
    match outcome {
        Outcome::Succeeded { text } => {
            Outcome::Succeeded { text: text::cap(said(text, "(done; the tool gave no output)"), MAX_OUTPUT) }
        }
        Outcome::Suspended { until, text } => {
            Outcome::Suspended { until, text: text::cap(said(text, "(done waiting)"), MAX_OUTPUT) }
        }
        Outcome::Failed { error } => {
            Outcome::Failed { error: text::cap(said(error, "failed without saying why"), MAX_ERROR) }
        }
        Outcome::Unknown { error } => {
            Outcome::Unknown { error: text::cap(said(error, "stopped without saying why"), MAX_ERROR) }
        }
    }
}

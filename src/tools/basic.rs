//! `log_message` and `sleep`: the two tools that touch nothing outside.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Boxed, CallContext, Tool, schema_of, text, typed};
use crate::agent::{Outcome, Risk, ToolFacts, span};

/// Writes one line to the process log, under the target `twelve::agent_log`.
pub struct LogMessage {
    facts: ToolFacts,
    schema: Value,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogArgs {
    /// What to write.
    #[schemars(length(min = 1, max = 4000))]
    message: String,
    /// How important it is; `info` if left out.
    #[serde(default)]
    level: Option<Level>,
}

#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Level {
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

impl LogMessage {
    #[expect(clippy::new_without_default, reason = "a tool is built by the registry, never as a placeholder")]
    pub fn new() -> Self {
        let facts = ToolFacts {
            name: "log_message".to_owned(),
            description: "Write a line to the operators' log. Nobody is notified.".to_owned(),
            schema_version: 1,
            risk: Risk::Low,
            side_effects: false,
            // Twice the same line harms nobody, and losing it after a crash would.
            idempotent: true,
            plans: false,
            editable: true,
            outside: false,
            sends: false,
            target: Vec::new(),
        };
        Self { facts, schema: schema_of::<LogArgs>() }
    }
}

impl Tool for LogMessage {
    fn facts(&self) -> &ToolFacts {
        &self.facts
    }

    fn schema(&self) -> &Value {
        &self.schema
    }

    fn title(&self, args: &Value) -> String {
        format!("Log: {}", args.get("message").and_then(Value::as_str).unwrap_or_default())
    }

    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let LogArgs { message, level } = match typed(args) {
                Ok(args) => args,
                Err(error) => return Outcome::Failed { error },
            };
            // One call, one line: a message with line ends could pass for log lines of its own.
            let message: String = text::clean(&message).replace('\n', "\\n");
            let effect = call.effect;
            match level.unwrap_or_default() {
                Level::Debug => tracing::debug!(target: "twelve::agent_log", { effect.id = %effect }, "{message}"),
                Level::Info => tracing::info!(target: "twelve::agent_log", { effect.id = %effect }, "{message}"),
                Level::Warn => tracing::warn!(target: "twelve::agent_log", { effect.id = %effect }, "{message}"),
                Level::Error => tracing::error!(target: "twelve::agent_log", { effect.id = %effect }, "{message}"),
            }
            Outcome::Succeeded { text: "logged".to_owned() }
        })
    }
}

/// Suspends the run until a durable timer fires. Nothing is held meanwhile.
pub struct Sleep {
    facts: ToolFacts,
    schema: Value,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SleepArgs {
    /// How long, in seconds; at most 30 days.
    #[schemars(range(min = 1, max = 2_592_000))]
    seconds: u64,
    /// What is being waited for.
    #[serde(default)]
    #[schemars(length(max = 200))]
    reason: Option<String>,
}

impl Sleep {
    #[expect(clippy::new_without_default, reason = "a tool is built by the registry, never as a placeholder")]
    pub fn new() -> Self {
        let facts = ToolFacts {
            name: "sleep".to_owned(),
            description: "Wait before the next step, from 1 second to 30 days. Survives restarts.".to_owned(),
            schema_version: 1,
            risk: Risk::Low,
            side_effects: false,
            idempotent: true,
            plans: false,
            editable: true,
            outside: false,
            sends: false,
            target: Vec::new(),
        };
        Self { facts, schema: schema_of::<SleepArgs>() }
    }
}

impl Tool for Sleep {
    fn facts(&self) -> &ToolFacts {
        &self.facts
    }

    fn schema(&self) -> &Value {
        &self.schema
    }

    fn title(&self, args: &Value) -> String {
        match typed::<SleepArgs>(args) {
            Ok(SleepArgs { seconds, .. }) => format!("Wait {}", span::show(seconds.saturating_mul(1000))),
            Err(_) => "Wait".to_owned(),
        }
    }

    fn check(&self, args: &Value) -> Result<(), String> {
        // JSON schema takes 90.0 for an integer; we do not.
        typed::<SleepArgs>(args).map(|_| ())
    }

    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let SleepArgs { seconds, reason } = match typed(args) {
                Ok(args) => args,
                Err(error) => return Outcome::Failed { error },
            };
            let reason = reason.map(|r| text::one_line(&r, 200)).filter(|r| !r.is_empty());
            let text = match reason {
                Some(reason) => format!("slept {seconds}s ({reason})"),
                None => format!("slept {seconds}s"),
            };
            Outcome::Suspended { until: call.now.plus_ms(seconds.saturating_mul(1000)), text }
        })
    }
}

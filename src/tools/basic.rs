//! `log_message` and `sleep`: the two tools that touch nothing outside.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Boxed, CallContext, Spec, Tool, or_default, text, typed, written};
use crate::agent::{Outcome, span};

/// Writes one line to the process log, under the target `twelve::agent_log`.
pub struct LogMessage {
    spec: Spec,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LogArgs {
    /// What to write.
    #[schemars(length(min = 1, max = 4000))]
    message: String,
    /// How important it is; `info` if left out.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Level>")]
    level: Level,
}

#[derive(Clone, Copy, Default, Deserialize, Serialize, JsonSchema)]
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
        // Twice the same line harms nobody, and losing it after a crash would.
        let description = "Write a line to the operators' log. Nobody is notified.";
        Self { spec: Spec::of::<LogArgs>("log_message", description).own_words() }
    }
}

impl Tool for LogMessage {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn title(&self, args: &Value) -> String {
        format!("Log: {}", args.get("message").and_then(Value::as_str).unwrap_or_default())
    }

    fn check(&self, args: &Value) -> Result<Value, String> {
        // A rule on the message has to see the line that is written.
        let args: LogArgs = typed(args)?;
        let message = text::clean(&args.message);
        if message.is_empty() {
            return Err("`message` holds nothing that could be written".to_owned());
        }
        written(&LogArgs { message, ..args })
    }

    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let LogArgs { message, level } = match typed(args) {
                Ok(args) => args,
                Err(error) => return Outcome::Failed { error },
            };
            // One call, one line: a message with line ends could pass for log lines of its own.
            let message: String = message.replace('\n', "\\n");
            let effect = call.effect;
            match level {
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
    spec: Spec,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SleepArgs {
    /// How long, in seconds; at most 30 days.
    #[schemars(range(min = 1, max = 2_592_000))]
    seconds: u64,
    /// What is being waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    reason: Option<String>,
}

impl Sleep {
    #[expect(clippy::new_without_default, reason = "a tool is built by the registry, never as a placeholder")]
    pub fn new() -> Self {
        let description = "Wait before the next step, from 1 second to 30 days. Survives restarts.";
        Self { spec: Spec::of::<SleepArgs>("sleep", description).own_words() }
    }
}

impl Tool for Sleep {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn title(&self, args: &Value) -> String {
        match typed::<SleepArgs>(args) {
            Ok(SleepArgs { seconds, .. }) => format!("Wait {}", span::show(seconds.saturating_mul(1000))),
            Err(_) => "Wait".to_owned(),
        }
    }

    fn check(&self, args: &Value) -> Result<Value, String> {
        let SleepArgs { seconds, reason } = typed(args)?;
        let reason = reason.map(|r| text::one_line(&r, 200)).filter(|r| !r.is_empty());
        written(&SleepArgs { seconds, reason })
    }

    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let SleepArgs { seconds, reason } = match typed(args) {
                Ok(args) => args,
                Err(error) => return Outcome::Failed { error },
            };
            let text = match reason {
                Some(reason) => format!("slept {seconds}s ({reason})"),
                None => format!("slept {seconds}s"),
            };
            Outcome::Suspended { until: call.now.plus_ms(seconds.saturating_mul(1000)), text }
        })
    }
}

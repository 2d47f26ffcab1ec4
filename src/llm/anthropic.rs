//! Anthropic's messages, and servers that speak the same.
//!
//! Owns the format of the request and of the reply. A call's `input` is JSON inside the body; its raw
//! text is kept, because parsing it here would hide a key that occurs twice.

use reqwest::header::HeaderName;
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire::Endpoint;
use super::{ConfigError, HttpProviderConfig, malformed, settle};
use crate::agent::{Finish, ModelError, ModelReply, ModelRequest, RawCall, ToolDecl, Usage};

pub const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";
pub const DEFAULT_MODEL: &str = "claude-sonnet-4-5";

/// The interface version that this module was written against.
const VERSION: &str = "2023-06-01";
const WHO: &str = "Anthropic";

/// A server that speaks messages.
pub struct Anthropic {
    endpoint: Endpoint,
}

impl Anthropic {
    /// Opens no connection. A base URL that already ends in `/v1` is taken as such.
    ///
    /// # Errors
    /// If the base URL or the key cannot be used at all.
    pub fn new(config: &HttpProviderConfig) -> Result<Self, ConfigError> {
        let path: fn(&Url) -> &'static [&'static str] =
            |url| if url.path().trim_end_matches('/').ends_with("/v1") { &["messages"] } else { &["v1", "messages"] };
        let key = |key: &str| (HeaderName::from_static("x-api-key"), key.to_owned());
        let endpoint = Endpoint::new(WHO, config, path, key, explain)?.with_header("anthropic-version", VERSION);
        Ok(Self { endpoint })
    }

    pub(super) fn body(&self, request: &ModelRequest) -> Vec<u8> {
        let body = Body {
            model: &request.model,
            max_tokens: request.max_output_tokens,
            system: &request.system,
            messages: [Message { role: "user", content: &request.window }],
            tools: request.tools.iter().map(Offer::new).collect(),
        };
        // Cannot fail: every map in it has string keys.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    pub(super) async fn complete(&self, request: &ModelRequest) -> Result<ModelReply, ModelError> {
        let answer = self.endpoint.post(self.body(request)).await?;
        read(&answer, &request.model)
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    system: &'a str,
    messages: [Message<'a>; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Offer<'a>>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct Offer<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: &'a serde_json::Value,
}

impl<'a> Offer<'a> {
    fn new(tool: &'a ToolDecl) -> Self {
        let ToolDecl { name, description, schema } = tool;
        Self { name, description, input_schema: schema }
    }
}

#[derive(Deserialize)]
struct Answer {
    model: Option<String>,
    content: Vec<Part>,
    stop_reason: Option<String>,
    usage: Option<Tokens>,
}

/// A block of the reply. Not an enum: serde reads tagged enums through a buffer that loses raw text.
#[derive(Deserialize)]
struct Part {
    r#type: String,
    text: Option<String>,
    name: Option<String>,
    input: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    input_tokens: u64,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: u64,
}

/// Reads a reply. Blocks that are neither text nor calls (thinking, for example) are passed over.
fn read(answer: &[u8], asked: &str) -> Result<ModelReply, ModelError> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|e| match e.is_data() {
        true => malformed(WHO, "it is not a message"),
        false => malformed(WHO, "it is not valid JSON"),
    })?;
    let finish = match answer.stop_reason.as_deref() {
        Some("end_turn" | "stop_sequence" | "tool_use") => Finish::Complete,
        Some("max_tokens") => Finish::CutOff,
        Some("model_context_window_exceeded") => Finish::NoRoom,
        Some("refusal") => Finish::Refused,
        // Nobody knows whether such a reply is whole, so none of its calls may run.
        _ => return Err(malformed(WHO, "it does not say in known words why it ended")),
    };
    let mut texts = Vec::new();
    let mut calls = Vec::new();
    for part in answer.content {
        match (part.r#type.as_str(), part.text, part.name, part.input) {
            ("text", Some(text), _, _) => texts.push(text),
            ("tool_use", _, Some(tool), Some(input)) => calls.push(RawCall { tool, arguments: input.get().to_owned() }),
            ("text" | "tool_use", ..) => return Err(malformed(WHO, "a block of it lacks fields")),
            _ => {}
        }
    }
    let usage = answer.usage.map_or_else(Usage::default, |tokens| Usage {
        input: tokens
            .input_tokens
            .saturating_add(tokens.cache_creation_input_tokens.unwrap_or(0))
            .saturating_add(tokens.cache_read_input_tokens.unwrap_or(0)),
        output: tokens.output_tokens,
    });
    let model = answer.model.filter(|model| !model.is_empty()).unwrap_or_else(|| asked.to_owned());
    settle(ModelReply { text: texts.join("\n"), calls, finish, usage, model }, WHO)
}

fn explain(status: StatusCode, body: &[u8]) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Envelope {
        error: Fault,
    }
    #[derive(Deserialize)]
    struct Fault {
        r#type: String,
        message: String,
    }
    let fault = serde_json::from_slice::<Envelope>(body).ok()?.error;
    match (status.as_u16(), fault.r#type.as_str()) {
        (404, "not_found_error") if fault.message.starts_with("model:") => {
            Some("it does not know the model; check its name")
        }
        (400, _) if fault.message.contains("credit balance") => {
            Some("the account has no credit left; check its billing")
        }
        _ => None,
    }
}

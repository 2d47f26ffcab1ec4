//! OpenAI's chat completions, and the many servers that speak the same.
//!
//! Owns the format of the request and of the reply. The system prompt is one message and the window
//! another: the window is our own format, so the vendor's roles for assistant and tool stay unused.

use reqwest::header::AUTHORIZATION;
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire::Endpoint;
use super::{ConfigError, HttpProviderConfig, malformed, settle};
use crate::agent::{Finish, ModelError, ModelReply, ModelRequest, RawCall, ToolDecl, Usage};

pub const DEFAULT_BASE_URL: &str = "https://api.openai.com/v1";
/// Writes its whole output budget as answer; a reasoning model needs a higher `max_output_tokens`.
pub const DEFAULT_MODEL: &str = "gpt-4.1";

const WHO: &str = "OpenAI";

/// How the bound of the reply is spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenLimitField {
    /// OpenAI's own spelling since 2024; reasoning models refuse the other.
    #[default]
    MaxCompletionTokens,
    /// What many compatible servers still know alone.
    MaxTokens,
}

/// A server that speaks chat completions.
pub struct OpenAi {
    endpoint: Endpoint,
    limit: TokenLimitField,
}

impl OpenAi {
    /// Opens no connection.
    ///
    /// # Errors
    /// If the base URL or the key cannot be used at all.
    pub fn new(config: &HttpProviderConfig, limit: TokenLimitField) -> Result<Self, ConfigError> {
        let path: fn(&Url) -> &'static [&'static str] = |_| &["chat", "completions"];
        let endpoint = Endpoint::new(WHO, config, path, |key| (AUTHORIZATION, format!("Bearer {key}")), explain)?;
        Ok(Self { endpoint, limit })
    }

    pub(super) fn body(&self, request: &ModelRequest) -> Vec<u8> {
        let limit = Some(request.max_output_tokens);
        let (max_completion_tokens, max_tokens) = match self.limit {
            TokenLimitField::MaxCompletionTokens => (limit, None),
            TokenLimitField::MaxTokens => (None, limit),
        };
        let body = Body {
            model: &request.model,
            messages: [
                Message { role: "system", content: &request.system },
                Message { role: "user", content: &request.window },
            ],
            tools: request.tools.iter().map(Offer::new).collect(),
            tool_choice: (!request.tools.is_empty()).then_some("auto"),
            max_completion_tokens,
            max_tokens,
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
    messages: [Message<'a>; 2],
    /// The API refuses an empty list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Offer<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_completion_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct Offer<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a serde_json::Value,
}

impl<'a> Offer<'a> {
    fn new(tool: &'a ToolDecl) -> Self {
        let ToolDecl { name, description, schema } = tool;
        Self { r#type: "function", function: Function { name, description, parameters: schema } }
    }
}

#[derive(Deserialize)]
struct Answer {
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Choice {
    message: Reply,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Reply {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    function: Chosen,
}

#[derive(Deserialize)]
struct Chosen {
    name: String,
    /// A string of JSON; some compatible servers send the object itself.
    arguments: Box<RawValue>,
}

#[derive(Deserialize)]
struct Tokens {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// Reads a reply. A server that counts no tokens counts as 0: the step budget still bounds the run.
fn read(answer: &[u8], asked: &str) -> Result<ModelReply, ModelError> {
    let answer: Answer = serde_json::from_slice(answer).map_err(|e| match e.is_data() {
        true => malformed(WHO, "it is not a chat completion"),
        false => malformed(WHO, "it is not valid JSON"),
    })?;
    let Some(choice) = answer.choices.into_iter().next() else {
        return Err(malformed(WHO, "it has no choices"));
    };
    let finish = match choice.finish_reason.as_deref() {
        Some("stop" | "tool_calls" | "function_call") => Finish::Complete,
        Some("length") => Finish::CutOff,
        Some("model_length") => Finish::NoRoom,
        Some("content_filter") => Finish::Refused,
        // Nobody knows whether such a reply is whole, so none of its calls may run.
        _ => return Err(malformed(WHO, "it does not say in known words why it ended")),
    };
    let refusal = choice.message.refusal.filter(|text| !text.is_empty());
    let calls = choice.message.tool_calls.unwrap_or_default().into_iter().map(|call| RawCall {
        tool: call.function.name,
        arguments: match serde_json::from_str::<String>(call.function.arguments.get()) {
            Ok(text) => text,
            Err(_) => call.function.arguments.get().to_owned(),
        },
    });
    let usage = answer
        .usage
        .map_or_else(Usage::default, |tokens| Usage { input: tokens.prompt_tokens, output: tokens.completion_tokens });
    let reply = ModelReply {
        calls: calls.collect(),
        finish: if refusal.is_some() { Finish::Refused } else { finish },
        text: refusal.or(choice.message.content).unwrap_or_default(),
        usage,
        model: answer.model.filter(|model| !model.is_empty()).unwrap_or_else(|| asked.to_owned()),
    };
    settle(reply, WHO)
}

fn explain(_: StatusCode, body: &[u8]) -> Option<&'static str> {
    #[derive(Deserialize)]
    struct Envelope {
        error: Fault,
    }
    #[derive(Deserialize)]
    struct Fault {
        code: Option<String>,
        r#type: Option<String>,
    }
    let fault = serde_json::from_slice::<Envelope>(body).ok()?.error;
    [fault.code, fault.r#type].iter().flatten().find_map(|word| match word.as_str() {
        "model_not_found" => Some("it does not know the model; check its name"),
        "insufficient_quota" => Some("the account's quota is used up; check its billing"),
        _ => None,
    })
}

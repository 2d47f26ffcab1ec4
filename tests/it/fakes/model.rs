//! Fakes of OpenAI's chat completions and Anthropic's messages on loopback.
//!
//! A test queues [`Answer`]s, the same for both vendors, and the fake says them in its vendor's format.
//! Each request is checked against the vendor's own rules first; what the real service would refuse is
//! answered with 400 and fails the test at the end. So do an answer that nobody fetched and a request
//! for which there was no answer.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::ReaderStream;
use twelve::llm::{Anthropic, HttpProviderConfig, OpenAi, Provider, TokenLimitField};

/// The only key that the fakes let in.
pub const KEY: &str = "test-key-0123456789";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    OpenAi,
    Anthropic,
}

impl Vendor {
    pub const BOTH: [Vendor; 2] = [Vendor::OpenAi, Vendor::Anthropic];

    /// As it is named in messages.
    pub fn label(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::Anthropic => "Anthropic",
        }
    }

    /// A provider for this vendor's format at any address.
    pub fn provider(self, config: &HttpProviderConfig) -> Provider {
        match self {
            Self::OpenAi => Provider::OpenAi(OpenAi::new(config, TokenLimitField::default()).unwrap()),
            Self::Anthropic => Provider::Anthropic(Anthropic::new(config).unwrap()),
        }
    }
}

/// What a fake does with one request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Text, and done.
    Say(String),
    /// Prose (may be empty) and calls: names with the raw JSON text of their arguments.
    Call { text: String, calls: Vec<(String, String)> },
    /// The vendor's way to decline, with what it says about that.
    Refuse(String),
    /// Text that ran into the output limit.
    CutInText(String),
    /// One whole call, and one whose arguments ran into the output limit.
    CutInArguments { tool: String },
    /// A well-formed reply that holds nothing.
    Empty,
    /// This status with these headers and this body.
    Status { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// 200 with this body.
    Body(String),
    /// 200 and half of a reply; then the connection breaks.
    HalfBody,
    /// 200 and half of a reply; then nothing more, while the connection stays.
    StalledBody,
    /// No answer at all, while the connection stays.
    Silence,
    /// This answer, once the test lets it out.
    Later(Arc<tokio::sync::Semaphore>, Box<Answer>),
}

impl Answer {
    pub fn say(text: &str) -> Self {
        Self::Say(text.to_owned())
    }

    pub fn call(tool: &str, args: Value) -> Self {
        Self::Call { text: String::new(), calls: vec![(tool.to_owned(), args.to_string())] }
    }

    pub fn status(status: u16) -> Self {
        Self::Status { status, headers: Vec::new(), body: String::new() }
    }

    fn body(&self, vendor: Vendor, model: &str) -> String {
        match vendor {
            Vendor::OpenAi => self.open_ai(model),
            Vendor::Anthropic => self.anthropic(model),
        }
    }

    fn open_ai(&self, model: &str) -> String {
        // Arguments are a JSON string there, so cut ones are still valid JSON outside.
        let call = |(i, (tool, args)): (usize, &(String, String))| json!({"id": format!("call_{i}"), "type": "function", "function": {"name": tool, "arguments": args}});
        let (message, finish) = match self {
            Self::Say(text) => (json!({"role": "assistant", "content": text, "refusal": null}), "stop"),
            Self::Call { text, calls } => {
                let content = if text.is_empty() { Value::Null } else { json!(text) };
                let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
                (json!({"role": "assistant", "content": content, "refusal": null, "tool_calls": calls}), "tool_calls")
            }
            Self::Refuse(text) => (json!({"role": "assistant", "content": null, "refusal": text}), "stop"),
            Self::CutInText(text) => (json!({"role": "assistant", "content": text, "refusal": null}), "length"),
            Self::CutInArguments { tool } => {
                let calls = [(tool.clone(), "{\"n\":1}".to_owned()), (tool.clone(), "{\"version\":\"v1.2".to_owned())];
                let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
                (json!({"role": "assistant", "content": null, "tool_calls": calls}), "length")
            }
            Self::Empty => (json!({"role": "assistant", "content": null, "refusal": null}), "stop"),
            other => panic!("{other:?} is no reply"),
        };
        json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1_790_000_000, "model": format!("{model}-2026"),
            "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish}],
            "usage": {"prompt_tokens": 120, "completion_tokens": 30, "total_tokens": 150, "prompt_tokens_details": {"cached_tokens": 100}},
        })
        .to_string()
    }

    fn anthropic(&self, model: &str) -> String {
        let text_block = |text: &str| json!({"type": "text", "text": text}).to_string();
        // Written by hand: the arguments' raw text has to survive, duplicate keys included.
        let call = |(i, (tool, args)): (usize, &(String, String))| {
            format!(r#"{{"type":"tool_use","id":"toolu_{i}","name":{},"input":{args}}}"#, json!(tool))
        };
        let (blocks, stop) = match self {
            Self::Say(text) => (vec![text_block(text)], "end_turn"),
            Self::Call { text, calls } => {
                let mut blocks = Vec::new();
                if !text.is_empty() {
                    blocks.push(text_block(text));
                }
                blocks.extend(calls.iter().enumerate().map(call));
                (blocks, "tool_use")
            }
            Self::Refuse(text) => (vec![text_block(text)], "refusal"),
            Self::CutInText(text) => (vec![text_block(text)], "max_tokens"),
            // The service closes what was cut, so the half call looks whole.
            Self::CutInArguments { tool } => {
                let calls = [(tool.clone(), "{\"n\":1}".to_owned()), (tool.clone(), "{}".to_owned())];
                (calls.iter().enumerate().map(call).collect(), "max_tokens")
            }
            Self::Empty => (Vec::new(), "end_turn"),
            other => panic!("{other:?} is no reply"),
        };
        format!(
            r#"{{"id":"msg_1","type":"message","role":"assistant","model":"{model}-2026","content":[{}],"stop_reason":"{stop}","stop_sequence":null,"usage":{{"input_tokens":20,"cache_creation_input_tokens":30,"cache_read_input_tokens":70,"output_tokens":30}}}}"#,
            blocks.join(",")
        )
    }
}

/// A request as it came in.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Received {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

#[derive(Default)]
struct Log {
    answers: VecDeque<Answer>,
    received: Vec<Received>,
    complaints: Vec<String>,
}

/// A model vendor on loopback. Checks itself when it goes out of scope.
pub struct FakeModel {
    vendor: Vendor,
    root: String,
    log: Arc<Mutex<Log>>,
    server: tokio::task::JoinHandle<()>,
}

impl FakeModel {
    pub async fn start(vendor: Vendor, answers: impl IntoIterator<Item = Answer>) -> Self {
        crate::crypto();
        let log = Arc::new(Mutex::new(Log { answers: answers.into_iter().collect(), ..Log::default() }));
        let app = Router::new().fallback(answer).with_state((vendor, log.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let root = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { vendor, root, log, server }
    }

    /// The base URL as an operator would set it.
    pub fn base_url(&self) -> String {
        match self.vendor {
            Vendor::OpenAi => format!("{}/v1", self.root),
            Vendor::Anthropic => self.root.clone(),
        }
    }

    /// Scheme, host and port.
    pub fn root(&self) -> &str {
        &self.root
    }

    pub fn config(&self) -> HttpProviderConfig {
        HttpProviderConfig::new(self.base_url(), KEY)
    }

    /// A provider that asks this fake.
    pub fn provider(&self) -> Provider {
        self.vendor.provider(&self.config())
    }

    /// Queues one more answer.
    pub fn push(&self, answer: Answer) {
        lock(&self.log).answers.push_back(answer);
    }

    /// All requests so far, oldest first.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.log).received.clone()
    }
}

impl Drop for FakeModel {
    fn drop(&mut self) {
        self.server.abort();
        if !std::thread::panicking() {
            let log = lock(&self.log);
            assert!(log.complaints.is_empty(), "{:?} would refuse this: {:#?}", self.vendor, log.complaints);
            assert!(log.answers.is_empty(), "{:?} was never asked for: {:#?}", self.vendor, log.answers);
        }
    }
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    State((vendor, log)): State<(Vendor, Arc<Mutex<Log>>)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let received = Received { path: uri.path().to_owned(), headers, body: body.to_vec() };
    let problems = match vendor {
        Vendor::OpenAi => open_ai_problems(&method, &received),
        Vendor::Anthropic => anthropic_problems(&method, &received),
    };
    let model = serde_json::from_slice::<Value>(&received.body)
        .ok()
        .and_then(|body| Some(body.get("model")?.as_str()?.to_owned()))
        .unwrap_or_default();
    let next = {
        let mut log = lock(&log);
        log.received.push(received);
        if !problems.is_empty() {
            log.complaints.extend(problems);
            return plain(400, &[], r#"{"error":{"type":"invalid_request_error","message":"see the complaints"}}"#);
        }
        match log.answers.pop_front() {
            Some(next) => next,
            None => {
                log.complaints.push("a request for which no answer was queued".to_owned());
                return plain(500, &[], "");
            }
        }
    };
    let half = |then| {
        let whole = Answer::say("a reply long enough to be cut in two").body(vendor, &model);
        let bytes = whole.into_bytes()[..60].to_vec();
        Response::new(Body::from_stream(ReaderStream::new(Half { bytes: Some(bytes), flushed: false, then })))
    };
    let next = match next {
        Answer::Later(gate, next) => {
            gate.acquire().await.unwrap().forget();
            *next
        }
        next => next,
    };
    match next {
        Answer::Status { status, headers, body } => plain(status, &headers, &body),
        Answer::Body(body) => plain(200, &[], &body),
        Answer::HalfBody => half(Then::Break),
        Answer::StalledBody => half(Then::Stall),
        Answer::Silence => std::future::pending().await,
        reply => plain(200, &[], &reply.body(vendor, &model)),
    }
}

fn plain(status: u16, headers: &[(&'static str, String)], body: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_owned()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.parse().unwrap());
    }
    response
}

#[derive(Clone, Copy)]
enum Then {
    Break,
    Stall,
}

/// A body that is sent, flushed, and then breaks or never ends.
struct Half {
    bytes: Option<Vec<u8>>,
    flushed: bool,
    then: Then,
}

impl AsyncRead for Half {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(bytes) = self.bytes.take() {
            buf.put_slice(&bytes);
            return Poll::Ready(Ok(()));
        }
        match self.then {
            Then::Stall => Poll::Pending,
            // Once pending, so that the server writes out what it has.
            Then::Break if !self.flushed => {
                self.flushed = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Then::Break => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

/// Collects what is wrong with a request.
struct Check<'a> {
    problems: Vec<String>,
    received: &'a Received,
}

impl Check<'_> {
    fn that(&mut self, holds: bool, rule: &str) {
        if !holds {
            self.problems.push(format!("{rule}; got {}", String::from_utf8_lossy(&self.received.body)));
        }
    }

    fn header(&mut self, name: &str, value: &str) {
        let got = self.received.headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect::<Vec<_>>();
        if got != [value] {
            self.problems.push(format!("the header {name} has to be `{value}` once; got {got:?}"));
        }
    }

    fn only_keys(&mut self, value: &Value, allowed: &[&str], required: &[&str]) {
        let keys: Vec<&str> = value.as_object().map(|o| o.keys().map(String::as_str).collect()).unwrap_or_default();
        for key in &keys {
            self.that(allowed.contains(key) || required.contains(key), &format!("`{key}` is not known"));
        }
        for key in required {
            self.that(keys.contains(key), &format!("`{key}` is required"));
        }
    }

    /// What both vendors ask of a tool.
    fn tool(&mut self, tool: &Value, schema_key: &str) {
        let name = tool["name"].as_str().unwrap_or_default();
        let letters = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        self.that(!name.is_empty() && name.len() <= 64 && letters, "a tool's name has 1 to 64 of a-z A-Z 0-9 _ -");
        self.that(tool["description"].is_string(), "a tool's description is a string");
        self.that(tool[schema_key]["type"] == "object", "a tool's schema is an object schema");
        self.only_keys(tool, &[], &["name", "description", schema_key]);
    }
}

fn start_check<'a>(method: &Method, received: &'a Received, path_end: &str) -> (Check<'a>, Value) {
    let mut check = Check { problems: Vec::new(), received };
    check.that(method == Method::POST, "only POST");
    check.that(received.path.ends_with(path_end), &format!("the path ends with {path_end}"));
    check.header("content-type", "application/json");
    let body: Value = serde_json::from_slice(&received.body).unwrap_or_default();
    check.that(body.is_object(), "the body is a JSON object");
    check.that(body["model"].as_str().is_some_and(|model| !model.is_empty()), "`model` is a non-empty string");
    (check, body)
}

fn is_limit(value: &Value) -> bool {
    value.as_u64().is_some_and(|n| n > 0)
}

fn open_ai_problems(method: &Method, received: &Received) -> Vec<String> {
    let (mut check, body) = start_check(method, received, "/chat/completions");
    check.header("authorization", &format!("Bearer {KEY}"));
    check.only_keys(&body, &["tools", "tool_choice", "max_completion_tokens", "max_tokens"], &["model", "messages"]);
    let limits = [&body["max_completion_tokens"], &body["max_tokens"]];
    check.that(limits.iter().filter(|l| is_limit(l)).count() == 1, "exactly one bound of the reply, above 0");
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let roles: Vec<&str> = messages.iter().filter_map(|m| m["role"].as_str()).collect();
    check.that(roles == ["system", "user"], "one system message and then one user message");
    for message in &messages {
        check.only_keys(message, &[], &["role", "content"]);
        check.that(message["content"].is_string(), "the content of a message is a string");
    }
    if let Some(tools) = body.get("tools") {
        check.that(tools.as_array().is_some_and(|t| !t.is_empty()), "`tools` is a list with something in it");
        for tool in tools.as_array().into_iter().flatten() {
            check.only_keys(tool, &[], &["type", "function"]);
            check.that(tool["type"] == "function", "the type of a tool is `function`");
            check.tool(&tool["function"], "parameters");
        }
        check.that(body["tool_choice"] == "auto", "`tool_choice` is `auto`");
    } else {
        check.that(body.get("tool_choice").is_none(), "`tool_choice` is only allowed with tools");
    }
    check.problems
}

fn anthropic_problems(method: &Method, received: &Received) -> Vec<String> {
    let (mut check, body) = start_check(method, received, "/v1/messages");
    check.header("x-api-key", KEY);
    check.header("anthropic-version", "2023-06-01");
    check.only_keys(&body, &["system", "tools"], &["model", "max_tokens", "messages"]);
    check.that(is_limit(&body["max_tokens"]), "`max_tokens` is a number above 0");
    check.that(body.get("system").is_none_or(|s| s.as_str().is_some_and(|s| !s.is_empty())), "`system` is a text");
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let roles: Vec<&str> = messages.iter().filter_map(|m| m["role"].as_str()).collect();
    check.that(roles == ["user"], "one user message");
    for message in &messages {
        check.only_keys(message, &[], &["role", "content"]);
        check.that(message["content"].as_str().is_some_and(|c| !c.trim().is_empty()), "a message has a text");
    }
    if let Some(tools) = body.get("tools") {
        check.that(tools.is_array(), "`tools` is a list");
        tools.as_array().into_iter().flatten().for_each(|tool| check.tool(tool, "input_schema"));
    }
    check.problems
}

#[tokio::test]
#[should_panic(expected = "was never asked for")]
async fn an_answer_that_nobody_fetched_fails_the_test() {
    FakeModel::start(Vendor::OpenAi, [Answer::Empty]).await;
}

#[tokio::test]
#[should_panic(expected = "for which no answer was queued")]
async fn a_request_that_nobody_expected_fails_the_test() {
    let fake = FakeModel::start(Vendor::Anthropic, []).await;
    let _ = fake.provider().complete(&request("window", 10)).await;
}

#[tokio::test]
#[should_panic(expected = "a message has a text")]
async fn a_request_that_the_vendor_would_refuse_fails_the_test() {
    let fake = FakeModel::start(Vendor::Anthropic, []).await;
    let _ = fake.provider().complete(&request(" ", 10)).await;
}

#[tokio::test]
#[should_panic(expected = "exactly one bound of the reply")]
async fn a_request_for_no_tokens_at_all_fails_the_test() {
    let fake = FakeModel::start(Vendor::OpenAi, []).await;
    let _ = fake.provider().complete(&request("window", 0)).await;
}

fn request(window: &str, max_output_tokens: u32) -> twelve::agent::ModelRequest {
    let (model, system, window) = ("m".to_owned(), "s".to_owned(), window.to_owned());
    twelve::agent::ModelRequest { model, system, window, tools: Arc::new([]), max_output_tokens }
}

//! Model providers over the wire: golden requests, and everything that can go wrong, by name.
//!
//! Each test runs for both vendors where it says something about both.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use twelve::agent::{Finish, ModelError, ModelErrorKind, ModelReply, ModelRequest, RawCall, ToolDecl, Usage};
use twelve::llm::{Anthropic, ConfigError, HttpProviderConfig, OpenAi, Provider, TokenLimitField};

use crate::fakes::model::{Answer, FakeModel, KEY, Vendor};

fn request() -> ModelRequest {
    let schema = json!({
        "type": "object",
        "properties": {"service": {"type": "string"}, "version": {"type": "string", "pattern": "^v\\d"}},
        "required": ["service", "version"],
        "additionalProperties": false,
    });
    ModelRequest {
        model: "some-model".to_owned(),
        system: "You deploy services.\nAsk before you act.".to_owned(),
        window: "<human from=\"ops\">\nDeploy \"api\" é 🦀\n</human>".to_owned(),
        tools: Arc::new([
            ToolDecl { name: "deploy_service".to_owned(), description: "Deploys a service.".to_owned(), schema },
            ToolDecl {
                name: "ask_human".to_owned(),
                description: "Asks.".to_owned(),
                schema: json!({"type": "object"}),
            },
        ]),
        max_output_tokens: 2_000,
    }
}

/// Asks a fake that has this one answer.
async fn ask(vendor: Vendor, answer: Answer) -> Result<ModelReply, ModelError> {
    let fake = FakeModel::start(vendor, [answer]).await;
    let result = fake.provider().complete(&request()).await;
    assert_eq!(fake.received().len(), 1, "one attempt, never more: the runtime owns retries");
    result
}

/// The kind, the message and the wish for a pause of what has to fail.
async fn fail(vendor: Vendor, answer: Answer) -> (ModelErrorKind, String, Option<u64>) {
    let error = ask(vendor, answer).await.unwrap_err();
    assert!(!error.message.contains(KEY) && !error.message.contains("127.0.0.1"), "{}", error.message);
    (error.kind, error.message, error.retry_after_ms)
}

/// The same text with line breaks: keys keep their order and strings their spelling, so that a snapshot
/// of it is one of the bytes. Compact JSON has no white space outside its strings.
fn indented(json: &[u8]) -> String {
    let text = std::str::from_utf8(json).unwrap();
    let (mut out, mut depth, mut in_string, mut escaped) = (String::new(), 0, false, false);
    for c in text.chars() {
        let line = |out: &mut String, depth: usize| *out += &format!("\n{}", "  ".repeat(depth));
        if in_string {
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            out.push(c);
            continue;
        }
        assert!(!c.is_whitespace(), "white space in {text}");
        if matches!(c, '}' | ']') {
            depth -= 1;
            line(&mut out, depth);
        }
        out.push(c);
        if matches!(c, '{' | '[') {
            depth += 1;
        }
        if matches!(c, '{' | '[' | ',') {
            line(&mut out, depth);
        }
        in_string = c == '"';
    }
    out
}

/// A guard that is broken shows as a failure, not as a test that never ends.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("an answer within any reasonable time")
}

const USAGE: Usage = Usage { input: 120, output: 30 };

// ---- golden requests ----

#[test]
fn the_request_to_openai_is_this_byte_for_byte() {
    let provider = Vendor::OpenAi.provider(&HttpProviderConfig::new("https://x.test", KEY));
    let bytes = provider.request_bytes(&request());
    assert_eq!(bytes, provider.request_bytes(&request()));
    insta::assert_snapshot!(indented(&bytes), @r#"
    {
      "model":"some-model",
      "messages":[
        {
          "role":"system",
          "content":"You deploy services.\nAsk before you act."
        },
        {
          "role":"user",
          "content":"<human from=\"ops\">\nDeploy \"api\" é 🦀\n</human>"
        }
      ],
      "tools":[
        {
          "type":"function",
          "function":{
            "name":"deploy_service",
            "description":"Deploys a service.",
            "parameters":{
              "additionalProperties":false,
              "properties":{
                "service":{
                  "type":"string"
                },
                "version":{
                  "pattern":"^v\\d",
                  "type":"string"
                }
              },
              "required":[
                "service",
                "version"
              ],
              "type":"object"
            }
          }
        },
        {
          "type":"function",
          "function":{
            "name":"ask_human",
            "description":"Asks.",
            "parameters":{
              "type":"object"
            }
          }
        }
      ],
      "tool_choice":"auto",
      "max_completion_tokens":2000
    }
    "#);
}

#[test]
fn the_request_to_anthropic_is_this_byte_for_byte() {
    let provider = Vendor::Anthropic.provider(&HttpProviderConfig::new("https://x.test", KEY));
    let bytes = provider.request_bytes(&request());
    assert_eq!(bytes, provider.request_bytes(&request()));
    insta::assert_snapshot!(indented(&bytes), @r#"
    {
      "model":"some-model",
      "max_tokens":2000,
      "system":"You deploy services.\nAsk before you act.",
      "messages":[
        {
          "role":"user",
          "content":"<human from=\"ops\">\nDeploy \"api\" é 🦀\n</human>"
        }
      ],
      "tools":[
        {
          "name":"deploy_service",
          "description":"Deploys a service.",
          "input_schema":{
            "additionalProperties":false,
            "properties":{
              "service":{
                "type":"string"
              },
              "version":{
                "pattern":"^v\\d",
                "type":"string"
              }
            },
            "required":[
              "service",
              "version"
            ],
            "type":"object"
          }
        },
        {
          "name":"ask_human",
          "description":"Asks.",
          "input_schema":{
            "type":"object"
          }
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn what_is_sent_is_what_request_bytes_says_with_the_vendors_headers() {
    for vendor in Vendor::BOTH {
        let fake = FakeModel::start(vendor, [Answer::say("hello")]).await;
        let provider = fake.provider();
        provider.complete(&request()).await.unwrap();
        let received = fake.received();
        assert_eq!(received[0].body, provider.request_bytes(&request()));
        let user_agent = received[0].headers["user-agent"].to_str().unwrap().to_owned();
        assert!(user_agent.starts_with("twelve/"), "{user_agent}");
        // The fake checked auth, content type and version; the other vendor's auth must not be there too.
        let other = if vendor == Vendor::OpenAi { "x-api-key" } else { "authorization" };
        assert!(!received[0].headers.contains_key(other));
    }
}

#[tokio::test]
async fn a_request_without_tools_leaves_the_list_out() {
    for vendor in Vendor::BOTH {
        let fake = FakeModel::start(vendor, [Answer::say("hello")]).await;
        let bare = ModelRequest { tools: Arc::new([]), ..request() };
        fake.provider().complete(&bare).await.unwrap();
        let body = fake.received()[0].json();
        assert_eq!((body.get("tools"), body.get("tool_choice")), (None, None));
    }
}

#[tokio::test]
async fn a_compatible_server_gets_max_tokens_if_the_setting_says_so() {
    let fake = FakeModel::start(Vendor::OpenAi, [Answer::say("hello")]).await;
    let provider = Provider::OpenAi(OpenAi::new(&fake.config(), TokenLimitField::MaxTokens).unwrap());
    provider.complete(&request()).await.unwrap();
    let body = fake.received()[0].json();
    assert_eq!((&body["max_tokens"], body.get("max_completion_tokens")), (&json!(2_000), None));
}

#[tokio::test]
async fn a_base_url_may_have_a_path_and_a_trailing_slash() {
    for (vendor, base, path) in [
        (Vendor::OpenAi, "", "/chat/completions"),
        (Vendor::OpenAi, "/v1/", "/v1/chat/completions"),
        (Vendor::OpenAi, "/proxy/openai/v1", "/proxy/openai/v1/chat/completions"),
        (Vendor::Anthropic, "/", "/v1/messages"),
        (Vendor::Anthropic, "/v1", "/v1/messages"),
        (Vendor::Anthropic, "/proxy/anthropic/", "/proxy/anthropic/v1/messages"),
    ] {
        let fake = FakeModel::start(vendor, [Answer::say("hello")]).await;
        let config = HttpProviderConfig { base_url: format!("{}{base}", fake.root()), ..fake.config() };
        vendor.provider(&config).complete(&request()).await.unwrap();
        assert_eq!(fake.received()[0].path, path);
    }
}

#[tokio::test]
async fn an_empty_key_sends_no_auth_header() {
    crate::crypto();
    for vendor in Vendor::BOTH {
        let (base_url, head) = raw_server(b"HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n", End::Close).await;
        vendor.provider(&HttpProviderConfig::new(base_url, "")).complete(&request()).await.unwrap_err();
        let head = head.await.unwrap().to_ascii_lowercase();
        assert!(head.contains("content-type: application/json"), "{head}");
        assert!(!head.contains("authorization") && !head.contains("x-api-key"), "{head}");
    }
}

#[test]
fn a_key_or_address_that_cannot_work_is_refused_at_once_and_not_repeated() {
    let config = |base: &str, key: &str| HttpProviderConfig::new(base, key);
    for (base, key, error) in [
        ("https://x.test", "sk-abc\ndef", ConfigError::Key("Anthropic")),
        ("https://ops:hunter2@x.test", "k", ConfigError::Credentials("Anthropic")),
        ("x.test/hunter2", "k", ConfigError::NotAUrl("Anthropic")),
        ("ftp://hunter2.test", "k", ConfigError::Scheme("Anthropic")),
    ] {
        let got = Anthropic::new(&config(base, key)).err().unwrap();
        assert_eq!(got, error);
        assert!(!got.to_string().contains("hunter2") && !got.to_string().contains("abc"), "{got}");
    }
    let provider = Vendor::OpenAi.provider(&config("https://x.test/hunter2", "hunter2"));
    assert_eq!(format!("{provider:?}"), "Provider(openai)");
}

// ---- replies ----

#[tokio::test]
async fn a_text_is_a_complete_reply_with_usage_and_model() {
    for vendor in Vendor::BOTH {
        let reply = ask(vendor, Answer::say("All is well é 🦀")).await.unwrap();
        let expected = ModelReply {
            text: "All is well é 🦀".to_owned(),
            calls: Vec::new(),
            finish: Finish::Complete,
            usage: USAGE,
            model: "some-model-2026".to_owned(),
        };
        assert_eq!(reply, expected, "{vendor:?}: input counts cached tokens too");
    }
}

#[tokio::test]
async fn several_calls_in_one_reply_keep_their_order_and_their_prose() {
    for vendor in Vendor::BOTH {
        let calls = vec![("b".to_owned(), r#"{"x":1}"#.to_owned()), ("a".to_owned(), r#"{"y":"é"}"#.to_owned())];
        let reply = ask(vendor, Answer::Call { text: "Both.".to_owned(), calls }).await.unwrap();
        let call = |tool: &str, arguments: &str| RawCall { tool: tool.to_owned(), arguments: arguments.to_owned() };
        assert_eq!(reply.calls, [call("b", r#"{"x":1}"#), call("a", r#"{"y":"é"}"#)]);
        assert_eq!((reply.text.as_str(), reply.finish), ("Both.", Finish::Complete));
    }
}

#[tokio::test]
async fn an_unknown_tool_is_passed_through_for_the_core_to_judge() {
    for vendor in Vendor::BOTH {
        let reply = ask(vendor, Answer::call("drop_database", json!({"now": true}))).await.unwrap();
        assert_eq!(reply.calls[0].tool, "drop_database");
        assert_eq!(reply.calls[0].arguments, r#"{"now":true}"#);
    }
}

#[tokio::test]
async fn duplicate_keys_and_odd_numbers_inside_arguments_stay_visible() {
    let raw = r#"{"service":"api", "service":"db", "n":1.0000000000000000001}"#;
    for vendor in Vendor::BOTH {
        let calls = vec![("deploy_service".to_owned(), raw.to_owned())];
        let reply = ask(vendor, Answer::Call { text: String::new(), calls }).await.unwrap();
        assert_eq!(reply.calls[0].arguments, raw, "{vendor:?}");
    }
}

#[tokio::test]
async fn arguments_sent_as_an_object_by_a_compatible_server_are_read_too() {
    let body = r#"{"choices":[{"message":{"content":"","tool_calls":[{"function":{"name":"t","arguments":{"a":1,"a":2}}}]},"finish_reason":"stop"}]}"#;
    let reply = ask(Vendor::OpenAi, Answer::Body(body.to_owned())).await.unwrap();
    assert_eq!(reply.calls, [RawCall { tool: "t".to_owned(), arguments: r#"{"a":1,"a":2}"#.to_owned() }]);
    assert_eq!((reply.usage, reply.model.as_str()), (Usage::default(), "some-model"));
}

#[tokio::test]
async fn an_empty_reply_is_an_error_of_its_own() {
    for vendor in Vendor::BOTH {
        let expected = format!("{} sent an empty reply", vendor.label());
        assert_eq!(fail(vendor, Answer::Empty).await, (ModelErrorKind::Empty, expected.clone(), None));
        assert_eq!(fail(vendor, Answer::say(" \n")).await, (ModelErrorKind::Empty, expected, None));
    }
}

#[tokio::test]
async fn a_refusal_is_a_reply_that_says_so() {
    for vendor in Vendor::BOTH {
        let reply = ask(vendor, Answer::Refuse("I will not.".to_owned())).await.unwrap();
        assert_eq!((reply.finish, reply.text.as_str(), reply.usage), (Finish::Refused, "I will not.", USAGE));
    }
    let filtered = r#"{"choices":[{"message":{"content":null,"tool_calls":[{"function":{"name":"t","arguments":"{}"}}]},"finish_reason":"content_filter"}]}"#;
    let reply = ask(Vendor::OpenAi, Answer::Body(filtered.to_owned())).await.unwrap();
    assert_eq!((reply.finish, reply.calls), (Finish::Refused, Vec::new()));
}

#[tokio::test]
async fn a_reply_cut_by_the_output_limit_in_its_text_says_so() {
    for vendor in Vendor::BOTH {
        let reply = ask(vendor, Answer::CutInText("The reason is".to_owned())).await.unwrap();
        assert_eq!((reply.finish, reply.text.as_str(), reply.usage), (Finish::CutOff, "The reason is", USAGE));
    }
}

#[tokio::test]
async fn a_reply_cut_by_the_output_limit_inside_arguments_has_no_calls_at_all() {
    for vendor in Vendor::BOTH {
        let reply = ask(vendor, Answer::CutInArguments { tool: "deploy_service".to_owned() }).await.unwrap();
        assert_eq!((reply.finish, reply.calls, reply.usage), (Finish::CutOff, Vec::new(), USAGE), "{vendor:?}");
    }
}

#[tokio::test]
async fn a_reply_that_ends_for_an_unknown_reason_is_not_trusted() {
    let open_ai = r#"{"choices":[{"message":{"content":"x"},"finish_reason":REASON}]}"#;
    let anthropic = r#"{"content":[{"type":"text","text":"x"}],"stop_reason":REASON}"#;
    for (vendor, body) in [(Vendor::OpenAi, open_ai), (Vendor::Anthropic, anthropic)] {
        for reason in ["null", "\"error\""] {
            let (kind, message, _) = fail(vendor, Answer::Body(body.replace("REASON", reason))).await;
            assert_eq!(kind, ModelErrorKind::Malformed, "{message}");
        }
    }
}

#[tokio::test]
async fn thinking_and_other_blocks_are_passed_over() {
    let body = r#"{"content":[{"type":"thinking","thinking":"hm","signature":"x"},{"type":"text","text":"one"},{"type":"later"},{"type":"text","text":"two"}],"stop_reason":"end_turn"}"#;
    let reply = ask(Vendor::Anthropic, Answer::Body(body.to_owned())).await.unwrap();
    assert_eq!(reply.text, "one\ntwo");
}

// ---- the error table ----

#[tokio::test]
async fn a_429_is_rate_limited_and_carries_the_wish_for_a_pause() {
    for vendor in Vendor::BOTH {
        let message = format!("{} answered 429 (rate limited)", vendor.label());
        assert_eq!(fail(vendor, Answer::status(429)).await, (ModelErrorKind::RateLimited, message.clone(), None));

        let answer = |headers| Answer::Status { status: 429, headers, body: "{}".to_owned() };
        let seconds = answer(vec![("retry-after", "7".to_owned())]);
        assert_eq!(fail(vendor, seconds).await, (ModelErrorKind::RateLimited, message.clone(), Some(7_000)));

        let date = answer(vec![
            ("date", "Sun, 22 Nov 2026 14:00:00 GMT".to_owned()),
            ("retry-after", "Sun, 22 Nov 2026 14:00:20 GMT".to_owned()),
        ]);
        assert_eq!(fail(vendor, date).await, (ModelErrorKind::RateLimited, message, Some(20_000)));
    }
}

#[tokio::test]
async fn a_used_up_quota_is_named() {
    let body = json!({"error": {"message": "sk-secret", "type": "insufficient_quota", "code": "insufficient_quota"}});
    let answer = Answer::Status { status: 429, headers: Vec::new(), body: body.to_string() };
    let expected = "OpenAI answered 429 (the account's quota is used up; check its billing)";
    assert_eq!(fail(Vendor::OpenAi, answer).await, (ModelErrorKind::RateLimited, expected.to_owned(), None));
}

#[tokio::test]
async fn a_503_and_a_529_are_overload() {
    for vendor in Vendor::BOTH {
        for status in [503, 529] {
            let answer =
                Answer::Status { status, headers: vec![("retry-after", "3".to_owned())], body: "busy".to_owned() };
            let message = format!("{} answered {status} (overloaded)", vendor.label());
            assert_eq!(fail(vendor, answer).await, (ModelErrorKind::Overloaded, message, Some(3_000)));
        }
    }
}

#[tokio::test]
async fn a_500_is_an_error_of_the_server() {
    for vendor in Vendor::BOTH {
        for status in [500, 502, 599] {
            let message = format!("{} answered {status} (an error of the server)", vendor.label());
            assert_eq!(fail(vendor, Answer::status(status)).await, (ModelErrorKind::Server, message, None));
        }
    }
}

#[tokio::test]
async fn a_401_and_a_403_are_about_the_key_and_do_not_show_it() {
    for vendor in Vendor::BOTH {
        for (status, why) in
            [(401, "the API key is missing or wrong; check it"), (403, "the API key may not do this; check its rights")]
        {
            let body = json!({"error": {"type": "authentication_error", "message": format!("bad key {KEY}")}});
            let answer = Answer::Status { status, headers: Vec::new(), body: body.to_string() };
            let message = format!("{} answered {status} ({why})", vendor.label());
            assert_eq!(fail(vendor, answer).await, (ModelErrorKind::Auth, message, None));
        }
    }
}

#[tokio::test]
async fn an_unknown_model_is_rejected_and_named() {
    for (vendor, error) in [
        (Vendor::OpenAi, json!({"message": "no such", "type": "invalid_request_error", "code": "model_not_found"})),
        (Vendor::Anthropic, json!({"type": "not_found_error", "message": "model: some-model"})),
    ] {
        let answer = Answer::Status { status: 404, headers: Vec::new(), body: json!({ "error": error }).to_string() };
        let message = format!("{} answered 404 (it does not know the model; check its name)", vendor.label());
        assert_eq!(fail(vendor, answer).await, (ModelErrorKind::Rejected, message, None));
    }
}

#[tokio::test]
async fn a_context_that_is_too_long_is_a_kind_of_its_own_and_named() {
    for (vendor, error, limit, counted) in [
        (
            Vendor::OpenAi,
            json!({"message": "…", "type": "invalid_request_error", "code": "context_length_exceeded"}),
            None,
            None,
        ),
        (
            Vendor::Anthropic,
            json!({"type": "invalid_request_error", "message": "prompt is too long: 215000 tokens > 200000 maximum"}),
            Some(200_000),
            Some(215_000),
        ),
    ] {
        let answer = Answer::Status { status: 400, headers: Vec::new(), body: json!({ "error": error }).to_string() };
        let message = format!("{} answered 400 (the request is too long for the model)", vendor.label());
        assert_eq!(fail(vendor, answer).await, (ModelErrorKind::TooLong { limit, counted }, message, None));
    }
}

#[tokio::test]
async fn any_other_400_is_rejected_without_quoting_the_body() {
    for vendor in Vendor::BOTH {
        for body in ["", "not json", r#"{"error":"the prompt was: hunter2"}"#, &"x".repeat(200_000)] {
            let answer = Answer::Status { status: 400, headers: Vec::new(), body: body.to_owned() };
            let message = format!("{} answered 400 (the request was refused)", vendor.label());
            assert_eq!(fail(vendor, answer).await, (ModelErrorKind::Rejected, message, None));
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for vendor in Vendor::BOTH {
        let elsewhere = FakeModel::start(vendor, []).await;
        let headers = vec![("location", format!("{}/v1/messages", elsewhere.root()))];
        let (kind, message, _) = fail(vendor, Answer::Status { status: 307, headers, body: String::new() }).await;
        assert_eq!(kind, ModelErrorKind::Rejected);
        assert!(message.contains("answered 307 (a redirect"), "{message}");
        assert_eq!(elsewhere.received().len(), 0, "the key stayed here");
    }
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    crate::crypto();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for vendor in Vendor::BOTH {
        let provider = vendor.provider(&HttpProviderConfig::new(format!("http://{closed}"), KEY));
        let error = provider.complete(&request()).await.unwrap_err();
        let expected = "could not be reached: the connection was refused; check the base URL and that the server runs";
        assert_eq!(
            (error.kind, error.message),
            (ModelErrorKind::Unreachable, format!("{} {expected}", vendor.label()))
        );
    }
}

#[tokio::test]
async fn a_connection_closed_without_an_answer_is_unreachable() {
    for vendor in Vendor::BOTH {
        let (base_url, _head) = raw_server(b"", End::Close).await;
        crate::crypto();
        let provider = vendor.provider(&HttpProviderConfig::new(base_url, KEY));
        let error = provider.complete(&request()).await.unwrap_err();
        let message = format!("{} closed the connection without an answer", vendor.label());
        assert_eq!((error.kind, error.message), (ModelErrorKind::Unreachable, message));
    }
}

/// Long enough for a busy machine to bring the request to the fake, short enough to wait for.
const PATIENCE_MS: u64 = 1_500;

async fn runs_out_of_patience(vendor: Vendor, answer: Answer) {
    let fake = FakeModel::start(vendor, [answer]).await;
    let provider = vendor.provider(&HttpProviderConfig { timeout_ms: PATIENCE_MS, ..fake.config() });
    let error = in_time(provider.complete(&request())).await.unwrap_err();
    let message = format!("{} did not answer within 1.5 s", vendor.label());
    assert_eq!((error.kind, error.message), (ModelErrorKind::Timeout, message));
    assert_eq!(fake.received().len(), 1);
}

#[tokio::test]
async fn a_server_that_never_answers_is_a_timeout() {
    let [open_ai, anthropic] = Vendor::BOTH.map(|vendor| runs_out_of_patience(vendor, Answer::Silence));
    tokio::join!(open_ai, anthropic);
}

#[tokio::test]
async fn a_body_that_stops_half_way_and_stays_open_is_a_timeout_not_a_hang() {
    let [open_ai, anthropic] = Vendor::BOTH.map(|vendor| runs_out_of_patience(vendor, Answer::StalledBody));
    tokio::join!(open_ai, anthropic);
}

#[tokio::test]
async fn half_a_body_is_no_answer() {
    for vendor in Vendor::BOTH {
        let message = format!("{} stopped in the middle of its answer", vendor.label());
        assert_eq!(fail(vendor, Answer::HalfBody).await, (ModelErrorKind::Timeout, message.clone(), None));

        let promised =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"content\":[";
        let (base_url, _head) = raw_server(promised, End::Close).await;
        let provider = vendor.provider(&HttpProviderConfig::new(base_url, KEY));
        let error = provider.complete(&request()).await.unwrap_err();
        assert_eq!((error.kind, error.message), (ModelErrorKind::Timeout, message));
    }
}

#[tokio::test]
async fn invalid_json_is_malformed() {
    for vendor in Vendor::BOTH {
        for body in ["", "<html>", r#"{"content": [{"type": "te"#] {
            let message = format!("{} sent an answer that cannot be used: it is not valid JSON", vendor.label());
            assert_eq!(fail(vendor, Answer::Body(body.to_owned())).await, (ModelErrorKind::Malformed, message, None));
        }
    }
}

#[tokio::test]
async fn valid_json_of_the_wrong_shape_is_malformed() {
    for vendor in Vendor::BOTH {
        for body in [
            "null",
            "[]",
            "{}",
            r#"{"error":{"message":"hunter2"}}"#,
            r#"{"choices":[]}"#,
            r#"{"choices":[{"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"message":{"content":7},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"message":{"tool_calls":[{"function":{"name":"t"}}]},"finish_reason":"tool_calls"}]}"#,
            r#"{"content":"text","stop_reason":"end_turn"}"#,
            r#"{"content":[{"type":"text"}],"stop_reason":"end_turn"}"#,
            r#"{"content":[{"type":"tool_use","name":"t"}],"stop_reason":"tool_use"}"#,
            r#"{"content":[{"type":"text","text":"a","text":"b"}],"stop_reason":"end_turn"}"#,
        ] {
            let (kind, message, _) = fail(vendor, Answer::Body(body.to_owned())).await;
            assert_eq!(kind, ModelErrorKind::Malformed, "{vendor:?} {body}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}

#[tokio::test]
async fn a_body_that_cannot_be_decompressed_is_malformed() {
    for vendor in Vendor::BOTH {
        let headers = vec![("content-encoding", "gzip".to_owned())];
        let message = format!("{} sent an answer that cannot be used: it cannot be decompressed", vendor.label());
        let answer = Answer::Status { status: 200, headers, body: "this is no gzip at all".to_owned() };
        assert_eq!(fail(vendor, answer).await, (ModelErrorKind::Malformed, message, None));
    }
}

#[tokio::test]
async fn an_oversized_body_is_not_read_to_its_end() {
    for vendor in Vendor::BOTH {
        let message = format!("{} sent an answer that cannot be used: it is longer than 1000 bytes", vendor.label());
        let fake = FakeModel::start(vendor, [Answer::Body(format!("\"{}\"", "x".repeat(999)))]).await;
        let provider = vendor.provider(&HttpProviderConfig { max_response_bytes: 1_000, ..fake.config() });
        let error = provider.complete(&request()).await.unwrap_err();
        assert_eq!((error.kind, error.message.clone()), (ModelErrorKind::Malformed, message.clone()), "as announced");

        // Without an announced length, and without an end.
        let endless =
            [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1000\r\n".to_vec(), vec![b' '; 4_096]].concat();
        let (base_url, _head) = raw_server(&endless, End::Hang).await;
        let config = HttpProviderConfig { base_url, max_response_bytes: 1_000, ..fake.config() };
        let error = in_time(vendor.provider(&config).complete(&request())).await.unwrap_err();
        assert_eq!((error.kind, error.message), (ModelErrorKind::Malformed, message), "as it comes");
    }
}

#[tokio::test]
async fn dropping_the_question_closes_its_connection() {
    for vendor in Vendor::BOTH {
        let (base_url, gone) = raw_server(b"", End::WaitForClose).await;
        crate::crypto();
        let provider = vendor.provider(&HttpProviderConfig::new(base_url, KEY));
        let request = request();
        let mut gone = gone;
        tokio::select! {
            _ = provider.complete(&request) => panic!("nobody answers"),
            () = gone.received_request() => {}
        }
        // The future is dropped now; the server sees the end of the connection.
        in_time(gone).await.unwrap();
    }
}

#[tokio::test]
async fn the_same_conversation_runs_against_both_vendors() {
    let mut seen = Vec::new();
    for vendor in Vendor::BOTH {
        let fake = FakeModel::start(vendor, [Answer::call("check", json!({"service": "api"}))]).await;
        fake.push(Answer::say("It is healthy."));
        let provider = fake.provider();
        let first = provider.complete(&request()).await.unwrap();
        let window = format!("{}\n<tool_result>\nok\n</tool_result>", request().window);
        let second = provider.complete(&ModelRequest { window, ..request() }).await.unwrap();
        assert_eq!(fake.received().len(), 2);
        seen.push((first, second));
    }
    assert_eq!(seen[0], seen[1]);
}

// ---- a server that says exactly these bytes ----

enum End {
    Close,
    /// Keeps the connection open until the other side closes it.
    Hang,
    /// The same, and reports when the request has come in and when the connection has gone.
    WaitForClose,
}

/// What became of the one connection of a [`raw_server`]: resolves to the head of its request when the
/// connection is over.
struct Connection {
    request: Option<tokio::sync::oneshot::Receiver<()>>,
    task: tokio::task::JoinHandle<String>,
}

impl Connection {
    async fn received_request(&mut self) {
        if let Some(request) = self.request.take() {
            request.await.unwrap();
        }
    }
}

impl std::future::Future for Connection {
    type Output = Result<String, tokio::task::JoinError>;
    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.task).poll(cx)
    }
}

async fn raw_server(answer: &[u8], end: End) -> (String, Connection) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.to_vec();
    let (told, request) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut got = Vec::new();
        let mut buffer = [0; 4_096];
        let head = loop {
            let n = socket.read(&mut buffer).await.unwrap();
            assert!(n > 0, "the request came whole");
            got.extend_from_slice(&buffer[..n]);
            let text = String::from_utf8_lossy(&got).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                break head.to_owned();
            }
        };
        let _ = told.send(());
        socket.write_all(&answer).await.unwrap();
        match end {
            End::Close => {}
            End::Hang | End::WaitForClose => while socket.read(&mut buffer).await.is_ok_and(|n| n > 0) {},
        }
        head
    });
    (base_url, Connection { request: Some(request), task })
}

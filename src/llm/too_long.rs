//! A request that is longer than the model's context, in any vendor's words.
//!
//! OpenAI has a code for it, llama.cpp a type; most servers only a sentence, each its own. What is recognised
//! here becomes [`ModelErrorKind::TooLong`], on which the core shortens the window and asks again. So a false
//! alarm costs one more request, and a miss a person's attention: words that only name the output limit
//! (`max_tokens`) are no match, everything else that speaks of the length of the input is one.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};
use reqwest::StatusCode;

use crate::agent::ModelErrorKind;

/// As much of a body as is looked at, in bytes.
const MAX_LOOKED_AT: usize = 16 * 1024;
/// Contexts that exist: below and above these, a number is something else.
const LIMITS: std::ops::RangeInclusive<u64> = 128..=1_000_000_000;

/// Each line a way to say it. Sources: the vendors' documents and servers' sources, by the name behind.
const WORDS: &[&str] = &[
    r"context_length_exceeded",       // OpenAI, Azure, Groq, DeepSeek, OpenRouter
    r"context_?window_?exceeded",     // LiteLLM, Snowflake
    r"exceed_context_size_error",     // llama.cpp
    r"model_context_window_exceeded", // Anthropic
    r"maximum (?:context|prompt|sequence|model|input) (?:length|size|window)", // OpenAI, vLLM, Mistral, xAI, TGI
    r"max(?:imum)?[ _](?:context|input|sequence|prompt|model)[ _](?:length|len|tokens|size)", // vLLM, Ollama, SGLang
    r"context (?:length|window|size|limit)", // Ollama, LM Studio, llama.cpp, Anthropic
    r"(?:prompt|input|request|message|messages|conversation|query)s? (?:is|are|was|were)? ?(?:too (?:long|large)|exceed)", // Anthropic, Bedrock
    r"too (?:long|many|large)[^.]{0,40}\b(?:prompt|input|context)\b", // Bedrock
    r"\b(?:prompt|input|context)\b[^.]{0,40}too (?:long|many|large)", // Fireworks, Cohere
    r"input (?:token count|length|tokens?)[^.]{0,60}(?:exceed|greater|longer|maximum|at most)", // Gemini, SGLang
    r"(?:exceed|more than|over)[a-z]* (?:the )?(?:model'?s? )?(?:maximum )?(?:token limit|number of (?:input )?tokens|input tokens)", // Moonshot, Gemini
    r"prompt exceeds max length",                           // Zhipu
    r"range of input length should be",                     // Alibaba
    r"`?inputs`?(?: tokens)?[^.]{0,40}must (?:be|have)",    // TGI
    r"reduce (?:the|your) (?:length|prompt|input|message)", // OpenAI, Groq
    r"input or output tokens must be reduced",              // OpenAI, a request above the tokens of a minute
    r"request too large for",                               // Groq, OpenAI
    r"longer than the (?:maximum )?(?:model|context)",      // vLLM
];

/// Only the reply is too long: a shorter request changes nothing.
const OUTPUT_ONLY: &str = r"(?:maximum|at most|less than|supports?|allowed)[^.]{0,60}(?:output|completion) tokens|(?:output|completion) tokens[^.]{0,40}(?:maximum|at most|allowed)";

const LIMIT: &[&str] = &[
    r#""n_ctx"\s*:\s*([\d]+)"#,
    r"(?:maximum|max)[ _](?:context|prompt|model|input|sequence)[ _](?:length|len|window|size|tokens)(?: is| of|:|=)*\s*(?:only )?\(?([\d,_]+)",
    r"([\d,_]+) (?:tokens? )?maximum context length",
    r"([\d,_]+) maximum",
    r"> ([\d,_]+)",
    r"maximum number of tokens allowed \(?([\d,_]+)",
    r"context (?:length|window|size|limit)(?: is| of|:|=)*\s*(?:only )?\(?([\d,_]+)",
    r"token limit(?: is| of|:|=)*\s*\(?([\d,_]+)",
    r"(?:must be <=|less than|cannot exceed|at most|up to|limit) ([\d,_]+)",
    r"should be \[\d+, ?([\d,_]+)\]",
];

const COUNTED: &[&str] = &[
    r#""n_prompt_tokens"\s*:\s*([\d]+)"#,
    r"requested (?:about )?([\d,_]+)",
    r"resulted in ([\d,_]+)",
    r"too long: ([\d,_]+)",
    r"token count (?:of )?\(?([\d,_]+)",
    r"contains ([\d,_]+)",
    r"\(length:? ([\d,_]+)\)",
    r"(?:request|prompt|input) \(?([\d,_]+) tokens",
    r"([\d,_]+) tokens >",
    r"given: ([\d,_]+)",
    r"limit: ([\d,_]+) \+",
];

fn all(patterns: &[&str]) -> Vec<Regex> {
    patterns.iter().filter_map(|pattern| Regex::new(&format!("(?i){pattern}")).ok()).collect()
}

/// Whether an answer with this status and body says that the request is longer than the model's context.
pub(super) fn too_long(status: StatusCode, body: &[u8]) -> Option<ModelErrorKind> {
    static SAID: LazyLock<Option<RegexSet>> =
        LazyLock::new(|| RegexSet::new(WORDS.iter().map(|words| format!("(?i){words}"))).ok());
    static OUTPUT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!("(?i){OUTPUT_ONLY}")).ok());
    static LIMITS_SAID: LazyLock<Vec<Regex>> = LazyLock::new(|| all(LIMIT));
    static COUNTS_SAID: LazyLock<Vec<Regex>> = LazyLock::new(|| all(COUNTED));
    let text = String::from_utf8_lossy(body.get(..MAX_LOOKED_AT).unwrap_or(body));
    let said = || SAID.as_ref().is_some_and(|said| said.is_match(&text));
    let names_context = || {
        let lower = text.to_lowercase();
        ["context", "prompt", "input"].iter().any(|word| lower.contains(word))
    };
    let only_output = || OUTPUT.as_ref().is_some_and(|output| output.is_match(&text)) && !names_context();
    let is_too_long = match status.as_u16() {
        413 => true,
        // A limit of tokens for each minute that this one request is above: only a shorter one passes.
        429 => text.contains("must be reduced") || text.to_lowercase().contains("request too large"),
        400 | 422 | 500 => said() && !only_output(),
        _ => false,
    };
    let number = |patterns: &[Regex]| {
        let found = patterns.iter().find_map(|pattern| pattern.captures(&text))?;
        let number: u64 = found.get(1)?.as_str().replace([',', '_'], "").parse().ok()?;
        LIMITS.contains(&number).then_some(number)
    };
    is_too_long.then(|| {
        let limit = number(&LIMITS_SAID);
        let counted = number(&COUNTS_SAID).filter(|counted| limit.is_none_or(|limit| *counted > limit));
        ModelErrorKind::TooLong { limit, counted }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> Option<(Option<u64>, Option<u64>)> {
        match too_long(StatusCode::from_u16(status).unwrap(), body.as_bytes())? {
            ModelErrorKind::TooLong { limit, counted } => Some((limit, counted)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_vendors_way_to_say_that_a_request_is_too_long_is_known() {
        for (who, status, body, limit, counted) in [
            (
                "OpenAI",
                400,
                r#"{"error":{"message":"This model's maximum context length is 8192 tokens. However, your messages resulted in 12034 tokens. Please reduce the length of the messages.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
                Some(8192),
                Some(12034),
            ),
            (
                "OpenAI, a newer form",
                400,
                r#"{"error":{"message":"Your input exceeds the context window of this model. Please adjust your input and try again.","code":"context_length_exceeded"}}"#,
                None,
                None,
            ),
            (
                "OpenAI, tokens of a minute",
                429,
                r#"{"error":{"message":"Request too large for gpt-4o in organization x on tokens per min (TPM): Limit 30000, Requested 42000. The input or output tokens must be reduced in order to run successfully.","code":"rate_limit_exceeded"}}"#,
                Some(30000),
                Some(42000),
            ),
            (
                "Anthropic",
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 215000 tokens > 200000 maximum"}}"#,
                Some(200000),
                Some(215000),
            ),
            (
                "Anthropic, with the reply",
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length or `max_tokens` and try again"}}"#,
                Some(200000),
                None,
            ),
            (
                "Anthropic, bytes",
                413,
                r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#,
                None,
                None,
            ),
            (
                "llama.cpp",
                400,
                r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9012,"n_ctx":4096}}"#,
                Some(4096),
                Some(9012),
            ),
            (
                "llama.cpp, before",
                500,
                r#"{"error":{"code":500,"message":"the request exceeds the available context size. try increasing the context size or enable context shift","type":"server_error"}}"#,
                None,
                None,
            ),
            (
                "vLLM",
                400,
                r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4500 in the messages, 500 in the completion). Please reduce the length of the messages or completion.","type":"BadRequestError","param":null,"code":400}"#,
                Some(4096),
                Some(5000),
            ),
            (
                "vLLM, the engine",
                400,
                r#"{"object":"error","message":"The decoder prompt (length 5000) is longer than the maximum model length of 4096. Make sure that `max_model_len` is no smaller than the number of text tokens.","code":400}"#,
                Some(4096),
                Some(5000),
            ),
            ("Ollama", 400, r#"{"error":"the input length exceeds the context length"}"#, None, None),
            (
                "Ollama, its own",
                400,
                r#"{"error":{"message":"prompt too long; exceeded max context length by 512 tokens"}}"#,
                None,
                None,
            ),
            (
                "LM Studio",
                400,
                r#"{"error":"Trying to keep the first 5110 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough."}"#,
                Some(4096),
                None,
            ),
            (
                "Mistral",
                400,
                r#"{"object":"error","message":"Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length","type":"invalid_request_prompt","code":"3051"}"#,
                Some(32768),
                Some(40000),
            ),
            (
                "Gemini",
                400,
                r#"{"error":{"code":400,"message":"The input token count (1234567) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#,
                Some(1048576),
                Some(1234567),
            ),
            ("Bedrock", 400, r#"{"message":"Input is too long for requested model."}"#, None, None),
            (
                "Bedrock, counted",
                400,
                r#"{"message":"The model returned the following errors: too many input tokens"}"#,
                None,
                None,
            ),
            (
                "LiteLLM",
                400,
                r#"{"error":{"message":"litellm.ContextWindowExceededError: BedrockException","type":null}}"#,
                None,
                None,
            ),
            (
                "Groq",
                413,
                r#"{"error":{"message":"Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested 7321","code":"rate_limit_exceeded"}}"#,
                Some(6000),
                Some(7321),
            ),
            (
                "xAI",
                400,
                r#"{"error":"This model's maximum prompt length is 131072 but the request contains 537812 tokens."}"#,
                Some(131072),
                Some(537812),
            ),
            (
                "TGI",
                422,
                r#"{"error":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 512 `max_new_tokens`","error_type":"validation"}"#,
                Some(4096),
                Some(5000),
            ),
            (
                "Cohere",
                400,
                r#"{"message":"too many tokens: total number of tokens in the prompt cannot exceed 4081 - received 5000."}"#,
                Some(4081),
                None,
            ),
            (
                "Moonshot",
                400,
                r#"{"error":{"message":"Invalid request: Your request exceeded model token limit: 8192 (requested: 9000)","type":"invalid_request_error"}}"#,
                Some(8192),
                None,
            ),
            ("Zhipu", 400, r#"{"error":{"code":"1261","message":"Prompt exceeds max length"}}"#, None, None),
            (
                "Alibaba",
                400,
                r#"{"error":{"message":"Range of input length should be [1, 30720]"}}"#,
                Some(30720),
                None,
            ),
            ("a proxy", 413, "<html><h1>413 Request Entity Too Large</h1></html>", None, None),
        ] {
            assert_eq!(of(status, body), Some((limit, counted)), "{who}: {body}");
        }
    }

    #[test]
    fn other_refusals_are_not_taken_for_a_request_that_is_too_long() {
        for (status, body) in [
            (
                400,
                r#"{"error":{"message":"max_tokens is too large: 100000. This model supports at most 16384 completion tokens","code":"invalid_value"}}"#,
            ),
            (
                400,
                r#"{"error":{"message":"max_tokens: 64000 > 8192, which is the maximum allowed number of output tokens for x"}}"#,
            ),
            (
                400,
                r#"{"error":{"message":"Invalid value: 'sytem'. Supported values are: 'system', 'user'","code":"invalid_value"}}"#,
            ),
            (400, r#"{"error":{"message":"Your credit balance is too low to access the API"}}"#),
            (404, r#"{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}"#),
            (
                429,
                r#"{"error":{"message":"Rate limit reached for x on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000. Please try again in 2s.","code":"rate_limit_exceeded"}}"#,
            ),
            (401, r#"{"error":{"message":"context length"}}"#),
            (500, r#"{"error":{"message":"The server had an error while processing your request"}}"#),
            (503, "overloaded"),
            (400, ""),
        ] {
            assert_eq!(of(status, body), None, "{body}");
        }
    }
}

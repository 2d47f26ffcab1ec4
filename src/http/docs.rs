//! The OpenAPI document, written down at the handlers, and a page of our own that shows it without any
//! script or anything from elsewhere.

use std::fmt::Write as _;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi, ToSchema};

use super::problem::Problem;
use super::rest::default_agent;
use super::{Service, approvals, live, ops, rest, webhooks};

pub fn routes() -> Router<Service> {
    Router::new().route("/openapi.json", get(openapi)).route("/docs", get(page))
}

/// Why a request was not done (RFC 9457).
#[derive(Serialize, ToSchema)]
#[schema(as = Problem, example = json!({"type": "about:blank", "title": "Conflict", "status": 409, "code": "already_decided", "detail": "Already approved by bob (2026-01-01T00:00:00Z). It succeeded."}))]
pub struct ProblemDoc {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What, why, and what next, for people.
    detail: String,
    /// Stable, for programs.
    code: String,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "twelve", description = "Agents that ask before they act: start them, watch them, answer them, decide what they want to do."),
    paths(
        rest::start, rest::list, rest::status, rest::history, rest::resume, rest::pause, rest::stop, rest::cancel, rest::remove,
        approvals::approvals, approvals::approval, approvals::decision,
        live::events,
        webhooks::trigger,
        ops::healthz, ops::readyz, ops::readyz_http, ops::scrape,
        openapi, page,
    ),
    components(schemas(ProblemDoc)),
    modifiers(&Bearer),
    tags(
        (name = "agents", description = "Threads: one conversation each, with the agent that works in it."),
        (name = "approvals", description = "What agents want to do and people decide."),
        (name = "live", description = "Events as they happen."),
        (name = "webhooks", description = "What other services send to start an agent."),
        (name = "operations", description = "For supervisors and scrapers."),
        (name = "docs", description = "This document."),
    )
)]
struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token that `twelve token` has made. Its scopes are start, read, resume, approve and admin. Programs on the machine of the service can send the local one, which `twelve token local` prints."))
            .build();
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    }
}

/// What any request may be answered, besides what its route says: status, when, whether it needs a caller or
/// a body to come to that.
const ALWAYS: [(&str, &str, Needs); 11] = [
    ("400", "A parameter or header can't be used, or the body is no JSON that means one thing only.", Needs::Nothing),
    ("401", "No token, or none that is known here.", Needs::Caller),
    ("403", "The token has not the scope, or stands for nobody who may do this.", Needs::Caller),
    ("408", "The body took too long.", Needs::Body),
    ("413", "The body, or the message in it, is too large.", Needs::Body),
    ("415", "The body is not `application/json`.", Needs::Body),
    ("421", "The service does not go by this host name.", Needs::Nothing),
    ("422", "The body is JSON, but not what this takes.", Needs::Body),
    ("429", "Too many requests.", Needs::Nothing),
    ("500", "Something broke on our side; the answer has a reference.", Needs::Nothing),
    ("503", "The store can't be written to, or the service is stopping.", Needs::Nothing),
];

#[derive(Clone, Copy, PartialEq)]
enum Needs {
    Nothing,
    Caller,
    Body,
}

/// The document of this service, with its agents.
pub fn document(service: &Service) -> Value {
    // reason: the document is plain data with string keys
    let mut document = serde_json::to_value(Api::openapi()).unwrap_or_default();
    let agents: Vec<&str> = service.runtime().parts().agents.names().collect();
    if let Some(agent) = document.pointer_mut("/components/schemas/StartBody/properties/agent_type")
        && let Some(agent) = agent.as_object_mut()
    {
        agent.retain(|key, _| matches!(key.as_str(), "description" | "type"));
        let names = agents.iter().map(|name| json!(name)).chain([Value::Null]);
        agent.insert("enum".to_owned(), names.collect());
        agent.insert("default".to_owned(), json!(default_agent(service)));
    }
    let limit = service.runtime().parts().settings.message_max_bytes;
    if let Some(message) = document.pointer_mut("/components/schemas/StartBody/properties/message") {
        message["maxLength"] = json!(limit);
    }
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["info"]["license"] = json!({ "name": "MIT", "identifier": "MIT" });
    document["servers"] = json!([{ "url": "/" }]);
    let loopback_is_enough = service.settings().http.trust_loopback;
    for operation in operations_mut(&mut document) {
        let has_caller = operation.get("security").is_some_and(|needs| needs.pointer("/0/bearer").is_some());
        let has_body = operation.contains_key("requestBody");
        let is_open = operation.get("security").is_none_or(|needs| needs.pointer("/1").is_none());
        if !has_caller && is_open {
            operation.insert("security".to_owned(), json!([]));
        }
        if has_caller
            && loopback_is_enough
            && let Some(needs) = operation.get_mut("security").and_then(Value::as_array_mut)
        {
            needs.push(json!({}));
        }
        let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { continue };
        for response in responses.values_mut() {
            if let Some(content) = response.pointer_mut("/content/application~1problem+json") {
                content["schema"] = problem();
            }
        }
        for (status, when, needs) in ALWAYS {
            let comes = match needs {
                Needs::Nothing => true,
                Needs::Caller => has_caller,
                Needs::Body => has_body,
            };
            if !comes || responses.contains_key(status) {
                continue;
            }
            let mut response = json!({
                "description": when,
                "content": { "application/problem+json": { "schema": problem() } },
            });
            let text = |what: &str| json!({ "description": what, "schema": { "type": "string" } });
            match status {
                "401" => response["headers"] = json!({ "WWW-Authenticate": text("`Bearer`.") }),
                "429" | "503" => response["headers"] = json!({ "Retry-After": text("Seconds to wait.") }),
                _ => {}
            }
            responses.insert(status.to_owned(), response);
        }
    }
    document
}

fn problem() -> Value {
    json!({ "$ref": "#/components/schemas/Problem" })
}

fn operations_mut(document: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut).into_iter();
    paths.flat_map(|paths| paths.values_mut()).filter_map(Value::as_object_mut).flat_map(|path| {
        let method = |key: &str| matches!(key, "get" | "post" | "put" | "patch" | "delete");
        path.iter_mut().filter(move |(key, _)| method(key)).filter_map(|(_, operation)| operation.as_object_mut())
    })
}

/// The OpenAPI document
#[utoipa::path(get, path = "/openapi.json", tag = "docs",
    responses((status = 200, description = "This document.", body = Object)))]
async fn openapi(State(service): State<Service>) -> axum::Json<Value> {
    axum::Json(document(&service))
}

// ---- The page ----

/// The style sheet of the page: named by its hash in the policy, so that no other is heeded.
const STYLE: &str = include_str!("../../templates/web/docs.css");

#[derive(Template)]
#[template(path = "web/docs.html")]
struct Page {
    name: String,
    about: String,
    style: &'static str,
    groups: Vec<Group>,
}

struct Group {
    name: String,
    about: String,
    operations: Vec<Operation>,
}

struct Operation {
    anchor: String,
    method: String,
    path: String,
    summary: String,
    about: Vec<String>,
    scope: String,
    fields: Vec<Field>,
    answers: Vec<(String, String)>,
    curl: String,
}

struct Field {
    name: String,
    place: &'static str,
    kind: String,
    needed: bool,
    about: String,
}

/// The documentation, as a page
#[utoipa::path(get, path = "/docs", tag = "docs",
    responses((status = 200, description = "A page for people.", body = String, content_type = "text/html")))]
async fn page(State(service): State<Service>) -> Result<impl IntoResponse, Problem> {
    let document = document(&service);
    let page = Page {
        name: service.settings().app_name.clone(),
        about: text(&document, "/info/description"),
        style: STYLE,
        groups: groups(&document, &service.settings().http.public_url()),
    };
    let html = page.render().map_err(|e| Problem::internal(&e))?;
    let hash = data_encoding::BASE64.encode(&Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers: [(HeaderName, String); 2] =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()), (header::CONTENT_SECURITY_POLICY, policy)];
    Ok((headers, html))
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned()
}

/// The operations under their tags, in the order of the tags.
fn groups(document: &Value, base: &str) -> Vec<Group> {
    let tags = document["tags"].as_array().cloned().unwrap_or_default();
    let group = |tag: &Value| {
        let name = text(tag, "/name");
        let paths = document["paths"].as_object().into_iter().flatten();
        let all = paths.flat_map(|(path, item)| item.as_object().into_iter().flatten().map(move |(m, o)| (path, m, o)));
        let mine = all.filter(|(_, _, operation)| operation["tags"][0].as_str() == Some(name.as_str()));
        Group {
            about: text(tag, "/description"),
            operations: mine.map(|(path, method, op)| operation(document, base, path, method, op)).collect(),
            name,
        }
    };
    tags.iter().map(group).collect()
}

fn operation(document: &Value, base: &str, path: &str, method: &str, operation: &Value) -> Operation {
    let mut fields: Vec<Field> = Vec::new();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        fields.push(Field {
            name: text(parameter, "/name"),
            place: match parameter["in"].as_str() {
                Some("path") => "in the path",
                Some("header") => "header",
                _ => "query",
            },
            kind: kind(document, &parameter["schema"]),
            needed: parameter["required"].as_bool().unwrap_or(false),
            about: text(parameter, "/description"),
        });
    }
    let body = operation.pointer("/requestBody/content/application~1json");
    let schema = body.map(|body| resolved(document, &body["schema"]));
    for (name, property) in schema.into_iter().flat_map(|s| s["properties"].as_object()).flatten() {
        fields.push(Field {
            name: name.clone(),
            place: "body",
            kind: kind(document, property),
            needed: schema.is_some_and(|s| s["required"].as_array().is_some_and(|r| r.contains(&json!(name)))),
            about: text(property, "/description"),
        });
    }
    let responses = operation["responses"].as_object().into_iter().flatten();
    Operation {
        anchor: text(operation, "/operationId"),
        method: method.to_uppercase(),
        path: path.to_owned(),
        summary: text(operation, "/summary"),
        about: text(operation, "/description").split("\n\n").map(str::to_owned).collect(),
        scope: text(operation, "/security/0/bearer/0"),
        fields,
        answers: responses.map(|(status, response)| (status.clone(), text(response, "/description"))).collect(),
        curl: curl(base, path, method, operation, schema),
    }
}

/// What a schema stands for: `$ref` looked up, the choice of "or nothing" taken away.
fn resolved<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    if let Some(pointer) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        return document.pointer(pointer).map_or(schema, |schema| resolved(document, schema));
    }
    let choices = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    let real = choices.and_then(|choices| choices.iter().find(|choice| choice["type"] != "null"));
    match real {
        Some(real) if choices.is_some_and(|choices| choices.len() <= 2) => resolved(document, real),
        Some(_) | None => schema,
    }
}

/// A type and its bounds in a few words.
fn kind(document: &Value, schema: &Value) -> String {
    let schema = resolved(document, schema);
    let names: Vec<&str> = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
        name => name.as_str().into_iter().collect(),
    };
    let words = |values: &[Value]| {
        let words: Vec<&str> = values.iter().filter_map(|v| v.as_str().or_else(|| v["enum"][0].as_str())).collect();
        words.join(" | ")
    };
    let mut kind = match (schema["enum"].as_array(), schema["oneOf"].as_array()) {
        (Some(values), _) | (None, Some(values)) => words(values),
        (None, None) => names.join(" or "),
    };
    for (key, word) in [("minimum", "from"), ("maximum", "to"), ("maxLength", "at most")] {
        if let Some(bound) = schema[key].as_u64() {
            let _ = write!(kind, " {word} {bound}");
        }
    }
    if schema["maxLength"].is_u64() {
        kind.push_str(" characters");
    }
    kind
}

fn curl(base: &str, path: &str, method: &str, operation: &Value, schema: Option<&Value>) -> String {
    let mut line = "curl".to_owned();
    if method != "get" {
        let _ = write!(line, " -X {}", method.to_uppercase());
    }
    if path.ends_with("/events") {
        line.push_str(" -N");
    }
    let _ = write!(line, " {base}{}", path.replace("{thread_id}", "$THREAD").replace("{approval_id}", "$APPROVAL"));
    if operation["security"].as_array().is_some_and(|needs| !needs.is_empty()) {
        line.push_str(" \\\n  -H \"Authorization: Bearer $TWELVE_TOKEN\"");
    }
    if let Some(schema) = schema {
        let example = schema.get("example").or_else(|| schema["examples"].get(0)).map(Value::to_string);
        let _ = write!(line, " \\\n  -H 'Content-Type: application/json' \\\n  -d '{}'", example.unwrap_or_default());
    }
    line
}

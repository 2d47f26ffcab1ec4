//! The frame of every page, signing in and out, errors, and the files that pages load.

use std::collections::HashMap;
use std::sync::LazyLock;

use askama::Template;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use super::door::{self, Answer, Note, Posted, PostedByAnyone, Trouble, Visitor};
use crate::agent::{Digest, visible};
use crate::http::problem::Problem;
use crate::http::{Caller, Service, Via, session};
use crate::store::ApprovalFilter;

// ---- assets ----

/// A file that is compiled in. Its address holds its digest, so a browser may keep it for ever.
struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

const ASSETS: [Asset; 3] = [
    Asset {
        name: "console.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("../../../templates/web/console.css"),
    },
    Asset {
        name: "console.js",
        kind: "text/javascript; charset=utf-8",
        text: include_str!("../../../templates/web/console.js"),
    },
    Asset { name: "icon.svg", kind: "image/svg+xml", text: include_str!("../../../templates/web/icon.svg") },
];

/// Digest of all of them: part of each address.
static HASH: LazyLock<String> =
    LazyLock::new(|| Digest::of(ASSETS.map(|asset| asset.text).concat().as_bytes()).prefix());

fn address(name: &str) -> String {
    format!("/assets/{}/{name}", *HASH)
}

pub async fn asset(path: Result<Path<(String, String)>, PathRejection>) -> Response {
    // What is no text names nothing.
    let Ok(Path((hash, name))) = path else { return StatusCode::NOT_FOUND.into_response() };
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) if hash == *HASH => {
            let headers = [
                (header::CONTENT_TYPE, asset.kind),
                (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
                (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            (headers, asset.text).into_response()
        }
        Some(_) | None => StatusCode::NOT_FOUND.into_response(),
    }
}

// ---- the frame ----

/// What stands around the content of every page.
pub struct Page {
    pub title: String,
    pub app: String,
    /// Who is signed in.
    pub me: Option<String>,
    /// Whether there is a session of ours to leave.
    pub can_leave: bool,
    /// For every form.
    pub token: String,
    pub tab: &'static str,
    /// Approvals that wait for this person.
    pub waiting: u64,
    pub note: Option<Note>,
    /// Where changes are announced.
    pub live: Option<String>,
    pub css: String,
    pub js: String,
    pub icon: String,
}

impl Page {
    pub async fn new(service: &Service, visitor: &Visitor, tab: &'static str, title: impl Into<String>) -> Self {
        let caller = visitor.caller.as_ref();
        Self {
            title: visible::prose(&title.into()),
            app: service.settings().app_name.clone(),
            me: caller.map(|caller| visible::line(caller.principal.label())),
            can_leave: caller.is_some_and(|caller| caller.via == Via::Session),
            token: visitor.token.clone(),
            tab,
            waiting: match caller {
                Some(caller) => waiting(service, caller).await,
                None => 0,
            },
            note: visitor.note.clone().map(shown),
            live: None,
            css: address("console.css"),
            js: address("console.js"),
            icon: address("icon.svg"),
        }
    }

    pub fn live(mut self, at: String) -> Self {
        self.live = Some(at);
        self
    }

    pub fn with_note(mut self, note: Note) -> Self {
        self.note = Some(shown(note));
        self
    }
}

/// The sentence of a note may hold others' words.
fn shown(note: Note) -> Note {
    Note { text: visible::composed(&note.text), ..note }
}

/// How many approvals wait for this person; none if the store cannot say, which other pages report.
async fn waiting(service: &Service, caller: &Caller) -> u64 {
    let mine = ApprovalFilter {
        open: Some(true),
        decider: Some(caller.person(service.people())),
        ..ApprovalFilter::default()
    };
    service.runtime().parts().store.count_approvals(&mine).await.unwrap_or(0)
}

/// Marks a response that shows the note of the page before.
#[derive(Clone, Copy)]
pub struct IsPage;

/// A page from its template. What is foreign in it was shown by one of the views; nothing but prose passes this door,
/// whatever a template was given.
pub fn html(status: StatusCode, template: &impl Template) -> Response {
    let mut response = match template.render() {
        Ok(text) => (status, Html(visible::prose(&text))).into_response(),
        Err(error) => return Trouble(Problem::internal(&error)).into_response(),
    };
    response.extensions_mut().insert(IsPage);
    response
}

#[derive(Template)]
#[template(path = "web/problem.html")]
struct ProblemPage<'a> {
    page: Page,
    problem: &'a Problem,
    signed_out: bool,
    proxied: bool,
}

/// An error as a page of its own.
pub async fn problem(service: &Service, visitor: &Visitor, problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let signed_out = status == StatusCode::UNAUTHORIZED;
    let title = if signed_out { "Sign in".to_owned() } else { problem.title.clone() };
    let page = Page::new(service, visitor, "", title).await;
    let proxied = !service.settings().http.proxy.user_header.is_empty();
    let template = ProblemPage { page, problem, signed_out, proxied };
    match template.render() {
        Ok(text) => (status, Html(visible::prose(&text))).into_response(),
        Err(error) => {
            tracing::error!(%error, "the error page could not be made");
            (status, problem.detail.clone()).into_response()
        }
    }
}

// ---- signing in and out ----

#[derive(Template)]
#[template(path = "web/login.html")]
struct LoginPage {
    page: Page,
    person: String,
    link: String,
}

/// Shows whom a link signs in, and changes nothing.
pub async fn login(
    State(service): State<Service>,
    visitor: Visitor,
    Query(query): Query<HashMap<String, String>>,
) -> Answer {
    let Some(link) = query.get("token") else {
        let detail = "There is no link in this address.";
        return Err(Trouble(Problem::new(StatusCode::UNAUTHORIZED, "not_signed_in", detail)));
    };
    let person = session::look_at_link(&service, link).map_err(refused)?;
    let page = Page::new(&service, &visitor, "", "Sign in").await;
    Ok(html(StatusCode::OK, &LoginPage { page, person: visible::line(&person.id), link: link.clone() }))
}

fn refused(error: session::LinkError) -> Trouble {
    Trouble(Problem::new(StatusCode::UNAUTHORIZED, "bad_link", error.to_string()))
}

pub async fn sign_in(State(service): State<Service>, PostedByAnyone(fields): PostedByAnyone) -> Answer {
    match session::sign_in(&service, fields.text("link")) {
        Ok(Ok((person, cookie))) => {
            tracing::info!(person = person.id, "somebody signed in with a link");
            Ok(door::go_with("/", &cookie))
        }
        Ok(Err(error)) => Err(refused(error)),
        Err(error) => Err(Trouble(Problem::internal(&error))),
    }
}

pub async fn sign_out(State(service): State<Service>, headers: axum::http::HeaderMap, _posted: Posted) -> Answer {
    Ok(door::go_with("/", &session::sign_out(&service, &headers)))
}

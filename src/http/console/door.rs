//! The door of the console: who comes in, whether a form is one of ours, what every answer carries.
//!
//! Every route passes [`door`], so no page is without its headers, and no POST is done for a foreign page.
//! A handler that takes [`Posted`] has a person and a form whose token was checked; there is no other way
//! to the fields of a form. What goes wrong is a [`Trouble`], which the door turns into a page.

use axum::extract::{FromRequest, FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Form, RequestExt as _};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::pages;
use crate::http::problem::Problem;
use crate::http::{Caller, Service, session};

/// Nothing is loaded, run, framed or sent anywhere that is not this service.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// What one page has to say to the next.
const NOTE_COOKIE: &str = "twelve_note";
/// Longest note in characters; sealed it has to fit into a cookie.
const MAX_NOTE: usize = 500;
/// Set by our script on requests that fetch a page to show its changes: the note is for whoever reads it.
const QUIET: HeaderName = HeaderName::from_static("x-live");

/// A line above a page about what was just done, or refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub good: bool,
    pub text: String,
}

/// Who looks at a page, and what their forms carry.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub caller: Option<Caller>,
    pub token: String,
    pub note: Option<Note>,
}

/// A visitor who is somebody.
#[derive(Clone, Debug)]
pub struct Known {
    pub caller: Caller,
    pub visitor: Visitor,
}

/// The fields of a form, in their order.
#[derive(Clone, Debug, Default)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The first of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The first of this name, or nothing.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }
}

/// A form that a person sent from a page of ours.
pub struct Posted {
    pub caller: Caller,
    pub visitor: Visitor,
    pub fields: Fields,
}

/// The same where nobody is signed in yet.
pub struct PostedByAnyone(pub Fields);

/// Why a page could not be shown; the door makes it one.
pub struct Trouble(pub Problem);

impl<E: Into<Problem>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(std::sync::Arc::new(self.0));
        response
    }
}

/// What handlers give.
pub type Answer = Result<Response, Trouble>;

/// What every request of the console passes.
pub async fn door(State(service): State<Service>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let caller = session::find(&service, &parts);
    let known = session::form_key(&service, caller.as_ref(), &parts.headers);
    let fresh = if known.is_some() { None } else { session::random::<16>().ok().map(|key| HEXLOWER.encode(&key)) };
    let key = known.or_else(|| fresh.clone()).unwrap_or_default();
    let visitor =
        Visitor { token: session::form_token(&service, caller.as_ref(), &key), note: note(&service, &parts), caller };
    let shows_note = visitor.note.is_some();
    let head = (parts.method.clone(), parts.uri.path().to_owned());
    let response = if parts.method == Method::POST && session::is_foreign(&service, &parts.headers) {
        let detail = "This form was sent from a page of another site, so nothing was done. Open the console itself and try there.";
        Trouble(Problem::new(StatusCode::FORBIDDEN, "foreign_page", detail)).into_response()
    } else {
        parts.extensions.insert(visitor.clone());
        next.run(Request::from_parts(parts, body)).await
    };
    let mut response = match response.extensions().get::<std::sync::Arc<Problem>>().cloned() {
        Some(problem) => pages::problem(&service, &visitor, &problem).await,
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            let detail = format!("{} is nothing that can be done to {}.", head.0, head.1);
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
            pages::problem(&service, &visitor, &problem).await
        }
        None => response,
    };
    // What a page said once, it does not say again.
    let read = shows_note && response.extensions().get::<pages::IsPage>().is_some();
    let headers = response.headers_mut();
    if read {
        set_cookie(headers, &session::cookie(&service, NOTE_COOKIE, "", Some(0)));
    }
    if let Some(key) = fresh {
        set_cookie(headers, &session::cookie(&service, session::FORM_COOKIE, &key, None));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Within the service alone: under `no-referrer` a browser would not say where a form comes from.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn set_cookie(headers: &mut HeaderMap, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        headers.append(header::SET_COOKIE, value);
    }
}

fn note(service: &Service, parts: &Parts) -> Option<Note> {
    if parts.method != Method::GET || parts.headers.contains_key(QUIET) {
        return None;
    }
    let sealed = session::read_cookie(service, &parts.headers, NOTE_COOKIE)?;
    session::unseal(&service.settings().secret, "note", sealed)
}

/// Leads to another page; the note is shown there.
pub fn go(service: &Service, to: &str, note: Option<Note>) -> Response {
    let mut response = Redirect::to(to).into_response();
    if let Some(Note { good, text }) = note {
        let note = Note { good, text: text.chars().take(MAX_NOTE).collect() };
        let sealed = session::seal(&service.settings().secret, "note", &note);
        set_cookie(response.headers_mut(), &session::cookie(service, NOTE_COOKIE, &sealed, Some(60_000)));
    }
    response
}

/// The same, and a cookie of the session's.
pub fn go_with(to: &str, cookie: &str) -> Response {
    let mut response = Redirect::to(to).into_response();
    set_cookie(response.headers_mut(), cookie);
    response
}

fn visitor(parts: &Parts) -> Result<Visitor, Trouble> {
    let missing = "a route of the console is not behind its door";
    parts.extensions.get::<Visitor>().cloned().ok_or_else(|| Trouble(Problem::internal(&missing)))
}

fn known(visitor: Visitor) -> Result<Known, Trouble> {
    match visitor.caller.clone() {
        Some(caller) => Ok(Known { caller, visitor }),
        None => {
            let detail = "You are not signed in.";
            Err(Trouble(Problem::new(StatusCode::UNAUTHORIZED, "not_signed_in", detail)))
        }
    }
}

impl FromRequestParts<Service> for Visitor {
    type Rejection = Trouble;
    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, Trouble> {
        visitor(parts)
    }
}

impl FromRequestParts<Service> for Known {
    type Rejection = Trouble;
    async fn from_request_parts(parts: &mut Parts, _: &Service) -> Result<Self, Trouble> {
        known(visitor(parts)?)
    }
}

/// The fields, if the form carries the token that was given to this visitor.
async fn checked(request: Request, visitor: &Visitor) -> Result<Fields, Trouble> {
    let form: Form<Vec<(String, String)>> =
        request.extract().await.map_err(|refused: axum::extract::rejection::FormRejection| {
            let detail = format!(
                "The form could not be read ({}). Go back, load the page again, and try once more.",
                refused.body_text()
            );
            Trouble(Problem::new(refused.status(), "unreadable_form", detail))
        })?;
    let fields = Fields(form.0);
    if !session::same(fields.text("token"), &visitor.token) {
        let detail = "This form was not made for you, or is from before you signed in, so nothing was done. Load the page again and try once more.";
        return Err(Trouble(Problem::new(StatusCode::FORBIDDEN, "bad_form_token", detail)));
    }
    Ok(fields)
}

impl FromRequest<Service> for Posted {
    type Rejection = Trouble;
    async fn from_request(request: Request, _: &Service) -> Result<Self, Trouble> {
        let visitor = request.extensions().get::<Visitor>().cloned();
        let Known { caller, visitor } = known(visitor.ok_or_else(|| Trouble(Problem::internal(&"no door")))?)?;
        let fields = checked(request, &visitor).await?;
        Ok(Self { caller, visitor, fields })
    }
}

impl FromRequest<Service> for PostedByAnyone {
    type Rejection = Trouble;
    async fn from_request(request: Request, _: &Service) -> Result<Self, Trouble> {
        let visitor = request.extensions().get::<Visitor>().cloned();
        let visitor = visitor.ok_or_else(|| Trouble(Problem::internal(&"no door")))?;
        Ok(Self(checked(request, &visitor).await?))
    }
}

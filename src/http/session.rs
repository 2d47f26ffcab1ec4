//! People with a browser: who they are, how they get in, and what keeps a foreign page from acting for them.
//!
//! Three ways in, tried in this order: the demo (whoever connects from this machine is one person), a proxy that is
//! trusted by its address, a session of ours. A session begins with a link that `twelve login-link` prints;
//! nobody ever types in who they are.
//!
//! Everything that leaves this program and comes back (sessions, links, notes for the next page) is sealed:
//! the data, readable, and an HMAC-SHA256 over its purpose and itself. So a session costs no storage and
//! survives a restart. What has to be remembered is what must not be used again: links that were used and
//! sessions that were left, in memory, until they would have ended anyway. A restart forgets them, so a link
//! that is older than the process is refused; a session that was left before a restart lives on until its
//! time is up, in the hands of whoever copied its cookie.
//!
//! A form carries a token that is an HMAC over the session (or, where there is none, over a random cookie)
//! and the person. Where a browser says which page a form was sent from, that has to be ours as well.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::ensure;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use data_encoding::{BASE64URL_NOPAD, HEXLOWER};
use hmac::{Hmac, Mac as _};
use secrecy::ExposeSecret as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::auth::is_trusted;
use super::{Caller, Peer, Service, Via, secret_file};
use crate::agent::{Principal, Timestamp};
use crate::config::{self, HttpConfig, Scope};

/// How long a login link is good for, in milliseconds. Long enough to be sent, too short to be found.
pub const LINK_MS: u64 = 10 * 60 * 1_000;

/// Groups that are taken from a proxy's header; the rest is left out.
const MAX_GROUPS: usize = 200;
/// Shortest `http.secret` that is taken, in bytes.
const MIN_SECRET: usize = 16;

type Sealing = Hmac<Sha256>;

// ---- the secret ----

/// The secret that signs: from the setting, else from the key file in `data_dir`, which whoever needs it
/// first makes.
///
/// # Errors
/// The setting is too short; the file cannot be made or read, is not a key, or others can read it.
pub fn secret(http: &HttpConfig, data_dir: &Path) -> anyhow::Result<[u8; 32]> {
    let given = http.secret.expose_secret();
    if given.is_empty() {
        return secret_file::key(data_dir);
    }
    ensure!(
        given.len() >= MIN_SECRET,
        "`http.secret` has {} bytes; set at least {MIN_SECRET}, for example the output of `openssl rand -hex 32`",
        given.len()
    );
    Ok(Sha256::digest(given.as_bytes()).into())
}

/// Bytes that nobody can guess.
///
/// # Errors
/// The operating system has none.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let random = rustls::crypto::ring::default_provider().secure_random;
    random.fill(&mut bytes).map_err(|_| anyhow::anyhow!("the operating system gave no random bytes"))?;
    Ok(bytes)
}

// ---- seals ----

/// HMAC over the purpose and the parts. Each is preceded by its length, so that no two lists look the same.
fn mac(secret: &[u8; 32], purpose: &str, parts: &[&str]) -> [u8; 32] {
    // reason: HMAC takes keys of any length; without one the seal would match nothing
    let Ok(mut mac) = Sealing::new_from_slice(secret) else { return [0; 32] };
    for part in std::iter::once(&purpose).chain(parts) {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

/// Data that comes back unchanged or not at all.
pub(super) fn seal<T: Serialize>(secret: &[u8; 32], purpose: &str, data: &T) -> String {
    // reason: plain structs with string keys; serde_json cannot fail on those
    let data = BASE64URL_NOPAD.encode(&serde_json::to_vec(data).unwrap_or_default());
    let mac = BASE64URL_NOPAD.encode(&mac(secret, purpose, &[&data]));
    format!("{data}.{mac}")
}

/// The data, if this program sealed it for this purpose.
pub(super) fn unseal<T: DeserializeOwned>(secret: &[u8; 32], purpose: &str, sealed: &str) -> Option<T> {
    let (data, given) = sealed.split_once('.')?;
    let given = BASE64URL_NOPAD.decode(given.as_bytes()).ok()?;
    if !bool::from(mac(secret, purpose, &[data]).ct_eq(given.as_slice())) {
        return None;
    }
    serde_json::from_slice(&BASE64URL_NOPAD.decode(data.as_bytes()).ok()?).ok()
}

// ---- what must not be used again ----

/// Links that were used and sessions that were left, until they would have ended anyway.
pub(super) struct Sessions {
    /// Links from before are refused: whether they were used is forgotten.
    since: Timestamp,
    spent: Mutex<HashMap<String, Timestamp>>,
}

impl Sessions {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { since: now, spent: Mutex::default() }
    }

    /// Notes that `id` must not be used until `until`; `false` if it was noted before.
    fn spend(&self, id: &str, until: Timestamp, now: Timestamp) -> bool {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        // Only what this program sealed comes this far, so the list is as long as links were made and left.
        spent.retain(|_, until| *until > now);
        spent.insert(id.to_owned(), until).is_none()
    }

    fn is_spent(&self, id: &str) -> bool {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }
}

// ---- links and sessions ----

/// A signed-in person, as the cookie says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Session {
    person: String,
    until: Timestamp,
    nonce: String,
}

/// What a login link carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Link {
    person: String,
    made: Timestamp,
    until: Timestamp,
    jti: String,
}

const SESSION: &str = "session";
const LINK: &str = "link";

/// Why a link lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("This link is not one of ours, or a part of it got lost. Copy it whole, or ask for a new one.")]
    Forged,
    #[error("This link is older than ten minutes, so it does not work any more. Ask for a new one.")]
    Expired,
    #[error("This link was used before, and each works once. Ask for a new one.")]
    Used,
    #[error(
        "The service was started again after this link was made, so it cannot tell whether the link was used. Ask for a new one."
    )]
    Restarted,
}

/// The token of a link that signs this person in once, within [`LINK_MS`] from `now`.
///
/// # Errors
/// As [`random`].
pub fn login_token(secret: &[u8; 32], person: &Principal, now: Timestamp) -> anyhow::Result<String> {
    let jti = HEXLOWER.encode(&random::<16>()?);
    Ok(seal(secret, LINK, &Link { person: person.id.clone(), made: now, until: now.plus_ms(LINK_MS), jti }))
}

/// Whom a link would sign in. Changes nothing: programs that look into mails follow links as well.
pub(super) fn look_at_link(service: &Service, token: &str) -> Result<Principal, LinkError> {
    check_link(service, token).map(|link| Principal::human(link.person))
}

fn check_link(service: &Service, token: &str) -> Result<Link, LinkError> {
    let link: Link = unseal(&service.settings().secret, LINK, token).ok_or(LinkError::Forged)?;
    if link.until <= now(service) {
        return Err(LinkError::Expired);
    }
    if link.made < service.sessions().since {
        return Err(LinkError::Restarted);
    }
    if service.sessions().is_spent(&link.jti) {
        return Err(LinkError::Used);
    }
    Ok(link)
}

/// Uses a link up; gives the person and the cookie of their session.
///
/// # Errors
/// The link lets nobody in, or (the outer error) no random bytes could be had.
pub(super) fn sign_in(service: &Service, token: &str) -> anyhow::Result<Result<(Principal, String), LinkError>> {
    let link = match check_link(service, token) {
        Ok(link) => link,
        Err(refused) => return Ok(Err(refused)),
    };
    let (now, nonce) = (now(service), HEXLOWER.encode(&random::<16>()?));
    if !service.sessions().spend(&link.jti, link.until, now) {
        return Ok(Err(LinkError::Used));
    }
    let length = service.settings().http.session;
    let session = Session { person: link.person.clone(), until: now.plus_ms(length), nonce };
    let value = seal(&service.settings().secret, SESSION, &session);
    Ok(Ok((Principal::human(link.person), cookie(service, SESSION_COOKIE, &value, Some(length)))))
}

/// Ends the session of this request, if it has one; gives the cookie that takes it away.
pub(super) fn sign_out(service: &Service, headers: &HeaderMap) -> String {
    if let Some(session) = session(service, headers) {
        service.sessions().spend(&session.nonce, session.until, now(service));
    }
    cookie(service, SESSION_COOKIE, "", Some(0))
}

fn session(service: &Service, headers: &HeaderMap) -> Option<Session> {
    let value = read_cookie(service, headers, SESSION_COOKIE)?;
    let session: Session = unseal(&service.settings().secret, SESSION, value)?;
    (session.until > now(service) && !service.sessions().is_spent(&session.nonce)).then_some(session)
}

fn now(service: &Service) -> Timestamp {
    service.runtime().parts().clock.now()
}

// ---- who is asking ----

/// Who sends this request with a browser, if that is known.
pub fn find(service: &Service, parts: &Parts) -> Option<Caller> {
    let settings = service.settings();
    if let Some(person) = &settings.demo
        && is_trusted(service, parts)
    {
        return Some(caller(service, person.clone(), Vec::new(), Via::Demo));
    }
    if let Some((person, groups)) = proxied(&settings.http, parts) {
        return Some(caller(service, person, groups, Via::Proxy));
    }
    let session = session(service, &parts.headers)?;
    Some(caller(service, Principal::human(session.person), Vec::new(), Via::Session))
}

fn caller(service: &Service, principal: Principal, groups: Vec<String>, via: Via) -> Caller {
    let mut scopes = BTreeSet::from([Scope::Start, Scope::Read, Scope::Resume, Scope::Approve]);
    if via == Via::Demo || service.settings().http.admins.contains(&principal.id) {
        scopes.insert(Scope::Admin);
    }
    Caller { principal, groups, scopes, via }
}

/// The person that a trusted proxy has signed in.
fn proxied(http: &HttpConfig, parts: &Parts) -> Option<(Principal, Vec<String>)> {
    let proxy = &http.proxy;
    if proxy.user_header.is_empty() {
        return None;
    }
    let Peer(peer) = parts.extensions.get::<Peer>()?;
    if !comes_from(peer.ip(), &proxy.from) {
        return None;
    }
    let user = the_only(&parts.headers, &proxy.user_header)?;
    let id = format!("{}{user}", proxy.prefix);
    if user.is_empty()
        || id.len() > config::MAX_PERSON
        || !user.chars().all(config::is_name_char)
        || config::is_reserved(&id)
    {
        return None;
    }
    let groups = if proxy.groups_header.is_empty() { None } else { the_only(&parts.headers, &proxy.groups_header) };
    let groups = groups.unwrap_or("").split(',').map(str::trim).filter(|group| !group.is_empty());
    Some((Principal::human(id), groups.take(MAX_GROUPS).map(str::to_owned).collect()))
}

/// Whether an address is one of these, or in one of these networks.
pub(super) fn comes_from(address: IpAddr, networks: &[String]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| match (network.parse::<ipnet::IpNet>(), network.parse::<IpAddr>()) {
        (Ok(network), _) => network.contains(&address),
        (_, Ok(one)) => one.to_canonical() == address,
        (Err(_), Err(_)) => false,
    })
}

/// The value of a header that is there once. Of two, a proxy that only adds its own leaves one of the client's.
fn the_only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let name: HeaderName = name.parse().ok()?;
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(one), None) => one.to_str().ok().map(str::trim),
        _ => None,
    }
}

// ---- cookies ----

pub(super) const SESSION_COOKIE: &str = "twelve_session";
/// Random: what form tokens rest on where there is no session.
pub(super) const FORM_COOKIE: &str = "twelve_form";

/// Whether people reach the service by https.
fn is_https(service: &Service) -> bool {
    service.settings().http.public_url().starts_with("https://")
}

/// Under https a cookie's name binds it to this very host.
fn cookie_name(service: &Service, name: &str) -> String {
    if is_https(service) { format!("__Host-{name}") } else { name.to_owned() }
}

/// A `Set-Cookie` value that scripts cannot read and other sites' forms do not send. `ms` is how long the
/// browser keeps it; without, until it is closed.
pub(super) fn cookie(service: &Service, name: &str, value: &str, ms: Option<u64>) -> String {
    let secure = if is_https(service) { "; Secure" } else { "" };
    let age = ms.map_or_else(String::new, |ms| format!("; Max-Age={}", ms / 1_000));
    format!("{}={value}; Path=/; HttpOnly; SameSite=Lax{secure}{age}", cookie_name(service, name))
}

/// The value of a cookie of ours.
pub(super) fn read_cookie<'a>(service: &Service, headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let name = cookie_name(service, name);
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    cookies
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(given, _)| *given == name)
        .map(|(_, value)| value)
}

// ---- forms ----

/// What the form tokens of this request rest on: its session, else its random cookie.
pub(super) fn form_key(service: &Service, caller: Option<&Caller>, headers: &HeaderMap) -> Option<String> {
    if caller.is_some_and(|caller| caller.via == Via::Session) {
        return session(service, headers).map(|session| session.nonce);
    }
    read_cookie(service, headers, FORM_COOKIE).filter(|key| key.len() == 32).map(str::to_owned)
}

/// The token that each form of this person carries.
pub(super) fn form_token(service: &Service, caller: Option<&Caller>, key: &str) -> String {
    let person = caller.map_or("", |caller| caller.principal.id.as_str());
    BASE64URL_NOPAD.encode(&mac(&service.settings().secret, "form", &[key, person]))
}

/// Whether two texts are the same, without telling by the time it takes how much of them is.
pub(super) fn same(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

/// Whether the browser says that this was sent from another site's page. Old browsers say nothing; the
/// token in the form is what is relied upon.
pub(super) fn is_foreign(service: &Service, headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if text(HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site != "same-origin") {
        return true;
    }
    let Some(origin) = text(header::ORIGIN) else { return false };
    let public = service.settings().http.public_url();
    let host = text(header::HOST).unwrap_or("");
    // `public_url` may go on with a path.
    let names_us = public == origin
        || public.strip_prefix(origin).is_some_and(|path| path.starts_with('/'))
        || origin.split_once("://").is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && rest == host);
    host.is_empty() || !names_us
}

/// A thread that belongs to one filled-in form of one person: sending it twice leads to the same thread,
/// and nobody else's form leads there.
pub(super) fn thread_of_form(service: &Service, person: &Principal, form: &str) -> String {
    let mac = mac(&service.settings().secret, "thread", &[&person.id, form]);
    format!("web:{}", HEXLOWER.encode(mac.get(..16).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_is_good_for_its_purpose_and_its_data_alone() {
        let secret = [7; 32];
        let sealed = seal(&secret, "a", &"data");
        assert_eq!(unseal::<String>(&secret, "a", &sealed).as_deref(), Some("data"));
        assert_eq!(unseal::<String>(&secret, "b", &sealed), None);
        assert_eq!(unseal::<String>(&[8; 32], "a", &sealed), None);
        let (data, mac) = sealed.split_once('.').unwrap();
        let other = BASE64URL_NOPAD.encode(b"\"dat4\"");
        for forged in [format!("{other}.{mac}"), format!("{data}."), data.to_owned(), format!("{data}.{data}")] {
            assert_eq!(unseal::<String>(&secret, "a", &forged), None, "{forged}");
        }
    }

    #[test]
    fn addresses_are_compared_as_what_they_are() {
        let from = ["10.0.0.0/8".to_owned(), "::1".to_owned(), "127.0.0.1".to_owned(), "nonsense".to_owned()];
        for (address, good) in
            [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("::1", true), ("127.0.0.2", false), ("11.0.0.1", false)]
        {
            assert_eq!(comes_from(address.parse().unwrap(), &from), good, "{address}");
        }
    }
}

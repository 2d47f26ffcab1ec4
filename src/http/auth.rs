//! Who is asking: bearer tokens and their scopes. A connection from this machine is no identity (a reverse proxy
//! makes one for whoever asks it): programs here send the local token, unless `http.trust_loopback` says otherwise.
//!
//! [`identify`] looks at a request once, in front of everything ([`super::guard`] calls it, since the rate
//! depends on it); handlers then take a [`Caller`], or [`May`] with the scope that they need. People with a
//! browser are `session`'s. What a caller may see of threads is [`Caller::sees`].

use std::marker::PhantomData;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::problem::Problem;
use super::serve::is_loopback_host;
use super::{Caller, Peer, Service, Via, session};
use crate::agent::Principal;
use crate::config::{LOCAL, Scope, TokenConfig};

/// Longest presented token that is looked at, in bytes; ours have 50.
const MAX_TOKEN: usize = 512;
/// What says that a request was forwarded: whoever sent it need not be on this machine.
const FORWARDED: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];

/// What a caller without a good token can do, as it stands in a 401.
const HOW_TO_SEND_ONE: &str = "On the machine of the service send the local one: -H \"Authorization: Bearer $(twelve token local)\". Elsewhere send one that an operator makes with `twelve token`.";

/// The configured tokens, ready to be compared.
pub struct Tokens(Vec<(Vec<u8>, Caller)>);

impl Tokens {
    /// Those whose hash can be read (the configuration refuses others at the start), and the local one.
    pub fn of(config: &[TokenConfig], local: Option<&SecretString>) -> Self {
        let local = local.map(|token| (Sha256::digest(token.expose_secret()).to_vec(), local_program(Via::Local)));
        Self(config.iter().filter_map(|token| Some((token.digest()?, caller(token)))).chain(local).collect())
    }

    /// Compared with every one, however early it is found: the time says nothing.
    fn find(&self, presented: &str) -> Option<&Caller> {
        let hash = Sha256::digest(presented.as_bytes());
        self.0.iter().fold(
            None,
            |found, (known, caller)| {
                if bool::from(known.as_slice().ct_eq(hash.as_slice())) { Some(caller) } else { found }
            },
        )
    }
}

fn caller(token: &TokenConfig) -> Caller {
    let principal = match &token.person {
        // What the token starts is this person's, too: else one token could ask for something and approve it.
        Some(person) => Principal::human(person.clone()),
        None => Principal::service(format!("api:{}", token.name)),
    };
    let scopes = token.scopes.iter().copied().collect();
    Caller { principal, groups: Vec::new(), scopes, via: Via::Token(token.name.clone()) }
}

/// A program on this machine: it starts, reads and answers, and never decides.
fn local_program(via: Via) -> Caller {
    Caller {
        principal: Principal::service(format!("api:{LOCAL}")),
        groups: Vec::new(),
        scopes: [Scope::Start, Scope::Read, Scope::Resume].into(),
        via,
    }
}

/// What a request says about who sent it.
#[derive(Clone, Debug)]
pub enum Identity {
    Known(Caller),
    /// It brings nothing.
    Nobody,
    /// It brings something that is not good here.
    Wrong,
}

/// Who sent a request, as the transport vouches for it.
pub fn identify(service: &Service, parts: &Parts) -> Identity {
    if presents_token(&parts.headers) {
        let presented = bearer(&parts.headers);
        return match presented.and_then(|presented| service.tokens().find(presented)) {
            Some(caller) => Identity::Known(caller.clone()),
            None => Identity::Wrong,
        };
    }
    let reads = parts.method.is_safe();
    // A browser sends its session along with what any page makes it send, so it only counts for looking.
    let person = session::find(service, parts).filter(|person| reads && person.via != Via::Demo);
    match person.or_else(|| here(service, parts)) {
        Some(caller) => Identity::Known(caller),
        None => Identity::Nobody,
    }
}

/// Who a request is counted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payer {
    Token(String),
    /// By their id.
    Person(String),
    /// Whoever is at the address that it comes from.
    Address,
}

/// Who pays for a request. A session counts here for every method: what is sent in its person's name may be
/// held against them, though it gives no right.
pub fn payer(service: &Service, parts: &Parts, identity: &Identity) -> Payer {
    let person = |caller: &Caller| match &caller.via {
        Via::Token(name) => Some(Payer::Token(name.clone())),
        Via::Session | Via::Proxy => Some(Payer::Person(caller.principal.id.clone())),
        // No configured token can have this name.
        Via::Local => Some(Payer::Token(LOCAL.to_owned())),
        Via::Loopback | Via::Demo => None,
    };
    let known = match identity {
        Identity::Known(caller) => person(caller),
        Identity::Nobody => session::find(service, parts).as_ref().and_then(person),
        Identity::Wrong => None,
    };
    known.unwrap_or(Payer::Address)
}

/// Whether a request brings a bearer token. What else stands in `Authorization` is for somebody else, such
/// as a proxy that signs people in by a password and passes that on.
fn presents_token(headers: &HeaderMap) -> bool {
    let is_bearer = |value: &HeaderValue| {
        let scheme = value.as_bytes().split(|b| *b == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"bearer")
    };
    headers.get_all(header::AUTHORIZATION).iter().any(is_bearer)
}

/// Whether both ends are this machine: the connection comes from it, and whoever asks meant it by name. The
/// second keeps a foreign page out whose name was pointed to this address; nothing may have passed the request
/// on, since whoever sent it then need not be here. A proxy that says nothing of itself looks the same: this
/// alone lets nobody in, see [`is_trusted`].
fn is_from_this_machine(parts: &Parts) -> bool {
    let near = parts.extensions.get::<Peer>().is_some_and(|Peer(peer)| peer.ip().to_canonical().is_loopback());
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    near && is_loopback_host(name_of(host)) && !FORWARDED.iter().any(|name| parts.headers.contains_key(*name))
}

/// The one bearer token of a request.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let well_formed = (1..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    (scheme.eq_ignore_ascii_case("bearer") && well_formed).then_some(token)
}

/// Whether a connection from this machine is enough for this request.
pub(super) fn is_trusted(service: &Service, parts: &Parts) -> bool {
    service.settings().http.trust_loopback && is_from_this_machine(parts)
}

/// A program, or in the demo the person, on this machine, where that needs no token. A page of another site in
/// a browser on this machine does not count, and neither does what says that a proxy passed it on.
fn here(service: &Service, parts: &Parts) -> Option<Caller> {
    let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text("host")?;
    let own_page = text("origin")
        .is_none_or(|origin| origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host)))
        && text("sec-fetch-site").is_none_or(|site| matches!(site, "same-origin" | "none"));
    if !(is_trusted(service, parts) && own_page) {
        return None;
    }
    Some(match &service.settings().demo {
        Some(person) => Caller {
            principal: person.clone(),
            groups: Vec::new(),
            scopes: [Scope::Start, Scope::Read, Scope::Resume, Scope::Approve, Scope::Admin].into(),
            via: Via::Demo,
        },
        None => local_program(Via::Loopback),
    })
}

/// The name in an authority: `localhost` of `localhost:8000`, `[::1]` of `[::1]:8000`.
pub fn name_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => authority,
    }
}

/// The host of a URL.
pub fn host_of(url: &str) -> Option<String> {
    url.parse::<axum::http::Uri>().ok()?.host().map(str::to_owned)
}

impl FromRequestParts<Service> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let identity = match parts.extensions.get::<Identity>() {
            Some(identity) => identity.clone(),
            None => identify(service, parts),
        };
        match identity {
            Identity::Known(caller) => Ok(caller),
            // The same for both: what is wrong with a token is nobody's business.
            Identity::Nobody | Identity::Wrong => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                format!("This needs a token that is known here. {HOW_TO_SEND_ONE}"),
            )),
        }
    }
}

/// A caller with a scope: the first argument of a handler, so that nothing else is looked at before.
pub struct May<S>(pub Caller, pub PhantomData<S>);

/// A scope as a type.
pub trait Wanted {
    const SCOPE: Scope;
}

macro_rules! wanted {
    ($($name:ident),*) => { $(
        #[doc = concat!("The scope of the same name, for [`May`].")]
        pub struct $name;
        impl Wanted for $name {
            const SCOPE: Scope = Scope::$name;
        }
    )* };
}
wanted!(Start, Read, Resume, Approve, Admin);

impl<S: Wanted + Send> FromRequestParts<Service> for May<S> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Service) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, service).await?;
        require(&caller, S::SCOPE)?;
        Ok(Self(caller, PhantomData))
    }
}

/// Whether a caller has a scope; who administers reads as well.
///
/// # Errors
/// 403, which names the scope.
pub fn require(caller: &Caller, scope: Scope) -> Result<(), Problem> {
    if caller.may(scope) || (scope == Scope::Read && caller.may(Scope::Admin)) {
        return Ok(());
    }
    let word = scope_word(scope);
    let detail =
        format!("This needs the scope `{word}`, which you do not have. An operator can give it to your token.");
    Err(Problem::new(StatusCode::FORBIDDEN, "missing_scope", detail).with("scope", word))
}

/// A scope as it stands in the configuration.
pub fn scope_word(scope: Scope) -> &'static str {
    match scope {
        Scope::Start => "start",
        Scope::Read => "read",
        Scope::Resume => "resume",
        Scope::Approve => "approve",
        Scope::Admin => "admin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_among_many_and_only_by_itself() {
        let hash = |text: &str| format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(text)));
        let token =
            |name: &str| TokenConfig { name: name.into(), hash: hash(name), scopes: vec![Scope::Read], person: None };
        let local = SecretString::from("four");
        let tokens = Tokens::of(&[token("one"), token("two"), token("three")], Some(&local));
        assert_eq!(tokens.find("four").unwrap().via, Via::Local);
        assert_eq!(tokens.find("two").unwrap().via, Via::Token("two".into()));
        assert!(tokens.find("twoo").is_none() && tokens.find("").is_none() && tokens.find(&hash("two")).is_none());
    }

    #[test]
    fn a_token_stands_alone_behind_the_word_bearer() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            headers
        };
        assert_eq!(bearer(&headers(&["bearer abc"])), Some("abc"));
        for bad in [&["Bearer"][..], &["Bearer "], &["Bearer a b"], &["Basic abc"], &["Bearer a", "Bearer a"], &["abc"]]
        {
            assert_eq!(bearer(&headers(bad)), None, "{bad:?}");
        }
        assert_eq!(bearer(&headers(&[&format!("Bearer {}", "x".repeat(513))])), None);
    }

    #[test]
    fn only_the_word_bearer_presents_a_token() {
        let presents = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            presents_token(&headers)
        };
        for yes in [&["Bearer x"][..], &["bearer"], &["BEARER "], &["Basic YQ==", "Bearer x"]] {
            assert!(presents(yes), "{yes:?}");
        }
        for no in [&[][..], &["Basic YQ=="], &["Bearerx y"], &["Digest bearer"], &[""]] {
            assert!(!presents(no), "{no:?}");
        }
    }

    #[test]
    fn the_port_is_no_part_of_a_name() {
        for (authority, name) in [
            ("localhost:8000", "localhost"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("a.b", "a.b"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(name_of(authority), name);
        }
    }
}

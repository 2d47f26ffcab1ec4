//! The HTTP service: REST, webhooks, the web console, and what operators look at.
//!
//! Every request passes the same three doors, in this order: [`guard`] (size, time, the right host), then who is asking ([`auth`] for programs with a token, [`session`] for people with a
//! browser; both give a [`Caller`]), then what they may see. What a request does is an input to the
//! runtime; nothing here decides about an agent. The thread's log is what people look at: these surfaces
//! (`api`, `web`) have no postings.
//!
//! | file | owns |
//! |---|---|
//! | `serve` | listening, connections, the drain |
//! | `guard` | bounds and refusals in front of everything |
//! | `auth` | bearer tokens, scopes, rate limits, [`Caller`] |
//! | `secret_file` | the files of the signing key and of the local token |
//! | `session` | people: login links, sessions, trusted proxies, CSRF |
//! | `problem` | errors as problem details |
//! | `rest`, `approvals` | the REST API: threads; what people decide |
//! | `ask` | what its requests bring: names, parameters, idempotency keys |
//! | `live` | events of a thread as they happen |
//! | `webhooks` | signed webhooks |
//! | `slack` | what Slack delivers |
//! | `docs` | the OpenAPI document and its page |
//! | `ops` | health, readiness, metrics |
//! | `access` | one log line and one count for each request |
//! | `console` | the web console: chat and inbox |

pub mod access;
pub mod approvals;
pub mod ask;
pub mod auth;
pub mod console;
pub mod docs;
pub mod guard;
pub mod live;
pub mod ops;
pub mod problem;
pub mod rest;
pub mod secret_file;
pub mod serve;
pub mod session;
pub mod slack;
pub mod webhooks;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::agent::{Approval, ApprovalState, People, Principal, Sameness, Terms, Thread, as_approver};
use crate::chat::slack::Front;
use crate::config::{HttpConfig, Scope};
use crate::platform::reach;
use crate::runtime::Runtime;
use crate::store::Person;
use crate::triggers::Triggers;

/// Everything that a request handler is given. Clones are handles to the same service.
#[derive(Clone)]
pub struct Service(Arc<Inner>);

struct Inner {
    runtime: Runtime,
    settings: Settings,
    tokens: auth::Tokens,
    rates: guard::Rates,
    /// Places for live streams.
    streams: Arc<live::Streams>,
    sessions: session::Sessions,
}

/// What the service is made of besides the runtime.
pub struct Settings {
    pub http: HttpConfig,
    /// The name under which the program speaks.
    pub app_name: String,
    /// Signs sessions, links and CSRF tokens.
    pub secret: [u8; 32],
    /// The token of programs on this machine. Holding it makes a caller local; where they connect from does not.
    pub local_token: Option<SecretString>,
    /// In the demo whoever connects from this machine is this person, with every right.
    pub demo: Option<Principal>,
    /// Fires when the service is to stop: live streams end then.
    pub stop: CancellationToken,
    /// Webhooks that start agents.
    pub triggers: Arc<Triggers>,
    /// What takes Slack's deliveries, where there is a Slack.
    pub slack: Option<Front>,
}

/// The other end of the connection that a request came by, in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

impl Service {
    pub fn new(runtime: Runtime, settings: Settings) -> Self {
        let sessions = session::Sessions::new(runtime.parts().clock.now());
        Self(Arc::new(Inner {
            tokens: auth::Tokens::of(&settings.http.tokens, settings.local_token.as_ref()),
            rates: guard::Rates::new(settings.http.requests_per_minute),
            streams: live::Streams::new(settings.http.max_connections),
            sessions,
            runtime,
            settings,
        }))
    }

    fn sessions(&self) -> &session::Sessions {
        &self.0.sessions
    }

    pub fn runtime(&self) -> &Runtime {
        &self.0.runtime
    }

    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Who is behind which identities.
    pub fn people(&self) -> &People {
        &self.runtime().parts().people
    }

    fn tokens(&self) -> &auth::Tokens {
        &self.0.tokens
    }

    fn rates(&self) -> &guard::Rates {
        &self.0.rates
    }

    fn streams(&self) -> &Arc<live::Streams> {
        &self.0.streams
    }

    /// All routes, behind the guard.
    pub fn router(&self) -> Router {
        let routes = Router::new()
            .merge(console::routes(self))
            .merge(rest::routes())
            .merge(approvals::routes())
            .merge(live::routes())
            .merge(webhooks::routes())
            .merge(slack::routes(self))
            .merge(ops::routes())
            .merge(docs::routes());
        // Outermost, so that what the others refuse is counted as well.
        let counted = axum::middleware::from_fn_with_state(self.clone(), access::record);
        guard::around(routes, self).layer(counted).with_state(self.clone())
    }
}

/// Who is asking, as the transport vouches for it. Never from a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    pub principal: Principal,
    /// Groups that the transport vouches for.
    pub groups: Vec<String>,
    pub scopes: BTreeSet<Scope>,
    pub via: Via,
}

/// How somebody came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// A bearer token of this name.
    Token(String),
    /// A browser with a session of ours.
    Session,
    /// A browser behind a trusted proxy.
    Proxy,
    /// A program with the local token.
    Local,
    /// A connection from this machine, where `http.trust_loopback` says that this is enough.
    Loopback,
    /// The demo.
    Demo,
}

impl Caller {
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// This caller with the other names that the directory knows of them, for lists.
    pub fn person(&self, people: &People) -> Person {
        Person::of(&self.principal, &self.groups, people)
    }

    /// Whether this thread is theirs to look at and to steer: they take part in it, or see everything. Who may only
    /// decide in it sees what there is to decide: [`Caller::sees_approval`].
    pub fn sees(&self, thread: &Thread, people: &People) -> bool {
        self.may(Scope::Admin) || reach::takes_part(&self.principal, thread, people)
    }

    /// Whether this request to people is theirs to look at: they see its thread, asked for it, voted on it,
    /// or may decide it and still can.
    pub fn sees_approval(&self, thread: &Thread, approval: &Approval, people: &People) -> bool {
        let undecided = matches!(approval.state, ApprovalState::Pending | ApprovalState::Revising { .. });
        let own = |other: &Principal| people.compare(other, &self.principal) == Sameness::Same;
        self.sees(thread, people)
            || approval.requesters.iter().any(own)
            || approval.votes.iter().any(|vote| own(&vote.by))
            || (undecided && self.is_approver(&approval.terms, people))
    }

    /// Whether they may send a decision: who comes too late for one is told what became of the request,
    /// and sees nothing else of it.
    pub fn answers(&self, thread: &Thread, approval: &Approval, people: &People) -> bool {
        self.sees_approval(thread, approval, people) || self.is_approver(&approval.terms, people)
    }

    fn is_approver(&self, terms: &Terms, people: &People) -> bool {
        as_approver(terms, &self.principal, &self.groups, people).is_some()
    }
}

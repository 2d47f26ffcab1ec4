//! **Twelve**: 12-factor agents that live in chat threads and ask before they act.
//!
//! # Bird's eye
//! A person writes to a small, focused agent. The agent is a fold over an event log: a model picks one
//! structured next step at a time, deterministic code does the rest. A tool that can do harm becomes an
//! approval bound to the exact arguments that people see; the run holds nothing while it waits, survives
//! `kill -9`, and goes on when somebody decides, minutes or weeks later.
//!
//! ```text
//!   command line   browser   REST   Slack   webhook   schedule   (Discord, mail: later)
//!          \          |       |      |       |         /
//!           v         v       v      v       v        v
//!   cli, http, chat, triggers: who is it, what do they want     -> agent::Input
//!                 |
//!   runtime: load the fold, agent::step (PURE)            -> events, already folded
//!            compare-and-append (store)                   conflict: load and decide again
//!            tell the person
//!            perform what is runnable (llm, tools, platform)
//!                 |
//!                 +---- every result is an Input again
//! ```
//!
//! # Code map
//! | room | owns | uses |
//! |---|---|---|
//! | [`agent`] | the core, PURE: events, the fold, decisions, the gate, the context window, agents as data | nothing |
//! | [`runtime`] | the only loop: deliver, perform, timers and recovery, drain | agent, llm, metrics, tools, platform, store |
//! | [`store`] | event logs: the contract, and the embedded store (SQLite, one writer, group commit) | agent |
//! | [`llm`] | model providers: OpenAI, Anthropic, scripted | agent |
//! | [`mail`] | addresses, composing a message, and the ways it leaves: a file, a mail server | agent |
//! | [`tools`] | the `Tool` trait, the registry, canonical arguments, the built-in tools | agent, mail |
//! | [`platform`] | surfaces that are written to; words of cards and notices | agent |
//! | [`config`] | settings: one documented default, layers, origins, all problems at once | agent |
//! | [`chat`] | the way in from chat surfaces: what people say, press and command becomes inputs | agent, config, metrics, platform, runtime, store |
//! | [`triggers`] | what starts agents without a person: signed webhooks, schedules | agent, config, runtime, store |
//! | [`metrics`] | what operators graph: names, types, the text that is scraped; counted where it happens | nothing |
//! | [`app`] | assembly: a configuration becomes the parts of a runtime | all of the above |
//! | [`http`] | the service: who is asking, REST and its document, live events, webhooks, the web console, health | all but app, llm, mail |
//! | [`cli`] | arguments, `serve`, the chat at a terminal, commands that look and decide, `doctor` | all |
//! | [`demo_service`], [`telemetry`] | the small real service that the demo deploys to; logs | |
//!
//! A test (`tests/it/architecture.rs`) keeps the last column true; a lint keeps `agent` pure.
//!
//! # A deployment, step by step
//! 1. `ops` writes "deploy api v1.2.3 to staging". [`runtime::Runtime::message`] loads the thread's fold
//!    and calls [`agent::step`], which records `MessageReceived` and folds it; the fold issues the effect
//!    `CallModel`. The event is appended, and only then is the person told that it is kept.
//! 2. `CallModel` is performed: [`agent::window::Window::render`] is what the model sees. The reply comes
//!    back as an input, its calls with canonical arguments ([`tools::canon`]); the gate stamps a verdict on each call
//!    ([`agent::Policy::verdict`]) and the event `ModelReplied` carries both. A status check runs at once;
//!    `deploy_service` asks.
//! 3. The tool says what it would do (`PlanTool`: "now v1.2.2 -> v1.2.3"). `ApprovalRequested` records
//!    everything people see and the SHA-256 over it. The thread rests: no task, no timer, one row.
//! 4. The process is killed. Nothing is lost, since nothing was held.
//! 5. `ann` presses Approve on the card from before: in Slack, in the browser, at a terminal or over REST. Who she
//!    is comes from her session or token ([`http::Caller`]) or from Slack's signature or socket, what she saw from
//!    the digest on her card. In Slack the press is first kept as an [`agent::Intent`], in a log of its own, and
//!    acknowledged; carrying it out asks Slack who is in which group, and tells her what came of it.
//!    [`agent::step`] checks that she may, that the digest is the request's, that it has not expired;
//!    `VoteCast` and `ApprovalResolved` are one append.
//! 6. `RunTool` is performed. Right before it runs, the plan is made anew and the digest computed again
//!    ([`agent::clearance`]); a difference voids the approval and asks again. `ToolStarted` is appended
//!    *before* the tool runs: after a crash in between, a person is asked what happened; it never reruns
//!    by itself.
//! 7. `ToolFinished` is folded, the model is asked once more, its answer ends the run.
//!
//! # Invariants
//! 1. A gated call starts only with an approval that is approved, unexpired, unused, by enough allowed
//!    people, none of them the agent, nor the requester unless the policy says so ([`agent::clearance`]).
//! 2. What runs is what was judged and shown: arguments are canonical before the gate, and the digest is computed
//!    again right before the start.
//! 3. A call that is not idempotent runs at most once for a step; an unknown outcome goes to a person.
//! 4. What was acknowledged is in the log; what is delivered twice is applied once.
//! 5. State equals the fold of the log; two writers never both write a thread's next event.
//! 6. Terminal is terminal: nothing starts after deny, expiry, stop, cancel.
//! 7. No secret enters a log: texts pass [`agent::SecretFilter`] before they become events.
//! 8. Everything is bounded, and each bound is a named constant or a setting.
//! 9. Once text from outside has entered a thread, no call with side effects that the model makes from then on
//!    runs without an approval, unless its tool is listed as safe; neither compaction nor a fork forgets it
//!    ([`agent::Untrusted`], [`agent::Policy::verdict_after`]).
//! 10. Nothing crosses workspaces: a person, a thread and a press of one team mean nothing in another.
//! 11. An edit is judged as a new call: its terms are those of the same call made directly ([`agent::step`]).
//! 12. A person counts once, under whatever identity ([`agent::People`]); where different people are wanted and it
//!     cannot be told whether two identities are one person, the decision is refused ([`agent::eligible`]).
//! 13. What others wrote reaches people's eyes by [`agent::visible`] only, on every surface: what a decision rests on
//!     in the strict view, from which it can be read back; answers and messages in the prose view.
//! 14. What a rule judges is what runs: arguments have one spelling ([`tools::canon`]) before gate, card, digest and
//!     tool, and the tool acts on these bytes.
//! 15. The model's window never says less than happened ([`agent::window`]): no result goes unread, no failure is
//!     hidden by another call's success, people's instructions survive shortening and forks.
//! 16. An address is no identity: who asks over HTTP is said by a token, a session or a proxy ([`http::auth`]), unless
//!     an operator trusts this machine.
//!
//! # Where this differs from the first design
//! - Decisions ([`agent::step`]) and the fold ([`agent::reduce`]) are two functions: deciding reads
//!   today's configuration, folding never does. That is what makes a log readable for ever.
//! - A provider makes one attempt. Retries are events with a durable timer, so they survive a restart
//!   and people can see them.
//! - Timers are derived from the fold (`due_at` of the summary) instead of being effects.
//! - Tokens are estimated from bytes and calibrated by the provider's own counts: no tokenizer is linked.
//! - A list of approvals reads an index of rows that is written with the events ([`store::ApprovalRow`]), not
//!   summaries: ten thousand that wait are a page and a count, and no log is loaded.
//! - Idempotency keys, webhooks and schedules need no table: the thread's id is derived from the key, and the
//!   log knows the sources that it has seen.
//! - The directory of people is `[[people]]`, and matching by verified mail is `approvals.match_verified_mail`: TOML
//!   has no place for a single setting beside an array of tables of the same name.
//! - The words of a decision (the reason of a denial or a stop, the note of a mark) reach the model and do not make their
//!   author one who asked: an approver who gives a reason could never approve again in that thread.
//! - A press of a button is a log of its own with one effect, not an event of the thread that it is about: it has
//!   to be kept before anybody can know whether it counts, and it is a record also when it did not.
//! - Slack's socket is a loop of ours over tungstenite; slack-morphism serves the Web API
//!   ([`platform::slack`] says why).
//! - The room `chat` exists beside `platform`: a platform translates and needs no runtime; what a delivery leads to
//!   does.
//! - Settings are merged by our own code over `toml`, because each value has to name its origin.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::todo, clippy::dbg_macro)]

pub mod agent;
pub mod app;
pub mod chat;
pub mod cli;
pub mod config;
pub mod demo_service;
pub mod http;
pub mod llm;
pub mod mail;
pub mod metrics;
pub mod platform;
pub mod runtime;
pub mod store;
pub mod telemetry;
pub mod tools;
pub mod triggers;

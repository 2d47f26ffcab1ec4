//! What operators graph: the names, the types, and the text that is scraped.
//!
//! Whoever does something counts it here, at the place where it is done; nothing is derived from logs.
//! This module knows no other room, so every room may count.
//!
//! Every name begins with `twelve_`: one Prometheus watches many programs, and `runs_total` alone would be
//! anybody's. All of it counts this process since its start; only `approvals_pending` and
//! `effects_in_flight` are read at the moment of the scrape.
//!
//! # Labels are bounded
//! Every label is either a `&'static str`, which no model and no client can make up, or one of the names
//! that were set up ([`Metrics::know`]); whatever else comes is counted as `other`. Routes are the router's
//! own templates, never paths.
//!
//! Left out, because there is nothing to count yet: escalations. Threads by status are left out because the
//! store would have to look at every thread.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// What [`Metrics::scrape`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// In the place of a name that nobody set up.
const OTHER: &str = "other";
/// In the place of a surface where nobody decided, and of a route that there is not.
const NONE: &str = "none";
/// The surfaces that people decide at.
const SURFACES: [&str; 6] = ["api", "console", "discord", "email", "slack", "web"];
/// Why Slack wants a connection replaced.
const REASONS: [&str; 4] = ["link_disabled", "refresh_requested", "too_many_websockets", "warning"];
/// The methods that are counted by name.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Routes that are remembered; far above what the router has.
const MAX_ROUTES: usize = 500;

/// Upper ends of buckets, in seconds. People take from seconds to the week that a request may be open.
const WAIT_BUCKETS: [f64; 13] =
    [1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 14_400.0, 28_800.0, 86_400.0, 172_800.0, 604_800.0];
/// A model takes from a tenth of a second to minutes; the default time limit is 120 s.
const MODEL_BUCKETS: [f64; 12] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0];
const HTTP_BUCKETS: [f64; 13] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// An append takes tens of microseconds without a sync, and milliseconds with one.
const APPEND_BUCKETS: [f64; 11] = [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];

/// How an approval ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Approved,
    Denied,
    /// Nobody decided in time.
    Expired,
    /// The run ended before anybody decided.
    Cancelled,
}

impl Decision {
    fn word(self) -> &'static str {
        match self {
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// With an answer.
    Done,
    /// A person stopped it.
    Stopped,
    /// Its thread was cancelled.
    Cancelled,
}

impl RunOutcome {
    const ALL: [Self; 3] = [Self::Done, Self::Stopped, Self::Cancelled];

    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolOutcome {
    Succeeded,
    Failed,
    /// It goes on later.
    Suspended,
    /// It was started and nobody knows how it ended: a person is asked.
    Unknown,
    /// The model named a tool that there is not, or arguments that do not fit: it never ran.
    Invalid,
}

impl ToolOutcome {
    const ALL: [Self; 5] = [Self::Succeeded, Self::Failed, Self::Suspended, Self::Unknown, Self::Invalid];

    fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Suspended => "suspended",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        }
    }
}

/// What is read at the moment of a scrape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampled {
    /// `None`: the store did not say, so the sample is left out.
    pub approvals_pending: Option<u64>,
    pub effects_in_flight: usize,
}

/// The metrics of this process. Clones are handles to the same ones.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Inner>);

type HistogramBy<L> = Family<L, Histogram, fn() -> Histogram>;
type Name = Arc<str>;

struct Inner {
    registry: Registry,
    names: OnceLock<Names>,
    /// Templates of routes that have been asked for, so that counting one makes no copy of it.
    routes: RwLock<HashSet<Name>>,
    decided: Family<Decided, Counter>,
    wait: HistogramBy<Waited>,
    card_failures: Counter,
    posting_failures: Family<Posted, Counter>,
    deduplicated: Counter,
    runs: Family<Ran, Counter>,
    tool_calls: Family<Called, Counter>,
    tokens: Family<Tokens, Counter>,
    model_requests: Family<Asked, Counter>,
    model_seconds: HistogramBy<Provider>,
    append_seconds: Histogram,
    append_failures: Counter,
    requests: Family<Requested, Counter>,
    request_seconds: HistogramBy<Route>,
    deliveries: Family<Delivered, Counter>,
    channels: Family<Channel, Gauge>,
    channel_connections: Family<Channel, Counter>,
    channel_disconnects: Family<Disconnected, Counter>,
    channel_unreadable: Family<Channel, Counter>,
}

/// The names that were set up.
struct Names {
    agents: HashSet<Name>,
    tools: HashSet<Name>,
    rules: HashSet<Name>,
    other: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    decision: &'static str,
    surface: &'static str,
    route: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waited {
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Posted {
    posting: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ran {
    agent: Name,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Called {
    tool: Name,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Tokens {
    provider: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    provider: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Provider {
    provider: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Requested {
    route: Name,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Delivered {
    channel: &'static str,
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Channel {
    channel: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Disconnected {
    channel: &'static str,
    reason: &'static str,
}

impl Default for Inner {
    fn default() -> Self {
        let mut inner = Self {
            registry: Registry::with_prefix("twelve"),
            names: OnceLock::new(),
            routes: RwLock::default(),
            decided: Family::default(),
            wait: Family::new_with_constructor(|| Histogram::new(WAIT_BUCKETS)),
            card_failures: Counter::default(),
            posting_failures: Family::default(),
            deduplicated: Counter::default(),
            runs: Family::default(),
            tool_calls: Family::default(),
            tokens: Family::default(),
            model_requests: Family::default(),
            model_seconds: Family::new_with_constructor(|| Histogram::new(MODEL_BUCKETS)),
            append_seconds: Histogram::new(APPEND_BUCKETS),
            append_failures: Counter::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(HTTP_BUCKETS)),
            deliveries: Family::default(),
            channels: Family::default(),
            channel_connections: Family::default(),
            channel_disconnects: Family::default(),
            channel_unreadable: Family::default(),
        };
        inner.register();
        // Nothing reaches us before something does; whoever watches this sees it from the start.
        inner.channels.get_or_create(&Channel { channel: "slack" }).set(0);
        inner
    }
}

impl Inner {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("approvals_decided", "Approvals that were settled, by the decision, the surface where somebody decided and the rule that made it ask", self.decided.clone());
        registry.register(
            "approval_wait_seconds",
            "From the request (its last revision) until it was settled",
            self.wait.clone(),
        );
        registry.register(
            "cards_update_failures",
            "Cards that stand in a surface and could not be brought up to date at one attempt",
            self.card_failures.clone(),
        );
        registry.register(
            "posting_failures",
            "Attempts to post that failed, by what was posted",
            self.posting_failures.clone(),
        );
        registry.register(
            "events_deduplicated",
            "Inputs that had been delivered before and changed nothing",
            self.deduplicated.clone(),
        );
        registry.register("runs", "Runs that ended", self.runs.clone());
        registry.register("tool_calls", "Calls of tools, by what came of them", self.tool_calls.clone());
        registry.register("llm_tokens", "Tokens as the provider counted them", self.tokens.clone());
        registry.register(
            "llm_requests",
            "Questions to a provider: ok, or the kind of failure",
            self.model_requests.clone(),
        );
        registry.register(
            "llm_request_seconds",
            "How long a provider took, failures included",
            self.model_seconds.clone(),
        );
        registry.register(
            "store_append_seconds",
            "How long an append took until it was as durable as configured, waiting for its group included",
            self.append_seconds.clone(),
        );
        registry.register(
            "store_append_failures",
            "Appends that the store did not take; conflicts, which are tried again, aside",
            self.append_failures.clone(),
        );
        registry.register("http_requests", "Requests that were answered", self.requests.clone());
        registry.register("http_request_seconds", "Until the head of the answer", self.request_seconds.clone());
        registry.register(
            "channel_deliveries",
            "What chat surfaces delivered, by kind and by what came of it (kept, duplicate, looked, ignored, odd, refused, again)",
            self.deliveries.clone(),
        );
        registry.register(
            "channel_connected",
            "Connections over which a chat surface reaches us now; 0: nothing does",
            self.channels.clone(),
        );
        registry.register("channel_connections", "Connections that were opened", self.channel_connections.clone());
        registry.register(
            "channel_disconnects",
            "Connections that the surface wanted replaced, by its reason",
            self.channel_disconnects.clone(),
        );
        registry.register(
            "channel_unreadable",
            "What came over a connection and could not be read",
            self.channel_unreadable.clone(),
        );
    }

    fn name(&self, of: fn(&Names) -> &HashSet<Name>, name: &str) -> Name {
        match self.names.get() {
            Some(names) => of(names).get(name).unwrap_or(&names.other).clone(),
            None => Name::from(OTHER),
        }
    }
}

impl Metrics {
    /// The names that may become labels, from now on: agents, tools, rules that ask. The series of agents
    /// and tools exist from the start, at 0, so that a rate sees the first one. Only the first call counts.
    pub fn know<'a>(
        &self,
        agents: impl IntoIterator<Item = &'a str>,
        tools: impl IntoIterator<Item = &'a str>,
        rules: impl IntoIterator<Item = &'a str>,
    ) {
        let names = self.0.names.get_or_init(|| Names {
            agents: agents.into_iter().map(Name::from).collect(),
            tools: tools.into_iter().map(Name::from).collect(),
            rules: rules.into_iter().map(Name::from).collect(),
            other: Name::from(OTHER),
        });
        for agent in &names.agents {
            for outcome in RunOutcome::ALL {
                drop(self.0.runs.get_or_create(&Ran { agent: agent.clone(), outcome: outcome.word() }));
            }
        }
        for tool in &names.tools {
            for outcome in ToolOutcome::ALL {
                drop(self.0.tool_calls.get_or_create(&Called { tool: tool.clone(), outcome: outcome.word() }));
            }
        }
    }

    /// An approval was settled `waited_ms` milliseconds after it was asked for; `surface` is where the
    /// person who settled it did so, if one did.
    pub fn approval_decided(&self, decision: Decision, surface: Option<&str>, rule: &str, waited_ms: u64) {
        let surface = match surface {
            Some(surface) => known(&SURFACES, surface),
            None => NONE,
        };
        let (decision, route) = (decision.word(), self.0.name(|names| &names.rules, rule));
        self.0.decided.get_or_create(&Decided { decision, surface, route }).inc();
        self.0.wait.get_or_create(&Waited { decision }).observe(Duration::from_millis(waited_ms).as_secs_f64());
    }

    /// A run of this agent ended.
    pub fn run_ended(&self, agent: &str, outcome: RunOutcome) {
        let agent = self.0.name(|names| &names.agents, agent);
        self.0.runs.get_or_create(&Ran { agent, outcome: outcome.word() }).inc();
    }

    /// Something came a second time and changed nothing.
    pub fn deduplicated(&self) {
        self.0.deduplicated.inc();
    }

    /// A call of a tool came to this.
    pub fn tool_call(&self, tool: &str, outcome: ToolOutcome) {
        let tool = self.0.name(|names| &names.tools, tool);
        self.0.tool_calls.get_or_create(&Called { tool, outcome: outcome.word() }).inc();
    }

    /// A provider replied.
    pub fn model_replied(&self, provider: &'static str, took: Duration, input: u64, output: u64) {
        self.model_asked(provider, "ok", took);
        for (kind, tokens) in [("input", input), ("output", output)] {
            self.0.tokens.get_or_create(&Tokens { provider, kind }).inc_by(tokens);
        }
    }

    /// A provider did not; `kind` is the kind of failure.
    pub fn model_failed(&self, provider: &'static str, kind: &'static str, took: Duration) {
        self.model_asked(provider, kind, took);
    }

    fn model_asked(&self, provider: &'static str, outcome: &'static str, took: Duration) {
        self.0.model_requests.get_or_create(&Asked { provider, outcome }).inc();
        self.0.model_seconds.get_or_create(&Provider { provider }).observe(took.as_secs_f64());
    }

    /// An attempt to post failed. `stands`: it was to bring a card up to date that people see already.
    pub fn posting_failed(&self, posting: &'static str, stands: bool) {
        self.0.posting_failures.get_or_create(&Posted { posting }).inc();
        if stands && posting == "card" {
            self.0.card_failures.inc();
        }
    }

    /// Events are in the log.
    pub fn appended(&self, took: Duration) {
        self.0.append_seconds.observe(took.as_secs_f64());
    }

    /// The store did not take them.
    pub fn append_failed(&self) {
        self.0.append_failures.inc();
    }

    /// A chat surface delivered something of this kind, and this came of it.
    pub fn delivery(&self, channel: &'static str, kind: &'static str, outcome: &'static str) {
        self.0.deliveries.get_or_create(&Delivered { channel, kind, outcome }).inc();
    }

    /// A connection of a chat surface is open. [`Metrics::channel_closed`] takes it back.
    pub fn channel_connected(&self, channel: &'static str) {
        self.0.channels.get_or_create(&Channel { channel }).inc();
        self.0.channel_connections.get_or_create(&Channel { channel }).inc();
    }

    /// It is no longer.
    pub fn channel_closed(&self, channel: &'static str) {
        self.0.channels.get_or_create(&Channel { channel }).dec();
    }

    /// The surface wants a connection replaced.
    pub fn channel_disconnected(&self, channel: &'static str, reason: &str) {
        let reason = known(&REASONS, reason);
        self.0.channel_disconnects.get_or_create(&Disconnected { channel, reason }).inc();
    }

    /// Something came over a connection that nobody can read.
    pub fn channel_unreadable(&self, channel: &'static str) {
        self.0.channel_unreadable.get_or_create(&Channel { channel }).inc();
    }

    /// A request was answered. `route` is the router's template; without one there is no such route.
    pub fn request(&self, route: Option<&str>, method: &str, status: u16, took: Duration) {
        let route = self.route(route.unwrap_or(NONE));
        let method = method_name(method);
        self.0.requests.get_or_create(&Requested { route: route.clone(), method, status }).inc();
        self.0.request_seconds.get_or_create(&Route { route }).observe(took.as_secs_f64());
    }

    fn route(&self, template: &str) -> Name {
        if let Some(known) = self.0.routes.read().unwrap_or_else(PoisonError::into_inner).get(template) {
            return known.clone();
        }
        let mut routes = self.0.routes.write().unwrap_or_else(PoisonError::into_inner);
        let name = Name::from(if routes.len() < MAX_ROUTES { template } else { OTHER });
        routes.insert(name.clone());
        name
    }

    /// Everything as OpenMetrics text ([`CONTENT_TYPE`]).
    pub fn scrape(&self, sampled: &Sampled) -> String {
        let mut now = Registry::with_prefix("twelve");
        if let Some(pending) = sampled.approvals_pending {
            now.register("approvals_pending", "Approvals that people can decide now", ConstGauge::new(pending));
        }
        let in_flight = ConstGauge::new(sampled.effects_in_flight as u64);
        now.register(
            "effects_in_flight",
            "Model calls, tools and postings at work or waiting for their turn",
            in_flight,
        );
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode_registry(&mut out, &self.0.registry);
        let _ = text::encode(&mut out, &now);
        out
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// The name of a method for labels and logs: clients can make others up, of any length.
pub fn method_name(method: &str) -> &'static str {
    known(&METHODS, method)
}

fn known(names: &'static [&'static str], name: &str) -> &'static str {
    names.iter().copied().find(|known| *known == name).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_set_up_is_no_label() {
        let metrics = Metrics::default();
        metrics.know(["deployment"], ["look"], ["prod"]);
        for number in 0..1_000 {
            metrics.tool_call(&format!("made_up_{number}"), ToolOutcome::Invalid);
            metrics.run_ended(&format!("agent_{number}"), RunOutcome::Done);
            metrics.approval_decided(Decision::Denied, Some(&format!("s{number}")), &format!("rule {number}"), 1);
            metrics.request(Some(&format!("/{number}")), &format!("X{number}"), 200, Duration::ZERO);
        }
        let text = metrics.scrape(&Sampled::default());
        assert!(!text.contains("made_up") && !text.contains("agent_9") && !text.contains("rule 9"), "{text}");
        assert!(text.contains("twelve_tool_calls_total{tool=\"other\",outcome=\"invalid\"} 1000\n"), "{text}");
        assert!(text.contains("twelve_runs_total{agent=\"other\",outcome=\"done\"} 1000\n"), "{text}");
        let decided = "twelve_approvals_decided_total{decision=\"denied\",surface=\"other\",route=\"other\"} 1000\n";
        assert!(text.contains(decided), "{text}");
        let routes = text.lines().filter(|line| line.starts_with("twelve_http_requests_total{")).count();
        assert_eq!(routes, MAX_ROUTES + 1, "routes have a bound");
    }

    #[test]
    fn what_people_name_cannot_break_the_text() {
        let metrics = Metrics::default();
        metrics.know([], [], ["a \"quoted\"\nrule \\ 1"]);
        metrics.approval_decided(Decision::Approved, Some("web"), "a \"quoted\"\nrule \\ 1", 2_000);
        let text = metrics.scrape(&Sampled::default());
        let line =
            r#"twelve_approvals_decided_total{decision="approved",surface="web",route="a \"quoted\"\nrule \\ 1"} 1"#;
        assert!(text.lines().any(|l| l == line), "{text}");
    }

    #[test]
    fn tokens_are_added_up_by_provider_and_kind() {
        let metrics = Metrics::default();
        metrics.model_replied("openai", Duration::from_millis(1_200), 900, 40);
        metrics.model_replied("openai", Duration::from_millis(300), 100, 2);
        metrics.model_failed("openai", "timeout", Duration::from_secs(120));
        let text = metrics.scrape(&Sampled::default());
        for line in [
            r#"twelve_llm_tokens_total{provider="openai",kind="input"} 1000"#,
            r#"twelve_llm_tokens_total{provider="openai",kind="output"} 42"#,
            r#"twelve_llm_requests_total{provider="openai",outcome="ok"} 2"#,
            r#"twelve_llm_requests_total{provider="openai",outcome="timeout"} 1"#,
            r#"twelve_llm_request_seconds_sum{provider="openai"} 121.5"#,
            r#"twelve_llm_request_seconds_bucket{le="0.5",provider="openai"} 1"#,
            r#"twelve_llm_request_seconds_bucket{le="2.5",provider="openai"} 2"#,
            r#"twelve_llm_request_seconds_bucket{le="160.0",provider="openai"} 3"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_sample_that_is_not_known_is_left_out() {
        let metrics = Metrics::default();
        let text = metrics.scrape(&Sampled { approvals_pending: None, effects_in_flight: 3 });
        assert!(!text.contains("approvals_pending"), "{text}");
        assert!(text.ends_with("twelve_effects_in_flight 3\n# EOF\n"), "{text}");
        let text = metrics.scrape(&Sampled { approvals_pending: Some(7), effects_in_flight: 3 });
        assert!(text.contains("\ntwelve_approvals_pending 7\n"), "{text}");
    }
}

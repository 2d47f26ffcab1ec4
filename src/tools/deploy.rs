//! `deploy_service`: brings one version of one service to one environment, by a command or a request.
//!
//! The order of a run: health gate, lock, back end, then reading the version back until it is the wanted
//! one and the service is healthy. Until the back end is started everything is a plain failure; from
//! then on only what was read back, or an end that the back end itself reported, is taken for known.
//! The tool never tries a back end twice, and one process deploys to one place once at a time; against
//! another process stand the plan, which is made again right before a run, and the lock file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use regex::Regex;
use reqwest::{Method, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::canon::{self, Kind, Version};
use super::command::{Child, End, KILL_GRACE};
use super::http::{Answer, NoAnswer, Payload};
use super::services::{Environment, Health, Services, StatusRange, check_argv, check_placeholders, check_url};
use super::{Boxed, CallContext, Spec, Tool, Values, shown, text, typed, written};
use crate::agent::{EffectId, Outcome, Pattern, Plan, Risk};

/// First and longest pause between two readings while a deployment settles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How much of a lock file is read for its reason, in bytes.
const MAX_LOCK: u64 = 4 * 1024;

/// What a deployment's arguments and addresses may refer to.
const PLACEHOLDERS: [&str; 3] = ["service", "version", "environment"];

/// How a service is deployed: `[tools.services.<name>.deploy]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployConfig {
    /// Regular expression that a version has to match from its first to its last character.
    pub versions: Pattern,
    /// While this is not empty nothing is deployed; it is the reason that people and the model are told.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub lock: String,
    /// While this file exists nothing is deployed; its first line is the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_file: Option<PathBuf>,
    /// Whether the service has to be healthy before anything is changed.
    #[serde(default = "yes")]
    pub health_before: bool,
    /// How long the new version has, after the back end is done, to read back and be healthy, in milliseconds.
    #[serde(default = "one_minute", with = "crate::agent::span")]
    pub settle: u64,
    /// Deploys by running a program. Either this or `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandBackEnd>,
    /// Deploys by sending a request. Either this or `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpBackEnd>,
}

/// A program that deploys. It ends with code 0 if it worked. It gets `TWELVE_EFFECT_ID`, which is the
/// same for every attempt of one call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandBackEnd {
    /// Program and arguments, no shell. `{service}`, `{version}` and `{environment}` are replaced inside
    /// the arguments, never split.
    pub argv: Vec<String>,
    /// Directory to run it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// Names of environment variables that it may see besides PATH, HOME and LANG. Their values are
    /// taken out of its output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// How long it may run, in milliseconds, before its process group is ended.
    #[serde(default = "ten_minutes", with = "crate::agent::span")]
    pub timeout: u64,
}

/// A request that deploys. It carries the header `Idempotency-Key`, which is the same for every attempt
/// of one call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpBackEnd {
    #[serde(default)]
    pub method: SendMethod,
    /// `{service}`, `{version}` and `{environment}` are replaced in it.
    pub url: String,
    /// The JSON body, likewise.
    #[serde(default = "whole_request")]
    pub body: BTreeMap<String, Value>,
    /// Statuses that say that it worked.
    #[serde(default)]
    pub expect: StatusRange,
    /// Name of the environment variable with the bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_env: Option<String>,
    /// How long the answer may take, in milliseconds.
    #[serde(default = "half_a_minute", with = "crate::agent::span")]
    pub timeout: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SendMethod {
    #[default]
    Post,
    Put,
}

fn yes() -> bool {
    true
}
fn half_a_minute() -> u64 {
    30_000
}
fn one_minute() -> u64 {
    60_000
}
fn ten_minutes() -> u64 {
    600_000
}
fn whole_request() -> BTreeMap<String, Value> {
    PLACEHOLDERS.iter().map(|name| ((*name).to_owned(), Value::String(format!("{{{name}}}")))).collect()
}

impl DeployConfig {
    /// # Errors
    /// The first setting that cannot work.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let versions = String::from(self.versions.clone());
        // `Pattern` puts its text into a group; a text such as `a)|(b` would get out of it.
        Regex::new(&versions).context("in versions")?;
        ensure!(!self.versions.matches(""), "versions: `{versions}` matches the empty text");
        match (&self.command, &self.http) {
            (Some(command), None) => {
                check_argv(&command.argv, &PLACEHOLDERS).context("in command.argv")?;
                ensure!(
                    command.argv.iter().any(|arg| arg.contains("{version}")),
                    "command.argv: no argument has `{{version}}`, so every version would be the same"
                );
                ensure!(command.timeout > 0, "command.timeout: must be longer than 0s");
                if let Some(wrong) = command.env.iter().find(|name| !is_variable(name)) {
                    bail!("command.env: `{wrong}` is not the name of an environment variable");
                }
            }
            (None, Some(http)) => {
                check_placeholders(&http.url, &PLACEHOLDERS).context("in http.url")?;
                check_url(&fill(&http.url, "x", "x", "x"), &["http", "https"]).context("in http.url")?;
                let body = json!(http.body).to_string();
                for value in http.body.values() {
                    check_body(value).context("in http.body")?;
                }
                ensure!(
                    http.url.contains("{version}") || body.contains("{version}"),
                    "http: neither `url` nor `body` has `{{version}}`, so every version would be the same"
                );
                ensure!(http.timeout > 0, "http.timeout: must be longer than 0s");
                if let Some(wrong) = http.token_env.iter().find(|name| !is_variable(name)) {
                    bail!(
                        "http.token_env: give the name of an environment variable, not the token (got `{}` characters)",
                        wrong.len()
                    );
                }
            }
            _ => bail!("give either `command` or `http`"),
        }
        Ok(())
    }

    /// How long all of a run may take: both readings, the back end, its end, and settling.
    fn longest(&self, probe: Duration) -> Duration {
        let back_end = self.command.as_ref().map_or(0, |c| c.timeout).max(self.http.as_ref().map_or(0, |h| h.timeout));
        Duration::from_millis(back_end.saturating_add(self.settle)) + KILL_GRACE + (probe + KILL_GRACE) * 2
    }

    /// # Errors
    /// The reason why nothing may be deployed. A lock that cannot be read is a lock.
    async fn locked(&self, service: &str) -> Result<(), String> {
        if !self.lock.is_empty() {
            return Err(format!("`{service}` is locked: {}", text::one_line(&self.lock, 200)));
        }
        let Some(path) = &self.lock_file else { return Ok(()) };
        let file = match tokio::fs::File::open(path).await {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(format!("`{service}` counts as locked: its lock file cannot be read ({e})")),
        };
        let mut reason = Vec::new();
        let read = file.take(MAX_LOCK).read_to_end(&mut reason).await;
        let reason = match read {
            Ok(_) => text::first_line(&String::from_utf8_lossy(&reason)),
            Err(e) => format!("its lock file cannot be read ({e})"),
        };
        let reason = if reason.is_empty() { "no reason given".to_owned() } else { reason };
        Err(format!("`{service}` is locked: {reason}"))
    }
}

pub(super) fn is_variable(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_uppercase() || c == '_')
        && chars.all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

fn check_body(value: &Value) -> anyhow::Result<()> {
    match value {
        Value::String(text) => check_placeholders(text, &PLACEHOLDERS),
        Value::Array(items) => items.iter().try_for_each(check_body),
        Value::Object(members) => members.values().try_for_each(check_body),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Replaces the placeholders. What goes in is [`canon::plain`], so it cannot hold another placeholder.
fn fill(template: &str, service: &str, version: &str, environment: &str) -> String {
    template.replace("{service}", service).replace("{version}", version).replace("{environment}", environment)
}

/// Deploys configured services only; there is no way to name a host, a program or an option.
pub struct DeployService {
    spec: Spec,
    services: Arc<Services>,
    /// Where a deployment is under way, as `service environment`.
    busy: Mutex<BTreeSet<String>>,
}

/// One place that is being deployed to, until this value is dropped.
struct Busy<'a> {
    all: &'a Mutex<BTreeSet<String>>,
    place: String,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.place);
    }
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// Name of a configured service.
    service: canon::Service,
    /// The version to bring there.
    version: Version,
    /// Name of one of its environments.
    environment: canon::Environment,
}

impl Args {
    fn names(&self) -> (&str, &str, &str) {
        (self.service.as_str(), self.version.as_str(), self.environment.as_str())
    }
}

/// Arguments with the settings that they select.
struct Target<'a> {
    args: Args,
    place: &'a Environment,
    deploy: &'a DeployConfig,
}

/// How a service is and what it runs, read at the same time.
struct Reading {
    health: Health,
    version: Result<String, String>,
}

impl DeployService {
    pub fn new(services: Arc<Services>) -> Self {
        let deployable = services.iter().filter(|(_, service)| service.deploy.is_some());
        let description = format!(
            "Deploy one version of a service to one environment, and wait until it runs there and is healthy. \
             Services (environments): {}.",
            services.describe(deployable)
        );
        let spec = Spec::of::<Args>("deploy_service", description).acts(Risk::High).plans();
        let spec = spec.target(&["service", "environment"]);
        Self { spec, services, busy: Mutex::default() }
    }

    /// # Errors
    /// Somebody else is at it.
    fn occupy(&self, args: &Args) -> Result<Busy<'_>, String> {
        let place = format!("{} {}", args.service, args.environment);
        if self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(place.clone()) {
            Ok(Busy { all: &self.busy, place })
        } else {
            Err(format!(
                "another deployment of {} to {} is under way; nothing was changed",
                args.service, args.environment
            ))
        }
    }

    /// # Errors
    /// What is unknown or not allowed, and what is, for the model.
    fn target(&self, args: &Value) -> Result<Target<'_>, String> {
        self.services.named(args)?;
        let args: Args = typed(args)?;
        let (name, version, environment) = args.names();
        let service = self.services.service(name)?;
        let Some(deploy) = &service.deploy else {
            let deployable = self.services.iter().filter(|(_, s)| s.deploy.is_some()).map(|(name, _)| name);
            return Err(format!(
                "`{name}` is configured without a way to deploy it (deployable: {})",
                text::list(deployable, 160)
            ));
        };
        let place = Services::environment((name, service), environment)?;
        if !deploy.versions.matches(version) {
            let pattern = text::cut(&String::from(deploy.versions.clone()), 100);
            return Err(format!("`{name}` only takes versions that match `{pattern}`, not `{version}`"));
        }
        Ok(Target { args, place, deploy })
    }

    async fn read(&self, target: &Target<'_>, cancel: &CancellationToken) -> Reading {
        let (service, _, environment) = target.args.names();
        let (health, version) = tokio::join!(
            self.services.probe(target.place),
            self.services.version(service, (environment, target.place), cancel)
        );
        Reading { health, version }
    }

    /// The health gate: which version runs, if that is known, and whether it is healthy.
    ///
    /// # Errors
    /// Why nothing may be changed now.
    async fn gate(&self, target: &Target<'_>, cancel: &CancellationToken) -> Result<(Option<String>, Health), String> {
        let (service, _, environment) = target.args.names();
        let Reading { health, version } = self.read(target, cancel).await;
        if target.deploy.health_before {
            if !health.healthy {
                return Err(format!(
                    "{service} in {environment} is not healthy before the deployment ({}); nothing was changed",
                    health.what
                ));
            }
            if let Err(why) = &version {
                return Err(format!(
                    "the version of {service} in {environment} cannot be read ({why}); nothing was changed"
                ));
            }
        }
        Ok((version.ok(), health))
    }

    async fn planned(&self, args: &Value) -> Result<Plan, String> {
        let target = self.target(args)?;
        target.deploy.locked(target.args.service.as_str()).await?;
        target.token()?;
        let (current, health) = self.gate(&target, &CancellationToken::new()).await?;
        let wanted = target.args.version.as_str();
        let mut summary = match &current {
            Some(current) if current == wanted => format!("already at {wanted}"),
            Some(current) => format!("now {current} -> {wanted}"),
            None => format!("now not known -> {wanted}"),
        };
        if !health.healthy {
            summary.push_str(&format!(", NOT healthy now ({})", health.what));
        }
        let facts = json!({ "current": current, "target": wanted, "healthy": health.healthy, "locked": false });
        Ok(Plan { summary, facts })
    }

    async fn deploy(&self, args: &Value, call: &CallContext) -> Result<String, Outcome> {
        let failed = |error: String| Outcome::Failed { error };
        let target = self.target(args).map_err(failed)?;
        let (service, wanted, environment) = target.args.names();
        let token = target.token().map_err(failed)?;
        let _busy = self.occupy(&target.args).map_err(failed)?;
        let before = async {
            let gate = self.gate(&target, &call.cancel).await?;
            // Last of all, so that a lock that has just been set still counts.
            target.deploy.locked(service).await?;
            Ok(gate)
        };
        let (current, _) = tokio::select! {
            biased;
            () = call.cancel.cancelled() => {
                return Err(failed(format!("stopped before the deployment of {service} began; nothing was changed")));
            }
            gate = before => gate.map_err(failed)?,
        };

        let report = match (&target.deploy.command, &target.deploy.http) {
            (Some(command), _) => command.run(&target.args, call).await?,
            (None, Some(http)) => self.request(http, &target.args, token.as_deref(), call).await?,
            (None, None) => return Err(failed(format!("`{service}` has no back end in the settings"))),
        };

        let from = current.unwrap_or_else(|| "not known".to_owned());
        let ms = self.settled(&target, &from, &report, &call.cancel).await?;
        let mut said = format!("{service} {environment}: {from} -> {wanted}, healthy in {ms} ms");
        if !report.is_empty() {
            said.push('\n');
            said.push_str(&report);
        }
        Ok(said)
    }

    /// Waits until the wanted version reads back and is healthy; gives the latency of that probe in
    /// milliseconds. Ends one reading after `settle` at the latest.
    async fn settled(
        &self,
        target: &Target<'_>,
        from: &str,
        report: &str,
        cancel: &CancellationToken,
    ) -> Result<u64, Outcome> {
        let (service, wanted, environment) = target.args.names();
        let limit = Duration::from_millis(target.deploy.settle);
        let deadline = Instant::now() + limit;
        let mut pause = FIRST_PAUSE;
        loop {
            let Reading { health, version } = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Outcome::Unknown {
                    error: format!(
                        "stopped while {service} in {environment} was settling: {wanted} was deployed, \
                         but nobody saw it run"
                    ),
                }),
                reading = self.read(target, cancel) => reading,
            };
            let arrived = version.as_ref().is_ok_and(|v| v == wanted);
            if arrived && health.healthy {
                return Ok(health.ms);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let limit = shown(limit);
                let mut error = match version {
                    Ok(_) if arrived => {
                        format!(
                            "{service} in {environment} runs {wanted} but is not healthy after {limit}: {}",
                            health.what
                        )
                    }
                    Ok(other) => format!(
                        "{service} in {environment} reads back {other}, not {wanted}, {limit} after the back end was done \
                         (before it: {from})"
                    ),
                    Err(why) => format!(
                        "the version of {service} in {environment} cannot be read back {limit} after {wanted} was \
                         deployed: {why}"
                    ),
                };
                if !report.is_empty() {
                    error.push('\n');
                    error.push_str(report);
                }
                return Err(Outcome::Failed { error });
            }
            // A cancel ends the pause; the next turn answers it.
            let _ = timeout(pause.min(left), cancel.cancelled()).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Gives an empty report: what is worth saying of a request is read back.
    async fn request(
        &self,
        http: &HttpBackEnd,
        args: &Args,
        token: Option<&str>,
        call: &CallContext,
    ) -> Result<String, Outcome> {
        let (service, version, environment) = args.names();
        let address = fill(&http.url, service, version, environment);
        let url = Url::parse(&address).map_err(|e| Outcome::Failed { error: format!("the address is wrong: {e}") })?;
        let body = filled(&json!(http.body), args);
        let method = match http.method {
            SendMethod::Post => Method::POST,
            SendMethod::Put => Method::PUT,
        };
        let payload = Payload { json: &body, idempotency_key: call.effect.to_string(), bearer: token };
        let sent = self.services.http.send(method, url, Some(payload), Duration::from_millis(http.timeout));
        let answer = tokio::select! {
            biased;
            answer = sent => answer,
            () = call.cancel.cancelled() => {
                return Err(unknown(args, "stopped while the back end was working", ""));
            }
        };
        match answer {
            Ok(answer) if http.expect.contains(answer.status) => Ok(String::new()),
            Ok(answer) => {
                let said = refusal(&answer);
                // A client error says that the request was not accepted. Anything else unexpected (a
                // gateway's 502, an "accepted" that the settings do not expect) leaves open what happens.
                if (300..500).contains(&answer.status) {
                    let error = format!("the back end refused to deploy {service} {version} to {environment}: {said}");
                    Err(Outcome::Failed { error })
                } else {
                    Err(unknown(args, &format!("the back end answered {said}"), ""))
                }
            }
            Err(NoAnswer::NotSent(why)) => {
                Err(Outcome::Failed { error: format!("the back end could not be reached ({why}); nothing was sent") })
            }
            Err(NoAnswer::Lost(why)) => Err(unknown(args, &format!("the request was sent, but {why}"), "")),
        }
    }
}

fn filled(value: &Value, args: &Args) -> Value {
    match value {
        Value::String(text) => {
            let (service, version, environment) = args.names();
            Value::String(fill(text, service, version, environment))
        }
        Value::Array(items) => items.iter().map(|item| filled(item, args)).collect(),
        Value::Object(members) => members.iter().map(|(key, member)| (key.clone(), filled(member, args))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// `HTTP 409`. The other side's words stay out: nothing in them could help to deploy again.
fn refusal(answer: &Answer) -> String {
    match answer.status {
        status @ 300..=399 => format!("HTTP {status} (redirects are not followed)"),
        status => format!("HTTP {status}"),
    }
}

fn unknown(args: &Args, why: &str, output: &str) -> Outcome {
    let (service, version, environment) = args.names();
    let mut error =
        format!("{why}; look whether {service} runs {version} in {environment} before anything is tried again");
    if !output.is_empty() {
        error.push('\n');
        error.push_str(output);
    }
    Outcome::Unknown { error }
}

impl Target<'_> {
    /// The bearer token, if one is configured.
    ///
    /// # Errors
    /// Its variable is not set.
    fn token(&self) -> Result<Option<String>, String> {
        let Some(name) = self.deploy.http.as_ref().and_then(|http| http.token_env.as_ref()) else { return Ok(None) };
        match std::env::var(name) {
            Ok(token) if !token.is_empty() => Ok(Some(token)),
            _ => Err(format!("the environment variable {name} is not set; an operator has to set it")),
        }
    }
}

impl CommandBackEnd {
    async fn run(&self, args: &Args, call: &CallContext) -> Result<String, Outcome> {
        let (service, version, environment) = args.names();
        let argv: Vec<String> = self.argv.iter().map(|arg| fill(arg, service, version, environment)).collect();
        let effect: EffectId = call.effect;
        let child = Child {
            argv: &argv,
            cwd: self.cwd.as_deref(),
            env: &self.env,
            set: &[("TWELVE_EFFECT_ID", effect.to_string())],
            limit: Duration::from_millis(self.timeout),
            with_stderr: true,
        };
        let finished = child.run(&call.cancel).await.map_err(|error| Outcome::Failed { error })?;
        let output = finished.output.as_str();
        match finished.end {
            End::Exited(0) => Ok(finished.output),
            End::Exited(code) => {
                let took = shown(finished.took);
                let mut error = format!(
                    "the command for {service} {version} in {environment} exited with code {code} after {took}"
                );
                if !output.is_empty() {
                    error.push_str(":\n");
                    error.push_str(output);
                }
                Err(Outcome::Failed { error })
            }
            End::Signalled(signal) => Err(unknown(args, &format!("the command was ended by signal {signal}"), output)),
            End::TimedOut => {
                let limit = shown(Duration::from_millis(self.timeout));
                Err(unknown(args, &format!("the command was ended because it took longer than {limit}"), output))
            }
            End::Cancelled => Err(unknown(args, "the command was stopped while it was working", output)),
            End::Lost => Err(unknown(args, "the system would not say how the command ended", output)),
        }
    }
}

impl Tool for DeployService {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn timeout(&self) -> Duration {
        /// For a busy machine: the inner limits should end a call, this one only backs them up.
        const SLACK: Duration = Duration::from_secs(10);
        let probe = self.services.probe_limit();
        let longest = self.services.iter().filter_map(|(_, s)| s.deploy.as_ref()).map(|d| d.longest(probe)).max();
        longest.unwrap_or_default() + SLACK
    }

    fn title(&self, args: &Value) -> String {
        match typed::<Args>(args) {
            Ok(Args { service, version, environment }) => format!("Deploy {service} {version} to {environment}"),
            Err(_) => "Deploy a service".to_owned(),
        }
    }

    fn check(&self, args: &Value) -> Result<Value, String> {
        written(&self.target(args)?.args)
    }

    fn known(&self, kind: Kind) -> Option<Values> {
        self.services.known(kind, |service| service.deploy.is_some())
    }

    fn plan<'a>(&'a self, args: &'a Value) -> Boxed<'a, Result<Plan, String>> {
        Box::pin(self.planned(args))
    }

    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            match self.deploy(args, call).await {
                Ok(text) => Outcome::Succeeded { text },
                Err(outcome) => outcome,
            }
        })
    }
}

//! The services that the settings name: where they are, how they are, which version they run.
//!
//! Owns the `[tools]` section of the settings and its checks, so that what a model writes only ever
//! selects among things an operator wrote down. How a deployment is done is in [`super::deploy`].

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::canon::{Kind, MAX_PLAIN, plain};
use super::command::{Child, End};
use super::deploy::DeployConfig;
use super::email::EmailConfig;
use super::files::FilesConfig;
use super::guarded::HttpToolsConfig;
use super::http::Http;
use super::support::SupportConfig;
use super::{Values, shown, text};

/// Most services in the settings, and most environments of one: probes run at the same time.
pub const MAX_SERVICES: usize = 200;
pub const MAX_ENVIRONMENTS: usize = 16;

/// The `[tools]` section of the settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ToolsConfig {
    /// How long one probe or one reading of a version may take, in milliseconds.
    #[serde(with = "crate::agent::span")]
    pub probe_timeout: u64,
    /// What can be checked and deployed, by name.
    pub services: BTreeMap<String, Service>,
    /// What `http_get` and `http_post` may reach.
    pub http: HttpToolsConfig,
    /// Where `read_file` and `write_file` work.
    pub files: FilesConfig,
    /// Who may be mailed, and how mails leave.
    pub email: EmailConfig,
    /// Where customers and tickets are.
    pub support: SupportConfig,
}

impl Default for ToolsConfig {
    fn default() -> Self {
        Self {
            probe_timeout: 5_000,
            services: BTreeMap::new(),
            http: HttpToolsConfig::default(),
            files: FilesConfig::default(),
            email: EmailConfig::default(),
            support: SupportConfig::default(),
        }
    }
}

/// One service: `[tools.services.<name>]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Where it runs, by name: `[tools.services.<name>.environments.<name>]`.
    pub environments: BTreeMap<String, Environment>,
    /// How it is deployed: `[tools.services.<name>.deploy]`. Without it, it can only be checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deploy: Option<DeployConfig>,
}

/// One place where a service runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// `http://`, `https://` (a GET is answered with a status in `expect`) or `tcp://host:port` (it connects).
    pub status: String,
    /// Statuses that count as healthy, for example `200-299` or `204`.
    #[serde(default)]
    pub expect: StatusRange,
    /// How to read which version runs. A deployment needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionSource>,
}

/// Where the running version stands. Either a URL or a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionSource {
    /// Answers a GET with the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// JSON pointer to the version in the answer, for example `/version`. Without it the first line is the version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// An argument list (no shell) whose first line of output is the version; `{service}` and
    /// `{environment}` are replaced in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
}

/// HTTP statuses from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StatusRange {
    first: u16,
    last: u16,
}

impl StatusRange {
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl Default for StatusRange {
    fn default() -> Self {
        Self { first: 200, last: 299 }
    }
}

impl TryFrom<String> for StatusRange {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first >= 100 && first <= last && last <= 599 => Ok(Self { first, last }),
            _ => Err(format!("`{text}` is not a range of HTTP statuses such as `200-299` or `204`")),
        }
    }
}

impl From<StatusRange> for String {
    fn from(range: StatusRange) -> String {
        range.to_string()
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// How a service was when it was looked at.
#[derive(Clone, Debug)]
pub(super) struct Health {
    pub healthy: bool,
    /// Until the head of the answer, or the connection; for a failure, until it was known.
    pub ms: u64,
    /// `HTTP 503`, `connection refused`, `no answer within 5s`: never the service's own words. Models read it,
    /// and it does not count as text from outside.
    pub what: String,
}

/// The settings, checked, with the client that reaches what they name.
pub struct Services {
    config: ToolsConfig,
    pub(super) http: Http,
}

impl Services {
    /// # Errors
    /// The first setting that cannot work, with its path.
    pub fn new(config: ToolsConfig) -> anyhow::Result<Self> {
        ensure!(config.probe_timeout > 0, "tools.probe_timeout: must be longer than 0s");
        ensure!(config.services.len() <= MAX_SERVICES, "tools.services: more than {MAX_SERVICES} services");
        for (name, service) in &config.services {
            service.check(name).with_context(|| format!("in tools.services.{name}"))?;
        }
        Ok(Self { config, http: Http::default() })
    }

    pub(super) fn probe_limit(&self) -> Duration {
        Duration::from_millis(self.config.probe_timeout)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Service)> {
        self.config.services.iter().map(|(name, service)| (name.as_str(), service))
    }

    /// `api (production, staging), web (production)`, for descriptions that a model reads.
    pub(super) fn describe<'a>(&self, services: impl Iterator<Item = (&'a str, &'a Service)>) -> String {
        let each: Vec<String> = services
            .map(|(name, s)| format!("{name} ({})", text::list(s.environments.keys().map(String::as_str), 200)))
            .collect();
        text::list(each.iter().map(String::as_str), 1_500)
    }

    pub(super) fn service(&self, name: &str) -> Result<&Service, String> {
        self.config.services.get(name).ok_or_else(|| {
            if self.config.services.is_empty() {
                return "no services are configured; an operator adds them as [tools.services.<name>]".to_owned();
            }
            let known = || self.config.services.keys().map(String::as_str);
            let hint = text::did_you_mean(name, known());
            format!("there is no service `{}`{hint} (known: {})", text::one_line(name, 40), text::list(known(), 160))
        })
    }

    pub(super) fn environment<'a>(service: (&str, &'a Service), name: &str) -> Result<&'a Environment, String> {
        let (of, service) = service;
        service.environments.get(name).ok_or_else(|| {
            let known = || service.environments.keys().map(String::as_str);
            let hint = text::did_you_mean(name, known());
            let given = text::one_line(name, 40);
            format!("`{of}` has no environment `{given}`{hint} (known: {})", text::list(known(), 160))
        })
    }

    /// Refuses a service or an environment that the settings do not name, and says which there are: that helps
    /// more than how names are written.
    pub(super) fn named(&self, args: &Value) -> Result<(), String> {
        let Some(name) = args.get("service").and_then(Value::as_str) else { return Ok(()) };
        let service = self.service(name)?;
        let environments =
            args.get("environment").map(|given| given.as_array().map_or(vec![given], |many| many.iter().collect()));
        for environment in environments.into_iter().flatten().filter_map(Value::as_str) {
            Self::environment((name, service), environment)?;
        }
        Ok(())
    }

    /// The names that an argument of this kind can have, among services that are `meant`. Nothing is known of them
    /// as long as no service is configured.
    pub(super) fn known(&self, kind: Kind, meant: impl Fn(&Service) -> bool) -> Option<Values> {
        let services = || self.iter().filter(|(_, service)| meant(service));
        let (what, mut names): (_, Vec<String>) = match kind {
            Kind::Service => ("service", services().map(|(name, _)| name.to_owned()).collect()),
            Kind::Environment => {
                ("environment", services().flat_map(|(_, service)| service.environments.keys().cloned()).collect())
            }
            Kind::Url | Kind::Path | Kind::Mail | Kind::Host | Kind::Version => return None,
        };
        names.sort();
        names.dedup();
        Some(Values::Known { what, names }).filter(|_| services().next().is_some())
    }

    /// Looks how it is, within [`ToolsConfig::probe_timeout`].
    pub(super) async fn probe(&self, environment: &Environment) -> Health {
        let limit = self.probe_limit();
        let started = Instant::now();
        let down = |what: String| Health { healthy: false, ms: millis(started.elapsed()), what };
        let url = match Url::parse(&environment.status) {
            Ok(url) => url,
            Err(e) => return down(format!("its status address is wrong: {e}")),
        };
        if url.scheme() == "tcp" {
            let address = (url.host_str().unwrap_or_default(), url.port().unwrap_or_default());
            let address = format!("{}:{}", address.0, address.1);
            return match tokio::time::timeout(limit, TcpStream::connect(address)).await {
                Ok(Ok(_)) => Health { healthy: true, ms: millis(started.elapsed()), what: "TCP connected".to_owned() },
                Ok(Err(e)) => down(text::one_line(&e.to_string(), text::MAX_QUOTE)),
                Err(_) => down(format!("no connection within {}", shown(limit))),
            };
        }
        match self.http.get(url, limit).await {
            Ok(answer) if environment.expect.contains(answer.status) => {
                Health { healthy: true, ms: answer.ms, what: format!("HTTP {}", answer.status) }
            }
            Ok(answer) => Health { healthy: false, ms: answer.ms, what: format!("HTTP {}", answer.status) },
            Err(e) => down(e.into_text()),
        }
    }

    /// Which version runs there: [`plain`], as every version that can be deployed is, so that an answer that is
    /// none brings no words of its own to a model.
    ///
    /// # Errors
    /// Why that is not known, short.
    pub(super) async fn version(
        &self,
        service: &str,
        environment: (&str, &Environment),
        cancel: &CancellationToken,
    ) -> Result<String, String> {
        let (name, environment) = environment;
        let Some(source) = &environment.version else { return Err("no way to read it is configured".to_owned()) };
        let limit = self.probe_limit();
        let found = if let Some(url) = &source.url {
            let url = Url::parse(url).map_err(|e| format!("its address is wrong: {e}"))?;
            let answer = self.http.get(url, limit).await.map_err(|e| e.into_text())?;
            if !StatusRange::default().contains(answer.status) {
                return Err(format!("HTTP {}", answer.status));
            }
            if !answer.complete {
                return Err("the answer is too long or was cut off".to_owned());
            }
            match &source.pointer {
                None => text::first_line(&String::from_utf8_lossy(&answer.body)),
                Some(pointer) => {
                    let body: Value =
                        serde_json::from_slice(&answer.body).map_err(|_| "the answer is not JSON".to_owned())?;
                    match body.pointer(pointer) {
                        Some(Value::String(version)) => text::one_line(version, text::MAX_QUOTE),
                        Some(Value::Number(version)) => version.to_string(),
                        _ => return Err(format!("the answer has no text at `{pointer}`")),
                    }
                }
            }
        } else {
            let replace = |arg: &String| arg.replace("{service}", service).replace("{environment}", name);
            let argv: Vec<String> = source.command.iter().flatten().map(replace).collect();
            let child = Child { argv: &argv, cwd: None, env: &[], set: &[], limit, with_stderr: false };
            let finished = child.run(cancel).await?;
            match finished.end {
                End::Exited(0) if finished.cut => return Err("the command wrote too much for a version".to_owned()),
                End::Exited(0) => text::first_line(&finished.output),
                End::Exited(code) => return Err(format!("the command exited with code {code}")),
                End::Signalled(signal) => return Err(format!("the command was ended by signal {signal}")),
                End::TimedOut => return Err(format!("the command did not end within {}", shown(limit))),
                End::Cancelled => return Err("stopped".to_owned()),
                End::Lost => return Err("the end of the command could not be read".to_owned()),
            }
        };
        match found.as_str() {
            "" => Err("the answer is empty".to_owned()),
            version if plain(version) => Ok(found),
            _ => Err("what stands there is not a version".to_owned()),
        }
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Service {
    fn check(&self, name: &str) -> anyhow::Result<()> {
        check_name(name)?;
        ensure!(!self.environments.is_empty(), "environments: there is none; a service runs somewhere");
        ensure!(self.environments.len() <= MAX_ENVIRONMENTS, "environments: more than {MAX_ENVIRONMENTS}");
        for (name, environment) in &self.environments {
            let path = || format!("in environments.{name}");
            check_name(name).with_context(path)?;
            environment.check().with_context(path)?;
            if self.deploy.is_some() && environment.version.is_none() {
                bail!("environments.{name}.version: a deployment has to read the version back; say where it stands");
            }
        }
        self.deploy.as_ref().map_or(Ok(()), |deploy| deploy.check().context("in deploy"))
    }
}

impl Environment {
    fn check(&self) -> anyhow::Result<()> {
        let url = check_url(&self.status, &["http", "https", "tcp"]).context("in status")?;
        ensure!(url.scheme() != "tcp" || url.port().is_some(), "status: `{}` names no port", self.status);
        let Some(version) = &self.version else { return Ok(()) };
        match (&version.url, &version.command) {
            (Some(url), None) => {
                check_url(url, &["http", "https"]).context("in version.url")?;
            }
            (None, Some(argv)) => {
                ensure!(version.pointer.is_none(), "version.pointer: goes with `url`, not with `command`");
                check_argv(argv, &["service", "environment"]).context("in version.command")?;
            }
            _ => bail!("version: give either `url` or `command`"),
        }
        ensure!(
            version.pointer.as_ref().is_none_or(|p| p.starts_with('/')),
            "version.pointer: a JSON pointer starts with `/`, for example `/version`"
        );
        Ok(())
    }
}

/// Names end up inside arguments and addresses, so they are as plain as versions.
fn check_name(name: &str) -> anyhow::Result<()> {
    ensure!(
        plain(name),
        "`{name}` is not a usable name: letters, digits and `._+~:@-`, the first a letter or digit, at most {MAX_PLAIN}"
    );
    Ok(())
}

pub(super) fn check_url(text: &str, schemes: &[&str]) -> anyhow::Result<Url> {
    let url = Url::parse(text).with_context(|| format!("`{text}` is not an address"))?;
    ensure!(schemes.contains(&url.scheme()), "`{text}` does not start with one of {}://", schemes.join("://, "));
    ensure!(url.host_str().is_some_and(|host| !host.is_empty()), "`{text}` names no host");
    ensure!(
        url.username().is_empty() && url.password().is_none(),
        "an address with a name or password in it ends up in logs; use `token_env`"
    );
    Ok(url)
}

/// An argument list that can be started, whose placeholders are all known.
pub(super) fn check_argv(argv: &[String], placeholders: &[&str]) -> anyhow::Result<()> {
    let program = argv.first().map_or("", String::as_str);
    ensure!(!program.is_empty(), "the argument list is empty; its first element is the program");
    ensure!(!program.contains('{'), "`{program}`: the program itself cannot be a placeholder");
    argv.iter().try_for_each(|arg| check_placeholders(arg, placeholders))
}

/// Refuses `{verison}`: it would reach the program as it stands.
pub(super) fn check_placeholders(text: &str, known: &[&str]) -> anyhow::Result<()> {
    for part in text.split('{').skip(1) {
        let Some((name, _)) = part.split_once('}') else { continue };
        let is_word = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if is_word && !known.contains(&name) {
            let hint = text::did_you_mean(name, known.iter().copied());
            bail!("`{{{name}}}` is not a placeholder{hint} (known: {})", known.join(", "));
        }
    }
    Ok(())
}

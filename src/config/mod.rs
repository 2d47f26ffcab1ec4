//! The configuration: typed, layered (default < file < `.env` < environment), complete or refused.
//!
//! This module owns what the settings mean: their types, their bounds, which of them belong together,
//! and the words for everything that is wrong, all of it at once. [`layers`] owns where values come
//! from. [`Loaded::from_sources`] is a pure function of texts; only [`Loaded::from_process`] looks at
//! files and the environment.

mod bounds;
mod checks;
mod ids;
mod key;
pub mod layers;
mod slack;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::agent::secret::is_secret_name;
use crate::agent::{
    AgentFile, Agents, Approvers, Limits, MAX_AGENT_FILE, People, PersonEntry, Policy, RequesterRule, Route, Rule,
    SecretFilter, did_you_mean, serde_words, span,
};
use bounds::{BOUNDS, Bound, KEPT};
use checks::{check_each, check_groups, check_rules, check_tokens, variables};
use layers::{MAX_FILE, Settings, Sources, place, shown};

pub use ids::{Ids, MAX_PERSON, is_name_char};
pub use key::{KEY_FILE, installation_key};
pub use slack::{SlackChannel, SlackConfig, SlackWorkspace, Threads, is_slack_itself, is_slash_command};

/// Every setting with its default and a sentence.
pub const DEFAULT: &str = include_str!("../../config/default.toml");

/// The agents that are there without any file.
pub fn builtin_agents() -> Vec<AgentFile> {
    [
        ("deployment.md", include_str!("../../config/agents/deployment.md")),
        ("support.md", include_str!("../../config/agents/support.md")),
        ("assistant.md", include_str!("../../config/agents/assistant.md")),
    ]
    .map(|(file, text)| AgentFile { file: file.to_owned(), text: text.to_owned() })
    .into()
}

/// The prompt cases of the built-in agents.
pub fn builtin_cases() -> Vec<AgentFile> {
    [
        ("deployment.cases.toml", include_str!("../../config/agents/deployment.cases.toml")),
        ("support.cases.toml", include_str!("../../config/agents/support.cases.toml")),
        ("assistant.cases.toml", include_str!("../../config/agents/assistant.cases.toml")),
    ]
    .map(|(file, text)| AgentFile { file: file.to_owned(), text: text.to_owned() })
    .into()
}

/// All settings. Lengths of time are milliseconds, sizes bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub app: AppConfig,
    pub log: LogConfig,
    pub store: StoreSettings,
    pub model: ModelConfig,
    pub providers: ProvidersConfig,
    pub runtime: RuntimeConfig,
    pub approvals: ApprovalsConfig,
    pub policy: PolicyConfig,
    pub agents: AgentsConfig,
    pub limits: Limits,
    pub http: HttpConfig,
    pub triggers: TriggersConfig,
    pub slack: SlackConfig,
    /// Read by the tools, which know what belongs there.
    pub tools: toml::Table,
    /// Who is behind which identities; [`Config::directory`].
    pub people: Vec<PersonEntry>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppConfig {
    pub name: String,
    pub debug: bool,
    pub data_dir: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    pub level: String,
    pub structured: bool,
    /// Directives for single modules, in the syntax of tracing-subscriber's `Targets`.
    pub filter: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// Empty: `twelve.db` in `app.data_dir`; [`Config::store_path`] says which.
    pub path: PathBuf,
    /// `process` or `disk`.
    pub durability: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// As configured; [`Config::provider`] says what it comes to.
    pub provider: String,
    /// Empty: the provider's `default_model`; [`Config::model`] says which.
    pub model: String,
    pub max_context_tokens: u64,
    pub context_compression_threshold: f64,
    pub keep_last_events: usize,
    pub max_entries: usize,
    #[serde(with = "span")]
    pub timeout: u64,
    pub max_attempts: u32,
    #[serde(with = "span")]
    pub retry_base: u64,
    #[serde(with = "span")]
    pub retry_cap: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvidersConfig {
    pub openai: ProviderConfig,
    pub anthropic: ProviderConfig,
    pub scripted: ScriptedConfig,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    pub base_url: String,
    /// Empty if none is set; [`ProviderConfig::key`].
    pub api_key: SecretString,
    pub default_model: String,
}

impl ProviderConfig {
    pub fn key(&self) -> Option<&SecretString> {
        Some(&self.api_key).filter(|key| !key.expose_secret().is_empty())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptedConfig {
    /// Empty: the built-in script.
    pub script: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeConfig {
    pub max_concurrent_effects: usize,
    pub max_cached_threads: usize,
    #[serde(with = "span")]
    pub drain_timeout: u64,
    #[serde(with = "span")]
    pub lease: u64,
    pub message_max_bytes: usize,
    #[serde(with = "span")]
    pub keep_intents: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalsConfig {
    #[serde(with = "span")]
    pub expires_after: u64,
    pub requester_may_approve: RequesterRule,
    pub require_approvers: bool,
    /// Whether a mail address that a surface vouches for finds the person with that `email:` identity.
    pub match_verified_mail: bool,
    pub approvers: ApproversConfig,
    pub route: Route,
}

/// Who decides where no rule names anybody.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproversConfig {
    pub users: Vec<String>,
    pub groups: Vec<String>,
    pub quorum: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    pub rules: Vec<Rule>,
    /// Names of tools, with `*` as wildcard.
    pub safe_after_untrusted: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentsConfig {
    /// Empty: only the built-in agents.
    pub directory: PathBuf,
}

/// The service: where it listens, who gets in, and how much of anything it takes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpConfig {
    pub host: String,
    pub port: u16,
    /// Empty: `http://host:port`; [`HttpConfig::public_url`] says which.
    pub public_url: String,
    /// Whoever connects from this machine needs no token. Refused beside anything that lets others reach it.
    pub trust_loopback: bool,
    /// Signs sessions and links. Empty: a random one is kept in `app.data_dir`.
    pub secret: SecretString,
    pub max_body: usize,
    #[serde(with = "span")]
    pub header_timeout: u64,
    #[serde(with = "span")]
    pub body_timeout: u64,
    pub max_connections: usize,
    pub requests_per_minute: u32,
    #[serde(with = "span")]
    pub session: u64,
    /// People who see every thread and approval.
    pub admins: Vec<String>,
    pub tokens: Vec<TokenConfig>,
    pub proxy: ProxyConfig,
}

impl HttpConfig {
    /// The address that links begin with, without a slash at its end.
    pub fn public_url(&self) -> String {
        if self.public_url.is_empty() {
            let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
            format!("http://{host}:{}", self.port)
        } else {
            self.public_url.trim_end_matches('/').to_owned()
        }
    }
}

/// A bearer token of the REST API. The token itself is nowhere: only its hash.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// Who it is in logs: `api:<name>`.
    pub name: String,
    /// `sha256:` and 64 hexadecimal digits, as `twelve token` prints it.
    pub hash: String,
    pub scopes: Vec<Scope>,
    /// The person whose decisions it brings; the scope `approve` needs one.
    #[serde(default)]
    pub person: Option<String>,
}

impl TokenConfig {
    /// The SHA-256 of the token; `None` if `hash` is none.
    pub fn digest(&self) -> Option<Vec<u8>> {
        let digits = self.hash.strip_prefix("sha256:")?;
        data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok().filter(|hash| hash.len() == 32)
    }

    /// What a name may be: it stands in ids and logs. [`LOCAL`] is the service's own.
    pub fn is_name(name: &str) -> bool {
        (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
            && name != LOCAL
    }
}

/// The name of the token that the service makes for programs on its machine.
pub const LOCAL: &str = "local";

/// Ids that begin so are given to nobody who comes in by HTTP: they stand for this machine's own terminal,
/// for agents, and for the engine.
const RESERVED: [&str; 3] = ["console", "agent", "system"];

/// Whether the id of a person begins as only this program's own do.
pub fn is_reserved(id: &str) -> bool {
    id.split_once(':').is_some_and(|(surface, _)| RESERVED.contains(&surface))
}

/// What a bearer token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Start threads and write to one's own.
    Start,
    /// Read one's own threads, and approvals that one may decide.
    Read,
    /// Answer questions, pause, resume, stop.
    Resume,
    /// Decide approvals, as the token's person.
    Approve,
    /// Read and delete everything.
    Admin,
}

/// A proxy that has signed people in before they come here.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyConfig {
    /// Empty: no proxy is trusted.
    pub user_header: String,
    pub groups_header: String,
    pub prefix: String,
    /// Addresses or networks that the header is believed from.
    pub from: Vec<String>,
}

/// What starts agents without a person at a surface.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggersConfig {
    pub webhooks: Vec<WebhookConfig>,
    pub schedules: Vec<ScheduleConfig>,
    /// How far back a scheduled time may lie and still be made up for.
    #[serde(with = "span")]
    pub catch_up: u64,
}

/// One sender of signed webhooks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    pub name: String,
    /// The environment variable with the signing secret, never the secret.
    #[serde(deserialize_with = "variable_name")]
    pub secret_env: String,
    pub agent: String,
    /// A template over the payload: `{{ payload.alert.title }}`.
    pub message: String,
}

/// One message that an agent gets at fixed times.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    pub name: String,
    /// Minute, hour, day of month, month, day of week; or `@daily` and the like.
    pub cron: String,
    /// An IANA name.
    #[serde(default = "utc")]
    pub timezone: String,
    pub agent: String,
    /// As it is: no template.
    pub message: String,
}

fn utc() -> String {
    "UTC".to_owned()
}

/// A name that a variable can have. Whoever writes the secret itself here is not quoted.
fn variable_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let is_name = name.len() <= 128 && name.bytes().all(allowed) && !name.starts_with(|c: char| c.is_ascii_digit());
    // Slack's signing secrets look like names: 32 digits of a hexadecimal number.
    let is_digits = name.len() >= 32 && name.bytes().all(|c| c.is_ascii_hexdigit());
    if is_name && !name.is_empty() && !name.starts_with("whsec_") && !is_digits {
        Ok(name)
    } else {
        Err(serde::de::Error::custom(
            "what ends in `_env` is not the name of an environment variable; give the name of the variable that holds the secret, never the secret",
        ))
    }
}

/// Who answers for the models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    OpenAi,
    Anthropic,
    Scripted,
}

impl ProviderKind {
    pub const NAMES: [&str; 3] = ["openai", "anthropic", "scripted"];

    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Scripted => "scripted",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        [Self::OpenAi, Self::Anthropic, Self::Scripted].into_iter().find(|kind| kind.name() == name)
    }
}

impl Config {
    /// The provider that `model.provider` comes to. `auto` takes the first that has a key, or whose
    /// server is on this machine and so needs none; without any, the scripted one.
    pub fn provider(&self) -> ProviderKind {
        ProviderKind::from_name(&self.model.provider).unwrap_or_else(|| {
            [ProviderKind::OpenAi, ProviderKind::Anthropic]
                .into_iter()
                .find(|kind| self.has_access(*kind))
                .unwrap_or(ProviderKind::Scripted)
        })
    }

    /// The model for an agent that names none.
    pub fn model(&self, provider: ProviderKind) -> &str {
        let default = match provider {
            ProviderKind::OpenAi => &self.providers.openai.default_model,
            ProviderKind::Anthropic => &self.providers.anthropic.default_model,
            ProviderKind::Scripted => return "scripted",
        };
        // `model.model` is spelled for the configured provider; another one would not know it.
        if !self.model.model.is_empty() && provider == self.provider() { &self.model.model } else { default }
    }

    /// Whether a provider has a key or needs none.
    fn has_access(&self, provider: ProviderKind) -> bool {
        let config = match provider {
            ProviderKind::OpenAi => &self.providers.openai,
            ProviderKind::Anthropic => &self.providers.anthropic,
            ProviderKind::Scripted => return true,
        };
        config.key().is_some() || is_loopback(&config.base_url)
    }

    /// Why this provider cannot be asked, if so: what is missing and which variable to set.
    pub fn missing_for(&self, provider: ProviderKind) -> Option<String> {
        let (config, variable, vendor) = match provider {
            ProviderKind::OpenAi => (&self.providers.openai, "OPENAI", "OpenAI"),
            ProviderKind::Anthropic => (&self.providers.anthropic, "ANTHROPIC", "Anthropic"),
            ProviderKind::Scripted => return None,
        };
        let section = provider.name();
        if !self.has_access(provider) {
            return Some(format!(
                "the provider `{section}` needs a key: set {variable}_API_KEY, or {variable}_BASE_URL to a server on this machine that speaks {vendor}'s API (any text will do as key for a server that wants none)"
            ));
        }
        let model = if self.model.model.is_empty() { &config.default_model } else { &self.model.model };
        model.is_empty().then(|| {
            format!("the provider `{section}` needs a model: set `model.model` or `providers.{section}.default_model`")
        })
    }

    pub fn store_path(&self) -> PathBuf {
        if self.store.path.as_os_str().is_empty() {
            self.app.data_dir.join("twelve.db")
        } else {
            self.store.path.clone()
        }
    }

    /// The directory of people.
    ///
    /// # Errors
    /// A sentence for each entry that cannot be meant.
    pub fn directory(&self) -> Result<People, Vec<String>> {
        People::new(self.people.clone(), self.approvals.match_verified_mail)
    }

    /// What ids may mean in this configuration.
    pub fn ids<'a>(&'a self, people: &'a People) -> Ids<'a> {
        Ids { proxy_prefix: &self.http.proxy.prefix, people }
    }

    /// Who is named as approver, administrator, or in the directory of people, as far as it can be nobody: one
    /// sentence each, with what was probably meant.
    pub fn id_problems(&self, policy: &Policy, people: &People) -> Vec<String> {
        let ids = self.ids(people);
        let quoted = |what: &str, id: &str, why: String| format!("{what}: `{}` {why}", shown("", id));
        let mut problems = Vec::new();
        let mut check = |what: &str, approvers: &Approvers| {
            let users = approvers.users.iter().map(|id| (id, ids.approver_problem(id)));
            let groups = approvers.groups.iter().map(|id| (id, ids.group_problem(id)));
            problems.extend(users.chain(groups).filter_map(|(id, why)| why.map(|why| quoted(what, id, why))));
        };
        check("`approvals.approvers`", &policy.approvers);
        for rule in &policy.rules {
            if let Some(approvers) = &rule.approvers {
                check(&format!("the rule `{}`", shown("", &rule.name)), approvers);
            }
        }
        let admins = self.http.admins.iter().map(|id| ("`http.admins`".to_owned(), id));
        let listed = self.people.iter().flat_map(|entry| {
            entry.ids.iter().map(|id| (format!("person `{}` of [[people]]", shown("", &entry.name)), id))
        });
        for (what, id) in admins.chain(listed) {
            problems.extend(ids.problem(id).map(|why| quoted(&what, id, why)));
        }
        problems
    }

    /// Approvers where no rule names any. Whether the requester may is the gate's business, which knows
    /// who asked.
    pub fn approvers(&self) -> Approvers {
        let ApproversConfig { users, groups, quorum } = self.approvals.approvers.clone();
        Approvers { users, groups, quorum, requester_may: None }
    }

    /// The policy of the configuration, without the agents' own rules: what agents are checked against.
    pub fn base_policy(&self) -> Policy {
        Policy {
            rules: self.policy.rules.clone(),
            approvers: self.approvers(),
            expires_after_ms: self.approvals.expires_after,
            route: self.approvals.route.clone(),
            safe_after_untrusted: self.policy.safe_after_untrusted.clone(),
        }
    }

    /// The whole policy.
    pub fn policy(&self, agents: &Agents) -> Policy {
        let mut policy = self.base_policy();
        policy.rules.extend(agents.rules().cloned());
        policy
    }

    /// What agents ask of providers that the configuration does not give.
    pub fn problems_with(&self, agents: &Agents) -> Vec<String> {
        let problem = |agent: &crate::agent::Agent| {
            let name = agent.spec.provider.as_deref()?;
            let why = match ProviderKind::from_name(name) {
                Some(kind) => self.missing_for(kind)?,
                None => format!(
                    "there is no provider `{name}`; there are {}{}",
                    ProviderKind::NAMES.join(", "),
                    did_you_mean(name, ProviderKind::NAMES)
                ),
            };
            Some(format!("{}: {why}", agent.spec.file))
        };
        agents.iter().filter_map(problem).collect()
    }

    /// The agent files (`*.md`) of `agents.directory`, sorted by name; none if it is not set.
    ///
    /// # Errors
    /// A sentence for each thing that cannot be read.
    pub fn agent_files(&self) -> Result<Vec<AgentFile>, Vec<String>> {
        self.files_in_agents_directory(".md")
    }

    /// The prompt cases (`*.cases.toml`) of `agents.directory`, likewise.
    pub fn case_files(&self) -> Result<Vec<AgentFile>, Vec<String>> {
        self.files_in_agents_directory(".cases.toml")
    }

    fn files_in_agents_directory(&self, ending: &str) -> Result<Vec<AgentFile>, Vec<String>> {
        let directory = &self.agents.directory;
        if directory.as_os_str().is_empty() {
            return Ok(Vec::new());
        }
        let unreadable = |path: &Path, e: std::io::Error| vec![format!("{} cannot be read: {e}", path.display())];
        let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
            .map_err(|e| vec![format!("agents.directory {} cannot be read: {e}", directory.display())])?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(|e| unreadable(directory, e))?;
        paths.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ending)));
        paths.sort();
        let (mut files, mut problems) = (Vec::new(), Vec::new());
        for path in paths {
            match read_bounded(&path, MAX_AGENT_FILE) {
                Ok(text) => files.push(AgentFile { file: path.display().to_string(), text }),
                Err(e) => problems.extend(unreadable(&path, e)),
            }
        }
        if problems.is_empty() { Ok(files) } else { Err(problems) }
    }
}

/// Whether a server is on this machine, so that no key is needed and nothing leaves it.
pub fn is_loopback(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|ip| ip.is_loopback())
}

/// Whether this host name or address is this machine's own, out of reach for others.
pub fn is_loopback_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Everything that is wrong with the configuration, one sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "The configuration has a problem: {one}"),
            all => {
                write!(f, "The configuration has {} problems:", all.len())?;
                all.iter().try_for_each(|problem| write!(f, "\n- {problem}"))
            }
        }
    }
}

impl std::error::Error for Problems {}

/// The configuration and where each part of it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    settings: Settings,
    /// What the variables hold that webhooks and workspaces of Slack name, by name.
    variables: BTreeMap<String, SecretString>,
}

impl Loaded {
    /// Merges and checks the layers. Depends on nothing but its arguments.
    ///
    /// # Errors
    /// All problems at once.
    pub fn from_sources(sources: &Sources) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut settings = layers::merge(DEFAULT, sources, &mut problems);
        let defaults = layers::merge(DEFAULT, &Sources::default(), &mut Vec::new());
        let words_in_lower_case = ["log.level", "model.provider", "store.durability"];
        for path in words_in_lower_case {
            if let Some(toml::Value::String(word)) = settings.get_mut(path).map(|s| &mut s.value) {
                *word = word.trim().to_ascii_lowercase();
            }
        }
        for (path, bound) in &BOUNDS {
            let Some(setting) = settings.get_mut(*path) else { continue };
            if let Some(wants) = bound.refuses(&setting.value) {
                let given = shown(path, &plain(&setting.value));
                let hint = match bound {
                    Bound::OneOf(words) => did_you_mean(&given, words.iter().copied()),
                    _ => String::new(),
                };
                problems.push(format!("{}: `{path}` {wants}; it is `{given}`{hint}", place(&setting.origin)));
                // Go on with the default, so that what else is wrong is found as well.
                setting.value = defaults.get(*path).map_or(toml::Value::Boolean(false), |d| d.value.clone());
            }
        }
        check_rules(&mut settings, &mut problems);
        check_tokens(&mut settings, &mut problems);
        check_each::<WebhookConfig>("triggers.webhooks", "webhook", &mut settings, &mut problems);
        check_each::<ScheduleConfig>("triggers.schedules", "schedule", &mut settings, &mut problems);
        check_each::<SlackChannel>("slack.channels", "Slack channel", &mut settings, &mut problems);
        check_each::<SlackWorkspace>("slack.workspaces", "Slack workspace", &mut settings, &mut problems);
        match layers::table(&settings).try_into::<Config>() {
            Ok(config) => {
                check_groups(&config, &settings, &mut problems);
                let variables = variables(&config, sources);
                problems.extend(config.slack.problems(
                    |path| settings.get(path).map_or_else(String::new, |s| place(&s.origin)),
                    |name| variables.get(name),
                ));
                if problems.is_empty() { Ok(Self { config, settings, variables }) } else { Err(Problems(problems)) }
            }
            Err(e) => {
                problems.push(serde_words(e.message()));
                Err(Problems(problems))
            }
        }
    }

    /// Reads the layers of this process: `file` if given, else the file that `TWELVE_CONFIG` names, else
    /// `twelve.toml` in the working directory if there is one; `.env` there if there is one; and the
    /// environment. Changes nothing, the environment included.
    ///
    /// # Errors
    /// All problems at once; a named file that is not there is one.
    pub fn from_process(file: Option<&Path>) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Ok(name) = name.into_string() else { continue };
            let ours = name.starts_with(layers::PREFIX) || layers::PLAIN_NAMES.iter().any(|(plain, _)| *plain == name);
            match value.into_string() {
                // All of them: which ones hold signing secrets is known once the file is read.
                Ok(value) => environment.push((name, value)),
                Err(_) if ours => problems.push(format!("environment {name}: the value is not UTF-8 text")),
                Err(_) => {}
            }
        }
        environment.sort();
        let named = file.map(|path| (path.to_owned(), "--config"));
        let named = named.or_else(|| {
            let path = std::env::var_os("TWELVE_CONFIG").filter(|path| !path.is_empty())?;
            Some((PathBuf::from(path), "TWELVE_CONFIG"))
        });
        let mut read = |path: &Path, named_by: Option<&str>| match read_bounded(path, MAX_FILE) {
            Ok(text) => Some((path.display().to_string(), text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && named_by.is_none() => None,
            Err(e) => {
                let by = named_by.map_or_else(String::new, |by| format!(" (named by {by})"));
                problems.push(format!("{}{by} cannot be read: {e}", path.display()));
                None
            }
        };
        let file = match &named {
            Some((path, by)) => read(path, Some(by)),
            None => read(Path::new("twelve.toml"), None),
        };
        let dot_env = read(Path::new(".env"), None);
        let sources = Sources {
            file: file.as_ref().map(|(name, text)| (name.as_str(), text.as_str())),
            dot_env: dot_env.as_ref().map(|(_, text)| text.as_str()),
            environment: &environment,
        };
        match Self::from_sources(&sources) {
            Ok(loaded) if problems.is_empty() => Ok(loaded),
            Ok(_) => Err(Problems(problems)),
            Err(Problems(more)) => Err(Problems(problems.into_iter().chain(more).collect())),
        }
    }

    /// The effective settings in order, for people and machines: secrets are masked.
    pub fn shown(&self) -> Vec<ShownSetting> {
        let filter = self.secret_filter();
        self.settings
            .iter()
            .map(|(path, setting)| ShownSetting {
                key: path.clone(),
                value: masked(path, &setting.value, &filter),
                origin: setting.origin.to_string(),
            })
            .collect()
    }

    /// `key = value   # origin`, one setting a line.
    pub fn show(&self) -> String {
        let lines: Vec<(String, String)> =
            self.shown().into_iter().map(|s| (format!("{} = {}", s.key, s.value), s.origin)).collect();
        // Long values do not push all origins to the right.
        let width = lines.iter().map(|(left, _)| left.chars().count()).filter(|n| *n <= 72).max().unwrap_or(0);
        lines.into_iter().map(|(left, origin)| format!("{left:<width$}  # {origin}\n")).collect()
    }

    /// A filter that knows every secret of this configuration, those of the tools included.
    pub fn secret_filter(&self) -> SecretFilter {
        let secrets = self.settings.iter().filter(|(path, _)| is_secret_path(path)).flat_map(|(_, s)| texts(&s.value));
        SecretFilter::new(secrets.chain(self.variables.values().map(ExposeSecret::expose_secret)))
    }

    /// The secret in a variable that the settings name, if it is set.
    pub fn secret_in(&self, variable: &str) -> Option<&SecretString> {
        self.variables.get(variable)
    }
}

/// One line of `config show`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct ShownSetting {
    pub key: String,
    pub value: toml::Value,
    pub origin: String,
}

fn is_secret_path(path: &str) -> bool {
    crate::agent::split_key(path).last().is_some_and(|name| is_secret_name(name))
}

/// All texts in a value.
fn texts(value: &toml::Value) -> Vec<&str> {
    match value {
        toml::Value::String(text) => vec![text],
        toml::Value::Array(items) => items.iter().flat_map(texts).collect(),
        toml::Value::Table(table) => table.values().flat_map(texts).collect(),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) | toml::Value::Datetime(_) => vec![],
    }
}

const MASK: &str = "********";

fn masked(path: &str, value: &toml::Value, filter: &SecretFilter) -> toml::Value {
    match value {
        toml::Value::String(text) if text.is_empty() => value.clone(),
        toml::Value::Table(table) => {
            let mask = |(key, value): (&String, _)| (key.clone(), masked(key, value, filter));
            toml::Value::Table(table.iter().map(mask).collect())
        }
        toml::Value::Array(items) => toml::Value::Array(items.iter().map(|item| masked(path, item, filter)).collect()),
        _ if is_secret_path(path) => toml::Value::String(MASK.to_owned()),
        toml::Value::String(text) => toml::Value::String(filter.clean(text).into_owned()),
        toml::Value::Integer(_) | toml::Value::Float(_) | toml::Value::Boolean(_) | toml::Value::Datetime(_) => {
            value.clone()
        }
    }
}

fn plain(value: &toml::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Reads a text file of at most `max` bytes.
fn read_bounded(path: &Path, max: usize) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    // One byte more than allowed tells a file of exactly `max` bytes from a longer one.
    std::fs::File::open(path)?.take(max as u64 + 1).read_to_string(&mut text)?;
    if text.len() > max {
        return Err(std::io::Error::other(format!("the file has more than {max} bytes")));
    }
    Ok(text)
}

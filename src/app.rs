//! Assembly: a configuration becomes the parts of a running program.
//!
//! The one place where rooms that do not know each other meet. Everything that can be wrong with a
//! set-up is found here, before anything runs, and all of it is said at once.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use secrecy::{ExposeSecret as _, SecretString};

use crate::agent::{
    Agents, Gate, Given, PERSON, People, Policy, RequesterRule, Retry, Rule, WindowLimits, did_you_mean, glob,
    serde_words,
};
use crate::chat::slack::{FrontSettings, odd};
use crate::config::{self, Config, ProviderKind, SlackConfig};
use crate::llm::{Anthropic, HttpProviderConfig, OpenAi, Provider, Scripted, TokenLimitField};
use crate::metrics::Metrics;
use crate::platform::Platforms;
use crate::platform::slack::api::Pace;
use crate::platform::slack::{SlackSettings, WorkspaceSettings};
use crate::runtime::{Clock, Parts, Providers, Runtime, Settings, rebuild};
use crate::store::{Durability, Store, StoreConfig};
use crate::tools::canon::{Kind, pattern};
use crate::tools::{CheckedArgs, Registry, ToolsConfig, Values};
use crate::triggers::Triggers;

/// What is known before a store is opened: enough for commands that only explain.
pub struct Blueprint {
    pub loaded: config::Loaded,
    pub tools: Registry,
    pub agents: Agents,
    pub policy: Policy,
    pub people: People,
    pub triggers: Arc<Triggers>,
}

impl Blueprint {
    /// Checks the whole set-up.
    ///
    /// # Errors
    /// Everything that is wrong, one sentence a line.
    pub fn new(loaded: config::Loaded) -> anyhow::Result<Self> {
        let config = &loaded.config;
        let tools_config: ToolsConfig = config.tools.clone().try_into().map_err(|e| tools_problem(&e))?;
        let tools = Registry::from_config(&tools_config, &config.app.data_dir)?;
        let facts: Vec<_> = tools.names().filter_map(|name| tools.facts(name).cloned()).collect();
        let given = Given {
            app_name: &config.app.name,
            tools: &facts,
            check_args: &|tool, args| tools.check_value(tool, args.clone()).map(CheckedArgs::into_value),
            policy: &config.base_policy(),
            require_approvers: config.approvals.require_approvers,
            limits: &config.limits,
        };
        let together = |problems: Vec<String>| anyhow!("{}", problems.join("\n"));
        let overrides = config.agent_files().map_err(together)?;
        let agents = Agents::load(&config::builtin_agents(), &overrides, &given).map_err(together)?;
        let problems = config.problems_with(&agents);
        let mut policy = config.policy(&agents);
        fold_mail(&mut policy.rules, &tools);
        let tools = judging_redirects(tools, tools_config, &policy, &config.app.data_dir)?;
        let (people, wrong_people) = match config.directory() {
            Ok(people) => (people, Vec::new()),
            Err(wrong) => (People::default(), wrong),
        };
        let triggers = Triggers::new(&config.triggers, &agents, |name| loaded.secret_in(name));
        let (triggers, wrong) = triggers.map_or_else(|wrong| (Triggers::default(), wrong), |good| (good, Vec::new()));
        let idle = idle_rules(&config.policy.rules, &tools, &agents);
        let silent = silent_patterns(&policy.rules, &tools);
        let strangers = slack_strangers(&config.slack, &agents);
        let ids = [config.id_problems(&policy, &people), config.slack.route_problems(&policy)].concat();
        let problems = [
            problems,
            idle,
            silent,
            idle_safe(&config.policy.safe_after_untrusted, &tools),
            wrong,
            strangers,
            ids,
            wrong_people,
        ]
        .concat();
        if !problems.is_empty() {
            return Err(together(problems));
        }
        Ok(Self { loaded, tools, agents, policy, people, triggers: Arc::new(triggers) })
    }

    pub fn config(&self) -> &Config {
        &self.loaded.config
    }

    /// Rules that want different people and cannot always tell them apart: one sentence each. Nothing is wrong with
    /// them, but some decisions will be refused until the directory of people is complete.
    pub fn unsure_rules(&self) -> Vec<String> {
        let config = self.config();
        let asking = self.policy.rules.iter().filter(|rule| rule.gate == Gate::Ask);
        let named = asking.map(|rule| {
            let approvers = rule.approvers.as_ref().unwrap_or(&self.policy.approvers);
            (format!("the rule `{}`", rule.name), approvers)
        });
        let all: Vec<_> =
            [("`approvals.approvers`".to_owned(), &self.policy.approvers)].into_iter().chain(named).collect();
        let mut places: BTreeSet<&str> = ["web"].into();
        places.extend(config.slack.is_on().then_some("slack"));
        places.extend(all.iter().flat_map(|(_, approvers)| &approvers.users).filter_map(|id| {
            let surface = id.split_once(':')?.0;
            (surface != PERSON).then_some(surface)
        }));
        if places.len() < 2 {
            return Vec::new();
        }
        let places = places.into_iter().collect::<Vec<_>>().join(", ");
        let default = config.approvals.requester_may_approve == RequesterRule::Always;
        all.into_iter()
            .filter(|(_, approvers)| approvers.quorum > 1 || !approvers.requester_may.unwrap_or(default))
            .filter_map(|(what, approvers)| {
                let known = |id: &&String| id.starts_with("person:") || self.people.name_of(id).is_some();
                let unknown: Vec<&str> = approvers.users.iter().filter(|id| !known(id)).map(String::as_str).collect();
                let groups = approvers.groups.iter().map(String::as_str);
                let open: Vec<&str> = unknown.into_iter().chain(groups).collect();
                (!open.is_empty()).then(|| {
                    format!(
                        "{what} wants different people, and [[people]] does not list all who may decide ({}): a decision is refused where the one who asked, or has approved before, comes from another place ({places}) and not both are listed",
                        open.join(", ")
                    )
                })
            })
            .collect()
    }

    /// Slack as it is set up, for the service that links lead to; `None` without a bot token.
    ///
    /// # Errors
    /// The variables of workspaces that are not set, one sentence a line.
    pub fn slack(&self, public_url: String) -> anyhow::Result<Option<(SlackSettings, FrontSettings)>> {
        let config = &self.loaded.config.slack;
        if !config.is_on() {
            return Ok(None);
        }
        let missing = config.missing(|name| self.loaded.secret_in(name));
        if !missing.is_empty() {
            return Err(anyhow!("{}", missing.join("\n")));
        }
        let settings = SlackSettings {
            api_url: config.api_url.trim_end_matches('/').to_owned(),
            workspaces: workspaces(&self.loaded),
            public_url,
            max_file: config.max_file,
            max_earlier: config.max_earlier,
            pace: Pace::default(),
        };
        let agents = config.channels.iter().filter(|channel| !channel.agent.is_empty());
        let threads = config.channels.iter().filter_map(|channel| Some((channel.id.clone(), channel.threads?)));
        let front = FrontSettings {
            agent: config.agent.clone(),
            channels: agents.map(|channel| (channel.id.clone(), channel.agent.clone())).collect(),
            threads: config.threads,
            channel_threads: threads.collect(),
            stop_reaction: config.stop_reaction.clone(),
            progress: config.progress,
            command: config.command.clone(),
            operators: self.loaded.config.http.admins.clone(),
            odd: Some(self.loaded.config.app.data_dir.join(odd::FILE)),
        };
        Ok(Some((settings, front)))
    }

    /// Where the store is, and what it promises.
    pub fn store_config(&self) -> anyhow::Result<StoreConfig> {
        let config = self.config();
        let path = config.store_path();
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            // What is said to agents is nobody else's business on this machine.
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).with_context(|| {
                format!(
                    "the data directory {} cannot be made; set `app.data_dir` to another place",
                    directory.display()
                )
            })?;
        }
        keep_private(&config.app.data_dir);
        let durability = if config.store.durability == "process" { Durability::Process } else { Durability::Disk };
        Ok(StoreConfig { path, durability })
    }

    /// Opens the store for this process alone and puts the runtime together. Nothing runs yet.
    pub async fn open(self, platforms: Platforms) -> anyhow::Result<Runtime> {
        let store = Store::open(&self.store_config()?).await?;
        rebuild(&store).await?;
        Ok(Runtime::new(self.parts(store, platforms, Clock::System)?))
    }

    /// The parts over an open store.
    pub fn parts(self, store: Store, platforms: Platforms, clock: Clock) -> anyhow::Result<Parts> {
        let config = &self.loaded.config;
        Ok(Parts {
            store,
            providers: providers(config, &self.agents)?,
            requester: config.approvals.requester_may_approve,
            people: self.people,
            secrets: self.loaded.secret_filter().with_key(config::installation_key(&config.app.data_dir)?),
            settings: settings(config),
            platforms,
            clock,
            metrics: Metrics::default(),
            tools: self.tools,
            agents: self.agents,
            policy: self.policy,
        })
    }
}

/// Takes away what others may do in the data directory. Where this user may not, it stays as it is: a volume of a
/// container may belong to somebody else. `twelve doctor` says so.
fn keep_private(data_dir: &Path) {
    let Ok(found) = std::fs::metadata(data_dir) else { return };
    let mode = found.permissions().mode();
    if !found.is_dir() || mode & 0o077 == 0 {
        return;
    }
    const SHARED: u32 = 0o1000;
    if mode & SHARED != 0 || data_dir.canonicalize().is_ok_and(|path| path.parent().is_none()) {
        tracing::warn!("the data directory is a place that all users share; set `app.data_dir` to one of its own");
        return;
    }
    match std::fs::set_permissions(data_dir, std::fs::Permissions::from_mode(mode & 0o7700)) {
        Ok(()) => tracing::info!("the data directory could be looked into by other users; now it is this user's alone"),
        Err(error) => {
            tracing::warn!(%error, "other users may look into the data directory, and this user may not change that");
        }
    }
}

/// The tools, following no redirects where a rule looks at the address of `http_get`: it would not see where one leads.
fn judging_redirects(
    tools: Registry,
    mut config: ToolsConfig,
    policy: &Policy,
    data_dir: &std::path::Path,
) -> anyhow::Result<Registry> {
    const FOLLOWS: &str = "http_get";
    let judged = policy.rules.iter().any(|rule| glob(&rule.tool, FOLLOWS) && rule.args.contains_key("url"));
    if !judged || config.http.max_redirects == 0 {
        return Ok(tools);
    }
    config.http.max_redirects = 0;
    Registry::from_config(&config, data_dir)
}

/// What is wrong with rules that no call can ever match: a misspelt `deny` would else forbid nothing, in
/// silence.
fn idle_rules(rules: &[Rule], tools: &Registry, agents: &Agents) -> Vec<String> {
    let mut problems = Vec::new();
    for rule in rules {
        let mut wrong = |what: String| problems.push(format!("policy rule `{}`: {what}", rule.name));
        let meant: Vec<&str> = tools.names().filter(|name| glob(&rule.tool, name)).collect();
        if meant.is_empty() {
            let hint = did_you_mean(&rule.tool, tools.names());
            let known = tools.names().collect::<Vec<_>>().join(", ");
            wrong(format!("no tool is called `{}`, so it would never match{hint} (tools: {known})", rule.tool));
        }
        if !agents.names().any(|name| glob(&rule.agent, name)) {
            let hint = did_you_mean(&rule.agent, agents.names());
            let known = agents.names().collect::<Vec<_>>().join(", ");
            wrong(format!("no agent is called `{}`, so it would never match{hint} (agents: {known})", rule.agent));
        }
        // An argument's name is looked for in all the tools that the rule means.
        let decls = tools.decls(&meant);
        let known: BTreeSet<&str> = decls
            .iter()
            .filter_map(|decl| decl.schema.get("properties")?.as_object())
            .flat_map(|properties| properties.keys().map(String::as_str))
            .collect();
        for path in rule.args.keys().filter(|_| !meant.is_empty()) {
            let name = path.split('.').next().unwrap_or(path);
            if !known.contains(name) {
                let hint = did_you_mean(name, known.iter().copied());
                wrong(format!("`{}` has no argument `{name}`, so it would never match{hint}", rule.tool));
            }
        }
    }
    problems
}

/// Lets rules that deny or ask match mail addresses in any case. The local part stays as the model wrote it, since only
/// the receiving server knows whether case matters there; nearly all say that it does not, so `CEO@` is `ceo@` to
/// whoever is careful. A rule that lets run stays exact.
fn fold_mail(rules: &mut [Rule], tools: &Registry) {
    for rule in rules.iter_mut().filter(|rule| rule.gate != Gate::Auto) {
        let meant: Vec<&str> = tools.names().filter(|name| glob(&rule.tool, name)).collect();
        for (path, pattern) in &mut rule.args {
            if meant.iter().any(|tool| tools.values(tool, path) == Some(Values::Kind(Kind::Mail))) {
                *pattern = pattern.ignoring_case();
            }
        }
    }
}

/// Patterns of rules, those of agents included, that no canonical argument can match: a `deny` that is written in
/// another form than the tools write would fall silent. What is wrong for one tool may be right for another that the
/// rule means, so all of them have to agree.
fn silent_patterns(rules: &[Rule], tools: &Registry) -> Vec<String> {
    let mut problems = Vec::new();
    for rule in rules {
        let meant: Vec<&str> = tools.names().filter(|name| glob(&rule.tool, name)).collect();
        for (path, written) in &rule.args {
            let written = String::from(written.clone());
            let has = |tool: &&&str| tools.argument(tool, path).is_some();
            let said = meant.iter().filter(has).map(|tool| pattern::problem(&written, &tools.values(tool, path)?));
            if let Some(what) = said.collect::<Option<Vec<_>>>().and_then(|said| said.into_iter().next()) {
                problems.push(format!("policy rule `{}`: `{path}`: {what}", rule.name));
            }
        }
    }
    problems
}

/// The same for tools that are listed as safe: a misspelt one would go on asking, and nobody would know why.
fn idle_safe(patterns: &[String], tools: &Registry) -> Vec<String> {
    let idle = patterns.iter().filter(|pattern| !tools.names().any(|name| glob(pattern, name)));
    idle.map(|pattern| {
        let hint = did_you_mean(pattern, tools.names());
        let known = tools.names().collect::<Vec<_>>().join(", ");
        format!("`policy.safe_after_untrusted`: no tool is called `{pattern}`{hint} (tools: {known})")
    })
    .collect()
}

/// Agents that the section [slack] names and that are not there.
fn slack_strangers(slack: &SlackConfig, agents: &Agents) -> Vec<String> {
    let named = slack
        .channels
        .iter()
        .filter(|channel| !channel.agent.is_empty())
        .map(|channel| (format!("`slack.channels` {}", channel.id), &channel.agent));
    let named = std::iter::once(("`slack.agent`".to_owned(), &slack.agent)).chain(named);
    named
        .filter(|(_, name)| !agents.names().any(|known| known == name.as_str()))
        .map(|(what, name)| {
            let known = agents.names().collect::<Vec<_>>().join(", ");
            format!("{what}: no agent is called `{name}`{} (agents: {known})", did_you_mean(name, agents.names()))
        })
        .collect()
}

/// The installations, each with the app that it is one of. Those whose bot token is not set are left out.
pub fn workspaces(loaded: &config::Loaded) -> Vec<WorkspaceSettings> {
    let config = &loaded.config.slack;
    let set = |secret: &SecretString| {
        let text = secret.expose_secret().trim();
        (!text.is_empty()).then(|| SecretString::from(text))
    };
    let shared = (set(&config.app_token), set(&config.signing_secret));
    let main = set(&config.bot_token).map(|bot_token| WorkspaceSettings {
        team: None,
        bot_token,
        app_token: shared.0.clone(),
        signing_secret: shared.1.clone(),
    });
    let more = config.workspaces.iter().filter_map(|workspace| {
        let held = |name: &str| loaded.secret_in(name).and_then(set);
        // Another app's secrets would vouch for nothing here.
        let (app_token, signing_secret) = match workspace.uses_shared_app() {
            true => shared.clone(),
            false => (held(&workspace.app_token_env), held(&workspace.signing_secret_env)),
        };
        let bot_token = held(&workspace.bot_token_env)?;
        Some(WorkspaceSettings { team: Some(workspace.team.clone()), bot_token, app_token, signing_secret })
    });
    main.into_iter().chain(more).collect()
}

/// What is wrong with the section [tools]: where, what, and what was probably meant.
fn tools_problem(error: &toml::de::Error) -> anyhow::Error {
    // The second line of toml's own words names the table: "in `services.api`".
    let text = error.to_string();
    let within = text.lines().find_map(|line| line.strip_prefix("in `")?.strip_suffix('`'));
    let within = within.map_or_else(|| "tools".to_owned(), |path| format!("tools.{path}"));
    anyhow!("the section [{within}]: {}", serde_words(error.message()))
}

/// Everything outside the store and the platforms that is asked again at this interval, in milliseconds,
/// in case nobody announced it.
const SWEEP_MS: u64 = 30_000;

fn settings(config: &Config) -> Settings {
    let model = &config.model;
    Settings {
        window: WindowLimits {
            max_tokens: (model.max_context_tokens as f64 * model.context_compression_threshold) as u64,
            max_entries: model.max_entries,
            keep_last: model.keep_last_events,
        },
        retry: Retry { max_attempts: model.max_attempts, base_ms: model.retry_base, cap_ms: model.retry_cap },
        message_max_bytes: config.runtime.message_max_bytes,
        max_concurrent_effects: config.runtime.max_concurrent_effects,
        max_cached_threads: config.runtime.max_cached_threads,
        lease_ms: config.runtime.lease,
        sweep_ms: SWEEP_MS,
        keep_intents_ms: config.runtime.keep_intents,
    }
}

/// The providers that have what they need, and the scripts.
pub fn providers(config: &Config, agents: &Agents) -> anyhow::Result<Providers> {
    let http = |section: &config::ProviderConfig| HttpProviderConfig {
        timeout_ms: config.model.timeout,
        ..HttpProviderConfig::new(&section.base_url, section.api_key.clone())
    };
    let mut named = HashMap::new();
    for kind in [ProviderKind::OpenAi, ProviderKind::Anthropic] {
        if config.missing_for(kind).is_some() {
            continue;
        }
        let provider = match kind {
            ProviderKind::OpenAi => {
                Provider::OpenAi(OpenAi::new(&http(&config.providers.openai), TokenLimitField::default())?)
            }
            ProviderKind::Anthropic => Provider::Anthropic(Anthropic::new(&http(&config.providers.anthropic))?),
            ProviderKind::Scripted => continue,
        };
        named.insert(kind.name().to_owned(), provider);
    }
    let mut scripts = HashMap::new();
    let custom = custom_script(&config.providers.scripted.script)?;
    for name in agents.names() {
        let script = match custom.as_deref() {
            Some(text) => Some(Scripted::parse(text).with_context(|| format!("the script for the agent `{name}`"))?),
            None => Scripted::builtin(name),
        };
        if let Some(script) = script {
            scripts.insert(name.to_owned(), Provider::Scripted(script));
        }
    }
    let default = config.provider();
    let model = match default {
        ProviderKind::Scripted => None,
        ProviderKind::OpenAi | ProviderKind::Anthropic => Some(config.model(default).to_owned()),
    };
    Ok(Providers { named, scripted: scripts, default: default.name().to_owned(), model })
}

fn custom_script(path: &Path) -> anyhow::Result<Option<String>> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let text =
        std::fs::read_to_string(path).with_context(|| format!("the script {} cannot be read", path.display()))?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_denies_or_asks_meets_a_mail_address_in_any_case_and_one_that_lets_run_only_as_it_is_written() {
        let tools = Registry::from_config(&ToolsConfig::default(), Path::new("unused")).unwrap();
        let rule = |gate: &str, argument: &str| -> Rule {
            let args = serde_json::json!({ argument: r"ceo@example\.com" });
            serde_json::from_value(serde_json::json!({ "name": "r", "gate": gate, "tool": "send_*", "args": args }))
                .unwrap()
        };
        for (gate, argument, folded) in
            [("deny", "to", true), ("ask", "to", true), ("auto", "to", false), ("deny", "subject", false)]
        {
            let mut rules = vec![rule(gate, argument)];
            fold_mail(&mut rules, &tools);
            let facts = tools.facts("send_email").unwrap();
            for (written, matches) in
                [("ceo@example.com", true), ("CEO@example.com", folded), ("cto@example.com", false)]
            {
                let args = serde_json::json!({ "to": [written], "subject": written });
                assert_eq!(rules[0].matches("agent", facts, &args), matches, "{gate} {argument} {written}");
            }
            assert_eq!(
                String::from(rules[0].args[argument].clone()),
                r"ceo@example\.com",
                "people read what they wrote"
            );
        }
    }
}

//! Configuration: layers, origins, refusals, masks; and what of it logging does.

use std::io::Write;
use std::sync::{Arc, Mutex};

use secrecy::ExposeSecret as _;
use twelve::agent::{AgentFile, Agents, Given, RequesterRule};
use twelve::config::layers::{PLAIN_NAMES, Sources};
use twelve::config::{Config, DEFAULT, Loaded, ProviderKind, is_loopback};
use twelve::telemetry;

fn pairs(environment: &[(&str, &str)]) -> Vec<(String, String)> {
    environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(file: &str, dot_env: &str, environment: &[(&str, &str)]) -> Result<Loaded, String> {
    let environment = pairs(environment);
    let sources = Sources { file: Some(("twelve.toml", file)), dot_env: Some(dot_env), environment: &environment };
    Loaded::from_sources(&sources).map_err(|problems| problems.to_string())
}

fn config(file: &str) -> Config {
    load(file, "", &[]).unwrap().config
}

/// The words with which this file is refused.
fn refused(file: &str) -> String {
    load(file, "", &[]).map(|_| String::new()).unwrap_or_else(|words| words)
}

fn refused_environment(environment: &[(&str, &str)]) -> String {
    load("", "", environment).map(|_| String::new()).unwrap_or_else(|words| words)
}

fn shown(loaded: &Loaded, key: &str) -> String {
    let setting = loaded.shown().into_iter().find(|s| s.key == key).unwrap();
    format!("{} ({})", setting.value, setting.origin)
}

#[test]
fn the_default_file_alone_is_a_whole_configuration() {
    let loaded = Loaded::from_sources(&Sources::default()).unwrap();
    let config = &loaded.config;
    assert_eq!(config.provider(), ProviderKind::Scripted);
    assert_eq!(config.store_path(), std::path::Path::new("data/twelve.db"));
    assert_eq!(config.approvals.expires_after, 7_200_000);
    assert_eq!(config.model.timeout, 120_000);
    assert_eq!(config.limits, twelve::agent::Limits::default(), "the file and the code agree");
    assert!(loaded.shown().iter().all(|s| s.origin == "default"));
}

#[test]
fn every_default_stands_under_a_sentence_that_explains_it() {
    let lines: Vec<&str> = DEFAULT.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(lines[i - 1].starts_with("# ") && lines[i - 1].ends_with('.'), "{line}");
        }
    }
}

#[test]
fn later_layers_win_and_each_value_names_its_origin() {
    let file = "[log]\nlevel = \"warn\"\n[app]\nname = \"from-file\"\ndata_dir = \"d\"\n";
    let dot_env = "APP_NAME=from-dot-env\nLOG_LEVEL=error\n";
    let loaded = load(file, dot_env, &[("APP_NAME", "from-environment")]).unwrap();
    for (key, expected) in [
        ("app.name", r#""from-environment" (environment APP_NAME)"#),
        ("log.level", r#""error" (.env LOG_LEVEL)"#),
        ("app.data_dir", r#""d" (file twelve.toml line 5)"#),
        ("app.debug", "false (default)"),
    ] {
        assert_eq!(shown(&loaded, key), expected);
    }
    assert_eq!(loaded.config.app.name, "from-environment");
}

#[test]
fn every_plain_name_sets_its_setting() {
    let values = [
        ("APP_NAME", "bot", r#""bot""#),
        ("DEBUG", "1", "true"),
        ("OPENAI_API_KEY", "key-of-openai", r#""********""#),
        ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1", r#""http://127.0.0.1:1/v1""#),
        ("ANTHROPIC_API_KEY", "key-of-anthropic", r#""********""#),
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:2", r#""http://127.0.0.1:2""#),
        ("MAX_CONTEXT_TOKENS", "5000", "5000"),
        ("CONTEXT_COMPRESSION_THRESHOLD", "1", "1.0"),
        ("LOG_LEVEL", "DEBUG", r#""debug""#),
        ("STRUCTURED_LOGGING", "True", "true"),
        ("API_HOST", "::1", r#""::1""#),
        ("API_PORT", "8123", "8123"),
        ("SLACK_BOT_TOKEN", "xoxb-of-the-bot", r#""********""#),
        ("SLACK_APP_TOKEN", "xapp-of-the-app", r#""********""#),
        ("SLACK_SIGNING_SECRET", "the-secret-that-slack-signs-with", r#""********""#),
        ("SLACK_API_URL", "http://127.0.0.1:3/api", r#""http://127.0.0.1:3/api""#),
    ];
    assert_eq!(values.map(|(name, ..)| name), PLAIN_NAMES.map(|(name, _)| name));
    for ((name, text, value), (_, path)) in values.into_iter().zip(PLAIN_NAMES) {
        // Slack's are one group: each makes sense beside the others only.
        let mut together = vec![(name, text)];
        if name.starts_with("SLACK_") {
            let slack = [("SLACK_BOT_TOKEN", "xoxb-1"), ("SLACK_APP_TOKEN", "xapp-1")];
            together.extend(slack.into_iter().filter(|(other, _)| *other != name));
        }
        let loaded = load("", "", &together).unwrap();
        assert_eq!(shown(&loaded, path), format!("{value} (environment {name})"));
        let lines: String = together.iter().map(|(name, text)| format!("{name}={text}\n")).collect();
        let loaded = load("", &lines, &[]).unwrap();
        assert_eq!(shown(&loaded, path), format!("{value} (.env {name})"));
        let loaded = load("", "", &[(name, "")]).unwrap();
        assert!(shown(&loaded, path).ends_with("(default)"), "an empty {name} counts as not set");
    }
}

#[test]
fn any_setting_can_be_given_by_its_long_name() {
    let loaded = load(
        "",
        "",
        &[
            ("TWELVE__STORE__PATH", "123"),
            ("TWELVE__MODEL__TIMEOUT", "90s"),
            ("TWELVE__RUNTIME__LEASE", "1m 30s"),
            ("TWELVE__LIMITS__MAX_STEPS", "7"),
            ("TWELVE__APPROVALS__APPROVERS__USERS", r#"["console:a", "console:b"]"#),
            ("TWELVE__TOOLS__SERVICES__API__URL", "http://127.0.0.1:8080"),
            ("TWELVE__TOOLS__SERVICES__API__PORTS", "[1, 2]"),
            ("TWELVE_SERVICE_PORT", "what Kubernetes sets for a service of this name is not ours"),
        ],
    )
    .unwrap();
    let config = loaded.config;
    assert_eq!(config.store.path, std::path::Path::new("123"), "text stays text");
    assert_eq!((config.model.timeout, config.runtime.lease, config.limits.max_steps), (90_000, 90_000, 7));
    assert_eq!(config.approvals.approvers.users, ["console:a", "console:b"]);
    assert_eq!(config.tools.to_string(), "[services.api]\nports = [1, 2]\nurl = \"http://127.0.0.1:8080\"\n");
}

#[test]
fn tables_of_tools_are_merged_as_they_are_written() {
    let file =
        "[tools.services.\"api.example\"]\nurl = \"http://x\"\n[tools.services.bare]\n[tools.http]\nhosts = [\"a\"]\n";
    let config =
        load(file, "", &[("TWELVE__TOOLS__HTTP__HOSTS", "[\"b\"]"), ("TWELVE__TOOLS__SERVICES__BARE__URL", "y")])
            .unwrap()
            .config;
    let services = config.tools["services"].as_table().unwrap();
    assert_eq!(services["api.example"]["url"].as_str(), Some("http://x"));
    assert_eq!(services["bare"]["url"].as_str(), Some("y"));
    assert_eq!(config.tools["http"]["hosts"][0].as_str(), Some("b"));
    let config = load(file, "", &[("TWELVE__TOOLS__SERVICES", "none")]).unwrap().config;
    assert_eq!(config.tools["services"].as_str(), Some("none"), "the later layer replaces a whole table");
    let config =
        load("[tools]\nservices = \"none\"\n", "", &[("TWELVE__TOOLS__SERVICES__A__URL", "z")]).unwrap().config;
    assert_eq!(config.tools["services"]["a"]["url"].as_str(), Some("z"), "and a plain value likewise");
}

#[test]
fn a_dot_env_file_is_read_as_people_write_it() {
    let text = "# a comment\n\nexport APP_NAME=\"two words # no comment\" # comment\nOPENAI_API_KEY='pa$$word'\nLOG_LEVEL=warn # comment\nOTHER_PROGRAM=x\nOPENAI_BASE_URL=\n";
    let loaded = load("", text, &[]).unwrap();
    assert_eq!(loaded.config.app.name, "two words # no comment");
    assert_eq!(loaded.config.providers.openai.api_key.expose_secret(), "pa$$word");
    assert_eq!(loaded.config.log.level, "warn");
    assert!(loaded.config.providers.openai.base_url.starts_with("https://"));
}

#[test]
fn a_line_of_dot_env_that_cannot_be_read_is_named_without_its_text() {
    let words = load("", "APP_NAME=x\nsk-thisisasecret\nKEY=\"open\nBAD NAME=1\n", &[]).unwrap_err();
    insta::assert_snapshot!(words, @r#"
    The configuration has 3 problems:
    - .env line 2: expected NAME=value
    - .env line 3: the value has no closing quote, or something after it
    - .env line 4: the part before = is not a variable name (A to Z, 0 to 9 and _)
    "#);
}

#[test]
fn unknown_settings_are_refused_in_every_layer_with_a_suggestion() {
    insta::assert_snapshot!(refused("[model]\nmax_contxt_tokens = 5\n"), @"The configuration has a problem: twelve.toml line 2: unknown setting `model.max_contxt_tokens`; did you mean `model.max_context_tokens`?");
    insta::assert_snapshot!(refused("[modle]\nprovider = \"auto\"\n"), @"The configuration has a problem: twelve.toml line 2: unknown setting `modle.provider`; did you mean `model.provider`?");
    insta::assert_snapshot!(refused("\n\ndebug = true\n"), @"The configuration has a problem: twelve.toml line 3: unknown setting `debug`; did you mean `app.debug`?");
    insta::assert_snapshot!(refused("[store]\nzzzzzzzz = 1\n"), @"The configuration has a problem: twelve.toml line 2: unknown setting `store.zzzzzzzz`; `store` has durability, path");
    insta::assert_snapshot!(refused("[zzzzzzzz]\nqqqqqqqqq = 1\n"), @"The configuration has a problem: twelve.toml line 2: unknown setting `zzzzzzzz.qqqqqqqqq`; sections: agents, app, approvals, http, limits, log, model, people, policy, providers, runtime, slack, store, triggers, tools");
    insta::assert_snapshot!(refused("store = \"x\"\n"), @"The configuration has a problem: twelve.toml line 1: unknown setting `store`; `store` is a section: write [store]");
    insta::assert_snapshot!(refused_environment(&[("TWELVE__STORE__PTH", "x")]), @"The configuration has a problem: environment TWELVE__STORE__PTH: there is no setting `store.pth`; did you mean `store.path`?");
    insta::assert_snapshot!(refused_environment(&[("TWELVE__TOOLS__", "x")]), @"The configuration has a problem: environment TWELVE__TOOLS__: there is no setting `tools.`; did you mean `tools`?");
    insta::assert_snapshot!(load("", "TWELVE__LOG__LEVLE=info", &[]).unwrap_err(), @"The configuration has a problem: .env TWELVE__LOG__LEVLE: there is no setting `log.levle`; did you mean `log.level`?");
}

#[test]
fn wrong_types_are_refused_with_the_type_that_is_wanted() {
    insta::assert_snapshot!(refused("[app]\ndebug = \"yes\"\nname = 3\n[limits]\nmax_steps = 1.5\n[approvals.approvers]\nusers = \"*\"\n"), @r#"
    The configuration has 4 problems:
    - twelve.toml line 2: `app.debug` has to be true or false, not text in quotes
    - twelve.toml line 3: `app.name` has to be text in quotes, not a whole number
    - twelve.toml line 7: `approvals.approvers.users` has to be a list in [ ], not text in quotes
    - twelve.toml line 5: `limits.max_steps` has to be a whole number, not a fraction
    "#);
    insta::assert_snapshot!(refused_environment(&[("DEBUG", "maybe"), ("MAX_CONTEXT_TOKENS", "many")]), @r#"
    The configuration has 2 problems:
    - environment DEBUG: `app.debug` has to be true or false, not `maybe`
    - environment MAX_CONTEXT_TOKENS: `model.max_context_tokens` has to be a whole number, not `many`
    "#);
}

#[test]
fn bad_values_are_refused_with_what_is_allowed() {
    insta::assert_snapshot!(
        refused(
            "[model]\nprovider = \"opnai\"\nmax_context_tokens = 10\ncontext_compression_threshold = 1.5\ntimeout = \"soon\"\nretry_base = \"3m\"\n[store]\ndurability = \"replica\"\n[app]\nname = \" \"\n[approvals]\nexpires_after = \"0s\"\nrequester_may_approve = \"sometimes\"\n[log]\nfilter = \"a=b=c\"\n[providers.openai]\nbase_url = \"ftp://host\"\n[providers.anthropic]\nbase_url = \"https://user:hunter22@host\"\n"
        ),
        @r#"
    The configuration has 12 problems:
    - twelve.toml line 10: `app.name` must not be empty; it is ` `
    - twelve.toml line 15: `log.filter` has to be a list like "twelve::store=trace,hyper=debug"; it is `a=b=c`
    - twelve.toml line 8: `store.durability` has to be "process" or "disk"; it is `replica`
    - twelve.toml line 2: `model.provider` has to be "auto", "openai", "anthropic" or "scripted"; it is `opnai`; did you mean `openai`?
    - twelve.toml line 3: `model.max_context_tokens` has to be a whole number from 1000 to 10000000; it is `10`
    - twelve.toml line 4: `model.context_compression_threshold` has to be a number above 0 and at most 1; it is `1.5`
    - twelve.toml line 5: `model.timeout` has to be a length of time such as "90s" or "2h 30m"; it is `soon`
    - twelve.toml line 17: `providers.openai.base_url` has to be a URL that starts with http:// or https://; it is `ftp://host`
    - twelve.toml line 19: `providers.anthropic.base_url` must not hold a user name or password: they would stand in messages and logs; it is `https://user:[secret removed: password in a URL]@host`
    - twelve.toml line 12: `approvals.expires_after` has to be from 1s to 365d; it is `0s`
    - twelve.toml line 13: `approvals.requester_may_approve` has to be "never", "local" or "always"; it is `sometimes`
    - twelve.toml line 6: `model.retry_base` (3m) is above `model.retry_cap` (1m, default)
    "#
    );
    insta::assert_snapshot!(refused_environment(&[("LOG_LEVEL", "verbose")]), @r#"The configuration has a problem: environment LOG_LEVEL: `log.level` has to be "error", "warn", "info", "debug" or "trace"; it is `verbose`"#);
}

#[test]
fn a_provider_without_what_it_needs_is_refused_in_a_sentence() {
    insta::assert_snapshot!(refused("[model]\nprovider = \"openai\"\n"), @"The configuration has a problem: twelve.toml line 2: the provider `openai` needs a key: set OPENAI_API_KEY, or OPENAI_BASE_URL to a server on this machine that speaks OpenAI's API (any text will do as key for a server that wants none)");
    insta::assert_snapshot!(refused_environment(&[("TWELVE__MODEL__PROVIDER", "anthropic"), ("OPENAI_API_KEY", "k")]), @"The configuration has a problem: environment TWELVE__MODEL__PROVIDER: the provider `anthropic` needs a key: set ANTHROPIC_API_KEY, or ANTHROPIC_BASE_URL to a server on this machine that speaks Anthropic's API (any text will do as key for a server that wants none)");
    insta::assert_snapshot!(
        refused("[model]\nprovider = \"openai\"\n[providers.openai]\napi_key = \"k\"\ndefault_model = \"\"\n"),
        @"The configuration has a problem: twelve.toml line 2: the provider `openai` needs a model: set `model.model` or `providers.openai.default_model`"
    );
    assert_eq!(
        config("[model]\nprovider = \"openai\"\n[providers.openai]\nbase_url = \"http://127.0.0.1:9/v1\"\n").provider(),
        ProviderKind::OpenAi
    );
}

#[test]
fn a_key_without_a_model_is_refused_also_when_the_provider_is_chosen_by_it() {
    insta::assert_snapshot!(
        load("[providers.openai]\ndefault_model = \"\"\n", "", &[("OPENAI_API_KEY", "k")]).unwrap_err(),
        @"The configuration has a problem: default: the provider `openai` needs a model: set `model.model` or `providers.openai.default_model`"
    );
}

#[test]
fn all_problems_of_all_layers_come_at_once() {
    let words =
        load("[app]\nnme = 1\n[model]\ntimeout = \"x\"\n", "broken\n", &[("DEBUG", "perhaps"), ("TWELVE__X", "1")])
            .unwrap_err();
    for part in ["5 problems", "app.nme", "model.timeout", ".env line 1", "environment DEBUG", "environment TWELVE__X"]
    {
        assert!(words.contains(part), "{part} is missing in {words}");
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    insta::assert_snapshot!(
        refused("[model]\nkeep_last_events = 400\nretry_cap = \"1s\"\n[approvals.approvers]\nusers = [\"console:a\"]\nquorum = 2\n"),
        @r#"
    The configuration has 3 problems:
    - default: `model.retry_base` (2s) is above `model.retry_cap` (1s, twelve.toml line 3)
    - twelve.toml line 2: `model.keep_last_events` (400) has to be below `model.max_entries` (400, default)
    - twelve.toml line 6: `approvals.approvers.quorum` is 2, but only 1 may decide
    "#
    );
}

#[test]
fn every_bad_policy_rule_is_reported_by_its_name() {
    insta::assert_snapshot!(
        refused(
            r#"
[[policy.rules]]
name = "good"
gate = "deny"
tool = "deploy_*"

[[policy.rules]]
name = "typo"
gate = "ask"
tol = "x"

[[policy.rules]]
name = "regex"
gate = "ask"
args = { environment = "(" }

[[policy.rules]]
gate = "ask"

[[policy.rules]]
name = "good"
gate = "asks"

[[policy.rules]]
name = "good"
gate = "ask"
"#
        ),
        @r#"
    The configuration has 5 problems:
    - twelve.toml line 2: policy rule 2 `typo`: unknown setting `tol`; allowed: `name`, `gate`, `tool`, `agent`, `risk`, `args`, `approvers`, `expires_after`, `route`, `why`; did you mean `tool`?
    - twelve.toml line 2: policy rule 3 `regex`: not a regular expression: unclosed group
    - twelve.toml line 2: policy rule 4: missing field `name`
    - twelve.toml line 2: policy rule 5 `good`: unknown word `asks`; allowed: `auto`, `ask`, `deny`; did you mean `ask`?
    - twelve.toml line 2: policy rule 6 `good`: another rule has this name; cards and logs name rules, so names differ
    "#
    );
}

#[test]
fn a_file_that_is_not_toml_is_refused_without_quoting_it() {
    let words = refused("[providers.openai]\napi_key = sk-secret-secret\n");
    insta::assert_snapshot!(words, @"The configuration has a problem: twelve.toml line 2: string values must be quoted, expected literal string");
    assert!(!words.contains("secret-secret"));
}

#[test]
fn auto_takes_the_first_provider_that_has_what_it_needs() {
    for (environment, expected) in [
        (vec![], ProviderKind::Scripted),
        (vec![("ANTHROPIC_API_KEY", "a")], ProviderKind::Anthropic),
        (vec![("ANTHROPIC_API_KEY", "a"), ("OPENAI_API_KEY", "o")], ProviderKind::OpenAi),
        (vec![("OPENAI_BASE_URL", "http://localhost:11434/v1")], ProviderKind::OpenAi),
        (vec![("OPENAI_BASE_URL", "https://models.example/v1")], ProviderKind::Scripted),
    ] {
        assert_eq!(load("", "", &environment).unwrap().config.provider(), expected, "{environment:?}");
    }
}

#[test]
fn the_configured_model_is_asked_of_the_configured_provider_only() {
    let config = load("[model]\nmodel = \"m-1\"", "", &[("OPENAI_API_KEY", "o")]).unwrap().config;
    assert_eq!(config.model(ProviderKind::OpenAi), "m-1");
    assert_eq!(config.model(ProviderKind::Anthropic), config.providers.anthropic.default_model);
    assert_eq!(config.model(ProviderKind::Scripted), "scripted");
}

#[test]
fn only_this_machine_counts_as_loopback() {
    for url in
        ["http://127.0.0.1:1/v1", "http://localhost", "http://[::1]:8080/", "http://127.9.9.9", "http://a.localhost"]
    {
        assert!(is_loopback(url), "{url}");
    }
    for url in ["http://10.0.0.1", "https://localhost.example.com", "http://127.0.0.1.example.com", "nonsense", ""] {
        assert!(!is_loopback(url), "{url}");
    }
}

#[test]
fn who_may_approve_is_read_as_written_and_the_gate_knows_who_asked() {
    for (word, rule) in
        [("never", RequesterRule::Never), ("local", RequesterRule::Local), ("always", RequesterRule::Always)]
    {
        let config = config(&format!("[approvals]\nrequester_may_approve = \"{word}\""));
        assert_eq!(config.approvals.requester_may_approve, rule);
        assert_eq!(config.approvers().requester_may, None, "that is decided for each call");
    }
    assert_eq!(config("").policy(&Agents::default()).expires_after_ms, 7_200_000);
}

#[test]
fn what_is_shown_of_a_configuration_holds_no_secret() {
    let file = "[providers.openai]\napi_key = \"short\"\nbase_url = \"https://models.example/v1\"\n[tools.deploy]\nurl = \"https://me:hunter22@deploy.example/\"\nbot_token = \"abc-def-ghi\"\nargv = [\"run\", \"--with\", \"abc-def-ghi\"]\nnested = [{ password = \"letmein\" }]\n";
    let loaded = load(file, "", &[("ANTHROPIC_API_KEY", "the-anthropic-key")]).unwrap();
    let text =
        loaded.show() + &serde_json::to_string(&loaded.shown()).unwrap() + &format!("{:?}", loaded.config.providers);
    for secret in ["short", "hunter22", "abc-def-ghi", "letmein", "the-anthropic-key"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let filter = loaded.secret_filter();
    assert!(filter.find("x the-anthropic-key y").is_some() && filter.find("abc-def-ghi").is_some());
    let part: String = loaded
        .show()
        .lines()
        .filter(|l| l.starts_with("providers") || l.starts_with("tools"))
        .map(|l| format!("{l}\n"))
        .collect();
    insta::assert_snapshot!(part, @r#"
    providers.anthropic.api_key = "********"                    # environment ANTHROPIC_API_KEY
    providers.anthropic.base_url = "https://api.anthropic.com"  # default
    providers.anthropic.default_model = "claude-sonnet-4-5"     # default
    providers.openai.api_key = "********"                       # file twelve.toml line 2
    providers.openai.base_url = "https://models.example/v1"     # file twelve.toml line 3
    providers.openai.default_model = "gpt-5-mini"               # default
    providers.scripted.script = ""                              # default
    tools.deploy.argv = ["run", "--with", "[secret removed: configured secret]"]  # file twelve.toml line 7
    tools.deploy.bot_token = "********"                         # file twelve.toml line 6
    tools.deploy.nested = [{ password = "********" }]           # file twelve.toml line 8
    tools.deploy.url = "https://me:[secret removed: password in a URL]@deploy.example/"  # file twelve.toml line 5
    "#);
}

#[test]
fn the_example_env_file_names_every_plain_variable_and_changes_nothing() {
    let example = include_str!("../../.env.example");
    for (name, _) in PLAIN_NAMES {
        assert!(example.lines().any(|line| line.starts_with(&format!("{name}="))), "{name}");
    }
    let with = load("", example, &[]).unwrap();
    let without = Loaded::from_sources(&Sources::default()).unwrap();
    let values = |loaded: &Loaded| loaded.shown().into_iter().map(|s| (s.key, s.value)).collect::<Vec<_>>();
    assert_eq!(values(&with), values(&without));
}

#[test]
fn agents_and_cases_are_read_from_the_configured_directory() {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("b.md", "two"), ("a.md", "one"), ("a.cases.toml", "case"), ("notes.txt", "no")] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let mut config = config("");
    assert_eq!(config.agent_files(), Ok(vec![]));
    config.agents.directory = directory.path().to_owned();
    let texts: Vec<_> = config.agent_files().unwrap().into_iter().map(|f| f.text).collect();
    assert_eq!(texts, ["one", "two"]);
    assert_eq!(config.case_files().unwrap().len(), 1);
    std::fs::write(directory.path().join("c.md"), "x".repeat(twelve::agent::MAX_AGENT_FILE + 1)).unwrap();
    assert!(config.agent_files().unwrap_err()[0].ends_with("c.md cannot be read: the file has more than 131072 bytes"));
    config.agents.directory = directory.path().join("none");
    assert!(config.agent_files().unwrap_err()[0].starts_with("agents.directory "));
}

#[test]
fn an_agent_that_asks_for_a_provider_without_a_key_is_a_start_up_error() {
    let file = |name: &str, provider: &str| AgentFile {
        file: name.into(),
        text: format!("+++\ndescription = \"x\"\nprovider = \"{provider}\"\n+++\nHi."),
    };
    let config = config("");
    let policy = config.base_policy();
    let given = Given {
        app_name: "twelve",
        tools: &[],
        check_args: &|_, args| Ok(args.clone()),
        policy: &policy,
        require_approvers: false,
        limits: &config.limits,
    };
    let agents = [file("a.md", "openai"), file("b.md", "opnai"), file("c.md", "scripted")];
    let agents = Agents::load(&agents, &[], &given).unwrap();
    insta::assert_snapshot!(config.problems_with(&agents).join("\n"), @r#"
    a.md: the provider `openai` needs a key: set OPENAI_API_KEY, or OPENAI_BASE_URL to a server on this machine that speaks OpenAI's API (any text will do as key for a server that wants none)
    b.md: there is no provider `opnai`; there are openai, anthropic, scripted; did you mean `openai`?
    "#);
}

#[test]
fn a_named_file_that_is_not_there_is_an_error() {
    let problems = Loaded::from_process(Some("no/such/file.toml".as_ref())).unwrap_err();
    assert!(problems.0[0].starts_with("no/such/file.toml (named by --config) cannot be read: "), "{problems}");
}

/// What a log line looks like at the end of the writer.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(file: &str, log: impl FnOnce()) -> String {
    let loaded = load(file, "", &[("OPENAI_API_KEY", "the-configured-key")]).unwrap();
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = telemetry::subscriber(&loaded.config, loaded.secret_filter(), false, move || writer.clone());
    tracing::subscriber::with_default(subscriber, log);
    let bytes = lines.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_structured_log_line_is_one_json_object_with_dotted_fields() {
    let text = logged("[log]\nstructured = true\n", || {
        tracing::info!(target: "twelve::runtime", { thread.id = "console:1", duration_ms = 41 }, "The tool has finished");
    });
    let mut line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
    assert!(line["timestamp"].take().as_str().unwrap().ends_with('Z'));
    assert_eq!(
        line,
        serde_json::json!({
            "timestamp": null, "level": "INFO", "target": "twelve::runtime", "message": "The tool has finished",
            "thread.id": "console:1", "duration_ms": 41,
        })
    );
}

#[test]
fn no_secret_reaches_the_log_in_either_form() {
    for file in ["[log]\nstructured = true\n", "[log]\nstructured = false\n"] {
        let text = logged(file, || {
            tracing::warn!(target: "hyper", header = "Authorization: Bearer abcdefgh12345678", "sent the-configured-key");
        });
        assert!(!text.contains("the-configured-key") && !text.contains("abcdefgh12345678"), "{text}");
        assert!(text.contains("[secret removed: configured secret]"), "{text}");
        assert!(text.contains("[secret removed: authorization header]"), "{text}");
    }
}

#[test]
fn dependencies_are_quiet_unless_the_filter_names_them() {
    let say = || {
        tracing::error!(target: "hyper", "1 error of hyper");
        tracing::debug!(target: "hyper", "2 detail of hyper");
        tracing::debug!(target: "twelve::store", "3 detail of ours");
        tracing::trace!(target: "twelve::store", "4 trace of ours");
    };
    let numbers = |file: &str| -> String {
        logged(file, say)
            .lines()
            .filter_map(|l| l.chars().find(|c| "1234".contains(*c) && l.contains(&format!(" {c} "))))
            .collect()
    };
    assert_eq!(numbers(""), "1");
    assert_eq!(numbers("[log]\nlevel = \"debug\""), "13");
    assert_eq!(numbers("[app]\ndebug = true"), "13");
    assert_eq!(numbers("[log]\nfilter = \"hyper=debug,twelve::store=trace\""), "1234");
    assert_eq!(numbers("[log]\nlevel = \"error\""), "1");
}

#[test]
fn what_would_print_tickets_and_bodies_is_quiet_whatever_is_asked_for() {
    let say = || {
        tracing::warn!(target: "tungstenite::protocol", "1 a warning");
        tracing::debug!(target: "tungstenite::handshake::client", "2 GET /link/?ticket=t");
        tracing::trace!(target: "tokio_tungstenite::compat", "3 a frame");
        tracing::debug!(target: "slack_morphism::hyper_tokio::connector", "4 an address");
    };
    for file in [
        "[app]\ndebug = true",
        "[log]\nlevel = \"trace\"",
        "[log]\nfilter = \"tungstenite=trace,slack_morphism=debug\"",
        "[log]\nfilter = \"tungstenite::handshake=trace,tokio_tungstenite::compat=trace\"",
        "[log]\nfilter = \"t=trace,s=trace,slack_=trace\"",
    ] {
        let text = logged(file, say);
        assert_eq!(text.lines().count(), 1, "{file}: {text}");
        assert!(text.contains("1 a warning"), "{file}: {text}");
    }
    assert_eq!(logged("[log]\nlevel = \"error\"", say), "");
    assert_eq!(logged("[log]\nfilter = \"tungstenite=off\"", say), "");
}

#[test]
fn nobody_comes_in_as_the_terminal_an_agent_or_the_engine() {
    for kept in ["console:ops", "agent:deployment", "system:twelve"] {
        let hash = "a".repeat(64);
        let token = format!("name = \"t\"\nhash = \"sha256:{hash}\"\nscopes = [\"read\"]\nperson = \"{kept}\"");
        let words = refused(&format!("[[http.tokens]]\n{token}\n"));
        assert!(words.contains("token 1 `t`") && words.contains(kept) && words.contains("terminal"), "{words}");
        let prefix = format!("{}:", kept.split_once(':').unwrap().0);
        let words = refused(&format!("[http.proxy]\nprefix = \"{prefix}\"\n"));
        assert!(words.contains("http.proxy.prefix") && words.contains("terminal"), "{words}");
    }
    assert_eq!(refused("[http.proxy]\nprefix = \"corp:\"\n"), "");
    assert!(refused("[http.proxy]\nprefix = \" \"\n").contains("must not be empty"));
}

#[test]
fn loopback_is_trusted_only_where_nothing_else_reaches_the_service() {
    assert!(!config("").http.trust_loopback, "not unless somebody says so");
    for fine in
        ["", "host = \"localhost\"\n", "host = \"::1\"\nport = 0\n", "secret = \"not-really-a-secret-but-long\"\n"]
    {
        assert!(config(&format!("[http]\ntrust_loopback = true\n{fine}")).http.trust_loopback, "{fine}");
    }
    for (beside, named) in [
        ("public_url = \"https://agents.example\"\n", "beside `http.public_url`"),
        ("public_url = \"http://localhost:8000\"\n", "beside `http.public_url`"),
        ("host = \"0.0.0.0\"\n", "beside `http.host` (0.0.0.0), which is not a loopback address"),
        ("host = \"::\"\n", "beside `http.host` (::), which"),
        ("host = \"agents.example\"\n", "beside `http.host` (agents.example), which"),
        ("[http.proxy]\nuser_header = \"X-Forwarded-User\"\n", "beside a proxy (`http.proxy.user_header`)"),
    ] {
        let words = refused(&format!("[http]\ntrust_loopback = true\n{beside}"));
        assert!(
            words.contains("twelve.toml line 2: `http.trust_loopback` can't stand") && words.contains(named),
            "{words}"
        );
        assert!(words.contains("`twelve token local`"), "what to do instead: {words}");
    }
}

#[test]
fn every_token_that_would_let_in_the_wrong_one_or_nobody_is_refused_by_name() {
    let hash = |digit: &str| format!("hash = \"sha256:{}\"", digit.repeat(64));
    let file = format!(
        r#"
[[http.tokens]]
name = "fine"
{}
scopes = ["start", "approve"]
person = "web:ann"
[[http.tokens]]
name = "fine"
{}
scopes = ["read"]
[[http.tokens]]
name = "twin"
{}
scopes = ["read"]
[[http.tokens]]
name = "plain"
hash = "twelve_abcdef"
scopes = ["read"]
[[http.tokens]]
name = "local"
{}
scopes = ["read"]
[[http.tokens]]
name = "machine"
{}
scopes = ["approve"]
[[http.tokens]]
name = "who"
{}
scopes = ["approve"]
person = "ann smith"
[[http.tokens]]
name = "idle"
{}
scopes = []
[[http.tokens]]
name = "typo"
{}
scopes = ["aprove"]
[[http.tokens]]
name = "more"
{}
scopes = ["read"]
user = "web:ann"
"#,
        hash("a"),
        hash("b"),
        hash("A"),
        hash("c"),
        hash("d"),
        hash("e"),
        hash("f"),
        hash("1"),
        hash("2"),
    );
    insta::assert_snapshot!(refused(&file), @r#"
    The configuration has 9 problems:
    - twelve.toml line 2: token 2 `fine`: another token has this name; logs name tokens, so names differ
    - twelve.toml line 2: token 3 `twin`: it has the hash of the token `fine`; one token is one caller
    - twelve.toml line 2: token 4 `plain`: its hash has to be `sha256:` and 64 hexadecimal digits; `twelve token` makes one
    - twelve.toml line 2: token 5 `local`: its name has to be 1 to 64 of a-z, 0-9, `-`, `_` and `.`, and not `local`
    - twelve.toml line 2: token 6 `machine`: only people decide, so the scope "approve" needs `person`, the id of the one who decides with it, for example "web:ann"
    - twelve.toml line 2: token 7 `who`: its person: `ann smith` is not an id: at most 254 letters, digits or `._-@+:`
    - twelve.toml line 2: token 8 `idle`: it has no scopes, so it would be good for nothing; name some of "start", "read", "resume", "approve", "admin"
    - twelve.toml line 2: token 9 `typo`: unknown word `aprove`; allowed: `start`, `read`, `resume`, `approve`, `admin`; did you mean `approve`?
    - twelve.toml line 2: token 10 `more`: unknown setting `user`; allowed: `name`, `hash`, `scopes`, `person`
    "#);
    let config = config(&file[..file.find("[[http.tokens]]\nname = \"fine\"\nhash = \"sha256:b").unwrap()]);
    assert_eq!(config.http.tokens[0].digest(), Some(vec![0xaa; 32]));
}

#[test]
fn records_of_presses_are_kept_longer_than_platforms_deliver_again() {
    let keep = |value: &str| load("", "", &[("TWELVE__RUNTIME__KEEP_INTENTS", value)]);
    assert_eq!(load("", "", &[]).unwrap().config.runtime.keep_intents, 30 * 86_400_000);
    assert_eq!(keep("26h").unwrap().config.runtime.keep_intents, twelve::runtime::KEEP_INTENTS_MIN_MS);
    let refused = format!("{:?}", keep("25h").unwrap_err());
    assert!(refused.contains("runtime.keep_intents"), "{refused}");
}

//! Explaining the set-up: tools, factors, configuration. Everything is read from what would run.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};

use super::inspect::{self, say, say_json};
use super::words;
use crate::agent::*;
use crate::app::{self, Blueprint};
use crate::config::{self, Loaded, ProviderKind};
use crate::platform::console;
use crate::store::{Filter, embedded};

pub use super::prompts::{Prompts, prompts};

/// Threads that `info` counts at most; a store with more says "at least".
const MAX_COUNTED: usize = 10_000;

#[derive(clap::Args, Debug)]
pub struct ToolsArgs {
    /// The JSON schema of this tool's arguments.
    #[arg(long, value_name = "TOOL")]
    schema: Option<String>,
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
pub struct InfoArgs {
    #[arg(long)]
    json: bool,
}

#[derive(clap::Subcommand, Debug)]
pub enum Config {
    /// The settings in effect and where each comes from. Secrets are masked.
    Show {
        #[arg(long)]
        json: bool,
    },
    /// Everything that is wrong with the settings and the agents, at once.
    Check,
    /// The compiled-in settings, each with a sentence: copy what you change into twelve.toml.
    Default,
}

fn gate_word(gate: PossibleGate) -> &'static str {
    match gate {
        PossibleGate::Only(Gate::Auto) => "auto",
        PossibleGate::Only(Gate::Ask) => "ask",
        PossibleGate::Only(Gate::Deny) => "deny",
        PossibleGate::Depends => "depends",
    }
}

/// The agents that have a tool, with what their gate says of it.
fn gates<'a>(blueprint: &'a Blueprint, facts: &'a ToolFacts) -> impl Iterator<Item = (&'a str, &'static str)> {
    let offered = blueprint.agents.iter().filter(|a| a.spec.tools.contains(&facts.name));
    offered.map(|a| (a.spec.name.as_str(), gate_word(effective_gate(&a.spec, facts, &blueprint.policy))))
}

pub fn tools(args: &ToolsArgs, blueprint: &Blueprint) -> anyhow::Result<ExitCode> {
    if let Some(name) = &args.schema {
        let names: Vec<&str> = blueprint.tools.names().collect();
        let Some(decl) = blueprint.tools.decls(&[name]).pop() else {
            let hint = did_you_mean(name, names.iter().copied());
            bail!("there is no tool `{}`{hint} Tools: {}", words::quote(name), names.join(", "));
        };
        say_json(&decl.schema)?;
        return Ok(ExitCode::SUCCESS);
    }
    let all: Vec<&ToolFacts> = blueprint.tools.names().filter_map(|name| blueprint.tools.facts(name)).collect();
    if args.json {
        let row = |f: &&ToolFacts| {
            let gates: serde_json::Map<String, Value> =
                gates(blueprint, f).map(|(agent, gate)| (agent.to_owned(), gate.into())).collect();
            let schema = blueprint.tools.decls(&[&f.name]).pop().map(|d| d.schema);
            json!({ "facts": f, "gates": gates, "schema": schema })
        };
        say_json(&all.iter().map(row).collect())?;
        return Ok(ExitCode::SUCCESS);
    }
    let yes = |b: bool| if b { "yes" } else { "no" }.to_owned();
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|f| {
            let gates: Vec<String> = gates(blueprint, f).map(|(agent, gate)| format!("{agent}: {gate}")).collect();
            let gates = if gates.is_empty() { "no agent has it".to_owned() } else { gates.join(", ") };
            vec![f.name.clone(), f.risk.word().to_owned(), yes(f.side_effects), yes(f.idempotent), gates]
        })
        .collect();
    say(&words::table(&["TOOL", "RISK", "SIDE EFFECTS", "IDEMPOTENT", "GATE BY AGENT"], &rows))?;
    for facts in all {
        say(&format!("\n{}\n{}", facts.name, words::indented(&facts.description, "  ")))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One factor and what this set-up makes of it.
struct Factor {
    number: u8,
    name: &'static str,
    state: String,
}

/// What is known of the store without taking it.
enum StoreState {
    /// There is none yet.
    Fresh,
    /// Threads by status; whether there are more than were counted; what came of folding the last one.
    Open {
        statuses: Vec<(Status, usize)>,
        more: bool,
        fold: Option<String>,
    },
    Unreadable(String),
}

async fn store_state(blueprint: &Blueprint) -> StoreState {
    let look = async {
        let Some(store) = inspect::look(blueprint).await? else { return anyhow::Ok(StoreState::Fresh) };
        let (threads, _) = inspect::list(&store, &Filter::default(), MAX_COUNTED + 1).await?;
        let more = threads.len() > MAX_COUNTED;
        let counted = words::STATUSES.map(|s| (s, threads.iter().take(MAX_COUNTED).filter(|t| t.status == s).count()));
        let fold = match threads.first() {
            None => None,
            Some(last) => Some(match inspect::read(&store, last.thread.short()).await {
                Ok(looked) if crate::runtime::summary(&looked.thread) == looked.summary => {
                    let events = words::count(looked.events.len(), "event");
                    format!("thread {}: its {events} fold to what is stored", looked.thread.short)
                }
                Ok(looked) => format!("thread {} does NOT fold to what is stored", looked.thread.short),
                Err(error) => format!("thread {} cannot be folded: {error:#}", last.thread.short()),
            }),
        };
        Ok(StoreState::Open { statuses: counted.into_iter().filter(|(_, n)| *n > 0).collect(), more, fold })
    };
    look.await.unwrap_or_else(|error| StoreState::Unreadable(format!("{error:#}")))
}

pub async fn info(args: InfoArgs, blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    let store = store_state(&blueprint).await;
    let factors = factors(&blueprint, &store);
    let config = blueprint.config();
    let provider = config.provider();
    if args.json {
        let rows: Vec<Value> =
            factors.iter().map(|f| json!({ "number": f.number, "name": f.name, "state": f.state })).collect();
        say_json(&json!({
            "app": config.app.name,
            "version": env!("CARGO_PKG_VERSION"),
            "provider": provider.name(),
            "model": config.model(provider),
            "store": { "path": config.store_path(), "durability": config.store.durability, "format": embedded::FORMAT },
            "factors": rows,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "{} (twelve {})  provider {}, model {}  store {}\n\n",
        words::quote(&config.app.name),
        env!("CARGO_PKG_VERSION"),
        provider.name(),
        config.model(provider),
        config.store_path().display()
    ))?;
    for f in factors {
        say(&format!("{:>2}  {}\n{}", f.number, f.name, words::indented(&f.state, "    ")))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn factors(blueprint: &Blueprint, store: &StoreState) -> Vec<Factor> {
    let config = blueprint.config();
    let agents: Vec<&Agent> = blueprint.agents.iter().collect();
    let facts: Vec<&ToolFacts> = blueprint.tools.names().filter_map(|name| blueprint.tools.facts(name)).collect();
    let (model, limits, approvals) = (&config.model, &config.limits, &config.approvals);
    let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };

    let provider = config.provider();
    let no_key = if provider == ProviderKind::Scripted { " (follows a script: no model is asked)" } else { "" };
    let other: Vec<String> =
        agents.iter().filter_map(|a| a.spec.provider.as_ref().map(|p| format!("{} asks {p}", a.spec.name))).collect();
    let other = if other.is_empty() { String::new() } else { format!("; {}", other.join(", ")) };

    let builtin = config::builtin_agents();
    let from_file = |a: &&&Agent| !builtin.iter().any(|b| Digest::of(b.text.as_bytes()) == a.spec.digest);
    let own: Vec<String> = agents.iter().filter(from_file).map(|a| a.spec.file.clone()).collect();
    let digests = agents.iter().map(|a| format!("{} {}", a.spec.name, a.spec.digest.prefix())).collect();

    let gated: BTreeSet<&str> = facts
        .iter()
        .filter(|f| gates(blueprint, f).any(|(_, g)| g == "ask" || g == "depends"))
        .map(|f| f.name.as_str())
        .collect();
    let prefetches: Vec<String> = agents
        .iter()
        .filter(|a| !a.spec.prefetch.is_empty())
        .map(|a| format!("{}: {}", a.spec.name, list(a.spec.prefetch.iter().map(|p| p.tool.clone()).collect())))
        .collect();
    let (exists, statuses, fold) = match store {
        StoreState::Fresh => ("not made yet".to_owned(), "no thread yet".to_owned(), "nothing to fold yet".to_owned()),
        StoreState::Unreadable(why) => (why.clone(), "unknown".to_owned(), "unknown".to_owned()),
        StoreState::Open { statuses, more, fold } => {
            let n: usize = statuses.iter().map(|(_, n)| n).sum();
            let least = if *more { "at least " } else { "" };
            let each =
                statuses.iter().map(|(s, n)| format!("{n} {}", words::status_word(*s).replace('_', " for "))).collect();
            let fold = fold.clone().unwrap_or_else(|| "nothing to fold yet".to_owned());
            (format!("holds {least}{}", words::count(n, "thread")), list(each), fold)
        }
    };
    let requester = match approvals.requester_may_approve {
        RequesterRule::Never => "never",
        RequesterRule::Local => "only at this terminal",
        RequesterRule::Always => "always",
    };
    let focus = |a: &&Agent| {
        format!(
            "{} ({}, {} steps, {} tokens)",
            a.spec.name,
            words::count(a.spec.tools.len(), "tool"),
            a.spec.limits.max_steps,
            a.spec.limits.max_tokens
        )
    };
    let once: Vec<String> = facts.iter().filter(|f| f.side_effects && !f.idempotent).map(|f| f.name.clone()).collect();
    let schemas = facts.iter().map(|f| format!("{} v{}", f.name, f.schema_version)).collect();

    let state = |number, name, state| Factor { number, name, state };
    vec![
        state(
            1,
            "natural language to tool calls",
            format!("provider {}, model {}{no_key}{other}", provider.name(), config.model(provider)),
        ),
        state(
            2,
            "own your prompts",
            format!(
                "{}, {} from files{}; digests: {}",
                words::count(agents.len(), "agent"),
                own.len(),
                if own.is_empty() { String::new() } else { format!(" ({})", own.join(", ")) },
                list(digests)
            ),
        ),
        state(
            3,
            "own your context window",
            format!(
                "shortened at {} of {} estimated tokens or at {} blocks; the last {} are kept as they are",
                (model.max_context_tokens as f64 * model.context_compression_threshold) as u64,
                model.max_context_tokens,
                model.max_entries,
                model.keep_last_events
            ),
        ),
        state(
            4,
            "tools are structured outputs",
            format!("{} with schemas: {}", words::count(facts.len(), "tool"), list(schemas)),
        ),
        state(
            5,
            "execution and business state are one",
            format!(
                "embedded store at {}, durability {}, schema {}, event format {EVENT_VERSION}; {exists}",
                config.store_path().display(),
                config.store.durability,
                embedded::FORMAT
            ),
        ),
        state(
            6,
            "launch, pause, resume",
            format!("threads: {statuses}; they are paused and resumed by `twelve threads`"),
        ),
        state(
            7,
            "contact humans with tools",
            format!(
                "{ASK_HUMAN} for every agent; {} ({}); approvers where no rule names any: {}; the requester may approve: {requester}; requests expire after {}",
                words::count(gated.len(), "gated tool"),
                list(gated.iter().map(|g| (*g).to_owned()).collect()),
                config.approvers().describe().replace(", not the requester", ""),
                span::show(approvals.expires_after)
            ),
        ),
        state(
            8,
            "own your control flow",
            format!(
                "{} ({} of agents); a run asks a person after {} steps or {} tokens; {} effects at once; must not run twice: {}",
                words::count(blueprint.policy.rules.len(), "policy rule"),
                blueprint.agents.rules().count(),
                limits.max_steps,
                limits.max_tokens,
                config.runtime.max_concurrent_effects,
                list(once)
            ),
        ),
        state(
            9,
            "compact errors",
            format!(
                "a person is asked after {} failures of a tool in a row; a model is tried {}, {} to {} apart",
                limits.max_errors,
                words::count(model.max_attempts as usize, "time"),
                span::show(model.retry_base),
                span::show(model.retry_cap)
            ),
        ),
        state(10, "small, focused agents", list(agents.iter().map(focus).collect())),
        state(
            11,
            "trigger from anywhere",
            format!(
                "`{}:` threads are written to; threads of any other surface are read with `twelve threads`{}",
                console::SURFACE,
                triggers(blueprint)
            ),
        ),
        state(12, "a stateless reducer", fold),
        state(
            13,
            "pre-fetch context",
            if prefetches.is_empty() { "no agent prefetches anything".to_owned() } else { prefetches.join("; ") },
        ),
    ]
}

/// A line for each webhook and schedule; with what a webhook still needs, and when a schedule is due.
fn triggers(blueprint: &Blueprint) -> String {
    let webhooks =
        blueprint.triggers.webhooks().iter().map(|w| format!("\nwebhook {} -> {}", w.name(), w.agent())).collect();
    let missing = blueprint.triggers.missing().into_iter().map(|why| format!("\n{why}")).collect();
    let now = inspect::now();
    let schedules = blueprint.triggers.schedules().iter().map(|s| format!("\nschedule {}", s.describe(now))).collect();
    [webhooks, missing, schedules].map(|lines: Vec<String>| lines.concat()).concat()
}

/// `config default`.
pub fn config_default() -> anyhow::Result<ExitCode> {
    say(config::DEFAULT)?;
    Ok(ExitCode::SUCCESS)
}

pub fn config(command: Config, loaded: Loaded) -> anyhow::Result<ExitCode> {
    match command {
        Config::Show { json: false } => say(&loaded.show())?,
        Config::Show { json: true } => say(&format!("{}\n", serde_json::to_string_pretty(&loaded.shown())?))?,
        Config::Default => return config_default(),
        Config::Check => {
            let blueprint = Blueprint::new(loaded)?;
            let config = blueprint.config();
            // Scripts are part of what can be wrong.
            app::providers(config, &blueprint.agents)?;
            let mut missing = blueprint.triggers.missing();
            missing.extend(config.slack.missing(|name| blueprint.loaded.secret_in(name)));
            if !missing.is_empty() {
                bail!("{}", missing.join("\n"));
            }
            let provider = config.provider();
            say(&format!(
                "ok: provider {}, model {}; store {} (durability {}); agents {}\n",
                provider.name(),
                config.model(provider),
                config.store_path().display(),
                config.store.durability,
                blueprint.agents.names().collect::<Vec<_>>().join(", ")
            ))?;
            for note in blueprint.unsure_rules() {
                say(&format!("note: {note}\n"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

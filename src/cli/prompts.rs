//! `twelve prompts`: the bytes that a model gets, the cases that a prompt has to pass, and what an
//! operator's agent file changes.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use serde_json::json;

use super::inspect::{self, say, say_json};
use super::words;
use crate::agent::cases::{self, Case};
use crate::agent::*;
use crate::app::{self, Blueprint};
use crate::config::{self, ProviderKind};
use crate::runtime::{Providers, model_request};
use crate::store::Filter;

/// Lines around a change in `prompts diff`.
const CONTEXT_LINES: usize = 3;

#[derive(clap::Subcommand, Debug)]
pub enum Prompts {
    /// What a model would be sent now for a thread: the prompt and the window.
    Render {
        /// A thread id, or the beginning of a short id.
        #[arg(conflicts_with = "agent", required_unless_present = "agent")]
        thread: Option<String>,
        /// Only the prompt of this agent.
        #[arg(long)]
        agent: Option<String>,
        /// The exact body of the request to the provider.
        #[arg(long)]
        request: bool,
    },
    /// Put the cases of the agents to their model and judge the replies.
    Test {
        /// Only this agent.
        agent: Option<String>,
        /// Ask this provider instead of the agent's own: openai, anthropic or scripted.
        #[arg(long)]
        provider: Option<String>,
        #[arg(long)]
        json: bool,
    },
    /// What the agent files in use change, compared with the built-in ones.
    Diff {
        /// Only this agent.
        agent: Option<String>,
        /// `builtin`, or the beginning of a digest of an agent file.
        #[arg(long, default_value = "builtin")]
        against: String,
        /// The threads whose last reply was made under another prompt.
        #[arg(long)]
        threads: bool,
    },
}

pub async fn prompts(command: Prompts, blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    match command {
        Prompts::Render { thread, agent, request } => render(&blueprint, thread, agent, request).await,
        Prompts::Test { agent, provider, json } => test(&blueprint, agent, provider, json).await,
        Prompts::Diff { agent, against, threads } => diff(&blueprint, agent, &against, threads).await,
    }
}

async fn render(
    blueprint: &Blueprint,
    thread: Option<String>,
    agent: Option<String>,
    request: bool,
) -> anyhow::Result<ExitCode> {
    let (agent, window) = match (&thread, &agent) {
        (Some(thread), _) => {
            let store = inspect::must_look(blueprint).await?;
            let looked = inspect::read(&store, inspect::find_thread(&store, thread).await?).await?;
            (blueprint.agents.get(&looked.thread.agent)?, Some(looked.thread.window.render()))
        }
        (None, Some(name)) => (blueprint.agents.get(name)?, None),
        (None, None) => bail!("say which thread, or which --agent"),
    };
    if request {
        let providers = app::providers(blueprint.config(), &blueprint.agents)?;
        let (provider, request) = model_request(&providers, &blueprint.tools, agent, window.unwrap_or_default())
            .map_err(|why| anyhow!("the agent `{}`: {why}", agent.spec.name))?;
        say(&String::from_utf8_lossy(&provider.request_bytes(&request)))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&agent.prompt)?;
    if let Some(window) = window {
        say(&format!("\n\n{window}"))?;
    }
    say("\n")?;
    Ok(ExitCode::SUCCESS)
}

/// How one case went.
struct Judged {
    agent: String,
    case: String,
    problems: Vec<String>,
    /// Why no model was asked, if so.
    not_asked: Option<String>,
}

async fn test(
    blueprint: &Blueprint,
    only: Option<String>,
    provider: Option<String>,
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let config = blueprint.config();
    if let Some(name) = &provider {
        let kind = ProviderKind::from_name(name).with_context(|| {
            let hint = did_you_mean(name, ProviderKind::NAMES);
            let hint = hint.trim_end_matches('?');
            format!("there is no provider `{}`{hint}; there are {}", words::quote(name), ProviderKind::NAMES.join(", "))
        })?;
        if let Some(why) = config.missing_for(kind) {
            bail!("{why}");
        }
    }
    if let Some(name) = &only {
        blueprint.agents.get(name)?;
    }
    let providers = app::providers(config, &blueprint.agents)?;
    let mut judged = Vec::new();
    let mut without = Vec::new();
    for agent in blueprint.agents.iter().filter(|a| only.as_ref().is_none_or(|name| *name == a.spec.name)) {
        let Some(cases) = cases_of(blueprint, &agent.spec.name)? else {
            without.push(agent.spec.name.clone());
            continue;
        };
        let mut agent = agent.clone();
        if let Some(name) = &provider {
            // Another vendor would not know the model that the agent names.
            if agent.spec.provider.as_ref() != Some(name) {
                agent.spec.model = ProviderKind::from_name(name).map(|kind| config.model(kind).to_owned());
            }
            agent.spec.provider = Some(name.clone());
        }
        for case in &cases {
            judged.push(judge(&providers, blueprint, &agent, case).await);
        }
    }
    if let Some(name) = only.as_ref().filter(|_| judged.is_empty()) {
        bail!("the agent `{name}` has no cases; write {name}.cases.toml into `agents.directory`");
    }
    let failed = judged.iter().filter(|j| !j.problems.is_empty()).count();
    if as_json {
        let cases = judged.iter().map(|j| {
            json!({ "agent": j.agent, "case": j.case, "passed": j.problems.is_empty(), "problems": j.problems, "not_asked": j.not_asked })
        });
        say_json(
            &json!({ "cases": cases.collect::<Vec<_>>(), "passed": judged.len() - failed, "failed": failed, "agents_without_cases": without }),
        )?;
    } else {
        say(&test_words(&judged, &without))?;
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn test_words(judged: &[Judged], without: &[String]) -> String {
    let mut out = String::new();
    for j in judged {
        let mark = if j.problems.is_empty() { "pass" } else { "FAIL" };
        let note = j.not_asked.as_ref().map_or_else(String::new, |why| format!("  (prompt only: {why})"));
        out.push_str(&format!("{mark}  {}  {}{note}\n", j.agent, visible::line(&j.case)));
        for problem in &j.problems {
            out.push_str(&words::indented(problem, "      "));
        }
    }
    for agent in without {
        out.push_str(&format!("----  {agent}  has no cases\n"));
    }
    let failed = judged.iter().filter(|j| !j.problems.is_empty()).count();
    out.push_str(&format!("{} passed, {failed} failed.\n", words::count(judged.len() - failed, "case")));
    out
}

/// The cases of an agent: the operator's file, else the built-in one of its name.
fn cases_of(blueprint: &Blueprint, agent: &str) -> anyhow::Result<Option<Vec<Case>>> {
    let own = blueprint.config().case_files().map_err(|problems| anyhow!("{}", problems.join("\n")))?;
    let name = format!("{agent}.cases.toml");
    let is_its = |file: &&AgentFile| file.file.rsplit(['/', '\\']).next() == Some(name.as_str());
    let builtin = config::builtin_cases();
    let Some(file) = own.iter().find(is_its).or_else(|| builtin.iter().find(is_its)) else { return Ok(None) };
    cases::parse(&file.file, &file.text).map(Some).map_err(|problems| anyhow!("{}", problems.join("\n")))
}

async fn judge(providers: &Providers, blueprint: &Blueprint, agent: &Agent, case: &Case) -> Judged {
    let judged =
        |problems, not_asked| Judged { agent: agent.spec.name.clone(), case: case.name.clone(), problems, not_asked };
    if case.expect.is_none() && case.never.is_empty() {
        return judged(cases::check_prompt(case, &agent.prompt), None);
    }
    match model_request(providers, &blueprint.tools, agent, cases::window(case).render()) {
        // A prompt that nobody can be asked about is still a prompt.
        Err(why) => judged(cases::check_prompt(case, &agent.prompt), Some(why)),
        Ok((provider, request)) => match provider.complete(&request).await {
            Ok(reply) => judged(cases::check(case, &agent.prompt, &reply), None),
            Err(error) => judged(vec![format!("{} did not answer: {error}", provider.name())], None),
        },
    }
}

async fn diff(blueprint: &Blueprint, only: Option<String>, against: &str, threads: bool) -> anyhow::Result<ExitCode> {
    if let Some(name) = &only {
        blueprint.agents.get(name)?;
    }
    let builtin = config::builtin_agents();
    let own = blueprint.config().agent_files().map_err(|problems| anyhow!("{}", problems.join("\n")))?;
    let named = |files: &[AgentFile], name: &str| {
        let file = format!("{name}.md");
        files.iter().find(|f| f.file.rsplit(['/', '\\']).next() == Some(file.as_str())).cloned()
    };
    let known: Vec<AgentFile> = builtin.iter().chain(&own).cloned().collect();
    let mut out = String::new();
    for agent in blueprint.agents.iter().filter(|a| only.as_ref().is_none_or(|name| *name == a.spec.name)) {
        let name = &agent.spec.name;
        let Some(in_use) = named(&own, name).or_else(|| named(&builtin, name)) else { continue };
        let base = match against {
            "builtin" => match named(&builtin, name) {
                Some(file) => AgentFile { file: format!("builtin/{}", file.file), ..file },
                None => AgentFile { file: "builtin (there is none)".to_owned(), text: String::new() },
            },
            prefix => by_digest(&known, prefix)?,
        };
        if base.text == in_use.text {
            out.push_str(&format!("{name}: no difference ({})\n", agent.spec.digest.prefix()));
            continue;
        }
        out.push_str(&format!("{name}: {} is {}\n", in_use.file, agent.spec.digest.prefix()));
        let text = similar::TextDiff::from_lines(&base.text, &in_use.text);
        out.push_str(&text.unified_diff().context_radius(CONTEXT_LINES).header(&base.file, &in_use.file).to_string());
    }
    say(&out)?;
    if threads {
        say(&under_another(blueprint, only.as_deref()).await?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The one agent file, of those that are here, whose digest begins so.
fn by_digest(known: &[AgentFile], prefix: &str) -> anyhow::Result<AgentFile> {
    let digest = |file: &AgentFile| Digest::of(file.text.as_bytes()).to_string();
    let prefix = prefix.to_lowercase();
    if let Some(file) = known.iter().find(|f| !prefix.is_empty() && digest(f).starts_with(&prefix)) {
        return Ok(file.clone());
    }
    let each = |f: &AgentFile| format!("{} {}", Digest::of(f.text.as_bytes()).prefix(), f.file);
    let all: Vec<String> = known.iter().map(each).collect();
    bail!(
        "no agent file with the digest `{}` is here (logs keep digests, not texts). Here are: {}; or `builtin`",
        words::quote(&prefix),
        all.join(", ")
    )
}

/// The threads whose last reply was made under another prompt of their agent than the one in use.
async fn under_another(blueprint: &Blueprint, only: Option<&str>) -> anyhow::Result<String> {
    let Some(store) = inspect::look(blueprint).await? else { return Ok(format!("{}\n", inspect::NOTHING_YET)) };
    let filter = Filter { agent: only.map(str::to_owned), ..Filter::default() };
    let (threads, _) = inspect::list(&store, &filter, usize::MAX).await?;
    let mut rows = Vec::new();
    for summary in threads {
        let short = summary.thread.short();
        let Ok(looked) = inspect::read(&store, short).await else { continue };
        let used = looked.events.iter().rev().find_map(|e| match &e.body {
            Body::ModelReplied { model, .. } => Some(model.prompt.clone()),
            _ => None,
        });
        // A reply names the rendered prompt, or, where it was made earlier, the file.
        let in_use = blueprint
            .agents
            .get(&summary.agent)
            .map(|a| [Digest::of(a.prompt.as_bytes()).prefix(), a.spec.digest.prefix()]);
        match (used, in_use) {
            (Some(used), Ok(in_use)) if !in_use.contains(&used) => {
                let [prompt, _] = in_use;
                rows.push(vec![short.to_string(), summary.agent, used, prompt]);
            }
            (Some(used), Err(_)) => rows.push(vec![short.to_string(), summary.agent, used, "agent is gone".to_owned()]),
            (Some(_) | None, _) => {}
        }
    }
    if rows.is_empty() {
        return Ok("Every thread's last reply was made under the prompt in use.\n".to_owned());
    }
    Ok(words::table(&["THREAD", "AGENT", "LAST REPLY UNDER", "IN USE"], &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_cases_says_what_failed_and_why() {
        let judged = |case: &str, problems: &[&str], not_asked: Option<&str>| Judged {
            agent: "support".to_owned(),
            case: case.to_owned(),
            problems: problems.iter().map(|p| (*p).to_owned()).collect(),
            not_asked: not_asked.map(str::to_owned),
        };
        let all = [
            judged("it checks first", &[], None),
            judged("it asks", &["expected a question to a person, but it said `ok`"], None),
            judged("it is short", &[], Some("there is no script")),
        ];
        insta::assert_snapshot!(test_words(&all, &["mine".to_owned()]), @r"
        pass  support  it checks first
        FAIL  support  it asks
              expected a question to a person, but it said `ok`
        pass  support  it is short  (prompt only: there is no script)
        ----  mine  has no cases
        2 cases passed, 1 failed.
        ");
    }

    #[test]
    fn a_digest_that_no_file_here_has_is_told_which_ones_do() {
        let known = [AgentFile { file: "a.md".to_owned(), text: "text".to_owned() }];
        let digest = Digest::of(b"text");
        assert_eq!(by_digest(&known, &digest.prefix()).unwrap(), known[0]);
        assert!(by_digest(&known, "").is_err());
        insta::assert_snapshot!(by_digest(&known, "ffff").unwrap_err(), @r"no agent file with the digest `ffff` is here (logs keep digests, not texts). Here are: 982d9e3eb996 a.md; or `builtin`");
    }
}

//! The App Home: what waits for a person, their runs, agents to start.
//!
//! Ages are written as moments that Slack turns into words, so a view that nothing happened to stays the same.

use serde_json::{Value, json};

use super::listing::{context, link, mentions, mrkdwn, plain, review, rich, titled};
use super::{Look, action};
use crate::agent::{ApprovalId, Timestamp, visible};

/// Rows of what waits, and of runs.
const MAX_ROWS: usize = 10;
/// Agents with a button. A home has at most 100 blocks.
const MAX_AGENTS: usize = 15;

/// What is on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Home {
    /// Oldest first.
    pub waiting: Vec<HomeRequest>,
    /// Requests that wait, altogether; `more`: at least.
    pub total: usize,
    pub more: bool,
    /// What could not be found out; empty: nothing.
    pub trouble: String,
    /// Last change first.
    pub runs: Vec<HomeRun>,
    pub more_runs: bool,
    /// Name and description.
    pub agents: Vec<(String, String)>,
    /// Groups that somebody decides with, with `@` before, and rules that name them.
    pub decides_for: Vec<String>,
    /// Tasks to try, where nothing waits.
    pub examples: Vec<String>,
    /// How the command is written.
    pub command: String,
    pub version: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HomeRequest {
    pub id: ApprovalId,
    /// The digits of its digest that a button carries.
    pub digest: String,
    /// Shown, like the agent.
    pub title: String,
    pub agent: String,
    pub risk: &'static str,
    /// Ids.
    pub requesters: Vec<String>,
    pub requested_at: Timestamp,
    pub expires_at: Timestamp,
    pub link: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HomeRun {
    pub title: String,
    pub agent: String,
    pub state: String,
    pub updated_at: Timestamp,
    pub link: Option<String>,
}

/// The view for `views.publish`.
pub fn home(home: &Home, look: &Look) -> Value {
    let mut blocks = Vec::new();
    waiting(home, look, &mut blocks);
    blocks.push(json!({ "type": "divider" }));
    runs(home, &mut blocks);
    blocks.push(json!({ "type": "divider" }));
    agents(home, &mut blocks);
    footer(home, look, &mut blocks);
    json!({ "type": "home", "blocks": blocks })
}

fn waiting(home: &Home, look: &Look, blocks: &mut Vec<Value>) {
    let n = home.total;
    let title = match (n, home.more) {
        (0, _) => "Nothing waits for you".to_owned(),
        (n, false) => format!("Waiting for you ({n})"),
        (n, true) => format!("Waiting for you ({n} or more)"),
    };
    blocks.push(header(&title));
    for request in home.waiting.iter().take(MAX_ROWS) {
        blocks.push(titled(&request.title, Some(review(&request.id.to_string(), &request.digest))));
        let asked = moment(request.requested_at, "{ago}");
        let mut small = vec![
            plain(&format!("{} risk · {}", request.risk, request.agent), 100),
            mrkdwn(format!("asked for by {} {asked}", mentions(&request.requesters, look.team))),
            mrkdwn(format!("expires {}", moment(request.expires_at, "{date_short_pretty} {time}"))),
        ];
        small.extend(request.link.as_deref().map(link));
        blocks.push(context(small));
    }
    let left = n.saturating_sub(home.waiting.len().min(MAX_ROWS));
    if left > 0 {
        let inbox = inbox(look).map_or_else(
            || rich(&format!("And {left} more: `{} pending`.", home.command), 200, false),
            |inbox| context(vec![plain(&format!("And {left} more"), 200), mrkdwn(inbox)]),
        );
        blocks.push(inbox);
    }
    if n == 0 && !home.examples.is_empty() {
        blocks.push(rich("Mention me with a task, for example:", 200, false));
        for example in home.examples.iter().take(2) {
            blocks.push(rich(&format!("`{}`", example.replace('`', "'")), 200, false));
        }
    }
    if !home.trouble.is_empty() {
        blocks.push(context(vec![plain(&home.trouble, 300)]));
    }
}

fn runs(home: &Home, blocks: &mut Vec<Value>) {
    blocks.push(header("Your runs"));
    if home.runs.is_empty() {
        blocks.push(context(vec![plain("None yet.", 100)]));
    }
    for run in home.runs.iter().take(MAX_ROWS) {
        blocks.push(titled(&run.title, None));
        let mut small = vec![
            plain(&format!("{} · {}", run.state, run.agent), 150),
            mrkdwn(format!("changed {}", moment(run.updated_at, "{ago}"))),
        ];
        small.extend(run.link.as_deref().map(link));
        blocks.push(context(small));
    }
    if home.more_runs || home.runs.len() > MAX_ROWS {
        blocks.push(rich(&format!("Older ones: `{} status`.", home.command), 200, false));
    }
}

fn agents(home: &Home, blocks: &mut Vec<Value>) {
    blocks.push(header("Start something"));
    for (name, description) in home.agents.iter().take(MAX_AGENTS) {
        let start = json!({
            "type": "button",
            "action_id": action::START,
            "value": name,
            "text": plain("Start…", 75),
            "accessibility_label": format!("Start the agent {}", super::listing::cut(&visible::line(name), 40)),
        });
        blocks.push(titled(&visible::composed(&format!("{name}: {description}")), Some(start)));
    }
    if home.agents.is_empty() {
        blocks.push(context(vec![plain("No agent is set up. An operator can run `twelve doctor`.", 100)]));
    }
    if home.agents.len() > MAX_AGENTS {
        let left = home.agents.len() - MAX_AGENTS;
        blocks.push(rich(&format!("And {left} more: `{} agents`.", home.command), 200, false));
    }
}

fn footer(home: &Home, look: &Look, blocks: &mut Vec<Value>) {
    let mut small = vec![plain(&format!("Twelve {}", home.version), 60)];
    small.extend(inbox(look).map(mrkdwn));
    small.push(plain(&format!("Help: {} help", home.command), 100));
    if !home.decides_for.is_empty() {
        small.push(mrkdwn(format!("You can approve for: {}", mentions(&home.decides_for, look.team))));
    }
    blocks.push(context(small));
}

fn header(text: &str) -> Value {
    json!({ "type": "header", "text": plain(text, 150) })
}

fn inbox(look: &Look) -> Option<String> {
    let base = look.public_url.trim_end_matches('/');
    (!base.is_empty()).then(|| format!("<{}/inbox|Inbox>", super::escape(base).replace('|', "%7C")))
}

/// A moment in Slack's own words, in the reader's time zone.
fn moment(at: Timestamp, format: &str) -> String {
    format!("<!date^{}^{format}|{at}>", at.0.div_euclid(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s13_a_home_of_any_length_has_at_most_a_hundred_blocks_and_no_text_that_is_too_long() {
        let long = "<!channel> & \u{202e}*x* ".repeat(500);
        let request = HomeRequest {
            id: "apr_abcdefghijklmnop_5".parse().unwrap(),
            digest: "0123456789ab".into(),
            title: long.clone(),
            agent: long.clone(),
            risk: "high",
            requesters: vec![long.clone(); 50],
            requested_at: Timestamp(-1),
            expires_at: Timestamp(i64::MAX),
            link: Some("https://a.example/".into()),
        };
        let run = HomeRun {
            title: long.clone(),
            agent: long.clone(),
            state: long.clone(),
            updated_at: Timestamp(0),
            link: Some("https://a.example/".into()),
        };
        let full = Home {
            waiting: vec![request; 200],
            total: 500,
            more: true,
            trouble: long.clone(),
            runs: vec![run; 200],
            more_runs: true,
            agents: vec![("a".repeat(40), long.clone()); 200],
            decides_for: vec![long.clone(); 200],
            examples: vec![long; 20],
            command: "/agent".into(),
            version: "0.1.0".into(),
        };
        for shown in [full, Home::default()] {
            let view = home(&shown, &Look { team: "T1", public_url: "https://a.example", counter: 0 });
            assert!(view["blocks"].as_array().is_some_and(|blocks| blocks.len() <= 100));
            within(&view);
            assert!(!view.to_string().contains("mrkdwn\",\"text\":\"asked for by <!channel>"));
        }
    }

    /// Nothing is longer than any of Slack's limits for its kind, and nothing is empty.
    fn within(value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(within),
            Value::Object(fields) => {
                if let Some(text) = fields.get("text").and_then(Value::as_str) {
                    assert!(!text.is_empty() && text.chars().count() <= 3_000, "{text}");
                }
                if value["type"] == "header" {
                    assert!(value["text"]["text"].as_str().is_some_and(|text| text.chars().count() <= 150));
                }
                if value["type"] == "context" {
                    assert!(value["elements"].as_array().is_some_and(|elements| elements.len() <= 10));
                }
                fields.values().for_each(within);
            }
            _ => {}
        }
    }
}

//! What a command comes to. Everything is read; what changes something becomes an [`Act`] that the surface keeps.

use super::look::{Broken, ROWS, Seen, groups_of};
use super::{Asker, Command, Listing, Outcome, words};
use crate::agent::*;
use crate::platform::reach;

/// Longest note or reason, in characters.
const MAX_NOTE: usize = 2_000;
/// Events at the end of a log that tell since when a run waits.
const RECENT: u64 = 200;
/// Choices of runs that a list has when it is not clear which is meant.
const CHOICES: usize = ROWS;

/// What a command comes to. Reads, and changes nothing. For a command that changes something no platform is asked
/// anything, so it can be answered before it is acknowledged; `status`, `pending` and their like ask who is in which
/// group.
pub async fn answer(asker: &Asker<'_>, command: &Command) -> Outcome {
    match outcome(asker, command).await {
        Ok(outcome) => outcome,
        Err(error) => {
            let reference = format!("{:06x}", fastrand::u32(..1 << 24));
            tracing::error!(%error, reference, "a command could not be answered");
            Outcome::Say(words::broken(&reference))
        }
    }
}

async fn outcome(asker: &Asker<'_>, command: &Command) -> Result<Outcome, Broken> {
    Ok(match command {
        Command::Run { task } => start(asker, task),
        Command::Status { run: None } => match standing_here(asker).await? {
            Some(seen) => Outcome::Say(run_view(asker, &seen).await?),
            None => Outcome::Say(own_runs(asker).await?),
        },
        Command::Status { run: Some(run) } => match asker.find(run, true).await? {
            Ok(seen) => Outcome::Say(run_view(asker, &seen).await?),
            Err(why) => Outcome::Say(why),
        },
        Command::Pending { all } => Outcome::Say(pending(asker, *all).await?),
        Command::Approve { id, note } => decide(asker, id, note, true).await?,
        Command::Deny { id, reason } => decide(asker, id, reason, false).await?,
        Command::Answer { id, text } => answer_question(asker, id, text).await?,
        Command::Steer { what, run } => steer(asker, *what, run.as_deref()).await?,
        Command::History { run } => history(asker, run.as_deref()).await?,
        Command::Rules => {
            let parts = asker.runtime.parts();
            Outcome::Say(words::rules(&parts.policy, parts.requester, asker.by))
        }
        Command::Agents => Outcome::Say(words::agents(&asker.runtime.parts().agents, asker.prefix)),
        Command::Tools => {
            let parts = asker.runtime.parts();
            let facts: Vec<&ToolFacts> = parts.tools.names().filter_map(|name| parts.tools.facts(name)).collect();
            Outcome::Say(words::tools(&facts, &parts.agents, &parts.policy))
        }
        Command::Doctor if asker.operator => Outcome::Doctor,
        Command::Doctor => Outcome::Say(words::not_an_operator()),
        Command::Help => Outcome::Say(words::help(asker.prefix, asker.operator, asker.page("inbox"))),
        Command::Unknown { word, meant } => Outcome::Say(words::unknown_word(word, *meant, asker.prefix)),
    })
}

/// An agent's name at the beginning of a task is taken off it.
fn start(asker: &Asker<'_>, task: &str) -> Outcome {
    let agents = &asker.runtime.parts().agents;
    let (first, rest) = task.split_once(char::is_whitespace).unwrap_or((task, ""));
    let named = first.trim_end_matches(':').to_lowercase();
    let named = agents.names().find(|name| *name == named).map(str::to_owned);
    let task = if named.is_some() { rest.trim() } else { task.trim() };
    match (named, task) {
        (agent, "") => Outcome::Pick { agent },
        (agent, task) => Outcome::Start { agent, task: task.to_owned() },
    }
}

/// The run that it was said in.
async fn standing_here(asker: &Asker<'_>) -> Result<Option<Seen>, Broken> {
    match asker.here {
        Some(here) => asker.see(here).await,
        None => Ok(None),
    }
}

async fn own_runs(asker: &Asker<'_>) -> Result<Listing, Broken> {
    let (runs, more) = asker.own(ROWS, |_| true).await?;
    let link = |summary: &crate::store::Summary| {
        let there = asker.runtime.parts().platforms.link(&summary.thread, None);
        there.or_else(|| asker.page(&format!("chat/{}", summary.thread.short())))
    };
    Ok(words::runs(&runs, more, asker.now(), asker.prefix, link))
}

/// Where a run stands, what it waits for, for whom, since when.
async fn run_view(asker: &Asker<'_>, seen: &Seen) -> Result<Listing, Broken> {
    let store = &asker.runtime.parts().store;
    let from = seen.thread.version.saturating_sub(RECENT);
    let events = events(store.load_page(seen.thread.short, from, RECENT as usize).await?.events, from)?;
    let limits = asker.runtime.parts().agents.get(&seen.thread.agent).ok().map(|agent| agent.spec.limits.clone());
    let link = |posting: Option<&Posting>| asker.link(&seen.thread, posting);
    Ok(words::run(&seen.thread, &events, limits.as_ref(), asker.now(), asker.prefix, link))
}

fn events(encoded: Vec<Vec<u8>>, from: u64) -> Result<Vec<Event>, Broken> {
    encoded.iter().zip(from + 1..).map(|(bytes, seq)| Event::decode(bytes, seq).map_err(Broken::from)).collect()
}

async fn pending(asker: &Asker<'_>, all: bool) -> Result<Listing, Broken> {
    let groups = groups_of(asker.runtime, asker.by).await;
    let requests = asker.requests(all, &groups).await?;
    let mut links = Vec::new();
    for row in &requests.rows {
        // What has gone since is no longer linked to.
        let thread = asker.runtime.thread(row.id.thread).await.ok();
        let card = Posting::Card { approval: row.id };
        links.push(thread.and_then(|thread| asker.link(&thread, Some(&card))));
    }
    Ok(words::pending(&requests, links, all, &groups, asker.now(), asker))
}

/// Approving or denying in words. Somebody who presses a button has the request before them, and the button
/// carries its digest. Words carry neither, so they only do where everything was on the card in the
/// conversation: of the first revision, whole, alone, no high risk, nothing read from outside. Otherwise the card is
/// shown.
async fn decide(asker: &Asker<'_>, id: &str, note: &str, approve: bool) -> Result<Outcome, Broken> {
    let word = if approve { "approve" } else { "deny" };
    if id.is_empty() {
        return Ok(Outcome::Say(words::which_request(word, asker.prefix)));
    }
    if note.chars().count() > MAX_NOTE {
        return Ok(Outcome::Say(words::too_long(note.chars().count(), MAX_NOTE)));
    }
    let id = match asker.find_request(id).await? {
        Ok(id) => id,
        Err(why) => return Ok(Outcome::Say(why)),
    };
    let Some(thread) = asker.reach(id.thread).await? else {
        return Ok(Outcome::Say(words::unknown_request(&id.to_string())));
    };
    let Some(approval) = thread.approvals.get(&id) else {
        return Ok(Outcome::Say(words::unknown_request(&id.to_string())));
    };
    // Whether they see a conversation that they do not act in is only asked when a decision counts.
    let sees = asker.see(id.thread).await?.is_some();
    let approvers = &approval.terms.approvers;
    let all = reach::is_open_to_all(approvers) && !asker.decides(&thread, approval, &[]);
    if all && !sees && (!approval.is_open() || reach::standing(asker.by, &thread.id) != reach::Standing::Here) {
        return Ok(Outcome::Say(words::unknown_request(&id.to_string())));
    }
    if !approval.is_open() {
        let refusal = match approval.state {
            ApprovalState::Expired { at } => Refusal::Expired { at },
            ApprovalState::Revising { .. } => Refusal::Changed,
            _ => Refusal::already_decided(approval),
        };
        return Ok(Outcome::Say(Listing::line(refusal.to_string())));
    }
    if !sees && !all && approvers.groups.is_empty() {
        return Ok(Outcome::Say(words::not_an_approver(approvers)));
    }
    let parts = asker.runtime.parts();
    if !may_be_decided_in_words(approval) || !parts.platforms.showed_whole(&thread, approval) {
        // Who is in a group is only asked when a decision counts, and nobody else is shown a request.
        let card = || asker.link(&thread, Some(&Posting::Card { approval: id }));
        return Ok(if sees { Outcome::Show(id) } else { Outcome::Say(words::on_its_card(card())) });
    }
    let note = note.to_owned();
    let choice = if approve { Choice::Approve { note } } else { Choice::Deny { reason: note } };
    Ok(Outcome::Act(Act::Vote { approval: id, digest: approval.digest.to_string(), choice }))
}

/// Whether nothing is lost by not looking at the card again, if it was whole.
fn may_be_decided_in_words(approval: &Approval) -> bool {
    approval.terms.risk < Risk::High && approval.revision == 1 && approval.terms.untrusted.is_empty()
}

async fn answer_question(asker: &Asker<'_>, id: &str, text: &str) -> Result<Outcome, Broken> {
    if text.trim().is_empty() {
        return Ok(Outcome::Say(words::empty_answer(asker.prefix)));
    }
    let act = |question| Outcome::Act(Act::Answer { question, text: text.to_owned() });
    let mut open: Vec<(QuestionId, Question)> = Vec::new();
    if id.is_empty() {
        // The question that is open here, or in one of their runs.
        match standing_here(asker).await? {
            Some(seen) => open.extend(seen.thread.questions),
            None => {
                let (runs, _) = asker.own(CHOICES, |run| !run.questions.is_empty()).await?;
                for run in runs {
                    let seen = asker.see(run.thread.short()).await?;
                    open.extend(seen.into_iter().flat_map(|seen| seen.thread.questions));
                }
            }
        }
    } else {
        match asker.find(id, false).await? {
            Ok(Seen { theirs: false, .. }) => return Ok(Outcome::Say(words::unknown_question(id))),
            Ok(seen) => {
                let digits = id.trim_start_matches("q_");
                let fits = |id: &QuestionId| id.to_string().trim_start_matches("q_").starts_with(digits);
                let exact = seen.thread.questions.keys().copied().find(|open| open.to_string() == id);
                if let Some(question) = exact {
                    return Ok(act(question));
                }
                open.extend(seen.thread.questions.into_iter().filter(|(id, _)| fits(id)));
            }
            Err(why) => return Ok(Outcome::Say(why)),
        }
    }
    Ok(match open.as_slice() {
        [] if id.is_empty() => Outcome::Say(words::no_question()),
        [] => Outcome::Say(words::unknown_question(id)),
        [(question, _)] => act(*question),
        many => Outcome::Say(words::which_question(many, asker.prefix)),
    })
}

fn is_active(status: Status) -> bool {
    !matches!(status, Status::Done | Status::Stopped | Status::Cancelled)
}

/// Whether there is something to be stopped, paused or resumed.
fn takes(what: Steer, status: Status) -> bool {
    match what {
        Steer::Stop => is_active(status),
        Steer::Pause => is_active(status) && status != Status::Paused,
        Steer::Resume => status == Status::Paused,
    }
}

async fn steer(asker: &Asker<'_>, what: Steer, run: Option<&str>) -> Result<Outcome, Broken> {
    let seen = match run {
        Some(run) => match asker.find(run, false).await? {
            Ok(seen) => Some(seen),
            Err(why) => return Ok(Outcome::Say(why)),
        },
        None => standing_here(asker).await?,
    };
    if let Some(Seen { thread, theirs }) = seen {
        if !theirs {
            return Ok(Outcome::Say(words::not_theirs_to_steer(&thread, asker.prefix)));
        }
        if !takes(what, thread.status()) {
            return Ok(Outcome::Say(words::nothing_to_steer(what, thread.status())));
        }
        return Ok(Outcome::Act(Act::Steer { what, target: Target::Thread { thread: thread.short } }));
    }
    let (runs, more) = asker.own(CHOICES, |run| takes(what, run.status)).await?;
    Ok(match runs.as_slice() {
        [one] if !more => Outcome::Act(Act::Steer { what, target: Target::Thread { thread: one.thread.short() } }),
        [] => Outcome::Say(words::no_run_to_steer(what, asker.prefix)),
        many => Outcome::Say(words::which_run(what, many, more, asker.now(), asker.prefix)),
    })
}

async fn history(asker: &Asker<'_>, run: Option<&str>) -> Result<Outcome, Broken> {
    let seen = match run {
        Some(run) => match asker.find(run, false).await? {
            Ok(seen) => Some(seen),
            Err(why) => return Ok(Outcome::Say(why)),
        },
        None => match standing_here(asker).await? {
            Some(seen) => Some(seen),
            None => match asker.own(1, |_| true).await?.0.first() {
                Some(last) => asker.see(last.thread.short()).await?,
                None => None,
            },
        },
    };
    let Some(Seen { thread, theirs }) = seen else {
        return Ok(Outcome::Say(words::no_runs(asker.prefix)));
    };
    if !theirs {
        return Ok(Outcome::Say(words::not_theirs_to_read(asker.prefix)));
    }
    let from = thread.version.saturating_sub(ROWS as u64);
    let last = asker.runtime.parts().store.load_page(thread.short, from, ROWS).await?;
    let link = asker.page(&format!("chat/{}", thread.short));
    Ok(Outcome::Say(words::history(&thread, &events(last.events, from)?, asker.now(), link)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn approval() -> Approval {
        let id: ApprovalId = "apr_abcdefghijklmnop_5".parse().unwrap();
        Approval {
            id,
            call: CallId::new(id.thread, 4, 0),
            tool: "note".into(),
            revision: 1,
            because: Because::Gated,
            title: "note".into(),
            args: json!({ "text": "short" }),
            original_args: None,
            former_terms: None,
            plan: None,
            digest: Digest::ZERO,
            terms: Terms {
                rule: "notes".into(),
                risk: Risk::Medium,
                approvers: Approvers::default(),
                expires_after_ms: 1,
                untrusted: Untrusted::default(),
                route: Route::default(),
            },
            requesters: Vec::new(),
            requested_at: Timestamp(0),
            expires_at: Timestamp(1),
            votes: Vec::new(),
            state: ApprovalState::Pending,
            settled_at: None,
            result: None,
        }
    }

    #[test]
    fn words_decide_only_what_the_first_card_said_without_a_warning() {
        assert!(may_be_decided_in_words(&approval()));
        let changed = |change: fn(&mut Approval)| {
            let mut approval = approval();
            change(&mut approval);
            may_be_decided_in_words(&approval)
        };
        assert!(!changed(|a| a.terms.risk = Risk::High));
        assert!(!changed(|a| a.revision = 2), "the card that was seen may have been the one before");
        let read = json!({ "texts": [{ "seq": 3, "label": "a page" }] });
        let mut warned = approval();
        warned.terms.untrusted = serde_json::from_value(read).unwrap();
        assert!(!may_be_decided_in_words(&warned), "its card warns of what was read");
    }

    #[test]
    fn only_what_is_at_work_can_be_stopped_and_only_what_is_paused_resumed() {
        for status in crate::platform::words::STATUSES {
            let over = matches!(status, Status::Done | Status::Stopped | Status::Cancelled);
            assert_eq!(takes(Steer::Stop, status), !over, "{status:?}");
            assert_eq!(takes(Steer::Resume, status), status == Status::Paused, "{status:?}");
            assert_eq!(takes(Steer::Pause, status), !over && status != Status::Paused, "{status:?}");
        }
    }
}

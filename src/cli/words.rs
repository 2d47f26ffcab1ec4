//! The words of the commands that look at threads: tables, ages, what a thread waits for. Pure functions
//! of a fold, its events and the time; nothing here reads or writes. Words that other surfaces say as well
//! are [`crate::platform::words`]'s.

use serde_json::{Value, json};

use crate::agent::*;
pub use crate::platform::words::*;
use crate::store::Summary;

/// Events at the end of a log that `threads show` repeats.
pub const LAST_EVENTS: usize = 8;

/// Every line of what one of the views has made, behind `margin`.
pub fn indented(shown: &str, margin: &str) -> String {
    shown.lines().map(|line| format!("{margin}{line}\n")).collect()
}

/// Rows in columns of equal width, two spaces between them; the last column is not padded.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cell_width = |row: &[String], i: usize| row.get(i).map_or(0, |cell| cell.chars().count());
    let heading: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
    let all = || std::iter::once(&heading).chain(rows);
    let widths: Vec<usize> = (0..head.len()).map(|i| all().map(|row| cell_width(row, i)).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    all().map(line).collect()
}

/// How long ago: `3m 20s ago`, `just now`.
pub fn age(at: Timestamp, now: Timestamp) -> String {
    match now.ms_since(at) {
        0..1_000 => "just now".to_owned(),
        ms => format!("{} ago", span::show(ms)),
    }
}

/// How long from now: `in 2h`, or how long it is overdue.
pub fn until(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        format!("in {}", span::show(at.ms_since(now)))
    } else {
        format!("since {}", span::show(now.ms_since(at)))
    }
}

/// `1 event`, `2 events`.
pub fn count(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// What an effect does, for people.
pub fn effect_line(effect: &Effect) -> String {
    match effect {
        Effect::CallModel => "ask the model".to_owned(),
        Effect::PlanTool { call } => format!("plan {call}"),
        Effect::RunTool { call } => format!("run {call}"),
        Effect::Post { posting } => format!("post {}", posting_words(posting)),
        Effect::Gather { message, .. } => format!("fetch what is attached to event {message}"),
        Effect::Handle => "carry out the intent".to_owned(),
    }
}

/// How far a call is, in a word or two.
pub fn stage_words(stage: &Stage) -> String {
    match stage {
        Stage::Planning => "being planned".to_owned(),
        Stage::Planned { .. } => "planned".to_owned(),
        Stage::Asking => "waits for people".to_owned(),
        Stage::Ready => "cleared to run".to_owned(),
        Stage::Started => "started".to_owned(),
        Stage::Lost => "outcome unknown".to_owned(),
        Stage::Sleeping { until, .. } => format!("sleeps until {until}"),
    }
}

/// One thing that keeps a thread from going on.
#[derive(Clone, Debug, PartialEq)]
pub struct Wait {
    /// `approval`, `question`, `mark`, `pause`, `model`, `sleep` or `work`.
    pub kind: &'static str,
    /// What it waits for, as a sentence without an end.
    pub what: String,
    /// Whom it waits for; empty if no person.
    pub who: String,
    pub since: Timestamp,
    /// What to type.
    pub next: String,
}

impl Wait {
    /// Whether a person has to act.
    pub fn is_for_people(&self) -> bool {
        !self.who.is_empty()
    }

    pub fn json(&self) -> Value {
        json!({ "kind": self.kind, "what": self.what, "who": self.who, "since": self.since.to_string(), "next": self.next })
    }
}

/// What a thread waits for, oldest first. `events` are all events of the log.
pub fn waits(thread: &Thread, events: &[Event]) -> Vec<Wait> {
    let at = |seq: u64| events.iter().find(|e| e.seq == seq).map_or(thread.updated_at, |e| e.at);
    let last = |wanted: &dyn Fn(&Body) -> bool| {
        events.iter().rev().find(|e| wanted(&e.body)).map_or(thread.updated_at, |e| e.at)
    };
    let mut waits = Vec::new();
    if let Some(why) = &thread.paused {
        let why = if why.is_empty() { String::new() } else { format!(" ({})", quote(why)) };
        waits.push(Wait {
            kind: "pause",
            what: format!("paused{why}"),
            who: "anyone here".to_owned(),
            since: last(&|b| matches!(b, Body::Paused { .. })),
            next: format!("twelve threads resume {}", thread.short),
        });
    }
    for (id, call) in &thread.calls {
        match &call.stage {
            Stage::Lost => {
                let who = match &call.gated.verdict {
                    Verdict::Ask { terms } => visible::composed(&terms.approvers.describe()),
                    Verdict::Auto { .. } | Verdict::Deny { .. } | Verdict::Invalid { .. } | Verdict::Held { .. } => {
                        "anyone here".to_owned()
                    }
                };
                waits.push(Wait {
                    kind: "mark",
                    what: format!("unknown outcome of: {}", quote(&call.gated.title)),
                    who,
                    since: last(&|b| match b {
                        Body::OutcomeLost { call } | Body::ToolFinished { call, .. } => call == id,
                        _ => false,
                    }),
                    next: format!("look whether it took effect, then twelve threads mark {id} succeeded|failed|retry"),
                });
            }
            Stage::Sleeping { until, .. } => waits.push(Wait {
                kind: "sleep",
                what: format!("sleeps until {until}"),
                who: String::new(),
                since: last(&|b| matches!(b, Body::ToolFinished { call, .. } if call == id)),
                next: "nothing; it wakes up by itself in a running process".to_owned(),
            }),
            Stage::Planning | Stage::Planned { .. } | Stage::Asking | Stage::Ready | Stage::Started => {}
        }
    }
    for approval in thread.pending_approvals() {
        waits.push(Wait {
            kind: "approval",
            what: format!("approval of: {}", quote(&approval.title)),
            who: visible::composed(&approval.terms.approvers.describe()),
            since: approval.requested_at,
            next: format!("twelve approvals show {}", approval.id),
        });
    }
    for (id, question) in &thread.questions {
        let model = question.cause == QuestionCause::ModelDown;
        waits.push(Wait {
            kind: if model { "model" } else { "question" },
            what: format!("{}: {}", if model { "the model is down" } else { "question" }, quote(&question.text)),
            who: match &question.cause {
                QuestionCause::LooksSecret { doubt } => doubt.terms.approvers.describe(),
                QuestionCause::Agent
                | QuestionCause::StepBudget
                | QuestionCause::TokenBudget
                | QuestionCause::Errors { .. }
                | QuestionCause::ModelDown => "anyone here".to_owned(),
            },
            since: at(id.seq),
            next: format!(
                "twelve threads answer {id} '...'   {}",
                visible::composed(&crate::platform::how_to_answer(&question.answer))
            ),
        });
    }
    if let Some(retry) = thread.model.retry_at {
        waits.push(Wait {
            kind: "model",
            what: format!("the model did not answer {}; it is asked again at {retry}", times(thread.model.attempts)),
            who: String::new(),
            since: last(&|b| matches!(b, Body::ModelFailed { .. })),
            next: "nothing; a running process tries again by itself".to_owned(),
        });
    }
    for (id, effect) in thread.runnable() {
        waits.push(Wait {
            kind: "work",
            what: format!("outstanding: {}", effect_line(effect)),
            who: String::new(),
            since: at(id.seq),
            next: format!("start `twelve chat {}`: it takes up what is outstanding", quote(&thread.agent)),
        });
    }
    waits.sort_by_key(|w| w.since);
    waits
}

fn times(n: u32) -> String {
    match n {
        1 => "once".to_owned(),
        2 => "twice".to_owned(),
        n => format!("{n} times"),
    }
}

/// Everything about a thread that a person asks for first.
pub fn thread_view(thread: &Thread, events: &[Event], limits: Option<&Limits>, now: Timestamp) -> String {
    let mut out = format!(
        "Thread {} ({})\n  status    {}\n  agent     {}\n  title     {}\n  started   by {}, {} ({})\n  changed   {} ({})\n  log       {}, head {}\n",
        thread.short,
        quote(thread.id.as_str()),
        status_word(thread.status()),
        visible::line(&thread.agent),
        quote(&thread.title),
        quote(thread.started_by.label()),
        age(thread.created_at, now),
        thread.created_at,
        age(thread.updated_at, now),
        thread.updated_at,
        count(events.len(), "event"),
        thread.head.prefix(),
    );
    if let Some(parent) = &thread.parent {
        out.push_str(&format!("  fork of   {} at event {}\n", quote(parent.thread.as_str()), parent.seq));
    }
    if !thread.untrusted.is_empty() {
        // Whole: it is what people go by, and it is bounded.
        out.push_str(&format!("  untrusted {}\n", visible::composed(&thread.untrusted.describe())));
    }
    let of = |used: u64, most: Option<u64>| most.map_or(format!("{used}"), |most| format!("{used} of {most}"));
    match &thread.run {
        Some(run) => out.push_str(&format!(
            "  this run  {} steps, {} tokens\n  tokens    {} in all\n",
            of(run.steps.into(), limits.map(|l| l.max_steps.into())),
            of(run.tokens, limits.map(|l| l.max_tokens)),
            thread.tokens
        )),
        None => out.push_str(&format!("  tokens    {} in all\n", thread.tokens)),
    }
    let waits = waits(thread, events);
    if !waits.is_empty() {
        out.push_str("\nWaits for\n");
        for wait in &waits {
            let who = if wait.is_for_people() { format!(" by {}", wait.who) } else { String::new() };
            out.push_str(&format!("  {}{who}, {}\n    {}\n", wait.what, age(wait.since, now), wait.next));
        }
    }
    if !thread.calls.is_empty() {
        out.push_str("\nCalls\n");
        for (id, call) in &thread.calls {
            out.push_str(&format!("  {id}  {}: {}\n", stage_words(&call.stage), quote(&call.gated.title)));
        }
    }
    if !thread.approvals.is_empty() {
        out.push_str("\nApprovals\n");
        for a in thread.approvals.values() {
            out.push_str(&format!(
                "  {}  {}, revision {}, digest {}: {}\n",
                a.id,
                approval_state(a),
                a.revision,
                a.digest.prefix(),
                quote(&a.title)
            ));
        }
    }
    out.push_str("\nLast events\n");
    for event in events.iter().skip(events.len().saturating_sub(LAST_EVENTS)) {
        out.push_str(&format!("  {:>4}  {}  {}\n", event.seq, event.at, event_line(event)));
    }
    out
}

/// The same for machines.
pub fn thread_json(thread: &Thread, events: &[Event]) -> Value {
    let calls = thread.calls.iter().map(|(id, c)| {
        json!({ "id": id, "tool": c.gated.tool, "title": c.gated.title, "args": c.gated.args, "stage": stage_words(&c.stage), "approval": c.approval })
    });
    let questions = thread
        .questions
        .iter()
        .map(|(id, q)| json!({ "id": id, "text": q.text, "answer": q.answer, "cause": q.cause }));
    let outstanding = thread.outstanding().iter().map(|(id, e)| json!({ "id": id, "effect": effect_line(e) }));
    json!({
        "thread": summary_json(&crate::runtime::summary(thread)),
        "run": thread.run.as_ref().map(|r| json!({ "steps": r.steps, "tokens": r.tokens, "initiator": r.initiator.id })),
        "untrusted": thread.untrusted,
        "waits": waits(thread, events).iter().map(Wait::json).collect::<Vec<_>>(),
        "calls": calls.collect::<Vec<_>>(),
        "approvals": thread.approvals.values().map(|a| approval_json(a)).collect::<Vec<_>>(),
        "questions": questions.collect::<Vec<_>>(),
        "outstanding": outstanding.collect::<Vec<_>>(),
        "last_events": events.iter().skip(events.len().saturating_sub(LAST_EVENTS)).map(event_json).collect::<Vec<_>>(),
    })
}

/// A row of a list for machines.
pub fn summary_json(summary: &Summary) -> Value {
    json!({
        "id": summary.thread.short(),
        "thread": summary.thread,
        "status": status_word(summary.status),
        "agent": summary.agent,
        "title": summary.title,
        "requester": summary.requester.id,
        "approvals": summary.approvals,
        "questions": summary.questions,
        "tokens": summary.tokens,
        "version": summary.version,
        "head": summary.head,
        "created_at": summary.created_at.to_string(),
        "updated_at": summary.updated_at.to_string(),
        "due_at": summary.due_at.map(|at| at.max(summary.updated_at).to_string()),
    })
}

/// An approval in its present revision, for machines.
pub fn approval_json(a: &Approval) -> Value {
    let votes =
        a.votes.iter().map(|v| json!({ "by": v.by.id, "groups": v.groups, "at": v.at.to_string(), "vote": v.vote }));
    json!({
        "id": a.id,
        "call": a.call,
        "state": approval_state(a),
        "revision": a.revision,
        "because": a.because,
        "title": a.title,
        "args": a.args,
        "original_args": a.original_args,
        "plan": a.plan,
        "digest": a.digest,
        "terms": a.terms,
        "after_reading": crate::platform::after_reading(a),
        "requesters": a.requesters.iter().map(|p| &p.id).collect::<Vec<_>>(),
        "requested_at": a.requested_at.to_string(),
        "expires_at": a.expires_at.to_string(),
        "votes": votes.collect::<Vec<_>>(),
        "result": a.result.as_ref().map(|(ending, text)| json!({ "ending": ending, "text": text })),
    })
}

/// Everything that the digest of an approval covers, who may decide it until when, and what became of it.
pub fn approval_view(thread: &Thread, a: &Approval, events: &[Event], now: Timestamp) -> String {
    let card = crate::platform::Card::of(thread, a);
    let gated = thread.calls.get(&a.call).map(|c| &c.gated);
    // A call that has ended is no longer in the fold; the event that proposed it still is in the log.
    let gated = gated.or_else(|| events.iter().find_map(|e| proposed(e, a.call)));
    let version = gated.and_then(|g| g.facts.as_ref()).map(|f| format!(" (schema {})", f.schema_version));
    let mut out = format!(
        "{}\n  id          {}, revision {}, {}\n  tool        {}{}\n  risk        {}\n  agent       {}\n  thread      {} ({})\n  call        {}\n",
        visible::composed(&card.headline()),
        a.id,
        a.revision,
        approval_state(a),
        visible::line(gated.map_or("unknown", |g| g.tool.as_str())),
        version.unwrap_or_default(),
        a.terms.risk.word(),
        visible::line(&thread.agent),
        thread.short,
        quote(thread.id.as_str()),
        a.call,
    );
    let names: Vec<String> = a.requesters.iter().map(|p| visible::line(p.label())).collect();
    out.push_str(&format!(
        "  asked for   by {}, {} ({})\n",
        names.join(", "),
        age(a.requested_at, now),
        a.requested_at
    ));
    out.push_str(&format!(
        "  rule        {}\n  can decide  {}\n",
        visible::composed(&a.terms.rule),
        visible::composed(&a.terms.approvers.describe())
    ));
    out.push_str(&format!("  expires     {} ({})\n", until(a.expires_at, now), a.expires_at));
    if !card.why.is_empty() {
        // Line by line: words of a model could look like another field.
        out.push_str("  why         (the agent's words)\n");
        out.push_str(&indented(&visible::prose(card.why.trim()), "    | "));
    }
    if let Some(texts) = &card.after_reading {
        out.push_str(&format!("  untrusted   after reading {}\n", visible::composed(texts)));
    }
    if let Some(note) = card.revision_note() {
        out.push_str(&format!("  revision    {}\n", visible::composed(&note)));
    }
    if let Some(outcome) = card.outcome() {
        out.push_str(&format!("  outcome     {}\n", visible::composed(&outcome)));
    }
    out.push_str("\nArguments\n");
    out.push_str(&indented(&visible::json(&a.args), "  "));
    if let Some(plan) = &a.plan {
        out.push_str(&format!("\nPlan\n{}", indented(&visible::text(&plan.summary), "  ")));
        if !plan.facts.is_null() {
            out.push_str(&indented(&visible::json(&plan.facts), "  "));
        }
    }
    out.push_str("\nVotes on this revision\n");
    if a.votes.is_empty() {
        out.push_str("  none\n");
    }
    for cast in &a.votes {
        let what = match &cast.vote {
            Vote::Approve { note } => format!("approves {}", visible::line(note)),
            Vote::Deny { reason } => format!("denies {}", visible::line(reason)),
            Vote::Edit { title, .. } => format!("changes it to: {}", visible::line(title)),
        };
        out.push_str(&format!("  {}  {} {}\n", cast.at, visible::line(&cast.by.id), what.trim_end()));
    }
    out.push_str("\nHistory\n");
    for event in history(a.id, a.call, events) {
        out.push_str(&format!("  {:>4}  {}  {}\n", event.seq, event.at, event_line(event)));
    }
    out.push_str(&format!("\nDigest {}\n", a.digest));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_steer_a_terminal_or_reorder_text_is_shown_as_what_it_is() {
        assert_eq!(quote("a\u{1b}[2Jb\u{202e}c\u{200b}\n\td"), "a\\u{1b}[2Jb\\u{202e}c\\u{200b} d");
        assert_eq!(quote("\\u{202e}"), "\\u{5c}u{202e}");
        assert_eq!(quote("two\nlines\tand   spaces"), "two lines and spaces");
        assert_eq!(quote(&"x".repeat(500)).chars().count(), MAX_QUOTE);
    }

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_space() {
        let rows = vec![vec!["a".to_owned(), "bb".to_owned()], vec!["ccc".to_owned(), String::new()]];
        assert_eq!(table(&["ID", "NAME"], &rows), "ID   NAME\na    bb\nccc\n");
    }

    #[test]
    fn ages_say_what_a_person_would() {
        let now = Timestamp(10_000_000);
        assert_eq!(age(Timestamp(9_999_500), now), "just now");
        assert_eq!(age(Timestamp(9_800_000), now), "3m 20s ago");
        assert_eq!(until(Timestamp(17_200_000), now), "in 2h");
        assert_eq!(until(Timestamp(9_940_000), now), "since 1m");
    }

    #[test]
    fn a_wrong_status_is_told_the_right_ones() {
        assert_eq!(parse_status("Done"), Ok(Status::Done));
        insta::assert_snapshot!(parse_status("pausd").unwrap_err(), @"there is no such status; did you mean `paused`? Statuses: running, waiting_approval, waiting_answer, waiting_mark, sleeping, paused, done, stopped, cancelled");
    }

    fn event(seq: u64, body: Body) -> Event {
        Event {
            v: EVENT_VERSION,
            seq,
            at: Timestamp(seq as i64 * 60_000),
            source: None,
            answers: None,
            prev: Digest::ZERO,
            body,
        }
    }

    fn terms() -> Terms {
        Terms {
            route: Default::default(),
            rule: "agent:deployment:deploy_service".to_owned(),
            risk: Risk::High,
            approvers: Approvers { users: vec!["*".to_owned()], ..Approvers::default() },
            expires_after_ms: 7_200_000,
            untrusted: Untrusted::default(),
        }
    }

    /// A deployment that waits for its approval.
    fn waiting() -> (Thread, Vec<Event>) {
        let id: ThreadId = "console:story".parse().unwrap();
        let short = id.short();
        let sam = Principal::human("console:sam");
        let args = json!({ "service": "api", "version": "v1.2.3\u{202e}" });
        let facts = ToolFacts {
            name: "deploy_service".to_owned(),
            description: String::new(),
            schema_version: 1,
            risk: Risk::High,
            side_effects: true,
            idempotent: false,
            plans: false,
            editable: true,
            outside: false,
            sends: false,
            target: Vec::new(),
        };
        let gated = GatedCall {
            tool: "deploy_service".to_owned(),
            args: args.clone(),
            title: "Deploy api v1.2.3".to_owned(),
            facts: Some(facts),
            verdict: Verdict::Ask { terms: terms() },
        };
        let call = CallId::new(short, 3, 0);
        let plan = Plan { summary: "now v1.2.2 -> v1.2.3".to_owned(), facts: Value::Null };
        let bodies = vec![
            Body::ThreadStarted {
                thread: id.clone(),
                agent: "deployment".to_owned(),
                by: sam.clone(),
                pushes: false,
                parent: None,
                carried: Vec::new(),
                heard: vec![],
                untrusted: Untrusted::default(),
            },
            Body::MessageReceived {
                context: Vec::new(),
                attached: Vec::new(),
                from: sam.clone(),
                text: "deploy api v1.2.3".to_owned(),
                outside: None,
                prefetch: Vec::new(),
                masked: 0,
            },
            Body::ModelReplied {
                seen: 2,
                step: NextStep::Call { calls: vec![gated], why: "You asked for it.".to_owned() },
                model: ModelStamp { provider: "scripted".into(), model: "scripted".into(), prompt: "abc".into() },
                usage: Usage { input: 100, output: 20 },
                sent: 0,
                correction: String::new(),
            },
            Body::ApprovalRequested {
                approval: ApprovalId::new(short, 4, 0),
                call,
                revision: 1,
                because: Because::Gated,
                title: "Deploy api v1.2.3".to_owned(),
                digest: approval_digest(&id, call, "deploy_service", 1, &args, Some(&plan)),
                args,
                plan: Some(plan),
                terms: terms(),
                requesters: vec![sam],
                expires_at: Timestamp(7_440_000),
            },
        ];
        let mut events: Vec<Event> = bodies.into_iter().zip(1..).map(|(body, seq)| event(seq, body)).collect();
        // The reply is the answer to what the message called for.
        events[2].answers = Some(EffectId::new(short, 2, 0));
        let mut thread = Thread::vacant(id);
        for event in &events {
            thread.apply(event, Digest::of(&event.encode()));
        }
        (thread, events)
    }

    #[test]
    fn a_thread_is_shown_with_whom_it_waits_for_and_what_to_type() {
        let (thread, events) = waiting();
        let limits = Limits::default();
        insta::assert_snapshot!(thread_view(&thread, &events, Some(&limits), Timestamp(540_000)), @r"
        Thread fkfx7vkzn7wottzm (console:story)
          status    waiting_approval
          agent     deployment
          title     deploy api v1.2.3
          started   by sam, 8m ago (1970-01-01T00:01:00Z)
          changed   5m ago (1970-01-01T00:04:00Z)
          log       4 events, head 77450de30099
          this run  1 of 20 steps, 120 of 200000 tokens
          tokens    120 in all

        Waits for
          approval of: Deploy api v1.2.3 by anyone here (1 needed, not the requester), 5m ago
            twelve approvals show apr_fkfx7vkzn7wottzm_4

        Calls
          call_fkfx7vkzn7wottzm_3  waits for people: Deploy api v1.2.3

        Approvals
          apr_fkfx7vkzn7wottzm_4  pending, revision 1, digest d1384dac94dc: Deploy api v1.2.3

        Last events
             1  1970-01-01T00:01:00Z  started by sam with the agent deployment
             2  1970-01-01T00:02:00Z  sam wrote: deploy api v1.2.3
             3  1970-01-01T00:03:00Z  model scripted [scripted, 120 tokens]: deploy_service (ask)
             4  1970-01-01T00:04:00Z  approval apr_fkfx7vkzn7wottzm_4 asked, revision 1, digest d1384dac94dc: Deploy api v1.2.3
        ");
    }

    #[test]
    fn an_approval_is_shown_with_everything_that_its_digest_covers() {
        let (thread, events) = waiting();
        let approval = thread.pending_approvals().next().unwrap();
        insta::assert_snapshot!(approval_view(&thread, approval, &events, Timestamp(540_000)), @r#"
        Approval needed: Deploy api v1.2.3
          id          apr_fkfx7vkzn7wottzm_4, revision 1, pending
          tool        deploy_service (schema 1)
          risk        high
          agent       deployment
          thread      fkfx7vkzn7wottzm (console:story)
          call        call_fkfx7vkzn7wottzm_3
          asked for   by sam, 5m ago (1970-01-01T00:04:00Z)
          rule        agent:deployment:deploy_service
          can decide  anyone here (1 needed, not the requester)
          expires     in 1h 55m (1970-01-01T02:04:00Z)
          why         (the agent's words)
            | You asked for it.

        Arguments
          {
            "service": "api",
            "version": "v1.2.3\u202e"
          }

        Plan
          now v1.2.2 -> v1.2.3

        Votes on this revision
          none

        History
             4  1970-01-01T00:04:00Z  approval apr_fkfx7vkzn7wottzm_4 asked, revision 1, digest d1384dac94dc: Deploy api v1.2.3

        Digest d1384dac94dc32249eb62de2839433bca7b0b8d9f7f8b548c389c0b87fb9880f
        "#);
    }

    #[test]
    fn what_was_read_outside_is_said_of_the_thread_its_approvals_and_its_events() {
        let (thread, mut events) = waiting();
        let untrusted: Untrusted = serde_json::from_value(
            json!({"texts": [{"seq": 2, "label": "Fetch https://a.example"}, {"seq": 2, "label": "Ticket 12"}]}),
        )
        .unwrap();
        let told = |events: &[Event]| {
            let mut thread = Thread::vacant(thread.id.clone());
            for event in events {
                thread.apply(event, Digest::of(&event.encode()));
            }
            let view = thread_view(&thread, events, None, Timestamp(540_000));
            let approval = thread.pending_approvals().next().unwrap().clone();
            let approval_view = approval_view(&thread, &approval, events, Timestamp(540_000));
            let json = approval_json(&approval)["after_reading"].clone();
            let lines = [view, approval_view].concat();
            let lines: Vec<&str> =
                lines.lines().filter(|l| ["untrusted", "outside", "reading"].iter().any(|w| l.contains(w))).collect();
            (lines.join("\n"), json)
        };
        assert_eq!(told(&events), (String::new(), Value::Null));
        if let Body::MessageReceived { outside, .. } = &mut events[1].body {
            *outside = Some("webhook alerts".to_owned());
        }
        if let Body::ModelReplied { step: NextStep::Call { calls, .. }, .. } = &mut events[2].body {
            calls[0].verdict = Verdict::Ask { terms: Terms { untrusted: untrusted.clone(), ..terms() } };
        }
        if let Body::ApprovalRequested { terms, .. } = &mut events[3].body {
            terms.untrusted = untrusted;
        }
        let (lines, json) = told(&events);
        assert_eq!(json, "Fetch https://a.example; Ticket 12");
        insta::assert_snapshot!(lines, @r#"
        untrusted webhook alerts
           2  1970-01-01T00:02:00Z  sam passed on a text from outside (webhook alerts): deploy api v1.2.3
           3  1970-01-01T00:03:00Z  model scripted [scripted, 120 tokens]: deploy_service (ask, after untrusted text)
           4  1970-01-01T00:04:00Z  approval apr_fkfx7vkzn7wottzm_4 asked, revision 1, digest d1384dac94dc: Deploy api v1.2.3, after reading Fetch https://a.example; Ticket 12
        untrusted   after reading Fetch https://a.example; Ticket 12
           4  1970-01-01T00:04:00Z  approval apr_fkfx7vkzn7wottzm_4 asked, revision 1, digest d1384dac94dc: Deploy api v1.2.3, after reading Fetch https://a.example; Ticket 12
        "#);
    }

    #[test]
    fn whatever_a_thread_and_an_approval_hold_is_shown_in_the_strict_view() {
        use crate::agent::visible::tests::{PROSE_SAMPLE, SAMPLE, wrong};
        let (thread, mut events) = waiting();
        let evil = || SAMPLE.to_owned();
        let untrusted = serde_json::from_value(json!({"texts": [{"seq": 2, "label": SAMPLE}]})).unwrap();
        let evil_terms = Terms {
            rule: evil(),
            approvers: Approvers { users: vec![evil()], groups: vec![evil()], ..Approvers::default() },
            untrusted,
            ..terms()
        };
        for event in &mut events {
            match &mut event.body {
                Body::ThreadStarted { agent, by, .. } => (*agent, *by) = (evil(), Principal::human(evil())),
                Body::MessageReceived { from, text, outside, .. } => {
                    (*from, *text, *outside) = (Principal::human(evil()), evil(), Some(evil()));
                }
                Body::ModelReplied { step: NextStep::Call { calls, why }, model, .. } => {
                    *why = PROSE_SAMPLE.to_owned();
                    (calls[0].tool, calls[0].title) = (evil(), evil());
                    calls[0].verdict = Verdict::Ask { terms: evil_terms.clone() };
                    (model.model, model.provider) = (evil(), evil());
                }
                Body::ApprovalRequested { title, args, plan, terms, requesters, because, .. } => {
                    (*title, *args) = (evil(), json!({SAMPLE: SAMPLE, "b": [{SAMPLE: SAMPLE}]}));
                    *plan = Some(Plan { summary: evil(), facts: json!({SAMPLE: SAMPLE}) });
                    (*terms, *requesters) = (evil_terms.clone(), vec![Principal::human(evil())]);
                    *because = Because::Stale { why: evil() };
                }
                _ => {}
            }
        }
        let question = QuestionId::new(thread.short, 5, 0);
        let answer = AnswerKind::Choice { choices: vec![evil()] };
        events.push(event(5, Body::QuestionAsked { question, cause: QuestionCause::Agent, text: evil(), answer }));
        events.push(event(6, Body::Paused { by: Principal::human(evil()), why: evil() }));
        let mut thread = Thread::vacant(thread.id.clone());
        for event in &events {
            thread.apply(event, Digest::of(&event.encode()));
        }
        let approval = thread.approvals.values().next().unwrap();
        let mut settled = approval.clone();
        let cast =
            |vote| CastVote { by: Principal::human(evil()), groups: vec![], named: None, vote, at: Timestamp(0) };
        settled.votes = vec![cast(Vote::Approve { note: evil() }), cast(Vote::Deny { reason: evil() })];
        settled.state = ApprovalState::Denied { at: Timestamp(0), reason: evil() };
        for shown in [
            thread_view(&thread, &events, None, Timestamp(540_000)),
            approval_view(&thread, approval, &events, Timestamp(540_000)),
            approval_view(&thread, &settled, &events, Timestamp(540_000)),
        ] {
            assert_eq!(wrong(&shown), None, "{shown}");
            assert!(shown.contains("\\u{202e}"), "{shown}");
        }
    }

    #[test]
    fn outstanding_work_and_open_questions_say_how_to_go_on() {
        let (mut thread, mut events) = waiting();
        let question = QuestionId::new(thread.short, 5, 0);
        events.push(event(
            5,
            Body::QuestionAsked {
                question,
                cause: QuestionCause::ModelDown,
                text: "Try again?".to_owned(),
                answer: AnswerKind::YesNo,
            },
        ));
        thread.apply(&events[4], Digest::ZERO);
        let waits: Vec<String> =
            waits(&thread, &events).iter().map(|w| format!("{} | {} | {}", w.kind, w.what, w.next)).collect();
        insta::assert_snapshot!(waits.join("\n"), @r"
        approval | approval of: Deploy api v1.2.3 | twelve approvals show apr_fkfx7vkzn7wottzm_4
        model | the model is down: Try again? | twelve threads answer q_fkfx7vkzn7wottzm_5 '...'   yes or no
        ");
    }
}

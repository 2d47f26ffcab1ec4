//! Modals: reasons, the whole of a request, answers in words, starting a run.

use serde_json::Value;

use super::card::value;
use super::limits::{INPUT, METADATA, OPTION, OPTIONS, cut, head, len};
use super::mrkdwn::link;
use super::parts::{
    INPUT_ACTION, actions, bold, button, context, input, italic, line, modal, option, prose, rich, said, section,
    select, strict, styled, text_input,
};
use super::{Look, StartModal, action, callback, field};
use crate::agent::{AnswerKind, QuestionId, visible};
use crate::platform::Card;

/// Longest reason or note, in units.
const REASON: usize = 2_000;

fn title(card: &Card) -> Value {
    rich(vec![line(vec![bold(&strict(&card.approval.title, 400))])])
}

/// What is shown instead of a modal that would change something, when there is nothing left to change.
pub(super) fn settled(card: &Card, _look: &Look) -> Value {
    let words = match card.outcome() {
        Some(outcome) => format!("This can no longer be decided: {}.", outcome.trim_end_matches('.')),
        None => "This can no longer be decided: it is approved.".to_owned(),
    };
    let blocks = vec![title(card), rich(vec![line(vec![said(&cut(&visible::composed(&words), 600))])])];
    modal(callback::SHOW, "", "No longer open", None, blocks)
}

/// What is shown when a modal cannot hold what would have to be seen.
pub(super) fn elsewhere(card: &Card, what: &str, look: &Look) -> Value {
    let url = format!("{}/inbox/{}", look.public_url, card.approval.id);
    let inbox = link(&url, "the web inbox").unwrap_or_else(|| "the web inbox".to_owned());
    let words = format!("The arguments are too long for Slack. Read them all in {inbox}, and decide there.");
    modal(callback::SHOW, "", what, None, vec![title(card), section(&words)])
}

/// The modal that asks for a reason (optional).
pub fn deny_modal(card: &Card, look: &Look) -> Value {
    if !card.approval.is_open() {
        return settled(card, look);
    }
    let reason = text_input(true, "", REASON, "What should be different?");
    let blocks = vec![
        title(card),
        input(field::REASON, "Reason", "The agent and whoever asked read it.", true, reason),
        context(&["One denial is enough: it will not run.".to_owned()]),
    ];
    modal(callback::DENY, &value(&card.approval), "Deny", Some("Deny"), blocks)
}

/// The modal that shows everything; its submit approves.
pub fn review_modal(card: &Card, look: &Look) -> Value {
    let approval = &card.approval;
    if !approval.is_open() {
        return settled(card, look);
    }
    let Some(whole) = super::card::reviewable(approval) else { return elsewhere(card, "Review", look) };
    let mut blocks = vec![title(card), super::card::fields(card, look)];
    blocks.extend(super::card::warning(card));
    blocks.extend(whole);
    let deny = styled(button(action::DENY, &value(approval), "Deny…"), "danger");
    blocks.push(actions("review", vec![deny]));
    let note = text_input(false, "", REASON, "");
    blocks.push(input(field::NOTE, "Note for the record", "", true, note));
    modal(callback::REVIEW, &value(approval), "Review", Some("Approve"), blocks)
}

/// The modal for an answer in words.
pub fn answer_modal(id: QuestionId, text: &str, answer: &AnswerKind) -> Value {
    let words = |hint: &str| (text_input(true, "", INPUT, ""), hint.to_owned());
    let (element, hint) = match answer {
        AnswerKind::Text => words(""),
        AnswerKind::YesNo => {
            let options = vec![option("Yes", "yes"), option("No", "no")];
            (select(INPUT_ACTION, options, None, "Choose"), String::new())
        }
        AnswerKind::Choice { choices } => {
            let fits = |choice: &String| len(&visible::line(choice)) <= OPTION && !choice.trim().is_empty();
            let different = choices.iter().enumerate().all(|(i, choice)| !choices.iter().take(i).any(|c| c == choice));
            if (1..=OPTIONS).contains(&choices.len()) && choices.iter().all(fits) && different {
                let options = choices.iter().map(|choice| option(choice, choice)).collect();
                (select(INPUT_ACTION, options, None, "Choose"), String::new())
            } else {
                words("One of the choices, or its number.")
            }
        }
    };
    let mut blocks = vec![rich(vec![line(vec![said(&prose(text, INPUT))])])];
    if let AnswerKind::Choice { choices } = answer {
        let row = |(n, choice): (usize, &String)| line(vec![said(&format!("{}) {}\n", n + 1, strict(choice, 400)))]);
        blocks.push(rich(choices.iter().take(OPTIONS).enumerate().map(row).collect()));
    }
    blocks.push(input(field::ANSWER, "Your answer", &hint, false, element));
    modal(callback::ANSWER, &id.to_string(), "Answer", Some("Answer"), blocks)
}

/// The modal that starts a run: agent picker and task. `agents`: name and description.
pub fn start_modal(carried: &StartModal, agents: &[(String, String)], preset: Option<&str>) -> Value {
    let carried = carried_whole(carried);
    let mut blocks = Vec::new();
    let mut options: Vec<Value> = Vec::new();
    let mut chosen = None;
    // The preset one is there, however many there are.
    let (wanted, others): (Vec<_>, Vec<_>) = agents.iter().partition(|(name, _)| Some(name.as_str()) == preset);
    for (name, description) in wanted.into_iter().chain(others).filter(|(name, _)| len(name) <= OPTION).take(OPTIONS) {
        let mut one = option(name, name);
        if let (Some(one), false) = (one.as_object_mut(), description.trim().is_empty()) {
            one.insert("description".to_owned(), super::parts::plain(description, OPTION));
        }
        if Some(name.as_str()) == preset {
            chosen = Some(one.clone());
        }
        options.push(one);
    }
    if !options.is_empty() {
        let picker = select(INPUT_ACTION, options, chosen.as_ref(), "Choose an agent");
        blocks.push(input(field::AGENT, "Agent", "", false, picker));
    }
    if let Some((label, text)) = &carried.about {
        let quote = vec![bold(&format!("About {}: ", strict(label, 200))), italic(&prose(text, 600))];
        blocks.push(rich(vec![line(quote)]));
    }
    let task = text_input(true, "", INPUT, "Deploy api v1.2.3 to staging");
    blocks.push(input(field::TASK, "What shall it do?", "", false, task));
    // reason: strings always serialize
    let metadata = serde_json::to_string(&carried).unwrap_or_default();
    modal(callback::START, &metadata, "Start a run", Some("Start"), blocks)
}

/// As much as a modal carries: a long message is cut, and says so.
fn carried_whole(carried: &StartModal) -> StartModal {
    let size = |carried: &StartModal| serde_json::to_string(carried).map_or(usize::MAX, |text| len(&text));
    let mut carried = carried.clone();
    let mut room = METADATA;
    while size(&carried) > METADATA && room > 0 {
        room = room * 3 / 4;
        if let Some((label, text)) = &mut carried.about {
            *label = head(label.trim(), 200).to_owned();
            *text = format!(
                "{} … (the message is longer)",
                head(text.trim_end_matches(" … (the message is longer)"), room)
            );
        } else {
            break;
        }
    }
    carried
}

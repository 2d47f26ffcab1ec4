//! Questions to people: of agents, and about calls whose outcome nobody knows.

use serde_json::{Value, json};

use super::limits::{BUTTON, MESSAGE, OPTIONS, head, len, weight};
use super::mrkdwn::defused;
use super::parts::{actions, bold, button, confirm, context, emoji, line, option, rich, said, select, strict, styled};
use super::{Look, Message, action};
use crate::agent::{AnswerKind, CallId, Question, QuestionId, visible};

/// Most choices that are buttons; more are a menu.
const BUTTONS: usize = 5;
/// Longest question that a message shows, in units; a model's are a sentence or two.
const ASKED: usize = 6_000;
/// Longest choice that is shown in the list above the menu, in units.
const LISTED: usize = 400;

/// An open question.
pub fn question(id: QuestionId, question: &Question, look: &Look) -> Message {
    let asked = defused(question.text.trim());
    let shown = if len(&asked) > ASKED { format!("{}…", head(&asked, ASKED)) } else { asked };
    let mut blocks = vec![json!({"type": "markdown", "text": if shown.is_empty() { "–" } else { &shown }})];
    let choices: &[String] = match &question.answer {
        AnswerKind::Choice { choices } => choices,
        AnswerKind::Text | AnswerKind::YesNo => &[],
    };
    let block_id = format!("q:{id}:{}", look.counter);
    let write = |words: &str| button(action::WRITE, &id.to_string(), words);
    let as_buttons = choices.len() <= BUTTONS && choices.iter().all(|choice| fits_button(choice));
    match &question.answer {
        AnswerKind::Text => blocks.push(actions(&block_id, vec![styled(write("Answer…"), "primary")])),
        AnswerKind::YesNo => {
            let press = |n: usize, word: &str, says: &str| {
                button(&format!("{}{n}", action::ANSWER), &format!("{id}|{word}"), says)
            };
            blocks.push(actions(&block_id, vec![press(1, "yes", "Yes"), press(2, "no", "No")]));
        }
        AnswerKind::Choice { .. } if as_buttons && !choices.is_empty() => {
            let press = |(n, choice): (usize, &String)| {
                button(&format!("{}{}", action::ANSWER, n + 1), &format!("{id}|{choice}"), choice)
            };
            blocks.push(actions(&block_id, choices.iter().enumerate().map(press).collect()));
        }
        AnswerKind::Choice { .. } => {
            let menu = |options: Vec<Value>| {
                let mut elements = vec![write("Answer in words…")];
                if !options.is_empty() {
                    elements.insert(0, select(action::CHOOSE, options, None, "Choose"));
                }
                actions(&block_id, elements)
            };
            if choices.iter().any(|choice| len(&visible::line(choice)) > BUTTON) {
                let row = |(n, choice): (usize, &String)| {
                    line(vec![said(&format!("{}) {}\n", n + 1, strict(choice, LISTED)))])
                };
                let mut list = Vec::new();
                // Half of the message is left for the menu.
                let mut room = (MESSAGE / 2 + ASKED / 4).saturating_sub(weight(&blocks) + LEAST);
                for one in choices.iter().enumerate().map(row) {
                    let size = weight(std::slice::from_ref(&one));
                    if size > room {
                        break;
                    }
                    room -= size;
                    list.push(one);
                }
                if !list.is_empty() {
                    blocks.push(rich(list));
                }
            }
            let mut options: Vec<Value> = Vec::new();
            let mut spent = weight(&blocks) + weight(&[menu(Vec::new())]) + CLOSING;
            for option in options_of(id, choices) {
                spent += weight(std::slice::from_ref(&option));
                if spent > MESSAGE || options.len() == OPTIONS {
                    break;
                }
                options.push(option);
            }
            blocks.push(menu(options));
        }
    }
    blocks.push(context(&[format!("`{id}` · or answer here in the thread")]));
    Message { text: super::card::text(&question.text), blocks }
}

/// Room for the block around a list, in units.
const LEAST: usize = 100;
/// Room for the select around its options, and the small print, in units.
const CLOSING: usize = 600;

fn fits_button(choice: &str) -> bool {
    let shown = visible::line(choice);
    len(&shown) <= BUTTON && shown == choice && !choice.is_empty()
}

/// The choices as options of a select, with their numbers as values. One that is there twice is offered once.
fn options_of(id: QuestionId, choices: &[String]) -> impl Iterator<Item = Value> {
    let once =
        choices.iter().enumerate().filter(|(i, choice)| !choices.iter().take(*i).any(|before| before == *choice));
    once.map(move |(i, choice)| {
        let fits = len(&visible::line(choice)) <= BUTTON;
        let text = if fits { choice.clone() } else { format!("{}) {choice}", i + 1) };
        option(&text, &format!("{id}|{}", i + 1))
    })
}

/// A question that is no longer open.
pub fn question_closed(id: QuestionId, _look: &Look) -> Message {
    let words = format!(":white_check_mark: This question is answered, or no longer open. `{id}`");
    Message { text: "This question is no longer open.".to_owned(), blocks: vec![context(&[words])] }
}

/// A call whose outcome is unknown.
pub fn unknown(call: CallId, title: &str, waits_for: &str, look: &Look) -> Message {
    let title = strict(title, 400);
    let asks = "It was started, and nobody can tell how it ended. Look, then say what happened.";
    let blocks = vec![
        rich(vec![line(vec![emoji("grey_question"), said(" Result unknown: "), bold(&title)]), line(vec![said(asks)])]),
        actions(&format!("mark:{call}:{}", look.counter), marks(call)),
        context(&[format!("Waits for {} · `{call}`", super::mrkdwn::name(waits_for, 600))]),
    ];
    Message { text: super::card::text_shown(&format!("Result unknown: {title}")), blocks }
}

/// What people can say about a call whose outcome is unknown.
pub(super) fn marks(call: CallId) -> Vec<Value> {
    let mark = |what: &str, words: &str| button(&format!("{}{what}", action::MARK), &call.to_string(), words);
    let mut retry = mark("retry", "Retry");
    if let Some(retry) = retry.as_object_mut() {
        let words = "If it did take effect, it happens twice. You are asked to approve it again.";
        retry.insert("confirm".to_owned(), confirm("Try it again?", words, "Ask again", "Not yet"));
    }
    vec![mark("succeeded", "Mark succeeded"), mark("failed", "Mark failed"), retry]
}

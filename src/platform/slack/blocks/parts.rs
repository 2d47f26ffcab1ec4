//! The elements that messages and views are made of. Each is within its limit, whatever it is given.

use serde_json::{Value, json};

use super::Look;
use super::limits::{
    BUTTON, CONFIRM_BUTTON, CONFIRM_TEXT, CONFIRM_TITLE, HEADER, LABEL, OPTION, PLACEHOLDER, TITLE, cut,
};
use super::mrkdwn::slack_id;
use crate::agent::{Principal, visible};

/// One line of ours or of others, in the strict view. Never empty: Slack refuses that.
pub fn plain(text: &str, max: usize) -> Value {
    plain_shown(&visible::line(text.trim_matches(['\n', ' '])), max)
}

/// The same of text that one of the views has made.
pub fn plain_shown(text: &str, max: usize) -> Value {
    let text = cut(&visible::prose(text).replace('\n', " "), max);
    json!({"type": "plain_text", "text": if text.is_empty() { "–" } else { &text }, "emoji": false})
}

/// Slack's own markup, made by us: foreign text in it has passed [`super::escape`]. Slack adds no links to it.
pub fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": if text.is_empty() { "–" } else { text }, "verbatim": true})
}

pub fn header(text: &str) -> Value {
    json!({"type": "header", "text": plain(text, HEADER)})
}

/// Small print in [`mrkdwn`]; at most ten.
pub fn context(texts: &[String]) -> Value {
    let elements: Vec<Value> = texts.iter().take(10).map(|text| mrkdwn(text)).collect();
    json!({"type": "context", "elements": elements})
}

pub fn section(text: &str) -> Value {
    json!({"type": "section", "text": mrkdwn(text)})
}

pub fn divider() -> Value {
    json!({"type": "divider"})
}

/// A block in which nothing is interpreted: what foreign prose is shown in.
pub fn rich(elements: Vec<Value>) -> Value {
    json!({"type": "rich_text", "elements": elements})
}

/// A paragraph of a [`rich`] block.
pub fn line(elements: Vec<Value>) -> Value {
    json!({"type": "rich_text_section", "elements": elements})
}

/// Preformatted text of a [`rich`] block.
pub fn boxed(text: &str) -> Value {
    json!({"type": "rich_text_preformatted", "border": 0, "elements": [said(text)]})
}

/// Text that one of the views has made. Nothing but prose passes this door, whatever comes.
pub fn said(text: &str) -> Value {
    let text = visible::prose(text);
    json!({"type": "text", "text": if text.is_empty() { " " } else { &text }})
}

pub fn bold(text: &str) -> Value {
    in_style(text, "bold")
}

pub fn italic(text: &str) -> Value {
    in_style(text, "italic")
}

fn in_style(text: &str, style: &str) -> Value {
    let mut said = said(text);
    if let Some(said) = said.as_object_mut() {
        said.insert("style".to_owned(), json!({ style: true }));
    }
    said
}

pub fn emoji(name: &str) -> Value {
    json!({"type": "emoji", "name": name})
}

/// A person in a [`line()`]: a mention if they are of this team.
pub fn person(who: &Principal, look: &Look) -> Value {
    match slack_id(&who.id, look.team) {
        Some(id) if id.starts_with(['U', 'W']) => json!({"type": "user", "user_id": id}),
        _ => said(&cut(&visible::line(who.label()), 80)),
    }
}

/// Foreign prose of at most `max` units; line ends stay.
pub fn prose(text: &str, max: usize) -> String {
    cut(&visible::prose(text.trim()), max)
}

/// A title, a name, a choice, in the strict view.
pub fn strict(text: &str, max: usize) -> String {
    cut(&visible::line(text), max)
}

/// What people wrote beside a decision, in the strict view; line ends stay.
pub fn strict_lines(text: &str, max: usize) -> String {
    cut(&visible::text(text.trim()), max)
}

pub fn button(action: &str, value: &str, text: &str) -> Value {
    json!({"type": "button", "action_id": action, "value": value, "text": plain(text, BUTTON)})
}

/// The same, said in green (`primary`) or red (`danger`).
pub fn styled(mut button: Value, style: &str) -> Value {
    if let Some(button) = button.as_object_mut() {
        button.insert("style".to_owned(), style.into());
    }
    button
}

/// A button that opens a page and nothing else.
pub fn link_button(action: &str, text: &str, url: &str) -> Value {
    json!({"type": "button", "action_id": action, "text": plain(text, BUTTON), "url": url})
}

pub fn confirm(title: &str, text: &str, yes: &str, no: &str) -> Value {
    json!({
        "title": plain(title, CONFIRM_TITLE), "text": plain(text, CONFIRM_TEXT),
        "confirm": plain(yes, CONFIRM_BUTTON), "deny": plain(no, CONFIRM_BUTTON), "style": "danger",
    })
}

/// A row of buttons and selects.
pub fn actions(block_id: &str, elements: Vec<Value>) -> Value {
    json!({"type": "actions", "block_id": block_id, "elements": elements})
}

pub fn option(text: &str, value: &str) -> Value {
    json!({"text": plain(text, OPTION), "value": value})
}

/// The option of a menu that opens a page.
pub fn linked(mut option: Value, url: &str) -> Value {
    if let Some(option) = option.as_object_mut() {
        option.insert("url".to_owned(), url.into());
    }
    option
}

/// A menu behind three dots, of at most five options whose values have at most 75 units.
pub fn overflow(action: &str, options: Vec<Value>) -> Value {
    json!({"type": "overflow", "action_id": action, "options": options})
}

/// The action of every input; the block id says which it is.
pub const INPUT_ACTION: &str = "v";

/// A line, or lines, of text.
pub fn text_input(lines: bool, initial: &str, max: usize, placeholder: &str) -> Value {
    let mut input =
        json!({"type": "plain_text_input", "action_id": INPUT_ACTION, "multiline": lines, "max_length": max});
    if let Some(input) = input.as_object_mut() {
        if !initial.is_empty() {
            input.insert("initial_value".to_owned(), initial.into());
        }
        if !placeholder.is_empty() {
            input.insert("placeholder".to_owned(), plain(placeholder, PLACEHOLDER));
        }
    }
    input
}

/// One of several; `chosen` is one of the options.
pub fn select(action: &str, options: Vec<Value>, chosen: Option<&Value>, placeholder: &str) -> Value {
    let mut select = json!({
        "type": "static_select", "action_id": action, "options": options, "placeholder": plain(placeholder, PLACEHOLDER),
    });
    if let (Some(select), Some(chosen)) = (select.as_object_mut(), chosen) {
        select.insert("initial_option".to_owned(), chosen.clone());
    }
    select
}

pub fn input(block_id: &str, label: &str, hint: &str, optional: bool, element: Value) -> Value {
    let mut input = json!({
        "type": "input", "block_id": block_id, "optional": optional, "label": plain(label, LABEL), "element": element,
    });
    if let (Some(input), false) = (input.as_object_mut(), hint.trim().is_empty()) {
        input.insert("hint".to_owned(), plain(hint, LABEL));
    }
    input
}

/// A modal. Without `submit` it only shows.
pub fn modal(callback: &str, metadata: &str, title: &str, submit: Option<&str>, blocks: Vec<Value>) -> Value {
    let close = if submit.is_some() { "Cancel" } else { "Close" };
    let mut view = json!({
        "type": "modal", "callback_id": callback, "private_metadata": metadata,
        "title": plain(title, TITLE), "close": plain(close, TITLE), "blocks": blocks,
    });
    if let (Some(view), Some(submit)) = (view.as_object_mut(), submit) {
        view.insert("submit".to_owned(), plain(submit, TITLE));
    }
    view
}

//! Changing the arguments of a call: one input for each, made from the tool's schema, and arguments made from what
//! was submitted.
//!
//! Which kind of field an argument gets and how it is read is `platform::form`'s, the same as in the browser. What
//! does not fit an input is not edited here: nobody changes what they do not see.

use std::collections::BTreeMap;

use serde_json::Value;

use super::limits::{BLOCK_ID, INPUT, OPTION, OPTIONS, VIEW_BLOCKS, VIEW_BYTES, len};
use super::parts::{context, input, modal, option, select, text_input};
use super::{Look, callback, typed};
use crate::agent::{Approval, json, visible};
use crate::platform::Card;
use crate::platform::form::{self, Field, Kind};

/// Block id of the one input for all arguments, where they cannot have one each.
const ALL: &str = "all";
/// Before the name of an argument in its input's block id.
const ONE: &str = "a.";
/// The value of the option that leaves an argument out.
const LEAVE_OUT: &str = "-";

/// Whether the arguments fit a modal, as far as can be told without the schema.
pub fn fits(args: &Value) -> bool {
    if args.to_string().len() > VIEW_BYTES {
        return false;
    }
    let Some(args) = args.as_object() else { return len(&visible::json(args)) <= INPUT };
    let each = args.iter().map(|(name, value)| (name, len(&visible::json(value))));
    let total: usize = each.clone().map(|(name, size)| name.len() + size).sum();
    let fits = args.len() <= VIEW_BLOCKS / 2 && total <= VIEW_BYTES / 8;
    fits && each.into_iter().all(|(name, size)| size <= INPUT && block_id(name).len() <= BLOCK_ID)
}

fn block_id(name: &str) -> String {
    format!("{ONE}{name}")
}

/// The modal with one input for each argument, made from the tool's schema.
pub fn edit_modal(card: &Card, schema: &Value, look: &Look) -> Value {
    let approval = &card.approval;
    if !approval.is_open() {
        return super::modals::settled(card, look);
    }
    let inputs = match (fits(&approval.args), each(schema, &approval.args)) {
        (true, Some(fields)) => fields.iter().map(field_input).collect(),
        (true, None) => match all_of_them(&approval.args) {
            Some(input) => vec![input],
            None => return super::modals::elsewhere(card, "Edit", look),
        },
        (false, _) => return super::modals::elsewhere(card, "Edit", look),
    };
    let intro = context(&["A change makes a new request, which needs votes of its own, yours too.".to_owned()]);
    let mut blocks = vec![intro];
    blocks.extend(inputs);
    modal(callback::EDIT, &super::card::value(approval), "Change the request", Some("Ask anew"), blocks)
}

/// The fields, if each has room and together they show all arguments. An argument that is not there and has no room
/// for its name is not offered.
fn each(schema: &Value, args: &Value) -> Option<Vec<Field>> {
    let mut fields = form::fields(schema, args);
    fields.retain(|field| args.get(&field.name).is_some() || block_id(&field.name).len() <= BLOCK_ID);
    let shown = |name: &String| fields.iter().any(|field| field.name == *name);
    let all_shown = args.as_object().is_some_and(|args| args.keys().all(shown));
    let room = fields.iter().all(|field| len(&field.value) <= INPUT && block_id(&field.name).len() <= BLOCK_ID);
    let few = !fields.is_empty() && fields.len() < VIEW_BLOCKS - 1;
    (all_shown && room && few).then_some(fields)
}

fn all_of_them(args: &Value) -> Option<Value> {
    let text = visible::json(args);
    let hint = "All arguments, as JSON.";
    (len(&text) <= INPUT).then(|| input(ALL, "Arguments", hint, false, text_input(true, &text, INPUT, "")))
}

fn field_input(field: &Field) -> Value {
    let hint = match field.kind {
        Kind::List if field.help.is_empty() => "One a line.".to_owned(),
        Kind::List => format!("{} One a line.", field.help),
        Kind::Json if field.help.is_empty() => "JSON.".to_owned(),
        Kind::Json => format!("{} JSON.", field.help),
        Kind::Whole if field.help.is_empty() => "A whole number.".to_owned(),
        Kind::Number if field.help.is_empty() => "A number.".to_owned(),
        Kind::Text | Kind::Long | Kind::Whole | Kind::Number | Kind::Bool | Kind::Choice => field.help.clone(),
    };
    let element = match menu(field) {
        Some((options, chosen)) => select(super::parts::INPUT_ACTION, options, chosen.as_ref(), "Choose"),
        None => {
            let lines = matches!(field.kind, Kind::Long | Kind::List | Kind::Json) || field.value.contains('\n');
            text_input(lines, &field.value, INPUT, "")
        }
    };
    // Slack lets nobody submit a needed input that is empty: what may be empty is not called needed there.
    let optional = !field.required || field.value.is_empty();
    input(&block_id(&field.name), &field.name, &hint, optional, element)
}

/// The options of a field that is one of several, and the one of now. The value is the option's number: an option
/// may be longer than Slack lets a value be.
fn menu(field: &Field) -> Option<(Vec<Value>, Option<Value>)> {
    let fits = |text: &String| !text.trim().is_empty() && len(&visible::line(text)) <= OPTION;
    let is_menu = matches!(field.kind, Kind::Choice | Kind::Bool);
    if !is_menu || field.options.is_empty() || field.options.len() >= OPTIONS || !field.options.iter().all(fits) {
        return None;
    }
    let words = |text: &str| match (field.kind, text) {
        (Kind::Bool, "true") => "yes".to_owned(),
        (Kind::Bool, "false") => "no".to_owned(),
        (_, text) => text.to_owned(),
    };
    let mut options: Vec<Value> =
        field.options.iter().enumerate().map(|(i, text)| option(&words(text), &i.to_string())).collect();
    let chosen = field.options.iter().position(|text| *text == field.value).and_then(|i| options.get(i).cloned());
    if !field.required {
        options.push(option("(leave it out)", LEAVE_OUT));
    }
    Some((options, chosen))
}

/// The arguments that a submitted edit modal stands for, as JSON text.
///
/// # Errors
/// By block id: what is wrong with the input, for `response_action: errors`.
pub fn edited_args(approval: &Approval, schema: &Value, state: &Value) -> Result<String, BTreeMap<String, String>> {
    if state.get(ALL).is_some() {
        let text = typed(state, ALL).unwrap_or_default();
        return match json::parse(text.trim()) {
            Ok(value @ Value::Object(_)) => Ok(value.to_string()),
            Ok(_) => Err(BTreeMap::from([(ALL.to_owned(), "It has to be a JSON object: { … }".to_owned())])),
            Err(why) => Err(BTreeMap::from([(ALL.to_owned(), format!("It is not JSON that can be used: {why}"))])),
        };
    }
    let entered = |field: &Field| {
        let id = block_id(&field.name);
        state.get(&id)?;
        let text = typed(state, &id).unwrap_or_default();
        let text = match menu(field) {
            Some(_) if text == LEAVE_OUT => String::new(),
            Some(_) => text.parse::<usize>().ok().and_then(|i| field.options.get(i)).cloned().unwrap_or_default(),
            None => text,
        };
        // Slack may trim what nobody touched.
        Some(if text.trim() == field.value.trim() { field.value.clone() } else { text })
    };
    form::arguments(schema, &approval.args, entered)
        .map_err(|wrong| wrong.into_iter().map(|(name, why)| (block_id(&name), why)).collect())
}

//! A form for the arguments of a call, made from the tool's schema, and arguments made from what was typed.
//! Each surface puts the fields into its own form.
//!
//! Text, numbers, yes or no, one of several, and lists of texts have fields of their own; everything else
//! is a box of JSON. What nobody touched stays as it was, byte for byte: a browser changes line ends, and an
//! absent argument is not an empty one. Whether the result is allowed is not decided here: it goes the same
//! way as a model's.

use serde_json::{Map, Value};

use crate::agent::{json, visible};

/// Texts up to this many characters get one line.
const ONE_LINE: usize = 80;

/// One argument to be changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub kind: Kind,
    /// As the field shows it.
    pub value: String,
    pub required: bool,
    pub options: Vec<String>,
    /// The schema's own sentence.
    pub help: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Long,
    Whole,
    Number,
    /// Yes or no.
    Bool,
    Choice,
    /// One text a line.
    List,
    Json,
}

impl Field {
    pub fn is(&self, kind: &str) -> bool {
        kind == match self.kind {
            Kind::Text => "text",
            Kind::Long => "long",
            Kind::Whole | Kind::Number => "number",
            Kind::Bool | Kind::Choice => "choice",
            Kind::List => "list",
            Kind::Json => "json",
        }
    }

    /// The name as it is shown.
    pub fn label(&self) -> String {
        visible::key(&self.name)
    }

    /// One of the options as it is shown.
    pub fn words(&self, option: &str) -> String {
        visible::line(option)
    }

    /// The schema's sentence as it is shown.
    pub fn hint(&self) -> String {
        visible::composed(&self.help)
    }

    /// Lines that the box shows at first.
    pub fn rows(&self) -> usize {
        (self.value.lines().count() + 1).clamp(2, 16)
    }
}

/// The fields for these arguments, in the order of the schema.
pub fn fields(schema: &Value, args: &Value) -> Vec<Field> {
    let required = |name: &str| {
        schema.get("required").and_then(Value::as_array).is_some_and(|names| names.iter().any(|n| n == name))
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().map(|(name, schema)| field(name, schema, args.get(name), required(name))).collect()
}

fn field(name: &str, schema: &Value, value: Option<&Value>, required: bool) -> Field {
    let plain = without_null(schema);
    let options: Vec<String> = match (plain.get("enum").and_then(Value::as_array), plain.get("type")) {
        (Some(options), _) => options.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        (None, Some(kind)) if kind == "boolean" => vec!["true".to_owned(), "false".to_owned()],
        (None, _) => Vec::new(),
    };
    let kind = kind(plain, value.filter(|v| !v.is_null()));
    let help = schema.get("description").or_else(|| plain.get("description")).and_then(Value::as_str);
    Field {
        name: name.to_owned(),
        kind,
        value: value.map_or_else(String::new, |value| shown(kind, value)),
        required,
        options: if matches!(kind, Kind::Bool | Kind::Choice) { options } else { Vec::new() },
        help: help.unwrap_or("").to_owned(),
    }
}

/// The schema of the value itself, where null is allowed beside it.
fn without_null(schema: &Value) -> &Value {
    let branches = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
    let is_null = |branch: &&Value| branch.get("type").is_some_and(|t| t == "null");
    match branches.map(|branches| branches.iter().filter(|b| !is_null(b)).collect::<Vec<_>>()).as_deref() {
        Some([one]) => one,
        Some(_) | None => schema,
    }
}

/// The kind that can show both what the schema allows and what is there now.
fn kind(schema: &Value, value: Option<&Value>) -> Kind {
    let named: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).filter(|t| *t != "null").collect(),
        Some(_) | None => Vec::new(),
    };
    let fits = |wanted: fn(&Value) -> bool| value.is_none_or(wanted);
    if let Some(options) = schema.get("enum").and_then(Value::as_array) {
        let seen = |o: &Value| o.as_str().is_some_and(visible::is_plain);
        let texts = options.iter().all(|o| o.is_null() || seen(o));
        return if texts && fits(|v| v.as_str().is_some_and(visible::is_plain)) { Kind::Choice } else { Kind::Json };
    }
    match named.as_slice() {
        // What is not seen cannot be edited as text: a tab, a space at the end of a line, `\r\n`.
        ["string"] if fits(|v| v.as_str().is_some_and(visible::is_plain)) => {
            let text = value.and_then(Value::as_str).unwrap_or("");
            if text.chars().count() > ONE_LINE || text.contains('\n') { Kind::Long } else { Kind::Text }
        }
        ["integer"] if fits(Value::is_number) => Kind::Whole,
        ["number"] if fits(Value::is_number) => Kind::Number,
        ["boolean"] if fits(Value::is_boolean) => Kind::Bool,
        ["array"] => {
            let of_texts = schema.get("items").and_then(|items| items.get("type")).is_some_and(|t| t == "string");
            let one_line = |item: &Value| {
                item.as_str().is_some_and(|t| !t.is_empty() && !t.contains('\n') && visible::is_plain(t))
            };
            let lines = value.is_none_or(|v| v.as_array().is_some_and(|items| items.iter().all(one_line)));
            if of_texts && lines { Kind::List } else { Kind::Json }
        }
        _ => Kind::Json,
    }
}

fn shown(kind: Kind, value: &Value) -> String {
    match (kind, value) {
        (Kind::Json, value) => visible::json(value),
        (_, Value::Null) => String::new(),
        (_, Value::String(text)) => text.clone(),
        (Kind::List, Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"),
        (_, value) => value.to_string(),
    }
}

/// The arguments as JSON text: those of now, with what was changed. `typed` says what stands in the field of this
/// name; `None`: there was no such field.
///
/// # Errors
/// The fields that cannot be read, in their order, and a sentence about each.
pub fn arguments(
    schema: &Value,
    args: &Value,
    typed: impl Fn(&Field) -> Option<String>,
) -> Result<String, Vec<(String, String)>> {
    let mut changed: Map<String, Value> = args.as_object().cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    for field in fields(schema, args) {
        let Some(typed) = typed(&field).map(|typed| lines(&typed)) else { continue };
        if typed == lines(&field.value) {
            continue;
        }
        match read(&field, &typed) {
            Ok(Some(value)) => _ = changed.insert(field.name, value),
            Ok(None) => _ = changed.remove(&field.name),
            Err(why) => wrong.push((field.name, why)),
        }
    }
    if wrong.is_empty() { Ok(Value::Object(changed).to_string()) } else { Err(wrong) }
}

/// Browsers send line ends as two characters, whatever they were.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// `None`: the argument is left out.
fn read(field: &Field, typed: &str) -> Result<Option<Value>, String> {
    let wrong = |what: &str| format!("`{}` {what}", field.name);
    if typed.trim().is_empty() && !(field.required && matches!(field.kind, Kind::Text | Kind::Long | Kind::List)) {
        return if field.required { Err(wrong("is needed, and was left empty")) } else { Ok(None) };
    }
    match field.kind {
        Kind::Text | Kind::Long | Kind::Choice => Ok(Some(Value::String(typed.to_owned()))),
        Kind::Whole => match (typed.trim().parse::<i64>(), typed.trim().parse::<u64>()) {
            (Ok(number), _) => Ok(Some(number.into())),
            (_, Ok(number)) => Ok(Some(number.into())),
            (Err(_), Err(_)) => Err(wrong("has to be a whole number")),
        },
        Kind::Number => match json::parse(typed.trim()) {
            Ok(number @ Value::Number(_)) => Ok(Some(number)),
            Ok(_) | Err(_) => Err(wrong("has to be a number, such as 1.5")),
        },
        Kind::Bool => match typed {
            "true" => Ok(Some(Value::Bool(true))),
            "false" => Ok(Some(Value::Bool(false))),
            _ => Err(wrong("has to be yes or no")),
        },
        Kind::List => {
            let items = typed.lines().filter(|line| !line.trim().is_empty());
            Ok(Some(items.map(|line| Value::String(line.to_owned())).collect()))
        }
        Kind::Json => json::parse(typed).map(Some).map_err(|e| wrong(&format!("is not JSON that can be used: {e}"))),
    }
}

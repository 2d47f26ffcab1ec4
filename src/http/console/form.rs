//! A form for the arguments of a call, made from the tool's schema, and arguments made from what was posted.
//!
//! Text, numbers, yes or no, one of several, and lists of texts have fields of their own; everything else
//! is a box of JSON. What nobody touched stays as it was, byte for byte: a browser changes line ends, and an
//! absent argument is not an empty one. Whether the result is allowed is not decided here: it goes the same
//! way as a model's.

use serde_json::{Map, Value};

use super::door::Fields;
use crate::agent::json;
use crate::platform::visible::{is_invisible, visible_json};

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

    /// Lines that the box shows at first.
    pub fn rows(&self) -> usize {
        (self.value.lines().count() + 1).clamp(2, 16)
    }

    /// The same with what was typed.
    pub fn with(mut self, fields: &Fields) -> Self {
        if let Some(typed) = fields.get(&format!("arg.{}", self.name)) {
            self.value = typed.to_owned();
        }
        self
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
        let texts = options.iter().all(|o| o.is_string() || o.is_null());
        return if texts && fits(Value::is_string) { Kind::Choice } else { Kind::Json };
    }
    match named.as_slice() {
        // What is not seen cannot be edited as text.
        ["string"] if fits(|v| v.as_str().is_some_and(is_seen)) => {
            let text = value.and_then(Value::as_str).unwrap_or("");
            if text.chars().count() > ONE_LINE || text.contains(['\n', '\r']) { Kind::Long } else { Kind::Text }
        }
        ["integer"] if fits(Value::is_number) => Kind::Whole,
        ["number"] if fits(Value::is_number) => Kind::Number,
        ["boolean"] if fits(Value::is_boolean) => Kind::Bool,
        ["array"] => {
            let of_texts = schema.get("items").and_then(|items| items.get("type")).is_some_and(|t| t == "string");
            let one_line =
                |item: &Value| item.as_str().is_some_and(|t| !t.is_empty() && !t.contains(['\n', '\r']) && is_seen(t));
            let lines = value.is_none_or(|v| v.as_array().is_some_and(|items| items.iter().all(one_line)));
            if of_texts && lines { Kind::List } else { Kind::Json }
        }
        _ => Kind::Json,
    }
}

fn is_seen(text: &str) -> bool {
    !text.chars().any(|c| is_invisible(c) || (c.is_control() && !matches!(c, '\n' | '\r' | '\t')))
}

fn shown(kind: Kind, value: &Value) -> String {
    match (kind, value) {
        (Kind::Json, value) => visible_json(&serde_json::to_string_pretty(value).unwrap_or_default()),
        (_, Value::Null) => String::new(),
        (_, Value::String(text)) => text.clone(),
        (Kind::List, Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n"),
        (_, value) => value.to_string(),
    }
}

/// The arguments as JSON text: those of now, with what was changed in the form.
///
/// # Errors
/// A sentence about the first field that cannot be read.
pub fn arguments(schema: &Value, args: &Value, posted: &Fields) -> Result<String, String> {
    let mut changed: Map<String, Value> = args.as_object().cloned().unwrap_or_default();
    for field in fields(schema, args) {
        let Some(typed) = posted.get(&format!("arg.{}", field.name)) else { continue };
        let typed = lines(typed);
        if typed == lines(&field.value) {
            continue;
        }
        match read(&field, &typed)? {
            Some(value) => _ = changed.insert(field.name, value),
            None => _ = changed.remove(&field.name),
        }
    }
    Ok(Value::Object(changed).to_string())
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
        Kind::Whole => match typed.trim().parse::<i64>() {
            Ok(number) => Ok(Some(number.into())),
            Err(_) => Err(wrong("has to be a whole number")),
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({"type": "object", "additionalProperties": false, "required": ["to", "body", "count"], "properties": {
            "to": {"type": "string", "description": "Who."},
            "body": {"type": "string"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "count": {"type": "integer"},
            "ratio": {"type": ["number", "null"]},
            "urgent": {"type": "boolean"},
            "level": {"type": "string", "enum": ["low", "high"]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "extra": {"type": "object"},
        }})
    }

    fn args() -> Value {
        json!({"to": "ann", "body": "one\r\ntwo", "count": 3, "urgent": true, "level": "low", "tags": ["a", "b"],
               "extra": {"x": [1]}})
    }

    fn post(pairs: &[(&str, &str)]) -> Fields {
        Fields(pairs.iter().map(|(k, v)| (format!("arg.{k}"), (*v).to_owned())).collect())
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Value, String> {
        arguments(&schema(), &args(), &post(pairs)).map(|text| serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn each_kind_of_argument_has_a_field_that_shows_it() {
        let fields = fields(&schema(), &args());
        let short: Vec<_> = fields.iter().map(|f| (f.name.as_str(), f.kind, f.value.as_str())).collect();
        let mut wanted = vec![
            ("to", Kind::Text, "ann"),
            ("body", Kind::Long, "one\r\ntwo"),
            ("note", Kind::Text, ""),
            ("count", Kind::Whole, "3"),
            ("ratio", Kind::Number, ""),
            ("urgent", Kind::Bool, "true"),
            ("level", Kind::Choice, "low"),
            ("tags", Kind::List, "a\nb"),
            ("extra", Kind::Json, "{\n  \"x\": [\n    1\n  ]\n}"),
        ];
        wanted.sort_by_key(|(name, ..)| short.iter().position(|(n, ..)| n == name));
        assert_eq!(short, wanted);
    }

    #[test]
    fn what_nobody_touched_stays_as_it_was() {
        let untouched: Vec<(String, String)> = fields(&schema(), &args())
            .into_iter()
            .map(|f| (f.name, f.value.replace("\r\n", "\n").replace('\n', "\r\n")))
            .collect();
        let pairs: Vec<(&str, &str)> = untouched.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(read(&pairs), Ok(args()));
        assert_eq!(read(&[]), Ok(args()), "a field that was not posted");
    }

    #[test]
    fn changes_become_values_of_the_schemas_type() {
        let changed = read(&[
            ("to", "bob"),
            ("note", "now"),
            ("count", " 4 "),
            ("ratio", "1.5"),
            ("urgent", "false"),
            ("level", "high"),
            ("tags", "x y\r\n\r\nz"),
            ("extra", "{\"y\": null}"),
        ]);
        let wanted = json!({"to": "bob", "body": "one\r\ntwo", "note": "now", "count": 4, "ratio": 1.5, "urgent": false,
                            "level": "high", "tags": ["x y", "z"], "extra": {"y": null}});
        assert_eq!(changed, Ok(wanted));
    }

    #[test]
    fn an_emptied_optional_argument_is_left_out_and_a_needed_one_is_refused() {
        assert_eq!(read(&[("level", "")]).unwrap().get("level"), None);
        assert_eq!(read(&[("count", "")]), Err("`count` is needed, and was left empty".to_owned()));
        assert_eq!(read(&[("to", "")]).unwrap()["to"], "");
    }

    #[test]
    fn what_is_not_seen_is_edited_as_json() {
        let schema = json!({"properties": {"a": {"type": "string"}}});
        let field = &fields(&schema, &json!({"a": "x\u{202e}y"}))[0];
        assert_eq!((field.kind, field.value.as_str()), (Kind::Json, "\"x\\u202ey\""));
        let changed = arguments(&schema, &json!({"a": "x\u{202e}y"}), &post(&[("a", "\"z\"")]));
        assert_eq!(changed.as_deref(), Ok(r#"{"a":"z"}"#));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (name, typed) in [
            ("count", "4.5"),
            ("count", "1e3"),
            ("ratio", "\"x\""),
            ("urgent", "maybe"),
            ("extra", "{\"a\":1,\"a\":2}"),
        ] {
            let error = read(&[(name, typed)]).unwrap_err();
            assert!(error.starts_with(&format!("`{name}` ")), "{error}");
        }
    }
}

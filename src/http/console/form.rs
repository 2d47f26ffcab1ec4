//! The form for changed arguments, as a page posts it. The fields themselves are `platform::form`'s.

use serde_json::Value;

use super::door::Fields;
pub use crate::platform::form::{Field, fields};

/// The field with what was typed.
pub fn with(mut field: Field, posted: &Fields) -> Field {
    if let Some(typed) = posted.get(&format!("arg.{}", field.name)) {
        field.value = typed.to_owned();
    }
    field
}

/// The arguments as JSON text: those of now, with what was changed in the form.
///
/// # Errors
/// A sentence about the first field that cannot be read.
pub fn arguments(schema: &Value, args: &Value, posted: &Fields) -> Result<String, String> {
    let typed = |field: &Field| posted.get(&format!("arg.{}", field.name)).map(str::to_owned);
    let first = |wrong: Vec<(String, String)>| wrong.into_iter().next().map(|(_, why)| why).unwrap_or_default();
    crate::platform::form::arguments(schema, args, typed).map_err(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::form::Kind;
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
            ("body", Kind::Json, "\"one\\r\\ntwo\""),
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

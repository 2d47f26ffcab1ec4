//! Schemas of arguments: made from Rust types, and violations put into words for a model.
//!
//! What a schema cannot say (known services, allowed versions) is the tool's own [`super::Tool::check`].

use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::text;

/// Most violations that are reported at once; a model mends these and tries again.
const MAX_VIOLATIONS: usize = 3;

/// The schema of `T` in the dialect that all providers take: no `$ref`, `$defs`, `$schema`, `title` or
/// `format`, and objects with named members accept no others. A type that contains itself cannot be
/// written that way; [`super::Registry::new`] refuses what is left of it.
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().for_deserialize().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    tidy(&mut schema);
    schema
}

/// Walks schemas only, so that an argument that is called `title` stays.
fn tidy(schema: &mut Value) {
    let Some(object) = schema.as_object_mut() else { return };
    for noise in ["$schema", "title", "format"] {
        object.remove(noise);
    }
    if object.contains_key("properties") || object.get("type").is_some_and(|t| t == "object") {
        object.entry("additionalProperties").or_insert(Value::Bool(false));
    }
    for (keyword, value) in object.iter_mut() {
        match keyword.as_str() {
            "properties" | "patternProperties" => {
                value.as_object_mut().into_iter().flat_map(|members| members.values_mut()).for_each(tidy);
            }
            "items" | "additionalProperties" | "not" => tidy(value),
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
                value.as_array_mut().into_iter().flatten().for_each(tidy);
            }
            _ => {}
        }
    }
}

/// Compiles a schema. Nothing is fetched, and `format` asserts nothing.
pub(super) fn compile(schema: &Value) -> Result<jsonschema::Validator, String> {
    jsonschema::options()
        .offline()
        .should_validate_formats(false)
        .build(schema)
        .map_err(|e| text::one_line(&e.to_string(), text::MAX_QUOTE))
}

/// What is wrong with `args`, in words for a model; `None` if nothing is.
pub(super) fn violations(validator: &jsonschema::Validator, schema: &Value, args: &Value) -> Option<String> {
    let mut found: Vec<String> =
        validator.iter_errors(args).take(MAX_VIOLATIONS).map(|error| violation(&error, schema)).collect();
    found.dedup();
    if found.is_empty() { None } else { Some(found.join("; ")) }
}

fn violation(error: &ValidationError<'_>, schema: &Value) -> String {
    use ValidationErrorKind as Kind;
    let path = error.instance_path().as_str().trim_start_matches('/').replace('/', ".");
    let what = if path.is_empty() { "the arguments".to_owned() } else { format!("`{}`", text::one_line(&path, 60)) };
    let verb = if path.is_empty() { "have to" } else { "has to" };
    let given = || text::one_line(&error.instance().to_string(), 40);
    match error.kind() {
        Kind::AdditionalProperties { unexpected } => {
            let allowed: Vec<&str> = properties(schema, &path).collect();
            let name = unexpected.first().map_or("", String::as_str);
            let hint = text::did_you_mean(name, allowed.iter().copied());
            format!("unknown argument `{}`{hint} (allowed: {})", text::one_line(name, 40), text::list(allowed, 120))
        }
        Kind::Required { property } => {
            format!("`{}` is missing", property.as_str().unwrap_or_default())
        }
        Kind::Type { kind } => {
            let wanted = match kind {
                TypeKind::Single(one) => one.as_str().to_owned(),
                TypeKind::Multiple(several) => several.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(" or "),
            };
            format!("{what} {verb} be of type {wanted}, not {}", given())
        }
        Kind::Enum { options } => {
            let names: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            format!("{what} {verb} be one of {}, not {}", text::list(names, 160), given())
        }
        Kind::Minimum { limit } => format!("{what} {verb} be at least {limit}, not {}", given()),
        Kind::Maximum { limit } => format!("{what} {verb} be at most {limit}, not {}", given()),
        Kind::MinLength { limit } => format!("{what} {verb} have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("{what} {verb} have at most {limit} characters"),
        Kind::MinItems { limit } => format!("{what} {verb} have at least {limit} items"),
        Kind::MaxItems { limit } => format!("{what} {verb} have at most {limit} items"),
        Kind::Pattern { pattern } => format!("{what} {verb} match `{}`", text::one_line(pattern, 80)),
        // An optional argument is "this, or null": the first branch says what was wanted.
        Kind::AnyOf { context } | Kind::OneOfNotValid { context } => match context.first().and_then(|b| b.first()) {
            Some(inner) => violation(inner, schema),
            None => format!("{what} {verb} be something else, not {}", given()),
        },
        _ => format!("{what}: {}", text::one_line(&error.masked().to_string(), text::MAX_QUOTE)),
    }
}

/// The schema of the argument at a dotted path, as rules write it: items of a list are passed through.
pub(super) fn at<'a>(schema: &'a Value, path: &str) -> Option<&'a Value> {
    fn items(schema: &Value) -> &Value {
        schema.get("items").map_or(schema, items)
    }
    path.split('.')
        .filter(|key| key.parse::<usize>().is_err())
        .try_fold(items(schema), |schema, key| Some(items(schema.get("properties")?.get(key)?)))
}

/// Names of the arguments that the object at a dotted path accepts.
fn properties<'a>(schema: &'a Value, path: &str) -> impl Iterator<Item = &'a str> {
    let object = path.split('.').filter(|key| !key.is_empty()).try_fold(schema, |schema, key| {
        schema.get("properties").and_then(|p| p.get(key)).or_else(|| schema.get("items"))
    });
    object.and_then(|o| o.get("properties")).and_then(Value::as_object).into_iter().flatten().map(|(k, _)| k.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code)]
    struct Args {
        /// Which one.
        #[schemars(length(min = 1, max = 9))]
        title: String,
        level: Option<Level>,
        #[schemars(range(min = 1, max = 5))]
        count: Option<u32>,
        #[serde(default)]
        parts: Vec<Part>,
    }

    #[derive(Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Level {
        Low,
        High,
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code)]
    struct Part {
        size: u8,
    }

    #[test]
    fn a_schema_has_no_references_and_accepts_no_unnamed_member() {
        let schema = schema_of::<Args>();
        let text = schema.to_string();
        for noise in ["$ref", "$defs", "$schema", "\"format\""] {
            assert!(!text.contains(noise), "{noise} in {text}");
        }
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["properties"]["parts"]["items"]["additionalProperties"], json!(false));
        assert_eq!(schema["required"], json!(["title"]));
        assert_eq!(
            schema["properties"]["title"],
            json!({"description": "Which one.", "type": "string", "minLength": 1, "maxLength": 9}),
            "an argument that is called title is no noise"
        );
    }

    #[test]
    fn a_violation_names_the_argument_and_what_is_allowed() {
        let schema = schema_of::<Args>();
        let validator = compile(&schema).unwrap();
        let wrong = |args: Value| violations(&validator, &schema, &args);
        assert_eq!(wrong(json!({"title": "x", "level": null, "count": 5})), None);
        for (args, words) in [
            (json!({}), "`title` is missing"),
            (json!([]), "the arguments have to be of type object, not []"),
            (json!({"title": 7}), "`title` has to be of type string, not 7"),
            (json!({"title": ""}), "`title` has to have at least 1 characters"),
            (json!({"title": "x", "level": "hihg"}), "`level` has to be one of low, high, not \"hihg\""),
            (json!({"title": "x", "count": 6}), "`count` has to be at most 5, not 6"),
            (
                json!({"title": "x", "levle": "low"}),
                "unknown argument `levle`; did you mean `level`? (allowed: count, level, parts, title)",
            ),
            (
                json!({"title": "x", "parts": [{"size": 1, "sise": 1}]}),
                "unknown argument `sise`; did you mean `size`? (allowed: size)",
            ),
            (json!({"title": "x", "parts": [{"size": "1"}]}), "`parts.0.size` has to be of type integer, not \"1\""),
        ] {
            assert_eq!(wrong(args.clone()).as_deref(), Some(words), "{args}");
        }
    }

    #[test]
    fn a_schema_that_points_elsewhere_does_not_compile_and_fetches_nothing() {
        assert!(compile(&json!({"$ref": "http://127.0.0.1:9/schema.json"})).is_err());
    }

    #[test]
    fn formats_assert_nothing() {
        let schema = json!({"type": "string", "format": "ipv4"});
        assert!(compile(&schema).unwrap().is_valid(&json!("not an address")));
    }
}

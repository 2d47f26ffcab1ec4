//! One spelling for each value: what a rule sees, a card shows and a digest binds is what a tool acts on.
//!
//! Owns the kinds of arguments that can be written in more than one way ([`Kind`]) and a type for each of them
//! ([`Url`], [`FilePath`], [`MailAddress`], [`Host`], [`Service`], [`Environment`], [`Version`]). A type reads any
//! harmless spelling and holds the canonical one; a spelling that others could read in another way is refused with
//! the canonical form in the words. The type also declares its kind in the schema (`x-kind`), so a tool gets all of
//! this by using the type for an argument: [`super::Spec`] reads the arguments into it and writes them back.
//!
//! [`pattern`] checks that a rule's pattern can match a canonical value at all. What a service or an environment is
//! called stands in the settings, so the tools compare those names; nothing here reads settings.

mod host;
mod mail;
mod name;
mod path;
pub mod pattern;
mod url;

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

pub use name::{MAX_PLAIN, plain};
pub use path::{MAX_DEPTH, MAX_NAME, MAX_PATH};
pub use url::MAX_URL;

/// The keyword by which a schema declares the kind of an argument. Providers are not shown it.
pub const KEYWORD: &str = "x-kind";

/// Longest canonical form that a refusal repeats, in characters: the model has to be able to copy all of it.
const MAX_HINT: usize = 160;

/// What an argument is, as far as its spelling is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Url,
    Path,
    Mail,
    Host,
    Service,
    Environment,
    Version,
}

impl Kind {
    pub const ALL: [Kind; 7] =
        [Self::Url, Self::Path, Self::Mail, Self::Host, Self::Service, Self::Environment, Self::Version];

    /// The word in a schema.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Path => "path",
            Self::Mail => "mail",
            Self::Host => "host",
            Self::Service => "service",
            Self::Environment => "environment",
            Self::Version => "version",
        }
    }

    /// What the schema of an argument declares.
    pub fn of(schema: &Value) -> Option<Self> {
        let word = schema.get(KEYWORD)?.as_str()?;
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The canonical spelling of `written`. What is canonical stays as it is.
    ///
    /// # Errors
    /// Why it is refused, with the canonical form where there is one, for the model.
    pub fn canonical(self, written: &str) -> Result<String, String> {
        match self {
            Self::Url => url::canonical(written),
            Self::Path => path::canonical(written),
            Self::Mail => mail::canonical(written),
            Self::Host => host::canonical(written),
            Self::Service => name::canonical("service", written),
            Self::Environment => name::canonical("environment", written),
            Self::Version => name::canonical("version", written),
        }
    }

    /// A regular expression that every canonical value matches as a whole. It may match more.
    pub const fn shape(self) -> &'static str {
        match self {
            Self::Url => url::SHAPE,
            Self::Path => path::SHAPE,
            Self::Mail => mail::SHAPE,
            Self::Host => host::SHAPE,
            Self::Service | Self::Environment | Self::Version => name::SHAPE,
        }
    }

    /// What was probably meant by a text that stands in a pattern, which may be a part of a value only.
    fn meant(self, literal: &str) -> Option<String> {
        let meant = match self {
            Self::Url => url::meant(literal),
            Self::Path => path::meant(literal),
            Self::Mail => mail::meant(literal),
            Self::Host => host::meant(literal),
            Self::Service | Self::Environment | Self::Version => Some(literal.trim().to_owned()),
        };
        meant.filter(|meant| meant != literal && !meant.is_empty())
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $kind:ident, $min:literal to $max:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(written: String) -> Result<Self, String> {
                Kind::$kind.canonical(&written).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string", "minLength": $min, "maxLength": $max, "x-kind": Kind::$kind.word(),
                })
            }
        }
    )*};
}

kinds! {
    /// An `http` or `https` address without a name, password or fragment.
    Url: Url, 1 to MAX_URL;
    /// A file or directory below a directory that the reader knows, names separated by `/`; `.` is that directory.
    FilePath: Path, 0 to MAX_PATH;
    /// An address that mail goes to: `local@domain`, the domain in lower case. A name beside it is dropped.
    MailAddress: Mail, 3 to 450;
    /// A host: a name in lower case, an IPv4 address in dotted decimal, or an IPv6 address in brackets.
    Host: Host, 1 to 255;
    /// The name of a service.
    Service: Service, 1 to MAX_PLAIN;
    /// The name of an environment of a service.
    Environment: Environment, 1 to MAX_PLAIN;
    /// A version of a service.
    Version: Version, 1 to MAX_PLAIN;
}

impl Default for FilePath {
    /// The directory itself.
    fn default() -> Self {
        Self(".".to_owned())
    }
}

/// The one spelling of each number in a value: whole numbers have no fraction and no exponent.
///
/// `1.0`, `1e0` and `1` are one number to whoever receives them, so they are one text to a rule.
pub(super) fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(whole(&number).unwrap_or(number)),
        Value::Array(items) => items.into_iter().map(numbers).collect(),
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(key, member)| (key, numbers(member))).collect::<Map<_, _>>())
        }
        Value::Null | Value::Bool(_) | Value::String(_) => value,
    }
}

/// The integer that a floating-point number is, if it is one that fits into 64 bits.
fn whole(number: &Number) -> Option<Number> {
    /// 2^63 and 2^64: the first numbers that an `i64` and a `u64` cannot hold. Both are exact.
    const I64_END: f64 = 9_223_372_036_854_775_808.0;
    const U64_END: f64 = 18_446_744_073_709_551_616.0;
    if !number.is_f64() {
        return None;
    }
    let float = number.as_f64()?;
    match float {
        _ if float.fract() != 0.0 => None,
        // `-0.0` is no less than 0.
        _ if (0.0..U64_END).contains(&float) => Some(Number::from(float as u64)),
        _ if (-I64_END..0.0).contains(&float) => Some(Number::from(float as i64)),
        _ => None,
    }
}

/// The arguments with each text that the schema declares a kind of in its canonical form: for tools whose
/// arguments are described by a schema and have no type of their own.
///
/// # Errors
/// As [`Kind::canonical`], with the argument's name.
pub(super) fn declared(schema: &Value, args: &Value) -> Result<Value, String> {
    fn walk(schema: &Value, value: &Value, name: &str) -> Result<Value, String> {
        match value {
            Value::String(written) => match Kind::of(schema) {
                Some(kind) => Ok(Value::String(kind.canonical(written).map_err(|why| format!("`{name}`: {why}"))?)),
                None => Ok(value.clone()),
            },
            Value::Array(items) => {
                let inner = schema.get("items").unwrap_or(&Value::Null);
                items.iter().map(|item| walk(inner, item, name)).collect()
            }
            Value::Object(members) => {
                let member = |(key, member): (&String, &Value)| {
                    let inner = schema.get("properties").and_then(|p| p.get(key)).unwrap_or(&Value::Null);
                    Ok((key.clone(), walk(inner, member, key)?))
                };
                members.iter().map(member).collect::<Result<Map<_, _>, String>>().map(Value::Object)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(value.clone()),
        }
    }
    walk(schema, args, "")
}

/// Takes the keyword out of a schema, for providers.
pub(super) fn undeclared(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let kept = members.iter().filter(|(key, value)| *key != KEYWORD || !value.is_string());
            Value::Object(kept.map(|(key, value)| (key.clone(), undeclared(value))).collect())
        }
        Value::Array(items) => items.iter().map(undeclared).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => schema.clone(),
    }
}

/// A refusal with the form to write instead, where that is known and short enough to be copied.
fn refused(why: impl fmt::Display, instead: Option<String>) -> String {
    match instead.filter(|form| form.chars().count() <= MAX_HINT) {
        Some(form) => format!("{why}; write `{form}`"),
        None => why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_number_has_one_spelling() {
        let read = |text: &str| numbers(crate::agent::json::parse(text).unwrap()).to_string();
        for (text, canonical) in [
            ("1.0", "1"),
            ("1e0", "1"),
            ("10E-1", "1"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("0e5", "0"),
            ("-2.0", "-2"),
            ("1e19", "10000000000000000000"),
            ("-4e18", "-4000000000000000000"),
            ("1.5", "1.5"),
            ("15e-1", "1.5"),
            ("18446744073709551615", "18446744073709551615"),
            (r#"{"a":[1.0,{"b":2e0}]}"#, r#"{"a":[1,{"b":2}]}"#),
        ] {
            assert_eq!(read(text), canonical, "{text}");
        }
    }

    #[test]
    fn a_tool_that_is_only_described_gets_the_canonical_form_by_declaring_the_kind() {
        let schema = json!({"properties": {
            "to": {"type": "array", "items": {"type": "string", "x-kind": "mail"}},
            "at": {"properties": {"url": {"type": "string", "x-kind": "url"}}},
            "x-kind": {"type": "string"},
        }});
        let args = json!({"to": ["Ada <ada@EXAMPLE.com>"], "at": {"url": "HTTP://X.example/./a"}, "x-kind": "HTTP"});
        let canonical = json!({"to": ["ada@example.com"], "at": {"url": "http://x.example/a"}, "x-kind": "HTTP"});
        assert_eq!(declared(&schema, &args), Ok(canonical));
        let refused = declared(&schema, &json!({"at": {"url": "http:x"}})).unwrap_err();
        assert!(refused.starts_with("`url`: "), "{refused}");
        let shown = undeclared(&schema);
        assert_eq!(shown["properties"]["to"]["items"], json!({"type": "string"}));
        assert!(shown["properties"]["x-kind"].is_object(), "an argument of that name is no keyword");
    }
}

//! JSON that can be trusted: strict parsing and one canonical text.
//!
//! A digest binds an approval to exact arguments, so two readers of the same text must see the same
//! value. [`parse`] therefore refuses what parsers disagree about: duplicate keys, and numbers that
//! would change when they are written out again. [`canonical`] is the one text of a value.

use serde::de::{Deserializer as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// Deepest nesting that is read. Providers' own validators stop near 100; people's arguments near 5.
pub const MAX_DEPTH: usize = 64;

/// Why a text is not accepted as JSON. Short enough to hand back to a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("not valid JSON: {0}")]
    Syntax(String),
    #[error("the key `{0}` occurs twice in one object")]
    DuplicateKey(String),
    #[error("the number {0} cannot be represented exactly; send it as a string")]
    InexactNumber(String),
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// Parses `text`, refusing duplicate keys, numbers that do not round-trip, and deep nesting.
pub fn parse(text: &str) -> Result<Value, JsonError> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|e| JsonError::Syntax(e.to_string()))?;
    value(raw, 0)
}

fn value(raw: &RawValue, depth: usize) -> Result<Value, JsonError> {
    if depth > MAX_DEPTH {
        return Err(JsonError::TooDeep);
    }
    let text = raw.get();
    let syntax = |e: serde_json::Error| JsonError::Syntax(e.to_string());
    let mut reader = serde_json::Deserializer::from_str(text);
    match text.as_bytes().first() {
        Some(b'{') => {
            let mut object = Map::new();
            for (key, member) in reader.deserialize_map(Members).map_err(syntax)? {
                if object.contains_key(&key) {
                    return Err(JsonError::DuplicateKey(key.chars().take(60).collect()));
                }
                object.insert(key, value(member, depth + 1)?);
            }
            Ok(Value::Object(object))
        }
        Some(b'[') => {
            let items = reader.deserialize_seq(Items).map_err(syntax)?;
            items.into_iter().map(|item| value(item, depth + 1)).collect::<Result<_, _>>().map(Value::Array)
        }
        Some(b'-' | b'0'..=b'9') => {
            let number: Number = serde_json::from_str(text).map_err(syntax)?;
            if decimal(text) == decimal(&number.to_string()) {
                Ok(Value::Number(number))
            } else {
                Err(JsonError::InexactNumber(text.chars().take(40).collect()))
            }
        }
        _ => serde_json::from_str(text).map_err(syntax),
    }
}

/// A decimal as (negative, digits without leading or trailing zeros, exponent of the last digit).
fn decimal(text: &str) -> (bool, String, i64) {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_end_matches('0');
    let exponent = exponent
        .parse::<i64>()
        .unwrap_or(i64::MAX)
        .saturating_sub(fraction.len() as i64)
        .saturating_add((digits.len() - trimmed.len()) as i64);
    let significant = trimmed.trim_start_matches('0').to_owned();
    if significant.is_empty() { (negative, significant, 0) } else { (negative, significant, exponent) }
}

struct Members;
impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;
    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

struct Items;
impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;
    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("an array")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}

/// The one text of a value: keys sorted by code point, no white space, serde_json's number and string
/// forms. It does not depend on how a `Map` orders its keys.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write_canonical(value, &mut out);
    out
}

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().collect();
            members.sort_by_key(|(key, _)| key.as_str());
            out.push('{');
            for (i, (key, member)) in members.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::String(key.clone()).to_string());
                out.push(':');
                write_canonical(member, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(item, out);
            }
            out.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ordinary_json_is_read_as_usual() {
        let text = r#" {"a":[1,-2.50,1e3,0.0,-0,"x\u00e9",true,null,{}],"b":{"c":18446744073709551615}} "#;
        assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_duplicate_key_is_refused_wherever_it_is_and_however_it_is_spelled() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"\u0061":2}]}"#] {
            assert_eq!(parse(text), Err(JsonError::DuplicateKey("a".into())));
        }
    }

    #[test]
    fn a_number_that_would_change_is_refused() {
        for text in [
            "18446744073709551616",
            "12345678901234567890123",
            "0.1000000000000000055511151231257827",
            "1e400",
            "[9007199254740993.5]",
        ] {
            assert!(matches!(parse(text), Err(JsonError::InexactNumber(_) | JsonError::Syntax(_))), "{text}");
        }
        for text in ["0.1", "1.0", "100", "1e2", "-12.50e-3", "9007199254740993", "5e-324"] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_not_overflowed() {
        let text = format!("{}{}", "[".repeat(100), "]".repeat(100));
        assert!(matches!(parse(&text), Err(JsonError::TooDeep | JsonError::Syntax(_))));
        let text = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(&text).is_err());
    }

    #[test]
    fn the_canonical_text_ignores_key_order_and_white_space() {
        let a = parse(r#"{"b":[1,{"y":2,"x":"é\n"}],"a":null}"#).unwrap();
        let b = parse(r#"{ "a" : null, "b":[ 1, {"x":"é\n","y":2} ] }"#).unwrap();
        assert_eq!(canonical(&a), canonical(&b));
        assert_eq!(canonical(&a), r#"{"a":null,"b":[1,{"x":"é\n","y":2}]}"#);
        assert_ne!(canonical(&json!({"a": 1})), canonical(&json!({"a": 1.0})));
    }
}

//! JSON that can be trusted: strict parsing and one canonical text.
//!
//! A digest binds an approval to exact arguments, so two readers of the same text must see the same
//! value. [`parse`] therefore refuses what parsers disagree about: duplicate keys, and numbers that
//! would change when they are written out again. [`canonical`] is the one text of a value.

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

/// Parses `text`, refusing duplicate keys, numbers that do not round-trip, and deep nesting. Reads each byte a
/// bounded number of times, however deep it lies.
pub fn parse(text: &str) -> Result<Value, JsonError> {
    read(text).0
}

/// The value, and the number of bytes that were looked at to find it.
fn read(text: &str) -> (Result<Value, JsonError>, usize) {
    // The grammar, without recursion: what follows only has to find where things begin and end.
    let raw: &RawValue = match serde_json::from_str(text) {
        Ok(raw) => raw,
        Err(e) => return (Err(syntax(e)), text.len()),
    };
    let mut reader = Reader { rest: raw.get(), looked_at: text.len() };
    let value = reader.value(0);
    (value, reader.looked_at)
}

fn syntax(e: serde_json::Error) -> JsonError {
    JsonError::Syntax(e.to_string())
}

/// What is left of a text that is known to be JSON. It only ever goes forward.
struct Reader<'t> {
    rest: &'t str,
    looked_at: usize,
}

impl<'t> Reader<'t> {
    /// The next `n` bytes, which are then behind.
    fn take(&mut self, n: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(n).unwrap_or((self.rest, ""));
        self.looked_at += taken.len();
        self.rest = rest;
        taken
    }

    /// Everything up to the first byte that `ends` is true of.
    fn take_until(&mut self, ends: impl Fn(u8) -> bool) -> &'t str {
        let n = self.rest.bytes().position(ends).unwrap_or(self.rest.len());
        self.take(n)
    }

    /// The first byte after white space, which stays; 0 at the end.
    fn peek(&mut self) -> u8 {
        self.take_until(|b| !matches!(b, b' ' | b'\t' | b'\n' | b'\r'));
        self.rest.bytes().next().unwrap_or(0)
    }

    /// Whether the next thing is this sign; then it is behind.
    fn skip(&mut self, sign: u8) -> bool {
        let is_next = self.peek() == sign;
        if is_next {
            self.take(1);
        }
        is_next
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        match self.peek() {
            b'{' => self.object(depth).map(Value::Object),
            b'[' => self.array(depth).map(Value::Array),
            b'"' => self.string().map(Value::String),
            b'-' | b'0'..=b'9' => self.number().map(Value::Number),
            _ => serde_json::from_str(self.take_until(|b| !b.is_ascii_alphabetic())).map_err(syntax),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Map<String, Value>, JsonError> {
        let mut object = Map::new();
        self.skip(b'{');
        while self.peek() == b'"' {
            let key = self.string()?;
            if object.contains_key(&key) {
                return Err(JsonError::DuplicateKey(key.chars().take(60).collect()));
            }
            self.skip(b':');
            let member = self.value(depth + 1)?;
            object.insert(key, member);
            self.skip(b',');
        }
        self.skip(b'}');
        Ok(object)
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Value>, JsonError> {
        let mut items = Vec::new();
        self.skip(b'[');
        while !matches!(self.peek(), b']' | 0) {
            items.push(self.value(depth + 1)?);
            self.skip(b',');
        }
        self.skip(b']');
        Ok(items)
    }

    fn string(&mut self) -> Result<String, JsonError> {
        let mut escaped = false;
        let closing = self.rest.bytes().skip(1).position(|b| {
            let closes = b == b'"' && !escaped;
            escaped = b == b'\\' && !escaped;
            closes
        });
        // The quotes on both sides.
        let text = self.take(closing.map_or(self.rest.len(), |n| n + 2));
        serde_json::from_str(text).map_err(syntax)
    }

    fn number(&mut self) -> Result<Number, JsonError> {
        let text = self.take_until(|b| !matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
        let number: Number = serde_json::from_str(text).map_err(syntax)?;
        if decimal(text) == decimal(&number.to_string()) {
            Ok(number)
        } else {
            Err(JsonError::InexactNumber(text.chars().take(40).collect()))
        }
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

    /// Counted, not timed: 63 levels around a megabyte once cost 63 times what one level costs.
    #[test]
    fn the_work_grows_with_the_text_and_not_with_how_deep_it_lies() {
        let long = "x".repeat(1 << 17);
        let inner = [
            format!("\"{long}\""),
            format!("\"{}\"", "\\\\".repeat(1 << 16)),
            format!("[{}0]", "0, ".repeat(1 << 15)),
            format!("{{\"{long}\":1}}"),
            format!("[{}0]", " ".repeat(1 << 17)),
            format!("[{}]", (0..8_000).map(|n| format!("{{\"k{n}\":[1.5,true]}}")).collect::<Vec<_>>().join(",")),
        ];
        for inner in inner {
            for (open, close) in [("[", "]"), ("{\"a\": ", "}"), ("[[],", "]")] {
                let levels = MAX_DEPTH - 3;
                let text = format!("{}{inner}{}", open.repeat(levels), close.repeat(levels));
                let (value, looked_at) = read(&text);
                assert_eq!(value.unwrap(), serde_json::from_str::<Value>(&text).unwrap());
                assert!(looked_at <= 2 * text.len(), "{looked_at} for {} bytes", text.len());
            }
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
    fn the_strict_reading_agrees_with_serde_wherever_it_reads() {
        for text in [
            "null",
            " true ",
            "false",
            "0",
            "-1.5e2",
            "\"\"",
            r#""\\""#,
            r#""\\\"""#,
            r#""a\"b\\\u005c\n😀""#,
            "[]",
            "{}",
            "[ ]",
            "{ }",
            "[[],{},[{}]]",
            r#"{"":{"":[]}}"#,
            "[1,2 , 3]",
            "\t\n\r[\n]",
            r#"{"a]}":"{[,:","b":"]"}"#,
        ] {
            assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
        for text in [
            "",
            " ",
            "[",
            "[1",
            "[1,]",
            "{\"a\"}",
            "{\"a\":1,}",
            "nul",
            "01",
            "1 2",
            "\"\u{1}\"",
            r#""\ud800""#,
            r#""\x""#,
        ] {
            assert!(matches!(parse(text), Err(JsonError::Syntax(_))), "{text}");
        }
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

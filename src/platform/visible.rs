//! Foreign text that cannot pretend: what is not seen, or reorders what is, is written out.

use std::fmt::Write as _;

use serde_json::Value;

/// Characters that change the order of others, break lines, or are not seen.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One line: line ends are written out like everything else that is not seen.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\t' {
            out.push_str("    ");
        } else if c.is_control() || is_invisible(c) {
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Text in which line ends stay.
pub fn visible(text: &str) -> String {
    text.split('\n').map(|line| harmless(line.strip_suffix('\r').unwrap_or(line))).collect::<Vec<_>>().join("\n")
}

/// JSON in which what is not seen is written as JSON writes it; line ends and spaces between values stay.
pub fn visible_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if (c.is_control() && c != '\n') || is_invisible(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// A value as people read it: text as it is, unless it could be taken for another value; all else as JSON.
pub fn spelled(value: &Value) -> String {
    match value {
        Value::String(text)
            if !text.is_empty() && text.trim() == text && serde_json::from_str::<Value>(text).is_err() =>
        {
            visible(text)
        }
        value => visible_json(&serde_json::to_string_pretty(value).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {

    #[test]
    fn two_different_values_are_spelled_differently() {
        let values =
            ["5", "\"5\"", "\" a\"", "\"a\"", "\"\"", "null", "\"null\"", "\"a\\u202eb\"", "\"a\\nb\"", "[\"a\"]"];
        let spelled: Vec<String> =
            values.iter().map(|json| super::spelled(&serde_json::from_str(json).unwrap())).collect();
        assert_eq!(
            spelled,
            ["5", "\"5\"", "\" a\"", "a", "\"\"", "null", "\"null\"", "a\\u{202e}b", "a\nb", "[\n  \"a\"\n]"]
        );
    }
}

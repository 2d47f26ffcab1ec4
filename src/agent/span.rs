//! Lengths of time as people write them in settings (`90s`, `2h 30m`), held as milliseconds.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Reads `250ms`, `20s`, `2h 30m`, `7d`. A bare number is refused: its unit would be a guess.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = |why: String| format!("`{text}` is not a length of time such as `90s` or `2h 30m` ({why})");
    // A day is 24 hours here: limits and expiry do not follow clock changes.
    let span: jiff::Span = text.parse().map_err(|e: jiff::Error| wrong(e.to_string()))?;
    let ms = span
        .total((jiff::Unit::Millisecond, jiff::SpanRelativeTo::days_are_24_hours()))
        .map_err(|e| wrong(e.to_string()))?;
    if ms < 0.0 { Err(wrong("it is negative".to_owned())) } else { Ok(ms.round() as u64) }
}

/// The shortest way to write it with at most two units: `2h 30m`, `41s`, `250ms`.
pub fn show(ms: u64) -> String {
    let (s, m, h, d) = (1_000, 60_000, 3_600_000, 86_400_000);
    let two = |big: u64, name: &str, small: u64, small_name: &str| match ms % big / small {
        0 => format!("{}{name}", ms / big),
        rest => format!("{}{name} {rest}{small_name}", ms / big),
    };
    match ms {
        _ if ms >= d => two(d, "d", h, "h"),
        _ if ms >= h => two(h, "h", m, "m"),
        _ if ms >= m => two(m, "m", s, "s"),
        _ if ms >= s => format!("{}s", ms / s),
        _ => format!("{ms}ms"),
    }
}

pub fn serialize<S: Serializer>(ms: &u64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&show(*ms))
}

pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u64, D::Error> {
    parse(&String::deserialize(d)?).map_err(D::Error::custom)
}

/// The same for a setting that may be absent.
pub mod option {
    use super::*;

    pub fn serialize<S: Serializer>(ms: &Option<u64>, s: S) -> Result<S::Ok, S::Error> {
        match ms {
            Some(ms) => super::serialize(ms, s),
            None => s.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u64>, D::Error> {
        Option::<String>::deserialize(d)?.map(|text| parse(&text)).transpose().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read_as_written() {
        for (text, ms) in [("250ms", 250), ("20s", 20_000), ("2h 30m", 9_000_000), ("7d", 604_800_000), ("0s", 0)] {
            assert_eq!(parse(text), Ok(ms), "{text}");
            assert_eq!(parse(&show(ms)), Ok(ms), "{text}");
        }
        for bad in ["", "20", "-3s", "soon"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

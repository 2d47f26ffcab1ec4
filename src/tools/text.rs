//! Bounds on text that tools hand on: cutting, cleaning, and naming the nearest known word.
//!
//! Whatever comes from outside (a response, a child process, a model) passes through here before it
//! reaches a log, a card or a model.

/// Longest text of a result in bytes, marker included: about 4,000 tokens, a tenth of a small model's window.
pub const MAX_OUTPUT: usize = 16 * 1024;

/// Longest text of an error in bytes: enough for a reason and the last lines of a command.
pub const MAX_ERROR: usize = 2 * 1024;

/// Longest line that is quoted from outside, in characters.
pub(super) const MAX_QUOTE: usize = 120;

/// `text` if it fits into `max` bytes, else its head and its tail with the number of bytes left out
/// between them. Errors and totals stand at the end of an output, its meaning at the beginning.
pub(super) fn cap(text: String, max: usize) -> String {
    /// Room for the marker with the longest possible number.
    const MARKER: usize = 48;
    if text.len() <= max {
        return text;
    }
    let half = max.saturating_sub(MARKER) / 2;
    let head_end = text.floor_char_boundary(half);
    let tail_start = text.ceil_char_boundary(text.len() - half);
    let (head, tail) = (text.get(..head_end).unwrap_or(""), text.get(tail_start..).unwrap_or(""));
    format!("{head}\n… {} more bytes …\n{tail}", text.len() - head.len() - tail.len())
}

/// At most `max` characters of `text`, the last of them `…` if something was cut.
pub(super) fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// Without characters that steer a terminal or reorder what a person reads. Line ends and tabs stay.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .filter(|&c| matches!(c, '\n' | '\t') || !(c.is_control() || crate::agent::visible::reorders(c)))
        .collect()
}

/// All of `text` on one clean line of at most `max` characters.
pub(super) fn one_line(text: &str, max: usize) -> String {
    cut(&clean(text).split_whitespace().collect::<Vec<_>>().join(" "), max)
}

/// The first line of `text` that is not blank, clean and short enough to quote.
pub(super) fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).map_or(String::new(), |line| one_line(line, MAX_QUOTE))
}

/// `; did you mean `x`?` if one of `known` is close to `given`, else nothing.
pub(super) fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    /// Jaro-Winkler similarity from which a suggestion helps more than it misleads (tried on the names here).
    const CLOSE: f64 = 0.75;
    let given: String = given.chars().take(64).collect();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&given, name), name))
        .filter(|(score, _)| *score >= CLOSE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or(String::new(), |(_, name)| format!("; did you mean `{name}`?"))
}

/// `a, b, c`, cut to `max` characters; `none` if there are none.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>, max: usize) -> String {
    let joined = names.into_iter().collect::<Vec<_>>().join(", ");
    if joined.is_empty() { "none".to_owned() } else { cut(&joined, max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_keeps_its_head_and_its_tail_and_says_how_much_is_missing() {
        let text = format!("first {} last", "x".repeat(100_000));
        let capped = cap(text.clone(), MAX_OUTPUT);
        assert!(capped.len() <= MAX_OUTPUT);
        assert!(capped.starts_with("first x") && capped.ends_with("x last"));
        let missing = text.len() - (capped.len() - "\n… 83669 more bytes …\n".len());
        assert!(capped.contains(&format!("\n… {missing} more bytes …\n")), "{missing}");
    }

    #[test]
    fn a_text_is_never_cut_inside_a_character() {
        for shift in 0..4 {
            let text = format!("{}{}", "x".repeat(shift), "🦀é".repeat(10_000));
            let capped = cap(text, MAX_OUTPUT);
            assert!(capped.len() <= MAX_OUTPUT && capped.contains("more bytes"));
        }
        assert_eq!(cap("é".repeat(8 * 1024), MAX_OUTPUT).len(), MAX_OUTPUT, "exactly at the cap nothing is cut");
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }

    #[test]
    fn what_steers_a_terminal_or_the_reading_order_is_dropped() {
        assert_eq!(clean("a\u{1b}[31mb\u{0}\u{202e}c\r\nd\te"), "a[31mbc\nd\te");
        assert_eq!(first_line("\n \r\n  HTTP\u{7} works  \nno"), "HTTP works");
    }

    #[test]
    fn a_near_miss_is_named_and_a_far_one_is_not() {
        let known = ["deploy_service", "check_service_status", "sleep"];
        assert_eq!(did_you_mean("deploy", known), "; did you mean `deploy_service`?");
        assert_eq!(did_you_mean("zzz", known), "");
    }
}

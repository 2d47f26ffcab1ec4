//! Whether a rule's pattern can match a canonical value at all: one that cannot would fall silent.
//!
//! Decided, not guessed: the pattern and the shape of the kind ([`Kind::shape`]) become automata, and if no text is
//! in both, the pattern never matches. Each branch of an alternation has to be alive by itself, and the pattern is
//! also read with its single dots taken for dots, since `./secrets/.*` is meant that way. A part that may be left out
//! (`(\./)?`) may be dead. Patterns that are too large for that, and look-around, are taken for good.

use std::collections::HashSet;

use regex_automata::dfa::{Automaton, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::{Anchored, MatchKind};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Capture, Class, Hir, HirKind, Repetition};

use super::Kind;

/// Bounds of one automaton, in bytes, and of the pairs of states that are looked at: a pattern of ordinary length
/// needs a few hundred kilobytes and some thousand pairs.
const MAX_AUTOMATON: usize = 4 * 1024 * 1024;
const MAX_PAIRS: usize = 200_000;

/// Most branches of a pattern that are looked at, one automaton each.
const MAX_BRANCHES: usize = 64;

/// What an argument can be, as far as a pattern is concerned.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Anything of this kind.
    Kind(Kind),
    /// One of these, which are called `what`: names out of the settings, or the words of an enumeration.
    Known { what: &'static str, names: Vec<String> },
}

/// What is wrong with a pattern that has to match the whole of such a value; `None` if nothing is.
pub fn problem(pattern: &str, values: &Values) -> Option<String> {
    let hir = read(pattern)?;
    match values {
        Values::Kind(kind) => dead(pattern, &hir, *kind),
        Values::Known { what, names } => unknown(pattern, &hir, what, names),
    }
}

/// As [`crate::agent::Pattern`] reads it.
fn read(pattern: &str) -> Option<Hir> {
    ParserBuilder::new().dot_matches_new_line(true).build().parse(pattern).ok()
}

fn dead(pattern: &str, hir: &Hir, kind: Kind) -> Option<String> {
    let shape = automaton(&read(kind.shape())?)?;
    let dotted = dots(hir);
    let mut all = branches(hir).into_iter().chain(branches(&dotted)).chain(midway(&dotted, kind));
    let dead = all.find(|branch| automaton(branch).is_some_and(|branch| disjoint(&branch, &shape)))?;
    let literal = literal(&dots(&dead));
    let meant = literal.as_ref().and_then(|(text, whole)| {
        let canonical = if *whole { kind.canonical(text).ok().filter(|form| form != text) } else { None };
        canonical.or_else(|| kind.meant(text))
    });
    let word = kind.word();
    let quoted = super::super::text::cut(pattern, 80);
    let never = format!("no {word} is ever written as `{quoted}` has it, so it would never match");
    Some(match (literal, meant) {
        (Some((text, _)), Some(meant)) => format!("{never}; the canonical form of `{text}` is `{meant}`"),
        (Some((text, _)), None) => format!("{never}; nothing that is canonical looks like `{text}`"),
        (None, _) => format!("{never}; the canonical form of a {word} is described in docs/agents.md"),
    })
}

/// Names are compared as they are: the settings say what there is.
fn unknown(pattern: &str, hir: &Hir, what: &str, names: &[String]) -> Option<String> {
    let matches = |hir: &Hir, flags: &str| {
        let regex = regex::Regex::new(&format!("^(?s{flags}:{hir})$")).ok();
        move |name: &&String| regex.as_ref().is_none_or(|regex| regex.is_match(name.trim()))
    };
    let quoted = super::super::text::cut(pattern, 80);
    for branch in branches(hir) {
        // Another branch may name what is not there yet; one in another case is a slip.
        if names.iter().any(|name| matches(&branch, "")(&name)) {
            continue;
        }
        if let Some(name) = names.iter().find(matches(&branch, "i")) {
            return Some(format!("`{quoted}` would never match; the canonical form of this {what} is `{name}`"));
        }
        if let Some((text, true)) = literal(&branch)
            && let Some(name) = names.iter().find(|name| name.as_str() == text.trim())
        {
            return Some(format!("`{quoted}` would never match; the canonical form of this {what} is `{name}`"));
        }
    }
    if names.iter().any(|name| matches(hir, "")(&name)) {
        return None;
    }
    let known = super::super::text::list(names.iter().map(String::as_str), 160);
    let hint = super::super::text::did_you_mean(pattern, names.iter().map(String::as_str));
    Some(format!("`{quoted}` matches no {what}, so it would never match{hint} (known: {known})"))
}

/// The pattern once for each branch of each alternation in it, with that branch in the alternation's place.
fn branches(hir: &Hir) -> Vec<Hir> {
    let mut found = Vec::new();
    match hir.kind() {
        HirKind::Alternation(subs) => found.extend(subs.iter().flat_map(branches)),
        HirKind::Concat(subs) => {
            for (at, sub) in subs.iter().enumerate() {
                let inner = branches(sub);
                if inner.len() > 1 {
                    found.extend(inner.into_iter().map(|branch| {
                        let mut subs = subs.clone();
                        if let Some(place) = subs.get_mut(at) {
                            *place = branch;
                        }
                        Hir::concat(subs)
                    }));
                }
            }
        }
        HirKind::Capture(Capture { sub, .. }) => found.extend(branches(sub)),
        // What may be left out, or come in any mixture.
        HirKind::Repetition(_) | HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => {}
    }
    if found.is_empty() {
        found.push(hir.clone());
    }
    found.truncate(MAX_BRANCHES);
    found
}

/// The pattern with each single "any character" as a dot.
fn dots(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Class(Class::Unicode(class))
            if class.ranges().first().is_some_and(|r| r.start() == '\0')
                && class.ranges().last().is_some_and(|r| r.end() == char::MAX) =>
        {
            Hir::literal(*b".")
        }
        HirKind::Concat(subs) => Hir::concat(subs.iter().map(dots).collect()),
        HirKind::Alternation(subs) => Hir::alternation(subs.iter().map(dots).collect()),
        HirKind::Capture(capture) => dots(&capture.sub),
        HirKind::Repetition(_) | HirKind::Class(_) | HirKind::Empty | HirKind::Literal(_) | HirKind::Look(_) => {
            hir.clone()
        }
    }
}

/// What follows a wildcard in a pattern for addresses and begins like one (`.*//API\.example\.com/.*`): it is meant
/// for the host, though it could also stand in a query.
fn midway(hir: &Hir, kind: Kind) -> Option<Hir> {
    let (HirKind::Concat(subs), Kind::Url) = (hir.kind(), kind) else { return None };
    let begins = |sub: &Hir| match sub.kind() {
        HirKind::Literal(literal) => {
            ["//", "://", "http://", "https://"].iter().any(|start| literal.0.starts_with(start.as_bytes()))
        }
        _ => false,
    };
    let at = subs.iter().position(begins).filter(|at| *at > 0)?;
    let before = read("(?:https?)?:?")?;
    Some(Hir::concat(std::iter::once(before).chain(subs.iter().skip(at).cloned()).collect()))
}

/// The text that a pattern begins with, or the first one in it, and whether it is all of the pattern.
fn literal(hir: &Hir) -> Option<(String, bool)> {
    let text = |hir: &Hir| match hir.kind() {
        HirKind::Literal(literal) => String::from_utf8(literal.0.to_vec()).ok(),
        _ => None,
    };
    match hir.kind() {
        HirKind::Literal(_) => text(hir).map(|text| (text, true)),
        HirKind::Concat(subs) => subs.iter().filter_map(|sub| Some((literal(sub)?.0, false))).next(),
        HirKind::Capture(capture) => literal(&capture.sub),
        HirKind::Repetition(Repetition { sub, min: 1.., .. }) => literal(sub).map(|(text, _)| (text, false)),
        HirKind::Repetition(_) | HirKind::Alternation(_) | HirKind::Class(_) | HirKind::Empty | HirKind::Look(_) => {
            None
        }
    }
}

/// The automaton of a pattern that has to match from the first to the last character. Look-around counts as met.
fn automaton(hir: &Hir) -> Option<dense::DFA<Vec<u32>>> {
    fn blind(hir: &Hir) -> Hir {
        match hir.kind() {
            HirKind::Look(_) => Hir::empty(),
            HirKind::Concat(subs) => Hir::concat(subs.iter().map(blind).collect()),
            HirKind::Alternation(subs) => Hir::alternation(subs.iter().map(blind).collect()),
            HirKind::Capture(capture) => blind(&capture.sub),
            HirKind::Repetition(repetition) => Hir::repetition(repetition.with(blind(&repetition.sub))),
            HirKind::Class(_) | HirKind::Empty | HirKind::Literal(_) => hir.clone(),
        }
    }
    let nfa = thompson::Compiler::new()
        .configure(thompson::Config::new().nfa_size_limit(Some(MAX_AUTOMATON)))
        .build_from_hir(&blind(hir))
        .ok()?;
    let config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(regex_automata::dfa::StartKind::Anchored)
        .accelerate(false)
        .dfa_size_limit(Some(MAX_AUTOMATON))
        .determinize_size_limit(Some(MAX_AUTOMATON));
    dense::Builder::new().configure(config).build_from_nfa(&nfa).ok()
}

/// Whether no text is matched by both. One that could not be decided counts as one that is.
fn disjoint(a: &dense::DFA<Vec<u32>>, b: &dense::DFA<Vec<u32>>) -> bool {
    let config = start::Config::new().anchored(Anchored::Yes);
    let (Ok(first_a), Ok(first_b)) = (a.start_state(&config), b.start_state(&config)) else { return false };
    // One byte of each pair of classes stands for all of them.
    let mut classes = HashSet::new();
    let bytes: Vec<u8> =
        (0..=u8::MAX).filter(|b_| classes.insert((a.byte_classes().get(*b_), b.byte_classes().get(*b_)))).collect();
    let mut seen: HashSet<(StateID, StateID)> = HashSet::from([(first_a, first_b)]);
    let mut left = vec![(first_a, first_b)];
    while let Some((in_a, in_b)) = left.pop() {
        if a.is_match_state(a.next_eoi_state(in_a)) && b.is_match_state(b.next_eoi_state(in_b)) {
            return false;
        }
        for byte in &bytes {
            let next = (a.next_state(in_a, *byte), b.next_state(in_b, *byte));
            if a.is_quit_state(next.0) || seen.len() > MAX_PAIRS {
                return false;
            }
            if !a.is_dead_state(next.0) && !b.is_dead_state(next.1) && seen.insert(next) {
                left.push(next);
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: Kind, pattern: &str) -> Option<String> {
        problem(pattern, &Values::Kind(kind))
    }

    #[test]
    fn a_pattern_that_no_canonical_value_can_match_is_told_with_the_canonical_form() {
        for (kind, pattern, meant) in [
            (Kind::Url, r"https://API\.example\.com/.*", "https://api.example.com/"),
            (Kind::Url, "https://API.example.com/.*", "https://api.example.com/"),
            (Kind::Url, r"HTTPS://api\.example\.com/.*", "https://api.example.com/"),
            (Kind::Url, r"https://api\.example\.com\./.*", "https://api.example.com/"),
            (Kind::Url, r"https://api\.example\.com:443/.*", "https://api.example.com/"),
            (Kind::Url, r"http://api\.example\.com:080/.*", "http://api.example.com/"),
            (Kind::Url, r"https://api\.example\.com", "https://api.example.com/"),
            (Kind::Url, r"https://api\.example\.com/a/\.\./admin", "https://api.example.com/admin"),
            (Kind::Url, r"https://api\.example\.com/\./admin", "https://api.example.com/admin"),
            (Kind::Url, r"https://api\.example\.com//admin", "https://api.example.com/admin"),
            (Kind::Url, r"https://api\.example\.com/%61dmin", "https://api.example.com/admin"),
            (Kind::Url, r"https://api\.example\.com/caf%c3%a9", "https://api.example.com/caf%C3%A9"),
            (Kind::Url, "https://api\\.example\\.com/caf\u{e9}", "https://api.example.com/caf%C3%A9"),
            (Kind::Url, r"https://api\.example\.com/a\?", "https://api.example.com/a"),
            (Kind::Url, r"https://api\.example\.com/a#b", "https://api.example.com/a"),
            (Kind::Url, "https://b\u{fc}cher\\.example/.*", "https://xn--bcher-kva.example/"),
            (Kind::Url, r"http://127\.1/.*", "http://127.0.0.1/"),
            (Kind::Url, "http://2130706433/.*", "http://127.0.0.1/"),
            (Kind::Url, "http://0x7f000001/.*", "http://127.0.0.1/"),
            (Kind::Url, r"http://\[::FFFF:127\.0\.0\.1\]/.*", "http://127.0.0.1/"),
            (Kind::Url, r".*//API\.example\.com/.*", "//api.example.com/"),
            (Kind::Url, r"(https://x\.example/.*|https://API\.example\.com/.*)", "https://api.example.com/"),
            (Kind::Path, "./secrets/.*", "secrets/"),
            (Kind::Path, r"\./secrets/.*", "secrets/"),
            (Kind::Path, "/secrets/.*", "secrets/"),
            (Kind::Path, "secrets//.*", "secrets/"),
            (Kind::Path, "secrets/", "secrets"),
            (Kind::Path, "a/./b", "a/b"),
            (Kind::Mail, r".*@EXAMPLE\.com", "@example.com"),
            (Kind::Mail, r"ada@Example\.com", "ada@example.com"),
            (Kind::Mail, r"Ada <ada@example\.com>", "ada@example.com"),
            (Kind::Host, r"API\.example\.com", "api.example.com"),
            (Kind::Version, r" v1\.0", "v1.0"),
        ] {
            let said = said(kind, pattern).unwrap_or_else(|| panic!("{pattern} passes"));
            assert!(said.contains(&format!(" is `{meant}`")), "{pattern}: {said}");
        }
        assert!(said(Kind::Path, r"\.\./.*").is_some_and(|said| said.contains("would never match")));
    }

    #[test]
    fn a_pattern_that_can_match_passes() {
        for (kind, patterns) in [
            (
                Kind::Url,
                vec![
                    ".*",
                    "",
                    r"https://api\.example\.com/.*",
                    "https://api.example.com/admin",
                    r"https?://[^/]*\.example\.com(:8443)?/.*",
                    r"(?i)HTTPS://API\.Example\.com/ADMIN.*",
                    r"[Hh]ttps://[Aa]pi\.example\.com/.*",
                    r"https://api\.example\.com/.*\.JPG",
                    r"https://api\.example\.com/README\.md\?x=A%2Fb",
                    r".*[?&]next=https://API\.example\.com/.*",
                    r"http://10\.\d+\.\d+\.\d+/.*",
                    r"http://\[::1\]:8080/.*",
                    r"https://api\.example\.com/(\./)?admin",
                    r"https://\w+\.example\.com/.*",
                    r"\bhttps://x\.example/\b.*",
                    r".*/admin(/.*)?",
                ]
                .into_iter()
                .filter(|pattern| !pattern.is_empty())
                .collect(),
            ),
            (Kind::Path, vec![".*", "secrets/.*", "(.*/)?secrets/.*", r".*\.KEY", "caf\u{e9}/.*", r"\.", r"\.env.*"]),
            (
                Kind::Mail,
                vec![".*", r".*@example\.com", r"Ada@example\.com", "(?i).*@EXAMPLE.COM", r".*@(a|b)\.example"],
            ),
            (Kind::Version, vec![r"v\d+\.\d+\.\d+", ".*-rc.*"]),
        ] {
            for pattern in patterns {
                assert_eq!(said(kind, pattern), None, "{pattern}");
            }
        }
    }

    #[test]
    fn a_name_is_compared_with_those_that_there_are() {
        let names = vec!["production".to_owned(), "staging".to_owned()];
        let said = |pattern: &str| problem(pattern, &Values::Known { what: "environment", names: names.clone() });
        for pattern in
            ["production", "prod.*", ".*", "production|prod", "(?i)PRODUCTION", "[Pp]roduction", "(prod|stag).*"]
        {
            assert_eq!(said(pattern), None, "{pattern}");
        }
        for pattern in ["Production", " production", "staging|PRODUCTION", "(Production|staging)"] {
            let said = said(pattern).unwrap_or_else(|| panic!("{pattern} passes"));
            assert!(said.contains("the canonical form of this environment is `production`"), "{pattern}: {said}");
        }
        assert_eq!(
            said("prodction").unwrap(),
            "`prodction` matches no environment, so it would never match; did you mean `production`? \
             (known: production, staging)"
        );
    }

    #[test]
    fn a_pattern_that_is_too_large_to_decide_passes_in_bounded_time() {
        assert_eq!(said(Kind::Url, r"(\w{50}\d{50}){20}x{1000}"), None);
    }
}

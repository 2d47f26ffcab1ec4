//! The rules of gitleaks as data: which texts are credentials of which vendor (`gitleaks.toml`, with its licence).
//!
//! A rule is compiled when one of its keywords is first seen, and runs only on texts that hold one. What is honoured:
//! keywords, entropy, the group that is the secret, allow-lists, stop words. How the expressions are adapted:
//! - They are read as Go reads them: over bytes, with ASCII classes.
//! - The part that only says what may stand before a vendor's name is cut off; it would be searched for at each byte.
//! - A secret ends as well before what closes a bracket, a list or a sentence, not only before white space.
//! - A rule that knows a vendor's name and a length alone takes no digest (a commit, a checksum) and no name, unless a
//!   word for a credential stands between: people write `jira: <commit>` all day.

use std::ops::Range;
use std::sync::{LazyLock, OnceLock};

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use super::value::{entropy, has_digit, is_digest, is_name, is_placeholder, is_uuid};

const TEXT: &str = include_str!("gitleaks.toml");

/// Largest compiled rule, in bytes; the largest of the file takes about a fifth.
const MAX_COMPILED: usize = 4 * 1024 * 1024;

#[derive(Deserialize)]
struct File {
    allow: Allow,
    rules: Vec<Written>,
}

#[derive(Deserialize)]
struct Allow {
    regexes: Vec<String>,
    stopwords: Vec<String>,
}

#[derive(Deserialize)]
struct Written {
    id: String,
    regex: String,
    #[serde(default)]
    group: Option<usize>,
    #[serde(default)]
    entropy: f64,
    keywords: Vec<String>,
    #[serde(default)]
    allow: Vec<String>,
}

/// One published rule.
pub(super) struct Rule {
    /// What people are told: the id in words.
    pub label: String,
    pub keywords: Vec<String>,
    written: String,
    group: Option<usize>,
    entropy: f64,
    allow: Vec<String>,
    /// Whether a name and a length are all that it goes by.
    by_name: bool,
    compiled: OnceLock<Option<(Regex, Vec<Regex>)>>,
}

struct Published {
    rules: Vec<Rule>,
    allow: Vec<Regex>,
    stopwords: Vec<String>,
}

static PUBLISHED: LazyLock<Published> = LazyLock::new(|| {
    // reason for the fallback: a test reads this constant text and compiles every rule
    let file = toml::from_str(TEXT)
        .unwrap_or(File { allow: Allow { regexes: Vec::new(), stopwords: Vec::new() }, rules: Vec::new() });
    let File { allow: Allow { regexes, stopwords }, rules } = file;
    let allow = regexes.iter().filter_map(|r| compile(r).ok()).collect();
    Published { rules: rules.into_iter().map(Rule::from).collect(), allow, stopwords }
});

pub(super) fn rules() -> &'static [Rule] {
    &PUBLISHED.rules
}

const LEAD: &str = r"[\w.-]{0,50}?";
const ASSIGN: &str = r#"(?:=|>|:{1,3}=|\|\||:|=>|\?=|,)[\x60'"\s=]{0,5}"#;
const END: &str = r#"(?:[\x60'"\s;]|\\[nr]|$)"#;
const OUR_END: &str = r#"(?:[\x60'"\s;,.!?)\]}<>&|]|\\[nrt"']|$)"#;

impl From<Written> for Rule {
    fn from(Written { id, regex, group, entropy, keywords, allow }: Written) -> Self {
        let label = id.replace('-', " ");
        let by_name = regex.contains(ASSIGN);
        let written = regex.replace(LEAD, "").replace(END, OUR_END);
        Self { label, keywords, written, group, entropy, allow, by_name, compiled: OnceLock::new() }
    }
}

fn compile(text: &str) -> Result<Regex, regex::Error> {
    // Go takes a brace that repeats nothing for itself.
    let text = text.replace("|{", r"|\{").replace(r"\${", r"\$\{");
    RegexBuilder::new(&text).unicode(false).size_limit(MAX_COMPILED).build()
}

impl Rule {
    fn compiled(&self) -> Option<&(Regex, Vec<Regex>)> {
        let make = || {
            let regex = compile(&self.written).ok()?;
            Some((regex, self.allow.iter().filter_map(|r| compile(r).ok()).collect()))
        };
        self.compiled.get_or_init(make).as_ref()
    }

    /// Every secret of this rule in the text.
    pub(super) fn secrets_in(&self, text: &str) -> Vec<Range<usize>> {
        let Some((regex, allow)) = self.compiled() else { return Vec::new() };
        let mut found = Vec::new();
        let mut at = 0;
        // The end of one match is a separator that the next may begin with.
        while at <= text.len()
            && let Some(groups) = regex.captures_at(text.as_bytes(), at)
        {
            let Some(whole) = groups.get(0) else { break };
            // As gitleaks: the group that is named, else the first that took part, else the whole match.
            let first = || (1..groups.len()).find_map(|n| groups.get(n).filter(|g| !g.is_empty()));
            let secret = self.group.map_or_else(first, |n| groups.get(n)).unwrap_or(whole);
            at = secret.end().max(whole.start() + 1);
            let (Some(value), Some(before)) = (text.get(secret.range()), text.get(whole.start()..secret.start()))
            else {
                continue;
            };
            let allowed = PUBLISHED.allow.iter().chain(allow).any(|r| r.is_match(value.as_bytes()));
            let stopped = || {
                let lower = value.to_ascii_lowercase();
                PUBLISHED.stopwords.iter().any(|word| lower.contains(word.as_str()))
            };
            let vague = self.by_name && !is_of_a_credential(before, value);
            if !allowed && !vague && entropy(value) > self.entropy && !is_placeholder(value) && !stopped() {
                found.push(secret.range());
            }
        }
        found
    }
}

/// What a name and a length do not say: whether this is a credential at all.
fn is_of_a_credential(before: &str, value: &str) -> bool {
    let before = before.to_ascii_lowercase();
    let words = ["key", "token", "secret", "pass", "pwd", "auth", "cred", "license", "login", "session"];
    let called = words.iter().any(|word| before.contains(word));
    let marked =
        value.starts_with(|c: char| c.is_ascii_alphabetic()) && value.contains(['-', '_', ':']) && has_digit(value);
    has_digit(value) && !is_name(value) && (called || (marked && !is_digest(value) && !is_uuid(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_published_rule_is_read_and_compiles() {
        let file: File = toml::from_str(TEXT).unwrap();
        assert_eq!(file.rules.len(), 192, "the file is the one that was looked at");
        assert_eq!(rules().len(), file.rules.len());
        for rule in rules() {
            let made = rule.compiled().unwrap_or_else(|| panic!("{}: {:?}", rule.label, compile(&rule.written).err()));
            assert_eq!(made.1.len(), rule.allow.len(), "{}", rule.label);
            assert!(!rule.keywords.is_empty(), "{} would run on every text", rule.label);
            assert!(!rule.written.contains(LEAD), "{}", rule.label);
        }
        assert_eq!(PUBLISHED.allow.len(), file.allow.regexes.len());
    }

    #[test]
    fn a_vendors_name_and_a_length_alone_take_no_commit() {
        let sha = "9fceb02d0ae598e95dc970b74767f19372d61af8";
        let all = |text: &str| rules().iter().flat_map(|rule| rule.secrets_in(text)).count();
        assert_eq!(all(&format!("cloudflare: {sha} is deployed, datadog={sha}, codecov, {}", &sha[..32])), 0);
        assert_eq!(all(&format!("CLOUDFLARE_API_TOKEN={sha}")), 1);
    }

    #[test]
    fn entropy_allow_lists_and_stop_words_count() {
        let all = |text: &str| rules().iter().flat_map(|rule| rule.secrets_in(text)).count();
        let key = |body: &str| format!("the key is {}{body} ", "lin_api_");
        assert_eq!(all(&key("aB3dE6gH9jK2mN5pQ8sTaB3dE6gH9jK2mN5pQ8sT")), 1);
        assert_eq!(all(&key(&"a1".repeat(20))), 0, "too little in it");
        assert_eq!(all(&key("abcdefghijklmnopqrstuvwxyz12345678901234")), 0, "a stop word");
    }
}

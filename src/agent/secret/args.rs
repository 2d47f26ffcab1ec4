//! The arguments of a call: which of them looks like a secret, and what is shown in its place.
//!
//! A value is looked at alone, behind the name that it has in the arguments, and among the words of a command line.
//! What is found is named by the dotted path of its argument, never quoted.

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::id::Digest;
use super::super::json::canonical;
use super::{CONFIGURED, SecretFilter, removed};

/// Longest path that is shown, in characters.
const MAX_PATH: usize = 100;
/// Arguments that are named; where there are more, the call is refused until these are settled.
pub const MAX_SUSPECTS: usize = 20;

/// A value in a call's arguments that looks like a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// The dotted path of the argument: `headers.X-Key`, `argv.2`.
    pub argument: String,
    /// What it looks like: `github token`.
    pub pattern: String,
    /// HMAC-SHA256 of the value with the key of the installation.
    pub hash: Digest,
}

/// What came of looking at the arguments of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Arguments that hold a secret of this installation, by their paths. Never let pass.
    pub configured: Vec<String>,
    /// Arguments that look like secrets and are not let pass, each value once.
    pub suspects: Vec<Suspect>,
    /// Whether a value is there that is let pass because people said so.
    pub passed: bool,
    /// Whether a whole value is what stands in place of a secret: whoever wrote it cannot see the secret either.
    pub quotes_a_mark: bool,
    /// Whether the filter has no key, so that nothing can be let pass.
    keyless: Option<&'static str>,
}

impl Look {
    /// Of these values alone.
    pub(in crate::agent) fn at(suspects: Vec<Suspect>) -> Self {
        Self { suspects, ..Self::default() }
    }

    /// Whether nothing stands in the way of the call.
    pub fn is_clear(&self) -> bool {
        self.configured.is_empty() && self.suspects.is_empty() && self.keyless.is_none() && !self.quotes_a_mark
    }

    /// For people and models: `` `token` (github token) and `argv.2` (assigned secret) ``.
    pub fn describe(&self) -> String {
        let configured = self.configured.iter().map(|path| (path.as_str(), CONFIGURED));
        let suspects = self.suspects.iter().map(|s| (s.argument.as_str(), s.pattern.as_str()));
        let marked = self.quotes_a_mark.then_some(("", "what is written in place of a secret"));
        let keyless = self.keyless.iter().map(|label| ("", *label)).chain(marked);
        let one = |(path, label): (&str, &str)| match path {
            "" => format!("something in them ({label})"),
            path => format!("`{path}` ({label})"),
        };
        let mut all: Vec<String> = configured.chain(suspects).chain(keyless).map(one).collect();
        all.dedup();
        match all.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            Some((last, _)) => last.clone(),
            None => String::new(),
        }
    }
}

/// A text made of arguments, and which part of it is which argument's value.
struct View {
    text: String,
    parts: Vec<(Range<usize>, String)>,
}

impl View {
    fn of(text: &str, path: &str) -> Self {
        Self { text: text.to_owned(), parts: vec![(0..text.len(), path.to_owned())] }
    }

    fn named(name: &str, value: &str, path: &str) -> Self {
        let lead = format!("{name}: \"");
        let inside = escaped(value);
        let at = lead.len()..lead.len() + inside.len();
        Self { text: format!("{lead}{inside}\""), parts: vec![(at, path.to_owned())] }
    }
}

/// As JSON writes it, without the quotes.
fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or("").to_owned()
}

/// The value that JSON writes so; the text itself if it is none.
pub(super) fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    serde_json::from_str::<String>(&format!("\"{text}\"")).map_or(Cow::Borrowed(text), Cow::Owned)
}

impl SecretFilter {
    /// Looks at the arguments of a call, argument by argument, and then at all of them together.
    pub fn look(&self, args: &Value) -> Look {
        let mut views = Vec::new();
        collect(args, "", None, &mut views);
        views.push(View { text: canonical(args), parts: Vec::new() });
        let mut look = Look::default();
        for view in &views {
            self.look_at(view, &mut look);
        }
        look.quotes_a_mark = holds_a_mark(args);
        look
    }

    fn look_at(&self, view: &View, look: &mut Look) {
        let path_at = |at: &Range<usize>| {
            let part = view.parts.iter().find(|(range, _)| at.start < range.end && range.start < at.end);
            part.map_or("", |(_, path)| path.as_str())
        };
        if let Some(known) = &self.known {
            for hit in known.search.find_iter(&view.text) {
                let path = self.shown_path(path_at(&hit.range()));
                let said = look.configured.contains(&path) || (path.is_empty() && !look.configured.is_empty());
                if !said {
                    look.configured.push(path);
                }
            }
        }
        for found in super::scan(&view.text) {
            let Some(value) = view.text.get(found.at.clone()) else { continue };
            let Some(hash) = self.keyed(value) else {
                look.keyless = Some(found.label);
                continue;
            };
            let path = path_at(&found.at);
            let said = look.suspects.iter().any(|s| s.hash == hash);
            if self.passed.contains(&hash) {
                look.passed = true;
            } else if !said && look.suspects.len() < MAX_SUSPECTS {
                // All of them together name no argument; the same value in other clothes has one by now.
                let argument = match (path, look.suspects.last()) {
                    ("", Some(last)) => last.argument.clone(),
                    (path, _) => self.shown_path(path),
                };
                look.suspects.push(Suspect { argument, pattern: found.label.to_owned(), hash });
            }
        }
    }

    /// A path is made of the model's words as well.
    fn shown_path(&self, path: &str) -> String {
        let one_line: String = path.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.clean(&one_line).replace('`', "'").chars().take(MAX_PATH).collect()
    }

    /// The arguments with what looks like a secret taken out, for the log: everything else stays as it is.
    pub fn masked(&self, args: &Value) -> Value {
        let masked = self.mask(args, None);
        let text = canonical(&masked);
        let look = self.look(&masked);
        match look.configured.is_empty() && look.suspects.is_empty() && look.keyless.is_none() {
            true => masked,
            // Spread over several arguments, or in a name.
            false => match self.clean(&text) {
                Cow::Owned(clean) if self.find(&clean).is_none() => Value::String(clean),
                Cow::Owned(_) | Cow::Borrowed(_) => Value::String("[arguments removed: they hold a secret]".to_owned()),
            },
        }
    }

    fn mask(&self, value: &Value, name: Option<&str>) -> Value {
        match value {
            Value::String(text) => {
                let clean = self.clean(text);
                let label = name.and_then(|name| self.find(&View::named(name, &clean, "").text));
                Value::String(label.map_or_else(|| clean.into_owned(), removed))
            }
            Value::Number(_) => match name.and_then(|name| self.find(&format!("{name}: {value}"))) {
                Some(label) => Value::String(removed(label)),
                None => value.clone(),
            },
            Value::Array(items) => {
                let cleaned: Vec<Value> = items.iter().map(|item| self.mask(item, name)).collect();
                // A command line: a word is a secret because of the word before it.
                let line = command_line(&cleaned, "");
                let found = line.as_ref().map_or_else(Vec::new, |view| self.patterns_in(&view.text));
                let hit = |n: usize| {
                    let (range, _) = line.as_ref()?.parts.get(n)?;
                    found.iter().find(|f| f.at.start < range.end && range.start < f.at.end)
                };
                let masked = cleaned.iter().enumerate();
                masked
                    .map(|(n, item)| hit(n).map_or_else(|| item.clone(), |f| Value::String(removed(f.label))))
                    .collect()
            }
            Value::Object(members) => {
                let pair =
                    pair_of(members).filter(|(name, value)| self.find(&View::named(name, value, "").text).is_some());
                let member = |(key, value): (&String, &Value)| {
                    let masked = match &pair {
                        Some(_) if key == "value" => Value::String(removed(super::assigned::LABEL)),
                        Some(_) | None => self.mask(value, Some(key)),
                    };
                    (key.clone(), masked)
                };
                Value::Object(members.iter().map(member).collect())
            }
            Value::Null | Value::Bool(_) => value.clone(),
        }
    }
}

/// Whether a text in it is nothing but what stands in place of a secret.
fn holds_a_mark(value: &Value) -> bool {
    match value {
        Value::String(text) => {
            let rest = text.trim().strip_prefix(super::MARK);
            rest.is_some_and(|rest| rest.find(']').is_some_and(|end| end + 1 == rest.len()))
        }
        Value::Array(items) => items.iter().any(holds_a_mark),
        Value::Object(members) => members.values().any(holds_a_mark),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// `{"name": "DB_PASSWORD", "value": "…"}`.
fn pair_of(members: &serde_json::Map<String, Value>) -> Option<(&str, &str)> {
    let name = ["name", "key", "Name", "Key"].iter().find_map(|key| members.get(*key)?.as_str())?;
    let value = ["value", "Value"].iter().find_map(|key| members.get(*key)?.as_str())?;
    Some((name, value))
}

/// The words of an array of texts, as a shell would be given them.
fn command_line(items: &[Value], path: &str) -> Option<View> {
    let words: Vec<&str> = items.iter().map(Value::as_str).collect::<Option<_>>()?;
    if words.len() < 2 {
        return None;
    }
    let mut view = View { text: String::new(), parts: Vec::new() };
    for (n, word) in words.iter().enumerate() {
        if n > 0 {
            view.text.push(' ');
        }
        let start = view.text.len();
        view.text.push_str(word);
        view.parts.push((start..view.text.len(), joined(path, &n.to_string())));
    }
    Some(view)
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn collect(value: &Value, path: &str, name: Option<&str>, views: &mut Vec<View>) {
    match value {
        Value::String(text) => {
            views.push(View::of(text, path));
            views.extend(name.map(|name| View::named(name, text, path)));
        }
        Value::Number(number) => {
            let lead = name.map(|name| format!("{name}: "));
            views.extend(lead.map(|lead| {
                let text = format!("{lead}{number}");
                View { parts: vec![(lead.len()..text.len(), path.to_owned())], text }
            }));
        }
        Value::Array(items) => {
            views.extend(command_line(items, path));
            for (n, item) in items.iter().enumerate() {
                collect(item, &joined(path, &n.to_string()), name, views);
            }
        }
        Value::Object(members) => {
            if let Some((name, value)) = pair_of(members) {
                views.push(View::named(name, value, &joined(path, "value")));
            }
            for (key, member) in members {
                views.push(View { text: key.clone(), parts: vec![(0..key.len(), joined(path, "(a name)"))] });
                collect(member, &joined(path, key), Some(key), views);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn filter() -> SecretFilter {
        SecretFilter::new(["hush-hush-hush"]).with_key([7; 32])
    }

    fn github() -> String {
        format!("{}_{}", "ghp", "aB3dE6gH9jK2mN5pQ8sTaB3dE6gH9jK2mN5p")
    }

    #[test]
    fn each_argument_is_named_by_its_path_and_never_quoted() {
        let look = |args: Value| {
            let look = filter().look(&args);
            assert!(!look.describe().contains("hunter"), "{}", look.describe());
            look.describe()
        };
        insta::assert_snapshot!(look(json!({"url": "https://h/x", "headers": {"X-Api-Key": "hunter2hunter3x"}})), @"`headers.X-Api-Key` (assigned secret)");
        insta::assert_snapshot!(look(json!({"argv": ["run", "--password", "hunter2"]})), @"`argv.2` (assigned secret)");
        insta::assert_snapshot!(look(json!({"env": [{"name": "DB_PASSWORD", "value": "hunter2"}]})), @"`env.0.value` (assigned secret)");
        insta::assert_snapshot!(look(json!({"a": github(), "b": {"c": format!("x {}", github())}, "password": 12345678})), @"`a` (github token) and `password` (assigned secret)");
        insta::assert_snapshot!(look(json!({"text": "say hush-hush-hush"})), @"`text` (configured secret)");
        insta::assert_snapshot!(look(json!({"file": "user: x\npassword: hunter2\nhost: y"})), @"`file` (assigned secret)");
        assert_eq!(
            filter().look(&json!({"password": "$DB_PASSWORD", "secret": "db-creds-v2", "n": 4})),
            Look::default()
        );
    }

    #[test]
    fn exactly_the_value_that_people_let_pass_passes_in_whatever_clothes() {
        let odd = "hunter2 \"quoted\"\\";
        for args in
            [json!({"password": odd}), json!({"password": github()}), json!({"argv": ["x", "--token", "q7Zx9Lm2"]})]
        {
            let look = filter().look(&args);
            assert!(!look.suspects.is_empty(), "{args}");
            let passed: BTreeSet<Digest> = look.suspects.iter().map(|s| s.hash).collect();
            let letting = filter().letting(&passed);
            assert!(letting.look(&args).is_clear() && letting.look(&args).passed, "{args}: {:?}", letting.look(&args));
            assert_eq!(letting.masked(&args), args);
            // Another key, another value, a value around it: nothing of that passes.
            assert!(!SecretFilter::default().with_key([8; 32]).letting(&passed).look(&args).is_clear());
        }
        let passed = filter().look(&json!({"password": "hunter2"})).suspects.iter().map(|s| s.hash).collect();
        assert!(!filter().letting(&passed).look(&json!({"password": "hunter22"})).is_clear());
        let letting = filter().letting(&passed);
        assert_eq!(
            letting.clean("password: hunter2, password: hunter22"),
            "password: hunter2, password: [secret removed: assigned secret]"
        );
    }

    #[test]
    fn a_configured_secret_is_never_let_pass() {
        let filter = filter();
        let every_hash = |args: &Value| {
            filter.look(args).suspects.iter().map(|s| s.hash).chain(filter.keyed("hush-hush-hush")).collect()
        };
        let args = json!({"password": "hush-hush-hush"});
        let letting = filter.letting(&every_hash(&args));
        assert_eq!(letting.look(&args).configured, ["password"]);
        assert_eq!(letting.clean("it is hush-hush-hush"), "it is [secret removed: configured secret]");
    }

    #[test]
    fn without_a_key_nothing_can_be_let_pass() {
        let look = SecretFilter::default().look(&json!({"password": "hunter2"}));
        assert!(!look.is_clear() && look.suspects.is_empty());
    }

    #[test]
    fn masked_arguments_keep_what_is_no_secret() {
        let args = json!({"service": "api", "env": {"TOKEN": github(), "MODE": "x"}, "argv": ["a", "--password", "hunter2", "b"], "n": 3,
            "text": "mail hush-hush-hush now", "list": [{"name": "API_KEY", "value": "q7Zx9Lm2Kw"}]});
        let masked = filter().masked(&args);
        insta::assert_snapshot!(canonical(&masked), @r#"{"argv":["a","--password","[secret removed: assigned secret]","b"],"env":{"MODE":"x","TOKEN":"[secret removed: github token]"},"list":[{"name":"API_KEY","value":"[secret removed: assigned secret]"}],"n":3,"service":"api","text":"mail [secret removed: configured secret] now"}"#);
        assert!(filter().look(&masked).suspects.is_empty() && filter().look(&masked).quotes_a_mark);
        let in_a_name = json!({github(): 1});
        assert!(!canonical(&filter().masked(&in_a_name)).contains(&github()));
    }
}

//! Ids of people and groups as settings and commands give them: one parser for approvers, administrators, the
//! directory of people, tokens, sign-in links and what a proxy says.
//!
//! An id names the surface that vouches for it (`slack:T1:U1`, `web:ann`). Ids are compared as they stand, so an id
//! that is nearly right would let nobody decide, in silence. What is refused here says what was probably meant.

use super::{KEPT, is_reserved, slack};
use crate::agent::{EMAIL, PERSON, People, did_you_mean};

/// Longest id of a person, in bytes: as long as a mail address can be (RFC 5321, section 4.5.3.1.3, without the
/// angle brackets), which some proxies name people by.
pub const MAX_PERSON: usize = 254;

/// Surfaces that people come from. The prefix of a proxy's names is another one.
const SURFACES: [&str; 5] = ["slack", "discord", "web", "console", EMAIL];
/// Surfaces that have groups of their own; a proxy's groups are written without a surface.
const WITH_GROUPS: [&str; 2] = ["slack", "discord"];

/// What ids may mean here.
#[derive(Clone, Copy)]
pub struct Ids<'a> {
    /// `http.proxy.prefix`, as `web:`.
    pub proxy_prefix: &'a str,
    pub people: &'a People,
}

impl Ids<'_> {
    /// The id of a person who comes in by a link or a token: an id, or a bare name, which is one of the console.
    ///
    /// # Errors
    /// What is wrong with it, and what was probably meant.
    pub fn person(&self, text: &str) -> Result<String, String> {
        let id = if text.contains(':') { text.to_owned() } else { format!("web:{text}") };
        if is_reserved(&id) {
            return Err(format!("`{}` can't come in from outside: {KEPT}", shown(text)));
        }
        if id.starts_with(&format!("{PERSON}:")) {
            return Err("name one identity of the person, such as `web:ann`".to_owned());
        }
        match self.problem(&id) {
            None => Ok(id),
            Some(why) => Err(format!("`{}` {why}", shown(text))),
        }
    }

    /// What is wrong with one of the approvers, after the id itself; `None` if it can be somebody.
    pub fn approver_problem(&self, id: &str) -> Option<String> {
        if id == "*" {
            return None;
        }
        if let Some(name) = id.strip_prefix("person:") {
            let names = self.people.entries().iter().map(|entry| entry.name.as_str());
            let known = self.people.entries().iter().any(|entry| entry.name == name);
            return (!known).then(|| format!("names no entry of [[people]]{}", did_you_mean(name, names)));
        }
        self.problem(id)
    }

    /// What is wrong with a group among approvers, after its name.
    pub fn group_problem(&self, group: &str) -> Option<String> {
        if group.trim() != group || group.is_empty() || group.chars().any(char::is_control) {
            return Some("has blanks around it, or nothing else".to_owned());
        }
        if let Some(why) = slack::group_problem(group) {
            return Some(why);
        }
        if let Some(likely) = ascii_twin(group) {
            return Some(format!("has letters that only look like others: write {likely}"));
        }
        let (surface, name) = group.split_once(':')?;
        let known = SURFACES.contains(&surface) || surface == PERSON || self.is_proxy(surface);
        (known && !WITH_GROUPS.contains(&surface)).then(|| {
            format!("is no group: `{surface}` has none. A group that a proxy names is written as it stands in its header: {name}")
        })
    }

    fn is_proxy(&self, surface: &str) -> bool {
        self.proxy_prefix.strip_suffix(':') == Some(surface)
    }

    /// What is wrong with the id of a person, after the id itself.
    pub fn problem(&self, id: &str) -> Option<String> {
        if let Some(why) = slack::user_problem(id) {
            return Some(why);
        }
        if id.trim() != id || id.is_empty() {
            return Some(format!("has blanks around it: write {}", shown(id.trim())));
        }
        if let Some(likely) = ascii_twin(id) {
            return Some(format!("has letters that only look like others: write {likely}"));
        }
        let Some((surface, name)) = id.split_once(':') else {
            return Some(format!("lacks its surface: write web:{}, slack:T…:U… or another id", shown(id)));
        };
        if surface == "api" {
            return Some("is a program, and only people decide".to_owned());
        }
        if !SURFACES.contains(&surface) && !self.is_proxy(surface) && !id.starts_with(self.proxy_prefix) {
            let lower = surface.to_lowercase();
            if SURFACES.contains(&lower.as_str()) {
                return Some(format!("is compared letter by letter: write {lower}:{name}"));
            }
            let surfaces = SURFACES.into_iter().chain(self.proxy_prefix.strip_suffix(':'));
            let hint = did_you_mean(surface, surfaces);
            return Some(format!("names no surface that people come from{hint} (surfaces: {})", SURFACES.join(", ")));
        }
        if name.is_empty() || id.len() > MAX_PERSON || !name.chars().all(is_name_char) {
            return Some(format!("is not an id: at most {MAX_PERSON} letters, digits or `._-@+:`"));
        }
        match surface {
            EMAIL => mail_problem(name),
            "discord" => discord_problem(name),
            _ => None,
        }
    }
}

/// What an id may be made of, beside the signs that part it.
pub fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || "._-@+:".contains(c)
}

fn mail_problem(address: &str) -> Option<String> {
    match address.rsplit_once('@') {
        Some((local, domain)) if !local.is_empty() && domain.contains('.') => {
            let lower = domain.to_ascii_lowercase();
            (lower != domain).then(|| format!("is compared letter by letter: write {EMAIL}:{local}@{lower}"))
        }
        _ => Some(format!("is no mail address: write {EMAIL}:ann@example.com")),
    }
}

fn discord_problem(rest: &str) -> Option<String> {
    let digits = |part: &str| (1..=20).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let fits = rest.split_once(':').is_some_and(|(guild, user)| digits(guild) && digits(user));
    (!fits).then(|| "is no id in Discord: write discord:<server id>:<user id>, both numbers".to_owned())
}

/// The ASCII text that `text` looks like, if it is not ASCII itself and nothing but look-alikes keeps it from being
/// so: full-width forms (by Unicode's own compatibility mapping) and the letters of Greek and Cyrillic that are drawn
/// like Latin ones. A name that is Cyrillic throughout is a name.
pub fn ascii_twin(text: &str) -> Option<String> {
    if text.is_ascii() {
        return None;
    }
    let normalizer = icu_normalizer::ComposingNormalizer::new_nfkc();
    let twin: String = normalizer.normalize(text).chars().map(latin_twin).collect();
    twin.is_ascii().then_some(twin)
}

/// The Latin letter that a Greek or Cyrillic letter is drawn like (Unicode's confusables data, the letters whose
/// prototype is a single ASCII letter).
fn latin_twin(c: char) -> char {
    const TWINS: [(&str, &str); 2] = [
        ("авеорсухѕіјһԁԛԝкмнтгАВЕОРСУХЅІЈҺԀԚԜКМНТ", "abeopcyxsijhdqwkmhtrABEOPCYXSIJHDQWKMHT"),
        ("αικνορτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "aiknoptuxABEZHIKMNOPTYX"),
    ];
    TWINS
        .iter()
        .find_map(|(from, to)| from.chars().zip(to.chars()).find(|(from, _)| *from == c))
        .map_or(c, |(_, to)| to)
}

/// What stands where an id should: short, and no secret, which is what people paste.
fn shown(text: &str) -> String {
    super::shown("", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::PersonEntry;

    fn people() -> People {
        People::new(vec![PersonEntry { name: "ann".into(), ids: vec!["web:ann".into()] }], false).unwrap()
    }

    #[test]
    fn an_id_that_could_be_nobody_is_refused_with_the_one_that_was_meant() {
        let people = people();
        let ids = Ids { proxy_prefix: "okta:", people: &people };
        for good in [
            "*",
            "slack:T1:U1",
            "web:ann",
            "web:ann@example.com",
            "okta:ann",
            "console:ops",
            "email:Ann.B@example.com",
            "discord:123:456",
            "person:ann",
            "web:иван",
            "web:jürgen",
        ] {
            assert_eq!(ids.approver_problem(good), None, "{good}");
        }
        let wrong = |id: &str| ids.approver_problem(id).unwrap_or_else(|| panic!("{id} is taken"));
        let all = [
            "u1",
            "U0123",
            "Web:ann",
            "wev:ann",
            "slak:T1:U1",
            "slack:U1",
            " web:ann",
            "web:",
            "web:a b",
            "w\u{435}b:ann",
            "web:\u{430}nn",
            "web:ａnn",
            "api:ci",
            "email:ann@Example.com",
            "email:ann",
            "discord:ann",
            "person:anne",
        ];
        insta::assert_snapshot!(all.map(|id| format!("{} {}", id.trim(), wrong(id))).join("\n"), @r#"
        u1 lacks its surface: write web:u1, slack:T…:U… or another id
        U0123 lacks the surface and the team: write slack:T…:U0123
        Web:ann is compared letter by letter: write web:ann
        wev:ann names no surface that people come from; did you mean `web`? (surfaces: slack, discord, web, console, email)
        slak:T1:U1 names no surface that people come from; did you mean `slack`? (surfaces: slack, discord, web, console, email)
        slack:U1 lacks the team: write slack:T…:U1; the team's id stands in the address of Slack in a browser, https://app.slack.com/client/T…
        web:ann has blanks around it: write web:ann
        web: is not an id: at most 254 letters, digits or `._-@+:`
        web:a b is not an id: at most 254 letters, digits or `._-@+:`
        wеb:ann has letters that only look like others: write web:ann
        web:аnn has letters that only look like others: write web:ann
        web:ａnn has letters that only look like others: write web:ann
        api:ci is a program, and only people decide
        email:ann@Example.com is compared letter by letter: write email:ann@example.com
        email:ann is no mail address: write email:ann@example.com
        discord:ann is no id in Discord: write discord:<server id>:<user id>, both numbers
        person:anne names no entry of [[people]]; did you mean `ann`?
        "#);
    }

    #[test]
    fn a_group_of_a_surface_that_has_none_is_refused() {
        let people = People::default();
        let ids = Ids { proxy_prefix: "okta:", people: &people };
        for good in ["release-team", "SECURITY", "ops:eu", "slack:T1:S1", "slack:T1:C1"] {
            assert_eq!(ids.group_problem(good), None, "{good}");
        }
        for bad in ["web:ops", "okta:ops", "console:ops", "person:ann", " ops", "", "оps", "slack:T1:U1"] {
            assert!(ids.group_problem(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn who_comes_in_by_a_link_or_a_token_is_read_by_the_same_rules() {
        let people = People::default();
        let ids = Ids { proxy_prefix: "web:", people: &people };
        assert_eq!(ids.person("ann").as_deref(), Ok("web:ann"));
        assert_eq!(ids.person("slack:T1:U1").as_deref(), Ok("slack:T1:U1"));
        for bad in [
            "",
            ":",
            "web:",
            "a b",
            "console:ops",
            "agent:x",
            "system:x",
            "person:ann",
            "slack:U1",
            "\u{430}nn",
            "x:y",
            "Web:x",
            "x\n",
            "<b>",
        ] {
            assert!(ids.person(bad).is_err(), "{bad}");
        }
    }
}

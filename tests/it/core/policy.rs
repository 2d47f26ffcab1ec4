//! The policy's verdicts, as a table: which rule speaks, and who would decide.

use std::collections::BTreeMap;

use serde_json::json;
use twelve::agent::*;

use super::{pattern, rule, tools};

fn args(pairs: &[(&str, &str)]) -> BTreeMap<String, Pattern> {
    pairs.iter().map(|(path, text)| ((*path).to_owned(), pattern(text))).collect()
}

/// The verdict in a word or two, with the rule that made it.
fn verdict(rules: Vec<Rule>, agent: &str, tool: &str, given: serde_json::Value) -> String {
    let approvers = Approvers { users: vec!["chat:ann".into()], ..Approvers::default() };
    let policy = Policy { rules, approvers, expires_after_ms: 7, ..Policy::default() };
    match policy.verdict(agent, &tools()[tool], &given) {
        Verdict::Auto { rule } => format!("auto: {rule}"),
        Verdict::Ask { terms } => format!("ask: {}", terms.rule),
        Verdict::Deny { rule, why } => format!("deny: {rule} ({why})"),
        other => panic!("a policy never says {other:?}"),
    }
}

#[test]
fn where_no_rule_matches_side_effects_ask_and_reading_runs() {
    for tool in ["note", "ping", "mail", "deploy"] {
        assert_eq!(verdict(vec![], "ops", tool, json!({})), "ask: default: tools with side effects ask", "{tool}");
    }
    for tool in ["look", "wait"] {
        assert_eq!(verdict(vec![], "ops", tool, json!({})), "auto: default: tools that only read run", "{tool}");
    }
}

#[test]
fn the_strictest_of_all_matching_rules_wins_in_whatever_order_they_stand() {
    let (auto, ask, deny) =
        (rule("a", Gate::Auto, "*"), rule("k", Gate::Ask, "deploy"), rule("d", Gate::Deny, "deploy"));
    let orders: [[&Rule; 3]; 6] = [
        [&auto, &ask, &deny],
        [&auto, &deny, &ask],
        [&ask, &auto, &deny],
        [&ask, &deny, &auto],
        [&deny, &auto, &ask],
        [&deny, &ask, &auto],
    ];
    for order in orders {
        let all: Vec<Rule> = order.into_iter().cloned().collect();
        assert_eq!(verdict(all.clone(), "ops", "deploy", json!({})), "deny: d (the rule `d` forbids this call)");
        assert_eq!(verdict(all.clone(), "ops", "mail", json!({})), "auto: a");
        let two: Vec<Rule> = all.into_iter().filter(|r| r.name != "d").collect();
        assert_eq!(verdict(two, "ops", "deploy", json!({})), "ask: k");
    }
}

#[test]
fn a_request_goes_where_its_rule_says_and_else_where_all_go() {
    let to = |channel: &str| Route { channel: channel.into(), direct: true };
    let route = |rule_says: Option<Route>, tool: &str, untrusted: bool| {
        let rules =
            vec![Rule { route: rule_says, ..rule("deploys", Gate::Ask, "deploy") }, rule("notes", Gate::Auto, "note")];
        let policy = Policy { rules, route: to("slack:T1:C0"), ..Policy::default() };
        let mut read = Untrusted::default();
        if untrusted {
            let texts = json!({"texts": [{"seq": 1, "label": "a page"}]});
            read = serde_json::from_value(texts).unwrap();
        }
        match policy.verdict_after(&read, "ops", &tools()[tool], &json!({})) {
            Verdict::Ask { terms } => terms.route,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(route(Some(to("slack:T1:C9")), "deploy", false), to("slack:T1:C9"));
    assert_eq!(route(None, "deploy", false), to("slack:T1:C0"));
    assert_eq!(route(None, "mail", false), to("slack:T1:C0"), "where no rule matches");
    assert_eq!(route(None, "note", true), to("slack:T1:C0"), "what asks because of what was read");
    assert_eq!(route(Some(Route::default()), "deploy", false), Route::default(), "a rule can say: here");
}

#[test]
fn a_rule_matches_only_if_all_its_conditions_hold() {
    let base = || rule("r", Gate::Deny, "*");
    let env = |text| Rule { args: args(&[("env", text)]), ..base() };
    let hit = |r: Rule, agent: &str, tool: &str, given| verdict(vec![r], agent, tool, given).starts_with("deny");
    for (what, rule, agent, tool, given, matches) in [
        ("tool", Rule { tool: "dep*".into(), ..base() }, "ops", "deploy", json!({}), true),
        ("tool", Rule { tool: "dep*".into(), ..base() }, "ops", "look", json!({}), false),
        ("agent", Rule { agent: "ops".into(), ..base() }, "ops", "look", json!({}), true),
        ("agent", Rule { agent: "ops".into(), ..base() }, "ops2", "look", json!({}), false),
        ("agent", Rule { agent: "o*".into(), ..base() }, "ops2", "look", json!({}), true),
        ("risk", Rule { risk: Some(Risk::Medium), ..base() }, "ops", "look", json!({}), false),
        ("risk", Rule { risk: Some(Risk::Medium), ..base() }, "ops", "mail", json!({}), true),
        ("risk", Rule { risk: Some(Risk::Medium), ..base() }, "ops", "deploy", json!({}), true),
        ("argument", env("prod"), "ops", "look", json!({"env": "prod"}), true),
        ("argument", env("prod"), "ops", "look", json!({"env": "prod2"}), false),
        ("argument", env("prod"), "ops", "look", json!({"env": "xprod"}), false),
        ("argument", env("a|b"), "ops", "look", json!({"env": "ax"}), false),
        ("argument", env("a|b"), "ops", "look", json!({"env": "b"}), true),
        ("argument", env(".*"), "ops", "look", json!({}), false),
        ("argument", env(".*"), "ops", "look", json!([1]), false),
        ("number", env("[0-9]+"), "ops", "look", json!({"env": 12}), true),
        ("list", env(r#"\["a","b"\]"#), "ops", "look", json!({"env": ["a", "b"]}), true),
        ("null", env("null"), "ops", "look", json!({"env": null}), true),
        (
            "path",
            Rule { args: args(&[("to.env", "prod")]), ..base() },
            "ops",
            "look",
            json!({"to": {"env": "prod"}}),
            true,
        ),
        ("path", Rule { args: args(&[("to.env", "prod")]), ..base() }, "ops", "look", json!({"to": "prod"}), false),
        ("two", Rule { args: args(&[("a", "1"), ("b", "2")]), ..base() }, "ops", "look", json!({"a": 1, "b": 2}), true),
        (
            "two",
            Rule { args: args(&[("a", "1"), ("b", "2")]), ..base() },
            "ops",
            "look",
            json!({"a": 1, "b": 3}),
            false,
        ),
        (
            "all kinds",
            Rule { risk: Some(Risk::High), args: args(&[("env", "prod")]), ..rule("r", Gate::Deny, "deploy") },
            "ops",
            "deploy",
            json!({"env": "test"}),
            false,
        ),
    ] {
        assert_eq!(hit(rule.clone(), agent, tool, given.clone()), matches, "{what}: {rule:?} on {given}");
    }
}

#[test]
fn a_pattern_is_an_expression_of_its_own_and_has_to_match_the_whole_value() {
    for broken in ["a)|(?:b", "(", "[", "a{"] {
        assert!(Pattern::try_from(broken.to_owned()).is_err(), "{broken}");
    }
    let either = pattern("a|b");
    assert!(either.matches("a") && either.matches("b"));
    assert!(!either.matches("axx") && !either.matches("xxb") && !either.matches("a\n"));
}

#[test]
fn a_star_stands_for_any_run_of_characters() {
    for (pattern, name, matches) in [
        ("*", "", true),
        ("*", "x", true),
        ("", "", true),
        ("", "x", false),
        ("a", "a", true),
        ("a", "ab", false),
        ("a*", "a", true),
        ("*a", "ba", true),
        ("*a", "ab", false),
        ("a*a", "a", false),
        ("a*a", "aa", true),
        ("a*b*c", "a1b2c", true),
        ("a*b*c", "acb", false),
        ("*ab*", "xaby", true),
        ("*ab*b", "ab", false),
        ("*ab*b", "abb", true),
        ("**", "x", true),
        ("é*ü", "éxü", true),
    ] {
        assert_eq!(glob(pattern, name), matches, "{pattern} on {name}");
    }
}

#[test]
fn a_call_asks_under_the_terms_of_its_rule_or_else_of_the_configuration() {
    let special = Approvers { users: vec!["chat:bob".into()], quorum: 2, ..Approvers::default() };
    let own = Rule { approvers: Some(special.clone()), expires_after: Some(9), ..rule("own", Gate::Ask, "deploy") };
    let general = Approvers { groups: vec!["release".into()], ..Approvers::default() };
    let policy = Policy { rules: vec![own], approvers: general.clone(), expires_after_ms: 7, ..Policy::default() };
    let terms = |tool: &str| match policy.verdict("ops", &tools()[tool], &json!({})) {
        Verdict::Ask { terms } => terms,
        other => panic!("{tool} does not ask: {other:?}"),
    };
    assert_eq!(
        terms("deploy"),
        Terms {
            route: Default::default(),
            rule: "own".into(),
            risk: Risk::High,
            approvers: special,
            expires_after_ms: 9,
            untrusted: Untrusted::default()
        }
    );
    let rule = "default: tools with side effects ask".to_owned();
    assert_eq!(
        terms("mail"),
        Terms {
            route: Default::default(),
            rule,
            risk: Risk::Medium,
            approvers: general,
            expires_after_ms: 7,
            untrusted: Untrusted::default()
        }
    );
}

#[test]
fn only_people_are_ever_approvers() {
    let listed = Approvers { users: vec!["chat:ann".into()], groups: vec!["release".into()], ..Approvers::default() };
    let all = Approvers { users: vec!["*".into()], ..Approvers::default() };
    let release = ["release".to_owned()];
    let principal = |kind, id: &str| Principal { kind, name: Some("chat:ann".into()), ..Principal::human(id) };
    for (approvers, kind, id, groups, is) in [
        (&listed, PrincipalKind::Human, "chat:ann", &[][..], true),
        (&listed, PrincipalKind::Human, "chat:eve", &[][..], false),
        (&listed, PrincipalKind::Human, "chat:eve", &release[..], true),
        (&listed, PrincipalKind::Human, "chat:an", &[][..], false),
        (&listed, PrincipalKind::Service, "chat:ann", &release[..], false),
        (&listed, PrincipalKind::Agent, "chat:ann", &release[..], false),
        (&all, PrincipalKind::Human, "chat:eve", &[][..], true),
        (&all, PrincipalKind::System, "chat:eve", &[][..], false),
        (&all, PrincipalKind::Agent, "chat:eve", &[][..], false),
    ] {
        assert_eq!(approvers.includes(&principal(kind, id), groups), is, "{kind:?} {id} {groups:?}");
    }
    assert!(Approvers::default().is_empty() && !listed.is_empty() && !all.is_empty());
}

#[test]
fn of_several_rules_that_ask_the_hardest_to_satisfy_decides_in_whatever_order_they_stand() {
    let asks = |name: &str, users: &[&str], quorum| Rule {
        approvers: Some(Approvers {
            users: users.iter().map(|u| (*u).to_owned()).collect(),
            quorum,
            ..Approvers::default()
        }),
        ..rule(name, Gate::Ask, "deploy")
    };
    let (anyone, named, two) = (asks("anyone", &["*"], 1), asks("named", &["chat:bob"], 1), asks("two", &["*"], 2));
    for (rules, decides) in [
        (vec![anyone.clone(), named.clone()], "named"),
        (vec![named.clone(), anyone.clone()], "named"),
        (vec![named.clone(), two.clone(), anyone.clone()], "two"),
        (vec![two, named.clone()], "two"),
        (vec![named.clone(), asks("second", &["chat:eve"], 1)], "named"),
        // A rule that names nobody asks the configured approvers, who are named here.
        (vec![anyone, rule("silent", Gate::Ask, "*")], "silent"),
    ] {
        assert_eq!(verdict(rules, "ops", "deploy", json!({})), format!("ask: {decides}"));
    }
}

#[test]
fn a_line_break_does_not_evade_a_pattern() {
    let freeze = Rule { args: args(&[("env", "prod.*")]), ..rule("freeze", Gate::Deny, "*") };
    assert!(verdict(vec![freeze], "ops", "deploy", json!({"env": "prod\nx"})).starts_with("deny"));
}

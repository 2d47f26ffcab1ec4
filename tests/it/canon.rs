//! What a rule sees is what runs: laws over spellings of arguments.
//!
//! A short run by default; `PROPTEST_CASES=10000 cargo test --test it canon::` is the long one.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, FileFailurePersistence};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use twelve::agent::{Gate, Outcome, Policy, Rule, Verdict};
use twelve::tools::canon::{Kind, Url};
use twelve::tools::{Registry, ToolsConfig};

use crate::fake_service::call;
use crate::fakes::smtp::Smtp;

/// `PROPTEST_CASES` counts where it is set: an explicit number would else win over it.
fn config(cases: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(cases);
    Config { cases, failure_persistence: None::<Box<FileFailurePersistence>>.map(|p| p as _), ..Config::default() }
}

fn tools(settings: &str) -> Registry {
    let config: ToolsConfig = toml::from_str(settings).unwrap();
    Registry::from_config(&config, Path::new("unused")).unwrap()
}

fn everything() -> &'static Registry {
    static ALL: LazyLock<Registry> = LazyLock::new(|| {
        tools(
            "[http]\nallow = ['*', '10.1.2.3', '[::1]']\nallow_private = ['10.1.2.3', '::1']\nports = [80, 443, 8080]\n\
             [email]\nallow = ['*']\n\
             [services.api.environments]\nproduction = { status = 'http://127.0.0.1/' }\nstaging = { status = 'http://127.0.0.1/' }\n\
             [services.api]\n[services.web.environments]\nstaging = { status = 'http://127.0.0.1/' }\n",
        )
    });
    &ALL
}

fn rule(gate: Gate, tool: &str, argument: &str, pattern: &str) -> Rule {
    serde_json::from_value(json!({ "name": "r", "gate": gate, "tool": tool, "args": { argument: pattern } })).unwrap()
}

/// What a policy of one rule says of a call, with the call written like this; `None`: it is refused.
fn judged(registry: &Registry, rule: &Rule, tool: &str, raw: &str) -> Option<&'static str> {
    let args = registry.check(tool, raw).ok()?.into_value();
    let policy = Policy { rules: vec![rule.clone()], ..Policy::default() };
    Some(match policy.verdict("agent", registry.facts(tool).unwrap(), &args) {
        Verdict::Auto { .. } => "auto",
        Verdict::Ask { .. } => "ask",
        Verdict::Deny { .. } => "deny",
        Verdict::Invalid { .. } | Verdict::Held { .. } => "other",
    })
}

// ---- spellings ----

/// Pieces out of which texts are made that are odd in every way that matters here.
const PIECES: &[&str] = &[
    "http",
    "https",
    "HTTP",
    "ftp",
    ":",
    "://",
    "//",
    "///",
    "/",
    "\\",
    "@",
    "user@",
    "u:p@",
    ".",
    "..",
    "...",
    "%2e",
    "%2E",
    "%2f",
    "%5c",
    "%5C",
    "%61",
    "%41",
    "%7E",
    "%25",
    "%252e",
    "%",
    "%zz",
    "%00",
    "%c0%ae",
    "%C3%A9",
    "%cc%81",
    "?",
    "#",
    "&",
    "=",
    ";",
    "+",
    ",",
    "'",
    "\"",
    "|",
    "^",
    "`",
    "{",
    "}",
    "<",
    ">",
    " ",
    "\t",
    "\n",
    "\r",
    "\u{0}",
    "\u{7f}",
    "\u{a0}",
    "\u{200b}",
    "\u{202e}",
    "\u{ad}",
    "\u{e9}",
    "e\u{301}",
    "\u{ff0e}",
    "\u{ff0f}",
    "\u{2024}",
    "\u{3002}",
    "\u{ff11}",
    "\u{ff21}",
    "127.0.0.1",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "[::1]",
    "[0:0::1]",
    "[::ffff:127.0.0.1]",
    "[FE80::1]",
    "example.com",
    "API.example.com",
    "xn--bcher-kva",
    "b\u{fc}cher",
    "localhost",
    ":80",
    ":080",
    ":443",
    ":8080",
    ":0",
    ":",
    "a",
    "B",
    "admin",
    "secrets",
    "~",
    "-",
    "_",
    "v1.2.3",
    "ada",
    "Ada <",
    ">",
    "@example.com",
    "@EXAMPLE.com",
];

fn odd_text() -> impl Strategy<Value = String> {
    let pieces = proptest::collection::vec(select(PIECES), 0..9).prop_map(|pieces| pieces.concat());
    prop_oneof![4 => pieces, 1 => any::<String>(), 2 => address().prop_flat_map(|a| spelling(&a).prop_map(|s| s))]
}

/// An address by its parts, all of them canonical.
#[derive(Clone, Debug)]
struct Address {
    scheme: &'static str,
    host: &'static str,
    port: Option<u16>,
    segments: Vec<&'static str>,
    slash: bool,
    query: Option<&'static str>,
}

impl Address {
    fn text(&self) -> String {
        let Address { scheme, host, port, segments, slash, query } = self;
        let port = port.map_or(String::new(), |port| format!(":{port}"));
        let end = if *slash && !segments.is_empty() { "/" } else { "" };
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        format!("{scheme}://{host}{port}/{}{end}{query}", segments.join("/"))
    }
}

const SEGMENTS: &[&str] =
    &["public", "admin", "A", "v1.2", "a%2Bb", "caf%C3%A9", "~x", "a:b@c", "..a", "x=y", "%20", "..."];

fn address() -> impl Strategy<Value = Address> {
    (
        select(vec!["http", "https"]),
        select(vec!["example.com", "api.example.com", "10.1.2.3", "[::1]", "xn--bcher-kva.example", "a_b.example"]),
        select(vec![None, Some(8080)]),
        proptest::collection::vec(select(SEGMENTS), 0..4),
        any::<bool>(),
        select(vec![None, Some("a=b"), Some("next=https%3A%2F%2Fx%2F&y=%27"), Some("a//b?c/../d")]),
    )
        .prop_map(|(scheme, host, port, segments, slash, query)| Address {
            scheme,
            host,
            port,
            segments,
            slash,
            query,
        })
}

/// The same address written in another way, as a program that is asked for it could read it.
fn spelling(address: &Address) -> impl Strategy<Value = String> + use<> {
    let address = address.clone();
    proptest::collection::vec(any::<u16>(), 12).prop_map(move |dice| spelled(&address, &dice))
}

fn spelled(address: &Address, dice: &[u16]) -> String {
    let pick = |n: usize, of: &[&str]| of[usize::from(dice[n]) % of.len()].to_owned();
    let upper = |text: &str| text.to_uppercase();
    let scheme = pick(0, &[address.scheme, &upper(address.scheme), address.scheme]);
    let between = pick(1, &["://", "://", "://", "://", ":", ":///", ":\\\\", "://user@", "://@", ":/\t/"]);
    let host = match address.host {
        "10.1.2.3" => pick(
            2,
            &[
                "10.1.2.3",
                "10.1.2.3.",
                "10.1.515",
                "10.66051",
                "167838211",
                "0x0a010203",
                "012.1.2.3",
                "0xA.1.2.3",
                "\u{ff11}0.1.2.3",
                "10\u{3002}1\u{3002}2\u{3002}3",
                "%31%30.1.2.3",
                "[::ffff:10.1.2.3]",
                "[::FFFF:a01:203]",
                "[64:ff9b::10.1.2.3]",
            ],
        ),
        "[::1]" => pick(2, &["[::1]", "[0:0:0:0:0:0:0:1]", "[::0001]", "[0::1]", "[::0:0.0.0.1]"]),
        "xn--bcher-kva.example" => pick(
            2,
            &[
                "xn--bcher-kva.example",
                "XN--BCHER-KVA.example",
                "b\u{fc}cher.example",
                "bu\u{308}cher.EXAMPLE",
                "b\u{fc}cher\u{3002}example",
                "xn--bcher-kva.example.",
            ],
        ),
        name => pick(
            2,
            &[
                name,
                &upper(name),
                &format!("{name}."),
                &name.replace('e', "\u{ff45}"),
                &name.replace('.', "\u{3002}"),
                &name.replace('m', "%6d"),
                &name.replacen('x', "x\u{ad}", 1),
                &name.replace('a', "\u{ff21}"),
            ],
        ),
    };
    let port = match (address.port, address.scheme) {
        (Some(port), _) => pick(3, &[&format!(":{port}"), &format!(":0{port}"), &format!(":000{port}")]),
        (None, "http") => pick(3, &["", ":80", ":080", ":00080", ":"]),
        (None, _) => pick(3, &["", ":443", ":0443", ":"]),
    };
    let mut path = String::new();
    for (at, segment) in address.segments.iter().enumerate() {
        path += &pick(
            4 + at,
            &[
                "/",
                "/",
                "/./",
                "/x/../",
                "//",
                "/%2e/",
                "/x/%2E%2e/",
                "/x/.%2E/",
                "\\",
                "/.\\",
                "/\t",
                "/%2F../",
                "/..;/",
            ],
        );
        path += &pick(
            7 + at,
            &[
                segment,
                segment,
                &segment.replace('a', "%61"),
                &segment.replace('A', "%41"),
                &segment.replace("%2B", "%2b"),
                &segment.replace("%C3%A9", "\u{e9}"),
                &segment.replace("%C3%A9", "e\u{301}"),
                &segment.replace('.', "%2e"),
                &segment.replace("%C3%A9", "e%CC%81"),
                &segment.replace('~', "%7e"),
                &segment.replace("%C3%A9", "%c3%a9"),
            ],
        );
    }
    if path.is_empty() {
        path = pick(4, &["/", "", "/.", "/x/..", "/./"]);
    } else if address.slash {
        path += &pick(10, &["/", "/.", "/x/..", "/./", "//"]);
    }
    let query = match address.query {
        Some(query) => format!(
            "?{}",
            pick(11, &[query, &query.replace("a=", "%61="), &query.replace("%2F", "%2f"), &query.replace("%27", "'")])
        ),
        None => pick(11, &["", "?", "#", "#x", "?#"]),
    };
    format!("{scheme}{between}{host}{port}{path}{query}")
}

fn wild(text: &str) -> String {
    regex::escape(text)
}

proptest! {
    #![proptest_config(config(400))]

    #[test]
    fn what_is_canonical_is_its_own_canonical_form_and_has_the_shape_of_its_kind(text in odd_text(), kind in select(&Kind::ALL[..])) {
        static SHAPES: LazyLock<Vec<(Kind, regex::Regex)>> = LazyLock::new(|| {
            Kind::ALL.map(|kind| (kind, regex::Regex::new(&format!("^(?s:{})$", kind.shape())).unwrap())).to_vec()
        });
        if let Ok(canonical) = kind.canonical(&text) {
            prop_assert_eq!(kind.canonical(&canonical), Ok(canonical.clone()), "{:?}", text);
            let (_, shape) = SHAPES.iter().find(|(of, _)| *of == kind).unwrap();
            prop_assert!(shape.is_match(&canonical), "{:?} of {:?}", canonical, text);
        }
    }

    #[test]
    fn a_check_is_idempotent_for_every_tool(texts in proptest::collection::vec(odd_text(), 3), which in any::<u8>(), n in any::<f64>()) {
        let [a, b, c] = &texts[..] else { panic!() };
        let whole = n.trunc();
        let some = |text: &String| if which.is_multiple_of(3) { Value::Null } else { json!(text) };
        for (tool, args) in [
            ("log_message", json!({ "message": a, "level": if which.is_multiple_of(2) { json!("warn") } else { Value::Null } })),
            ("sleep", json!({ "seconds": f64::from(which), "reason": some(a) })),
            ("check_service_status", json!({ "service": "api", "environment": if which.is_multiple_of(2) { json!(["staging", "production", "staging"]) } else { Value::Null } })),
            ("http_get", json!({ "url": a })),
            ("http_post", json!({ "url": b, "body": { "a": a, "n": [whole, n, 1.0], "x": { "y": null } } })),
            ("read_file", json!({ "path": a, "first_line": if which.is_multiple_of(2) { json!(3.0) } else { Value::Null }, "lines": null })),
            ("write_file", json!({ "path": b, "content": c })),
            ("send_email", json!({ "to": [format!("B <b@{}.EXAMPLE>", "X"), "a@x.example"], "subject": a, "body": b.replace('\n', "\r\n") })),
            ("lookup_customer", json!({ "query": a })),
            ("create_support_ticket", json!({ "customer": some(a), "subject": b, "body": c, "priority": null })),
        ] {
            let registry = everything();
            if let Ok(once) = registry.check(tool, &args.to_string()) {
                let again = registry.check_value(tool, once.as_value().clone());
                prop_assert_eq!(again.as_ref(), Ok(&once), "{} {}", tool, args);
                let text = registry.check(tool, &once.as_value().to_string());
                prop_assert_eq!(text.as_ref(), Ok(&once), "{} {}", tool, args);
            }
        }
    }

    #[test]
    fn no_spelling_of_an_address_changes_the_verdict(address in address(), dice in proptest::collection::vec(any::<u16>(), 12)) {
        let canonical = address.text();
        let spelling = spelled(&address, &dice);
        let registry = everything();
        let raw = |url: &str| json!({ "url": url, "body": {} }).to_string();
        let taken = registry.check("http_post", &raw(&canonical)).map(|args| args.into_value()["url"].clone());
        prop_assert_eq!(taken, Ok(json!(canonical)), "what is canonical is taken as it is");
        if let Ok(args) = registry.check("http_post", &raw(&spelling)) {
            prop_assert_eq!(&args.as_value()["url"], &json!(canonical), "{:?}", spelling);
        }
        for (gate, pattern) in [
            (Gate::Deny, wild(&canonical)),
            (Gate::Deny, format!("{}.*", wild(canonical.split('?').next().unwrap()))),
            (Gate::Deny, ".*/admin(/.*)?".to_owned()),
            (Gate::Deny, format!("[^/]+//{}[/:].*", wild(address.host))),
            (Gate::Ask, format!("{}.*", wild(&canonical))),
            (Gate::Auto, format!("https?://{}(:\\d+)?/public/.*", wild(address.host))),
            (Gate::Auto, wild(&canonical)),
        ] {
            let rule = rule(gate, "http_*", "url", &pattern);
            let expected = judged(registry, &rule, "http_post", &raw(&canonical));
            let said = judged(registry, &rule, "http_post", &raw(&spelling));
            prop_assert!(said.is_none() || said == expected, "{:?} of {:?}: {:?}, not {:?}", spelling, canonical, said, expected);
        }
    }

    #[test]
    fn no_spelling_of_a_path_a_mail_address_or_a_service_changes_the_verdict(dice in proptest::collection::vec(any::<u16>(), 8)) {
        let pick = |n: usize, of: &[&'static str]| of[usize::from(dice[n]) % of.len()];
        let registry = everything();
        let (caf, caf_nfd) = ("caf\u{e9}", "cafe\u{301}");
        let path = format!(
            "{}{}{}{}{}",
            pick(0, &["", "./", ".//", "././", "/", "x/../"]), "secrets", pick(1, &["/", "//", "/./", "/.//", "\\", "/y/../"]),
            pick(2, &[caf, caf_nfd]), pick(3, &["", "", "/", "/."]),
        );
        let deny = rule(Gate::Deny, "*_file", "path", &format!("secrets/{caf}"));
        let read = judged(registry, &deny, "read_file", &json!({ "path": path }).to_string());
        prop_assert!(matches!(read, None | Some("deny")), "{:?} {:?}", path, read);
        let write = judged(registry, &deny, "write_file", &json!({ "path": path, "content": "" }).to_string());
        prop_assert!(matches!(write, None | Some("deny")), "{:?} {:?}", path, write);

        let to = format!(
            "{}eve@{}{}",
            pick(0, &["", " ", "Eve <", "\"Eve, E.\" <", "ada@example.com <"]), pick(1, &["evil.example", "EVIL.example", "Evil.Example", "evil.example."]),
            pick(0, &["", " ", ">", ">", ">"]),
        );
        let others = pick(2, &["ada@example.com", "zoe@example.com", "Zoe <zoe@EXAMPLE.com>"]);
        let to = if dice[3] % 2 == 0 { json!([to, others]) } else { json!([others, to]) };
        let mail = json!({ "to": to, "subject": "s", "body": "b" }).to_string();
        for (gate, pattern, expected) in [
            (Gate::Deny, r".*@evil\.example", "deny"),
            (Gate::Deny, r"eve@evil\.example", "deny"),
            (Gate::Ask, r".*@evil\.example", "ask"),
            (Gate::Auto, r".*@example\.com", "ask"),
        ] {
            let said = judged(registry, &rule(gate, "send_email", "to", pattern), "send_email", &mail);
            prop_assert!(said.is_none() || said == Some(expected), "{} {}: {:?}", mail, pattern, said);
        }

        let environment = pick(0, &["null", "\"production\"", "[\"production\"]", "[\"staging\",\"production\"]", "\"Production\"", "\" production\"", "\"produc\\u0074ion\"", "[]"]);
        let service = pick(1, &["api", "API", " api", "\\u0061pi", "\u{ff41}pi"]);
        let raw = format!(r#"{{"environment":{environment},"service":"{service}"}}"#);
        let raw = if dice[2] % 3 == 0 { format!(r#"{{"service":"{service}"}}"#) } else { raw };
        let deny = rule(Gate::Deny, "check_*", "environment", "production");
        let said = judged(registry, &deny, "check_service_status", &raw);
        prop_assert!(matches!(said, None | Some("deny")), "{}: {:?}", raw, said);

        let number = pick(4, &["1", "1.0", "1e0", "10e-1", "1.000", "0.1e1"]);
        let raw = format!(r#"{{"url":"http://example.com/","body":{{"amount":{number}}}}}"#);
        let deny = rule(Gate::Deny, "http_post", "body.amount", "1");
        prop_assert_eq!(judged(registry, &deny, "http_post", &raw), Some("deny"), "{}", raw);
    }
}

#[test]
fn most_harmless_spellings_are_taken_and_not_refused() {
    for (written, canonical) in [
        ("HTTP://Example.COM", "http://example.com/"),
        ("http://example.com.:080/./a/../b?#x", "http://example.com/b"),
        ("https://example.com:443/%7euser/%61?q=%2f%41", "https://example.com/~user/a?q=%2FA"),
        ("https://b\u{fc}cher.example/caf\u{e9}|x", "https://xn--bcher-kva.example/caf%C3%A9%7Cx"),
        ("https://bu\u{308}cher.example/cafe\u{301}", "https://xn--bcher-kva.example/caf%C3%A9"),
        ("https://example.com/a/?x='y'", "https://example.com/a/?x=%27y%27"),
    ] {
        assert_eq!(Url::try_from(written.to_owned()).map(String::from).as_deref(), Ok(canonical), "{written}");
    }
}

/// The ways around a rule that were seen to work, and their kin.
#[test]
fn a_spelling_that_is_read_in_two_ways_is_refused_with_the_canonical_form() {
    for (kind, written, words) in [
        (
            Kind::Url,
            "http://x.example/public/%2e%2e/admin",
            "escaped dot (`%2E`) in it; write `http://x.example/admin`",
        ),
        (Kind::Url, "http://x.example//admin", "empty segment (`//`) in it; write `http://x.example/admin`"),
        (Kind::Url, "http://x.example/a//", "empty segment"),
        (Kind::Url, "http://x.example/a%2fb", "escaped slash or backslash (`%2F`)"),
        (Kind::Url, "http://x.example/a%5Cb", "escaped slash or backslash (`%5C`)"),
        (Kind::Url, "http://x.example/%252e%252e/a", "escape of an escape"),
        (Kind::Url, "http://x.example/%00", "escaped control character"),
        (Kind::Url, "http://x.example/%c0%ae", "not UTF-8"),
        (Kind::Url, "http://x.example/%zz", "a `%` in it that is no escape"),
        (Kind::Url, "http://x.example/?a=%", "a `%` in it that is no escape"),
        (Kind::Url, "http://x.example/e%CC%81", "use composed ones (NFC)"),
        (Kind::Url, "http://x.example/\u{ff0e}\u{ff0e}\u{ff0f}a", "some servers take for a dot or a slash"),
        (Kind::Url, "http://x.example/public/..;/admin", "a `;` in it"),
        (Kind::Url, "http://127.1/", "as four decimal numbers, here 127.0.0.1; write `http://127.0.0.1/`"),
        (Kind::Url, "http://2130706433/", "write `http://127.0.0.1/`"),
        (Kind::Url, "http://0x7f000001/", "write `http://127.0.0.1/`"),
        (Kind::Url, "http://0177.0.0.1/", "write `http://127.0.0.1/`"),
        (Kind::Url, "http://\u{ff11}27.0.0.1/", "write `http://127.0.0.1/`"),
        (Kind::Url, "http://127.0.0.1./", "write `http://127.0.0.1/`"),
        (Kind::Url, "http://%31%32%37.0.0.1/", "no escapes in it; write `http://127.0.0.1/`"),
        (Kind::Url, "http://[0:0::1]/", "in its shortest form in brackets, here [::1]; write `http://[::1]/`"),
        (Kind::Url, "http://[::ffff:10.0.0.1]/", "another way to write 10.0.0.1; write `http://10.0.0.1/`"),
        (Kind::Url, "http:x.example/", "exactly two slashes have to stand before the host; write `http://x.example/`"),
        (
            Kind::Url,
            "http:///x.example/",
            "exactly two slashes have to stand before the host; write `http://x.example/`",
        ),
        (Kind::Url, "http:/x.example/", "exactly two slashes"),
        (Kind::Url, "http:\\\\x.example\\a", "backslashes in it; write `http://x.example/a`"),
        (Kind::Url, "http://x.ex\tample/", "white space"),
        (Kind::Url, "http://@x.example/", "a name or password in it"),
        (Kind::Url, "http://x..example/", "with single dots between them"),
        (Kind::Url, "http://x.example../", "with single dots between them"),
        (Kind::Url, "http://.x.example/", "with single dots between them"),
        (Kind::Url, "http://x!.example/", "the host is not the name of a machine"),
        (Kind::Path, "/etc/passwd", "starts at the root"),
        (Kind::Path, "a/../b", "`..` in it"),
        (Kind::Path, "a\\b", "backslash"),
        (Kind::Path, "a\u{202e}b", "control characters"),
        (Kind::Mail, "ada@example.com.", "is not a mail address"),
        (Kind::Host, "127.1", "write `127.0.0.1`"),
        (Kind::Host, "x.example/a", "not the name or the address of a host"),
        (Kind::Host, "x.example:80", "not the name or the address of a host"),
        (Kind::Service, " api", "write `api`"),
        (Kind::Version, "v1 2", "`version` has to be letters"),
    ] {
        let said = kind.canonical(written).expect_err(written);
        assert!(said.contains(words), "{written}: {said}");
    }
    for (kind, written, canonical) in [
        (Kind::Host, "API.Example.com.", "api.example.com"),
        (Kind::Host, "[::1]", "[::1]"),
        (Kind::Path, "", "."),
        (Kind::Path, ".//a/./b/", "a/b"),
        (Kind::Mail, "Ada Lovelace <Ada@EXAMPLE.com>", "Ada@example.com"),
    ] {
        assert_eq!(kind.canonical(written).as_deref(), Ok(canonical), "{written}");
    }
}

/// What is left out, `null` and the default are one call, and a rule sees what it stands for.
#[test]
fn a_default_is_written_out() {
    let registry = everything();
    for (tool, spellings, canonical) in [
        (
            "log_message",
            vec![r#"{"message":"x"}"#, r#"{"message":"x","level":null}"#, r#"{"level":"info","message":"x"}"#],
            json!({"message": "x", "level": "info"}),
        ),
        (
            "sleep",
            vec![r#"{"seconds":90.0}"#, r#"{"seconds":9e1,"reason":null}"#, r#"{"seconds":90,"reason":" "}"#],
            json!({"seconds": 90}),
        ),
        (
            "read_file",
            vec!["{}", r#"{"path":""}"#, r#"{"path":"./","first_line":1.0,"lines":null}"#],
            json!({"path": ".", "first_line": 1}),
        ),
        (
            "check_service_status",
            vec![
                r#"{"service":"api"}"#,
                r#"{"service":"api","environment":null}"#,
                r#"{"service":"api","environment":["staging","production","staging"]}"#,
            ],
            json!({"service": "api", "environment": ["production", "staging"]}),
        ),
        (
            "check_service_status",
            vec![r#"{"service":"web"}"#, r#"{"service":"web","environment":["staging"]}"#],
            json!({"service": "web", "environment": "staging"}),
        ),
        (
            "create_support_ticket",
            vec![r#"{"subject":" s ","body":"b"}"#, r#"{"subject":"s","body":"b","priority":null,"customer":null}"#],
            json!({"subject": "s", "body": "b", "priority": "normal"}),
        ),
        (
            "send_email",
            vec![r#"{"to":["Zoe <zoe@x.example>","ada@X.example"],"subject":"s ","body":"a\r\nb"}"#],
            json!({"to": ["ada@x.example", "zoe@x.example"], "subject": "s", "body": "a\nb"}),
        ),
    ] {
        for raw in spellings {
            assert_eq!(registry.check(tool, raw).map(|args| args.into_value()), Ok(canonical.clone()), "{tool} {raw}");
        }
    }
}

#[tokio::test]
async fn arguments_that_are_not_canonical_any_more_are_neither_planned_nor_run() {
    let dir = tempfile::tempdir().unwrap();
    let registry = tools(&format!("[files]\nroot = '{}'", dir.path().display()));
    for (tool, args) in [
        ("write_file", json!({ "path": "./a", "content": "x" })),
        ("read_file", json!({ "path": "a" })),
        ("sleep", json!({ "seconds": 1.0 })),
        ("log_message", json!({ "message": "x", "level": null })),
    ] {
        let canonical = registry.check_value(tool, args.clone()).unwrap();
        let Outcome::Failed { error } = registry.run(tool, &args, &call()).await else { panic!("{tool} {args}") };
        let start = format!("{tool}: nothing was done: the arguments are not in their canonical form, which is {{");
        assert!(error.starts_with(&start), "{error}");
        let ran = registry.run(tool, canonical.as_value(), &call()).await;
        assert!(!matches!(&ran, Outcome::Failed { error } if error.contains("canonical")), "{tool}: {ran:?}");
        if tool == "write_file" {
            assert!(registry.plan(tool, &args).await.unwrap_err().contains("not in their canonical form"));
        }
    }
}

/// A tool has to say so if what it returns is its own; and what its calls are about.
#[test]
fn whatever_reaches_outside_returns_text_from_outside_and_names_what_it_is_about() {
    let registry = tools("[support]\nbackend = 'directory'\n");
    let found: Vec<(&str, bool, Vec<String>)> = registry
        .names()
        .map(|name| (name, registry.facts(name).unwrap()))
        .map(|(name, facts)| (name, facts.outside, facts.target.clone()))
        .collect();
    let about = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        found,
        [
            ("log_message", false, about(&[])),
            ("sleep", false, about(&[])),
            ("check_service_status", false, about(&["service", "environment"])),
            ("deploy_service", true, about(&["service", "environment"])),
            ("http_get", true, about(&["url"])),
            ("http_post", true, about(&["url"])),
            ("read_file", true, about(&["path"])),
            ("write_file", false, about(&["path"])),
            ("send_email", false, about(&["to"])),
            ("lookup_customer", true, about(&[])),
            ("create_support_ticket", false, about(&[])),
        ]
    );
    #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    struct Nothing {}
    let new = twelve::tools::Spec::of::<Nothing>("new", "A new tool.");
    assert!(new.facts.outside && new.facts.target.is_empty(), "a new tool's output counts as text from outside");
    for name in registry.names() {
        let schema = &registry.decls(&[name])[0].schema;
        assert!(!schema.to_string().contains("x-kind"), "providers are not told of kinds: {schema}");
        for argument in &registry.facts(name).unwrap().target {
            assert!(schema["properties"][argument].is_object(), "{name} has no argument {argument}");
        }
    }
}

// ---- what others receive ----

type Seen = Arc<Mutex<Vec<(String, String)>>>;

async fn recording() -> (std::net::SocketAddr, Seen) {
    crate::crypto();
    let seen = Seen::default();
    let record = |State(seen): State<Seen>, uri: Uri, headers: HeaderMap| async move {
        let host = headers.get("host").unwrap().to_str().unwrap().to_owned();
        seen.lock().unwrap().push((host, uri.to_string()));
    };
    let app = Router::new().fallback(record).with_state(seen.clone());
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, seen)
}

#[test]
fn a_server_receives_the_canonical_address_byte_for_byte() {
    let runtime = Runtime::new().unwrap();
    let (at, seen) = runtime.block_on(recording());
    let registry = tools(&format!("[http]\nallow = ['{at}']\nallow_private = ['127.0.0.2']"));
    let path = (proptest::collection::vec(odd_text(), 0..3), address(), proptest::collection::vec(any::<u16>(), 12));
    proptest!(config(60), |((texts, mut address, dice) in path)| {
        address.scheme = "http";
        let spelled = spelled(&address, &dice);
        let tail = spelled.split_once("//").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, tail)| tail).to_owned();
        for tail in [tail, texts.join("/")] {
            let args = json!({ "url": format!("http://{at}/{tail}") });
            let Ok(args) = registry.check_value("http_get", args) else { continue };
            seen.lock().unwrap().clear();
            let outcome = runtime.block_on(registry.run("http_get", args.as_value(), &call()));
            prop_assert!(matches!(outcome, Outcome::Succeeded { .. }), "{:?}", outcome);
            let received: Vec<String> = seen.lock().unwrap().iter().map(|(host, uri)| format!("http://{host}{uri}")).collect();
            prop_assert_eq!(received, vec![args.as_value()["url"].as_str().unwrap().to_owned()]);
        }
    });
}

#[test]
fn a_file_is_written_under_the_canonical_path_byte_for_byte() {
    fn names(dir: &Path, within: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => names(&path, within, found),
                false => drop(found.insert(path.strip_prefix(within).unwrap().to_str().unwrap().to_owned())),
            }
        }
    }
    let runtime = Runtime::new().unwrap();
    proptest!(config(60), |(path in proptest::collection::vec(odd_text(), 1..4).prop_map(|parts| parts.join("/")))| {
        let dir = tempfile::tempdir().unwrap();
        let registry = tools(&format!("[files]\nroot = '{}'", dir.path().join("root").display()));
        if let Ok(args) = registry.check_value("write_file", json!({ "path": path, "content": "x" })) {
            let outcome = runtime.block_on(registry.run("write_file", args.as_value(), &call()));
            prop_assert!(matches!(outcome, Outcome::Succeeded { .. }), "{:?}", outcome);
            let mut found = BTreeSet::new();
            names(dir.path(), &dir.path().join("root"), &mut found);
            prop_assert_eq!(found, BTreeSet::from([args.as_value()["path"].as_str().unwrap().to_owned()]));
        }
    });
}

#[test]
fn a_mail_server_is_told_the_canonical_recipients_and_no_others() {
    crate::crypto();
    let runtime = Runtime::new().unwrap();
    let settings = |server: &Smtp| {
        let (ip, port) = (server.address.ip(), server.address.port());
        let mail = "[email]\nfrom = 'twelve@example.com'\nallow = ['*']\ntransport = 'smtp'";
        tools(&format!("{mail}\n[email.smtp]\nhost = '{ip}'\nport = {port}\ntls = 'none'\n"))
    };
    let name = select(vec!["", "Ada <", "\"Lovelace, A.\" <", "\u{c4}d\u{e4} <"]);
    let to = (
        name,
        "[A-Za-z][A-Za-z0-9+_-]{0,5}",
        select(vec!["example.com", "EXAMPLE.com", "a.Example", "xn--bcher-kva.example"]),
    );
    let to = to
        .prop_map(|(name, local, domain)| format!("{name}{local}@{domain}{}", if name.is_empty() { "" } else { ">" }));
    proptest!(config(40), |(to in proptest::collection::vec(to, 1..4))| {
        // One for each mail: it keeps all that it was told.
        let server = runtime.block_on(Smtp::start());
        let registry = settings(&server);
        let Ok(args) = registry.check_value("send_email", json!({ "to": to, "subject": "s", "body": "b" })) else {
            return Ok(());
        };
        let outcome = runtime.block_on(registry.run("send_email", args.as_value(), &call()));
        prop_assert!(matches!(outcome, Outcome::Succeeded { .. }), "{:?}", outcome);
        let told: Vec<Value> = server.taken()[0].to.iter().map(|to| json!(to)).collect();
        prop_assert_eq!(Value::Array(told), args.as_value()["to"].clone());
    });
}

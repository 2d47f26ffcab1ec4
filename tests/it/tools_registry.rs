//! The registry: checks of arguments, bounds on runs, and the two tools that touch nothing outside.

use std::collections::BTreeSet;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use twelve::agent::{Outcome, Plan, Risk, Timestamp, ToolFacts};
use twelve::tools::{
    Boxed, CallContext, MAX_ARGUMENTS, MAX_ERROR, MAX_OUTPUT, MAX_REFUSAL, MAX_TITLE, Registry, Spec, Tool, ToolsConfig,
};

use crate::fake_service::{Checked as _, call};

/// A tool that does what it is told.
struct Odd {
    spec: Spec,
    act: fn() -> Boxed<'static, Outcome>,
}

fn odd(name: &str, idempotent: bool, act: fn() -> Boxed<'static, Outcome>) -> Odd {
    let facts = ToolFacts {
        name: name.to_owned(),
        description: "Odd.".to_owned(),
        schema_version: 1,
        risk: Risk::High,
        side_effects: !idempotent,
        idempotent,
        plans: true,
        editable: true,
        outside: false,
        sends: false,
        target: Vec::new(),
    };
    let schema = json!({
        "type": "object", "additionalProperties": false,
        "properties": { "n": { "type": "integer", "minimum": 1 }, "panic": { "type": "string" } },
    });
    Odd { spec: Spec::described(facts, schema), act }
}

impl Tool for Odd {
    fn spec(&self) -> &Spec {
        &self.spec
    }
    fn timeout(&self) -> Duration {
        Duration::from_millis(50)
    }
    fn title(&self, args: &Value) -> String {
        assert!(args["panic"] != "title", "no title");
        format!("Odd\n\u{202e}{}", "x".repeat(1_000))
    }
    fn check(&self, args: &Value) -> Result<Value, String> {
        assert!(args["panic"] != "check", "no check");
        if args["n"] == 13 { Err("13 is bad luck; take 12".to_owned()) } else { self.spec.canonical(args) }
    }
    fn plan<'a>(&'a self, args: &'a Value) -> Boxed<'a, Result<Plan, String>> {
        assert!(args["panic"] != "plan", "no plan");
        Box::pin(async { pending().await })
    }
    fn run<'a>(&'a self, args: &'a Value, _: &'a CallContext) -> Boxed<'a, Outcome> {
        assert!(args["panic"] != "run", "at once");
        (self.act)()
    }
}

fn one(tool: Odd) -> Registry {
    Registry::new(vec![Arc::new(tool)]).unwrap()
}

fn builtin() -> Registry {
    Registry::from_config(&ToolsConfig::default(), std::path::Path::new("unused")).unwrap()
}

#[test]
fn the_built_in_tools_are_declared_as_every_provider_takes_them() {
    let registry = builtin();
    let names: Vec<&str> = registry.names().collect();
    assert_eq!(
        names,
        [
            "log_message",
            "sleep",
            "check_service_status",
            "deploy_service",
            "http_get",
            "http_post",
            "read_file",
            "write_file",
            "send_email",
            "lookup_customer",
            "create_support_ticket"
        ]
    );
    let decls = registry.decls(&["sleep", "log_message", "gone"]);
    assert_eq!(
        decls.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(),
        ["sleep", "log_message"],
        "in the order asked"
    );
    for decl in registry.decls(&names) {
        let text = decl.schema.to_string();
        assert!(!text.contains("$ref") && !text.contains("$defs") && !text.contains("$schema"), "{text}");
        assert_eq!(decl.schema["additionalProperties"], json!(false));
        for (name, argument) in decl.schema["properties"].as_object().unwrap() {
            assert!(argument["description"].is_string(), "{}.{name} is described", decl.name);
        }
    }
    let deploy = registry.facts("deploy_service").unwrap();
    assert!(deploy.side_effects && deploy.plans && deploy.editable && !deploy.idempotent);
    assert_eq!(deploy.risk, Risk::High);
    for name in ["log_message", "sleep", "check_service_status", "http_get", "read_file"] {
        let facts = registry.facts(name).unwrap();
        assert!(!facts.side_effects && facts.idempotent && facts.risk == Risk::Low, "{name}");
    }
    assert_eq!(registry.facts("gone"), None);
}

#[test]
fn a_refusal_says_which_argument_and_what_is_allowed() {
    let registry = builtin();
    for (name, raw, words) in [
        ("deploy", "{}", "there is no tool `deploy`"),
        ("sleep", "", "sleep: `seconds` is missing"),
        ("sleep", "[1]", "sleep: the arguments have to be of type object, not [1]"),
        ("sleep", r#"{"seconds":0}"#, "sleep: `seconds` has to be at least 1, not 0"),
        ("sleep", r#"{"seconds":2592001}"#, "sleep: `seconds` has to be at most 2592000, not 2592001"),
        ("sleep", r#"{"seconds":90,"seconds":1}"#, "sleep: the key `seconds` occurs twice in one object"),
        (
            "sleep",
            r#"{"seconds":90000000000000000000001}"#,
            "sleep: the number 90000000000000000000001 cannot be represented exactly; send it as a string",
        ),
        (
            "sleep",
            r#"{"secs":90}"#,
            "sleep: unknown argument `secs`; did you mean `seconds`? (allowed: reason, seconds); `seconds` is missing",
        ),
        (
            "log_message",
            r#"{"message":"x","level":"warning"}"#,
            "log_message: `level` has to be one of debug, info, warn, error, not \"warning\"",
        ),
        (
            "deploy_service",
            r#"{"service":"api","version":"v1","environment":"x"}"#,
            "deploy_service: no services are configured; an operator adds them as [tools.services.<name>]",
        ),
    ] {
        assert_eq!(registry.check(name, raw), Err(words.to_owned()), "{name} {raw}");
    }
    let refused = registry.check("sleep", r#"{"seconds":90.5}"#).unwrap_err();
    assert!(refused.contains("90.5"), "{refused}");
    let checked = registry.check("sleep", " {\"seconds\": 90} ").unwrap();
    assert_eq!(checked.as_value(), &json!({"seconds": 90}));
    assert_eq!(registry.check_value("sleep", json!({"seconds": 90})), Ok(checked));
    assert!(registry.check_value("sleep", json!({"seconds": "90"})).is_err());
}

#[test]
fn a_refusal_is_short_however_long_the_nonsense_is() {
    let registry = builtin();
    let long = "ä".repeat(60_000);
    for (name, raw) in [
        ("sleep", format!(r#"{{"seconds":"{long}"}}"#)),
        ("sleep", format!(r#"{{"{long}":1}}"#)),
        ("sleep", format!(r#"{{"{long}":1,"{long}":2}}"#)),
        ("sleep", long.clone()),
        (long.as_str(), "{}".to_owned()),
        ("log_message", format!(r#"{{"message":"{long}"}}"#)),
        ("deploy_service", format!(r#"{{"service":"{long}","version":"{long}","environment":"{long}"}}"#)),
    ] {
        let error = registry.check(name, &raw).unwrap_err();
        assert!(error.chars().count() <= MAX_REFUSAL, "{} characters: {error}", error.chars().count());
    }
    let too_long = format!(r#"{{"message":"{}"}}"#, "x".repeat(MAX_ARGUMENTS));
    let error = registry.check("log_message", &too_long).unwrap_err();
    assert_eq!(error, "the arguments of `log_message` are 262158 bytes long; at most 262144 are read");
}

#[test]
fn a_tool_may_refuse_what_the_schema_allows() {
    let registry = one(odd("odd", true, || Box::pin(pending())));
    assert_eq!(registry.check("odd", r#"{"n":13}"#), Err("odd: 13 is bad luck; take 12".to_owned()));
}

#[tokio::test]
async fn arguments_are_checked_again_before_a_plan_and_before_a_run() {
    let registry = one(odd("odd", false, || panic!("must not run")));
    for args in [json!({"n": 0}), json!({"n": 13}), json!({"m": 1})] {
        let refused = registry.check_value("odd", args.clone()).unwrap_err();
        assert_eq!(registry.plan("odd", &args).await, Err(refused.clone()));
        assert_eq!(registry.run("odd", &args, &call()).await, Outcome::Failed { error: refused });
    }
    let gone = registry.run("gone", &json!({}), &call()).await;
    assert_eq!(gone, Outcome::Failed { error: "there is no tool `gone`".to_owned() });
}

#[tokio::test]
async fn a_tool_that_does_not_come_back_is_a_failure_only_if_it_may_run_again() {
    let run =
        async |idempotent| one(odd("odd", idempotent, || Box::pin(pending()))).run("odd", &json!({}), &call()).await;
    assert_eq!(run(true).await, Outcome::Failed { error: "timed out after 50ms".to_owned() });
    let error = "timed out after 50ms; nobody can tell whether it took effect".to_owned();
    assert_eq!(run(false).await, Outcome::Unknown { error });
    let plan = one(odd("odd", true, || Box::pin(pending()))).plan("odd", &json!({})).await;
    assert_eq!(plan, Err("the plan of `odd` timed out after 50ms".to_owned()));
}

#[tokio::test]
async fn a_panic_in_a_tool_ends_that_call_only() {
    let later = || -> Boxed<'static, Outcome> {
        Box::pin(async {
            tokio::task::yield_now().await;
            panic!("later on")
        })
    };
    for (args, why) in [(json!({"panic": "run"}), "at once"), (json!({}), "later on")] {
        let failed = one(odd("odd", true, later)).run("odd", &args, &call()).await;
        assert_eq!(failed, Outcome::Failed { error: format!("`odd` broke on our side ({why})") });
        let unknown = one(odd("odd", false, later)).run("odd", &args, &call()).await;
        let error = format!("`odd` broke on our side ({why}); nobody can tell whether it took effect");
        assert_eq!(unknown, Outcome::Unknown { error });
    }
    let registry = one(odd("odd", true, later));
    let plan = registry.plan("odd", &json!({"panic": "plan"})).await;
    assert_eq!(plan, Err("`odd` broke on our side (no plan)".to_owned()));
    assert_eq!(registry.title("odd", &json!({"panic": "title"})), "Call odd");
    let check = registry.check("odd", r#"{"panic":"check"}"#);
    assert_eq!(check, Err("odd: `odd` broke on our side (no check)".to_owned()));
}

#[tokio::test]
async fn what_a_tool_says_is_bounded_and_never_empty() {
    async fn said(act: fn() -> Boxed<'static, Outcome>) -> Outcome {
        one(odd("odd", true, act)).run("odd", &json!({}), &call()).await
    }
    let Outcome::Succeeded { text } =
        said(|| Box::pin(async { Outcome::Succeeded { text: format!("head {} tail", "🦀".repeat(1_000_000)) } })).await
    else {
        panic!("not succeeded")
    };
    assert!(text.len() <= MAX_OUTPUT && text.len() > MAX_OUTPUT - 100, "{}", text.len());
    assert!(text.starts_with("head 🦀") && text.ends_with("🦀 tail") && text.contains(" more bytes …\n"), "{text}");
    let Outcome::Failed { error } = said(|| Box::pin(async { Outcome::Failed { error: "x".repeat(1_000_000) } })).await
    else {
        panic!("not failed")
    };
    assert!(error.len() <= MAX_ERROR);
    let empty = said(|| Box::pin(async { Outcome::Succeeded { text: " \n".to_owned() } })).await;
    assert_eq!(empty, Outcome::Succeeded { text: "(done; the tool gave no output)".to_owned() });
}

#[test]
fn a_title_is_one_plain_line_for_any_arguments() {
    let registry = one(odd("odd", true, || Box::pin(pending())));
    let title = registry.title("odd", &json!({}));
    assert!(title.starts_with("Odd xxx") && title.ends_with('…') && title.chars().count() == MAX_TITLE, "{title}");
    let builtin = builtin();
    for (name, args, title) in [
        ("sleep", json!({"seconds": 9000}), "Wait 2h 30m"),
        ("sleep", json!(7), "Wait"),
        ("log_message", json!({"message": "a\nb"}), "Log: a b"),
        ("check_service_status", json!({"service": "api"}), "Check api"),
        ("check_service_status", json!({"service": "api", "environment": "staging"}), "Check api in staging"),
        (
            "deploy_service",
            json!({"service": "api", "version": "v1.2.3", "environment": "staging"}),
            "Deploy api v1.2.3 to staging",
        ),
        ("gone", json!({}), "Call gone"),
    ] {
        assert_eq!(builtin.title(name, &args), title);
    }
}

#[test]
fn a_tool_that_no_provider_would_take_is_refused_at_start() {
    let refused = |tools: Vec<Odd>| {
        let tools = tools.into_iter().map(|t| Arc::new(t) as Arc<dyn Tool>).collect();
        format!("{:#}", Registry::new(tools).err().expect("refused"))
    };
    let act: fn() -> Boxed<'static, Outcome> = || Box::pin(pending());
    assert_eq!(refused(vec![odd("a", true, act), odd("a", true, act)]), "there are two tools with the name `a`");
    assert_eq!(refused(vec![odd("a b", true, act)]), "the tool name `a b` is not 1 to 64 letters, digits, `_` or `-`");
    for (schema, words) in [
        (json!({"type": "string"}), "is not the schema of an object"),
        (json!({"type": "object"}), "accepts arguments that it does not name"),
        (
            json!({"type": "object", "additionalProperties": false, "properties": {"x": {"$ref": "#/$defs/x"}}}),
            "has a `$ref`",
        ),
    ] {
        let mut tool = odd("a", true, act);
        tool.spec.schema = schema;
        let error = refused(vec![tool]);
        assert!(error.starts_with("the schema of the tool `a`: ") && error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn sleep_holds_nothing_and_names_the_moment_at_which_it_ends() {
    let registry = builtin();
    let until = Timestamp(91_000);
    let slept = registry.checked_run("sleep", &json!({"seconds": 90, "reason": null}), &call()).await;
    assert_eq!(slept, Outcome::Suspended { until, text: "slept 90s".to_owned() });
    let slept = registry.checked_run("sleep", &json!({"seconds": 90, "reason": "the\ncanary"}), &call()).await;
    assert_eq!(slept, Outcome::Suspended { until, text: "slept 90s (the canary)".to_owned() });
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn log_message_writes_one_line_with_its_level_whatever_the_message_holds() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_ansi(false)
        .without_time()
        .with_writer(move || writer.clone())
        .finish();
    crate::listening();
    let _guard = tracing::subscriber::set_default(subscriber);
    let registry = builtin();
    for args in [
        json!({"message": "deployed\nERROR twelve: forged\u{1b}[2J"}),
        json!({"message": "hot", "level": "warn"}),
        json!({"message": "broken", "level": "error"}),
        json!({"message": "detail", "level": "debug"}),
    ] {
        let done = registry.checked_run("log_message", &args, &call()).await;
        assert_eq!(done, Outcome::Succeeded { text: "logged".to_owned() });
    }
    let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    let lines: BTreeSet<(&str, &str)> = text
        .lines()
        .filter(|line| line.contains("twelve::agent_log"))
        .map(|line| (line.trim().split(' ').next().unwrap(), line.split("agent_log: ").nth(1).unwrap()))
        .map(|(level, rest)| (level, rest.split(" effect.id").next().unwrap()))
        .collect();
    let expected =
        [("INFO", "deployed\\nERROR twelve: forged[2J"), ("WARN", "hot"), ("ERROR", "broken"), ("DEBUG", "detail")];
    assert_eq!(lines, BTreeSet::from(expected), "{text}");
}

//! Agents, prompts and prompt cases as data: what is accepted, what start-up refuses and in which words.

use serde_json::{Value, json};
use twelve::agent::cases::{self, Case};
use twelve::agent::prompt::{PromptVars, render};
use twelve::agent::{
    AgentFile, AgentSpec, Agents, Approvers, Digest, Gate, Given, Limits, ModelReply, Policy, RawCall, Risk, ToolFacts,
};
use twelve::config::{builtin_agents, builtin_cases};

fn tool(name: &str, risk: Risk, side_effects: bool) -> ToolFacts {
    ToolFacts {
        name: name.into(),
        description: format!("What {name} does."),
        schema_version: 1,
        risk,
        side_effects,
        idempotent: !side_effects,
        plans: false,
        editable: true,
        outside: false,
        sends: false,
        target: Vec::new(),
    }
}

fn tools() -> Vec<ToolFacts> {
    vec![
        tool("check_service_status", Risk::Low, false),
        tool("deploy_service", Risk::High, true),
        tool("log_message", Risk::Low, false),
        tool("sleep", Risk::Low, false),
        tool("send_email", Risk::Medium, true),
        tool("lookup_customer", Risk::Low, false),
        tool("create_support_ticket", Risk::Low, true),
    ]
}

fn anyone() -> Policy {
    let approvers = Approvers { users: vec!["*".into()], ..Approvers::default() };
    Policy { approvers, expires_after_ms: 7_200_000, ..Policy::default() }
}

fn check_args(tool: &str, args: &Value) -> Result<Value, String> {
    match (tool, args.get("service")) {
        ("check_service_status", None) => Err("`service` is missing".into()),
        _ => Ok(args.clone()),
    }
}

fn load(overrides: &[(&str, &str)], policy: &Policy, require_approvers: bool) -> Result<Agents, Vec<String>> {
    let files: Vec<AgentFile> =
        overrides.iter().map(|(file, text)| AgentFile { file: (*file).into(), text: (*text).into() }).collect();
    let given = Given {
        app_name: "twelve",
        tools: &tools(),
        check_args: &check_args,
        policy,
        require_approvers,
        limits: &Limits::default(),
    };
    Agents::load(&builtin_agents(), &files, &given)
}

/// All problems of one agent file.
fn problems(front: &str, body: &str) -> String {
    let text = format!("+++\ndescription = \"x\"\n{front}\n+++\n{body}\n");
    load(&[("agents/probe.md", &text)], &anyone(), false).err().unwrap_or_default().join("\n")
}

#[test]
fn the_built_in_agents_load_and_their_prompts_render_whole() {
    let agents = load(&[], &anyone(), false).unwrap();
    assert_eq!(agents.names().collect::<Vec<_>>(), ["assistant", "deployment", "support"]);
    for agent in agents.iter() {
        assert!(!agent.prompt.contains("{{") && !agent.prompt.contains("{%"), "{}", agent.prompt);
        assert!(!agent.prompt.contains("\n\n\n"), "no hole in the prompt:\n{}", agent.prompt);
        for tag in ["human", "agent", "tool_call", "tool_result", "question", "answer", "notice", "summary"] {
            assert!(agent.prompt.contains(&format!("`<{tag}")), "{tag} is not explained");
        }
    }
}

#[test]
fn the_deployment_prompt_says_which_tools_ask() {
    let agents = load(&[], &anyone(), false).unwrap();
    let prompt = &agents.get("deployment").unwrap().prompt;
    let (_, part) = prompt.split_once("## Your tools").unwrap();
    let (part, _) = part.split_once("\n\n## ").unwrap();
    insta::assert_snapshot!(part.trim(), @r#"
    - `check_service_status` (low risk): What check_service_status does.
    - `deploy_service` (high risk): What deploy_service does. People are asked before it runs.
    - `log_message` (low risk): What log_message does.
    - `sleep` (low risk): What sleep does.
    - `ask_human`: puts one question to a person and waits for the answer.
    "#);
    assert!(prompt.starts_with("You are deployment, the deployment agent of twelve."));
}

#[test]
fn rendering_twice_gives_the_same_bytes() {
    let file = &builtin_agents()[0];
    let spec = AgentSpec::parse(&file.file, &file.text, &Limits::default()).unwrap();
    let vars = PromptVars::new(&spec, "twelve", &tools(), &anyone());
    assert_eq!(render(&spec, &vars), render(&spec, &vars));
    assert_eq!(spec.digest, Digest::of(file.text.as_bytes()), "the digest covers the whole file");
}

#[test]
fn a_file_of_the_operator_takes_the_place_of_the_built_in_agent() {
    let mine = "+++\ndescription = \"Mine.\"\n+++\nBe brief, {{ agent.name }}.\n";
    let agents = load(&[("etc/agents/support.md", mine)], &anyone(), false).unwrap();
    assert_eq!(agents.get("support").unwrap().prompt, "Be brief, support.");
    assert_eq!(agents.names().count(), 3);
}

#[test]
fn every_setting_of_the_front_matter_is_read() {
    let text = r#"+++
description = "All of it."
provider = "openai"
model = "m-1"
tools = ["deploy_service", "check_service_status"]

[gates]
check_service_status = "auto"
deploy_service = { gate = "ask", approvers = { groups = ["release"], quorum = 2 }, expires_after = "30m", args = { environment = "prod.*" }, why = "production" }

[[prefetch]]
tool = "check_service_status"
args = { service = "api" }

[limits]
max_steps = 7
+++
Hello.
"#;
    let defaults = Limits { max_errors: 9, ..Limits::default() };
    let spec = AgentSpec::parse("agents/all.md", text, &defaults).unwrap();
    assert_eq!((spec.name.as_str(), spec.description.as_str()), ("all", "All of it."));
    assert_eq!((spec.provider.as_deref(), spec.model.as_deref()), (Some("openai"), Some("m-1")));
    assert_eq!(spec.limits, Limits { max_steps: 7, ..defaults });
    assert_eq!(spec.prefetch[0].args, json!({"service": "api"}));
    let rules: Vec<_> = spec.rules.iter().map(|r| (r.name.as_str(), r.agent.as_str(), r.gate)).collect();
    assert_eq!(
        rules,
        [("agent:all:check_service_status", "all", Gate::Auto), ("agent:all:deploy_service", "all", Gate::Ask)]
    );
    let deploy = &spec.rules[1];
    assert_eq!(deploy.expires_after, Some(1_800_000));
    assert_eq!(deploy.why, "production");
    let approvers = deploy.approvers.clone().unwrap();
    assert_eq!((approvers.groups, approvers.quorum), (vec!["release".to_owned()], 2));
    let facts = &tools()[1];
    assert!(deploy.matches("all", facts, &json!({"environment": "prod-eu"})));
    assert!(!deploy.matches("other", facts, &json!({"environment": "prod-eu"})), "a gate holds for its own agent only");
}

#[test]
fn mistakes_in_the_front_matter_are_named_with_their_line() {
    insta::assert_snapshot!(
        problems("tols = []\nmodel = 3\n[limits]\nmax_step = 3\nmax_tokens = 0\n[[prefetch]]\ntol = \"x\"", "Hi."),
        @r#"
    agents/probe.md line 3: unknown setting `tols`; did you mean `tools`?
    agents/probe.md line 4: `model`: invalid type: integer `3`, expected a string
    agents/probe.md line 6: unknown setting `limits.max_step`; did you mean `max_steps`?
    agents/probe.md line 7: `limits.max_tokens` has to be a whole number from 1 to 100000000
    agents/probe.md line 8: `prefetch.0`: unknown setting `tol`; allowed: `tool`, `args`; did you mean `tool`?
    "#
    );
    insta::assert_snapshot!(problems("tools = [\"sleep\", \"sleep\"]", "Hi."), @"agents/probe.md line 3: the tool `sleep` is listed twice");
    insta::assert_snapshot!(problems("tools = [", "Hi."), @"agents/probe.md line 3: unclosed array, expected `]`");
}

#[test]
fn gates_are_checked_when_agents_are_loaded() {
    insta::assert_snapshot!(
        problems(
            "tools = [\"deploy_service\", \"sleep\"]\n[gates]\ndeploy_servce = \"ask\"\nsleep = \"aks\"\ndeploy_service = { gate = \"ask\", approver = [], args = { x = \"(\" } }",
            "Hi."
        ),
        @r#"
    agents/probe.md line 5: the gate for `deploy_servce` fits none of this agent's tools; did you mean `deploy_service`?
    agents/probe.md line 7: unknown setting `gates.deploy_service.approver`; did you mean `approvers`?
    agents/probe.md line 7: `gates.deploy_service`: not a regular expression: unclosed group
    agents/probe.md line 6: `gates.sleep`: unknown word `aks`; allowed: `auto`, `ask`, `deny`; did you mean `ask`?
    "#
    );
}

#[test]
fn a_prompt_variable_that_does_not_exist_is_a_start_up_error() {
    insta::assert_snapshot!(problems("", "One.\n{{ agnt.name }}"), @"agents/probe.md line 6: the prompt uses `agnt.name`, which does not exist; did you mean `agent.name`?");
    insta::assert_snapshot!(problems("", "{{ nothing|tojson }}"), @"agents/probe.md line 5: the prompt uses `nothing`, which does not exist; there are app_name, agent, agent.name, agent.description, tools, limits, limits.max_steps, limits.max_tokens, limits.max_errors, limits.max_output_tokens");
    insta::assert_snapshot!(problems("", "{% if false %}{{ limits.max_stps }}{% endif %}"), @"agents/probe.md line 5: the prompt uses `limits.max_stps`, which does not exist; did you mean `limits.max_steps`?");
    insta::assert_snapshot!(problems("tools = [\"sleep\"]", "a\nb\n{% for t in tools %}{{ t.nam }}{% endfor %}"), @"agents/probe.md line 7: undefined value: `t.nam` is undefined");
}

#[test]
fn a_prompt_with_a_syntax_error_a_missing_partial_or_too_much_work_is_a_start_up_error() {
    insta::assert_snapshot!(problems("", "Hi.\n\n{% if %}"), @"agents/probe.md line 7: syntax error: unexpected end of block");
    insta::assert_snapshot!(problems("", "Hi.\n{% include \"/etc/passwd\" %}"), @"agents/probe.md line 6: tried to include non-existing template '/etc/passwd'; a prompt can include window.md, tools.md");
    insta::assert_snapshot!(problems("", "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}{% endfor %}"), @"agents/probe.md line 5: the prompt is more work to render than is allowed; look for a loop or a repetition");
    insta::assert_snapshot!(problems("", " \n"), @"agents/probe.md: there is no prompt after the second `+++`");
}

#[test]
fn unknown_tools_and_bad_prefetches_are_start_up_errors() {
    insta::assert_snapshot!(
        problems(
            r#"tools = ["reboot", "deploy_servce", "sleep"]"#,
            "Hi."
        ),
        @r#"
    agents/probe.md: there is no tool `reboot`
    agents/probe.md: there is no tool `deploy_servce`; did you mean `deploy_service`?
    "#
    );
    insta::assert_snapshot!(
        problems(
            r#"tools = ["check_servic_status"]
[[prefetch]]
tool = "deploy_service"
[[prefetch]]
tool = "check_service_status"
args = { name = "api" }
[[prefetch]]
tool = "chek_service_status""#,
            "Hi."
        ),
        @r#"
    agents/probe.md: there is no tool `check_servic_status`; did you mean `check_service_status`?
    agents/probe.md: prefetch of `deploy_service`, which has side effects; only tools that read may run before the model is asked
    agents/probe.md: prefetch of `check_service_status` has bad arguments: `service` is missing
    agents/probe.md: prefetch names a tool that does not exist: `chek_service_status`; did you mean `check_service_status`?
    "#
    );
}

#[test]
fn a_prefetch_that_the_policy_would_not_let_run_is_a_start_up_error() {
    let front = "tools = [\"check_service_status\"]\n[gates]\ncheck_service_status = { gate = \"ask\", args = { service = \"db\" } }\n";
    let of = |service: &str| {
        problems(
            &format!("{front}[[prefetch]]\ntool = \"check_service_status\"\nargs = {{ service = \"{service}\" }}"),
            "Hi.",
        )
    };
    insta::assert_snapshot!(of("db"), @"agents/probe.md: prefetch of `check_service_status`, which does not run by itself under the policy; only such calls may be prefetched");
    assert_eq!(of("api"), "", "another argument is not gated");
}

#[test]
fn what_the_policy_can_say_of_a_tool_follows_from_its_rules() {
    use twelve::agent::{PossibleGate, effective_gate};
    let gate = |tools_and_gates: &str| {
        let text =
            format!("+++\ndescription = \"x\"\ntools = [\"deploy_service\", \"sleep\"]\n{tools_and_gates}\n+++\nHi.");
        let spec = AgentSpec::parse("a.md", &text, &Limits::default()).unwrap();
        [1, 3].map(|i| effective_gate(&spec, &tools()[i], &anyone()))
    };
    use Gate::{Ask, Auto, Deny};
    use PossibleGate::{Depends, Only};
    assert_eq!(gate(""), [Only(Ask), Only(Auto)], "without rules, side effects ask");
    assert_eq!(gate("gates = { \"*\" = \"auto\" }"), [Only(Auto), Only(Auto)]);
    assert_eq!(gate("gates = { \"*\" = \"auto\", deploy_service = \"deny\" }"), [Only(Deny), Only(Auto)]);
    assert_eq!(
        gate(
            "gates = { deploy_service = { gate = \"auto\", args = { environment = \"dev\" } }, sleep = { gate = \"auto\", args = { x = \"y\" } } }"
        ),
        [Depends, Only(Auto)]
    );
    assert_eq!(
        gate("gates = { deploy_service = \"ask\", \"*\" = { gate = \"deny\", args = { environment = \"prod\" } } }"),
        [Depends, Depends]
    );
}

#[test]
fn no_agent_file_and_no_case_file_makes_the_readers_panic() {
    const PIECES: &[&str] = &[
        "+++\n",
        "description = \"x\"\n",
        "tools = [\"sleep\"]\n",
        "[gates]\n",
        "sleep = ",
        "{",
        "}",
        "{{ ",
        "{% if",
        "\"",
        "é",
        "[[case]]\n",
        "name = \"x\"\n",
        "\u{0}",
        "\n",
    ];
    let text = proptest::collection::vec(proptest::sample::select(PIECES), 0..20);
    proptest::proptest!(|(pieces in text)| {
        let text = pieces.concat();
        if let Ok(spec) = AgentSpec::parse("a.md", &text, &Limits::default()) {
            let vars = PromptVars::new(&spec, "twelve", &tools(), &anyone());
            let _either = render(&spec, &vars);
        }
        let _either = cases::parse("a.cases.toml", &text);
    });
}

#[test]
fn a_gated_tool_that_nobody_or_anybody_may_approve_is_a_start_up_error() {
    let front = "+++\ndescription = \"x\"\ntools = [\"deploy_service\"]\n";
    let explicit = format!(
        "{front}[gates]\ndeploy_service = {{ gate = \"ask\", approvers = {{ users = [\"console:a\"], quorum = 2 }} }}\n+++\nHi."
    );
    let implicit = format!("{front}+++\nHi.");
    let nobody = Policy::default();
    let words = |files: &[(&str, &str)], policy: &Policy, required| {
        load(files, policy, required).err().unwrap_or_default().join("\n")
    };
    insta::assert_snapshot!(words(&[("quorum.md", &explicit)], &anyone(), false), @"quorum.md: `deploy_service` asks people (rule `agent:quorum:deploy_service`) and needs 2 approvals, but only 1 may decide; lower `quorum` or name more approvers");
    insta::assert_snapshot!(words(&[("implicit.md", &implicit)], &nobody, false), @r#"
    deployment.md: `deploy_service` asks people (rule `agent:deployment:deploy_service`), but nobody may decide; name `approvers` in the gate or set `approvals.approvers`
    implicit.md: `deploy_service` asks people (rule `default: tools with side effects ask`), but nobody may decide; name `approvers` in the gate or set `approvals.approvers`
    support.md: `create_support_ticket` asks people (rule `untrusted text: not in policy.safe_after_untrusted`), but nobody may decide; name `approvers` in the gate or set `approvals.approvers`
    support.md: `send_email` asks people (rule `agent:support:send_email`), but nobody may decide; name `approvers` in the gate or set `approvals.approvers`
    "#);
    insta::assert_snapshot!(words(&[("implicit.md", &implicit)], &anyone(), true), @r#"
    deployment.md: `deploy_service` asks people (rule `agent:deployment:deploy_service`), but anyone may decide, and `approvals.require_approvers` is on; name users or groups in the gate's `approvers` or in `approvals.approvers`
    implicit.md: `deploy_service` asks people (rule `default: tools with side effects ask`), but anyone may decide, and `approvals.require_approvers` is on; name users or groups in the gate's `approvers` or in `approvals.approvers`
    support.md: `create_support_ticket` asks people (rule `untrusted text: not in policy.safe_after_untrusted`), but anyone may decide, and `approvals.require_approvers` is on; name users or groups in the gate's `approvers` or in `approvals.approvers`
    support.md: `send_email` asks people (rule `agent:support:send_email`), but anyone may decide, and `approvals.require_approvers` is on; name users or groups in the gate's `approvers` or in `approvals.approvers`
    "#);
    // What a rule lets run asks people after text from outside: then they have to be there, unless it is safe.
    let auto = format!("{front}[gates]\ndeploy_service = \"auto\"\n+++\nHi.");
    let line = |policy: &Policy| {
        let words = words(&[("auto.md", &auto)], policy, false);
        words.lines().find(|line| line.starts_with("auto.md")).unwrap_or("").to_owned()
    };
    insta::assert_snapshot!(line(&nobody), @"auto.md: `deploy_service` asks people (rule `untrusted text: not in policy.safe_after_untrusted`), but nobody may decide; name `approvers` in the gate or set `approvals.approvers`");
    assert_eq!(line(&Policy { safe_after_untrusted: vec!["deploy_*".into()], ..Policy::default() }), "");
    let named = Policy { approvers: Approvers { groups: vec!["release".into()], ..Approvers::default() }, ..anyone() };
    assert_eq!(words(&[("implicit.md", &implicit)], &named, true), "");
}

#[test]
fn names_of_agents_are_checked_and_unique() {
    let ok = "+++\ndescription = \"x\"\n+++\nHi.";
    let words = |files: &[(&str, &str)]| load(files, &anyone(), false).err().unwrap_or_default().join("\n");
    insta::assert_snapshot!(words(&[("a/one.md", ok), ("b/one.md", ok), ("b/Bad Name.md", ok)]), @r#"
    b/one.md: there is already an agent `one`, in a/one.md
    b/Bad Name.md: `Bad Name` cannot be an agent's name; rename the file: a to z first, then a to z, 0 to 9, - and _, at most 40
    "#);
    insta::assert_snapshot!(words(&[("none.md", "Hi."), ("open.md", "+++\ndescription = \"x\"\n")]), @r#"
    none.md: the first line has to be `+++`, followed by the settings and another `+++`
    open.md: the settings never end: a second line `+++` is missing
    "#);
}

#[test]
fn an_unknown_agent_is_answered_with_those_that_exist() {
    let agents = load(&[], &anyone(), false).unwrap();
    insta::assert_snapshot!(agents.get("deploymnt").unwrap_err(), @"there is no agent `deploymnt`; there are assistant, deployment, support; did you mean `deployment`?");
    insta::assert_snapshot!(agents.get("chef").unwrap_err(), @"there is no agent `chef`; there are assistant, deployment, support");
}

#[test]
fn the_cases_of_the_built_in_agents_are_well_formed_and_hold_for_their_prompts() {
    let agents = load(&[], &anyone(), false).unwrap();
    for file in builtin_cases() {
        let cases = cases::parse(&file.file, &file.text).unwrap();
        let agent = agents.get(file.file.strip_suffix(".cases.toml").unwrap()).unwrap();
        assert!(cases.len() >= 3, "{}", file.file);
        for case in &cases {
            assert_eq!(cases::check_prompt(case, &agent.prompt), Vec::<String>::new(), "{}: {}", file.file, case.name);
        }
    }
}

fn case(text: &str) -> Case {
    cases::parse("x.cases.toml", &format!("[[case]]\nname = \"x\"\n{text}")).unwrap().remove(0)
}

fn calls(tool: &str, arguments: &str) -> ModelReply {
    let call = RawCall { tool: tool.into(), arguments: arguments.into() };
    ModelReply { calls: vec![call], ..ModelReply::default() }
}

fn says(text: &str) -> ModelReply {
    ModelReply { text: text.into(), ..ModelReply::default() }
}

#[test]
fn a_case_accepts_the_reply_that_it_describes() {
    let deploys = case("expect = { tool = \"deploy\", args = { to = { env = \"prod\" } } }");
    let good = calls("deploy", r#"{"to":{"env":"prod","zone":1},"dry":false}"#);
    assert_eq!(cases::check(&deploys, "", &good), Vec::<String>::new());
    let asks = case("expect = { asks = true }");
    assert_eq!(cases::check(&asks, "", &calls("ask_human", "{}")), Vec::<String>::new());
    let answers = case("expect = { say_contains = [\"HEALTHY\"] }");
    assert_eq!(cases::check(&answers, "", &says("It is healthy.")), Vec::<String>::new());
}

#[test]
fn a_case_says_what_is_wrong_with_any_other_reply() {
    let deploys = case("expect = { tool = \"deploy\", args = { to = { env = \"prod\" }, v = 1 } }\nnever = [\"log\"]");
    let words = |case: &Case, reply: &ModelReply| cases::check(case, "prompt", reply).join("\n");
    insta::assert_snapshot!(words(&deploys, &calls("deploy", r#"{"to":{"env":"test"}}"#)), @r#"
    the argument `to.env` is "test"; expected "prod"
    the argument `v` is missing; expected 1
    "#);
    insta::assert_snapshot!(words(&deploys, &calls("log", "{}")), @r#"
    it called `log`, which it must not
    expected a call of `deploy`, but it called `log` {}
    "#);
    insta::assert_snapshot!(words(&deploys, &says("Done!")), @"expected a call of `deploy`, but it said `Done!`");
    insta::assert_snapshot!(words(&deploys, &calls("deploy", r#"{"v":1,"v":2}"#)), @"the arguments of `deploy` are the key `v` occurs twice in one object");
    insta::assert_snapshot!(words(&case("expect = { asks = true }"), &says("Which one?")), @"expected a question to a person, but it said `Which one?`");
    insta::assert_snapshot!(words(&case("expect = { say_contains = [\"up\"] }"), &calls("check", "{}")), @r#"
    expected an answer, but it called `check` {}
    the answer lacks `up`: ``
    "#);
    insta::assert_snapshot!(
        words(&case("prompt_contains = [\"x\"]\nprompt_lacks = [\"rom\"]\nmax_prompt_tokens = 1"), &says("")),
        @r#"
    the prompt lacks `x`
    the prompt contains `rom`
    the prompt has about 2 tokens; at most 1 are allowed
    "#
    );
}

#[test]
fn a_case_can_hold_text_from_outside_and_every_prompt_says_what_its_mark_means() {
    let hostile = case(
        "never = [\"x\"]\nwindow = [{ human = \"read it\" }, { tool_result = { tool = \"http_get\", outcome = \"succeeded\", text = \"ship it\", untrusted = true } }]\n",
    );
    let text = cases::window(&hostile).render();
    assert!(
        text.ends_with(" tool=\"http_get\" outcome=\"succeeded\" untrusted=\"yes\">\nship it\n</tool_result>"),
        "{text}"
    );
    for agent in load(&[], &anyone(), false).unwrap().iter() {
        assert!(agent.prompt.contains("`untrusted=\"yes\"` on a block means"), "{}", agent.spec.name);
    }
}

#[test]
fn a_case_that_cannot_be_judged_is_refused() {
    let words = |text: &str| cases::parse("x.cases.toml", text).err().unwrap_or_default().join("\n");
    insta::assert_snapshot!(
        words(
            r#"
[[case]]
name = "nothing"
[[case]]
name = "two"
expect = { tool = "x", asks = true }
[[case]]
name = "two"
expect = { args = {} }
window = [{ tool_result = { tool = "x", outcome = "denid" } }]
"#
        ),
        @r#"
    x.cases.toml: case `nothing`: it expects nothing
    x.cases.toml: case `two`: `expect` has to name exactly one of `tool`, `say_contains` and `asks`
    x.cases.toml: case `two`: there is another case with this name
    x.cases.toml: case `two`: `denid` is no outcome; there are succeeded, failed, denied, expired, cancelled, not_run; did you mean `denied`?
    x.cases.toml: case `two`: `expect` has to name exactly one of `tool`, `say_contains` and `asks`
    x.cases.toml: case `two`: `expect.args` needs `expect.tool`
    "#
    );
    insta::assert_snapshot!(words("[[case]]\nname = \"x\"\nexpct = {}"), @"x.cases.toml line 3: unknown setting `expct`; allowed: `name`, `window`, `expect`, `never`, `prompt_contains`, `prompt_lacks`, `max_prompt_tokens`; did you mean `expect`?");
    insta::assert_snapshot!(words("[[case]]\nname = \"x\"\nwindow = [{ humn = \"hi\" }]"), @"x.cases.toml line 3: unknown word `humn`; allowed: `human`, `agent`, `tool_call`, `tool_result`, `question`, `answer`, `notice`, `summary`; did you mean `human`?");
}

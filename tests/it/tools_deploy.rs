//! `deploy_service` with real child processes and real loopback servers. The ledger that the back ends
//! write, not what the tool says, is what counts as a deployment.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use twelve::agent::Outcome;
use twelve::tools::{MAX_ERROR, MAX_OUTPUT, Registry, ToolsConfig};

use crate::fake_service::{Checked as _, Fake, Mood, Seen, call, closed_port};

const TOOL: &str = "deploy_service";

fn to(version: &str) -> Value {
    json!({"service": "api", "version": version, "environment": "staging"})
}

async fn run(registry: &Registry) -> Outcome {
    registry.checked_run(TOOL, &to("v1.2.3"), &call()).await
}

fn succeeded(outcome: Outcome) -> String {
    match outcome {
        Outcome::Succeeded { text } => regex::Regex::new(r"in \d+ ms").unwrap().replace(&text, "in N ms").into_owned(),
        other => panic!("{other:?}"),
    }
}

fn failed(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed { error } => error,
        other => panic!("{other:?}"),
    }
}

fn unknown(outcome: Outcome) -> String {
    match outcome {
        Outcome::Unknown { error } => error,
        other => panic!("{other:?}"),
    }
}

fn once() -> Vec<String> {
    vec![format!("v1.2.3 {}", call().effect)]
}

/// A pipe with a name in the service's directory. Whoever holds it for writing is alive; `opened` fires
/// when somebody does, `closed` when nobody does any more.
struct Alive {
    opened: oneshot::Receiver<()>,
    closed: oneshot::Receiver<()>,
}

fn alive(fake: &Fake) -> Alive {
    let path = fake.dir.path().join("alive");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let ((opened, on_open), (closed, on_close)) = (oneshot::channel(), oneshot::channel());
    std::thread::spawn(move || {
        let mut pipe = File::open(path).unwrap();
        let _ = opened.send(());
        let _ = pipe.read_to_end(&mut Vec::new());
        let _ = closed.send(());
    });
    Alive { opened: on_open, closed: on_close }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.expect("it should have happened by now")
}

#[tokio::test]
async fn a_plan_shows_what_would_change_and_changes_when_the_service_does() {
    let fake = Fake::start().await;
    let registry = fake.by_script("", "");
    let plan = registry.checked_plan(TOOL, &to("v1.2.3")).await.unwrap();
    assert_eq!(plan.summary, "now v1.2.2 -> v1.2.3");
    assert_eq!(plan.facts, json!({"current": "v1.2.2", "target": "v1.2.3", "healthy": true, "locked": false}));
    assert_eq!(registry.checked_plan(TOOL, &to("v1.2.3")).await.unwrap(), plan, "nothing changed, so the plan did not");

    fs::write(fake.dir.path().join("version"), "v1.2.9").unwrap();
    let other = registry.checked_plan(TOOL, &to("v1.2.3")).await.unwrap();
    assert_eq!(other.summary, "now v1.2.9 -> v1.2.3");
    assert_ne!(other.facts, plan.facts);
    assert_eq!(registry.checked_plan(TOOL, &to("v1.2.9")).await.unwrap().summary, "already at v1.2.9");
    assert!(fake.ledger().is_empty(), "a plan deploys nothing");
}

#[tokio::test]
async fn a_command_deploys_once_and_the_new_version_is_read_back() {
    let fake = Fake::start().await;
    let text = succeeded(run(&fake.by_script("echo rolling; echo done >&2", "")).await);
    assert!(text.starts_with("api staging: v1.2.2 -> v1.2.3, healthy in N ms\n"), "{text}");
    assert!(text.contains("rolling") && text.contains("done"), "{text}");
    assert_eq!(fake.ledger(), once());
    assert_eq!(fs::read_to_string(fake.dir.path().join("version")).unwrap(), "v1.2.3");
}

#[tokio::test]
async fn a_version_that_shows_up_late_is_waited_for() {
    let fake = Fake::start().await;
    fake.set(|k| k.stale_reads = 2);
    let registry = fake.by_script("", "");
    let text = succeeded(run(&registry).await);
    assert!(text.contains("v1.2.2 -> v1.2.3, healthy"), "{text}");
    assert_eq!(fake.knobs.lock().unwrap().stale_reads, 0);
    assert_eq!(fake.ledger().len(), 1, "reading again is not deploying again");
}

#[tokio::test]
async fn nothing_in_a_version_can_become_an_option_another_argument_or_a_command() {
    let fake = Fake::start().await;
    // The most careless pattern an operator can write.
    let registry = fake.by_script("", "versions = '(?s).+'");
    for version in [
        "v1; rm -rf /",
        "--flag",
        "-v1",
        "v1\nrm",
        "v1\r",
        "v1\0",
        "v1 --force",
        "v1\t",
        "$(id)",
        "`id`",
        "v1|id",
        "v1&",
        "v1>x",
        "'v1'",
        "\"v1\"",
        "../v1",
        "v1/../..",
        "{environment}",
        "v1\u{202e}",
        "ѵ1",
        "v1\u{a0}",
        "*",
        "~root",
    ] {
        let raw = to(version).to_string();
        let refused = registry.check(TOOL, &raw).unwrap_err();
        assert!(refused.contains("`version` has to be letters, digits"), "{version:?}: {refused}");
        assert!(registry.checked_plan(TOOL, &to(version)).await.is_err(), "{version:?}");
        failed(registry.checked_run(TOOL, &to(version), &call()).await);
    }
    assert!(fake.ledger().is_empty());
    assert!(registry.check(TOOL, &to("2026.11+build.7").to_string()).is_ok());
}

#[tokio::test]
async fn a_version_has_to_match_the_whole_pattern() {
    let fake = Fake::start().await;
    let registry = fake.by_script("", "");
    for version in ["v1.2", "v1.2.3-rc1", "xv1.2.3", "latest"] {
        let refused = registry.check(TOOL, &to(version).to_string()).unwrap_err();
        let words = format!("`api` only takes versions that match `v\\d+\\.\\d+\\.\\d+`, not `{version}`");
        assert_eq!(refused, format!("deploy_service: {words}"));
    }
    let refused = registry.check(TOOL, r#"{"service":"ap","version":"v1.2.3","environment":"prod"}"#).unwrap_err();
    assert_eq!(refused, "deploy_service: there is no service `ap`; did you mean `api`? (known: api)");
}

#[tokio::test]
async fn arguments_reach_the_program_whole_and_placeholders_only_fill_in() {
    let fake = Fake::start().await;
    let script = fake.script("printf '<%s>' \"$#\" \"$@\" > args");
    let registry = fake.registry(&format!(
        "command = {{ argv = ['/bin/sh', '{script}', '{{version}}', 'a b;c', '--to={{environment}}/{{service}}', '$HOME', ''] }}"
    ));
    succeeded(run(&registry).await);
    let args = fs::read_to_string(fake.dir.path().join("args")).unwrap();
    assert_eq!(args, "<5><v1.2.3><a b;c><--to=staging/api><$HOME><>");
}

#[tokio::test]
async fn a_command_sees_no_more_of_our_environment_than_is_listed_and_its_values_do_not_come_out() {
    let fake = Fake::start().await;
    let script = fake.script("env | cut -d= -f1 | sort > env; echo \"path is $PATH\"");
    // PATH stands in for a secret: a variable that surely exists and is long.
    let registry = fake.registry(&format!(
        "command = {{ argv = ['/bin/sh', '{script}', '{{version}}'], env = ['PATH'], cwd = '{}' }}",
        fake.dir.path().display()
    ));
    let text = succeeded(run(&registry).await);
    assert!(text.contains("path is [PATH]"), "{text}");
    let names = fs::read_to_string(fake.dir.path().join("env")).unwrap();
    let allowed = ["PATH", "HOME", "LANG", "TWELVE_EFFECT_ID", "PWD", "OLDPWD", "SHLVL", "_"];
    assert!(names.lines().all(|name| allowed.contains(&name)), "{names}");
    assert!(names.contains("TWELVE_EFFECT_ID\n") && names.contains("PATH\n"));
}

#[tokio::test]
async fn of_ten_megabytes_of_output_the_last_lines_are_kept() {
    let fake = Fake::start().await;
    let noise =
        "echo first; head -c 5000000 /dev/zero | tr '\\0' x; yes 'ä long line' | head -c 5000000; echo; echo last";
    let text = succeeded(run(&fake.by_script(noise, "")).await);
    assert!(text.len() < MAX_OUTPUT && text.ends_with("\nlast"), "{text}");
    assert!(text.contains("the end of 10000012 bytes of output"), "{text}");
    assert!(!text.contains("first") && text.lines().count() <= 22, "{text}");

    let error = failed(run(&fake.by_script(&format!("{noise}; exit 3"), "")).await);
    assert!(error.len() <= MAX_ERROR && error.ends_with("\nlast"), "{error}");
    assert!(error.starts_with("the command for api v1.2.3 in staging exited with code 3 after "), "{error}");
    assert_eq!(fake.ledger().len(), 1, "the second one ended before it deployed");
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_with_everything_it_started() {
    let fake = Fake::start().await;
    // A grandchild that ignores the polite signal, and a leader that does not.
    let script = fake.script("echo started; (trap '' TERM; exec sleep 600) > alive & wait");
    let registry =
        fake.registry(&format!("command = {{ argv = ['/bin/sh', '{script}', '{{version}}'], timeout = '1s' }}"));
    let mut alive = alive(&fake);
    let error = unknown(soon(run(&registry)).await);
    assert!(
        error.starts_with("the command was ended because it took longer than 1s; look whether api runs"),
        "{error}"
    );
    assert!(error.ends_with("\nstarted"), "{error}");
    soon(&mut alive.opened).await.unwrap();
    soon(alive.closed).await.unwrap();
    assert!(fake.ledger().is_empty());
}

#[tokio::test]
async fn a_cancel_ends_a_running_command_with_everything_it_started() {
    let fake = Fake::start().await;
    let registry = fake.by_script("sleep 600 > alive & wait", "");
    let alive = alive(&fake);
    let call = call();
    let cancel = call.cancel.clone();
    let args = to("v1.2.3");
    let stop = async {
        alive.opened.await.unwrap();
        cancel.cancel();
    };
    let (outcome, ()) = soon(async { tokio::join!(registry.checked_run(TOOL, &args, &call), stop) }).await;
    assert!(unknown(outcome).starts_with("the command was stopped while it was working"));
    soon(alive.closed).await.unwrap();
    assert!(fake.ledger().is_empty());
}

#[tokio::test]
async fn a_call_that_is_dropped_takes_its_command_along() {
    let fake = Fake::start().await;
    let registry = fake.by_script("(trap '' TERM; exec sleep 600) > alive & wait", "");
    let mut alive = alive(&fake);
    tokio::select! {
        _ = run(&registry) => panic!("it should hang"),
        opened = &mut alive.opened => opened.unwrap(),
    }
    soon(alive.closed).await.unwrap();
}

#[tokio::test]
async fn one_place_is_deployed_to_once_at_a_time() {
    let fake = Fake::start().await;
    let registry = fake.by_script("test -e second || { touch second; sleep 600 > alive & wait; }", "");
    let mut alive = alive(&fake);
    let call = call();
    let args = to("v1.2.3");
    let other = async {
        (&mut alive.opened).await.unwrap();
        let error = failed(run(&registry).await);
        assert_eq!(error, "another deployment of api to staging is under way; nothing was changed");
        call.cancel.cancel();
    };
    let (outcome, ()) = soon(async { tokio::join!(registry.checked_run(TOOL, &args, &call), other) }).await;
    unknown(outcome);
    succeeded(run(&registry).await);
    assert_eq!(fake.ledger(), once());
}

#[tokio::test]
async fn a_cancel_before_the_back_end_is_a_plain_failure() {
    let fake = Fake::start().await;
    let call = call();
    call.cancel.cancel();
    let error = failed(fake.by_script("", "").checked_run(TOOL, &to("v1.2.3"), &call).await);
    assert_eq!(error, "stopped before the deployment of api began; nothing was changed");
    assert!(fake.ledger().is_empty());
}

#[tokio::test]
async fn a_command_that_leaves_something_running_is_done_when_it_ends() {
    let fake = Fake::start().await;
    // It holds the output pipes open for longer than the tool would wait for the command.
    let text = succeeded(soon(run(&fake.by_script("sleep 30 & echo $! > left; echo up", ""))).await);
    assert!(text.ends_with("\nup"), "{text}");
    let left = fs::read_to_string(fake.dir.path().join("left")).unwrap();
    let ended = Command::new("kill").arg(left.trim()).status().unwrap();
    assert!(ended.success(), "what a deployment starts stays");
}

#[tokio::test]
async fn an_end_by_a_foreign_signal_leaves_the_outcome_open() {
    let fake = Fake::start().await;
    let error = unknown(run(&fake.by_script("echo half way; kill -9 $$", "")).await);
    assert!(error.starts_with("the command was ended by signal 9; look whether api runs v1.2.3 in staging"), "{error}");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_has_changed_nothing() {
    let fake = Fake::start().await;
    let registry = fake.registry("command = { argv = ['/nonexistent/deployer', '{version}'] }");
    let error = failed(run(&registry).await);
    assert!(error.starts_with("`/nonexistent/deployer` could not be started: No such file"), "{error}");
}

#[tokio::test]
async fn a_locked_service_is_not_planned_and_not_deployed() {
    let fake = Fake::start().await;
    let registry = fake.by_script("", "lock = 'freeze until Monday'");
    let words = "`api` is locked: freeze until Monday".to_owned();
    assert_eq!(registry.checked_plan(TOOL, &to("v1.2.3")).await, Err(words.clone()));
    assert_eq!(failed(run(&registry).await), words);
    assert!(fake.ledger().is_empty());
}

#[tokio::test]
async fn a_lock_that_appears_between_plan_and_run_holds() {
    let fake = Fake::start().await;
    let lock = fake.dir.path().join("lock");
    let registry = fake.by_script("", &format!("lock_file = '{}'", lock.display()));
    assert!(registry.checked_plan(TOOL, &to("v1.2.3")).await.is_ok());
    for (text, reason) in [("incident 12\nsecond line", "incident 12"), ("", "no reason given")] {
        fs::write(&lock, text).unwrap();
        assert_eq!(failed(run(&registry).await), format!("`api` is locked: {reason}"));
    }
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    assert!(failed(run(&registry).await).contains("locked"), "a lock that cannot be read is a lock");
    assert!(fake.ledger().is_empty());
    fs::remove_dir(&lock).unwrap();
    succeeded(run(&registry).await);
    assert_eq!(fake.ledger(), once());
}

#[tokio::test]
async fn an_unhealthy_service_is_not_deployed_to_unless_the_settings_say_so() {
    let fake = Fake::start().await;
    fake.set(|k| k.mood = Mood::Status(503));
    let registry = fake.by_script("", "");
    let words = "api in staging is not healthy before the deployment (HTTP 503); nothing was changed";
    assert_eq!(registry.checked_plan(TOOL, &to("v1.2.3")).await, Err(words.to_owned()));
    assert_eq!(failed(run(&registry).await), words);
    assert!(fake.ledger().is_empty());

    let registry = fake.by_script("", "health_before = false");
    let plan = registry.checked_plan(TOOL, &to("v1.2.3")).await.unwrap();
    assert_eq!(plan.summary, "now v1.2.2 -> v1.2.3, NOT healthy now (HTTP 503)");
    assert_eq!(plan.facts["healthy"], json!(false));
    let error = failed(run(&registry).await);
    assert_eq!(error, "api in staging runs v1.2.3 but is not healthy after 300ms: HTTP 503");
    assert_eq!(fake.ledger(), once());
}

#[tokio::test]
async fn a_service_that_is_down_can_be_deployed_for_the_first_time() {
    let fake = Fake::start().await;
    fs::write(fake.dir.path().join("version"), "").unwrap();
    let plan = fake.by_script("", "").checked_plan(TOOL, &to("v1.2.3")).await;
    let words = "the version of api in staging cannot be read (the answer is empty); nothing was changed";
    assert_eq!(plan, Err(words.to_owned()));
    let registry = fake.by_script("", "health_before = false");
    let plan = registry.checked_plan(TOOL, &to("v1.2.3")).await.unwrap();
    assert_eq!((plan.summary.as_str(), &plan.facts["current"]), ("now not known -> v1.2.3", &Value::Null));
    assert_eq!(succeeded(run(&registry).await), "api staging: not known -> v1.2.3, healthy in N ms");
}

#[tokio::test]
async fn a_version_that_reads_back_differently_is_a_failure() {
    let fake = Fake::start().await;
    let registry = fake.by_script("echo pretending; echo \"$1 $TWELVE_EFFECT_ID\" >> ledger; exit 0", "");
    let error = failed(run(&registry).await);
    assert_eq!(
        error,
        "api in staging reads back v1.2.2, not v1.2.3, 300ms after the back end was done (before it: v1.2.2)\npretending"
    );
    assert_eq!(fake.ledger(), once(), "it is not tried again");
}

#[tokio::test]
async fn a_cancel_while_it_settles_leaves_the_outcome_open() {
    let fake = Fake::start().await;
    let registry = fake.by_script("exit 0", "settle = '60s'");
    let call = call();
    let (cancel, knobs) = (call.cancel.clone(), fake.knobs.clone());
    let args = to("v1.2.3");
    let stop = async move {
        // The gate reads the version once; a second reading belongs to the settling.
        while knobs.lock().unwrap().paths.iter().filter(|p| *p == "/version").count() < 2 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (outcome, ()) = soon(async { tokio::join!(registry.checked_run(TOOL, &args, &call), stop) }).await;
    let error = unknown(outcome);
    assert_eq!(error, "stopped while api in staging was settling: v1.2.3 was deployed, but nobody saw it run");
}

fn by_request(fake: &Fake, more: &str) -> Registry {
    let url = fake.url("/deploy/{service}/{environment}?v={version}");
    fake.registry(&format!("http = {{ url = '{url}', timeout = '2s'{more} }}"))
}

#[tokio::test]
async fn a_request_carries_the_key_the_token_and_the_filled_in_body() {
    let fake = Fake::start().await;
    // PATH stands in for a token: a variable that surely exists.
    let token = std::env::var("PATH").unwrap();
    let more = ", method = 'PUT', token_env = 'PATH', \
                body = { version = '{version}', where = ['{environment}', 7], meta = { what = 'roll {service}' } }";
    let text = succeeded(run(&by_request(&fake, more)).await);
    assert_eq!(text, "api staging: v1.2.2 -> v1.2.3, healthy in N ms");
    let seen = fake.knobs.lock().unwrap().seen.clone();
    let expected = Seen {
        method: Method::PUT,
        uri: "/deploy/api/staging?v=v1.2.3".to_owned(),
        key: call().effect.to_string(),
        bearer: format!("Bearer {token}"),
        body: json!({"version": "v1.2.3", "where": ["staging", 7], "meta": {"what": "roll api"}}),
    };
    assert_eq!(seen, [expected]);
    assert_eq!(fake.ledger(), once());
}

#[tokio::test]
async fn without_a_body_in_the_settings_the_whole_request_is_sent() {
    let fake = Fake::start().await;
    succeeded(run(&by_request(&fake, "")).await);
    let seen = fake.knobs.lock().unwrap().seen.clone();
    assert_eq!(seen.len(), 1);
    assert_eq!((&seen[0].method, &seen[0].body), (&Method::POST, &to("v1.2.3")));
}

#[tokio::test]
async fn a_refused_request_is_a_failure_and_any_other_surprise_leaves_the_outcome_open() {
    let token = std::env::var("PATH").unwrap();
    for (status, deploys, known) in
        [(400, false, true), (409, false, true), (302, false, true), (500, true, false), (202, true, false)]
    {
        let fake = Fake::start().await;
        fake.set(|k| k.deploy = (status, deploys));
        let outcome = run(&by_request(&fake, ", token_env = 'PATH', expect = '200'")).await;
        let error = if known { failed(outcome) } else { unknown(outcome) };
        assert!(error.contains(&format!("HTTP {status}")), "{error}");
        assert!(!error.contains("you sent") && !error.contains(&token), "its words stay out of ours: {error}");
        assert_eq!(fake.knobs.lock().unwrap().seen.len(), 1, "asked once, whatever the answer");
        assert!(!fake.knobs.lock().unwrap().paths.contains(&"/elsewhere".to_owned()));
    }
}

#[tokio::test]
async fn a_back_end_that_cannot_be_reached_has_changed_nothing() {
    let fake = Fake::start().await;
    let closed = closed_port().await;
    let registry = fake.registry(&format!("http = {{ url = 'http://{closed}/deploy' }}"));
    let error = failed(run(&registry).await);
    assert_eq!(error, "the back end could not be reached (Connection refused (os error 111)); nothing was sent");
}

#[tokio::test]
async fn no_answer_after_the_request_was_sent_leaves_the_outcome_open() {
    let fake = Fake::start().await;
    fake.set(|k| k.deploy = (0, true));
    let registry = by_request(&fake, "");
    let error = unknown(soon(run(&registry)).await);
    assert_eq!(
        error,
        "the request was sent, but no answer within 2s; look whether api runs v1.2.3 in staging before anything is \
         tried again"
    );
    assert_eq!(fake.ledger(), once());
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_was_sent_leaves_the_outcome_open() {
    let fake = Fake::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let registry = fake.registry(&format!("http = {{ url = 'http://{}/deploy' }}", listener.local_addr().unwrap()));
    let server = tokio::spawn(async move {
        let mut asked = 0;
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut received = vec![0; 4096];
            asked += usize::from(connection.read(&mut received).await.unwrap() > 0);
            assert_eq!(asked, 1, "asked again after the connection broke");
            connection.shutdown().await.unwrap();
        }
    });
    let error = unknown(soon(run(&registry)).await);
    assert!(error.starts_with("the request was sent, but "), "{error}");
    assert!(!server.is_finished());
}

#[tokio::test]
async fn a_cancel_while_the_request_is_under_way_leaves_the_outcome_open() {
    let fake = Fake::start().await;
    fake.set(|k| k.deploy = (0, false));
    let registry = by_request(&fake, "");
    let call = call();
    let (cancel, knobs) = (call.cancel.clone(), fake.knobs.clone());
    let args = to("v1.2.3");
    let stop = async move {
        while knobs.lock().unwrap().seen.is_empty() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (outcome, ()) = soon(async { tokio::join!(registry.checked_run(TOOL, &args, &call), stop) }).await;
    assert!(unknown(outcome).starts_with("stopped while the back end was working; look whether"));
}

#[tokio::test]
async fn a_token_that_is_not_set_is_found_before_anybody_is_asked() {
    let fake = Fake::start().await;
    let registry = by_request(&fake, ", token_env = 'TWELVE_TEST_NO_SUCH_TOKEN'");
    let words = "the environment variable TWELVE_TEST_NO_SUCH_TOKEN is not set; an operator has to set it".to_owned();
    assert_eq!(registry.checked_plan(TOOL, &to("v1.2.3")).await, Err(words.clone()));
    assert_eq!(failed(run(&registry).await), words);
    assert!(fake.knobs.lock().unwrap().seen.is_empty());
}

#[tokio::test]
async fn a_version_can_be_read_by_a_command() {
    let fake = Fake::start().await;
    let script = fake.script("");
    let reader = fake.dir.path().join("read.sh");
    write(&reader, "echo noise >&2; cat \"$(dirname \"$0\")/version\"; echo; echo \"$1 $2\"");
    let settings = |reader: &Path| {
        format!(
            "[services.api.environments.staging]\nstatus = '{}'\n\
             version = {{ command = ['/bin/sh', '{}', '{{service}}', '{{environment}}'] }}\n\
             [services.api.deploy]\nversions = 'v.+'\ncommand = {{ argv = ['/bin/sh', '{script}', '{{version}}'] }}",
            fake.url("/health"),
            reader.display(),
        )
    };
    let registry = crate::fake_service::registry(&settings(&reader));
    assert_eq!(registry.checked_plan(TOOL, &to("v1.2.3")).await.unwrap().summary, "now v1.2.2 -> v1.2.3");
    assert_eq!(succeeded(run(&registry).await), "api staging: v1.2.2 -> v1.2.3, healthy in N ms");
    for (text, why) in
        [("exit 4", "the command exited with code 4"), ("yes", "did not end"), ("true", "the answer is empty")]
    {
        let reader = fake.dir.path().join("bad.sh");
        write(&reader, text);
        let settings = format!("probe_timeout = '300ms'\n{}", settings(&reader));
        let error = crate::fake_service::registry(&settings).checked_plan(TOOL, &to("v1.2.3")).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

fn write(path: &PathBuf, text: &str) {
    fs::write(path, text).unwrap();
}

#[test]
fn settings_that_cannot_work_are_refused_at_start_with_their_place() {
    let place = "[services.api.environments.a]\nstatus = 'http://h/'\nversion = { url = 'http://h/v' }\n";
    let deploy = format!("{place}[services.api.deploy]\n");
    let command = "command = { argv = ['d', '{version}'] }";
    for (toml, words) in [
        (format!("{deploy}{command}"), "missing field `versions`"),
        (format!("{deploy}versions = 'v.+'"), "in deploy: give either `command` or `http`"),
        (
            format!("{deploy}versions = 'v.+'\n{command}\nhttp = {{ url = 'http://h/' }}"),
            "give either `command` or `http`",
        ),
        (format!("{deploy}versions = '('\n{command}"), "regex parse error"),
        (format!("{deploy}versions = 'a)|(b'\n{command}"), "unopened group"),
        (format!("{deploy}versions = '.*'\n{command}"), "versions: `.*` matches the empty text"),
        (format!("{deploy}versions = 'v.+'\nsettle = 60\n{command}"), "invalid type: integer `60`"),
        (format!("{deploy}versions = 'v.+'\nlocked = 'x'\n{command}"), "unknown field `locked`"),
        (format!("{deploy}versions = 'v.+'\ncommand = {{ argv = [] }}"), "in command.argv: the argument list is empty"),
        (format!("{deploy}versions = 'v.+'\ncommand = {{ argv = ['d', '{{verison}}'] }}"), "did you mean `version`?"),
        (format!("{deploy}versions = 'v.+'\ncommand = {{ argv = ['d'] }}"), "no argument has `{version}`"),
        (
            format!("{deploy}versions = 'v.+'\nhttp = {{ url = 'http://h/', token_env = 'sk-123' }}"),
            "give the name of an environment variable, not the token",
        ),
        (
            format!("{deploy}versions = 'v.+'\nhttp = {{ url = 'ftp://h/' }}"),
            "does not start with one of http://, https://",
        ),
        (
            format!("{deploy}versions = 'v.+'\nhttp = {{ url = 'http://h/', body = {{}} }}"),
            "neither `url` nor `body` has",
        ),
        (
            format!("{deploy}versions = 'v.+'\nhttp = {{ url = 'http://h/', expect = '2xx' }}"),
            "is not a range of HTTP statuses",
        ),
        ("[services.api]\nenvironments = {}".to_owned(), "in tools.services.api: environments: there is none"),
        (
            format!(
                "[services.api.environments.a]\nstatus = 'http://h/'\n[services.api.deploy]\nversions = 'v.+'\n{command}"
            ),
            "in tools.services.api: environments.a.version: a deployment has to read the version back",
        ),
        ("[services.api.environments]\na = { status = 'tcp://h' }".to_owned(), "status: `tcp://h` names no port"),
        ("[services.api.environments]\na = { status = 'http://me:secret@h/' }".to_owned(), "a name or password in it"),
        ("[services.'a b'.environments]\na = { status = 'http://h/' }".to_owned(), "`a b` is not a usable name"),
        ("[services.api.environments]\n'../a' = { status = 'http://h/' }".to_owned(), "`../a` is not a usable name"),
        (
            "[services.api.environments]\na = { status = 'http://h/', version = { url = 'http://h/', pointer = 'v' } }"
                .to_owned(),
            "a JSON pointer starts with `/`",
        ),
        ("probe_timeout = '0s'".to_owned(), "tools.probe_timeout: must be longer than 0s"),
    ] {
        let error = match toml::from_str::<ToolsConfig>(&toml) {
            Ok(config) => {
                format!(
                    "{:#}",
                    Registry::from_config(&config, Path::new("unused"))
                        .err()
                        .unwrap_or_else(|| panic!("accepted: {toml}"))
                )
            }
            Err(e) => e.to_string(),
        };
        assert!(error.contains(words), "{toml}\n{error}");
        assert!(!error.contains("sk-123"), "{error}");
    }
}

#[test]
fn settings_come_back_as_they_were_written() {
    let toml = "[services.api.environments.a]\nstatus = 'http://h/'\nversion = { url = 'http://h/v' }\n\
                [services.api.deploy]\nversions = 'v.+'\nsettle = '90s'\nhttp = { url = 'http://h/' }";
    let config: ToolsConfig = toml::from_str(toml).unwrap();
    let text = toml::to_string(&config).unwrap();
    assert_eq!(toml::to_string(&toml::from_str::<ToolsConfig>(&text).unwrap()).unwrap(), text);
    assert!(text.contains("settle = \"1m 30s\""), "{text}");
}

/// The `[tools]` section as config/default.toml explains it, with its examples taken out of comments.
#[test]
fn the_documented_settings_work() {
    let toml = r#"
        probe_timeout = "5s"
        [services.api.environments.staging]
        status = "https://api.staging.example.com/health"
        expect = "200-299"
        version = { url = "https://api.staging.example.com/version", pointer = "/version" }
        [services.api.environments.production]
        status = "tcp://api.example.com:443"
        version = { command = ["kubectl-version", "{service}", "{environment}"] }
        [services.api.deploy]
        versions = 'v\d+\.\d+\.\d+'
        lock = ""
        lock_file = "/var/lock/deploy-api"
        health_before = true
        settle = "60s"
        [services.api.deploy.command]
        argv = ["./deploy.sh", "{service}", "{version}", "{environment}"]
        cwd = "/srv/deploy"
        env = ["KUBECONFIG"]
        timeout = "10m"
        [services.web.environments.production]
        status = "https://www.example.com/health"
        version = { url = "https://www.example.com/version.txt" }
        [services.web.deploy]
        versions = 'v\d+'
        [services.web.deploy.http]
        method = "POST"
        url = "https://ci.example.com/deploy/{service}"
        body = { version = "{version}", environment = "{environment}" }
        expect = "200-299"
        token_env = "CI_TOKEN"
        timeout = "30s"
    "#;
    let registry = Registry::from_config(&toml::from_str(toml).unwrap(), Path::new("unused")).unwrap();
    let decl = registry.decls(&[TOOL]).remove(0);
    let services = "Services (environments): api (production, staging), web (production).";
    assert!(decl.description.ends_with(services), "{}", decl.description);
    let longest = Duration::from_secs(600 + 60 + 2 + 2 * (5 + 2) + 10);
    assert_eq!(registry.timeout(TOOL), Some(longest), "every inner limit fits into the outer one");
}

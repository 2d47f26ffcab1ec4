//! Setting Slack up: settings that belong together, the service with a Slack that does not answer, the manifest, and
//! what `doctor` says.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use twelve::app::Blueprint;
use twelve::config::Loaded;
use twelve::config::layers::Sources;
use twelve::http::{Service, Settings};
use twelve::platform::Platforms;
use twelve::platform::slack::manifest;
use twelve::platform::slack::{Slack, SlackSettings, WorkspaceSettings};
use twelve::runtime::Clock;

use crate::cli_serve;
use crate::doctor::Home;
use crate::fakes::slack::{FakeSlack, Fault};
use crate::world::{START, Setup, World};

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Loaded, String> {
    let environment: Vec<_> = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let sources = Sources { file: Some(("twelve.toml", file)), dot_env: None, environment: &environment };
    Loaded::from_sources(&sources).map_err(|problems| problems.to_string())
}

#[track_caller]
fn refused(file: &str, environment: &[(&str, &str)]) -> String {
    load(file, environment).map(|_| String::new()).unwrap_or_else(|words| words)
}

const BOT: (&str, &str) = ("SLACK_BOT_TOKEN", "xoxb-1-of-the-tests");
const APP: (&str, &str) = ("SLACK_APP_TOKEN", "xapp-1-of-the-tests");
const SIGNING: (&str, &str) = ("SLACK_SIGNING_SECRET", "0123456789abcdef0123456789abcdef");

#[test]
fn a_group_of_slack_settings_that_is_half_given_is_refused_in_a_sentence() {
    insta::assert_snapshot!(refused("", &[BOT]), @"The configuration has a problem: environment SLACK_BOT_TOKEN: `slack.bot_token` is set, but nothing brings events in; set SLACK_APP_TOKEN (Socket Mode, no public address needed) or SLACK_SIGNING_SECRET (HTTP)");
    insta::assert_snapshot!(refused("", &[APP, SIGNING]), @r#"
    The configuration has 2 problems:
    - environment SLACK_APP_TOKEN: `slack.app_token` is set, but `slack.bot_token` (SLACK_BOT_TOKEN) is not, and without it nothing can be said in Slack; set it, or take SLACK_APP_TOKEN away
    - environment SLACK_SIGNING_SECRET: `slack.signing_secret` is set, but `slack.bot_token` (SLACK_BOT_TOKEN) is not, and without it nothing can be said in Slack; set it, or take SLACK_SIGNING_SECRET away
    "#);
    for enough in [&[BOT, APP][..], &[BOT, SIGNING], &[BOT, APP, SIGNING], &[]] {
        assert_eq!(refused("", enough), "");
    }
}

#[test]
fn tokens_in_each_others_place_are_named_and_never_quoted() {
    let all = |bot: &str, app: &str, signing: &str| {
        refused("", &[("SLACK_BOT_TOKEN", bot), ("SLACK_APP_TOKEN", app), ("SLACK_SIGNING_SECRET", signing)])
    };
    insta::assert_snapshot!(all(APP.1, BOT.1, BOT.1), @r#"
    The configuration has 3 problems:
    - environment SLACK_BOT_TOKEN: `slack.bot_token` holds an app-level token (xapp-…): the two look swapped; this one is the Bot User OAuth Token (xoxb-…)
    - environment SLACK_APP_TOKEN: `slack.app_token` holds a bot token (xoxb-…): the two look swapped; this one is the app-level token (xapp-…)
    - environment SLACK_SIGNING_SECRET: `slack.signing_secret` holds a token; take the Signing Secret, under Basic Information, App Credentials
    "#);
    insta::assert_snapshot!(all("xoxp-1-of-the-tests", "token-of-the-tests", "short"), @r#"
    The configuration has 3 problems:
    - environment SLACK_BOT_TOKEN: `slack.bot_token` holds a user's token (xoxp-…); take the Bot User OAuth Token (xoxb-…), under OAuth & Permissions
    - environment SLACK_APP_TOKEN: `slack.app_token` does not begin with xapp-; make an app-level token with the scope connections:write, under Basic Information
    - environment SLACK_SIGNING_SECRET: `slack.signing_secret` is too short for a signing secret; take the Signing Secret, under Basic Information, App Credentials
    "#);
    insta::assert_snapshot!(all("xoxe.xoxb-1-tests", "xapp-1 of the tests", "  "), @r#"
    The configuration has 3 problems:
    - environment SLACK_BOT_TOKEN: `slack.bot_token` holds a token that expires (xoxe…); switch token rotation off for the app, and install it again
    - environment SLACK_APP_TOKEN: `slack.app_token` holds blanks, line ends or signs that no secret of Slack has; copy it again
    - environment SLACK_SIGNING_SECRET: `slack.signing_secret` is nothing but blanks; set it, or leave it out
    "#);
    insta::assert_snapshot!(all("of-the-tests", APP.1, APP.1), @r#"
    The configuration has 2 problems:
    - environment SLACK_BOT_TOKEN: `slack.bot_token` does not begin with xoxb-; take the Bot User OAuth Token, under OAuth & Permissions
    - environment SLACK_SIGNING_SECRET: `slack.signing_secret` holds a token; take the Signing Secret, under Basic Information, App Credentials
    "#);
    // What another server gives out is its own business, but it has to fit into a header.
    let elsewhere = ("SLACK_API_URL", "http://127.0.0.1:9/api");
    assert_eq!(refused("", &[("SLACK_BOT_TOKEN", "any"), ("SLACK_APP_TOKEN", "thing"), elsewhere]), "");
    assert!(refused("", &[("SLACK_BOT_TOKEN", "any\nthing"), APP, elsewhere]).contains("no secret of Slack has"));
}

#[test]
fn tokens_go_to_nobody_in_the_clear() {
    let at = |url| refused("", &[BOT, APP, ("SLACK_API_URL", url)]);
    insta::assert_snapshot!(at("http://slack.example/api"), @"The configuration has a problem: environment SLACK_API_URL: `slack.api_url` has to begin with https://, since tokens are sent there (http:// only to this machine)");
    for fine in ["https://slack.example/api", "http://127.0.0.1:1/api", "http://[::1]:1/api", "http://localhost/api"] {
        assert_eq!(at(fine), "", "{fine}");
    }
    assert!(at("slack.com").contains("`slack.api_url` has to be a URL"));
    // Longer hosts that only look like this machine or like Slack.
    assert!(at("http://127.0.0.1.slack.example/api").contains("https://"));
    assert!(twelve::config::is_slack_itself("https://files.slack.com/x"));
    assert!(!twelve::config::is_slack_itself("https://notslack.com/x"));
}

#[test]
fn everything_that_is_wrong_with_the_slack_section_is_said_at_once() {
    let file = r##"
[slack]
command = "agent"
stop_reaction = ":octagonal_sign:"
max_earlier = 100000
channels = [
    { id = "#releases", agent = "deployment" },
    { id = "C1", agent = "deployment" },
    { id = "C1", agent = "support" },
    { id = "C2", agnet = "support" },
]
[[slack.workspaces]]
team = "acme"
bot_token_env = "ACME_TOKEN"
[[slack.workspaces]]
team = "T2"
bot_token_env = "ACME_TOKEN"
app_token_env = "APP2"
[[slack.workspaces]]
team = "T2"
bot_token_env = "xoxb-1-of-the-tests"
"##;
    let words = refused(file, &[("ACME_TOKEN", "xapp-1-of-the-tests"), ("APP2", "xoxb-1-of-the-tests")]);
    insta::assert_snapshot!(words, @r#"
    The configuration has 13 problems:
    - twelve.toml line 5: `slack.max_earlier` has to be a whole number from 0 to 1000; it is `100000`
    - twelve.toml line 6: Slack channel 4: unknown setting `agnet`; allowed: `id`, `agent`, `threads`; did you mean `agent`?
    - twelve.toml line 12: Slack workspace 3: what ends in `_env` is not the name of an environment variable; give the name of the variable that holds the secret, never the secret
    - twelve.toml line 12: Slack workspace 1 `acme`: that is no team's id; it begins with T (E for a whole organisation) and stands in the address of Slack in a browser, https://app.slack.com/client/T…
    - twelve.toml line 12: Slack workspace 1 `acme`: nothing brings its events in; give it `app_token_env` or `signing_secret_env`, or set SLACK_APP_TOKEN or SLACK_SIGNING_SECRET for all
    - twelve.toml line 12: Slack workspace 1 `acme`: ACME_TOKEN holds an app-level token (xapp-…): the two look swapped; this one is the Bot User OAuth Token (xoxb-…)
    - twelve.toml line 12: Slack workspace 2 `T2`: ACME_TOKEN is the variable of another workspace; each has a bot token of its own
    - twelve.toml line 12: Slack workspace 2 `T2`: ACME_TOKEN holds an app-level token (xapp-…): the two look swapped; this one is the Bot User OAuth Token (xoxb-…)
    - twelve.toml line 12: Slack workspace 2 `T2`: APP2 holds a bot token (xoxb-…): the two look swapped; this one is the app-level token (xapp-…)
    - twelve.toml line 6: `slack.channels`: `#releases` is no channel's id; it is the one that begins with C or G, at the end of the channel's details in Slack
    - twelve.toml line 6: `slack.channels`: `C1` is there twice; a channel has one agent
    - twelve.toml line 3: `slack.command` has to be a slash and then letters in lower case, digits, - and _, at most 32 characters, as "/agent"; it is `agent`
    - twelve.toml line 4: `slack.stop_reaction` is the name of an emoji without colons, as "octagonal_sign"; it is `:octagonal_sign:`
    "#);
    // It passes for a name of a variable, and is not quoted.
    let words = refused(
        "[[slack.workspaces]]\nteam = \"T1\"\nbot_token_env = \"A\"\nsigning_secret_env = \"abcdef0123456789abcdef0123456789\"",
        &[],
    );
    assert!(words.contains("is not the name of an environment variable") && !words.contains("abcdef"), "{words}");
}

#[test]
fn agents_that_slack_names_have_to_be_there() {
    let file = "[slack]\nagent = \"asistant\"\nchannels = [{ id = \"C1\", agent = \"deployments\" }]\n";
    let words = Blueprint::new(load(file, &[BOT, APP]).unwrap()).map(|_| ()).unwrap_err().to_string();
    insta::assert_snapshot!(words, @r#"
    `slack.agent`: no agent is called `asistant`; did you mean `assistant`? (agents: assistant, deployment, support)
    `slack.channels` C1: no agent is called `deployments`; did you mean `deployment`? (agents: assistant, deployment, support)
    "#);
}

/// Two apps in three workspaces.
const WORKSPACES: &str = r#"
[http]
admins = ["web:ann"]
[slack]
agent = "support"
channels = [{ id = "C1", agent = "deployment" }]
[[slack.workspaces]]
team = "T2"
bot_token_env = "T2_BOT"
[[slack.workspaces]]
team = "T3"
bot_token_env = "T3_BOT"
signing_secret_env = "T3_SIGNING"
"#;

#[test]
fn each_workspace_has_the_secrets_of_the_app_that_it_is_an_installation_of() {
    let environment = [
        BOT,
        APP,
        SIGNING,
        ("T2_BOT", " xoxb-2-of-the-tests "),
        ("T3_BOT", "xoxb-3-of-the-tests"),
        ("T3_SIGNING", "another-signing-secret-32-long-x"),
    ];
    let loaded = load(WORKSPACES, &environment).unwrap();
    let filter = loaded.secret_filter();
    for (name, secret) in environment {
        assert!(!filter.clean(&format!("it is {secret}.")).contains(secret.trim()), "{name} is filtered");
    }
    let shown = loaded.show();
    assert!(!shown.contains("of-the-tests") && !shown.contains("another-signing"), "{shown}");
    let (slack, front) = Blueprint::new(loaded).unwrap().slack("https://twelve.example".into()).unwrap().unwrap();
    let exposed = |secret: &Option<secrecy::SecretString>| secret.as_ref().map(|s| s.expose_secret().to_owned());
    let seen: Vec<_> = slack
        .workspaces
        .iter()
        .map(|w| {
            (w.team.clone(), w.bot_token.expose_secret().to_owned(), exposed(&w.app_token), exposed(&w.signing_secret))
        })
        .collect();
    let own = |text: &str| Some(text.to_owned());
    assert_eq!(
        seen,
        [
            (None, "xoxb-1-of-the-tests".to_owned(), own(APP.1), own(SIGNING.1)),
            (own("T2"), "xoxb-2-of-the-tests".to_owned(), own(APP.1), own(SIGNING.1)),
            (own("T3"), "xoxb-3-of-the-tests".to_owned(), None, own("another-signing-secret-32-long-x")),
        ]
    );
    assert_eq!(
        (slack.api_url.as_str(), slack.public_url.as_str()),
        ("https://slack.com/api", "https://twelve.example")
    );
    assert_eq!((front.agent.as_str(), front.channels["C1"].as_str()), ("support", "deployment"));
    assert_eq!((front.command.as_str(), front.operators), ("/agent", vec!["web:ann".to_owned()]));
}

#[test]
fn variables_of_workspaces_that_are_not_set_stop_the_service_and_not_the_commands_that_look() {
    let blueprint = Blueprint::new(load(WORKSPACES, &[BOT, APP, ("T3_SIGNING", " ")]).unwrap()).unwrap();
    insta::assert_snapshot!(blueprint.slack(String::new()).map(|_| ()).unwrap_err(), @r#"
    Slack workspace `T2`: T2_BOT is not set; set it, or take the workspace out of `slack.workspaces`
    Slack workspace `T3`: T3_BOT is not set; set it, or take the workspace out of `slack.workspaces`
    Slack workspace `T3`: T3_SIGNING is not set; set it, or take the workspace out of `slack.workspaces`
    "#);
    let none = Blueprint::new(load("", &[]).unwrap()).unwrap();
    assert!(none.slack(String::new()).unwrap().is_none(), "without a token there is no Slack");
}

/// Connected to nothing.
fn slack() -> Slack {
    crate::crypto();
    let workspace = WorkspaceSettings {
        team: None,
        bot_token: SecretString::from(BOT.1),
        app_token: Some(SecretString::from(APP.1)),
        signing_secret: None,
    };
    let settings = SlackSettings {
        api_url: "http://127.0.0.1:9/api".into(),
        workspaces: vec![workspace],
        public_url: "http://127.0.0.1:8000".into(),
        max_file: 1_000,
        max_earlier: 10,
        pace: Default::default(),
    };
    Slack::new(settings).unwrap()
}

async fn ask(service: &Service, path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).header("host", "127.0.0.1:8000").body(Body::empty()).unwrap();
    let response = service.router().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_broken_slack_is_not_ready_with_its_cause_and_takes_no_request_away_from_people() {
    let slack = slack();
    let platforms = Platforms { console: None, slack: Some(slack.clone()) };
    let world = World::with(Setup { platforms, ..Setup::default() }).await;
    let http = Loaded::from_sources(&Sources::default()).unwrap().config.http;
    let stop = CancellationToken::new();
    let settings = Settings {
        http,
        app_name: "twelve".into(),
        secret: [7; 32],
        local_token: None,
        demo: None,
        stop,
        triggers: Default::default(),
        slack: None,
    };
    let service = Service::new(world.runtime.clone(), settings);
    let (status, body) = ask(&service, "/readyz").await;
    assert_eq!((status, &body["ready"], &body["platforms"]), (StatusCode::OK, &json!(true), &json!(["slack"])));

    slack.trouble("socket of T1", Some("Socket Mode is switched off for the app (link_disabled)".to_owned()));
    let (status, body) = ask(&service, "/readyz").await;
    assert_eq!((status, &body["ready"]), (StatusCode::SERVICE_UNAVAILABLE, &json!(false)));
    let cause = "Slack, socket of T1: Socket Mode is switched off for the app (link_disabled)";
    assert_eq!(body["reasons"], json!([cause]));
    let (status, body) = ask(&service, "/readyz/http").await;
    assert_eq!((status, &body["ready"], &body["reasons"]), (StatusCode::OK, &json!(true), &json!([])));

    slack.trouble("socket of T1", None);
    assert_eq!(ask(&service, "/readyz").await.0, StatusCode::OK);
}

/// A Slack in which exactly what the manifest asks for was granted.
async fn fake() -> FakeSlack {
    let fake = FakeSlack::start(&Clock::manual(START)).await;
    fake.team("T1", |team| team.scopes = manifest::scopes().into_iter().map(str::to_owned).collect());
    fake
}

fn home(fake: &FakeSlack, settings: &str) -> Home {
    Home::new(settings)
        .set("SLACK_API_URL", fake.api_url())
        .set("SLACK_BOT_TOKEN", "xoxb-test-T1")
        .set("SLACK_APP_TOKEN", "xapp-test-A1")
}

#[tokio::test]
async fn doctor_says_who_is_connected_and_no_secret_is_in_what_it_says() {
    let fake = fake().await;
    let home = home(
        &fake,
        "[slack]\nagent = \"support\"\nchannels = [{ id = \"C1\", agent = \"deployment\" }]\n\
         [approvals.approvers]\nusers = [\"slack:T1:U1\", \"web:ann\"]\ngroups = [\"slack:T1:S1\", \"slack:T1:G1\", \"ops\"]\n\
         [approvals.route]\nchannel = \"slack:T1:G1\"\n",
    );
    let found = home.doctor(0).await;
    let slack: Vec<_> = found.0.iter().filter(|f| f[0].starts_with("slack")).map(|f| [&f[0], &f[1], &f[2]]).collect();
    let scopes = format!("Acme T1: all {} are granted", manifest::scopes().len());
    assert_eq!(
        slack,
        [
            ["slack", "ok", "conversations go to the agent support; C1 to deployment"],
            ["slack http", "off", "no signing secret is set: nothing is taken by HTTP"],
            ["slack", "ok", "Acme T1 (T1): connected as @agent (UBOTT1)"],
            ["slack scopes", "ok", &scopes],
            ["slack socket", "ok", "Socket Mode is on, a connection can be opened"],
            ["slack approvers", "off", "not looked up, since they do not begin with slack: ops, web:ann"],
            ["slack approvers", "ok", "3 approvers found where they are said to be"],
            ["slack channels", "ok", "C1 (of slack.channels): the bot is in #ops"],
            ["slack channels", "ok", "G1 (of approvals.route): the bot is in #secret"],
            ["slack app home", "off", "Slack does not say whether the Home tab and the events are switched on"],
        ]
    );
    let home = home.set("SLACK_SIGNING_SECRET", "secret-of-A1-that-is-long");
    for args in [&["doctor"][..], &["doctor", "--json"]] {
        let out = home.run(args).await.out;
        let secrets = ["xoxb-", "xapp-", "secret-of-A1", "ticket=", "ws://"];
        assert!(secrets.iter().all(|secret| !out.contains(secret)), "{out}");
    }
    // It looks, and changes nothing.
    let reads = ["auth.test", "apps.connections.open", "users.info", "usergroups.users.list", "conversations.info"];
    fake.with(|state| assert!(state.calls.iter().all(|call| reads.contains(&call.method.as_str()))));
}

#[tokio::test]
async fn s21_doctor_names_the_scope_the_feature_that_is_lost_and_the_page_to_click() {
    let fake = fake().await;
    for scope in manifest::scopes() {
        fake.revoke("T1", scope);
        let vital = ["chat:write", "app_mentions:read"].contains(&scope);
        let found = home(&fake, "").doctor(i32::from(vital)).await;
        let (state, says, next) = found.one("slack scopes");
        assert_eq!(state, if vital { "failed" } else { "warn" }, "{scope}");
        let lost = manifest::FEATURES.iter().find(|feature| feature.scopes.contains(&scope)).unwrap().what;
        assert_eq!(says, format!("Acme T1: missing {scope}: {lost} will not work"));
        let click = format!(
            "add {scope} at https://api.slack.com/apps -> the app -> OAuth & Permissions -> Scopes -> Bot Token Scopes, then install the app again (Install App -> Reinstall)"
        );
        assert_eq!(next, click);
        fake.team("T1", |team| team.scopes.insert(scope.to_owned()));
    }
}

#[tokio::test]
async fn approvers_and_channels_that_lead_nowhere_are_named() {
    let fake = fake().await;
    fake.team("T1", |team| {
        team.users.get_mut("U3").unwrap().deleted = true;
        team.groups.get_mut("S1").unwrap().members.clear();
        team.channels.get_mut("G1").unwrap().archived = true;
    });
    let home = home(
        &fake,
        "[slack]\nchannels = [{ id = \"C9\", agent = \"deployment\" }]\n\
         [approvals.approvers]\nusers = [\"slack:T1:U3\", \"slack:T1:U9\", \"slack:T1:UBOTT1\"]\n\
         groups = [\"slack:T1:S1\", \"slack:T1:S9\", \"slack:T2:S1\"]\n\
         [approvals.route]\nchannel = \"slack:T1:C2\"\n\
         [[policy.rules]]\nname = \"prod\"\ntool = \"deploy_service\"\ngate = \"ask\"\nroute = { channel = \"slack:T1:G1\" }\n",
    );
    let found = home.doctor(1).await;
    let lines: Vec<String> = found
        .0
        .iter()
        .filter(|f| f[0] == "slack approvers" || f[0] == "slack channels")
        .map(|f| format!("{} {}: {} -> {}", f[1], &f[0][6..], f[2], f[3]))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    warn approvers: slack:T1:S1 (named by approvals.approvers): nobody is in this user group -> name somebody else too, or requests may expire
    failed approvers: slack:T1:S9 (named by approvals.approvers) is not there (no_such_subteam) -> look the id up in Slack: a person's profile -> … -> Copy member ID; a user group's or channel's details, at the end
    warn approvers: slack:T1:U3 (named by approvals.approvers): this person's account is deactivated -> name somebody else too, or requests may expire
    failed approvers: slack:T1:U9 (named by approvals.approvers) is not there (user_not_found) -> look the id up in Slack: a person's profile -> … -> Copy member ID; a user group's or channel's details, at the end
    warn approvers: slack:T1:UBOTT1 (named by approvals.approvers): that is a bot, and no bot decides -> name somebody else too, or requests may expire
    failed approvers: slack:T2:S1 (named by approvals.approvers): the workspace T2 is not connected, so nobody is let through -> name somebody of a workspace that is, or set that workspace up
    failed channels: C9 (of slack.channels) is not there, or is private and the bot is not in it -> check the id; in a private channel, /invite the bot
    failed channels: C2 (of approvals.route): the bot is not in #releases, so nothing is posted there -> in #releases: /invite the bot
    failed channels: G1 (of the rule prod): #secret is archived, so nothing is posted there -> unarchive it, or name another channel
    "#);
    // Where the lookup itself is not allowed, that is said.
    fake.revoke("T1", "usergroups:read");
    let found = home.doctor(1).await;
    let group = found.0.iter().find(|f| f[2].starts_with("slack:T1:S1")).unwrap();
    assert_eq!((group[1].as_str(), group[2].contains("missing_scope: usergroups:read")), ("failed", true), "{group:?}");
}

#[tokio::test]
async fn tokens_that_do_not_work_are_said_with_what_to_do() {
    let fake = fake().await;
    let wrong = |name: &'static str, value: &str| home(&fake, "").set(name, value);
    let found = wrong("SLACK_BOT_TOKEN", "xoxb-test-nobody").doctor(1).await;
    let slack: Vec<_> = found.0.iter().filter(|f| f[0] == "slack" && f[1] == "failed").collect();
    assert_eq!(slack.len(), 1);
    assert_eq!(slack[0][2], "SLACK_BOT_TOKEN: Slack does not take the token (invalid_auth)");
    assert!(slack[0][3].contains("OAuth & Permissions"), "{slack:?}");

    fake.team("T1", |team| team.refused = Some("account_inactive".to_owned()));
    let found = wrong("LOG_LEVEL", "error").doctor(1).await;
    assert!(
        found.0.iter().any(|f| f[2].contains("no longer installed") && f[3].contains("Install App")),
        "{:?}",
        found.0
    );
    fake.team("T1", |team| team.refused = None);

    let found = wrong("SLACK_APP_TOKEN", "xapp-test-nobody").doctor(1).await;
    let (state, says, next) = found.one("slack socket");
    assert_eq!((state, says), ("failed", "no connection can be opened (invalid_auth)"));
    assert!(next.contains("Socket Mode"), "{next}");

    fake.fault("auth.test", Fault::Status(503));
    let found = wrong("LOG_LEVEL", "error").doctor(1).await;
    assert!(found.0.iter().any(|f| f[2] == "SLACK_BOT_TOKEN: Slack could not be asked (http_503)"), "{:?}", found.0);

    // One team twice, and a token in the place of another team's.
    fake.add_team("T2", "A1");
    let more = "[[slack.workspaces]]\nteam = \"T1\"\nbot_token_env = \"ONE\"\n[[slack.workspaces]]\nteam = \"T3\"\nbot_token_env = \"THREE\"\n";
    fake.add_team("T9", "A1");
    fake.team("T9", |team| (team.id, team.name) = ("T1".to_owned(), "Acme T1".to_owned()));
    let found = home(&fake, more).set("ONE", "xoxb-test-T9").set("THREE", "xoxb-test-T2").doctor(1).await;
    let says: Vec<&str> = found.0.iter().filter(|f| f[1] == "failed").map(|f| f[2].as_str()).collect();
    assert_eq!(says, ["T1: another token is for Acme T1 (T1) already", "T3: its token is for Acme T2 (T2)"]);
}

#[tokio::test]
async fn doctor_offline_asks_no_slack_and_http_wants_an_address() {
    let fake = fake().await;
    let ran = home(&fake, "").run(&["doctor", "--offline"]).await;
    assert_eq!(ran.code, 0, "{}", ran.out);
    assert!(ran.out.contains("1 workspace set up; not asked (--offline)"), "{}", ran.out);
    fake.with(|state| assert!(state.calls.is_empty()));

    let http = |settings: &str| {
        Home::new(settings)
            .set("SLACK_API_URL", fake.api_url())
            .set("SLACK_BOT_TOKEN", "xoxb-test-T1")
            .set("SLACK_SIGNING_SECRET", "secret-of-A1")
    };
    let found = http("").doctor(0).await;
    let (state, _, next) = found.one("slack http");
    assert!(state == "warn" && next.contains("http.public_url"), "{next}");
    assert_eq!(found.one("slack socket").0, "off");
    let found = http("[http]\nport = 0\npublic_url = \"https://agents.example.com\"\n").doctor(0).await;
    let (state, says, _) = found.one("slack http");
    assert!(state == "ok" && says.ends_with("https://agents.example.com/slack/events"), "{says}");
    // Without any token nothing is wrong.
    let found = Home::new("").doctor(0).await;
    assert_eq!(found.one("slack").0, "off");
}

#[tokio::test]
async fn the_command_prints_a_manifest_and_refuses_addresses_that_slack_cannot_use() {
    let home = Home::new("[slack]\ncommand = \"/bot\"\n");
    let ran = home.run(&["manifest", "slack", "--url", "https://agents.example.com/", "--name", "Bot"]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let app = manifest::App { name: "Bot", command: "/bot", url: Some("https://agents.example.com") };
    assert_eq!(ran.out, manifest::yaml(&app));
    for (args, why) in [
        (["--url", "http://agents.example.com"], "begins with http://, and Slack delivers to https:// alone"),
        (["--url", "https://me:pass@agents.example.com"], "has a user or a password"),
        (["--url", "https://agents.example.com/?a=1"], "has a `?`"),
        (["--url", "https://agents.example.com/#a"], "has a `#`"),
        (["--url", "agents.example.com"], "does not begin with https://"),
        (["--url", "localhost:8000"], "does not begin with https://"),
        (["--url", "https://"], "is no URL (empty host)"),
        (["--name", "Thirty-six characters are one too much"], "1 to 35"),
        (["--command", "agent"], "no slash command"),
    ] {
        let ran = home.run(&[&["manifest", "slack"], &args[..]].concat()).await;
        assert!(ran.code == 1 && ran.err.contains(why) && ran.out.is_empty(), "{args:?}: {}", ran.err);
        assert!(!ran.err.contains("me:pass"), "{}", ran.err);
    }
}

#[tokio::test]
async fn the_manifests_command_says_what_to_set_what_to_invite_and_which_address_slack_cannot_reach() {
    let home = Home::new("");
    let at = async |url: &str| home.run(&["manifest", "slack", "--url", url]).await;
    let plain = at("https://agents.example.com").await;
    assert_eq!((plain.code, plain.err.as_str()), (0, ""));
    for path in ["/slack/events", "/slack/events/", "/slack/commands", "/slack/interactions"] {
        let ran = at(&format!("https://agents.example.com{path}")).await;
        assert_eq!(ran.out, plain.out, "{path}");
        assert!(ran.err.contains(&format!("{} is left out of it", path.trim_end_matches('/'))), "{}", ran.err);
    }
    for (host, why) in [
        ("localhost", "this machine alone"),
        ("127.0.0.1:8443", "this machine alone"),
        ("[::1]", "this machine alone"),
        ("10.1.2.3", "a private network"),
        ("192.168.1.5", "a private network"),
        ("[fd00::1]", "a private network"),
        ("agents", "a private network"),
        ("agents.internal", "a private network"),
    ] {
        let ran = at(&format!("https://{host}")).await;
        assert!(ran.code == 0 && ran.err.contains(why) && ran.err.contains("Socket Mode"), "{host}: {}", ran.err);
    }
    let ran = home.run(&["manifest", "slack", "--name", "Release Bot", "--command", "/release"]).await;
    let header = "# Its bot is called @release-bot: /invite @release-bot in a channel. The service has to run with slack.command = \"/release\".\n";
    assert!(ran.out.contains(header), "{}", ran.out);
    assert!(ran.err.contains("Set `slack.command` to \"/release\" too"), "{}", ran.err);
}

/// What the whole set-up says of these settings, with Slack on.
fn set_up(file: &str) -> String {
    let blueprint = Blueprint::new(load(file, &[BOT, APP]).unwrap());
    blueprint.map(|_| String::new()).unwrap_or_else(|problems| problems.to_string())
}

#[test]
fn approvers_and_routes_that_can_be_nobody_in_slack_are_refused_with_what_was_meant() {
    let file = r##"
[http]
admins = ["U01234567"]
[approvals.approvers]
users = ["U0123", "slack:U0123", "@ann", "slack:T1:S1", "slack:ann", "Slack:T1:U1", "UBQ4J5K2X", "slack:T1:U1 ", "slack:x:U1"]
groups = ["S0123", "#releases", "slack:T1:U1", "slack:T1:", "T0123"]
[approvals.route]
channel = "#releases"
[[policy.rules]]
name = "prod"
tool = "deploy_service"
gate = "ask"
approvers = { users = ["slack:T1"], groups = ["slack:S0123"] }
route = { channel = "slack:T0123:U0123" }
"##;
    insta::assert_snapshot!(set_up(file), @r#"
    `approvals.approvers`: `U0123` lacks the surface and the team: write slack:T…:U0123
    `approvals.approvers`: `slack:U0123` lacks the team: write slack:T…:U0123; the team's id stands in the address of Slack in a browser, https://app.slack.com/client/T…
    `approvals.approvers`: `@ann` is a name; Slack's ids do not change when people rename things: write slack:T…:U… (a profile in Slack -> … -> Copy member ID)
    `approvals.approvers`: `slack:T1:S1` is a group or a channel, not a person; name it under `groups`
    `approvals.approvers`: `slack:ann` is no id in Slack; write slack:T…:U… (a profile in Slack -> … -> Copy member ID)
    `approvals.approvers`: `Slack:T1:U1` is compared letter by letter: write slack:T1:U1
    `approvals.approvers`: `UBQ4J5K2X` lacks the surface and the team: write slack:T…:UBQ4J5K2X
    `approvals.approvers`: `slack:T1:U1 ` is compared letter by letter: write slack:T1:U1
    `approvals.approvers`: `slack:x:U1` names no team: a team's id begins with T (E for a whole organisation), and stands in the address of Slack in a browser, https://app.slack.com/client/T…
    `approvals.approvers`: `S0123` lacks the surface and the team: write slack:T…:S0123
    `approvals.approvers`: `#releases` is a name; Slack's ids do not change when people rename things: write slack:T…:S… (a user group) or slack:T…:C… (the members of a channel)
    `approvals.approvers`: `slack:T1:U1` is a person, not a group; name them under `users`
    `approvals.approvers`: `slack:T1:` is no id in Slack; write slack:T…:S… (a user group) or slack:T…:C… (the members of a channel)
    `approvals.approvers`: `T0123` looks like an id of Slack's of another kind; write slack:T…:S… (a user group) or slack:T…:C… (the members of a channel)
    the rule `prod`: `slack:T1` is no id in Slack; write slack:T…:U… (a profile in Slack -> … -> Copy member ID)
    the rule `prod`: `slack:S0123` lacks the team: write slack:T…:S0123; the team's id stands in the address of Slack in a browser, https://app.slack.com/client/T…
    `http.admins`: `U01234567` lacks the surface and the team: write slack:T…:U01234567
    `approvals.route`: `#releases` is a name; Slack's ids do not change when people rename things: write slack:T…:C… (the channel's details in Slack, at the end)
    the rule `prod`: `slack:T0123:U0123` is a person, not a channel; write slack:T…:C… (the channel's details in Slack, at the end), or `direct = true` for copies to those who decide
    "#);
    for (channel, why) in [
        ("C0123", "write slack:T…:C0123"),
        ("slack:C0123", "slack:T…:C0123"),
        ("web:ops", "is no channel in Slack"),
        ("slack:T1:S1", "is a user group"),
        ("slack:T1:C1:1.2", "is no id in Slack"),
    ] {
        let words = set_up(&format!("[approvals.route]\nchannel = \"{channel}\"\n"));
        assert!(words.starts_with("`approvals.route`: ") && words.contains(why), "{channel}: {words}");
    }
}

#[test]
fn approvers_of_slack_and_of_other_surfaces_are_taken_and_without_slack_nothing_is_held_against_its_forms() {
    let fine = r#"
[http]
admins = ["slack:T1:U1", "web:ann", "slack:E1:W1"]
[approvals.approvers]
users = ["slack:T1:U1", "slack:E012AB:W0123", "web:ann", "console:ops", "email:ann@example.com"]
groups = ["slack:T1:S1", "slack:T1:C1", "slack:T1:G1", "ops", "SECURITY", "TEAM1", "SRE2024", "release-team"]
[approvals.route]
channel = "slack:T1:C1"
"#;
    assert_eq!(set_up(fine), "");
    assert_eq!(set_up("[approvals.approvers]\nusers = [\"*\"]\n[approvals.route]\nchannel = \"slack:T1:D1\"\n"), "");
    // Where requests would go in Slack is nobody's business without it; who could never decide is.
    let without = |id: &str| {
        load(&format!("[approvals.approvers]\nusers = [\"{id}\"]\n[approvals.route]\nchannel = \"#releases\"\n"), &[])
    };
    assert!(Blueprint::new(without("web:ann").unwrap()).is_ok());
    assert!(Blueprint::new(without("U0123").unwrap()).is_err());
}

#[test]
fn one_token_under_two_names_is_refused_and_not_quoted() {
    let again = [BOT, APP, ("T2_BOT", BOT.1), ("T3_BOT", "xoxb-3-of-the-tests"), ("T3_SIGNING", SIGNING.1)];
    insta::assert_snapshot!(refused(WORKSPACES, &again), @"The configuration has a problem: twelve.toml line 7: Slack workspace 1 `T2`: T2_BOT holds the same token as SLACK_BOT_TOKEN; each workspace has a bot token of its own, so set the one that its installation was given, or take it out");
}

/// The real program, with the fake's app.
fn service(fake: &FakeSlack, dir: &tempfile::TempDir, settings: &str) -> cli_serve::Running {
    let mut command = cli_serve::command(dir, settings);
    command.env("SLACK_API_URL", fake.api_url()).env("SLACK_BOT_TOKEN", "xoxb-test-T1");
    cli_serve::Running::of({
        command.env("SLACK_APP_TOKEN", "xapp-test-A1").env("SLACK_SIGNING_SECRET", "secret-of-A1");
        command
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_runs_without_slack_connects_when_it_can_and_ends_in_time() {
    let fake = fake().await;
    fake.fault_always("auth.test", Fault::Status(503));
    let dir = tempfile::tempdir().unwrap();
    let mut service = service(&fake, &dir, "[http]\nport = 0\nhost = \"0.0.0.0\"\n");
    assert!(service.address.ip().is_unspecified(), "a signing secret is a way in: {}", service.address);
    let calls = |method: &'static str| {
        move |state: &crate::fakes::slack::State| state.calls.iter().filter(|c| c.method == method).count()
    };
    fake.until("a second attempt to connect", |state| (calls("auth.test")(state) >= 2).then_some(())).await;
    let at = |path: &str| cli_serve::get(([127, 0, 0, 1], service.address.port()).into(), path);
    assert!(at("/readyz/http").starts_with("HTTP/1.1 200"), "{}", at("/readyz/http"));
    let body = at("/readyz");
    assert!(body.starts_with("HTTP/1.1 503") && body.contains("Slack, bot token 1: "), "{body}");
    assert_eq!(fake.with(|state| calls("apps.connections.open")(state)), 0, "nothing is dialled for nobody");

    fake.heal("auth.test");
    fake.until("a connection", |state| (calls("apps.connections.open")(state) >= 1).then_some(())).await;
    service.signal(rustix::process::Signal::TERM);
    service.expect("stopped");
    assert!(service.child.wait().unwrap().success());
    assert!(!service.seen.iter().any(|line| line.contains("xoxb-") || line.contains("ticket=")), "{:#?}", service.seen);
}

#[tokio::test]
async fn a_service_whose_workspace_has_no_token_does_not_start_and_says_which_variable() {
    let home = Home::new("[slack]\n[[slack.workspaces]]\nteam = \"T1\"\nbot_token_env = \"ACME_BOT\"\n")
        .set("SLACK_APP_TOKEN", "xapp-1-of-the-tests");
    let ran = home.run(&["serve"]).await;
    assert!(ran.code == 1 && ran.err.contains("ACME_BOT is not set"), "{}", ran.err);
    let says = "Slack workspace `T1`: ACME_BOT is not set; set it, or take the workspace out of `slack.workspaces`";
    let ran = home.run(&["config", "check"]).await;
    assert!(ran.code == 1 && ran.err.contains(says), "{}", ran.err);
    let ran = home.run(&["config", "show"]).await;
    assert_eq!(ran.code, 0, "what only looks does without: {}", ran.err);
    let empty = Home::new("[slack]\n[[slack.workspaces]]\nteam = \"T1\"\nbot_token_env = \"ACME_BOT\"\n")
        .set("SLACK_APP_TOKEN", "xapp-1-of-the-tests")
        .set("ACME_BOT", " ");
    let ran = empty.run(&["config", "check"]).await;
    assert!(ran.code == 1 && ran.err.contains(says), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_socket_mode_alone_the_service_does_not_read_as_if_something_were_missing() {
    let fake = fake().await;
    let dir = tempfile::tempdir().unwrap();
    let mut command = cli_serve::command(&dir, "[http]\nport = 0\n");
    command.env("SLACK_API_URL", fake.api_url()).env("SLACK_BOT_TOKEN", "xoxb-test-T1");
    command.env("SLACK_APP_TOKEN", "xapp-test-A1");
    let service = cli_serve::Running::of(command);
    let said = |words: &str| service.seen.iter().any(|line| line.contains(words));
    assert!(said("Slack comes by Socket Mode and needs no address"), "{:#?}", service.seen);
    assert!(!said("is configured, so only"), "{:#?}", service.seen);
}

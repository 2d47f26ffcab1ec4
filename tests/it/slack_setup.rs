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
use twelve::platform::slack::{Slack, SlackSettings, WorkspaceSettings};

use crate::world::{Setup, World};

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
    - twelve.toml line 6: Slack channel 4: unknown setting `agnet`; allowed: `id`, `agent`; did you mean `agent`?
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

//! What is looked up in Slack: who is in a group, what was said and attached; and private answers.

use twelve::agent::*;
use twelve::platform::PostError;
use twelve::platform::slack::{Hot, Slack};

use crate::fakes::slack::{Fault, Handle, ResponseUrl};
use crate::slack_post::{connected, fake, root, said, settings};
use crate::world::START;

fn person(team: &str, user: &str) -> Principal {
    Principal::human(format!("slack:{team}:{user}"))
}

fn groups(groups: &[&str]) -> Vec<String> {
    groups.iter().map(|g| (*g).to_owned()).collect()
}

fn words(error: PostError) -> String {
    format!("{}{}", error.message, if error.transient { ", for now" } else { "" })
}

fn key(n: u64) -> ShortId {
    format!("system:slack:T1:{n}").parse::<ThreadId>().unwrap().short()
}

/// A response URL of the fake, kept for the answer to an intent.
fn keep_url(fake: &Handle, slack: &Slack, id: ShortId, user: &str) -> String {
    let url = ResponseUrl {
        team: "T1".to_owned(),
        channel: "C1".to_owned(),
        user: user.to_owned(),
        thread_ts: None,
        message: None,
        made: fake.clock().now().0,
        used: 0,
    };
    fake.with(|s| s.response_urls.insert(id.to_string(), url));
    let address = format!("{}/response/{id}", fake.api_url().trim_end_matches("/api"));
    slack.remember(id, Hot { response_url: Some(address.clone()), ..Hot::default() });
    address
}

#[tokio::test]
async fn s9_a_response_url_takes_five_answers_and_then_the_bots_token_is_used() {
    let fake = crate::fakes::slack::FakeSlack::start(&twelve::runtime::Clock::manual(START)).await;
    let slack = connected(settings(&fake, &["T1"])).await;
    keep_url(&fake, &slack, key(1), "U1");
    let mut by = Vec::new();
    for n in 0..7 {
        slack.reply(key(1), "slack:T1:C1:U1", &format!("answer {n} <!channel>")).await;
        let answer = fake.private("T1", "U1").await;
        assert_eq!(answer.text, format!("answer {n} &lt;!channel&gt;"));
        by.push(answer.by);
    }
    assert_eq!(by, [&["response_url"; 5][..], &["ephemeral"; 2][..]].concat());
    assert_eq!(fake.with(|s| s.response_urls[&key(1).to_string()].used), 5);
}

#[tokio::test]
async fn s9_after_thirty_minutes_the_answer_goes_by_the_bots_token_into_the_thread() {
    let fake = crate::fakes::slack::FakeSlack::start(&twelve::runtime::Clock::manual(START)).await;
    let slack = connected(settings(&fake, &["T1"])).await;
    keep_url(&fake, &slack, key(1), "U1");
    fake.clock().advance_ms(31 * 60 * 1_000);
    let thread = root(&fake, "T1", "C1", "U1", "hi");
    slack.reply(key(1), &format!("slack:T1:C1:U1:{thread}"), "done").await;
    let answer = fake.private("T1", "U1").await;
    assert_eq!((answer.by, answer.thread_ts, answer.text.as_str()), ("ephemeral", Some(thread), "done"));
}

#[tokio::test]
async fn s9_a_response_url_of_another_host_is_never_called() {
    let fake = crate::fakes::slack::FakeSlack::start(&twelve::runtime::Clock::manual(START)).await;
    let slack = connected(settings(&fake, &["T1"])).await;
    // Somebody listens there.
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/response/1", other.local_addr().unwrap());
    slack.remember(key(1), Hot { response_url: Some(address), ..Hot::default() });
    tokio::select! {
        _ = other.accept() => panic!("it was called"),
        () = slack.reply(key(1), "slack:T1:C1:U1", "done") => {}
    }
    assert_eq!(fake.private("T1", "U1").await.by, "ephemeral");
}

#[tokio::test]
async fn s9_whoever_is_not_in_the_channel_is_told_in_private() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    slack.reply(key(1), "slack:T1:C2:U1", "one <b>").await;
    slack.reply(key(2), "slack:T1:-:U1", "two").await;
    fake.fault("chat.postEphemeral", Fault::Error("user_not_in_channel"));
    slack.reply(key(3), "slack:T1:C1:U1", "three").await;
    let told: Vec<String> =
        fake.messages("T1", &fake.dm_channel("T1", "U1")).iter().map(|m| m.words().trim().to_owned()).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[1] == "two" && told[2] == "three", "{told:?}");
    // The element interprets nothing, so it shows what was said.
    assert_eq!(told[0], "one <b>");
    // Nowhere to go: nothing breaks.
    slack.reply(key(4), "slack:T1:-:U99", "lost").await;
    slack.reply(key(5), "nonsense", "lost").await;
}

#[tokio::test]
async fn members_of_user_groups_and_channels_are_asked_for_each_time() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let all = groups(&["slack:T1:S1", "slack:T1:G1", "slack:T2:S1", "release-team", "slack:T1:C1"]);
    let of = async |user: &str| slack.groups(&person("T1", user), &all).await;
    let mut slack_groups = Vec::new();
    for user in ["U1", "U2", "U3", "U9"] {
        slack_groups.push(slack.groups(&person("T1", user), &all).await.unwrap().join(" "));
    }
    assert_eq!(slack_groups, ["slack:T1:G1 slack:T1:C1", "slack:T1:S1 slack:T1:G1 slack:T1:C1", "slack:T1:C1", ""]);
    fake.team("T1", |t| t.groups.get_mut("S1").unwrap().members = vec!["U3".to_owned()]);
    assert_eq!(of("U3").await.unwrap(), ["slack:T1:S1", "slack:T1:C1"]);
    assert_eq!(of("U2").await.unwrap(), ["slack:T1:G1", "slack:T1:C1"]);
    // Nobody but people of Slack is in them.
    assert_eq!(slack.groups(&Principal::human("console:ops"), &all).await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_large_channel_is_read_by_the_page_and_its_last_member_is_found() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    fake.team("T1", |t| {
        let channel = t.channels.get_mut("C1").unwrap();
        channel.members.extend((0..2_500).map(|n| format!("U5{n:05}")));
    });
    let found = slack.groups(&person("T1", "U502499"), &groups(&["slack:T1:C1"])).await;
    assert_eq!(found, Ok(groups(&["slack:T1:C1"])));
    assert_eq!(fake.calls("conversations.members").len(), 3);
}

#[tokio::test]
async fn a_group_that_cannot_be_looked_up_lets_nobody_through_and_says_why() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let bob = person("T1", "U2");
    let ask = async || slack.groups(&bob, &groups(&["slack:T1:S1"])).await.map_err(words);
    fake.revoke("T1", "usergroups:read");
    assert_eq!(ask().await, Err("Slack: missing_scope usergroups:read".to_owned()));
    assert_eq!(slack.problems(), Vec::<String>::new(), "one scope makes nothing else stop");
    assert_eq!(
        slack.lacks(),
        [
            "Slack, team T1, usergroups.users.list: usergroups.users.list needs the scope usergroups:read, which the app \
          was not granted: add it under OAuth & Permissions and install the app again"
        ]
    );
    fake.team("T1", |t| t.scopes.insert("usergroups:read".to_owned()));
    assert_eq!(ask().await, Ok(groups(&["slack:T1:S1"])));
    assert_eq!(slack.lacks(), Vec::<String>::new());
    fake.team("T1", |t| t.groups.get_mut("S1").unwrap().disabled = true);
    assert_eq!(ask().await, Err("Slack: no_such_subteam".to_owned()));
    fake.team("T1", |t| t.groups.get_mut("S1").unwrap().disabled = false);
    fake.fault_always("usergroups.users.list", Fault::Status(503));
    assert_eq!(ask().await, Err("Slack: http_503, for now".to_owned()));
    fake.heal("usergroups.users.list");
    assert_eq!(ask().await, Ok(groups(&["slack:T1:S1"])));
    // One that is certain is enough.
    fake.revoke("T1", "usergroups:read");
    let both = slack.groups(&bob, &groups(&["slack:T1:S1", "slack:T1:C1"])).await;
    assert_eq!(both, Ok(groups(&["slack:T1:C1"])));
    let elsewhere = slack.groups(&person("T3", "U2"), &groups(&["slack:T3:S1"])).await.map_err(words);
    assert_eq!(elsewhere, Err("Slack: not_connected, for now".to_owned()));
}

#[tokio::test]
async fn votes_at_one_time_share_a_question_and_what_is_shown_takes_none_of_them_away() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let (bob, team) = (person("T1", "U2"), groups(&["slack:T1:S1"]));
    let found = futures_util::future::join_all((0..30).map(|_| slack.groups(&bob, &team))).await;
    assert!(found.iter().all(|found| *found == Ok(team.clone())), "{found:?}");
    let asked = || fake.calls("usergroups.users.list").len();
    assert!(asked() <= 2, "{} questions", asked());
    // What is shown may be old; a decision never is.
    let before = asked();
    for _ in 0..10 {
        assert_eq!(slack.groups_shown(&bob, &team).await, Ok(team.clone()));
    }
    assert_eq!(asked(), before + 1);
    fake.team("T1", |t| t.groups.get_mut("S1").unwrap().members.clear());
    assert_eq!(slack.groups_shown(&bob, &team).await, Ok(team.clone()));
    assert_eq!(slack.groups(&bob, &team).await, Ok(Vec::new()));
}

#[tokio::test]
async fn s20_a_group_of_another_team_with_the_same_id_says_nothing_about_a_person() {
    let fake = fake().await;
    fake.add_team("T2", "A1");
    let slack = connected(settings(&fake, &["T1", "T2"])).await;
    let both = groups(&["slack:T1:S1", "slack:T2:S1"]);
    assert_eq!(slack.groups(&person("T1", "U2"), &both).await.unwrap(), ["slack:T1:S1"]);
    assert_eq!(slack.groups(&person("T2", "U2"), &both).await.unwrap(), ["slack:T2:S1"]);
    assert_eq!(fake.calls("usergroups.users.list").len(), 2);
}

#[tokio::test]
async fn what_was_said_before_comes_oldest_first_with_names_and_without_the_bots_own_words() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let first = root(&fake, "T1", "C1", "U1", "the api is slow");
    let thread = format!("slack:T1:C1:{first}");
    for n in 1..=6 {
        said(&fake, "T1", "C1", "U2", &format!("guess {n} &lt;here&gt;"), Some(&first));
    }
    let ours = said(&fake, "T1", "C1", "UBOTT1", "I can help", Some(&first));
    fake.team("T1", |t| t.messages.iter_mut().find(|m| m.ts == ours).unwrap().bot_id = Some("BBOTT1".to_owned()));
    let before = said(&fake, "T1", "C1", "U3", "@agent look", Some(&first));
    said(&fake, "T1", "C1", "U3", "and later", Some(&first));
    let gathered = slack.gather(&thread.parse().unwrap(), &Attached::Earlier { before }).await;
    let text = (2..=6).map(|n| format!("bob: guess {n} <here>")).collect::<Vec<_>>().join("\n");
    let label = "the earlier messages of this conversation".to_owned();
    let by = vec![Principal::human("slack:T1:U2")];
    assert_eq!(gathered, [Gathered { label, text: Ok(text), by }], "with whose words they are");
    assert_eq!(fake.calls("users.info").len(), 1, "a name is asked for once");
    let nothing = slack.gather(&thread.parse().unwrap(), &Attached::Earlier { before: first }).await;
    assert_eq!(nothing, Vec::new());
    fake.revoke("T1", "channels:history");
    let before = "9999999999.000000".to_owned();
    let gathered = slack.gather(&thread.parse().unwrap(), &Attached::Earlier { before }).await;
    assert_eq!(gathered[0].text, Err("Slack did not show them (missing_scope channels:history)".to_owned()));
}

#[tokio::test]
async fn text_files_are_read_within_bounds_and_only_from_slack() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let thread: ThreadId = format!("slack:T1:C1:{}", root(&fake, "T1", "C1", "U1", "hi")).parse().unwrap();
    let read = async |id: &str| {
        let file = Attached::File { name: "a file".to_owned(), place: format!("slack:T1:{id}") };
        let mut gathered = slack.gather(&thread, &file).await;
        assert_eq!((gathered.len(), gathered[0].label.as_str()), (1, "the file a file"));
        gathered.remove(0).text
    };
    let good = fake.add_file("T1", "errors.log", "text/plain", "caf\u{e9} is down".as_bytes());
    assert_eq!(read(&good).await.as_deref(), Ok("caf\u{e9} is down"));
    let long = fake.add_file("T1", "long.log", "text/plain", &[b'a'; 1_001]);
    let too_long = Err("it is longer than the 1000 bytes that are read".to_owned());
    assert_eq!(read(&long).await, too_long);
    fake.team("T1", |t| t.files.get_mut(&long).unwrap().size = 10);
    assert_eq!(read(&long).await, too_long, "whatever it says of itself");
    let image = fake.add_file("T1", "cat.png", "image/png", b"\x89PNG");
    assert_eq!(read(&image).await, Err("it is no text (image/png)".to_owned()));
    let broken = fake.add_file("T1", "odd.txt", "text/plain", b"caf\xe9");
    assert_eq!(read(&broken).await, Err("it is no text in UTF-8".to_owned()));
    let latin = fake.add_file("T1", "latin.txt", "text/plain; charset=iso-8859-1", b"caf\xe9");
    assert_eq!(read(&latin).await.as_deref(), Ok("caf\u{e9}"));
    assert_eq!(read("F404").await, Err("Slack did not hand it out (file_not_found)".to_owned()));
    // Without the scope, Slack shows a page to sign in.
    fake.team("T1", |t| t.token = "xoxb-new".to_owned());
    assert_eq!(read(&good).await, Err("Slack did not hand it out (invalid_auth)".to_owned()));
}

#[tokio::test]
async fn a_conversation_that_a_command_starts_is_begun_once_however_often_it_is_tried() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let ann = person("T1", "U1");
    let open = async |slack: &Slack, place: &str| slack.open(key(1), place, &ann, "ops: ship *it* <!channel>").await;
    fake.fault("chat.postMessage", Fault::DoneThenSilence);
    let thread = open(&slack, "slack:T1:C1").await.unwrap();
    let stands = fake.messages("T1", "C1");
    assert_eq!(stands.len(), 1);
    assert_eq!(thread.as_str(), format!("slack:T1:C1:{}", stands[0].ts));
    assert_eq!(stands[0].words().trim(), "<@U1> asked *ops*: ship *it* &lt;!channel&gt;");
    let after = connected(settings(&fake, &["T1"])).await;
    assert_eq!(open(&after, "slack:T1:C1").await.unwrap(), thread);
    assert_eq!(fake.messages("T1", "C1").len(), 1);
    // In private, and where the bot is not.
    let private = open(&slack, "slack:T1:U1").await.unwrap();
    assert!(private.as_str().starts_with(&format!("slack:T1:{}:", fake.dm_channel("T1", "U1"))));
    let error = open(&slack, "slack:T1:C2").await.unwrap_err();
    assert_eq!(error.message, "I can't post in #releases. Invite me with /invite @agent.");
    assert!(!open(&slack, "slack:T3:C1").await.unwrap_err().transient);
}

#[tokio::test]
async fn the_conversation_of_a_message_of_ours_is_found_and_of_others_is_not() {
    let fake = fake().await;
    let slack = connected(settings(&fake, &["T1"])).await;
    let first = root(&fake, "T1", "C1", "U1", "hi");
    let bot = |ts: &str, metadata: Option<serde_json::Value>| {
        fake.team("T1", |t| {
            let message = t.messages.iter_mut().find(|m| m.ts == ts).unwrap();
            message.bot_id = Some("BBOTT1".to_owned());
            message.metadata = metadata;
        });
    };
    let reply = said(&fake, "T1", "C1", "UBOTT1", "hello", Some(&first));
    bot(&reply, None);
    let of = async |channel: &str, ts: &str| {
        slack.thread_of(&format!("slack:T1:{channel}:{ts}")).await.unwrap().map(|t| t.to_string())
    };
    assert_eq!(of("C1", &reply).await, Some(format!("slack:T1:C1:{first}")));
    assert_eq!(of("C1", &first).await, None, "somebody else wrote it");
    assert_eq!(of("C1", "1.000001").await, None);
    // A card in another channel says where it belongs; never to another team.
    let names = |thread: &str| serde_json::json!({"event_type": "twelve_post", "event_payload": {"key": "k", "thread": thread}});
    let card = said(&fake, "T1", "G1", "UBOTT1", "card", None);
    bot(&card, Some(names(&format!("slack:T1:C1:{first}"))));
    assert_eq!(of("G1", &card).await, Some(format!("slack:T1:C1:{first}")));
    bot(&card, Some(names("slack:T2:C1:1.2")));
    assert_eq!(of("G1", &card).await, Some(format!("slack:T1:G1:{card}")));
}

//! The real program with Slack: killed and ended while people press and write, and started again.
//!
//! Slack and the service that is deployed to run in this process, and outlive the program.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use twelve::demo_service;
use twelve::runtime::Clock;

use crate::cli_serve::{self, Running};
use crate::fakes::slack::{FakeSlack, Message};

/// How long the program may take to be ready or to be gone.
const PATIENCE: Duration = Duration::from_secs(30);
const ASK: &str = "deploy api v1.2.3 to staging";

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Http,
    Socket,
}

struct Stage {
    slack: FakeSlack,
    mode: Mode,
    dir: TempDir,
    service: TempDir,
    settings: String,
    server: JoinHandle<std::io::Result<()>>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Stage {
    async fn new(mode: Mode) -> Self {
        let (dir, service) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        demo_service::seed(service.path(), "api", "staging", "v1.2.2").unwrap();
        let settings = format!(
            r#"
[http]
port = 0
public_url = "https://twelve.example"
[model]
provider = "scripted"
[slack]
agent = "deployment"
[approvals.approvers]
users = []
groups = ["slack:T1:S1"]
[tools.services.api.environments.staging]
status = "http://{address}/api/staging/health"
version = {{ url = "http://{address}/api/staging/version", pointer = "/version" }}
[tools.services.api.deploy]
versions = 'v\d+\.\d+\.\d+'
http = {{ url = "http://{address}/api/staging/deploy", body = {{ version = "{{version}}" }} }}
"#
        );
        let server = tokio::spawn(demo_service::serve(service.path().to_owned(), listener));
        let slack = FakeSlack::start(&Clock::System).await;
        Self { slack, mode, dir, service, settings, server }
    }

    /// Starts the program, and waits until Slack can reach it.
    async fn start(&self, crash: Option<&str>) -> Running {
        let mut command = cli_serve::command(&self.dir, &self.settings);
        command.env("SLACK_API_URL", self.slack.api_url()).env("SLACK_BOT_TOKEN", "xoxb-test-T1");
        match self.mode {
            Mode::Http => command.env("SLACK_SIGNING_SECRET", "secret-of-A1"),
            Mode::Socket => command.env("SLACK_APP_TOKEN", "xapp-test-A1"),
        };
        if let Some(crash) = crash {
            command.env("TWELVE_CRASH_AT", crash);
        }
        let running = Running::of(command);
        if self.mode == Mode::Http {
            self.slack.deliver_by_http(&format!("http://{}", running.address));
        }
        let deadline = Instant::now() + PATIENCE;
        while !cli_serve::get(running.address, "/readyz").starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < deadline, "{}", cli_serve::get(running.address, "/readyz"));
            tokio::task::yield_now().await;
        }
        running
    }

    async fn asked(&self) -> (String, Message) {
        let root = self.slack.person("T1", "U1").mention("C1", ASK).await;
        let card = self.slack.posted("T1", "C1", "Approval needed").await;
        (root, card)
    }

    /// Deployed once, said once, and the card shows who decided.
    async fn outcome(&self, root: &str, card: &Message, at: &str) {
        let slack = &self.slack;
        let unknown = slack
            .until(&format!("{at}: an outcome"), |s| {
                let said = |words: &str| s.teams["T1"].messages.iter().any(|m| m.words().contains(words));
                if said("Result unknown") { Some(true) } else { said("Deployed:").then_some(false) }
            })
            .await;
        if unknown {
            // Killed while the deployment ran: it is never run again by itself, a person is asked.
            let told = slack.private("T1", "U2").await.words();
            assert!(told.to_lowercase().contains("approved"), "{at}: {told}");
            assert!(demo_service::ledger(self.service.path()).unwrap().len() <= 1, "{at}");
            return;
        }
        let (team, ts) = ("T1", card.ts.clone());
        slack
            .until(&format!("{at}: the outcome on the card"), |s| {
                let card = s.teams[team].messages.iter().find(|m| m.ts == ts)?;
                let words = card.words();
                (words.contains("*Approved* by <@U2>") && words.contains("v1.2.2 -> v1.2.3")).then_some(())
            })
            .await;
        let told = slack.private("T1", "U2").await.words();
        assert!(told.to_lowercase().contains("approved"), "{at}: {told}");
        assert_eq!(demo_service::ledger(self.service.path()).unwrap().len(), 1, "{at}");
        let said: Vec<String> = slack.thread("T1", "C1", root).iter().map(Message::words).collect();
        let different: BTreeSet<&String> = said.iter().collect();
        assert_eq!(different.len(), said.len(), "{at}: {said:#?}");
        assert_eq!(said.iter().filter(|w| w.contains("Deployed:")).count(), 1, "{at}: {said:#?}");
        assert_eq!(said.len(), 3, "{at}: the mention, the card, the answer: {said:#?}");
    }
}

/// Waits until it has died; the test fails if it does not.
async fn dies(mut running: Running, at: &str) {
    use std::os::unix::process::ExitStatusExt as _;
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = running.child.try_wait().unwrap() {
            assert_eq!(status.signal(), Some(9), "{at}: {status:?}");
            return;
        }
        assert!(Instant::now() < deadline, "{at}: it did not come to that point");
        tokio::task::yield_now().await;
    }
}

async fn killed_while_it_waits(mode: Mode) {
    let stage = Stage::new(mode).await;
    let first = stage.start(None).await;
    let (root, card) = stage.asked().await;
    first.signal(Signal::KILL);
    dies(first, "while it waits").await;
    let _second = stage.start(None).await;
    stage.slack.person("T1", "U2").press(&card, "apr.approve").await;
    stage.outcome(&root, &card, "after a kill").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_from_before_a_kill_is_pressed_after_it_and_deploys_once_by_http() {
    killed_while_it_waits(Mode::Http).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_from_before_a_kill_is_pressed_after_it_and_deploys_once_by_socket() {
    killed_while_it_waits(Mode::Socket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_step_of_a_press_deploys_once_and_tells_the_person() {
    for at in ["deliver.after_append", "intent.before_act", "intent.after_act", "intent.after_reply"] {
        let stage = Stage::new(Mode::Http).await;
        let mut first = stage.start(None).await;
        let (root, card) = stage.asked().await;
        // All that it knows is kept: the next one begins with the press.
        first.signal(Signal::TERM);
        first.expect("stopped");
        let second = stage.start(Some(at)).await;
        let press = stage.slack.person("T1", "U2").press_delivery(&card, "apr.approve", None);
        // It may die before it acknowledges; Slack does not deliver a press again.
        stage.slack.send(&press).await;
        dies(second, at).await;
        let _third = stage.start(None).await;
        stage.outcome(&root, &card, at).await;
        // Who had an answer before the crash may get it once more.
        stage.slack.ignore_private();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_stop_is_there_after_it() {
    let stage = Stage::new(Mode::Http).await;
    let mut first = stage.start(None).await;
    let ann = stage.slack.person("T1", "U1");
    // One is acknowledged; two more are under way when the stop comes.
    let mut roots = vec![ann.mention("C1", ASK).await];
    let mut under_way = Vec::new();
    for _ in 0..2 {
        let bot = stage.slack.team("T1", |t| t.bot_user.clone());
        let ts = ann.write("C1", None, &format!("<@{bot}> {ASK}"), &[]);
        let delivery = ann.deliveries("C1", &ts).remove(0);
        let (slack, sent) = (stage.slack.handle(), delivery.clone());
        under_way.push((delivery, tokio::spawn(async move { slack.send(&sent).await })));
        roots.push(ts);
    }
    first.signal(Signal::TERM);
    first.expect("stopped");
    assert!(first.child.wait().unwrap().success());
    let _second = stage.start(None).await;
    for (delivery, sent) in under_way {
        if sent.await.unwrap().status != 200 {
            assert_eq!(stage.slack.send_again(&delivery, 1, "http_error").await.status, 200);
        }
    }
    for root in &roots {
        let is_card = |m: &&Message| m.root() == root && m.words().contains("Approval needed");
        stage.slack.until("a card", |s| s.teams["T1"].messages.iter().find(is_card).map(|_| ())).await;
        let thread = stage.slack.thread("T1", "C1", root);
        assert_eq!(thread.len(), 2, "the mention and its card: {}", stage.slack.describe());
    }
}

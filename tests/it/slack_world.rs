//! The world with Slack: the whole app against the fake, by HTTP or by Socket Mode, with one clock for both.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use twelve::agent::*;
use twelve::chat::slack::{Front, FrontSettings, run};
use twelve::config::Loaded;
use twelve::config::layers::Sources;
use twelve::http::serve::{Limits, listen, serve};
use twelve::http::{Service, Settings as HttpSettings};
use twelve::platform::Platforms;
use twelve::platform::slack::api::Pace;
use twelve::platform::slack::{Slack, SlackSettings, WorkspaceSettings};
use twelve::runtime::Clock;

use crate::fakes::slack::{FakeSlack, Message, Person};
use crate::world::*;

/// How Slack reaches the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Http,
    Socket,
}

/// What a deployment is: the state is looked at first.
const DEPLOY: &str = r#"
[[reply]]
human = '^deploy (?P<version>\S+)$'
last = '<tool_result .*tool="look" outcome="succeeded"'
say = "All is well, so I ask to ship it."
[[reply.call]]
tool = "ship"
args = { version = "$version" }
[[reply]]
human = '^deploy \S+$'
last = '^<human'
[[reply.call]]
tool = "look"
"#;

pub struct SlackWorld {
    pub world: World,
    pub slack: FakeSlack,
    mode: Mode,
    process: Process,
}

/// The parts of the program that run besides the runtime.
struct Process {
    front: Front,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl SlackWorld {
    /// Bob of the release team approves what ann asks for.
    pub async fn new(mode: Mode) -> Self {
        Self::with(mode, Setup::default()).await
    }

    pub async fn with(mode: Mode, setup: Setup) -> Self {
        crate::crypto();
        let clock = Clock::manual(START);
        let slack = FakeSlack::start(&clock).await;
        slack.echo();
        let platform = connected(mode, &slack).await;
        let approvers = Approvers { groups: vec!["slack:T1:S1".into()], ..Approvers::default() };
        let setup = Setup {
            platforms: Platforms { console: None, slack: Some(platform.clone()) },
            policy: Policy { approvers, ..setup.policy },
            script: format!("{DEPLOY}{}", setup.script),
            ..setup
        };
        let world = World::at(clock, setup).await;
        let process = Process::start(mode, &world, platform, &slack).await;
        Self { world, slack, mode, process }
    }

    /// Who asks.
    pub fn ann(&self) -> Person {
        self.slack.person("T1", "U1")
    }

    /// Who may approve.
    pub fn bob(&self) -> Person {
        self.slack.person("T1", "U2")
    }

    /// Who may not.
    pub fn eve(&self) -> Person {
        self.slack.person("T1", "U3")
    }

    /// The program is killed and started again. Cards, buttons and people's windows stay.
    pub async fn crash(&mut self) {
        self.process.kill().await;
        let platform = connected(self.mode, &self.slack).await;
        self.world.reconnect(Platforms { console: None, slack: Some(platform.clone()) });
        self.world.crash().await;
        self.process = Process::start(self.mode, &self.world, platform, &self.slack).await;
    }

    /// The program is killed; what runs from now on, until the next crash, is a process without Slack.
    pub async fn away(&mut self) {
        self.process.kill().await;
        self.world.disconnect();
        self.world.crash().await;
    }

    /// Waits until nothing is at work any more.
    pub async fn settle(&self) {
        loop {
            let before = self.slack.with(|s| s.calls.len());
            self.process.front.idle().await;
            self.world.runtime.settle().await.unwrap();
            self.process.front.idle().await;
            if self.slack.with(|s| s.calls.len()) == before {
                return;
            }
        }
    }

    /// Time goes by, and what is due is done.
    pub async fn advance(&self, ms: u64) {
        self.world.clock.advance_ms(ms);
        self.settle().await;
    }

    /// Ann asks for a deployment in #ops; the root of the thread, and the card.
    pub async fn asked(&self, version: &str) -> (String, Message) {
        let root = self.ann().mention("C1", &format!("deploy {version}")).await;
        let card = self.slack.posted("T1", "C1", "Approval needed: ship").await;
        self.settle().await;
        let card = self.slack.message("T1", "C1", &card.ts);
        assert_eq!(card.thread_ts.as_deref(), Some(root.as_str()));
        (root, card)
    }

    /// The card as it stands.
    pub fn card(&self, card: &Message) -> Message {
        self.slack.message("T1", &card.channel, &card.ts)
    }

    /// The name of a thread in #ops.
    pub fn thread(root: &str) -> String {
        format!("slack:T1:C1:{root}")
    }
}

/// The platform, as the settings of this mode make it.
async fn connected(mode: Mode, slack: &FakeSlack) -> Slack {
    let workspace = WorkspaceSettings {
        team: None,
        bot_token: "xoxb-test-T1".to_owned().into(),
        app_token: (mode == Mode::Socket).then(|| "xapp-test-A1".to_owned().into()),
        signing_secret: (mode == Mode::Http).then(|| "secret-of-A1".to_owned().into()),
    };
    let settings = SlackSettings {
        api_url: slack.api_url(),
        workspaces: vec![workspace],
        public_url: "https://twelve.example".to_owned(),
        max_file: 65_536,
        max_earlier: 50,
        pace: Pace {
            second: Duration::from_millis(5),
            patience: Duration::from_secs(20),
            attempt: Duration::from_secs(5),
        },
    };
    let platform = Slack::new(settings).unwrap();
    assert!(platform.connect().await, "{:?}", platform.problems());
    platform
}

impl Process {
    async fn start(mode: Mode, world: &World, platform: Slack, slack: &FakeSlack) -> Self {
        let settings = FrontSettings {
            agent: "tester".to_owned(),
            channels: Default::default(),
            threads: twelve::config::Threads::All,
            channel_threads: Default::default(),
            stop_reaction: "octagonal_sign".to_owned(),
            progress: true,
            command: "/agent".to_owned(),
            operators: Vec::new(),
            odd: None,
        };
        let front = Front::new(world.runtime.clone(), platform, settings);
        let stop = CancellationToken::new();
        let mut tasks = vec![tokio::spawn(run::run(front.clone(), stop.clone()))];
        match mode {
            Mode::Socket => {
                slack.deliver_by_socket();
                slack.until_sockets("A1", 2).await;
            }
            Mode::Http => {
                let http = Loaded::from_sources(&Sources::default()).unwrap().config.http;
                let listener = listen("127.0.0.1", 0).await.unwrap();
                slack.deliver_by_http(&format!("http://{}", listener.local_addr().unwrap()));
                let limits = Limits::of(&http, Duration::from_secs(10));
                let settings = HttpSettings {
                    http,
                    app_name: "twelve".into(),
                    secret: [0; 32],
                    local_token: None,
                    demo: None,
                    stop: stop.clone(),
                    triggers: Arc::default(),
                    slack: Some(front.clone()),
                };
                let router = Service::new(world.runtime.clone(), settings).router();
                let serving = serve(listener, router, limits, stop.clone());
                tasks.push(tokio::spawn(async move {
                    serving.await;
                }));
            }
        }
        Self { front, stop, tasks }
    }

    /// Without a word.
    async fn kill(&mut self) {
        for task in self.tasks.drain(..) {
            task.abort();
            // It was cancelled, or had ended.
            let _ = task.await;
        }
        self.stop.cancel();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop.cancel();
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

//! The console in a real browser: headless Chromium, driven over WebDriver.
//!
//! The service runs in the test's own process, so a story waits for the runtime or for the page itself, and
//! never for a time. With TWELVE_SCREENSHOTS set to a directory, what a person would see is put there.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use data_encoding::BASE64;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};
use twelve::agent::{Answer, Ballot, Input, Principal, ShortId};
use twelve::app::Blueprint;
use twelve::config::Loaded;
use twelve::config::layers::Sources;
use twelve::demo_service;
use twelve::platform::Platforms;
use twelve::runtime::Runtime;

use crate::site::{Plan, Site};

const INSTALL: &str =
    "the stories in a browser need Chromium and its driver: `apt-get install chromium chromium-driver`";

/// How long a page may take to show what it should: far more than it needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

// ---- the browser ----

/// One browser with a fresh profile.
struct Browser {
    client: reqwest::Client,
    session: String,
    base: String,
    _driver: Child,
    _profile: TempDir,
    _turn: SemaphorePermit<'static>,
}

/// Browsers at one time: each is a dozen processes.
static TURNS: Semaphore = Semaphore::const_new(2);

impl Browser {
    async fn start(site: &Site) -> Self {
        Self::start_with(site, TURNS.acquire().await.unwrap()).await
    }

    async fn start_with(site: &Site, turn: SemaphorePermit<'static>) -> Self {
        crate::crypto();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("chromedriver cannot be started ({e}); {INSTALL}"));
        let mut said = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = loop {
            let line = said.next_line().await.unwrap().unwrap_or_else(|| panic!("chromedriver ended; {INSTALL}"));
            if let Some(port) = line.split("successfully on port ").nth(1) {
                break port.trim_end_matches('.').to_owned();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });
        let profile = tempfile::tempdir().unwrap();
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            "--window-size=1100,1000",
            &format!("--user-data-dir={}", profile.path().display()),
        ];
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": args},
            "goog:loggingPrefs": {"browser": "ALL"},
            "timeouts": {"script": 3_000, "pageLoad": PATIENCE.as_millis() as u64},
        }}});
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let driver_at = format!("http://127.0.0.1:{port}");
        let answer = client.post(format!("{driver_at}/session")).json(&wanted).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let id = answer["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no browser: {answer}; {INSTALL}"));
        Self {
            client,
            session: format!("{driver_at}/session/{id}"),
            base: format!("http://{}", site.address),
            _driver: driver,
            _profile: profile,
            _turn: turn,
        }
    }

    /// Two browsers, of two people: one asking for both places at once, so that nobody waits for the other.
    async fn pair(site: &Site, one: &str, two: &str) -> (Self, Self) {
        let mut places = TURNS.acquire_many(2).await.unwrap();
        let second = places.split(1).unwrap();
        tokio::join!(Self::of_with(site, one, places), Self::of_with(site, two, second))
    }

    /// A browser of somebody who came in by a link.
    async fn of(site: &Site, person: &str) -> Self {
        Self::of_with(site, person, TURNS.acquire().await.unwrap()).await
    }

    async fn of_with(site: &Site, person: &str, turn: SemaphorePermit<'static>) -> Self {
        let browser = Self::start_with(site, turn).await;
        browser.open(&site.link(person)).await;
        browser.click("main button.primary").await;
        browser.wait_for("What should be done?").await;
        browser
    }

    async fn ask(&self, path: &str, body: Value) -> Result<Value, String> {
        let answer = self.client.post(format!("{}{path}", self.session)).json(&body).send().await.unwrap();
        let ok = answer.status().is_success();
        let mut answer: Value = answer.json().await.unwrap();
        if ok { Ok(answer["value"].take()) } else { Err(answer["value"]["message"].to_string()) }
    }

    async fn open(&self, path: &str) {
        self.ask("/url", json!({"url": format!("{}{path}", self.base)})).await.unwrap();
    }

    async fn path(&self) -> String {
        let url = self.run("return location.pathname", json!([])).await;
        url.as_str().unwrap().to_owned()
    }

    async fn run(&self, script: &str, args: Value) -> Value {
        self.ask("/execute/sync", json!({"script": script, "args": args})).await.unwrap()
    }

    async fn find(&self, using: &str, value: &str) -> String {
        let found = self.ask("/element", json!({"using": using, "value": value})).await;
        let found = match found {
            Ok(found) => found,
            Err(why) => panic!("{value}: {why}\n{}", self.state().await),
        };
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
    }

    /// Presses the first element that matches; a page that it leads to is there when this returns.
    async fn click(&self, css: &str) {
        let element = self.find("css selector", css).await;
        if let Err(why) = self.ask(&format!("/element/{element}/click"), json!({})).await {
            panic!("{css}: {why}\n{}", self.state().await);
        }
    }

    /// Presses what leads to another page, and waits until this one is gone.
    async fn leave_by(&self, css: &str) {
        let element = self.find("css selector", css).await;
        self.ask(&format!("/element/{element}/click"), json!({})).await.unwrap();
        let started = tokio::time::Instant::now();
        while self
            .client
            .get(format!("{}/element/{element}/name", self.session))
            .send()
            .await
            .unwrap()
            .status()
            .is_success()
        {
            assert!(started.elapsed() < PATIENCE, "{css} leads nowhere\n{}", self.state().await);
        }
    }

    async fn fill(&self, css: &str, text: &str) {
        let element = self.find("css selector", css).await;
        self.ask(&format!("/element/{element}/clear"), json!({})).await.unwrap();
        self.ask(&format!("/element/{element}/value"), json!({"text": text})).await.unwrap();
    }

    /// Presses keys where the focus is.
    async fn press(&self, keys: &str) {
        let actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})])
            .collect();
        self.ask("/actions", json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]})).await.unwrap();
    }

    async fn text(&self) -> String {
        self.run("return document.body.innerText", json!([])).await.as_str().unwrap_or("").to_owned()
    }

    /// Waits until the page shows this, without asking for it again: the page has to say it by itself.
    async fn wait_for(&self, text: &str) {
        const SCRIPT: &str = "
            const [text, done] = arguments;
            const there = () => document.body && document.body.innerText.includes(text);
            if (there()) return done(true);
            const watch = new MutationObserver(() => there() && (watch.disconnect(), done(true)));
            watch.observe(document.documentElement, { subtree: true, childList: true, characterData: true, attributes: true });";
        let started = tokio::time::Instant::now();
        loop {
            match self.ask("/execute/async", json!({"script": SCRIPT, "args": [text]})).await {
                Ok(_) => return,
                // It went to another page meanwhile, which the driver does not always see.
                Err(why) if ["unload", "navigat", "detached", "timeout"].iter().any(|word| why.contains(word)) => {}
                Err(why) => panic!("{text:?} does not appear: {why}\n{}", self.state().await),
            }
            assert!(started.elapsed() < PATIENCE, "{text:?} does not appear\n{}", self.state().await);
        }
    }

    async fn devtools(&self, command: &str, params: Value) {
        self.ask("/goog/cdp/execute", json!({"cmd": command, "params": params})).await.unwrap();
    }

    async fn dark(&self) {
        let features = json!([{"name": "prefers-color-scheme", "value": "dark"}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    async fn phone(&self) {
        let phone = json!({"width": 360, "height": 780, "deviceScaleFactor": 2, "mobile": true});
        self.devtools("Emulation.setDeviceMetricsOverride", phone).await;
    }

    /// How far the page can be scrolled to the side, in pixels.
    async fn overhang(&self) -> i64 {
        let script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        self.run(script, json!([])).await.as_i64().unwrap()
    }

    /// The whole page as a picture, for people to look at.
    async fn picture(&self, name: &str) {
        let Some(dir) = std::env::var_os("TWELVE_SCREENSHOTS").filter(|dir| !dir.is_empty()) else { return };
        let size = self
            .run(
                "scrollTo(0, 0); return [innerWidth, Math.max(document.documentElement.scrollHeight, innerHeight)]",
                json!([]),
            )
            .await;
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1});
        let params = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let shot = self.ask("/goog/cdp/execute", json!({"cmd": "Page.captureScreenshot", "params": params})).await;
        let png = BASE64.decode(shot.unwrap()["data"].as_str().unwrap().as_bytes()).unwrap();
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(Path::new(&dir).join(format!("{name}.png")), png).unwrap();
    }

    /// Everything that helps to see why a story went wrong.
    async fn state(&self) -> String {
        let script = "return [location.href, document.readyState, document.hidden, document.body && document.body.className, document.activeElement && document.activeElement.outerHTML.slice(0, 200)]";
        let state = self.ask("/execute/sync", json!({"script": script, "args": []})).await;
        let log = self.ask("/se/log", json!({"type": "browser"})).await;
        format!("{state:?}\n{log:?}\n{}", self.text().await)
    }
}

/// The driver ends the browser, also of a story that broke off: killed, it would leave it behind.
impl Drop for Browser {
    fn drop(&mut self) {
        use std::io::{Read as _, Write as _};
        let Some((address, path)) = self.session.trim_start_matches("http://").split_once('/') else { return };
        let Ok(mut stream) = std::net::TcpStream::connect(address) else { return };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
        let _ = write!(stream, "DELETE /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        let _ = stream.read(&mut [0; 64]);
    }
}

const ENTER: &str = "\u{e007}";

// ---- what it looks at ----

/// The real tools over the demo's services, and the deployment agent with its script.
struct Shop {
    dir: TempDir,
    service: SocketAddr,
}

impl Shop {
    async fn set() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("service");
        for (name, environment) in
            [("api", "staging"), ("api", "production"), ("web", "staging"), ("web", "production")]
        {
            demo_service::seed(&place, name, environment, "v1.2.2").unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = listener.local_addr().unwrap();
        tokio::spawn(demo_service::serve(place, listener));
        Self { dir, service }
    }

    async fn runtime(&self) -> Runtime {
        crate::crypto();
        let (at, data) = (self.service, self.dir.path().join("data"));
        let mut text = format!(
            "[app]\ndata_dir = {data:?}\n[store]\ndurability = \"process\"\n[model]\nprovider = \"scripted\"\n"
        );
        for service in ["api", "web"] {
            for environment in ["staging", "production"] {
                text += &format!(
                    "[tools.services.{service}.environments.{environment}]\nstatus = \"http://{at}/{service}/{environment}/health\"\nversion = {{ url = \"http://{at}/{service}/{environment}/version\", pointer = \"/version\" }}\n"
                );
            }
            text += &format!(
                "[tools.services.{service}.deploy]\nversions = 'v\\d+\\.\\d+\\.\\d+'\nsettle = \"10s\"\nhttp = {{ url = \"http://{at}/{{service}}/{{environment}}/deploy\", body = {{ version = \"{{version}}\" }} }}\n"
            );
        }
        let sources = Sources { file: Some(("twelve.toml", &text)), ..Sources::default() };
        let blueprint = Blueprint::new(Loaded::from_sources(&sources).unwrap()).unwrap();
        blueprint.open(Platforms::default()).await.unwrap()
    }

    /// What was really deployed.
    fn ledger(&self) -> Vec<String> {
        let lines = demo_service::ledger(&self.dir.path().join("service")).unwrap();
        lines.into_iter().map(|line| format!("{} {} {}", line.service, line.environment, line.version)).collect()
    }
}

async fn demo(shop: &Shop) -> Site {
    let mut plan = Plan { demo: Some(Principal::human("console:you")), ..Plan::default() };
    plan.http.trust_loopback = true;
    Site::start(shop.runtime().await, plan).await
}

/// Asks for a deployment by the form of the first page.
async fn ask(browser: &Browser, message: &str) {
    browser.open("/").await;
    browser.fill("#message", message).await;
    browser.run("document.getElementById('agent').value = 'deployment'", json!([])).await;
    browser.click(".start button.primary").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_first_page_to_an_approval_to_done_by_keyboard() {
    let shop = Shop::set().await;
    let site = demo(&shop).await;
    let browser = Browser::start(&site).await;
    browser.open("/").await;
    browser.wait_for("Nothing yet.").await;
    browser.picture("first").await;
    browser.click(".empty a").await;
    browser.wait_for("Nothing yet.").await;
    assert_eq!(
        browser.run("return document.getElementById('message').value", json!([])).await,
        "deploy api v1.2.3 to staging"
    );
    ask(&browser, "deploy api v1.2.3 to staging").await;
    browser.run("window.stayed = true", json!([])).await;
    browser.wait_for("Approval needed").await;
    browser.wait_for("waits for a decision").await;
    assert!(browser.text().await.contains("now v1.2.2 -> v1.2.3"), "{}", browser.text().await);
    browser.picture("pending").await;
    browser.press("?").await;
    browser.wait_for("next and previous request").await;
    browser.press(ENTER).await;
    assert_eq!(shop.ledger(), Vec::<String>::new());
    browser.press("a").await;
    assert_eq!(browser.run("return document.activeElement.textContent", json!([])).await, "Approve");
    assert_eq!(shop.ledger(), Vec::<String>::new(), "a key alone decides nothing");
    browser.press(ENTER).await;
    browser.wait_for("Your approval is recorded.").await;
    browser.wait_for("Deployed:").await;
    browser.wait_for("done").await;
    browser.picture("approved").await;
    assert_eq!(shop.ledger(), ["api staging v1.2.3"]);
    browser.open("/").await;
    browser.wait_for("Your conversations").await;
    browser.picture("conversations").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denial_with_its_reason_and_a_change_before_the_approval() {
    let shop = Shop::set().await;
    let site = demo(&shop).await;
    let browser = Browser::start(&site).await;
    ask(&browser, "deploy api v1.2.3 to production").await;
    browser.wait_for("Approval needed").await;
    browser.press("d").await;
    browser.press("not on a Friday").await;
    browser.picture("denying").await;
    browser.click(".act[open] form button").await;
    browser.wait_for("denied by you: not on a Friday").await;
    browser.wait_for("Nothing was deployed:").await;

    ask(&browser, "deploy web v1.3.0 to staging").await;
    browser.wait_for("Approval needed").await;
    browser.press("e").await;
    let version = ".act[open] input[name='arg.version']";
    browser.fill(version, "nonsense").await;
    browser.picture("changing").await;
    browser.click(".act[open] form.edit > button").await;
    browser.wait_for("These arguments can't be used").await;
    assert_eq!(
        browser.run("return document.querySelector('[name=\"arg.version\"]').value", json!([])).await,
        "nonsense"
    );
    browser.picture("mending").await;
    browser.fill("[name='arg.version']", "v1.2.9").await;
    browser.click("form.edit > button").await;
    browser.wait_for("Revision 2").await;
    browser.wait_for("now v1.2.2 -> v1.2.9").await;
    browser.picture("changed").await;
    browser.click("button[data-act=approve]").await;
    browser.wait_for("Deployed:").await;
    browser.wait_for("Approved with changes").await;
    assert_eq!(shop.ledger(), ["web staging v1.2.9"]);
}

/// A site where `bob` and `cid` see every conversation.
fn both_see() -> Plan {
    let mut plan = Plan::default();
    plan.http.admins = vec!["web:bob".to_owned(), "web:cid".to_owned()];
    plan
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_card_that_changes_under_the_pointer_cannot_be_pressed_for_a_moment() {
    let shop = Shop::set().await;
    let site = demo(&shop).await;
    let browser = Browser::start(&site).await;
    ask(&browser, "deploy web v1.3.0 to staging").await;
    browser.wait_for("Approval needed").await;
    let short: ShortId = browser.path().await.trim_start_matches("/chat/").parse().unwrap();
    // The moment ends when the test says so.
    let patch = "window.held = []; const later = window.setTimeout; \
                 window.setTimeout = (f, ms) => ms === 1000 ? held.push(f) : later(f, ms)";
    browser.run(patch, json!([])).await;
    let thread = site.runtime.thread(short).await.unwrap();
    let open = thread.pending_approvals().next().unwrap();
    let args = json!({"service": "web", "environment": "staging", "version": "v1.2.9"});
    let tool = thread.calls[&open.call].gated.tool.clone();
    let edit = Input::Vote {
        approval: open.id,
        digest: open.digest.to_string(),
        by: Principal::human("console:you"),
        groups: Vec::new(),
        vote: Ballot::Edit { args: Box::new(site.runtime.propose(&tool, &args.to_string())) },
        source: None,
    };
    let answer = site.runtime.deliver(short, edit).await.unwrap().answer;
    assert_eq!(answer, Answer::Accepted);
    browser.wait_for("A request has changed; look at it again").await;
    let disabled = "return document.querySelector('button[data-act=approve]').disabled";
    assert_eq!(browser.run(disabled, json!([])).await, true);
    browser.run("held.forEach((f) => f())", json!([])).await;
    assert_eq!(browser.run(disabled, json!([])).await, false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_browsers_that_decide_at_once_one_wins_and_the_other_gets_a_sentence() {
    let shop = Shop::set().await;
    let site = Site::start(shop.runtime().await, both_see()).await;
    let mut ann = site.person("ann").await;
    let page = ann.get("/").await;
    let path = ann
        .send(&page, "/chat", &[("agent", "deployment"), ("message", "deploy api v1.2.3 to staging")])
        .await
        .location();
    site.runtime.settle().await.unwrap();
    let (bob, cid) = Browser::pair(&site, "bob", "cid").await;
    tokio::join!(bob.open(&path), cid.open(&path));
    tokio::join!(bob.wait_for("Approval needed"), cid.wait_for("Approval needed"));
    // Neither may hear of the other before it has pressed.
    let deaf = "document.body.removeAttribute('data-live'); document.dispatchEvent(new Event('visibilitychange')); window.stop();";
    tokio::join!(bob.run(deaf, json!([])), cid.run(deaf, json!([])));
    tokio::join!(bob.click("button[data-act=approve]"), cid.click("button[data-act=approve]"));
    site.runtime.settle().await.unwrap();
    tokio::join!(bob.wait_for("Approved"), cid.wait_for("Approved"));
    let note = "const note = document.querySelector('.note'); return note ? note.textContent : ''";
    let mut notes =
        [bob.run(note, json!([])).await, cid.run(note, json!([])).await].map(|n| n.as_str().unwrap().to_owned());
    notes.sort();
    assert!(notes[0].starts_with("Already approved by "), "{notes:?}");
    assert_eq!(notes[1], "Your approval is recorded.");
    assert_eq!(shop.ledger(), ["api staging v1.2.3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_outlives_a_restart_and_what_is_typed_outlives_what_happens() {
    let shop = Shop::set().await;
    let site = Site::start(shop.runtime().await, both_see()).await;
    let mut ann = site.person("ann").await;
    let page = ann.get("/").await;
    let path = ann
        .send(&page, "/chat", &[("agent", "deployment"), ("message", "deploy api v1.2.3 to staging")])
        .await
        .location();
    site.runtime.settle().await.unwrap();
    let bob = Browser::of(&site, "bob").await;
    bob.open(&path).await;
    bob.wait_for("Approval needed").await;
    bob.run("window.stayed = true", json!([])).await;
    bob.fill("#message", "half a sentence").await;

    let port = site.address.port();
    let runtime = site.runtime.clone();
    site.stop().await;
    runtime.drain(Duration::from_secs(5)).await.unwrap();
    let site = Site::start(shop.runtime().await, Plan { port, ..both_see() }).await;

    // The page finds the new process by itself: what happens there is seen here.
    let mut cid = site.person("cid").await;
    let page = cid.get(&path).await;
    cid.send(&page, &format!("{path}/say"), &[("message", "is web healthy in staging?")]).await;
    bob.wait_for("is web healthy in staging?").await;
    assert_eq!(bob.run("return window.stayed", json!([])).await, true, "the page was not loaded again");
    assert_eq!(bob.run("return document.getElementById('message').value", json!([])).await, "half a sentence");
    bob.wait_for("Approval needed").await;
    bob.click("button[data-act=approve]").await;
    bob.wait_for("Your approval is recorded.").await;
    site.runtime.settle().await.unwrap();
    assert_eq!(shop.ledger(), ["api staging v1.2.3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inbox_follows_what_happens_and_is_walked_by_keys() {
    let shop = Shop::set().await;
    let site = Site::start(shop.runtime().await, Plan::default()).await;
    let mut ann = site.person("ann").await;
    let mut ask = async |message: &str| {
        let page = ann.get("/").await;
        ann.send(&page, "/chat", &[("agent", "deployment"), ("message", message)]).await.location()
    };
    let bob = Browser::of(&site, "bob").await;
    bob.open("/inbox").await;
    bob.wait_for("Nothing waits for a decision.").await;
    bob.picture("inbox-empty").await;
    bob.run("window.stayed = true", json!([])).await;
    ask("deploy api v1.2.3 to staging").await;
    bob.wait_for("Deploy api v1.2.3 to staging").await;
    ask("deploy web v2.0.0 to production").await;
    bob.wait_for("Deploy web v2.0.0 to production").await;
    assert_eq!(bob.run("return [window.stayed, document.title]", json!([])).await, json!([true, "(2) Inbox · Twelve"]));
    bob.picture("inbox").await;
    bob.press("jj").await;
    let here = bob.run("return document.activeElement.querySelector('a').textContent", json!([])).await;
    assert_eq!(here, "Deploy web v2.0.0 to production");
    bob.press("k").await;
    bob.press("a").await;
    bob.wait_for("Why it asks").await;
    assert_eq!(bob.run("return document.activeElement.textContent", json!([])).await, "Approve");
    bob.press(ENTER).await;
    bob.wait_for("Your approval is recorded.").await;
    bob.wait_for("succeeded:").await;
    assert_eq!(shop.ledger(), ["api staging v1.2.3"]);
    bob.picture("inbox-detail").await;
    bob.open("/inbox?tab=all").await;
    bob.wait_for("succeeded").await;
    bob.picture("inbox-all").await;
    bob.dark().await;
    bob.picture("inbox-dark").await;
    bob.phone().await;
    assert_eq!(bob.overhang().await, 0);
    bob.picture("inbox-phone").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_without_javascript() {
    let shop = Shop::set().await;
    let site = demo(&shop).await;
    let browser = Browser::start(&site).await;
    browser.devtools("Emulation.setScriptExecutionDisabled", json!({"value": true})).await;
    browser.open("/").await;
    assert_eq!(browser.run("return document.body.classList.contains('scripted')", json!([])).await, false);
    browser.fill("#message", "deploy api v1.2.3 to staging").await;
    browser.click("#agent option[value=deployment]").await;
    browser.leave_by(".start button.primary").await;
    site.runtime.settle().await.unwrap();
    browser.leave_by("a.refresh").await;
    assert!(browser.text().await.contains("Approval needed"), "{}", browser.text().await);
    browser.click("details[data-act=edit] > summary").await;
    browser.fill(".act[open] input[name='arg.version']", "v1.2.4").await;
    browser.leave_by(".act[open] form.edit > button").await;
    site.runtime.settle().await.unwrap();
    browser.leave_by("a.refresh").await;
    assert!(browser.text().await.contains("now v1.2.2 -> v1.2.4"), "{}", browser.text().await);
    browser.leave_by("button[data-act=approve]").await;
    assert!(browser.text().await.contains("Your approval is recorded."), "{}", browser.text().await);
    site.runtime.settle().await.unwrap();
    browser.leave_by("a.refresh").await;
    let text = browser.text().await;
    assert!(text.contains("Deployed:") && text.contains("Approved with changes"), "{text}");
    assert_eq!(shop.ledger(), ["api staging v1.2.4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_shows_every_page_without_scrolling_to_the_side_and_at_night_it_is_dark() {
    let shop = Shop::set().await;
    let site = demo(&shop).await;
    let browser = Browser::start(&site).await;
    browser.phone().await;
    ask(&browser, "deploy api v1.2.3 to production").await;
    browser.wait_for("Approval needed").await;
    let chat = browser.path().await;
    assert_eq!(browser.overhang().await, 0, "the conversation");
    browser.picture("phone").await;
    browser.run("document.querySelectorAll('details').forEach((d) => (d.open = true))", json!([])).await;
    assert_eq!(browser.overhang().await, 0, "everything unfolded");
    let approval =
        browser.run("return document.querySelector('.card').id", json!([])).await.as_str().unwrap().to_owned();
    for path in ["/".to_owned(), format!("/inbox/{approval}"), format!("/inbox/{approval}/edit"), "/chat/x".to_owned()]
    {
        browser.open(&path).await;
        assert_eq!(browser.overhang().await, 0, "{path}");
    }
    browser.open(&format!("/inbox/{approval}")).await;
    browser.picture("phone-detail").await;
    browser.devtools("Emulation.clearDeviceMetricsOverride", json!({})).await;
    browser.picture("detail").await;
    let ground = "return getComputedStyle(document.body).backgroundColor";
    let day = browser.run(ground, json!([])).await;
    browser.dark().await;
    let night = browser.run(ground, json!([])).await;
    assert_ne!(day, night);
    browser.open(&chat).await;
    browser.wait_for("Approval needed").await;
    browser.picture("dark").await;
    browser.open("/").await;
    browser.picture("dark-conversations").await;
}

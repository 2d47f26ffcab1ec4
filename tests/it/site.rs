//! The service on a port of loopback, and a visitor that does what a browser without a script does: keeps
//! cookies, sends the forms of the page it is on, follows where it is led.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use regex::Regex;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, SET_COOKIE};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use twelve::agent::{Principal, Timestamp};
use twelve::config::layers::Sources;
use twelve::config::{HttpConfig, Loaded};
use twelve::http::serve::{Limits, listen, serve};
use twelve::http::{Service, Settings, session};
use twelve::runtime::Runtime;

/// Signs what the service under test signs.
pub const SECRET: [u8; 32] = [12; 32];

/// How a service is set up.
pub struct Plan {
    pub http: HttpConfig,
    pub demo: Option<Principal>,
    /// 0: any free port.
    pub port: u16,
    pub slack: Option<twelve::chat::slack::Front>,
}

impl Default for Plan {
    fn default() -> Self {
        let http = Loaded::from_sources(&Sources::default()).unwrap().config.http;
        Self { http, demo: None, port: 0, slack: None }
    }
}

pub struct Site {
    pub address: SocketAddr,
    pub runtime: Runtime,
    stop: CancellationToken,
    served: JoinHandle<usize>,
}

impl Site {
    pub async fn start(runtime: Runtime, mut plan: Plan) -> Self {
        let listener = listen("127.0.0.1", plan.port).await.unwrap();
        let address = listener.local_addr().unwrap();
        if plan.http.public_url.is_empty() {
            plan.http.public_url = format!("http://{address}");
        }
        let limits = Limits::of(&plan.http, Duration::from_secs(10));
        let stop = CancellationToken::new();
        let settings = Settings {
            http: plan.http,
            app_name: "Twelve".to_owned(),
            secret: SECRET,
            local_token: None,
            demo: plan.demo,
            stop: stop.clone(),
            triggers: Default::default(),
            slack: plan.slack,
        };
        let router = Service::new(runtime.clone(), settings).router();
        let served = tokio::spawn(serve(listener, router, limits, stop.clone()));
        Self { address, runtime, stop, served }
    }

    /// Stops listening; gives the number of connections that had to be cut off.
    pub async fn stop(self) -> usize {
        self.stop.cancel();
        self.served.await.unwrap()
    }

    pub fn now(&self) -> Timestamp {
        self.runtime.parts().clock.now()
    }

    /// The path of a login link, made now.
    pub fn link(&self, person: &str) -> String {
        let token = session::login_token(
            &SECRET,
            &Principal::human(if person.contains(':') { person.to_owned() } else { format!("web:{person}") }),
            self.now(),
        )
        .unwrap();
        format!("/login?token={token}")
    }

    pub fn visitor(&self) -> Visitor {
        crate::crypto();
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Visitor {
            client,
            base: format!("http://{}", self.address),
            cookies: BTreeMap::new(),
            headers: HeaderMap::new(),
        }
    }

    /// A visitor who came in by a link.
    pub async fn person(&self, name: &str) -> Visitor {
        let mut visitor = self.visitor();
        let page = visitor.get(&self.link(name)).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        let answer = visitor.send(&page, "/login", &[]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        visitor
    }
}

#[derive(Clone)]
pub struct Visitor {
    client: reqwest::Client,
    base: String,
    pub cookies: BTreeMap<String, String>,
    /// Sent with every request.
    pub headers: HeaderMap,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Page {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Page {
    /// Where it leads.
    pub fn location(&self) -> String {
        self.headers.get("location").map_or_else(String::new, |to| to.to_str().unwrap().to_owned())
    }

    /// The hidden fields of the form that goes to `action`.
    pub fn form(&self, action: &str) -> Vec<(String, String)> {
        let start = self
            .text
            .find(&format!("action=\"{action}\""))
            .unwrap_or_else(|| panic!("no form to {action} in {}", self.text));
        let form = self.text[start..].split("</form>").next().unwrap();
        let hidden = Regex::new(r#"<input type="hidden" name="([^"]*)" value="([^"]*)">"#).unwrap();
        hidden.captures_iter(form).map(|c| (c[1].to_owned(), c[2].to_owned())).collect()
    }

    pub fn has_form(&self, action: &str) -> bool {
        self.text.contains(&format!("action=\"{action}\""))
    }

    /// The line above the page.
    pub fn note(&self) -> String {
        let note = Regex::new(r#"<p class="note (good|bad)"[^>]*>([^<]*)</p>"#).unwrap();
        note.captures(&self.text).map_or_else(String::new, |c| format!("{}: {}", &c[1], unescape(&c[2])))
    }
}

/// What a browser shows for escaped text.
pub fn unescape(text: &str) -> String {
    [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")]
        .iter()
        .fold(text.to_owned(), |text, (code, c)| text.replace(code, c))
}

impl Visitor {
    pub async fn get(&mut self, path: &str) -> Page {
        let request = self.client.get(format!("{}{path}", self.base));
        self.run(request).await
    }

    pub async fn post(&mut self, path: &str, fields: &[(String, String)]) -> Page {
        let body = fields.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect::<Vec<_>>().join("&");
        let request = self.client.post(format!("{}{path}", self.base));
        self.run(request.header("content-type", "application/x-www-form-urlencoded").body(body)).await
    }

    /// Sends the form of this page that goes to `action`, with its hidden fields and these.
    pub async fn send(&mut self, page: &Page, action: &str, fields: &[(&str, &str)]) -> Page {
        let mut all = page.form(action);
        all.extend(fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        self.post(action, &all).await
    }

    /// The same, and the page that it leads to.
    pub async fn submit(&mut self, page: &Page, action: &str, fields: &[(&str, &str)]) -> Page {
        let answer = self.send(page, action, fields).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
        self.get(answer.location().split('#').next().unwrap()).await
    }

    /// The beginning of a stream, up to the first text that `until` is part of.
    pub async fn stream(&mut self, path: &str) -> reqwest::Response {
        self.with_headers(self.client.get(format!("{}{path}", self.base))).send().await.unwrap()
    }

    fn with_headers(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let cookies = self.cookies.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("; ");
        let request = if cookies.is_empty() { request } else { request.header("cookie", cookies) };
        request.headers(self.headers.clone())
    }

    async fn run(&mut self, request: reqwest::RequestBuilder) -> Page {
        let answer = self.with_headers(request).send().await.unwrap();
        for set in answer.headers().get_all(SET_COOKIE) {
            let text = set.to_str().unwrap();
            let (name, value) = text.split(';').next().unwrap().split_once('=').unwrap();
            if text.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Page { status: answer.status(), headers: answer.headers().clone(), text: answer.text().await.unwrap() }
    }
}

fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") })
        .collect()
}

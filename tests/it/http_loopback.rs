//! A connection from this machine is no identity: the real program behind a real nginx, whose bare `proxy_pass`
//! rewrites the Host and adds nothing, so that every request from outside looks like one from here.
//!
//! Needs the Debian package `nginx-light` (`tests/run` installs it; `TWELVE_NGINX` names another binary).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::cli_serve::{Running, command};

/// How long nginx may take to listen: far more than it needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// An nginx of this test's own, with two ways to one service.
struct Nginx {
    child: Child,
    /// `proxy_pass` and nothing else.
    bare: SocketAddr,
    /// With the headers that guides tell people to add.
    telling: SocketAddr,
    _dir: TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> String {
    if let Ok(named) = std::env::var("TWELVE_NGINX") {
        return named;
    }
    // Users that are not root often have no /usr/sbin on their path.
    let found = ["nginx", "/usr/sbin/nginx"].into_iter().find(|name| {
        Command::new(name).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    });
    found
        .expect("nginx is not installed: `apt-get install nginx-light`, or run tests/run, or set TWELVE_NGINX")
        .to_owned()
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Nginx {
    fn before(service: SocketAddr) -> Self {
        // A port that was free may be taken by another test before nginx has it.
        (0..5).find_map(|_| Self::try_before(service)).expect("nginx does not start")
    }

    fn try_before(service: SocketAddr) -> Option<Self> {
        let dir = TempDir::new().unwrap();
        let (bare, telling) = (free(), free());
        let path = dir.path().display();
        let temporary =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path {path}/{kind};"));
        let config = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log; events {{ worker_connections 64; }}
             http {{
                 access_log off; {}
                 server {{ listen {bare}; location / {{ proxy_pass http://{service}; }} }}
                 server {{ listen {telling}; location / {{
                     proxy_pass http://{service};
                     proxy_set_header X-Real-IP $remote_addr;
                     proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                     proxy_set_header X-Forwarded-Proto $scheme;
                 }} }}
             }}",
            temporary.join(" ")
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let mut start = Command::new(binary());
        start.arg("-p").arg(dir.path()).arg("-c").arg(&file).arg("-e").arg(dir.path().join("error.log"));
        let child = start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut nginx = Self { child, bare, telling, _dir: dir };
        let deadline = Instant::now() + PATIENCE;
        while [bare, telling].iter().any(|at| TcpStream::connect(at).is_err()) {
            if nginx.child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "nginx does not listen");
            std::thread::yield_now();
        }
        Some(nginx)
    }
}

/// The status of an answer and what it says.
pub fn ask(at: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head += &format!("Host: {at}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    write!(stream, "{head}\r\n{body}").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    (answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer:?}")).parse().unwrap(), answer)
}

fn local_token(dir: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_twelve"))
        .args(["token", "local"])
        .env_clear()
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// One kind of route, and what it answers to whom: nobody known, a program with the local token.
struct Route {
    method: &'static str,
    path: &'static str,
    body: &'static str,
    unknown: u16,
    local: u16,
}

const fn route(method: &'static str, path: &'static str, body: &'static str, unknown: u16, local: u16) -> Route {
    Route { method, path, body, unknown, local }
}

const START: &str = r#"{"message":"hello","agent_type":"assistant"}"#;
const DECIDE: &str = r#"{"decision":"approve","revision":1}"#;

/// Every route of the API, the console's doors, and what is open to everybody.
const ROUTES: [Route; 25] = [
    route("GET", "/healthz", "", 200, 200),
    route("GET", "/readyz", "", 200, 200),
    route("GET", "/readyz/http", "", 200, 200),
    route("GET", "/docs", "", 200, 200),
    route("GET", "/openapi.json", "", 200, 200),
    route("GET", "/metrics", "", 401, 200),
    route("POST", "/agents/start", START, 401, 202),
    route("GET", "/agents", "", 401, 200),
    route("GET", "/agents/aaaaaaaaaaaaaaaa/status", "", 401, 404),
    route("GET", "/agents/aaaaaaaaaaaaaaaa/history", "", 401, 404),
    route("POST", "/agents/aaaaaaaaaaaaaaaa/resume", r#"{"human_response":"x"}"#, 401, 404),
    route("POST", "/agents/aaaaaaaaaaaaaaaa/pause", "{}", 401, 404),
    route("POST", "/agents/aaaaaaaaaaaaaaaa/stop", "{}", 401, 404),
    route("POST", "/agents/aaaaaaaaaaaaaaaa/cancel", "{}", 401, 404),
    route("DELETE", "/agents/aaaaaaaaaaaaaaaa", "", 401, 403),
    route("GET", "/threads/aaaaaaaaaaaaaaaa/events", "", 401, 404),
    route("GET", "/approvals", "", 401, 200),
    route("GET", "/approvals/apr_aaaaaaaaaaaaaaaa_1", "", 401, 404),
    route("POST", "/approvals/apr_aaaaaaaaaaaaaaaa_1/decision", DECIDE, 401, 403),
    // The console knows people alone: a token is not one.
    route("GET", "/", "", 401, 401),
    route("GET", "/inbox", "", 401, 401),
    route("GET", "/inbox/live", "", 401, 401),
    route("POST", "/chat", "", 401, 401),
    route("POST", "/inbox/apr_aaaaaaaaaaaaaaaa_1/approve", "", 401, 401),
    // Signed, whoever brings it.
    route("POST", "/webhooks/trigger", "{}", 404, 404),
];

/// What the table says of one way in.
#[track_caller]
fn expect(way: &str, at: SocketAddr, headers: &[(&str, &str)], status: impl Fn(&Route) -> u16) {
    for route in &ROUTES {
        let mut all = headers.to_vec();
        if route.body.starts_with('{') {
            all.push(("Content-Type", "application/json"));
        }
        let (found, answer) = ask(at, route.method, route.path, &all, route.body);
        assert_eq!(found, status(route), "{way}: {} {}: {answer}", route.method, route.path);
        if found == 401 && answer.contains("problem+json") {
            assert!(answer.contains("-H \\\"Authorization: Bearer $(twelve token local)\\\""), "{answer}");
        }
    }
}

#[test]
fn a_caller_counts_by_what_they_bring_and_never_by_where_the_connection_comes_from() {
    let dir = TempDir::new().unwrap();
    let service = Running::of(command(&dir, "[http]\nport = 0\nrequests_per_minute = 100000\n"));
    let nginx = Nginx::before(service.address);
    let bearer = format!("Bearer {}", local_token(dir.path()));
    let token = ("Authorization", bearer.as_str());
    let wrong = ("Authorization", "Bearer twelve_no");
    let unknown = |route: &Route| route.unknown;
    let local = |route: &Route| route.local;
    expect("direct, without a token", service.address, &[], unknown);
    expect("direct, with a wrong token", service.address, &[wrong], unknown);
    expect("direct, with the local token", service.address, &[token], local);
    expect("by a bare proxy_pass", nginx.bare, &[], unknown);
    expect("by a bare proxy_pass, with a name of this machine", nginx.bare, &[("Host", "localhost")], unknown);
    expect("by a bare proxy_pass, with the local token", nginx.bare, &[token], local);
    expect("by a proxy that tells of itself", nginx.telling, &[], unknown);
    expect("by a proxy that tells of itself, with the local token", nginx.telling, &[token], local);
    // A page whose name was pointed to this machine gets nowhere, whatever it brings.
    expect("by a rebound name", service.address, &[("Host", "rebound.example")], |_| 421);
    expect("by a rebound name, with the local token", service.address, &[("Host", "rebound.example"), token], |_| 421);
}

#[test]
fn trusting_loopback_is_a_setting_and_lets_in_what_a_silent_proxy_passes_on() {
    let dir = TempDir::new().unwrap();
    let settings = "[http]\nport = 0\nrequests_per_minute = 100000\ntrust_loopback = true\n";
    let service = Running::of(command(&dir, settings));
    let said = service.seen.iter().any(|line| line.contains("WARN") && line.contains("`http.trust_loopback` is on"));
    assert!(said, "{:#?}", service.seen);
    let nginx = Nginx::before(service.address);
    expect("direct", service.address, &[], |route| route.local);
    // The reason why it is off: this caller may be anywhere.
    expect("by a bare proxy_pass", nginx.bare, &[], |route| route.local);
    expect("by a proxy that tells of itself", nginx.telling, &[], |route| route.unknown);
    expect("by a rebound name", service.address, &[("Host", "rebound.example")], |_| 421);
    expect("from another site's page", service.address, &[("Origin", "http://evil.example")], |route| {
        // The console says so in its own way, before it looks who it is.
        let is_form = route.method == "POST" && (route.path == "/chat" || route.path.starts_with("/inbox"));
        if is_form { 403 } else { route.unknown }
    });
}

/// The hidden flag alone makes nobody the person of the demo: its settings say that loopback is trusted.
#[test]
fn the_demo_without_trust_lets_nobody_in() {
    for (trust, api, page) in [(false, 401, 401), (true, 200, 200)] {
        let dir = TempDir::new().unwrap();
        let mut command = command(&dir, &format!("[http]\nport = 0\ntrust_loopback = {trust}\n"));
        let service = Running::of({
            command.arg("--demo").stdin(Stdio::piped());
            command
        });
        for (path, status) in [("/agents", api), ("/metrics", api), ("/", page), ("/inbox", page)] {
            assert_eq!(ask(service.address, "GET", path, &[], "").0, status, "{trust} {path}");
        }
    }
}

//! `http_get` and `http_post` against loopback: where they may not go, what they do not carry along, and
//! that nothing which comes back is without a bound. Loopback stands for the inside of a network: 127.0.0.2
//! is opened where a test needs to get through, 127.0.0.1 is what nobody may reach.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use twelve::agent::Outcome;
use twelve::tools::fetch::{HttpGet, HttpPost};
use twelve::tools::guarded::{HttpToolsConfig, Lookup, Web};
use twelve::tools::{MAX_OUTPUT, MAX_REFUSAL, Registry, ToolsConfig};

use crate::fake_service::{Checked as _, call, closed_port};

/// The tools with these settings (`[tools.http]` in TOML).
fn tools(toml: &str) -> Registry {
    crate::crypto();
    crate::fake_service::registry(&format!("[http]\n{toml}"))
}

/// The same, where names resolve as `lookup` says.
fn tools_with(toml: &str, lookup: Lookup) -> Registry {
    crate::crypto();
    let config: HttpToolsConfig = toml::from_str(toml).unwrap();
    let web = Arc::new(Web::with_lookup(config, lookup).unwrap());
    Registry::new(vec![Arc::new(HttpGet::new(web.clone())), Arc::new(HttpPost::new(web))]).unwrap()
}

/// Names and the answers that they give, one after the other; the last one stays. Keeps what was asked.
#[derive(Clone, Default)]
struct Names {
    answers: Arc<Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Names {
    fn answering(self, name: &str, answers: &[&[&str]]) -> Self {
        let answers = answers.iter().map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect()).collect();
        self.answers.lock().unwrap().insert(name.to_owned(), answers);
        self
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    fn lookup(&self) -> Lookup {
        let names = self.clone();
        Arc::new(move |host| {
            names.asked.lock().unwrap().push(host.clone());
            let mut answers = names.answers.lock().unwrap();
            let answers = answers.get_mut(&host).unwrap_or_else(|| panic!("nobody should ask for {host}"));
            let answer = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() };
            Box::pin(async move { Ok(answer) })
        })
    }
}

#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    uri: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

type Answers = Arc<dyn Fn(&Seen) -> Response + Send + Sync>;

/// A server that keeps what it was asked.
struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    async fn at(address: &str, answers: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let answers: Answers = Arc::new(answers);
        let app = Router::new().fallback(record).with_state((seen.clone(), answers));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Server { address, seen }
    }

    async fn open(answers: impl Fn(&Seen) -> Response + Send + Sync + 'static) -> Server {
        Server::at("127.0.0.2:0", answers).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The tools with this server allowed and reachable.
    fn tools(&self, more: &str) -> Registry {
        tools(&format!("allow = ['{}']\nallow_private = ['127.0.0.2']\n{more}", self.address))
    }
}

async fn record(
    State((seen, answers)): State<(Arc<Mutex<Vec<Seen>>>, Answers)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let now = Seen { method, uri: uri.to_string(), headers, body };
    let response = answers(&now);
    seen.lock().unwrap().push(now);
    response
}

fn hello(_: &Seen) -> Response {
    "hello".into_response()
}

fn redirect(status: u16, to: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), [("location", to.to_owned())]).into_response()
}

/// A server that reads one request from each connection and then does what `then` does.
async fn raw<F: Future<Output = ()> + Send + 'static>(then: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            tokio::spawn(then(stream));
        }
    });
    address
}

/// Sends `head`, then `part` for as long as somebody takes it.
async fn endless(mut stream: TcpStream, head: &str, part: Vec<u8>) {
    let mut sent = stream.write_all(head.as_bytes()).await;
    while sent.is_ok() {
        sent = stream.write_all(&part).await;
    }
}

fn at(address: SocketAddr, more: &str) -> Registry {
    tools(&format!("allow = ['{address}']\nallow_private = ['127.0.0.2']\n{more}"))
}

async fn get(registry: &Registry, url: &str) -> Outcome {
    registry.checked_run("http_get", &json!({ "url": url }), &call()).await
}

async fn post(registry: &Registry, url: &str, body: Value) -> Outcome {
    registry.checked_run("http_post", &json!({ "url": url, "body": body }), &call()).await
}

fn succeeded(outcome: Outcome) -> String {
    match outcome {
        Outcome::Succeeded { text } => text,
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

fn refused(registry: &Registry, url: &str) -> String {
    registry.check("http_get", &json!({ "url": url }).to_string()).err().unwrap_or_else(|| panic!("accepted: {url}"))
}

#[test]
fn nothing_is_reached_until_an_operator_lists_a_host_and_the_refusal_names_the_setting() {
    let registry = tools("");
    assert_eq!(
        refused(&registry, "https://api.example.com/"),
        "http_get: no host is allowed yet; an operator lists hosts in the setting `tools.http.allow`"
    );
    let registry = tools("allow = ['api.example.com', '*.status.example']");
    assert_eq!(
        refused(&registry, "https://evil.example/"),
        "http_get: the host `evil.example` is not in the setting `tools.http.allow` (api.example.com, *.status.example)"
    );
    assert_eq!(
        refused(&registry, "https://api.example.com:8443/"),
        "http_get: port 8443 of `api.example.com` is not allowed; an operator adds `api.example.com:8443` to the setting \
         `tools.http.allow`"
    );
    assert!(registry.check("http_get", r#"{"url":"https://eu.status.example/x"}"#).is_ok());
    let post = registry.check("http_post", r#"{"url":"https://evil.example/","body":{}}"#).unwrap_err();
    assert!(post.contains("`evil.example` is not in the setting"), "{post}");
    let host = format!("https://{}.example/", vec!["a".repeat(60); 4].join("."));
    assert!(refused(&registry, &host).chars().count() <= MAX_REFUSAL);
}

#[test]
fn reading_is_a_way_out_only_where_any_host_may_be_asked() {
    for (allow, sends) in [
        ("allow = []", false),
        ("allow = ['api.example.com', '*.example.com']", false),
        ("allow = ['api.example.com', '*']", true),
        ("allow = ['*:8443']", true),
    ] {
        assert_eq!(tools(allow).facts("http_get").unwrap().sends, sends, "{allow}");
    }
}

#[test]
fn an_address_that_is_not_public_is_refused_however_it_is_written() {
    // Named as well as `*`: to be allowed as a host is not enough.
    for allow in ["'*'", "'*', '127.0.0.1', '[::1]', '10.0.0.1', '169.254.169.254', '[::ffff:7f00:1]'"] {
        let registry = tools(&format!("allow = [{allow}]"));
        for (url, what) in [
            ("http://127.0.0.1/", "a loopback address"),
            ("https://127.0.0.1:443/", "a loopback address"),
            ("http://127.0.0.1./", "a loopback address"),
            ("http://127.1/", "a loopback address"),
            ("http://127.255.255.254/", "a loopback address"),
            ("http://2130706433/", "a loopback address"),
            ("http://0177.0.0.1/", "a loopback address"),
            ("http://0x7f.1/", "a loopback address"),
            ("http://0x7f000001/", "a loopback address"),
            ("http://017700000001/", "a loopback address"),
            ("http://0X7F.0.0.0x1/", "a loopback address"),
            ("http://\u{ff11}\u{ff12}\u{ff17}.0.0.1/", "a loopback address"),
            ("http://127\u{3002}0\u{3002}0\u{3002}1/", "a loopback address"),
            ("http://%31%32%37.0.0.1/", "a loopback address"),
            ("http:127.0.0.1/", "a loopback address"),
            ("http:///127.0.0.1/", "a loopback address"),
            ("http://[::1]/", "a loopback address"),
            ("http://[0:0:0:0:0:0:0:1]/", "a loopback address"),
            ("http://[::ffff:127.0.0.1]/", "a loopback address"),
            ("http://[::ffff:7f00:1]/", "a loopback address"),
            ("http://[0:0:0:0:0:ffff:127.0.0.1]/", "a loopback address"),
            ("http://[::127.0.0.1]/", "an IPv4-compatible address"),
            ("http://[64:ff9b::127.0.0.1]/", "a loopback address"),
            ("http://[64:ff9b::a9fe:a9fe]/", "a cloud's metadata service"),
            ("http://[64:ff9b:1::7f00:1]/", "a local translation address"),
            ("http://[2002:7f00:1::]/", "a 6to4 address"),
            ("http://[2001:0:7f00:1::]/", "a Teredo address"),
            ("http://[::]/", "an unspecified address"),
            ("http://0/", "an unspecified address"),
            ("http://0.0.0.0/", "an unspecified address"),
            ("http://10.0.0.1/", "a private address"),
            ("http://167772161/", "a private address"),
            ("http://172.16.0.1/", "a private address"),
            ("http://192.168.1.1/", "a private address"),
            ("http://[fc00::1]/", "a private address"),
            ("http://[fe80::1]/", "a link-local address"),
            ("http://169.254.1.1/", "a link-local address"),
            ("http://169.254.169.254/latest/meta-data/", "a cloud's metadata service"),
            ("http://2852039166/", "a cloud's metadata service"),
            ("http://0xa9.0xfe.0xa9.0xfe/", "a cloud's metadata service"),
            ("http://[::ffff:169.254.169.254]/", "a cloud's metadata service"),
            ("http://[fd00:ec2::254]/", "a cloud's metadata service"),
            ("http://168.63.129.16/", "a cloud's metadata service"),
            ("http://100.100.100.200/", "a cloud's metadata service"),
            ("http://100.64.0.1/", "an address shared by a carrier's customers"),
            ("http://224.0.0.1/", "a multicast address"),
            ("http://[ff02::1]/", "a multicast address"),
            ("http://255.255.255.255/", "a reserved address"),
            ("http://240.0.0.1/", "a reserved address"),
            ("http://192.0.2.1/", "a documentation address"),
            ("http://[2001:db8::1]/", "a documentation address"),
            ("http://198.18.0.1/", "a benchmarking address"),
        ] {
            let words = refused(&registry, url);
            // A number that is written in another way is refused for that, and its canonical form for what it is.
            let words = match words.split_once("; write `") {
                Some((_, canonical)) => refused(&registry, canonical.trim_end_matches('`')),
                None => words,
            };
            assert!(words.contains(&format!("is {what};")), "{url}: {words}");
            assert!(words.contains("`tools.http.allow_private`"), "{words}");
        }
        assert!(registry.check("http_get", r#"{"url":"http://8.8.8.8/"}"#).is_ok());
        assert!(registry.check("http_get", r#"{"url":"http://[2606:4700:4700::1111]/"}"#).is_ok());
    }
}

#[test]
fn what_is_no_plain_web_address_is_refused() {
    let registry = tools("allow = ['*']");
    for (url, words) in [
        ("ftp://files.example/", "only http:// and https://"),
        ("file:///etc/passwd", "only http:// and https://"),
        ("gopher://x.example:80/", "only http:// and https://"),
        ("data:text/plain,x", "only http:// and https://"),
        ("javascript:alert(1)", "only http:// and https://"),
        ("ws://x.example/", "only http:// and https://"),
        ("x.example/path", "that is not an address"),
        ("http://", "that is not an address"),
        ("http://[::1", "that is not an address"),
        ("http://[fe80::1%25eth0]/", "that is not an address"),
        ("http://1.2.3.4.5/", "that is not an address"),
        ("http://256.1.1.1/", "that is not an address"),
        ("http://x.example:99999/", "that is not an address"),
        ("http://user@x.example/", "a name or password in it"),
        ("http://user:pass@x.example/", "a name or password in it"),
        ("http://x.example@127.0.0.1/", "a name or password in it"),
        ("http://x.example\\@evil.example/", "white space, control characters or backslashes"),
        ("http://x.exa\nmple/", "white space, control characters or backslashes"),
        (" http://x.example/", "white space, control characters or backslashes"),
        ("http://x.example/\u{0}", "white space, control characters or backslashes"),
        ("http://x.example:22/", "port 22 of `x.example` is not allowed"),
        ("http://x.example:0/", "port 0 of `x.example` is not allowed"),
    ] {
        let said = refused(&registry, url);
        assert!(said.contains(words), "{url}: {said}");
    }
    let long = format!("http://x.example/{}", "a".repeat(2048));
    assert!(refused(&registry, &long).contains("`url` has to have at most 2048 characters"));
    let grows = format!("http://x.example/{}", "\u{fc}".repeat(1000));
    assert!(refused(&registry, &grows).contains("longer than 2048 bytes"));
}

#[tokio::test]
async fn an_allowed_host_answers_and_nothing_is_carried_along_but_what_the_call_says() {
    let server = Server::open(|seen| {
        if seen.uri == "/first" {
            let to = [("location", "/second?x=1#part"), ("set-cookie", "a=b; Path=/")];
            (StatusCode::FOUND, to, "moved").into_response()
        } else {
            ([("content-type", "application/json")], r#"{"fine":true}"#).into_response()
        }
    })
    .await;
    let text = succeeded(get(&server.tools(""), &server.url("/first#frag")).await);
    let end = server.url("/second?x=1");
    assert_eq!(text, format!("HTTP 200 OK, application/json, 13 bytes, redirected to {end}\n\n{{\"fine\":true}}"));
    let seen = server.seen();
    assert_eq!(seen.iter().map(|s| s.uri.as_str()).collect::<Vec<_>>(), ["/first", "/second?x=1"]);
    for request in seen {
        assert_eq!(request.method, Method::GET);
        let mut names: Vec<&str> = request.headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "accept-encoding", "host", "user-agent"], "no cookie, referer or token");
        assert!(request.body.is_empty());
    }
}

#[tokio::test]
async fn a_refusal_by_the_other_side_is_an_answer() {
    let server = Server::open(|_| (StatusCode::NOT_FOUND, "no such thing").into_response()).await;
    let text = succeeded(get(&server.tools(""), &server.url("/")).await);
    assert_eq!(text, "HTTP 404 Not Found, text/plain; charset=utf-8, 13 bytes\n\nno such thing");
}

#[tokio::test]
async fn a_body_that_is_not_text_is_only_described() {
    let server = Server::open(|_| ([("content-type", "image/png")], b"\x89PNG\r\n\0\0".to_vec()).into_response()).await;
    let text = succeeded(get(&server.tools(""), &server.url("/")).await);
    assert_eq!(text, "HTTP 200 OK, image/png, 8 bytes\nThe body is not text and is not shown.");
}

#[tokio::test]
async fn a_host_inside_is_not_connected_to_even_if_it_is_allowed() {
    let inside = Server::at("127.0.0.1:0", hello).await;
    let port = inside.port();
    for allow in [format!("'*:{port}'"), format!("'127.0.0.1:{port}', 'localhost:{port}'"), format!("'*', '*:{port}'")]
    {
        let registry = tools(&format!("allow = [{allow}]"));
        for (host, words) in [
            ("127.0.0.1", "`127.0.0.1` is a loopback address"),
            ("2130706433", "write `http://127.0.0.1:"),
            ("[::ffff:127.0.0.1]", "another way to write 127.0.0.1"),
            ("localhost", "`localhost` resolves to a loopback address"),
            ("localhost.", "`localhost` resolves to a loopback address"),
            ("LOCALHOST", "`localhost` resolves to a loopback address"),
        ] {
            if host.starts_with('[') && !allow.contains('*') {
                continue;
            }
            let url = format!("http://{host}:{port}/");
            let error = failed(get(&registry, &url).await);
            assert!(error.contains(words), "{allow} {url}: {error}");
            let error = failed(post(&registry, &url, json!({})).await);
            assert!(error.contains(words), "{allow} {url}: {error}");
        }
    }
    assert_eq!(inside.seen().len(), 0);
}

#[tokio::test]
async fn a_private_network_is_opened_for_hosts_that_are_named_and_not_for_any_host() {
    let inside = Server::at("127.0.0.1:0", hello).await;
    let port = inside.port();
    let names = Names::default().answering("wiki.corp.example", &[&["127.0.0.1"]]);
    let open = "allow_private = ['127.0.0.0/8']";
    let any = tools_with(&format!("allow = ['*:{port}']\n{open}"), names.lookup());
    for host in ["127.0.0.1", "wiki.corp.example"] {
        let error = failed(get(&any, &format!("http://{host}:{port}/")).await);
        assert!(error.contains("a loopback address"), "{error}");
    }
    // The same name at a port for which only `*` stands is not the one that was named.
    let elsewhere = tools_with(&format!("allow = ['*:{port}', 'wiki.corp.example']\n{open}"), names.lookup());
    let error = failed(get(&elsewhere, &format!("http://wiki.corp.example:{port}/")).await);
    assert!(error.contains("resolves to a loopback address"), "{error}");
    assert_eq!(inside.seen().len(), 0);
    for allow in [format!("wiki.corp.example:{port}"), format!("*.corp.example:{port}")] {
        let named = tools_with(&format!("allow = ['*', '{allow}']\n{open}"), names.lookup());
        let text = succeeded(get(&named, &format!("http://wiki.corp.example.:{port}/")).await);
        assert!(text.ends_with("\n\nhello"), "{text}");
    }
    assert_eq!(inside.seen().len(), 2);
    assert_eq!(inside.seen()[0].header("host"), Some(format!("wiki.corp.example:{port}").as_str()));
}

#[tokio::test]
async fn a_name_is_resolved_once_and_the_connection_goes_to_what_was_checked() {
    let open = Server::open(hello).await;
    let port = open.port();
    let inside = Server::at(&format!("127.0.0.1:{port}"), hello).await;
    let names = Names::default().answering("rebinds.example", &[&["127.0.0.2"], &["127.0.0.1"]]);
    let settings = format!("allow = ['rebinds.example:{port}']\nallow_private = ['127.0.0.2']");
    let registry = tools_with(&settings, names.lookup());
    let url = format!("http://rebinds.example:{port}/");
    assert!(succeeded(get(&registry, &url).await).ends_with("hello"));
    assert_eq!(names.asked(), ["rebinds.example"], "a second look-up could answer differently");
    assert_eq!((open.seen().len(), inside.seen().len()), (1, 0));
    // A new connection is a new answer, and a new check.
    let error = failed(get(&registry, &url).await);
    assert!(error.contains("`rebinds.example` resolves to a loopback address"), "{error}");
    let error = failed(post(&registry, &url, json!({})).await);
    assert!(error.ends_with("; nothing was sent"), "{error}");
    assert_eq!((open.seen().len(), inside.seen().len()), (1, 0));
}

#[tokio::test]
async fn a_name_that_also_resolves_to_the_inside_is_refused_altogether() {
    let open = Server::open(hello).await;
    let port = open.port();
    let inside = Server::at(&format!("127.0.0.1:{port}"), hello).await;
    for answer in [["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "::ffff:127.0.0.1"]] {
        let names = Names::default().answering("both.example", &[&answer]);
        let settings = format!("allow = ['both.example:{port}']\nallow_private = ['127.0.0.2']");
        let registry = tools_with(&settings, names.lookup());
        let error = failed(get(&registry, &format!("http://both.example:{port}/")).await);
        assert!(error.contains("resolves to a loopback address"), "{error}");
    }
    assert_eq!((open.seen().len(), inside.seen().len()), (0, 0));
    let nowhere = Names::default().answering("nowhere.example", &[&[]]);
    let registry = tools_with("allow = ['nowhere.example']", nowhere.lookup());
    assert_eq!(failed(get(&registry, "http://nowhere.example/").await), "`nowhere.example` has no address");
}

#[tokio::test]
async fn each_redirect_is_checked_like_the_first_address() {
    let inside = Server::at("127.0.0.1:0", hello).await;
    let port = inside.port();
    for (to, words) in [
        (
            format!("http://127.0.0.1:{port}/"),
            "it redirects to `127.0.0.1`, which is refused: `127.0.0.1` is a loopback",
        ),
        (format!("http://2130706433:{port}/"), "is a loopback address"),
        (format!("//0x7f.1:{port}/"), "is a loopback address"),
        (format!("http://[::ffff:127.0.0.1]:{port}/"), "is a loopback address"),
        (format!("http://inside.example:{port}/"), "`inside.example` resolves to a loopback address"),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), "is a cloud's metadata service"),
        ("http://a.example:22/".to_owned(), "port 22 of `a.example` is not allowed"),
        ("http://me:pass@inside.example/".to_owned(), "a name or password in it"),
        ("file:///etc/passwd".to_owned(), "only http:// and https://"),
        ("gopher://inside.example/".to_owned(), "only http:// and https://"),
    ] {
        for status in [301, 302, 303, 307, 308] {
            let target = to.clone();
            let open = Server::open(move |_| redirect(status, &target)).await;
            let names = Names::default().answering("inside.example", &[&["127.0.0.1"]]);
            let settings = format!("allow = ['*', '*:{port}', '{}']\nallow_private = ['127.0.0.2']", open.address);
            let error = failed(get(&tools_with(&settings, names.lookup()), &open.url("/")).await);
            assert!(error.contains(words), "{status} {to}: {error}");
            assert_eq!(open.seen().len(), 1);
        }
    }
    assert_eq!(inside.seen().len(), 0);
}

#[tokio::test]
async fn a_name_that_changes_its_address_between_redirects_is_checked_each_time() {
    let open = Server::open(|seen| redirect(302, if seen.uri == "/a" { "/b" } else { "/a" })).await;
    let port = open.port();
    let inside = Server::at(&format!("127.0.0.1:{port}"), hello).await;
    let names = Names::default().answering("rebinds.example", &[&["127.0.0.2"], &["127.0.0.2"], &["127.0.0.1"]]);
    let settings = format!("allow = ['rebinds.example:{port}']\nallow_private = ['127.0.0.2']");
    let error = failed(get(&tools_with(&settings, names.lookup()), &format!("http://rebinds.example:{port}/a")).await);
    assert!(error.contains("`rebinds.example` resolves to a loopback address"), "{error}");
    assert_eq!((open.seen().len(), inside.seen().len()), (2, 0));
}

#[tokio::test]
async fn redirects_end_after_as_many_as_the_settings_say() {
    let server = Server::open(|_| redirect(302, "/again")).await;
    // None at all: the agent is told where it points, and a call of its own meets the rules.
    let text = succeeded(get(&server.tools("max_redirects = 0"), &server.url("/")).await);
    assert!(text.ends_with(&format!("\nIt points to {} and was not followed.", server.url("/again"))), "{text}");
    assert_eq!(server.seen().len(), 1);
    for (more, asked) in [("max_redirects = 3", 4), ("", 6)] {
        let before = server.seen().len();
        let error = failed(get(&server.tools(more), &server.url("/")).await);
        assert_eq!(error, format!("it redirects more than {} times", asked - 1));
        assert_eq!(server.seen().len() - before, asked);
    }
}

#[tokio::test]
async fn where_a_rule_looks_at_addresses_no_redirect_is_followed_past_it() {
    let server = Server::open(|_| redirect(302, "/admin")).await;
    let set_up = |rules: &str| {
        let file = format!(
            "[tools.http]\nallow = ['{}']\nallow_private = ['127.0.0.2']\nmax_redirects = 2\n{rules}",
            server.address
        );
        let sources = twelve::config::layers::Sources { file: Some(("twelve.toml", &file)), ..Default::default() };
        twelve::app::Blueprint::new(twelve::config::Loaded::from_sources(&sources).unwrap()).unwrap()
    };
    crate::crypto();
    let rule = |args: &str| format!("[[policy.rules]]\nname = 'x'\ntool = 'http_*'\ngate = 'deny'\nargs = {args}\n");
    for (rules, asked) in [(String::new(), 3), (rule("{ url = 'http://.*/admin' }"), 1)] {
        let before = server.seen().len();
        get(&set_up(&rules).tools, &server.url("/")).await;
        assert_eq!(server.seen().len() - before, asked, "{rules}");
    }
}

#[tokio::test]
async fn a_token_goes_to_its_host_only_and_is_taken_out_of_what_comes_back() {
    let token = std::env::var("PATH").unwrap();
    let other =
        Server::at("127.0.0.2:0", |seen| format!("other saw {:?}", seen.header("authorization")).into_response()).await;
    let there = other.url("/");
    let server = Server::open(move |seen| match seen.uri.as_str() {
        "/away" => redirect(302, &there),
        "/near" => redirect(302, "/echo"),
        _ => format!("you sent {:?}", seen.header("authorization")).into_response(),
    })
    .await;
    let (here, away) = (server.address, other.address);
    let registry = tools(&format!(
        "allow = ['{here}', '{away}']\nallow_private = ['127.0.0.2']\nauth = {{ '{here}' = 'PATH', '{away}' = 'PATH' }}"
    ));
    for path in ["/echo", "/near"] {
        let text = succeeded(get(&registry, &server.url(path)).await);
        assert!(text.ends_with("you sent Some(\"Bearer [token]\")") && !text.contains(&token), "{text}");
    }
    let text = succeeded(post(&registry, &server.url("/echo"), json!({})).await);
    assert!(text.ends_with("you sent Some(\"Bearer [token]\")"), "{text}");
    let bearer = format!("Bearer {token}");
    assert!(server.seen().iter().all(|seen| seen.header("authorization") == Some(&bearer)));
    let text = succeeded(get(&registry, &server.url("/away")).await);
    assert!(text.ends_with("other saw None"), "another host's word does not get that host its token: {text}");

    let unset = tools(&format!(
        "allow = ['{here}']\nallow_private = ['127.0.0.2']\nauth = {{ '{here}' = 'TWELVE_TEST_NO_SUCH_TOKEN' }}"
    ));
    let before = server.seen().len();
    let error = failed(get(&unset, &server.url("/echo")).await);
    assert_eq!(error, "the environment variable TWELVE_TEST_NO_SUCH_TOKEN is not set; an operator has to set it");
    assert_eq!(server.seen().len(), before);
}

#[tokio::test]
async fn a_body_is_read_up_to_the_limit_and_the_model_is_told() {
    let server = Server::open(|_| "x".repeat(100_001).into_response()).await;
    let text = succeeded(get(&server.tools("max_bytes = 1000"), &server.url("/")).await);
    let head = "HTTP 200 OK, text/plain; charset=utf-8, only the first 1000 bytes were read\n\n";
    assert_eq!(text, format!("{head}{}", "x".repeat(1000)));
    let text = succeeded(get(&server.tools("max_bytes = 100001"), &server.url("/")).await);
    assert!(
        text.contains(", 100001 bytes\n") && text.contains(" more bytes …\n") && text.len() <= MAX_OUTPUT,
        "{text}"
    );
}

#[tokio::test]
async fn an_endless_body_ends_at_the_limit() {
    let part = b"10\r\nsixteen bytes!!!\r\n".repeat(1000);
    let address = raw(move |stream| {
        endless(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n",
            part.clone(),
        )
    })
    .await;
    let text = succeeded(get(&at(address, ""), &format!("http://{address}/")).await);
    assert!(text.starts_with("HTTP 200 OK, text/plain, only the first 262144 bytes were read\n"), "{text}");
}

/// The beginning of a gzip stream of nothing but `a`, and what can follow for ever: one literal, then matches
/// of 258 bytes at distance 1, of 13 bits each.
fn gzip_bomb() -> (Vec<u8>, Vec<u8>) {
    const LITERAL_A: &str = "10010001";
    const MATCH: &str = "1100010100000";
    let bytes = |bits: String| -> Vec<u8> {
        let byte = |bits: &[u8]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | (bit - b'0'));
        bits.as_bytes().chunks(8).map(byte).collect()
    };
    // Not the last block, with fixed codes: 3 + 8 + 13 bits are whole bytes.
    let start = bytes(format!("010{LITERAL_A}{MATCH}"));
    ([vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], start].concat(), bytes(MATCH.repeat(8)))
}

#[tokio::test]
async fn a_packed_body_counts_by_what_it_unpacks_to() {
    let (start, more) = gzip_bomb();
    let more = more.repeat(1000);
    let address = raw(move |mut stream| {
        let (start, more) = (start.clone(), more.clone());
        async move {
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&start).await.unwrap();
            endless(stream, "", more).await;
        }
    })
    .await;
    let text = succeeded(get(&at(address, ""), &format!("http://{address}/")).await);
    assert!(text.starts_with("HTTP 200 OK, text/plain, only the first 262144 bytes were read\n\naaaa"), "{text}");
}

#[tokio::test]
async fn a_slow_answer_ends_when_the_time_of_the_call_is_over() {
    let silent = raw(|stream| async move {
        let _held = stream;
        pending().await
    })
    .await;
    let error = failed(get(&at(silent, "timeout = '300ms'"), &format!("http://{silent}/")).await);
    assert_eq!(error, "no answer within 300ms");

    let drips = raw(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
        pending().await
    })
    .await;
    let text = succeeded(get(&at(drips, "timeout = '300ms'"), &format!("http://{drips}/")).await);
    assert_eq!(text, "HTTP 200 OK, broke off after 4 bytes\n\nhalf");

    let breaks = raw(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
    })
    .await;
    let text = succeeded(get(&at(breaks, ""), &format!("http://{breaks}/")).await);
    assert_eq!(text, "HTTP 200 OK, broke off after 4 bytes\n\nhalf");
}

#[tokio::test]
async fn a_flood_of_headers_is_no_answer() {
    let address = raw(|stream| endless(stream, "HTTP/1.1 200 OK\r\n", b"x-more: and more\r\n".repeat(100))).await;
    let many = failed(get(&at(address, ""), &format!("http://{address}/")).await);
    let address = raw(|stream| endless(stream, "HTTP/1.1 200 OK\r\nx-long: ", vec![b'x'; 10_000])).await;
    let long = failed(get(&at(address, ""), &format!("http://{address}/")).await);
    for error in [many, long] {
        assert!(!error.contains("no answer within"), "it ended by its size: {error}");
    }
}

#[tokio::test]
async fn a_post_sends_its_object_once_with_the_key_of_the_call() {
    let server = Server::open(|_| (StatusCode::CREATED, "made").into_response()).await;
    let registry = server.tools("");
    let facts = registry.facts("http_post").unwrap();
    assert!(facts.side_effects && facts.outside && !facts.idempotent && !facts.plans);
    let facts = registry.facts("http_get").unwrap();
    assert!(!facts.side_effects && facts.outside && facts.idempotent);
    let text =
        succeeded(post(&registry, &server.url("/things?x=1"), json!({"name": "n", "parts": [1, {"a": null}]})).await);
    assert_eq!(text, "HTTP 201 Created, text/plain; charset=utf-8, 4 bytes\n\nmade");
    let seen = server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].method.clone(), seen[0].uri.as_str()), (Method::POST, "/things?x=1"));
    assert_eq!(seen[0].header("idempotency-key"), Some(call().effect.to_string().as_str()));
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    let sent: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(sent, json!({"name": "n", "parts": [1, {"a": null}]}));
    for body in ["[1]", "\"text\"", "null"] {
        let raw = format!(r#"{{"url":"{}","body":{body}}}"#, server.url("/"));
        let error = registry.check("http_post", &raw).unwrap_err();
        assert!(error.contains("`body` has to be of type object"), "{error}");
    }
    let foreign =
        tools("allow = ['*']").check_value("http_post", json!({"url": "https://b\u{fc}cher.example/x", "body": {}}));
    assert_eq!(registry.title("http_post", foreign.unwrap().as_value()), "Send to https://xn--bcher-kva.example/x");
    assert_eq!(registry.title("http_get", &json!({"url": "https://x.example/a"})), "Read https://x.example/a");
}

#[tokio::test]
async fn a_post_says_whether_it_may_have_taken_effect() {
    let refuses = Server::open(|_| (StatusCode::CONFLICT, "taken").into_response()).await;
    let error = failed(post(&refuses.tools(""), &refuses.url("/"), json!({})).await);
    assert_eq!(error, "HTTP 409 Conflict, text/plain; charset=utf-8, 5 bytes\n\ntaken");

    let breaks = Server::open(|_| StatusCode::BAD_GATEWAY.into_response()).await;
    let error = unknown(post(&breaks.tools(""), &breaks.url("/"), json!({})).await);
    assert_eq!(error, "HTTP 502 Bad Gateway, 0 bytes\nLook whether it took effect before anything is tried again.");

    let closed = closed_port().await;
    let registry = tools(&format!("allow = ['{closed}']\nallow_private = ['127.0.0.1']"));
    let error = failed(post(&registry, &format!("http://{closed}/"), json!({})).await);
    assert!(error.ends_with("; nothing was sent"), "{error}");

    let loses = raw(|stream| async move { drop(stream) }).await;
    let error = unknown(post(&at(loses, ""), &format!("http://{loses}/"), json!({})).await);
    assert!(error.starts_with("the request was sent, but "), "{error}");
    assert!(failed(get(&at(loses, ""), &format!("http://{loses}/")).await).len() > 5, "a read is only a failure");

    let silent = raw(|stream| async move {
        let _held = stream;
        pending().await
    })
    .await;
    let error = unknown(post(&at(silent, "timeout = '300ms'"), &format!("http://{silent}/"), json!({})).await);
    assert!(error.starts_with("the request was sent, but no answer within 300ms\n"), "{error}");
}

#[tokio::test]
async fn a_post_is_never_sent_on_to_where_an_answer_points() {
    let other = Server::open(hello).await;
    for (status, done) in [(301, true), (302, true), (303, true), (307, false), (308, false)] {
        let there = other.url("/there");
        let server = Server::open(move |_| redirect(status, &there)).await;
        let registry =
            tools(&format!("allow = ['{}', '{}']\nallow_private = ['127.0.0.2']", server.address, other.address));
        let outcome = post(&registry, &server.url("/"), json!({"a": 1})).await;
        let text = if done { succeeded(outcome) } else { failed(outcome) };
        assert!(text.contains(&format!("It points to {} and was not followed.", other.url("/there"))), "{text}");
        assert_eq!(text.contains("Nothing was sent there"), !done, "{text}");
        assert_eq!(server.seen().len(), 1);
    }
    assert_eq!(other.seen().len(), 0);
}

#[tokio::test]
async fn a_call_that_is_stopped_says_whether_anything_was_sent() {
    let (told, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let silent = raw(move |stream| {
        told.send(()).unwrap();
        async move {
            let _held = stream;
            pending().await
        }
    })
    .await;
    let registry = at(silent, "");
    let args = json!({ "url": format!("http://{silent}/"), "body": {} });
    let context = call();
    let (outcome, ()) = tokio::join!(registry.checked_run("http_post", &args, &context), async {
        asked.recv().await.unwrap();
        context.cancel.cancel();
    });
    assert!(unknown(outcome).starts_with("stopped while the request was under way"));
    let outcome = registry.checked_run("http_post", &args, &context).await;
    assert_eq!(failed(outcome), "stopped before anything was sent");
    assert!(asked.try_recv().is_err(), "no second connection");
    let args = json!({ "url": format!("http://{silent}/") });
    assert_eq!(failed(registry.checked_run("http_get", &args, &context).await), "stopped before it was done");
}

#[test]
fn a_setting_that_cannot_work_is_refused_with_its_path() {
    for (toml, words) in [
        ("allow = ['https://api.example.com/']", "in tools.http.allow: `https://api.example.com/` is not a host"),
        ("allow_private = ['10.0.0.0/33']", "in tools.http.allow_private: `10.0.0.0/33` is not a network"),
        ("allow_private = ['intranet']", "in tools.http.allow_private: `intranet` is not a network"),
        ("ports = [0]", "tools.http.ports: 0 is not a port"),
        ("timeout = '0s'", "tools.http.timeout: must be longer than 0s and at most 10m"),
        ("timeout = '1h'", "tools.http.timeout: must be longer than 0s and at most 10m"),
        ("max_bytes = 0", "tools.http.max_bytes: must be from 1"),
        ("max_bytes = 1000000000", "tools.http.max_bytes: must be from 1"),
        ("max_redirects = 21", "tools.http.max_redirects: must be at most 20"),
        ("auth = { '*.example.com' = 'TOKEN' }", "tools.http.auth: `*.example.com` means many hosts"),
        ("auth = { '*' = 'TOKEN' }", "tools.http.auth: `*` means many hosts"),
        ("auth = { 'a.example' = 'sk-123' }", "give the name of an environment variable, not the token"),
        ("alow = []", "unknown field `alow`"),
    ] {
        let error = match toml::from_str::<ToolsConfig>(&format!("[http]\n{toml}")) {
            Ok(config) => match Registry::from_config(&config, std::path::Path::new("unused")) {
                Ok(_) => panic!("accepted: {toml}"),
                Err(e) => format!("{e:#}"),
            },
            Err(e) => e.to_string(),
        };
        assert!(error.contains(words), "{toml}\n{error}");
        assert!(!error.contains("sk-123"), "{error}");
    }
}

#[test]
fn the_examples_in_the_default_file_work_and_its_values_are_the_defaults() {
    let (_, examples) = twelve::config::DEFAULT.split_once("# [tools.http]\n").unwrap();
    let (examples, _) = examples.split_once("#\n# Mails that").unwrap();
    let lines = examples.lines().filter_map(|line| line.strip_prefix("# "));
    let toml: String =
        lines.filter(|l| l.starts_with(['[', '#']) || l.contains(" = ")).map(|l| format!("{l}\n")).collect();
    let toml = format!("[tools.http]\n{toml}");
    let table: toml::Table = toml.parse().unwrap_or_else(|e| panic!("{e}\n{toml}"));
    let config: ToolsConfig = table["tools"].clone().try_into().unwrap_or_else(|e| panic!("{e}\n{toml}"));
    Registry::from_config(&config, std::path::Path::new("unused")).unwrap();
    let default = HttpToolsConfig::default();
    let shown =
        HttpToolsConfig { allow: vec![], allow_private: vec![], auth: Default::default(), ..config.http.clone() };
    assert_eq!(shown, default);
    assert_eq!(config.http.auth["api.example.com"], "EXAMPLE_TOKEN");
    assert_eq!(config.files.max_bytes, ToolsConfig::default().files.max_bytes);
}

//! The way to addresses that a model names: only to hosts that an operator lists, only to addresses that
//! may be reached, and with a bound on everything that comes back.
//!
//! Owns the `[tools.http]` section, and the guard around each connection:
//! - An address is canonical ([`super::canon`]); hosts and ports are checked before anybody is asked (`Web::target`).
//! - A name is resolved once for each connection, by the client itself, and the connection goes to what
//!   was checked (`Checked`): there is no second look-up that could answer differently. A name with one
//!   address that may not be reached is refused altogether: which of them is taken would be chance.
//! - Each redirect goes through all of that again.
//!
//! What an address is stands in `address`, what a model reads of an answer in [`super::fetch`].
//! Tools that reach configured addresses use `http`, which trusts them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url, header, redirect, retry};
use serde::{Deserialize, Serialize};

use super::canon::{self, MAX_URL};
use super::deploy::is_variable;
use super::http::{CONNECT_TIMEOUT, NoAnswer, Payload, no_answer};
use super::{Boxed, address, shown, text};

/// Most patterns, networks or ports in the settings: each is compared on each request.
pub const MAX_RULES: usize = 500;

/// The most that `max_bytes` may be: answers are held in memory.
pub const MOST_BYTES: usize = 16 * 1024 * 1024;

/// The most that `max_redirects` may be, as in common browsers.
pub const MOST_REDIRECTS: usize = 20;

/// The longest that `timeout` may be, in milliseconds.
pub const LONGEST_TIMEOUT: u64 = 600_000;

/// What kinds of answers are asked for. Not a model's choice: some servers choose what they do by it.
const ACCEPT: &str = "application/json, text/*;q=0.9, */*;q=0.5";

/// `[tools.http]`: what `http_get` and `http_post` may reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpToolsConfig {
    /// Hosts: `api.example.com`, `*.example.com` (all below it), either with `:port`, or `*`: any public host.
    pub allow: Vec<String>,
    /// Networks and addresses that may be reached although they are not public, by hosts that `allow` names.
    pub allow_private: Vec<String>,
    /// Ports of hosts that are listed without one.
    pub ports: Vec<u16>,
    /// How long one call may take, redirects included, in milliseconds.
    #[serde(with = "crate::agent::span")]
    pub timeout: u64,
    /// How much of a body is read, in bytes, after it is unpacked.
    pub max_bytes: usize,
    /// How many redirects one `http_get` follows.
    pub max_redirects: usize,
    /// By `host` or `host:port`: the name of the environment variable with the bearer token for it.
    pub auth: BTreeMap<String, String>,
}

impl Default for HttpToolsConfig {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            allow_private: Vec::new(),
            ports: vec![80, 443],
            timeout: 20_000,
            max_bytes: 256 * 1024,
            max_redirects: 5,
            auth: BTreeMap::new(),
        }
    }
}

/// Which hosts a pattern of the settings means.
#[derive(Clone, Debug, PartialEq)]
enum Hosts {
    Any,
    /// All below this name, not the name itself.
    Below(String),
    One(String),
}

#[derive(Clone, Debug, PartialEq)]
struct Pattern {
    hosts: Hosts,
    port: Option<u16>,
}

impl Pattern {
    fn parse(written: &str) -> anyhow::Result<Self> {
        // A name in the place of `*`, so that `*:8443` is read like any other.
        let any = written.strip_prefix('*').filter(|rest| rest.is_empty() || rest.starts_with(':'));
        let below = written.strip_prefix("*.");
        let host = any.map_or_else(|| below.unwrap_or(written).to_owned(), |port| format!("any{port}"));
        let plain = !host.contains(['/', '\\', '?', '#', '@', '*']) && !host.contains(char::is_whitespace);
        let parsed = |scheme: &str| Url::parse(&format!("{scheme}://{host}")).ok().filter(|_| plain);
        let (Some(http), Some(https)) = (parsed("http"), parsed("https")) else {
            bail!("`{written}` is not a host such as `api.example.com`, `*.example.com`, `host:8080` or `*`");
        };
        // A parser leaves the usual port of a scheme out, so two schemes are asked.
        let port = http.port().or(https.port());
        let name = undotted(http.host_str().unwrap_or_default()).to_owned();
        let hosts = match (any, below) {
            (Some(_), _) => Hosts::Any,
            (None, Some(_)) if literal(&name).is_some() => bail!("`{written}`: an address has nothing below it"),
            (None, Some(_)) => Hosts::Below(format!(".{name}")),
            (None, None) => Hosts::One(name),
        };
        Ok(Self { hosts, port })
    }

    fn means(&self, host: &str) -> bool {
        match &self.hosts {
            Hosts::Any => true,
            Hosts::Below(name) => host.len() > name.len() && host.ends_with(name.as_str()),
            Hosts::One(name) => host == name,
        }
    }
}

/// A host as the URL parser gives it, without the dot that ends an absolute name.
fn undotted(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// The address, if a host is one. The URL parser has already read `0x7f.1` and the like.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Gives the addresses of a name. Tests put their own in its place; the program asks the system.
pub type Lookup = Arc<dyn Fn(String) -> Boxed<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

fn ask_the_system(host: String) -> Boxed<'static, io::Result<Vec<IpAddr>>> {
    Box::pin(async move { Ok(tokio::net::lookup_host((host, 0)).await?.map(|found| found.ip()).collect()) })
}

/// Which addresses a request may end at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// An operator named the host: also private addresses that the settings open.
    Named,
    /// Any host was allowed: public addresses only.
    Public,
}

/// The resolver of a client: it gives addresses that may be connected to, or none.
struct Checked {
    lookup: Lookup,
    open: Arc<[IpNet]>,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, open, host) = (self.lookup.clone(), self.open.clone(), name.as_str().to_owned());
        Box::pin(async move {
            let found = lookup(host.clone()).await?;
            if found.is_empty() {
                return Err(Blocked(format!("`{host}` has no address")).into());
            }
            for ip in &found {
                address::judge(*ip, &open).map_err(|what| Blocked(closed(&host, "resolves to", what)))?;
            }
            // Port 0 stands for the URL's.
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

/// Why a name was not resolved, in words for the model.
#[derive(Debug)]
struct Blocked(String);

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Blocked {}

fn closed(host: &str, how: &str, what: &str) -> String {
    let host = text::cut(host, 100);
    format!(
        "`{host}` {how} {what}; an operator opens it by naming the host in `tools.http.allow` and its network in \
         `tools.http.allow_private`"
    )
}

/// The settings, checked, with the clients that keep to them.
pub struct Web {
    config: HttpToolsConfig,
    allow: Vec<Pattern>,
    open: Arc<[IpNet]>,
    /// Where which token goes.
    auth: Vec<(Pattern, String)>,
    lookup: Lookup,
    // Built at the first request, as in `super::http`. Two, because what a name may resolve to depends on
    // whether an operator named it, and a resolver is told nothing but the name.
    named: OnceLock<Result<Client, String>>,
    public: OnceLock<Result<Client, String>>,
}

/// What came back, in bounds.
#[derive(Debug)]
pub(super) struct Answer {
    /// Where it came from in the end.
    pub url: Url,
    pub status: StatusCode,
    pub content_type: String,
    /// Where it points if it is a redirect that was not followed.
    pub location: Option<Url>,
    /// At most `max_bytes`, unpacked, without the token.
    pub body: Vec<u8>,
    pub end: End,
}

/// How the reading of a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    /// At `max_bytes`.
    Cut,
    /// By the other side, or by the time that a call may take.
    BrokenOff,
}

impl Web {
    /// # Errors
    /// The first setting that cannot work, with its path.
    pub fn new(config: HttpToolsConfig) -> anyhow::Result<Self> {
        Self::with_lookup(config, Arc::new(ask_the_system))
    }

    /// The same, with names looked up in another way.
    ///
    /// # Errors
    /// As [`Web::new`].
    pub fn with_lookup(config: HttpToolsConfig, lookup: Lookup) -> anyhow::Result<Self> {
        let HttpToolsConfig { allow, allow_private, ports, timeout, max_bytes, max_redirects, auth } = &config;
        for (name, many) in [
            ("allow", allow.len()),
            ("allow_private", allow_private.len()),
            ("ports", ports.len()),
            ("auth", auth.len()),
        ] {
            ensure!(many <= MAX_RULES, "tools.http.{name}: more than {MAX_RULES} entries");
        }
        ensure!(
            (1..=LONGEST_TIMEOUT).contains(timeout),
            "tools.http.timeout: must be longer than 0s and at most {}",
            shown(Duration::from_millis(LONGEST_TIMEOUT))
        );
        ensure!((1..=MOST_BYTES).contains(max_bytes), "tools.http.max_bytes: must be from 1 to {MOST_BYTES}");
        ensure!(*max_redirects <= MOST_REDIRECTS, "tools.http.max_redirects: must be at most {MOST_REDIRECTS}");
        ensure!(!ports.contains(&0), "tools.http.ports: 0 is not a port");
        let patterns = allow.iter().map(|written| Pattern::parse(written)).collect::<Result<_, _>>();
        let open = allow_private.iter().map(|written| network(written)).collect::<Result<_, _>>();
        let mut tokens = Vec::new();
        for (host, variable) in auth {
            let pattern = Pattern::parse(host).context("in tools.http.auth")?;
            ensure!(
                matches!(pattern.hosts, Hosts::One(_)),
                "tools.http.auth: `{host}` means many hosts; a token goes to one"
            );
            ensure!(
                is_variable(variable),
                "tools.http.auth: for `{host}` give the name of an environment variable, not the token (got {} characters)",
                variable.len()
            );
            tokens.push((pattern, variable.clone()));
        }
        Ok(Self {
            allow: patterns.context("in tools.http.allow")?,
            open: open.context("in tools.http.allow_private")?,
            auth: tokens,
            lookup,
            named: OnceLock::new(),
            public: OnceLock::new(),
            config,
        })
    }

    /// How long one call may take.
    pub(super) fn limit(&self) -> Duration {
        Duration::from_millis(self.config.timeout)
    }

    /// Whether hosts may be asked that no operator named: an address can then carry anything to anybody.
    pub(super) fn reaches_anybody(&self) -> bool {
        self.allow.iter().any(|pattern| pattern.hosts == Hosts::Any)
    }

    /// For descriptions that a model reads.
    pub(super) fn describe(&self) -> String {
        text::list(self.config.allow.iter().map(String::as_str), 500)
    }

    /// The address to ask, after all that can be checked before it is resolved.
    ///
    /// # Errors
    /// Why it may not be asked, for the model, with the setting that would allow it.
    pub(super) fn target(&self, url: &canon::Url) -> Result<Url, String> {
        let url = Url::parse(url.as_str()).map_err(|e| format!("that is not an address ({e})"))?;
        self.admit(&url)?;
        Ok(url)
    }

    fn admit(&self, url: &Url) -> Result<Reach, String> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err("only http:// and https:// can be asked".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("an address with a name or password in it is refused: it would end up in logs".to_owned());
        }
        if url.as_str().len() > MAX_URL {
            return Err(format!("the address is longer than {MAX_URL} bytes"));
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err("the address names no host".to_owned());
        };
        let at_port = |pattern: &&Pattern| match pattern.port {
            Some(only) => only == port,
            None => self.config.ports.contains(&port),
        };
        let meant: Vec<&Pattern> = self.allow.iter().filter(|pattern| pattern.means(host)).collect();
        let here: Vec<&Pattern> = meant.iter().copied().filter(at_port).collect();
        let quoted = text::cut(host, 100);
        if here.is_empty() {
            return Err(if self.allow.is_empty() {
                "no host is allowed yet; an operator lists hosts in the setting `tools.http.allow`".to_owned()
            } else if meant.is_empty() {
                format!(
                    "the host `{quoted}` is not in the setting `tools.http.allow` ({})",
                    text::cut(&self.describe(), 120)
                )
            } else {
                format!(
                    "port {port} of `{quoted}` is not allowed; an operator adds `{quoted}:{port}` to the setting \
                     `tools.http.allow`"
                )
            });
        }
        let reach = if here.iter().all(|p| p.hosts == Hosts::Any) { Reach::Public } else { Reach::Named };
        if let Some(ip) = literal(host) {
            // The client connects to an address without asking its resolver.
            address::judge(ip, self.networks(reach)).map_err(|what| closed(host, "is", what))?;
        }
        Ok(reach)
    }

    /// Whether a redirect from one address to another may be followed.
    fn redirected(&self, from: &Url, to: &Url) -> Result<(), String> {
        let admitted = if from.scheme() == "https" && to.scheme() != "https" {
            Err("it leads away from https".to_owned())
        } else {
            self.admit(to).map(|_| ())
        };
        let host = || text::cut(to.host_str().unwrap_or("nowhere"), 100);
        admitted.map_err(|why| format!("it redirects to `{}`, which is refused: {why}", host()))
    }

    fn networks(&self, reach: Reach) -> &[IpNet] {
        match reach {
            Reach::Named => &self.open,
            Reach::Public => &[],
        }
    }

    /// Asks, and follows redirects. The token goes to the host that was named, and to no other one that it
    /// points to: a host with a token of its own is not to be asked with it because another one says so.
    pub(super) async fn get(&self, url: Url) -> Result<Answer, NoAnswer> {
        let deadline = Instant::now() + self.limit();
        let named = url.origin();
        let mut token = self.token(&url)?;
        let mut url = url;
        for _ in 0..=self.config.max_redirects {
            let answer = self.exchange(Method::GET, &url, token.as_deref(), deadline, |request| request).await?;
            // Where none is followed, the caller is told where it points and can ask there, under the rules.
            let followed = answer.location.clone().filter(|_| self.config.max_redirects > 0);
            let Some(next) = followed else { return Ok(answer) };
            self.redirected(&url, &next).map_err(NoAnswer::Lost)?;
            if next.origin() != named {
                token = None;
            }
            url = next;
        }
        Err(NoAnswer::Lost(format!("it redirects more than {} times", self.config.max_redirects)))
    }

    /// Sends a body, once, to that address and to no other: people approved this one, so redirects are not
    /// followed.
    pub(super) async fn post(&self, url: Url, payload: Payload<'_>) -> Result<Answer, NoAnswer> {
        let token = self.token(&url)?;
        let deadline = Instant::now() + self.limit();
        let with = |request: RequestBuilder| {
            request.json(payload.json).header("idempotency-key", payload.idempotency_key.as_str())
        };
        self.exchange(Method::POST, &url, token.as_deref(), deadline, with).await
    }

    /// One request and its answer.
    async fn exchange(
        &self,
        method: Method,
        url: &Url,
        token: Option<&str>,
        deadline: Instant,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, NoAnswer> {
        let client = self.client(self.admit(url).map_err(NoAnswer::NotSent)?)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let mut request = with(client.request(method, url.clone()).timeout(left).header(header::ACCEPT, ACCEPT));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let mut response = request.send().await.map_err(|e| self.no_answer(&e))?;
        let status = response.status();
        let of = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let location = of(header::LOCATION)
            .filter(|_| matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308))
            .and_then(|location| url.join(location).ok())
            .map(plain);
        let content_type = text::one_line(of(header::CONTENT_TYPE).unwrap_or_default(), text::MAX_QUOTE);
        let mut body = Vec::new();
        // The head has arrived, so the status counts even if the body never ends.
        let end = loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let room = self.config.max_bytes - body.len();
                    body.extend(chunk.iter().take(room));
                    if chunk.len() > room {
                        break End::Cut;
                    }
                }
                Ok(None) => break End::Whole,
                Err(_) => break End::BrokenOff,
            }
        };
        if let Some(token) = token {
            body = without(body, token, end != End::Whole);
        }
        Ok(Answer { url: url.clone(), status, content_type, location, body, end })
    }

    fn no_answer(&self, error: &reqwest::Error) -> NoAnswer {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(inner) = cause {
            if let Some(Blocked(why)) = inner.downcast_ref() {
                return NoAnswer::NotSent(why.clone());
            }
            cause = inner.source();
        }
        no_answer(error, self.limit())
    }

    /// The bearer token for exactly this host and port, over https or to an address of this machine.
    fn token(&self, url: &Url) -> Result<Option<String>, NoAnswer> {
        let host = url.host_str().unwrap_or_default();
        let private = url.scheme() == "https" || literal(host).is_some_and(|ip| address::reached(ip).is_loopback());
        let mine = |pattern: &Pattern| {
            pattern.means(host)
                && pattern.port.map_or(url.port().is_none(), |port| url.port_or_known_default() == Some(port))
        };
        let Some((_, variable)) = self.auth.iter().find(|(pattern, _)| private && mine(pattern)) else {
            return Ok(None);
        };
        match std::env::var(variable) {
            Ok(token) if !token.is_empty() => Ok(Some(token)),
            _ => Err(NoAnswer::NotSent(format!(
                "the environment variable {variable} is not set; an operator has to set it"
            ))),
        }
    }

    fn client(&self, reach: Reach) -> Result<&Client, NoAnswer> {
        let cell = match reach {
            Reach::Named => &self.named,
            Reach::Public => &self.public,
        };
        let build = || {
            Client::builder()
                .redirect(redirect::Policy::none())
                .retry(retry::never())
                .no_proxy()
                .referer(false)
                .pool_max_idle_per_host(0)
                .connect_timeout(CONNECT_TIMEOUT)
                .dns_resolver(Checked { lookup: self.lookup.clone(), open: self.networks(reach).into() })
                .user_agent(concat!("twelve/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|e| format!("the HTTP client cannot be built: {e}"))
        };
        cell.get_or_init(build).as_ref().map_err(|e| NoAnswer::NotSent(e.clone()))
    }
}

fn network(written: &str) -> anyhow::Result<IpNet> {
    let one = || written.parse::<IpAddr>().ok().map(IpNet::from);
    let wrong = || format!("`{written}` is not a network such as `10.0.0.0/8`, nor an address");
    written.parse().ok().or_else(one).with_context(wrong)
}

/// Without the fragment, which is not sent, and without the dot that ends an absolute name.
fn plain(mut url: Url) -> Url {
    url.set_fragment(None);
    if let Some(host) = url.host_str().and_then(|host| host.strip_suffix('.')).map(str::to_owned) {
        // What cannot be set stays as it was and matches no pattern.
        let _ = url.set_host(Some(&host));
    }
    url
}

/// A body that repeats the token, without it; if more may have followed, also without its beginning.
fn without(mut body: Vec<u8>, token: &str, more: bool) -> Vec<u8> {
    const INSTEAD: &[u8] = b"[token]";
    let token = token.as_bytes();
    let mut clean = Vec::with_capacity(body.len());
    if more && let Some(part) = (1..token.len()).rev().filter_map(|n| token.get(..n)).find(|part| body.ends_with(part))
    {
        body.truncate(body.len() - part.len());
    }
    let mut rest = body.as_slice();
    while let Some((first, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(token) {
            clean.extend(INSTEAD);
            rest = after;
        } else {
            clean.push(*first);
            rest = after;
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn web(config: HttpToolsConfig) -> Web {
        Web::new(config).unwrap_or_else(|e| panic!("{e:#}"))
    }

    fn allowing(allow: &[&str]) -> HttpToolsConfig {
        let allow = allow.iter().map(|host| (*host).to_owned()).collect();
        HttpToolsConfig { allow, ..HttpToolsConfig::default() }
    }

    #[test]
    fn a_pattern_means_its_hosts_and_ports_however_they_are_written() {
        for (pattern, url, meant) in [
            ("api.example.com", "https://api.example.com/x?y", true),
            ("api.example.com", "http://API.Example.COM./", true),
            ("api.example.com.", "https://api.example.com/", true),
            ("API.example.com", "https://api.example.com/", true),
            ("api.example.com", "https://x.api.example.com/", false),
            ("api.example.com", "https://example.com/", false),
            ("api.example.com", "https://api.example.com.evil.example/", false),
            ("api.example.com", "https://xapi.example.com/", false),
            ("api.example.com", "https://api.example.com:8443/", false),
            ("api.example.com", "https://api.example.com:443/", true),
            ("*.example.com", "https://a.b.example.com/", true),
            ("*.example.com", "https://example.com/", false),
            ("*.example.com", "https://evilexample.com/", false),
            ("*.example.com:8443", "https://a.example.com:8443/", true),
            ("*.example.com:8443", "https://a.example.com/", false),
            ("api.example.com:8443", "https://api.example.com:8443/", true),
            ("api.example.com:80", "http://api.example.com/", true),
            ("api.example.com:80", "https://api.example.com/", false),
            ("api.example.com:443", "https://api.example.com/", true),
            ("b\u{fc}cher.example", "https://xn--bcher-kva.example/", true),
            ("8.8.8.8", "https://8.8.8.8/", true),
            ("134744072", "https://8.8.8.8/", true),
            ("[2606:4700:0:0::1]", "https://[2606:4700::1]/", true),
            ("*", "https://anything.example/", true),
            ("*", "https://anything.example:8080/", false),
            ("*:8080", "http://anything.example:8080/", true),
            ("*:8080", "http://anything.example/", false),
        ] {
            let url = canon::Url::try_from(url.to_owned()).unwrap_or_else(|why| panic!("{url}: {why}"));
            assert_eq!(web(allowing(&[pattern])).target(&url).is_ok(), meant, "{pattern} {url}");
        }
    }

    #[test]
    fn what_is_no_host_is_no_pattern() {
        for pattern in [
            "",
            "https://api.example.com",
            "api.example.com/path",
            "a@b.example",
            "a b",
            "*.",
            "*.*.example",
            "a.*.example",
            "**",
            "*example.com",
            "host:x",
            "host:99999",
            "*.10.0.0.1",
            "a?b",
            "a#b",
            "a\\b",
        ] {
            assert!(Web::new(allowing(&[pattern])).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_redirect_is_not_followed_away_from_https() {
        let web = web(allowing(&["a.example", "b.example"]));
        let redirected = |from: &str, to: &str| {
            web.redirected(&Url::parse(from).unwrap(), &Url::parse(to).unwrap()).err().unwrap_or_default()
        };
        assert_eq!(redirected("https://a.example/", "https://b.example/"), "");
        assert_eq!(redirected("http://a.example/", "https://b.example/"), "");
        assert_eq!(redirected("http://a.example/", "http://b.example/"), "");
        assert_eq!(
            redirected("https://a.example/", "http://a.example/"),
            "it redirects to `a.example`, which is refused: it leads away from https"
        );
        assert_eq!(
            redirected("https://a.example/", "file:///etc/passwd"),
            "it redirects to `nowhere`, which is refused: it leads away from https"
        );
        assert!(redirected("https://a.example/", "https://c.example/").contains("`c.example` is not in the setting"));
        assert!(redirected("https://a.example/", "https://x:y@b.example/").contains("a name or password in it"));
    }

    #[test]
    fn a_token_goes_to_exactly_its_host_over_https_or_within_this_machine() {
        let auth = ["a.example", "b.example:8443", "127.0.0.1:8080", "[::1]", "10.0.0.1"];
        let auth = auth.iter().map(|host| ((*host).to_owned(), "PATH".to_owned())).collect();
        let web = web(HttpToolsConfig { auth, ..allowing(&["*"]) });
        for (url, sent) in [
            ("https://a.example/", true),
            ("https://A.EXAMPLE:443/", true),
            ("https://a.example:8443/", false),
            ("http://a.example/", false),
            ("https://x.a.example/", false),
            ("https://b.example/", false),
            ("https://b.example:8443/", true),
            ("http://b.example:8443/", false),
            ("http://127.0.0.1:8080/", true),
            ("http://127.0.0.1/", false),
            ("http://[::1]/", true),
            ("http://10.0.0.1/", false),
            ("https://10.0.0.1/", true),
        ] {
            let token = web.token(&Url::parse(url).unwrap()).unwrap();
            assert_eq!(token.is_some(), sent, "{url}");
        }
    }

    #[test]
    fn a_body_that_repeats_the_token_comes_back_without_it_even_if_it_was_cut_in_the_middle() {
        let clean = |body: &str, more| String::from_utf8(without(body.into(), "s3cret", more)).unwrap();
        assert_eq!(clean("a s3cret, s3s3cret", false), "a [token], s3[token]");
        assert_eq!(clean("a s3cret, s3cr", true), "a [token], ");
        assert_eq!(clean("s3cr", false), "s3cr");
        assert_eq!(clean("", true), "");
    }
}

//! `twelve healthcheck`: asks the service at the configured address whether it is ready. For containers,
//! which then need no curl.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::inspect::say;
use super::words;
use crate::config::{HttpConfig, Loaded};
use crate::http::ops::SERVICE;

/// How long the whole answer may take. Docker's own default for a check is 30 s.
pub const TIMEOUT: Duration = Duration::from_secs(3);
/// Longest answer that is read, in bytes; ours has some hundred.
const MAX_ANSWER: usize = 64 * 1024;

/// What the service said of itself.
pub struct Health {
    pub ready: bool,
    /// Why not, if it is not.
    pub reasons: Vec<String>,
    pub version: String,
}

/// Asks about requests alone: a supervisor starts what is not healthy again, which mends no Slack.
pub async fn run(loaded: Loaded) -> anyhow::Result<ExitCode> {
    let health = ask(&loaded.config.http, "/readyz/http").await?;
    if !health.ready {
        bail!("not ready: {}", health.reasons.join(" "));
    }
    say(&format!("ready (twelve {})\n", health.version))?;
    Ok(ExitCode::SUCCESS)
}

/// Asks `path`, `/readyz` or `/readyz/http`, at the configured address.
///
/// # Errors
/// Nobody answers there, or somebody who is not us.
pub async fn ask(http: &HttpConfig, path: &str) -> anyhow::Result<Health> {
    if http.port == 0 {
        bail!("`http.port` is 0 (any free port), so it is not known where the service listens; set API_PORT");
    }
    let url = format!("http://{}:{}{path}", reachable(&http.host), http.port);
    // Without TLS no certificates are needed, and a proxy of the environment is not for this machine.
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only([])
        .build()
        .context("no HTTP client could be set up")?;
    let mut response = client.get(&url).send().await.map_err(|e| {
        let why = if e.is_timeout() {
            format!("no answer within {} s", TIMEOUT.as_secs())
        } else {
            "no connection".to_owned()
        };
        anyhow::anyhow!(
            "nothing is served at {url} ({why}); is `twelve serve` running, with this API_HOST and API_PORT?"
        )
    })?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.with_context(|| format!("the answer of {url} broke off"))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER {
            break;
        }
    }
    let stranger =
        || anyhow::anyhow!("something else than twelve answers at {url} (HTTP {status}); set API_PORT to another port");
    let said: Value = serde_json::from_slice(&body).map_err(|_| stranger())?;
    if said["service"] != SERVICE {
        return Err(stranger());
    }
    let reasons = said["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(Health {
        // Both have to say so: a proxy in between could answer with any status.
        ready: status.is_success() && said["ready"] == true,
        reasons: reasons.map(words::quote).collect(),
        version: words::quote(said["version"].as_str().unwrap_or("?")),
    })
}

/// The host under which a listener is reached from this machine: "everywhere" is no address to ask at.
fn reachable(host: &str) -> String {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) if ip.is_unspecified() => "127.0.0.1".to_owned(),
        Ok(IpAddr::V6(ip)) if ip.is_unspecified() => "[::1]".to_owned(),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        Ok(IpAddr::V4(_)) | Err(_) => bare.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everywhere_is_asked_at_this_machine() {
        for (host, asked) in [
            ("0.0.0.0", "127.0.0.1"),
            ("::", "[::1]"),
            ("[::]", "[::1]"),
            ("::1", "[::1]"),
            ("127.0.0.2", "127.0.0.2"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(reachable(host), asked);
        }
    }
}

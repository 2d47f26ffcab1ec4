//! `twelve manifest slack`: what to paste where the app is made.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::bail;

use super::inspect::say;
use crate::config::{Loaded, is_slash_command};
use crate::platform::slack::manifest::{App, MAX_NAME, yaml};

#[derive(clap::Subcommand, Debug)]
pub enum Manifest {
    /// The manifest of the Slack app: for Socket Mode, or for HTTP with --url.
    Slack(SlackArgs),
}

#[derive(clap::Args, Debug)]
pub struct SlackArgs {
    /// Where Slack reaches this service, for example <https://agents.example.com>; left out: Socket Mode.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The name of the app, and of the bot.
    #[arg(long, default_value = "Agent")]
    name: String,
    /// The slash command; left out: `slack.command`.
    #[arg(long, value_name = "/COMMAND")]
    command: Option<String>,
}

pub fn run(command: Manifest, loaded: &Loaded) -> anyhow::Result<ExitCode> {
    let Manifest::Slack(args) = command;
    let slack = &loaded.config.slack;
    let command = args.command.as_deref().unwrap_or(&slack.command);
    if !is_slash_command(command) {
        bail!("`{command}` is no slash command; write it like /agent: letters in lower case, digits, - and _");
    }
    let name = args.name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.contains(char::is_control) {
        bail!("the name of an app has 1 to {MAX_NAME} characters");
    }
    let url = args.url.as_deref().map(public_address).transpose()?;
    if let Some(cut) = url.as_ref().and_then(|url| url.cut) {
        eprintln!("`--url` is where the service is: {cut} is left out of it, since the manifest adds it by itself.");
    }
    if let Some(private) = url.as_ref().and_then(|url| url.private) {
        eprintln!(
            "Warning: {private}, and Slack delivers over the internet: it will not get there. Without `--url` the manifest is for Socket Mode, which needs no address."
        );
    }
    let url = url.map(|url| url.base);
    say(&yaml(&App { name, command, url: url.as_deref() }))?;
    if command != slack.command {
        eprintln!("Set `slack.command` to \"{command}\" too (TWELVE__SLACK__COMMAND), so that answers show it.");
    }
    Ok(ExitCode::SUCCESS)
}

/// Where Slack reaches the service, and what there is to say about it.
#[derive(Debug)]
struct Address {
    /// Without a slash at its end.
    base: String,
    /// The path that was cut off.
    cut: Option<&'static str>,
    /// Why Slack cannot get there; the beginning of a sentence.
    private: Option<&'static str>,
}

/// Where Slack delivers, below the address of the service.
const PATHS: [&str; 3] = ["/slack/events", "/slack/interactions", "/slack/commands"];

/// An address that Slack may be told. It is never quoted when it is refused: it may hold a password.
fn public_address(text: &str) -> anyhow::Result<Address> {
    const LIKE: &str = "write it like https://agents.example.com";
    let text = text.trim();
    if !text.contains("://") {
        bail!("`--url` does not begin with https://; {LIKE}");
    }
    let url = match reqwest::Url::parse(text) {
        Ok(url) => url,
        Err(why) => bail!("`--url` is no URL ({why}); {LIKE}"),
    };
    if url.scheme() != "https" {
        let scheme = url.scheme();
        bail!("`--url` begins with {scheme}://, and Slack delivers to https:// alone; {LIKE}");
    }
    let too_much = [
        (!url.username().is_empty() || url.password().is_some(), "a user or a password before its @"),
        (url.query().is_some(), "a `?` with parameters"),
        (url.fragment().is_some(), "a `#`"),
    ];
    if let Some((_, what)) = too_much.iter().find(|(there, _)| *there) {
        bail!("`--url` has {what}, which no address that Slack delivers to may have; {LIKE}");
    }
    let whole = url.as_str().trim_end_matches('/');
    let cut = PATHS.into_iter().find(|path| whole.ends_with(path));
    let base = cut.and_then(|path| whole.strip_suffix(path)).unwrap_or(whole).trim_end_matches('/').to_owned();
    let private = url.host_str().and_then(private_host);
    Ok(Address { base, cut, private })
}

/// Why nobody on the internet reaches this host, as far as its name tells.
fn private_host(host: &str) -> Option<&'static str> {
    const HERE: &str = "this host is this machine alone";
    const INSIDE: &str = "this host is in a private network";
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    match host.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) if ip.is_loopback() || ip.is_unspecified() => Some(HERE),
        Ok(IpAddr::V4(ip)) => {
            // RFC 6598: between a provider and its customers.
            let shared = matches!(ip.octets(), [100, 64..=127, ..]);
            (ip.is_private() || ip.is_link_local() || shared).then_some(INSIDE)
        }
        Ok(IpAddr::V6(ip)) => (ip.is_unique_local() || ip.is_unicast_link_local()).then_some(INSIDE),
        Err(_) if host == "localhost" || host.ends_with(".localhost") => Some(HERE),
        Err(_) => {
            let inside = [".local", ".internal", ".lan", ".home.arpa"].iter().any(|end| host.ends_with(end));
            (inside || !host.contains('.')).then_some(INSIDE)
        }
    }
}

//! `twelve manifest slack`: what to paste where the app is made.

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
    say(&yaml(&App { name, command, url: url.as_deref() }))?;
    if command != slack.command {
        eprintln!("Set `slack.command` to \"{command}\" too (TWELVE__SLACK__COMMAND), so that answers show it.");
    }
    Ok(ExitCode::SUCCESS)
}

/// An address that Slack may be told, without a slash at its end.
fn public_address(text: &str) -> anyhow::Result<String> {
    let Ok(url) = reqwest::Url::parse(text) else {
        bail!("`--url` is no URL; write it like https://agents.example.com");
    };
    let plain =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if url.scheme() != "https" || !plain {
        bail!("`--url` has to be https://, without a user, `?` and `#`: Slack delivers to nothing else");
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

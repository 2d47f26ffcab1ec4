//! Talking to an agent at this terminal. (in work)
use std::process::ExitCode;

use crate::app::Blueprint;

#[derive(clap::Args, Debug)]
pub struct ChatArgs {
    /// The agent to talk to.
    pub agent: String,
}

#[derive(clap::Args, Debug)]
pub struct RunArgs {
    pub agent: String,
    pub message: String,
}

pub async fn chat(_args: ChatArgs, _blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}

pub async fn run(_args: RunArgs, _blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}

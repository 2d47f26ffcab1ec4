//! Explaining the set-up: tools, factors, prompts, configuration. (in work)
use std::process::ExitCode;

use crate::app::Blueprint;
use crate::config::Loaded;

#[derive(clap::Args, Debug)]
pub struct ToolsArgs {}
#[derive(clap::Args, Debug)]
pub struct InfoArgs {}
#[derive(clap::Subcommand, Debug)]
pub enum Prompts {
    Test,
}
#[derive(clap::Subcommand, Debug)]
pub enum Config {
    Show,
}

pub fn tools(_args: &ToolsArgs, _blueprint: &Blueprint) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
pub fn info(_args: &InfoArgs, _blueprint: &Blueprint) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
pub async fn prompts(_command: Prompts, _blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
pub fn config(_command: Config, _loaded: Loaded) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}

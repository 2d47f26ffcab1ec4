//! Looking at threads, approvals and logs, and deciding. (in work)
use std::process::ExitCode;

use crate::app::Blueprint;

#[derive(clap::Subcommand, Debug)]
pub enum Threads {
    List,
}
#[derive(clap::Subcommand, Debug)]
pub enum Approvals {
    List,
}
#[derive(clap::Subcommand, Debug)]
pub enum Audit {
    Verify,
}

pub async fn threads(_command: Threads, _blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
pub async fn approvals(_command: Approvals, _blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}
pub async fn audit(_command: Audit, _blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}

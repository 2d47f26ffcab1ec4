//! The demo. (in work)
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Play the whole story without a person, and check it.
    #[arg(long)]
    pub script: bool,
}

pub async fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not built yet")
}

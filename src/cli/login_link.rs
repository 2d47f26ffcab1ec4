//! `twelve login-link`: the link by which a person gets into the web console.
//!
//! It needs the secret and nothing else, so it works beside a running service. Whoever can run it with the
//! service's settings can sign in as anybody: it is for operators, and the link for one person's eyes.

use std::process::ExitCode;

use crate::agent::{Principal, span};
use crate::app::Blueprint;
use crate::http::session;
use crate::runtime::Clock;

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Who is to be signed in: a name (`ann`, which is `web:ann`) or an id (`slack:T1:U1`).
    person: String,
}

pub fn run(args: &Args, blueprint: &Blueprint) -> anyhow::Result<ExitCode> {
    let config = blueprint.config();
    let person = config.ids(&blueprint.people).person(&args.person).map_err(anyhow::Error::msg)?;
    let person = Principal::human(person);
    let secret = session::secret(&config.http, &config.app.data_dir)?;
    let token = session::login_token(&secret, &person, Clock::System.now())?;
    super::inspect::say(&format!("{}/login?token={token}\n", config.http.public_url()))?;
    eprintln!("Signs in {} once, within {}. Send it to nobody else.", person.id, span::show(session::LINK_MS));
    Ok(ExitCode::SUCCESS)
}

//! The command line: arguments, exit codes, and one file for each group of commands.
//!
//! Exit codes: 0 done; 1 it failed (the sentence is on stderr); 2 the arguments are wrong (clap);
//! 3 there is no final answer yet: the run waits for people, a timer or a provider, and is kept (`run`).

mod approvals;
mod audit;
mod chat;
mod command;
mod customers;
mod demo;
mod doctor;
mod explain;
mod healthcheck;
mod input;
mod inspect;
mod login_link;
mod manifest;
mod prompts;
mod run;
pub mod screen;
mod serve;
mod threads;
mod token;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::agent::People;
use crate::app::Blueprint;
use crate::{config, telemetry};

/// 12-factor agents that live in chat threads and ask before they act.
#[derive(Parser, Debug)]
#[command(name = "twelve", version, propagate_version = true)]
pub struct Cli {
    /// A settings file, instead of $TWELVE_CONFIG or ./twelve.toml.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// A deployment story in your browser or at this terminal, with a real local service and without any key.
    Demo(demo::Args),
    /// The service: web console, inbox, REST API, webhooks; until it is told to stop.
    Serve(serve::ServeArgs),
    /// Talk to an agent: live steps, approval cards, questions.
    Chat(chat::ChatArgs),
    /// Give an agent one message and wait until it answers or has to wait for people.
    Run(run::RunArgs),
    /// List, show, replay, fork, stop and cancel threads.
    #[command(subcommand)]
    Threads(inspect::Threads),
    /// List, show and decide approvals.
    #[command(subcommand)]
    Approvals(inspect::Approvals),
    /// Verify and export the event logs.
    #[command(subcommand)]
    Audit(inspect::Audit),
    /// Import and search the customers that support agents know.
    #[command(subcommand)]
    Customers(customers::Customers),
    /// List the tickets that support agents opened.
    #[command(subcommand)]
    Tickets(customers::Tickets),
    /// The tools, with risk and policy.
    #[command(alias = "list-tools")]
    Tools(explain::ToolsArgs),
    /// The state of the twelve factors in this configuration.
    Info(explain::InfoArgs),
    /// Render, test and compare prompts.
    #[command(subcommand)]
    Prompts(explain::Prompts),
    /// Look at everything that the program needs: store, models, services, address; what is off and why.
    Doctor(doctor::Args),
    /// Print the manifest of a chat app, to be pasted where the app is made.
    #[command(subcommand)]
    Manifest(manifest::Manifest),
    /// Ask the service at the configured address whether it is ready (for containers).
    Healthcheck,
    /// Print a link that signs a person in to the web console, once.
    LoginLink(login_link::Args),
    /// Show and check the configuration.
    #[command(subcommand)]
    Config(explain::Config),
    /// Make a bearer token for the REST API, or print this machine's (`twelve token local`).
    Token(token::TokenArgs),
    /// A completion script for your shell.
    Completions { shell: clap_complete::Shell },
}

/// How long blocking work may still take once everything else has ended.
const LAST_WAIT: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // One provider for all of TLS; an error only means that a test installed it before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            // What others wrote is quoted in the strict view; whatever is not steers no terminal.
            eprintln!("twelve: {}", crate::agent::visible::prose(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if let Command::Completions { shell } = cli.command {
        let mut command = <Cli as clap::CommandFactory>::command();
        // By way of memory: the generator panics where the output cannot be written.
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, "twelve", &mut script);
        inspect::say(&String::from_utf8_lossy(&script))?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Demo(args) = cli.command {
        // The demo brings a configuration of its own.
        return block_on(demo::run(args));
    }
    if let Command::Token(args) = &cli.command
        && !args.is_local()
    {
        // Settings that cannot be read do not keep anybody from making a token for better ones.
        let prefix = config::Loaded::from_process(cli.config.as_deref()).map(|loaded| loaded.config.http.proxy.prefix);
        let ids = config::Ids { proxy_prefix: prefix.as_deref().unwrap_or("web:"), people: &People::default() };
        return token::token(args, &ids);
    }
    if let Command::Config(explain::Config::Default) = cli.command {
        // Needs no settings, and helps most where those there are cannot be read.
        return explain::config_default();
    }
    let loaded = config::Loaded::from_process(cli.config.as_deref());
    if let Command::Doctor(args) = cli.command {
        // What is wrong with the settings is one of the things that it says.
        return block_on(doctor::run(args, loaded));
    }
    let loaded = loaded?;
    if let Command::Healthcheck = cli.command {
        // Asked every few seconds: no agent and no tool is set up for it.
        return block_on(healthcheck::run(loaded));
    }
    if let Command::Manifest(command) = cli.command {
        return manifest::run(command, &loaded);
    }
    if let Command::Token(args) = &cli.command {
        return token::local(args, &loaded);
    }
    if let Command::Config(command) = cli.command {
        return explain::config(command, loaded);
    }
    telemetry::init(&loaded.config, loaded.secret_filter())?;
    let blueprint = Blueprint::new(loaded)?;
    match cli.command {
        Command::Serve(args) => block_on(serve::run(args, blueprint)),
        Command::Chat(args) => block_on(chat::chat(args, blueprint)),
        Command::Run(args) => block_on(run::run(args, blueprint)),
        Command::Threads(command) => block_on(inspect::threads(command, blueprint)),
        Command::Approvals(command) => block_on(inspect::approvals(command, blueprint)),
        Command::Audit(command) => block_on(inspect::audit(command, blueprint)),
        Command::Prompts(command) => block_on(explain::prompts(command, blueprint)),
        Command::Customers(command) => customers::customers(command, &blueprint),
        Command::Tickets(command) => customers::tickets(command, &blueprint),
        Command::Tools(args) => explain::tools(&args, &blueprint),
        Command::LoginLink(args) => login_link::run(&args, &blueprint),
        Command::Info(args) => block_on(explain::info(args, blueprint)),
        Command::Demo(_)
        | Command::Doctor(_)
        | Command::Healthcheck
        | Command::Manifest(_)
        | Command::Config(_)
        | Command::Token(_)
        | Command::Completions { .. } => Ok(ExitCode::SUCCESS),
    }
}

fn block_on(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(work);
    // A file or a name server that hangs must not keep a process alive that has said goodbye.
    runtime.shutdown_timeout(LAST_WAIT);
    code
}

//! `twelve customers` and `twelve tickets`: the directory that the support tools use, for its operators.
//!
//! These commands work on the directory's own file, not on the store, so they also work while `twelve
//! serve` runs.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::inspect::{say, say_json};
use crate::agent::visible::line as harmless;
use crate::app::Blueprint;
use crate::tools::ToolsConfig;
use crate::tools::directory::{Directory, Imported};
use crate::tools::support::BackEnd;

/// Customers that a search prints, and tickets that a list prints, unless told otherwise.
const SHOWN: usize = 50;

#[derive(clap::Subcommand, Debug)]
pub enum Customers {
    /// Add customers from a CSV file, or change those whose id is known: all of its lines, or none.
    ///
    /// The first line names the columns: `id` has to be there; `name`, `email`, `company`, `plan` and
    /// `notes` are understood, others are kept. Columns and customers that the file does not have stay.
    Import {
        file: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// The customers that an agent would find.
    Search {
        text: String,
        /// How many to print.
        #[arg(long, default_value_t = SHOWN, value_name = "N")]
        limit: usize,
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Subcommand, Debug)]
pub enum Tickets {
    /// The last tickets, newest first.
    List {
        /// How many to print.
        #[arg(long, default_value_t = SHOWN, value_name = "N")]
        limit: usize,
        #[arg(long)]
        json: bool,
    },
}

/// The directory of this configuration.
///
/// # Errors
/// Customers and tickets are somewhere else.
fn directory(blueprint: &Blueprint) -> anyhow::Result<Directory> {
    let config = blueprint.config();
    let tools: ToolsConfig = config.tools.clone().try_into()?;
    if tools.support.backend != BackEnd::Directory {
        bail!(
            "customers and tickets are in the system of [tools.support.http]; \
             this command is for tools.support.backend = \"directory\""
        );
    }
    Ok(Directory::at(&config.app.data_dir))
}

pub fn customers(command: Customers, blueprint: &Blueprint) -> anyhow::Result<ExitCode> {
    let directory = directory(blueprint)?;
    match command {
        Customers::Import { file, json } => {
            let name = file.display();
            let opened = File::open(&file).with_context(|| format!("{name} cannot be opened"))?;
            let progress = |n: usize| eprintln!("{n} customers …");
            let done = directory.import(BufReader::new(opened), progress).with_context(|| name.to_string())?;
            if json {
                say_json(&serde_json::to_value(done)?)?;
            } else {
                let Imported { added, changed, unchanged } = done;
                say(&format!("{added} added, {changed} changed, {unchanged} unchanged, 0 refused\n"))?;
            }
        }
        Customers::Search { text, limit, json } => {
            let found = directory.search(&text, limit)?;
            if json {
                say_json(&json!({ "total": found.total, "customers": found.customers }))?;
                return Ok(ExitCode::SUCCESS);
            }
            if found.total == 0 && directory.count()? == 0 {
                say("there are no customers yet: bring them in with `twelve customers import FILE.csv`\n")?;
                return Ok(ExitCode::SUCCESS);
            }
            let said = crate::tools::support::describe(&text, &found);
            let lines = said.lines().map(|line| harmless(line) + "\n");
            say(&lines.collect::<String>())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub fn tickets(command: Tickets, blueprint: &Blueprint) -> anyhow::Result<ExitCode> {
    let Tickets::List { limit, json } = command;
    let tickets = directory(blueprint)?.tickets(limit)?;
    if json {
        say_json(&tickets.iter().map(serde_json::to_value).collect::<Result<Value, _>>()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if tickets.is_empty() {
        say("there are no tickets yet\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = String::new();
    for t in tickets {
        let customer = t.customer.as_deref().unwrap_or("-");
        let line = format!("{:<8} {}  {:<7} {:<10} {}", t.number, t.opened, t.priority, customer, t.subject);
        out += &harmless(&line);
        out.push('\n');
    }
    say(&out)?;
    Ok(ExitCode::SUCCESS)
}

//! `twelve token`: makes a bearer token, shows it once, and prints the table that makes it known. `twelve token
//! local` prints the one that the service made for programs on its machine.
//!
//! Nothing is kept and nothing is changed: whoever may edit the settings decides who gets in.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::CommandFactory as _;
use clap::error::ErrorKind;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use super::inspect::say;
use crate::config::{Ids, LOCAL, Loaded, Scope, TokenConfig};
use crate::http::auth::scope_word;
use crate::http::secret_file::{LOCAL_TOKEN, fresh_token, local_token};

#[derive(clap::Args, Debug)]
pub struct TokenArgs {
    /// Who it is in logs: `api:<name>`. `local` prints the token of programs on this machine instead.
    name: String,
    /// What it is good for: start, read, resume, approve or admin; can be given several times.
    #[arg(long = "scope", value_name = "SCOPE", value_parser = parse_scope)]
    scopes: Vec<Scope>,
    /// The person whose decisions it brings, for example `web:ann`; the scope approve needs one.
    #[arg(long, value_name = "ID")]
    person: Option<String>,
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    let all = [Scope::Start, Scope::Read, Scope::Resume, Scope::Approve, Scope::Admin];
    all.into_iter().find(|scope| scope_word(*scope) == text).ok_or_else(|| {
        let hint = crate::agent::did_you_mean(text, all.map(scope_word));
        format!("there is no such scope{hint}; scopes: {}", all.map(scope_word).join(", "))
    })
}

impl TokenArgs {
    /// Whether the token of programs on this machine is meant, which the service has made already.
    pub fn is_local(&self) -> bool {
        self.name == LOCAL
    }
}

/// Prints the local token, and nothing else: `$(twelve token local)`.
///
/// # Errors
/// There is none yet, this user may not read it, or scopes were asked for.
pub fn local(args: &TokenArgs, loaded: &Loaded) -> anyhow::Result<ExitCode> {
    if !args.scopes.is_empty() || args.person.is_some() {
        bail!(
            "`local` is the token that the service makes for programs on its machine; it has the scopes start, read and resume. `twelve token local` prints it; for other scopes or a person choose another name"
        );
    }
    let data_dir = &loaded.config.app.data_dir;
    let token = local_token(data_dir)?.with_context(|| {
        format!(
            "there is no local token at {}: the first start of `twelve serve` with these settings makes it",
            data_dir.join(LOCAL_TOKEN.name).display()
        )
    })?;
    say(&format!("{}\n", token.expose_secret()))?;
    Ok(ExitCode::SUCCESS)
}

pub fn token(args: &TokenArgs, ids: &Ids) -> anyhow::Result<ExitCode> {
    let TokenArgs { name, scopes, person } = args;
    if scopes.is_empty() {
        let words = "a token needs a scope: --scope start, read, resume, approve or admin; several are allowed";
        super::Cli::command().error(ErrorKind::MissingRequiredArgument, words).exit();
    }
    if !TokenConfig::is_name(name) {
        bail!("a name has 1 to 64 of a-z, 0-9, `-`, `_` and `.`: it stands in ids and logs");
    }
    match person {
        Some(person) => drop(ids.person(person).map_err(anyhow::Error::msg)?),
        None if scopes.contains(&Scope::Approve) => {
            bail!("only people decide: name the person whose decisions this token brings, for example --person web:ann")
        }
        None => {}
    }
    let token = fresh_token()?;
    say(&shown(name, scopes, person.as_deref(), &token)?)?;
    Ok(ExitCode::SUCCESS)
}

fn shown(name: &str, scopes: &[Scope], person: Option<&str>, token: &str) -> anyhow::Result<String> {
    let mut words: Vec<&str> = Vec::new();
    for word in scopes.iter().map(|scope| scope_word(*scope)) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    let mut table = toml::Table::new();
    table.insert("name".to_owned(), name.into());
    table
        .insert("hash".to_owned(), format!("sha256:{}", data_encoding::HEXLOWER.encode(&Sha256::digest(token))).into());
    table.insert("scopes".to_owned(), words.into());
    if let Some(person) = person {
        table.insert("person".to_owned(), person.into());
    }
    Ok(format!(
        "# The token. It is shown this once and kept nowhere; give it to the program that uses it.\n{token}\n\n# What the settings file needs, for the service to know it:\n[[http.tokens]]\n{}",
        toml::to_string(&table)?
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_what_the_settings_take() {
        let shown = shown("ci", &[Scope::Start, Scope::Start, Scope::Approve], Some("web:ann"), "twelve_x").unwrap();
        insta::assert_snapshot!(shown, @r#"
        # The token. It is shown this once and kept nowhere; give it to the program that uses it.
        twelve_x

        # What the settings file needs, for the service to know it:
        [[http.tokens]]
        hash = "sha256:8e5874fe047dd09f593aa17ad948ddf78415d60cb019dc3a5d050d47f244275d"
        name = "ci"
        person = "web:ann"
        scopes = ["start", "approve"]
        "#);
        let file = ("twelve.toml", shown.split_once("[[").map(|(_, table)| format!("[[{table}")).unwrap());
        let sources = crate::config::layers::Sources { file: Some((file.0, &file.1)), ..Default::default() };
        let config = crate::config::Loaded::from_sources(&sources).unwrap().config;
        assert_eq!(config.http.tokens[0].digest(), Some(Sha256::digest("twelve_x").to_vec()));
    }

    #[test]
    fn a_wrong_scope_is_told_the_right_ones() {
        assert_eq!(
            parse_scope("aprove").unwrap_err(),
            "there is no such scope; did you mean `approve`?; scopes: start, read, resume, approve, admin"
        );
    }
}

//! `twelve token`: makes a bearer token, shows it once, and prints the table that makes it known.
//!
//! Nothing is kept and nothing is changed: whoever may edit the settings decides who gets in.

use std::process::ExitCode;

use anyhow::bail;
use sha2::{Digest as _, Sha256};

use super::inspect::say;
use crate::config::{Ids, Scope, TokenConfig};
use crate::http::auth::scope_word;
use crate::http::session::random;

/// What tokens begin with, so that people and scanners of secrets know one when they see it.
const PREFIX: &str = "twelve_";
/// Bytes of chance in a token.
const BYTES: usize = 32;

#[derive(clap::Args, Debug)]
pub struct TokenArgs {
    /// Who it is in logs: `api:<name>`.
    name: String,
    /// What it is good for: start, read, resume, approve or admin; can be given several times.
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_parser = parse_scope)]
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

pub fn token(args: &TokenArgs, ids: &Ids) -> anyhow::Result<ExitCode> {
    let TokenArgs { name, scopes, person } = args;
    if !TokenConfig::is_name(name) {
        bail!("a name has 1 to 64 of a-z, 0-9, `-`, `_` and `.`, and is not `local`: it stands in ids and logs");
    }
    match person {
        Some(person) => drop(ids.person(person).map_err(anyhow::Error::msg)?),
        None if scopes.contains(&Scope::Approve) => {
            bail!("only people decide: name the person whose decisions this token brings, for example --person web:ann")
        }
        None => {}
    }
    let chance: [u8; BYTES] = random()?;
    let token = format!("{PREFIX}{}", data_encoding::BASE64URL_NOPAD.encode(&chance));
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

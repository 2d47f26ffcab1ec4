//! `check_service_status`: how a configured service is, in one or all of its environments.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::task::JoinSet;

use super::services::Services;
use super::{Boxed, CallContext, Tool, schema_of, text, typed};
use crate::agent::{Outcome, Risk, ToolFacts};

/// Probes configured services only: a model cannot name an address.
pub struct CheckServiceStatus {
    facts: ToolFacts,
    schema: Value,
    services: Arc<Services>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// Name of a configured service.
    #[schemars(length(min = 1, max = 64))]
    service: String,
    /// Name of one of its environments; all of them if left out.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    environment: Option<String>,
}

impl CheckServiceStatus {
    pub fn new(services: Arc<Services>) -> Self {
        let facts = ToolFacts {
            name: "check_service_status".to_owned(),
            description: format!(
                "Check whether a service is up, how fast it answers and which version runs. Services (environments): {}.",
                services.describe(services.iter())
            ),
            schema_version: 1,
            risk: Risk::Low,
            side_effects: false,
            idempotent: true,
            plans: false,
            editable: true,
            outside: false,
            sends: false,
            target: Vec::new(),
        };
        Self { facts, schema: schema_of::<Args>(), services }
    }
}

impl Tool for CheckServiceStatus {
    fn facts(&self) -> &ToolFacts {
        &self.facts
    }

    fn schema(&self) -> &Value {
        &self.schema
    }

    fn timeout(&self) -> Duration {
        // Probe and version are read at the same time; the rest is for a busy machine.
        self.services.probe_limit() + super::command::KILL_GRACE + Duration::from_secs(5)
    }

    fn title(&self, args: &Value) -> String {
        match typed::<Args>(args) {
            Ok(Args { service, environment: Some(environment) }) => format!("Check {service} in {environment}"),
            Ok(Args { service, environment: None }) => format!("Check {service}"),
            Err(_) => "Check a service".to_owned(),
        }
    }

    fn check(&self, args: &Value) -> Result<(), String> {
        let Args { service, environment } = typed(args)?;
        let found = self.services.service(&service)?;
        environment.map_or(Ok(()), |name| Services::environment((&service, found), &name).map(|_| ()))
    }

    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let work = async {
                let Args { service, environment } = typed(args)?;
                let found = self.services.service(&service)?;
                let names: Vec<String> = match environment {
                    Some(name) => vec![name],
                    None => found.environments.keys().cloned().collect(),
                };
                let mut probes = JoinSet::new();
                for name in names {
                    let environment = Services::environment((&service, found), &name)?.clone();
                    let (services, service, cancel) = (self.services.clone(), service.clone(), call.cancel.clone());
                    probes.spawn(async move {
                        let (health, version) = tokio::join!(
                            services.probe(&environment),
                            services.version(&service, (&name, &environment), &cancel)
                        );
                        let mut line = format!("{service} {name}: ");
                        line.push_str(if health.healthy { "healthy" } else { "NOT healthy" });
                        let _ = write!(line, ", {} in {} ms", health.what, health.ms);
                        if environment.version.is_some() {
                            let _ = match version {
                                Ok(version) => write!(line, ", version {version}"),
                                Err(why) => write!(line, ", version not known ({})", text::one_line(&why, 80)),
                            };
                        }
                        (name, line)
                    });
                }
                let mut lines = probes.join_all().await;
                lines.sort();
                Ok::<_, String>(lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n"))
            };
            // Dropping the work ends its probes.
            tokio::select! {
                done = work => match done {
                    Ok(text) => Outcome::Succeeded { text },
                    Err(error) => Outcome::Failed { error },
                },
                () = call.cancel.cancelled() => Outcome::Failed { error: "stopped before it was done".to_owned() },
            }
        })
    }
}

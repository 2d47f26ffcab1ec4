//! `check_service_status`: how a configured service is, in one or all of its environments.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;

use super::canon::{self, Kind};
use super::services::{MAX_ENVIRONMENTS, Services};
use super::{Boxed, CallContext, Spec, Tool, Values, text, typed, written};
use crate::agent::Outcome;

/// Probes configured services only: a model cannot name an address.
pub struct CheckServiceStatus {
    spec: Spec,
    services: Arc<Services>,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// Name of a configured service.
    service: canon::Service,
    /// Name of one of its environments, or several; all of them if left out.
    #[serde(default)]
    environment: Option<Places>,
}

/// Environments. Canonical arguments name each that is looked at, so that a rule on one of them sees it: a text for
/// one, a list in order for several.
#[derive(Clone, Deserialize, Serialize)]
#[serde(untagged)]
enum Places {
    One(canon::Environment),
    Several(Vec<canon::Environment>),
}

impl JsonSchema for Places {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Places")
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"], "minLength": 1, "x-kind": Kind::Environment.word(),
            "items": canon::Environment::json_schema(generator), "minItems": 1, "maxItems": MAX_ENVIRONMENTS,
        })
    }
}

impl From<Vec<canon::Environment>> for Places {
    fn from(mut names: Vec<canon::Environment>) -> Self {
        names.sort();
        names.dedup();
        match <[_; 1]>::try_from(names) {
            Ok([one]) => Self::One(one),
            Err(several) => Self::Several(several),
        }
    }
}

impl Places {
    fn names(&self) -> &[canon::Environment] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

impl CheckServiceStatus {
    pub fn new(services: Arc<Services>) -> Self {
        let description = format!(
            "Check whether a service is up, how fast it answers and which version runs. Services (environments): {}.",
            services.describe(services.iter())
        );
        // Of what a service answers only its status is repeated, and a version that is one plain word.
        let spec = Spec::of::<Args>("check_service_status", description).own_words();
        let spec = spec.target(&["service", "environment"]);
        Self { spec, services }
    }
}

impl Tool for CheckServiceStatus {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn timeout(&self) -> Duration {
        // Probe and version are read at the same time; the rest is for a busy machine.
        self.services.probe_limit() + super::command::KILL_GRACE + Duration::from_secs(5)
    }

    fn title(&self, args: &Value) -> String {
        match typed::<Args>(args) {
            Ok(Args { service, environment: Some(places) }) => {
                let names: Vec<&str> = places.names().iter().map(canon::Environment::as_str).collect();
                format!("Check {service} in {}", names.join(", "))
            }
            Ok(Args { service, environment: None }) => format!("Check {service}"),
            Err(_) => "Check a service".to_owned(),
        }
    }

    fn check(&self, args: &Value) -> Result<Value, String> {
        self.services.named(args)?;
        let Args { service, environment } = typed(args)?;
        let found = self.services.service(service.as_str())?;
        let names = match environment {
            Some(places) => places.names().to_vec(),
            None => found.environments.keys().cloned().map(canon::Environment::try_from).collect::<Result<_, _>>()?,
        };
        for name in &names {
            Services::environment((service.as_str(), found), name.as_str())?;
        }
        written(&Args { service, environment: Some(names.into()) })
    }

    fn known(&self, kind: Kind) -> Option<Values> {
        self.services.known(kind, |_| true)
    }

    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome> {
        Box::pin(async move {
            let work = async {
                let Args { service, environment } = typed(args)?;
                let service = String::from(service);
                let found = self.services.service(&service)?;
                let mut probes = JoinSet::new();
                for name in environment.iter().flat_map(|places| places.names()) {
                    let name = name.to_string();
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

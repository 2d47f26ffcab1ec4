//! Tools: the one open set of the program, hence the one trait.
//!
//! This module owns what a tool is, the [`Registry`] that knows them, validation of arguments, output
//! caps and timeouts. It does not decide whether a call may run: that is the core's gate
//! ([`crate::agent`]), and the runtime asks it before it calls [`Registry::run`].

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::agent::{EffectId, Outcome, Plan, Timestamp, ToolFacts};

/// A boxed future, so that the trait is object safe.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a running call is given besides its arguments.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// Idempotency key: the same for every attempt of this call.
    pub effect: EffectId,
    /// The moment at which the runtime started the call.
    pub now: Timestamp,
    /// Fires when the run is cancelled or the process drains; a tool that can stop, stops.
    pub cancel: CancellationToken,
}

/// Something an agent can do.
pub trait Tool: Send + Sync {
    fn facts(&self) -> &ToolFacts;

    /// JSON schema of the arguments, without `$ref`, `additionalProperties: false`.
    fn schema(&self) -> &Value;

    /// How long one call may take.
    fn timeout(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// One sentence saying what the call does, for the card's first line: "Deploy api v1.2.3 to staging".
    fn title(&self, args: &Value) -> String;

    /// Checks beyond the schema that need no I/O (known service, allowed version). Short text for the model.
    fn check(&self, _args: &Value) -> Result<(), String> {
        Ok(())
    }

    /// What the call would do right now. Only called if `facts().plans`.
    fn plan<'a>(&'a self, _args: &'a Value) -> Boxed<'a, Result<Plan, String>> {
        Box::pin(async { Err("this tool has no plan".to_owned()) })
    }

    /// Does it.
    fn run<'a>(&'a self, args: &'a Value, call: &'a CallContext) -> Boxed<'a, Outcome>;
}

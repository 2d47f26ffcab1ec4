//! What a tool says of itself, in one place: facts, schema, and the type that its arguments are read into.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{canon, schema_of, typed, written};
use crate::agent::{Risk, ToolFacts};

/// A tool's facts and how its arguments are written.
pub struct Spec {
    pub facts: ToolFacts,
    pub schema: Value,
    read: fn(&Spec, &Value) -> Result<Value, String>,
}

impl Spec {
    /// A tool that only reads, may run twice and whose output was written outside, with arguments of this type. What
    /// differs is said by the methods below.
    pub fn of<A: JsonSchema + Serialize + DeserializeOwned>(name: &str, description: impl Into<String>) -> Self {
        let facts = ToolFacts {
            name: name.to_owned(),
            description: description.into(),
            schema_version: 1,
            risk: Risk::Low,
            side_effects: false,
            idempotent: true,
            plans: false,
            editable: true,
            outside: true,
            sends: false,
            target: Vec::new(),
        };
        let read = |_: &Spec, args: &Value| written(&typed::<A>(args)?);
        Self { facts, schema: schema_of::<A>(), read }
    }

    /// A tool whose arguments are described by a schema and have no type: they are canonical by the kinds that the
    /// schema declares ([`canon::KEYWORD`]).
    pub fn described(facts: ToolFacts, schema: Value) -> Self {
        Self { facts, schema, read: |spec, args| canon::declared(&spec.schema, args) }
    }

    /// Calls change something outside, and running one twice is not running it once.
    pub fn acts(mut self, risk: Risk) -> Self {
        self.facts = ToolFacts { side_effects: true, idempotent: false, risk, ..self.facts };
        self
    }

    /// Running a call twice equals running it once, although it changes something.
    pub fn idempotent(mut self) -> Self {
        self.facts.idempotent = true;
        self
    }

    /// The tool can say beforehand what a call would do.
    pub fn plans(mut self) -> Self {
        self.facts.plans = true;
        self
    }

    /// All of the output is the tool's own words: nothing that another program, machine or person wrote is in it.
    pub fn own_words(mut self) -> Self {
        self.facts.outside = false;
        self
    }

    /// Calls can reach strangers.
    pub fn sends(mut self, sends: bool) -> Self {
        self.facts.sends = sends;
        self
    }

    /// The arguments that say what a call is about.
    pub fn target(mut self, arguments: &[&str]) -> Self {
        self.facts.target = arguments.iter().map(|name| (*name).to_owned()).collect();
        self
    }

    /// Arguments that fit the schema, as this tool writes them.
    ///
    /// # Errors
    /// What cannot be read, or has no canonical form, for the model.
    pub fn canonical(&self, args: &Value) -> Result<Value, String> {
        (self.read)(self, args)
    }
}

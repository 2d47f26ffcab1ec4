//! What starts agents without a person at a surface: signed webhooks and schedules.
//!
//! This room owns what the section `[triggers]` means: which request is a webhook's, what its message
//! says, when a schedule is due, and that each delivery and each scheduled time starts its agent once. It
//! keeps no state of its own. The id of the thread is derived from the delivery's id or from the scheduled
//! time, so the second of two finds the thread of the first, however much later and after however many
//! restarts. How a request arrives is not known here (`http::webhooks`); what an agent does with the
//! message is nobody's business here.
//!
//! | file | owns |
//! |---|---|
//! | `webhook` | signatures, the message template, the thread of a delivery |
//! | `schedule` | cron times in a time zone, what is due, the loop that fires it |

mod schedule;
mod webhook;

use secrecy::SecretString;

use crate::agent::{Agents, Principal, did_you_mean};
use crate::config::TriggersConfig;

pub use schedule::{Handled, MAX_LOOK_MS, Schedule, fire_due, run_schedules};
pub use webhook::{MAX_ID, MIN_SECRET, Signed, StartError, Started, TOLERANCE_MS, TemplateError, Unsigned, Webhook};

/// Longest name of a webhook or schedule: it is part of thread ids.
pub const MAX_NAME: usize = 64;

/// Everything in the section `[triggers]`, checked and compiled.
#[derive(Debug, Default)]
pub struct Triggers {
    webhooks: Vec<Webhook>,
    schedules: Vec<Schedule>,
    /// How far back a time may lie and still be made up for, in milliseconds.
    catch_up_ms: u64,
}

impl Triggers {
    /// Compiles the section. `variable` gives the value of an environment variable that is set.
    ///
    /// A signing secret that is not set is no error here, since commands that only look do without it;
    /// [`Triggers::missing`] names it, and until then the webhook takes nothing.
    ///
    /// # Errors
    /// Everything else that is wrong, one sentence each.
    pub fn new<'a>(
        config: &TriggersConfig,
        agents: &Agents,
        variable: impl Fn(&str) -> Option<&'a SecretString>,
    ) -> Result<Self, Vec<String>> {
        let mut problems = Vec::new();
        let (mut webhooks, mut schedules): (Vec<Webhook>, Vec<Schedule>) = Default::default();
        for given in &config.webhooks {
            let mut wrong = |why: String| problems.push(format!("webhook `{}`: {why}", given.name));
            check_name(&given.name, webhooks.iter().map(Webhook::name)).unwrap_or_else(&mut wrong);
            check_agent(&given.agent, agents).unwrap_or_else(&mut wrong);
            match Webhook::new(given, variable(&given.secret_env)) {
                Ok(new) => {
                    if let Some(other) = webhooks.iter().find(|other| other.has_key_of(&new)) {
                        wrong(format!(
                            "it has the secret of `{}`; each needs its own, since the name in the address is not signed",
                            other.name()
                        ));
                    }
                    webhooks.push(new);
                }
                Err(all) => all.into_iter().for_each(wrong),
            }
        }
        for given in &config.schedules {
            let mut wrong = |why: String| problems.push(format!("schedule `{}`: {why}", given.name));
            check_name(&given.name, schedules.iter().map(Schedule::name)).unwrap_or_else(&mut wrong);
            check_agent(&given.agent, agents).unwrap_or_else(&mut wrong);
            match Schedule::new(given) {
                Ok(new) => schedules.push(new),
                Err(all) => all.into_iter().for_each(wrong),
            }
        }
        if problems.is_empty() { Ok(Self { webhooks, schedules, catch_up_ms: config.catch_up }) } else { Err(problems) }
    }

    pub fn webhooks(&self) -> &[Webhook] {
        &self.webhooks
    }

    pub fn schedules(&self) -> &[Schedule] {
        &self.schedules
    }

    /// What has to be set before the service may start: one sentence for each webhook without a secret.
    pub fn missing(&self) -> Vec<String> {
        self.webhooks.iter().filter_map(Webhook::missing).collect()
    }
}

fn check_name<'a>(name: &str, mut taken: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(allowed) {
        return Err(format!("a name is made of 1 to {MAX_NAME} letters, digits, - and _"));
    }
    if taken.any(|other| other == name) {
        return Err("another one has this name; threads are named after it, so names differ".to_owned());
    }
    Ok(())
}

fn check_agent(name: &str, agents: &Agents) -> Result<(), String> {
    if agents.names().any(|known| known == name) {
        return Ok(());
    }
    let known = agents.names().collect::<Vec<_>>().join(", ");
    Err(format!("no agent is called `{name}`{} (agents: {known})", did_you_mean(name, agents.names())))
}

/// The program that speaks for a trigger.
fn program(id: String) -> Principal {
    Principal::service(id)
}

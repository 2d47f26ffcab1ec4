//! Performing effects: one function for each kind. Every result goes back through `deliver`.
//!
//! A result that cannot be appended now (a full disk, say) is kept and tried again until it can, or
//! until the process stops: what a tool has done must not be forgotten while there is a way to keep it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{DeliverError, Providers, Runtime, Slot, crash};
use crate::agent::*;
use crate::llm::Provider;
use crate::metrics::ToolOutcome;
use crate::platform::{self, Post};
use crate::store::StoreError;
use crate::tools::{CallContext, Registry};

/// Waits between attempts to append a result: doubled from the first to the last.
const RESULT_RETRY_FIRST: Duration = Duration::from_millis(100);
const RESULT_RETRY_LAST: Duration = Duration::from_secs(5);

impl Runtime {
    pub(super) async fn perform(&self, slot: &Arc<Slot>, id: EffectId, effect: &Effect, give_up: &CancellationToken) {
        let result = match effect {
            Effect::CallModel => self.call_model(slot, id, give_up).await,
            Effect::PlanTool { call } => self.plan_tool(slot, id, *call).await,
            Effect::RunTool { call } => self.run_tool(slot, id, *call, give_up).await,
            Effect::Post { posting } => self.post(slot, id, posting).await,
            Effect::Gather { attached, .. } => self.gather(slot, id, attached, give_up).await,
            Effect::Handle => match self.handle(slot, id).await {
                Some(input) => Some(input),
                // It may be tried again once the lease is over: at once, it would only fail again.
                None => {
                    slot.state.lock().await.in_flight.remove(&id);
                    return;
                }
            },
        };
        match result {
            Some(input) => self.deliver_result(slot, id, input).await,
            // Nothing came of it: it is no longer wanted, has to wait, or the process is stopping.
            None => self.put_back(slot, id).await,
        }
    }

    async fn deliver_result(&self, slot: &Arc<Slot>, id: EffectId, input: Input) {
        let mut wait = RESULT_RETRY_FIRST;
        loop {
            let error = match self.deliver_to(slot.short, None, input.clone(), Some(id)).await {
                Ok(_) => return,
                // Somebody wanted it gone, with all that was still on its way.
                Err(DeliverError::Store(StoreError::Deleted(_))) => {
                    slot.state.lock().await.in_flight.remove(&id);
                    return;
                }
                Err(error) => error,
            };
            tracing::error!(thread.id = %slot.short, effect.id = %id, %error, "a result could not be recorded");
            if !may_pass(&error) {
                slot.state.lock().await.in_flight.remove(&id);
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.0.stop.cancelled() => return,
            }
            wait = (wait * 2).min(RESULT_RETRY_LAST);
        }
    }

    async fn put_back(&self, slot: &Arc<Slot>, id: EffectId) {
        let mut state = slot.state.lock().await;
        state.in_flight.remove(&id);
        if let Some(thread) = state.thread.take() {
            self.dispatch(slot, &mut state, &thread);
            state.thread = Some(thread);
        }
    }

    /// Reads the thread, if this effect is still to be performed now.
    pub(super) async fn look<T>(&self, slot: &Slot, id: EffectId, read: impl FnOnce(&Thread) -> T) -> Option<T> {
        let mut state = slot.state.lock().await;
        let thread = match state.thread.take() {
            Some(thread) => thread,
            None => match self.load(slot.short, None).await {
                Ok(thread) => {
                    state.untried.clear();
                    thread
                }
                Err(DeliverError::Store(StoreError::Deleted(_))) => return None,
                Err(error) => {
                    tracing::error!(thread.id = %slot.short, %error, "a thread cannot be read");
                    return None;
                }
            },
        };
        let wanted = thread.runnable().any(|(runnable, _)| runnable == id);
        let seen = wanted.then(|| read(&thread));
        state.thread = Some(thread);
        seen
    }

    async fn call_model(&self, slot: &Slot, id: EffectId, give_up: &CancellationToken) -> Option<Input> {
        let (agent, window, seen) = self.look(slot, id, |t| (t.agent.clone(), t.window.render(), t.version)).await?;
        let failed = |kind, message: String| {
            Some(Input::ModelFailed { effect: id, error: ModelError { kind, message, retry_after_ms: None } })
        };
        let agent = match self.0.parts.agents.get(&agent) {
            Ok(agent) => agent,
            Err(unknown) => return failed(ModelErrorKind::Rejected, unknown.to_string()),
        };
        let (provider, request) = match self.model_request(agent, window) {
            Ok(found) => found,
            Err(why) => return failed(ModelErrorKind::Rejected, why),
        };
        let sent = request.text_bytes() as u64;
        crash::point("model.before_call");
        let started = Instant::now();
        let reply = tokio::select! {
            reply = provider.complete(&request) => reply,
            () = give_up.cancelled() => return None,
            () = self.0.stop.cancelled() => return None,
        };
        crash::point("model.after_call");
        let took = started.elapsed();
        let (duration_ms, metrics) = (took.as_millis() as u64, &self.0.parts.metrics);
        match reply {
            Ok(reply) => {
                metrics.model_replied(provider.name(), took, reply.usage.input, reply.usage.output);
                tracing::debug!(
                    thread.id = %slot.short, provider = provider.name(), duration_ms,
                    tokens.input = reply.usage.input, tokens.output = reply.usage.output, "the model replied"
                );
                let propose = |c: &RawCall| self.propose_as(&agent.spec, &c.tool, &c.arguments);
                let calls: Vec<_> = reply.calls.iter().map(propose).collect();
                for call in calls.iter().filter(|call| call.checked.is_err()) {
                    metrics.tool_call(&call.tool, ToolOutcome::Invalid);
                }
                let model = ModelStamp {
                    provider: provider.name().to_owned(),
                    model: if reply.model.is_empty() { request.model } else { reply.model },
                    prompt: agent.prompt_digest(),
                };
                let ModelReply { text, finish, usage, .. } = reply;
                Some(Input::Replied { effect: id, seen, text, calls, finish, usage, model, sent })
            }
            Err(error) => {
                metrics.model_failed(provider.name(), failure_word(error.kind), took);
                tracing::warn!(thread.id = %slot.short, provider = provider.name(), duration_ms, %error, "the model did not answer");
                Some(Input::ModelFailed { effect: id, error })
            }
        }
    }

    /// The request for an agent and a rendered window, and who it would go to.
    pub fn model_request(&self, agent: &Agent, window: String) -> Result<(&Provider, ModelRequest), String> {
        model_request(&self.0.parts.providers, &self.0.parts.tools, agent, window)
    }

    async fn plan_tool(&self, slot: &Slot, id: EffectId, call: CallId) -> Option<Input> {
        let (tool, args) = self.look(slot, id, |t| call_of(t, call)).await??;
        let plan = self.0.parts.tools.plan(&tool, &args).await;
        crash::point("plan.after_call");
        Some(Input::Planned { effect: id, plan })
    }

    /// Plans again if people approved a plan, passes the gate, runs. Only [`Answer::Go`] runs anything.
    async fn run_tool(
        &self,
        slot: &Arc<Slot>,
        id: EffectId,
        call: CallId,
        give_up: &CancellationToken,
    ) -> Option<Input> {
        let (gated, started) =
            self.look(slot, id, |t| t.calls.get(&call).map(|c| (c.gated.clone(), c.stage == Stage::Started))).await??;
        let asked = matches!(gated.verdict, Verdict::Ask { .. });
        // Declared so when it started, and still: as the gate will see it.
        let rerunnable = gated.is_idempotent();
        let GatedCall { tool, args, .. } = gated;
        let Some(facts) = self.0.parts.tools.facts(&tool).cloned() else {
            let outcome = Outcome::Failed { error: format!("the tool `{tool}` does not exist any more") };
            return Some(if started {
                Input::Lost { effect: id }
            } else {
                Input::Finished { effect: id, outcome, duration_ms: 0 }
            });
        };
        if started && !(facts.idempotent && rerunnable) {
            self.0.parts.metrics.tool_call(&tool, ToolOutcome::Unknown);
            return Some(Input::Lost { effect: id });
        }
        let plan =
            if asked && facts.plans && !started { Some(self.0.parts.tools.plan(&tool, &args).await) } else { None };
        crash::point("tool.before_start");
        let gate = Input::Start { effect: id, facts, plan };
        let (tool, args) = match self.deliver_to(slot.short, None, gate, None).await {
            Ok(delivered) => match delivered.answer {
                Answer::Go { tool, args } => (tool, args),
                Answer::Accepted | Answer::Duplicate | Answer::Stale | Answer::Refused(_) => return None,
            },
            // The next process starts it.
            Err(DeliverError::Draining) => return None,
            Err(error) => {
                tracing::error!(thread.id = %slot.short, effect.id = %id, %error, "the gate could not be passed");
                return None;
            }
        };
        crash::point("tool.after_start");
        let context = CallContext { effect: id, now: self.now(), cancel: give_up.clone() };
        let started = Instant::now();
        let outcome = self.0.parts.tools.run(&tool, &args, &context).await;
        let duration_ms = started.elapsed().as_millis() as u64;
        self.0.parts.metrics.tool_call(&tool, counted(&outcome));
        crash::point("tool.after_run");
        tracing::debug!(thread.id = %slot.short, tool.name = tool, duration_ms, "a tool has run");
        Some(Input::Finished { effect: id, outcome, duration_ms })
    }

    /// Reading changes nothing outside: it may be broken off at any moment, and done again by the next process.
    /// Waits, for a bounded time, for a surface that is being connected: after a start, what a crash left over comes
    /// before it. `None`: the process stops.
    pub(super) async fn connected(&self, thread: &ThreadId) -> Option<()> {
        tokio::select! {
            () = self.0.parts.platforms.ready(thread) => Some(()),
            () = self.0.stop.cancelled() => None,
        }
    }

    async fn gather(
        &self,
        slot: &Slot,
        id: EffectId,
        attached: &[Attached],
        give_up: &CancellationToken,
    ) -> Option<Input> {
        let thread = self.look(slot, id, |t| t.id.clone()).await?;
        self.connected(&thread).await?;
        let read = async {
            let mut texts = Vec::new();
            for each in attached {
                texts.extend(self.0.surfaces.gather(&thread, each).await);
            }
            texts
        };
        let texts = tokio::select! {
            texts = read => texts,
            () = give_up.cancelled() => return None,
            () = self.0.stop.cancelled() => return None,
        };
        crash::point("gather.after");
        Some(Input::Gathered { effect: id, texts })
    }

    async fn post(&self, slot: &Slot, id: EffectId, posting: &Posting) -> Option<Input> {
        let thread = self.look(slot, id, |t| t.id.clone()).await?;
        self.connected(&thread).await?;
        let about = match posting {
            Posting::Answer { seq } | Posting::Notice { seq } => {
                match self.0.parts.store.load(slot.short, seq.saturating_sub(1)).await {
                    Ok(loaded) => loaded.events.first().and_then(|bytes| Event::decode(bytes, *seq).ok()),
                    // An event in the log with a time for the next attempt; trying at once would spin.
                    Err(error) => {
                        tracing::error!(thread.id = %slot.short, effect.id = %id, %error, "what is to be posted cannot be read");
                        let error = "what is to be shown cannot be read from the store".to_owned();
                        return Some(Input::PostFailed { effect: id, error, transient: true, retry_after_ms: None });
                    }
                }
            }
            Posting::Card { .. } | Posting::Question { .. } | Posting::Unknown { .. } => None,
        };
        let platforms = &self.0.parts.platforms;
        let (thread, outbound, replaces, step, people, failed) = self
            .look(slot, id, |t| {
                let step = if platforms.batches(t.id.surface()) { platform::step(t, posting) } else { Vec::new() };
                let stands = |posting: &Posting| t.posts.get(posting).and_then(|p| p.reference.clone());
                let sibling = |card: &platform::Card| stands(&Posting::Card { approval: card.approval.id });
                let siblings = step.iter().filter_map(sibling);
                // A message that cards of another place share is theirs: an edit may have moved this one away.
                let theirs = platform::of_other_places(t, posting);
                let own = stands(posting).map(|references| platform::without(&references, &theirs));
                let reference = platform::together(own.into_iter().chain(siblings));
                let outbound = platform::outbound(t, posting, about.as_ref());
                let failed = t.posts.get(posting).is_some_and(|p| p.attempts > 0);
                (t.id.clone(), outbound, reference, step, platform::people(t, posting), failed)
            })
            .await?;
        // Nothing to show any more counts as shown.
        let Some(outbound) = outbound else {
            return Some(Input::Posted { effect: id, reference: replaces.unwrap_or_default() });
        };
        crash::point("post.before_send");
        let stands = replaces.is_some();
        // What an earlier attempt left, whether of this process or of one that has died, stands perhaps.
        let again = failed || !slot.state.lock().await.untried.remove(&id);
        let post = Post { thread, outbound, replaces, posting: posting.clone(), key: id, again, step, people };
        let sent = platforms.post(post).await;
        if sent.is_err() {
            self.0.parts.metrics.posting_failed(posting_word(posting), stands);
        }
        crash::point("post.after_send");
        Some(match sent {
            Ok(reference) => Input::Posted { effect: id, reference },
            Err(e) => Input::PostFailed {
                effect: id,
                error: e.message,
                transient: e.transient,
                retry_after_ms: e.retry_after_ms,
            },
        })
    }
}

/// Whether a result that could not be appended is worth keeping in hand: the same append may go through
/// later. A thread that was deleted or is damaged never takes it.
fn may_pass(error: &DeliverError) -> bool {
    match error {
        DeliverError::Store(StoreError::NotWritable(_) | StoreError::Failed(_) | StoreError::Locked(_))
        | DeliverError::Contended(_) => true,
        DeliverError::Store(
            StoreError::Conflict { .. }
            | StoreError::Deleted(_)
            | StoreError::Unknown(_)
            | StoreError::Missing(_)
            | StoreError::TooNew(_)
            | StoreError::Corrupt(_),
        )
        | DeliverError::Agent(_)
        | DeliverError::Log { .. }
        | DeliverError::CallRunning { .. }
        | DeliverError::Draining => false,
    }
}

fn counted(outcome: &Outcome) -> ToolOutcome {
    match outcome {
        Outcome::Succeeded { .. } => ToolOutcome::Succeeded,
        Outcome::Failed { .. } => ToolOutcome::Failed,
        Outcome::Suspended { .. } => ToolOutcome::Suspended,
        Outcome::Unknown { .. } => ToolOutcome::Unknown,
    }
}

fn failure_word(kind: ModelErrorKind) -> &'static str {
    match kind {
        ModelErrorKind::RateLimited => "rate_limited",
        ModelErrorKind::Overloaded => "overloaded",
        ModelErrorKind::Server => "server",
        ModelErrorKind::Timeout => "timeout",
        ModelErrorKind::Unreachable => "unreachable",
        ModelErrorKind::Malformed => "malformed",
        ModelErrorKind::Empty => "empty",
        ModelErrorKind::CutOff => "cut_off",
        ModelErrorKind::Auth => "auth",
        ModelErrorKind::Rejected => "rejected",
        ModelErrorKind::TooLong { .. } => "too_long",
    }
}

fn posting_word(posting: &Posting) -> &'static str {
    match posting {
        Posting::Answer { .. } => "answer",
        Posting::Card { .. } => "card",
        Posting::Question { .. } => "question",
        Posting::Unknown { .. } => "unknown",
        Posting::Notice { .. } => "notice",
    }
}

/// The request for an agent and a rendered window, and who it would go to; needs no store.
pub fn model_request<'p>(
    providers: &'p Providers,
    registry: &Registry,
    agent: &Agent,
    window: String,
) -> Result<(&'p Provider, ModelRequest), String> {
    let (provider, model) = providers.pick(&agent.spec)?;
    Ok((provider, request(registry, agent, model, window)))
}

fn request(registry: &Registry, agent: &Agent, model: String, window: String) -> ModelRequest {
    let mut tools = registry.decls(&agent.spec.tools);
    tools.push(ToolDecl {
        name: ASK_HUMAN.to_owned(),
        description: "Ask the people in this thread one question and wait for the answer.".to_owned(),
        schema: ask_human_schema(),
    });
    ModelRequest {
        model,
        system: agent.prompt.clone(),
        window,
        tools: tools.into(),
        max_output_tokens: agent.spec.limits.max_output_tokens,
    }
}

/// Bytes that an agent's prompt and tools take in each request.
pub(super) fn base_bytes(registry: &Registry, agent: &Agent) -> usize {
    request(registry, agent, String::new(), String::new()).text_bytes()
}

fn call_of(thread: &Thread, call: CallId) -> Option<(String, serde_json::Value)> {
    thread.calls.get(&call).map(|c| (c.gated.tool.clone(), c.gated.args.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_kept_in_hand_as_long_as_the_store_may_take_it_later() {
        let short = ShortId::default();
        let locked = "an sqlite3 shell has the file".to_owned();
        for (error, passes) in [
            (StoreError::NotWritable("the disk is full".to_owned()), true),
            (StoreError::Locked(locked), true),
            (StoreError::Failed("input/output error".to_owned()), true),
            (StoreError::Deleted(short), false),
            (StoreError::Corrupt("event 3 is missing".to_owned()), false),
        ] {
            let error = DeliverError::Store(error);
            assert_eq!(may_pass(&error), passes, "{error}");
        }
        assert!(may_pass(&DeliverError::Contended(short)));
        assert!(!may_pass(&DeliverError::Draining));
    }
}

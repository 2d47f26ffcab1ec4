//! Carrying out intents: what somebody did in a chat surface becomes an input of the thread that it is about.
//!
//! It is done again after a crash, so each step is one that may be done twice: the input carries the intent's
//! own id as its source, and the first message of a new thread is looked for before it is posted. Whoever
//! acted is told what came of it, also when nothing did, and the telling is in the log.

use std::sync::Arc;

use super::{Runtime, Slot};
use crate::agent::*;

impl Runtime {
    pub(super) async fn handle(&self, slot: &Arc<Slot>, id: EffectId) -> Option<Input> {
        let intent = self.look(slot, id, |t| t.intent.clone()).await??;
        let (done, said) = (false, format!("{} cannot be done yet", intent.act.name()));
        self.0.parts.platforms.reply(slot.short, &intent.reply, &said).await;
        Some(Input::Handled { effect: id, done, said })
    }
}

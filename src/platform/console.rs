//! The terminal as a platform: postings go to whoever holds the other end of the channel.
//!
//! It owns no screen. The chat loop of the CLI draws; this end only says that something is to be seen,
//! and counts it as posted once the screen has taken it.

use tokio::sync::{mpsc, oneshot};

use super::{Post, PostError};

/// Threads of this surface begin with `console:`.
pub const SURFACE: &str = "console";

/// Postings that wait for a slow screen before the runtime is made to wait.
const QUEUE: usize = 64;

/// The writing end.
#[derive(Clone)]
pub struct Console(mpsc::Sender<Shown>);

/// A posting for the screen; `done` is told once it has been drawn.
pub struct Shown {
    pub post: Post,
    pub done: oneshot::Sender<()>,
}

impl Console {
    /// A console, and the end that draws.
    pub fn new() -> (Self, mpsc::Receiver<Shown>) {
        let (to_screen, screen) = mpsc::channel(QUEUE);
        (Self(to_screen), screen)
    }

    pub(super) async fn post(&self, post: Post) -> Result<String, PostError> {
        let gone =
            || PostError { message: "the terminal was closed".to_owned(), transient: false, retry_after_ms: None };
        let reference = post.replaces.clone().unwrap_or_else(|| post.key.to_string());
        let (done, drawn) = oneshot::channel();
        self.0.send(Shown { post, done }).await.map_err(|_| gone())?;
        drawn.await.map_err(|_| gone())?;
        Ok(reference)
    }
}

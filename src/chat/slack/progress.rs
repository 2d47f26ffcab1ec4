//! What a run is at, best effort: a reaction, a status line, the state of the session.

use tokio_util::sync::CancellationToken;

use super::Front;

/// Until `stop` fires.
pub async fn follow(_front: Front, stop: CancellationToken) {
    stop.cancelled().await;
}

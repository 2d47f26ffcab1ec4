//! Socket Mode: envelopes over a socket that we dial.

use tokio_util::sync::CancellationToken;

use super::Front;

/// Takes what comes for the app of the workspace `index` until `stop` fires.
pub async fn run(_front: Front, _index: usize, stop: CancellationToken) {
    stop.cancelled().await;
}

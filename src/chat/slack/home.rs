//! The App Home: what waits for a person, their runs, agents to start.

use tokio_util::sync::CancellationToken;

use super::Front;

/// Until `stop` fires.
pub async fn follow(_front: Front, stop: CancellationToken) {
    stop.cancelled().await;
}

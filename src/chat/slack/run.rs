//! Everything of Slack that goes on in the background: connecting, sockets, progress, homes.
//!
//! One future for all of it, so that whoever starts Slack has one thing to start, and one end to wait for when the
//! process stops. A broken Slack never ends the process: it is said in `/readyz`, in the log and by `doctor`, and
//! tried again.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Front, catch_up, home, progress, socket};
use crate::platform::slack::Slack;

/// Waits between attempts to connect, and before what broke off is started again: doubled from the first to the
/// last, with jitter.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(60);
/// How often workspaces that went away are asked whether they are back, once all were connected.
const LOOK_AGAIN: Duration = Duration::from_secs(5 * 60);

/// Keeps Slack going until `stop` fires, and what was taken by then is done with.
pub async fn run(front: Front, stop: CancellationToken) {
    let slack = front.0.slack.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(kept("the progress of runs", stop.clone(), RETRY_FIRST, {
        let (front, stop) = (front.clone(), stop.clone());
        move || progress::follow(front.clone(), stop.clone())
    }));
    tasks.spawn(kept("the homes", stop.clone(), RETRY_FIRST, {
        let (front, stop) = (front.clone(), stop.clone());
        move || home::follow(front.clone(), stop.clone())
    }));
    let apps = slack.settings().apps();
    let (mut dialled, mut read) = (BTreeSet::new(), BTreeSet::new());
    let mut wait = RETRY_FIRST;
    loop {
        let all = tokio::select! {
            all = connected(&slack) => all,
            () = stop.cancelled() => break,
        };
        front.count_http();
        // What comes by HTTP says nothing about a gap, so what was said while this was stopped is read once. Sockets
        // see to it themselves.
        for workspace in slack.workspaces() {
            let by_socket = apps.iter().any(|app| app.contains(&workspace.index));
            if !by_socket && read.insert(workspace.index) {
                catch_up::begin(&front, workspace.team.clone());
            }
        }
        // A socket of an app brings events of its workspaces, which mean nothing before one of them is known.
        for app in &apps {
            let known = slack.workspaces().iter().any(|workspace| app.contains(&workspace.index));
            if let (true, Some(first)) = (known, app.first())
                && dialled.insert(*first)
            {
                let (front, first, again) = (front.clone(), *first, stop.clone());
                let dial = move || socket::run(front.clone(), first, again.clone());
                tasks.spawn(kept("the socket", stop.clone(), RETRY_FIRST, dial));
            }
        }
        let pause = if all { LOOK_AGAIN } else { jittered(wait) };
        wait = if all { RETRY_FIRST } else { (wait * 2).min(RETRY_LAST) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => break,
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Whether all workspaces are connected; asks Slack only if some were not.
async fn connected(slack: &Slack) -> bool {
    let known: BTreeSet<usize> = slack.workspaces().iter().map(|workspace| workspace.index).collect();
    known.len() == slack.settings().workspaces.len() || slack.connect().await
}

/// Starts what breaks off again: a defect in what people see of a run must not end the run, nor the service.
/// `wait` passes before the first time.
async fn kept<F>(what: &'static str, stop: CancellationToken, mut wait: Duration, start: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let ended = tokio::spawn(start()).await;
        if stop.is_cancelled() {
            return;
        }
        let why = ended.err().map_or_else(|| "it ended by itself".to_owned(), |error| error.to_string());
        tracing::error!(%why, "Slack: {what} broke off and is started again");
        tokio::select! {
            () = tokio::time::sleep(jittered(wait)) => {}
            () = stop.cancelled() => return,
        }
        wait = (wait * 2).min(RETRY_LAST);
    }
}

/// From half of it to all of it: replicas that lost Slack together do not come back together.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_breaks_off_is_started_again_until_the_end() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        let (starts, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let start = {
            let (starts, stop) = (starts.clone(), stop.clone());
            move || {
                let (number, stop) = (starts.fetch_add(1, Ordering::SeqCst), stop.clone());
                async move {
                    match number {
                        0 => panic!("a defect"),
                        1 => {}
                        _ => stop.cancel(),
                    }
                }
            }
        };
        kept("it", stop, Duration::ZERO, start).await;
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }
}

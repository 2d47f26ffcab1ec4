//! `twelve serve`: the service, until it is told to stop.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use super::input;
use crate::agent::Principal;
use crate::app::Blueprint;
use crate::config::HttpConfig;
use crate::http::serve::{Limits, address, is_loopback_host, listen, serve};
use crate::http::{Service, Settings, session};
use crate::platform::Platforms;
use crate::triggers::run_schedules;

/// Who is at the browser in the demo.
const DEMO_PERSON: &str = "web:you";

#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    /// Everybody on this machine is one person with every right, until stdin ends. For `twelve demo` alone.
    #[arg(long, hide = true)]
    demo: bool,
}

pub async fn run(args: ServeArgs, blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    let asked_to_end = input::asked_to_end()?;
    let config = blueprint.config().clone();
    let drain = Duration::from_millis(config.runtime.drain_timeout);
    let triggers = blueprint.triggers.clone();
    if let missing @ [_, ..] = triggers.missing().as_slice() {
        bail!("{}", missing.join("\n"));
    }
    // Before the store: where nobody can be served, nothing is changed.
    let host = host(&config.http, args.demo);
    let listener = listen(&host, config.http.port).await?;
    let address = address(&listener)?;
    let http = HttpConfig { host, port: address.port(), ..config.http.clone() };
    let secret = session::secret(&http, &config.app.data_dir)?;
    let runtime = blueprint.open(Platforms::default()).await?;
    let stop = CancellationToken::new();
    let service = Service::new(
        runtime.clone(),
        Settings {
            app_name: config.app.name.clone(),
            secret,
            demo: args.demo.then(|| Principal::human(DEMO_PERSON)),
            stop: stop.clone(),
            http: http.clone(),
            triggers: triggers.clone(),
        },
    );
    let timers = {
        let runtime = runtime.clone();
        tokio::spawn(async move { runtime.run_timers().await })
    };
    let schedules = tokio::spawn(run_schedules(triggers, runtime.clone(), stop.clone()));
    let serving = tokio::spawn(serve(listener, service.router(), Limits::of(&http, drain), stop.clone()));
    tracing::info!(address = %address, url = http.public_url(), "serving");
    tokio::select! {
        () = asked_to_end => {}
        // The demo that started this holds the other end: it may be killed, and must leave nothing behind.
        () = end_of_input(), if args.demo => {}
    }
    tracing::info!("asked to stop: no new connections; what is under way may finish");
    // Whoever asks a second time does not want to wait.
    let impatient = input::asked_to_end()?;
    stop.cancel();
    let leave = async {
        schedules.await.context("the schedules broke off")?;
        let cut_off = serving.await.context("the service broke off")?;
        let left = runtime.drain(drain).await?;
        timers.abort();
        anyhow::Ok((cut_off, left))
    };
    tokio::select! {
        left = leave => {
            let (connections, effects) = left?;
            tracing::info!(connections, effects, "stopped; what was still at work is taken up by the next start");
            Ok(ExitCode::SUCCESS)
        }
        () = impatient => {
            tracing::warn!("asked to stop again: leaving at once; what was at work is taken up by the next start");
            // Blocking work must not hold the process back.
            std::process::exit(130);
        }
    }
}

/// On a thread of its own, not one of tokio's: a read that never returns must not hold back the end.
async fn end_of_input() {
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let read = move || {
        let _ended = ended;
        // What is written there means nothing; that it cannot be read any more means the same as its end.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
    };
    if std::thread::Builder::new().name("stdin".to_owned()).spawn(read).is_ok() {
        let _ = end.await;
    }
}

/// Where to listen. Without a way to tell who is asking, only this machine is served, whatever is set.
fn host(http: &HttpConfig, demo: bool) -> String {
    let anybody = !demo && (!http.tokens.is_empty() || !http.proxy.user_header.is_empty());
    if is_loopback_host(&http.host) {
        if !anybody {
            tracing::info!(
                "no tokens and no proxy are configured: only this machine is served (`twelve token` makes one)"
            );
        }
        return http.host.clone();
    }
    if anybody {
        return http.host.clone();
    }
    tracing::warn!(
        wanted = http.host,
        "no tokens and no proxy are configured, so only this machine is served: listening on 127.0.0.1 (`twelve token` makes a token)"
    );
    "127.0.0.1".to_owned()
}

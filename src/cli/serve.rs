//! `twelve serve`: the service, until it is told to stop.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use super::input;
use crate::agent::{Principal, Timestamp, span};
use crate::app::{self, Blueprint};
use crate::chat::slack::{Front, run::run as run_slack};
use crate::config::HttpConfig;
use crate::http::serve::{Limits, address, is_loopback_host, listen, serve};
use crate::http::{Service, Settings, secret_file, session};
use crate::platform::Platforms;
use crate::platform::slack::Slack;
use crate::triggers::{Triggers, run_schedules};

/// Who is at the browser in the demo.
const DEMO_PERSON: &str = "web:you";

/// How long what Slack has delivered by the socket may still take to be kept when the process stops; the longest
/// that Slack waits for an acknowledgement.
const LAST_DELIVERIES: Duration = Duration::from_secs(3);

#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    /// Whoever connects from this machine is one person with every right, until stdin ends. For `twelve demo` alone.
    #[arg(long, hide = true)]
    demo: bool,
}

pub async fn run(args: ServeArgs, blueprint: Blueprint) -> anyhow::Result<ExitCode> {
    let asked_to_end = input::asked_to_end()?;
    let config = blueprint.config().clone();
    let drain = Duration::from_millis(config.runtime.drain_timeout);
    let you = std::env::var("USER").ok().and_then(|name| config.ids(&blueprint.people).person(&name).ok());
    let triggers = blueprint.triggers.clone();
    if let missing @ [_, ..] = triggers.missing().as_slice() {
        bail!("{}", missing.join("\n"));
    }
    // Before the store: where nobody can be served, nothing is changed.
    let installed = app::workspaces(&blueprint.loaded);
    let signed = installed.iter().any(|workspace| workspace.signing_secret.is_some());
    let socket = !args.demo && installed.iter().any(|workspace| workspace.app_token.is_some());
    let host = host(&config.http, &triggers, signed, socket, args.demo);
    let listener = listen(&host, config.http.port).await?;
    let address = address(&listener)?;
    let http = HttpConfig { host, port: address.port(), ..config.http.clone() };
    said_to_trust_loopback(&http, address)?;
    let secret = session::secret(&http, &config.app.data_dir)?;
    let local_token = secret_file::make_local_token(&config.app.data_dir)?;
    // The demo is this machine's own, whatever else is set.
    let slack = if args.demo { None } else { blueprint.slack(http.public_url())? };
    let slack = slack.map(|(settings, front)| anyhow::Ok((Slack::new(settings)?, front))).transpose()?;
    let platforms = Platforms { console: None, slack: slack.as_ref().map(|(slack, _)| slack.clone()) };
    let runtime = blueprint.open(platforms).await?;
    let front = slack.map(|(slack, settings)| Front::new(runtime.clone(), slack, settings));
    let stop = CancellationToken::new();
    let service = Service::new(
        runtime.clone(),
        Settings {
            app_name: config.app.name.clone(),
            secret,
            local_token: Some(local_token),
            demo: args.demo.then(|| Principal::human(DEMO_PERSON)),
            stop: stop.clone(),
            http: http.clone(),
            triggers: triggers.clone(),
            slack: front.clone(),
        },
    );
    let mut timers = {
        let runtime = runtime.clone();
        tokio::spawn(async move { runtime.run_timers().await })
    };
    let mut schedules = tokio::spawn({
        let (runtime, stop) = (runtime.clone(), stop.clone());
        async move {
            run_schedules(triggers, runtime, stop.clone()).await;
            // Without any it ends at once, which is no reason to stop.
            stop.cancelled().await;
        }
    });
    // Slack goes on by itself: whether it answers or not, the service does.
    let chats = tokio::spawn({
        let (front, stop) = (front.clone(), stop.clone());
        async move {
            if let Some(front) = front {
                run_slack(front, stop).await;
            }
        }
    });
    let mut serving = tokio::spawn(serve(listener, service.router(), Limits::of(&http, drain), stop.clone()));
    tracing::info!(address = %address, url = http.public_url(), "serving");
    if !args.demo {
        offer_sign_in(&http, address, &secret, you, runtime.parts().clock.now())?;
    }
    let mut signals = 0;
    tokio::select! {
        () = asked_to_end => signals = 1,
        // The demo that started this holds the other end: it may be killed, and must leave nothing behind.
        () = end_of_input(), if args.demo => {}
        // None of them ends by itself: a service that only looks alive is worse than one that is started again.
        ended = &mut serving => bail!("listening broke off: {}", why(ended)),
        ended = &mut timers => bail!("the timers broke off: {}", why(ended)),
        ended = &mut schedules => bail!("the schedules broke off: {}", why(ended)),
    }
    tracing::info!("asked to stop: no new connections and no new work; what is under way may finish");
    let deadline = Instant::now() + drain;
    stop.cancel();
    let leave = async {
        // Nothing new comes in from here on; what had come is kept before the runtime takes nothing any more.
        if tokio::time::timeout(LAST_DELIVERIES.min(drain), chats).await.is_err() {
            tracing::warn!("deliveries of Slack were still under way; Slack delivers them again");
        }
        runtime.begin_drain();
        schedules.await.context("the schedules broke off")?;
        let cut_off = serving.await.context("the service broke off")?;
        // Windows that are being opened, words on their way to whoever pressed.
        if let Some(front) = front {
            let rest = deadline.saturating_duration_since(Instant::now());
            let _ = tokio::time::timeout(LAST_DELIVERIES.min(rest), front.idle()).await;
        }
        let left = runtime.drain(deadline.saturating_duration_since(Instant::now())).await?;
        anyhow::Ok((cut_off, left))
    };
    tokio::select! {
        left = leave => {
            let (connections, effects) = left?;
            tracing::info!(connections, effects, "stopped; what was still at work is taken up by the next start");
            Ok(ExitCode::SUCCESS)
        }
        impatient = asked_again(signals) => {
            impatient?;
            tracing::warn!("asked to stop again: leaving at once; what was at work is taken up by the next start");
            std::process::exit(130);
        }
    }
}

/// Says it at every start where a connection from this machine is enough to get in.
///
/// # Errors
/// The name to listen on leads to an address that others reach.
fn said_to_trust_loopback(http: &HttpConfig, address: SocketAddr) -> anyhow::Result<()> {
    if !http.trust_loopback {
        return Ok(());
    }
    ensure!(
        address.ip().to_canonical().is_loopback(),
        "`http.host` ({}) is the address {}, which is not a loopback address, so `http.trust_loopback` would let others in; set `http.host` to 127.0.0.1 or remove `http.trust_loopback`",
        http.host,
        address.ip()
    );
    tracing::warn!(
        "`http.trust_loopback` is on: whoever connects from this machine needs no token, and neither does what a proxy \
         or a tunnel passes on. It is for this machine only: let nothing forward requests to it"
    );
    Ok(())
}

/// How to get in: at a terminal a link for the person who started the service, elsewhere the command that makes
/// one. A link is not for a log.
fn offer_sign_in(
    http: &HttpConfig,
    address: SocketAddr,
    secret: &[u8; 32],
    you: Option<String>,
    now: Timestamp,
) -> anyhow::Result<()> {
    if !std::io::stdout().is_terminal() {
        tracing::info!("`twelve login-link NAME` prints a link that signs a person in to the console");
        return Ok(());
    }
    let person = Principal::human(you.unwrap_or_else(|| "web:you".to_owned()));
    let token = session::login_token(secret, &person, now)?;
    let base = match address.ip() {
        // "Everywhere" is no address to open.
        ip if http.public_url.is_empty() && ip.is_unspecified() => format!("http://127.0.0.1:{}", address.port()),
        _ => http.public_url(),
    };
    input::print(&format!(
        "\nTo sign in as {}, open this link. It works once, within {}:\n\n    {base}/login?token={token}\n\n\
         `twelve login-link NAME` makes another one, for anybody.\n",
        person.id,
        span::show(session::LINK_MS),
    ));
    Ok(())
}

fn why<T>(ended: Result<T, tokio::task::JoinError>) -> String {
    ended.err().map_or_else(|| "it ended by itself".to_owned(), |e| e.to_string())
}

/// Ends with the second signal: whoever asks twice does not want to wait.
async fn asked_again(mut signals: u32) -> anyhow::Result<()> {
    while signals < 2 {
        input::asked_to_end()?.await;
        signals += 1;
    }
    Ok(())
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

/// Where to listen. Without any way to tell who is asking, only this machine is served, whatever is set.
fn host(http: &HttpConfig, triggers: &Triggers, signed: bool, socket: bool, demo: bool) -> String {
    let ways = [
        !http.tokens.is_empty(),
        !http.proxy.user_header.is_empty(),
        // Whoever sets it wants people to sign in by links.
        !http.secret.expose_secret().is_empty(),
        !triggers.webhooks().is_empty(),
        // Slack signs what it delivers.
        signed,
    ];
    let known = !demo && ways.contains(&true);
    const WAYS: &str =
        "no token, proxy, secret, webhook or signing secret of Slack is configured, so only this machine is served";
    if is_loopback_host(&http.host) {
        if !known && socket {
            // All that Slack needs is there; an address is for people with a browser.
            tracing::info!(
                "Slack comes by Socket Mode and needs no address; the web console and REST are for this machine"
            );
        } else if !known {
            tracing::info!("{WAYS} (`twelve token` makes a token)");
        }
        return http.host.clone();
    }
    if known {
        return http.host.clone();
    }
    tracing::warn!(wanted = http.host, "{WAYS}: listening on 127.0.0.1 (`twelve token` makes a token)");
    "127.0.0.1".to_owned()
}

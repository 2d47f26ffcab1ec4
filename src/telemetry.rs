//! Logging: readable lines on stderr, or one JSON object a line.
//!
//! This module owns how log lines look, which are written, and that no secret is in them: every line
//! passes the [`SecretFilter`] on its way out, whoever wrote it. What is logged, with dotted field names
//! (`thread.id`, `tool.name`, `duration_ms`), is up to the caller.

use std::io::{self, IsTerminal as _, Write};

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use crate::agent::SecretFilter;
use crate::config::Config;

/// Sends the log of this process to stderr. To be called once, before anything logs.
///
/// # Errors
/// If something else has set a global subscriber already.
pub fn init(config: &Config, secrets: SecretFilter) -> anyhow::Result<()> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing::subscriber::set_global_default(subscriber(config, secrets, colours, io::stderr))?;
    Ok(())
}

/// The subscriber for this configuration, writing to `writer`. For [`init`] and for tests.
pub fn subscriber<W>(config: &Config, secrets: SecretFilter, colours: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let writer = Clean { writer, secrets };
    let layer = if config.log.structured {
        boxed(tracing_subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).with_writer(writer))
    } else {
        boxed(tracing_subscriber::fmt::layer().with_ansi(colours).with_target(false).with_writer(writer))
    };
    tracing_subscriber::registry().with(layer.with_filter(levels(config)))
}

fn boxed<S, L>(layer: L) -> Box<dyn tracing_subscriber::Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    L: tracing_subscriber::Layer<S> + Send + Sync + 'static,
{
    Box::new(layer)
}

/// Dependencies that write whole requests, frames or addresses below `warn`: a socket's address holds its ticket,
/// which nobody has told the [`SecretFilter`].
const HUSHED: [&str; 3] = ["slack_morphism", "tokio_tungstenite", "tungstenite"];

/// Our own lines at the configured level. Dependencies only warn, unless `log.filter` says otherwise:
/// at `debug` an HTTP client alone writes more than everything else, and it writes headers.
/// [`HUSHED`] never says more than that, since nobody could know the secrets that it would print.
fn levels(config: &Config) -> Targets {
    let mut ours = config.log.level.parse().unwrap_or(LevelFilter::INFO);
    if config.app.debug {
        ours = ours.max(LevelFilter::DEBUG);
    }
    let theirs = ours.min(LevelFilter::WARN);
    let levels = Targets::new().with_default(theirs).with_target("twelve", ours);
    // A filter that cannot be read was refused with the configuration.
    let extra: Targets = config.log.filter.parse().unwrap_or_default();
    let hushed = |target: &str| HUSHED.iter().any(|name| target.starts_with(name));
    let extra = extra.iter().map(|(target, level)| {
        let level = if hushed(target) { level.min(theirs) } else { level };
        (target.to_owned(), level)
    });
    // A target means everything that begins with it: these stand for themselves, whatever shorter one is raised.
    levels.with_targets(HUSHED.map(|name| (name.to_owned(), theirs))).with_targets(extra)
}

/// A writer that takes secrets out of each line before it passes it on.
struct Clean<W> {
    writer: W,
    secrets: SecretFilter,
}

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for Clean<W> {
    type Writer = CleanLine<'w, W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        CleanLine { writer: self.writer.make_writer(), secrets: &self.secrets, line: Vec::new() }
    }
}

/// Collects one event: a secret may come in two pieces. Written when the event is complete.
struct CleanLine<'w, W: Write> {
    writer: W,
    secrets: &'w SecretFilter,
    line: Vec<u8>,
}

impl<W: Write> Write for CleanLine<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.line);
        self.writer.write_all(self.secrets.clean(&String::from_utf8_lossy(&line)).as_bytes())?;
        self.writer.flush()
    }
}

impl<W: Write> Drop for CleanLine<'_, W> {
    fn drop(&mut self) {
        // Nobody is left to tell that the log cannot be written.
        let _ = self.flush();
    }
}

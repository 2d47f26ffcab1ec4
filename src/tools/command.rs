//! Child processes: an argument list without a shell, a bare environment, bounded output, and an end.
//!
//! A child leads a process group of its own, so that its end by timeout or cancel takes along whatever
//! it started. A child that ends by itself may leave something running: starting things is what
//! deployments do.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::text;

/// How much of the end of a child's output is kept, in bytes.
pub const MAX_TAIL: usize = 4 * 1024;

/// How many lines of it are shown.
pub const MAX_LINES: usize = 20;

/// How long a child has between the polite signal and the last one.
pub const KILL_GRACE: Duration = Duration::from_secs(2);

/// How long output is awaited of what a finished child left running with its pipes.
pub const DRAIN: Duration = Duration::from_millis(500);

/// What every child is given of our environment, besides what the settings list.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];

/// Values shorter than this are not taken for secrets when output is cleaned.
const SHORTEST_SECRET: usize = 6;

pub(super) struct Child<'a> {
    /// The program and its arguments; each reaches the program as it is.
    pub argv: &'a [String],
    pub cwd: Option<&'a Path>,
    /// Names of variables of our environment that it may see.
    pub env: &'a [String],
    /// Variables made for this run.
    pub set: &'a [(&'a str, String)],
    pub limit: Duration,
    /// Whether what it writes to standard error belongs to its output.
    pub with_stderr: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Exited(i32),
    /// Ended by a signal that was not ours.
    Signalled(i32),
    TimedOut,
    Cancelled,
    /// The system would not say how it ended.
    Lost,
}

pub(super) struct Finished {
    pub end: End,
    /// The last lines, clean, without the values of listed variables.
    pub output: String,
    /// Whether `output` lacks earlier lines; it says so itself then.
    pub cut: bool,
    pub took: Duration,
}

impl Child<'_> {
    /// Runs it to its end.
    ///
    /// # Errors
    /// It could not be started, so nothing has happened.
    pub async fn run(&self, cancel: &CancellationToken) -> Result<Finished, String> {
        let Some((program, arguments)) = self.argv.split_first() else { return Err("the command is empty".to_owned()) };
        let listed: Vec<(&String, String)> =
            self.env.iter().filter_map(|name| Some((name, std::env::var(name).ok()?))).collect();
        let mut command = Command::new(program);
        command.args(arguments).env_clear().process_group(0).kill_on_drop(true);
        command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(listed.iter().map(|(name, value)| (name, value)));
        command.envs(self.set.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(if self.with_stderr { Stdio::piped() } else { Stdio::null() });
        if let Some(cwd) = self.cwd {
            command.current_dir(cwd);
        }
        let started = Instant::now();
        let mut child = command.spawn().map_err(|e| {
            let place = self.cwd.map_or(String::new(), |cwd| format!(" in {}", cwd.display()));
            format!("`{}` could not be started{place}: {e}", text::one_line(program, text::MAX_QUOTE))
        })?;
        // After `child`, so that it goes first: as long as the leader is not reaped, its number is its own.
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));

        let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
        let (mut out_buffer, mut err_buffer) = (vec![0; 8 * 1024], vec![0; 8 * 1024]);
        let mut tail = Tail::default();
        let mut exited: Option<ExitStatus> = None;
        let mut deadline = started + self.limit;
        let end = loop {
            if let Some(status) = exited
                && out.is_none()
                && err.is_none()
            {
                break ended(status);
            }
            // A child that never stops writing keeps the timer below from being looked at.
            if Instant::now() >= deadline {
                break exited.map_or(End::TimedOut, ended);
            }
            tokio::select! {
                biased;
                () = cancel.cancelled(), if exited.is_none() => break End::Cancelled,
                () = sleep_until(deadline) => break exited.map_or(End::TimedOut, ended),
                status = child.wait(), if exited.is_none() => {
                    group.0 = None;
                    let Ok(status) = status else { break End::Lost };
                    exited = Some(status);
                    deadline = deadline.min(Instant::now() + DRAIN);
                }
                read = read(&mut out, &mut out_buffer) => tail.take(read, &out_buffer, &mut out),
                read = read(&mut err, &mut err_buffer) => tail.take(read, &err_buffer, &mut err),
            }
        };
        if matches!(end, End::TimedOut | End::Cancelled) {
            group.signal(Signal::TERM);
            // The outcome is unknown either way; what matters is that the group is gone.
            let _ = timeout(KILL_GRACE, child.wait()).await;
            group.signal(Signal::KILL);
            let _ = child.wait().await;
            group.0 = None;
        }
        let (output, cut) = tail.text(&listed);
        Ok(Finished { end, output, cut, took: started.elapsed() })
    }
}

fn ended(status: ExitStatus) -> End {
    match status.code() {
        Some(code) => End::Exited(code),
        None => End::Signalled(status.signal().unwrap_or(0)),
    }
}

/// A process group that dies with this value, unless its leader ended by itself.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // An error means that nobody is left to be signalled.
            let _ = kill_process_group(leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// A closed pipe is never ready.
async fn read(pipe: &mut Option<impl AsyncRead + Unpin>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => pending().await,
    }
}

/// The end of a stream of any length.
#[derive(Default)]
struct Tail {
    kept: VecDeque<u8>,
    total: u64,
}

impl Tail {
    fn take<P>(&mut self, read: io::Result<usize>, buffer: &[u8], pipe: &mut Option<P>) {
        let Some(bytes) = read.ok().filter(|&n| n > 0).and_then(|n| buffer.get(..n)) else {
            *pipe = None;
            return;
        };
        self.total += bytes.len() as u64;
        self.kept.extend(bytes.iter().skip(bytes.len().saturating_sub(MAX_TAIL)));
        let excess = self.kept.len().saturating_sub(MAX_TAIL);
        self.kept.drain(..excess);
    }

    /// The lines to show, and whether earlier ones are missing.
    fn text(&self, listed: &[(&String, String)]) -> (String, bool) {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        for (name, secret) in listed.iter().filter(|(_, value)| value.len() >= SHORTEST_SECRET) {
            text = text.replace(secret.as_str(), &format!("[{name}]"));
        }
        let text = text::clean(&text);
        let mut lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let overflowed = self.total > bytes.len() as u64;
        if overflowed && lines.len() > 1 {
            lines.remove(0); // reason: the cut went through it
        }
        let shown = lines.split_off(lines.len().saturating_sub(MAX_LINES)).join("\n");
        if overflowed || !lines.is_empty() {
            (format!("… the end of {} bytes of output:\n{shown}", self.total), true)
        } else {
            (shown, false)
        }
    }
}

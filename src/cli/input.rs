//! Lines from the one at the keyboard, or from a pipe.
//!
//! Reading blocks, so it has a thread of its own (not one of tokio's: a read that never returns must not
//! keep the process from ending). At a terminal it reads when it is asked to, with a line editor; from a
//! pipe it reads ahead by one line.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::sync::mpsc as blocking;

use rustyline::error::ReadlineError;
use rustyline::{DefaultEditor, ExternalPrinter as _};
use tokio::sync::mpsc;

/// Longest line that is kept, in bytes: above the longest message that any setting allows (10,000,000),
/// so that too long a message is refused in words. What is longer loses its rest.
const MAX_LINE: u64 = 16 * 1024 * 1024;

/// What came from the keyboard.
#[derive(Debug)]
pub enum Typed {
    Line(String),
    /// Ctrl-C.
    Interrupted,
    /// Ctrl-D, or the end of the pipe.
    End,
}

/// A line that is wanted at the terminal.
struct Wanted {
    prompt: String,
    initial: String,
}

/// The reading end.
pub struct Input {
    wanted: blocking::Sender<Wanted>,
    typed: mpsc::Receiver<Typed>,
    terminal: bool,
    /// How the terminal was before the line editor changed it.
    before: Option<rustix::termios::Termios>,
}

/// Writes text without disturbing the line that is being edited.
pub type Print = Box<dyn FnMut(&str) + Send>;

impl Input {
    /// Starts reading. Returns what writes beside it.
    pub fn start() -> anyhow::Result<(Self, Print)> {
        let (typed_to, typed) = mpsc::channel(1);
        let (wanted, wants) = blocking::channel();
        let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let before = if terminal { rustix::termios::tcgetattr(io::stdin()).ok() } else { None };
        let write: Print = if terminal {
            let mut editor = DefaultEditor::new()?;
            let mut printer = editor.create_external_printer()?;
            std::thread::Builder::new()
                .name("keyboard".to_owned())
                .spawn(move || keyboard(editor, &wants, &typed_to))?;
            Box::new(move |text| {
                // A terminal that is gone cannot be told so.
                let _ = printer.print(text.to_owned());
            })
        } else {
            std::thread::Builder::new().name("pipe".to_owned()).spawn(move || pipe(&typed_to))?;
            Box::new(print)
        };
        Ok((Self { wanted, typed, terminal, before }, write))
    }

    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Asks for the next line at a terminal, with `initial` to be edited.
    pub fn want(&self, prompt: &str, initial: &str) {
        // The thread ends with its last line only.
        let _ = self.wanted.send(Wanted { prompt: prompt.to_owned(), initial: initial.to_owned() });
    }

    /// What is typed next.
    pub async fn next(&mut self) -> Typed {
        self.typed.recv().await.unwrap_or(Typed::End)
    }
}

impl Drop for Input {
    /// The line editor may still be waiting for a key: its settings of the terminal go with it.
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(io::stdin(), rustix::termios::OptionalActions::Now, before);
        }
    }
}

fn keyboard(mut editor: DefaultEditor, wants: &blocking::Receiver<Wanted>, typed: &mpsc::Sender<Typed>) {
    while let Ok(Wanted { prompt, initial }) = wants.recv() {
        let line = match editor.readline_with_initial(&prompt, (&initial, "")) {
            Ok(line) => {
                let _ = editor.add_history_entry(&line);
                Typed::Line(line)
            }
            Err(ReadlineError::Interrupted) => Typed::Interrupted,
            Err(_) => Typed::End,
        };
        if typed.blocking_send(line).is_err() {
            return;
        }
    }
}

fn pipe(typed: &mpsc::Sender<Typed>) {
    let mut input = io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if !line.ends_with(b"\n") && line.len() as u64 == MAX_LINE && input.skip_until(b'\n').is_err() {
            line.clear();
        }
        let end = !matches!(read, Ok(1..));
        let next = if end { Typed::End } else { Typed::Line(String::from_utf8_lossy(&line).into_owned()) };
        if typed.blocking_send(next).is_err() || end {
            return;
        }
    }
}

/// Writes to stdout. That whoever read it has gone is no reason to stop: the log has it all.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// All of stdin as one message, up to [`MAX_LINE`] bytes.
///
/// # Errors
/// It cannot be read.
pub fn whole() -> io::Result<String> {
    let mut text = Vec::new();
    io::stdin().lock().take(MAX_LINE).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Ends when somebody wants this process to end: Ctrl-C, SIGTERM, SIGQUIT, or a terminal that went away. From
/// the call on, not only from the first wait, these signals no longer kill; whoever waits drains and leaves.
/// A process that was started to outlive its terminal (`nohup`) does. SIGUSR1 and SIGUSR2, which tell other
/// programs to rotate logs and the like, do nothing: by default they kill without a drain.
pub fn asked_to_end() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut quit = signal(SignalKind::quit())?;
    // A signal that was listened for once never has its default effect again, whether or not somebody listens.
    for ignored in [SignalKind::user_defined1(), SignalKind::user_defined2()] {
        drop(signal(ignored)?);
    }
    let mut hang_up = if hang_up_is_ignored() { None } else { Some(signal(SignalKind::hangup())?) };
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = quit.recv() => {}
            () = async {
                match &mut hang_up {
                    Some(signal) => drop(signal.recv().await),
                    None => std::future::pending().await,
                }
            } => {}
        }
    })
}

/// Whether SIGHUP does nothing to this process, as `nohup` arranges it. Where there is no `/proc`, no.
fn hang_up_is_ignored() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores_hang_up(&status))
}

/// Reads the mask `SigIgn` (proc(5)), in which SIGHUP, signal 1, is the lowest bit.
fn ignores_hang_up(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_hang_up_is_read_from_the_mask_of_signals() {
        for (status, ignored) in [
            ("Name:\tx\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n", false),
            ("SigIgn:\t0000000000001001\n", true),
            ("SigIgn:\tnonsense\n", false),
            ("", false),
        ] {
            assert_eq!(ignores_hang_up(status), ignored, "{status}");
        }
    }
}

//! Named places at which a test can have the process killed, as `kill -9` would.
//!
//! `TWELVE_CRASH_AT=<point>[:<n>]` kills this process with SIGKILL when it comes to the point for the
//! n-th time. Only in builds with debug assertions: a release binary has no such switch.

/// Every step after which a crash is tested.
pub const POINTS: &[&str] = &[
    "deliver.before_append",
    "deliver.after_append",
    "model.before_call",
    "model.after_call",
    "plan.after_call",
    "gather.after",
    "intent.before_act",
    "intent.after_open",
    "intent.after_act",
    "intent.after_reply",
    "tool.before_start",
    "tool.after_start",
    "tool.after_run",
    "post.before_send",
    "post.after_send",
    "timer.before_tick",
];

/// Dies here if a test wants it.
#[cfg(debug_assertions)]
pub fn point(name: &'static str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let text = std::env::var("TWELVE_CRASH_AT").ok()?;
        let (point, nth) = text.split_once(':').unwrap_or((&text, "1"));
        Some((point.to_owned(), nth.parse().unwrap_or(1)))
    });
    static SEEN: AtomicU64 = AtomicU64::new(0);

    debug_assert!(POINTS.contains(&name), "{name} is not a known crash point");
    if let Some((point, nth)) = &*WANTED
        && point == name
        && SEEN.fetch_add(1, Ordering::SeqCst) + 1 == *nth
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &'static str) {}

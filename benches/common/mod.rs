//! What the benches of the service share: servers in processes of their own, a client that does as little work
//! as possible, and small things of arithmetic.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use twelve::agent::*;
use twelve::runtime::summary;
use twelve::store::Append;

/// Set for the floor's process: the directory of its store.
pub const FLOOR: &str = "HTTP_BENCH_FLOOR";
pub const FLOOR_DURABILITY: &str = "HTTP_BENCH_DURABILITY";
/// Set if the floor also makes the appends of the run.
pub const FLOOR_RUN: &str = "HTTP_BENCH_RUN";

// ---- the servers ----

/// A server in a process of its own; it ends with this value.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// `twelve serve`, with these agents (name, file) and this script, more settings, and no limit on the rate
    /// of requests.
    pub fn program(
        dir: &Path,
        durability: &str,
        agents: &[(&str, &str)],
        script: &str,
        settings: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        fs::create_dir_all(dir.join("agents")).unwrap();
        for (name, text) in agents {
            fs::write(dir.join(format!("agents/{name}.md")), text).unwrap();
        }
        fs::write(dir.join("script.toml"), script).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!(
            "[store]\ndurability = \"{durability}\"\n[log]\nlevel = \"warn\"\n[model]\nprovider = \"scripted\"\n\
             [agents]\ndirectory = \"agents\"\n[providers.scripted]\nscript = \"script.toml\"\n\
             [http]\nport = {port}\ntrust_loopback = true\nrequests_per_minute = 10000000\n{settings}"
        );
        fs::write(dir.join("twelve.toml"), settings).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_twelve"));
        // The demo has one person with every right, and no Slack. Without it, whoever connects from this machine may
        // start threads.
        command
            .arg("serve")
            .args(environment.is_empty().then_some("--demo"))
            .current_dir(dir)
            .env_clear()
            .stdin(Stdio::piped());
        command.envs(environment.iter().copied());
        let server = Self { child: command.spawn().unwrap(), address: SocketAddr::from(([127, 0, 0, 1], port)) };
        for _ in 0..1_000 {
            if std::net::TcpStream::connect(server.address).is_ok() {
                return server;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the service did not start");
    }

    pub fn floor(dir: &Path, durability: &str, run: bool) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env(FLOOR, dir).env(FLOOR_DURABILITY, durability).stdout(Stdio::piped());
        if run {
            command.env(FLOOR_RUN, "1");
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap() }
    }

    /// User and system time so far (Linux).
    pub fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // 100 ticks a second on every Linux that this runs on.
        Duration::from_millis(ticks * 10)
    }

    /// Waits until the server does nothing: what it works on after its answers belongs to the requests.
    pub async fn quiet(&self) {
        let mut last = self.cpu();
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = self.cpu();
            if now - last <= Duration::from_millis(10) {
                return;
            }
            last = now;
        }
    }

    /// Resident memory in KiB (Linux).
    pub fn resident(&self) -> u64 {
        self.field("status", "VmRSS:")
    }

    /// Bytes that were asked of the operating system so far (Linux).
    pub fn read_bytes(&self) -> u64 {
        self.field("io", "rchar:")
    }

    fn field(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

/// Seals bodies into the chain and folds them, as the core does.
pub fn append(thread: &mut Thread, bodies: Vec<Body>) -> Append {
    let expected = thread.version;
    let mut events = Vec::new();
    for body in bodies {
        let event = Event {
            v: EVENT_VERSION,
            seq: thread.version + 1,
            at: Timestamp(1_767_225_600_000),
            source: None,
            answers: None,
            prev: thread.head,
            body,
        };
        let bytes = event.encode();
        thread.apply(&event, Digest::of(&bytes));
        events.push(bytes);
    }
    Append { thread: thread.short, expected, events, summary: summary(thread), approvals: Vec::new(), lease: None }
}

// ---- the client: one kept-alive connection, as little work as possible ----

pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub async fn post(&mut self, path: &str, body: &str) -> (u16, Vec<u8>) {
        self.post_with(path, "", body).await
    }

    /// `headers`: more lines, each with its end.
    pub async fn post_with(&mut self, path: &str, headers: &str, body: &str) -> (u16, Vec<u8>) {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.answer().await
    }

    pub async fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        self.open(path).await;
        self.answer().await
    }

    /// Sends the request and reads nothing.
    pub async fn open(&mut self, path: &str) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    pub async fn answer(&mut self) -> (u16, Vec<u8>) {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.expect("an answer of a known length").trim().parse().unwrap();
                if self.buffer.len() >= end + 4 + length {
                    let body = self.buffer[end + 4..end + 4 + length].to_vec();
                    self.buffer.drain(..end + 4 + length);
                    return (status, body);
                }
            }
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(read > 0, "the server closed the connection");
        }
    }
}

// ---- small things ----

pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

pub fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

pub fn at(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q) as usize]
}

/// The median of the rounds' ratios, and their extremes.
pub fn ratios(ours: &[f64], floor: &[f64]) -> String {
    let mut all: Vec<f64> = ours.iter().zip(floor).map(|(a, b)| a / b).collect();
    all.sort_by(f64::total_cmp);
    format!("{:.2} ({:.2} to {:.2})", all[all.len() / 2], all[0], all[all.len() - 1])
}

pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

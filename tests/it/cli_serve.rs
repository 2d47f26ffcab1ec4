//! `twelve serve` as an operator starts and stops it, with the real binary.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A service with these settings; its log is read line by line.
pub struct Running {
    pub child: Child,
    log: std::io::Lines<BufReader<std::process::ChildStderr>>,
    pub seen: Vec<String>,
    pub address: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn command(dir: &TempDir, settings: &str) -> Command {
    std::fs::write(dir.path().join("twelve.toml"), settings).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_twelve"));
    command.arg("serve").env_clear().current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(Stdio::piped());
    command
}

impl Running {
    fn start(dir: &TempDir, settings: &str) -> Self {
        Self::of(command(dir, settings))
    }

    pub fn of(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap()).lines();
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut running = Self { child, log, seen: Vec::new(), address: unknown };
        let line = running.expect("serving");
        let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
        running.address = address.parse().unwrap();
        running
    }

    #[track_caller]
    pub fn expect(&mut self, part: &str) -> String {
        for line in self.log.by_ref() {
            let line = line.unwrap();
            self.seen.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
        panic!("`{part}` did not come; the log: {:#?}", self.seen)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

pub fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_service_says_where_it_is_and_stops_when_it_is_told_to() {
    let dir = TempDir::new().unwrap();
    let mut service = Running::start(&dir, "[http]\nport = 0\n");
    assert!(service.address.ip().is_loopback() && service.address.port() != 0);
    assert!(get(service.address, "/healthz").starts_with("HTTP/1.1 200"));
    service.signal(Signal::TERM);
    service.expect("asked to stop");
    service.expect("stopped");
    assert!(service.child.wait().unwrap().success());
}

#[test]
fn a_service_that_is_to_outlive_its_terminal_does_and_any_other_stops_with_it() {
    let dir = TempDir::new().unwrap();
    let mut service = Running::start(&dir, "[http]\nport = 0\n");
    service.signal(Signal::HUP);
    service.expect("stopped");
    assert!(service.child.wait().unwrap().success());

    // As `nohup` does.
    let plain = command(&dir, "[http]\nport = 0\n");
    let mut kept = Command::new("/bin/sh");
    kept.args(["-c", "trap '' HUP; exec \"$0\" serve"]).arg(plain.get_program());
    kept.env_clear().current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut service = Running::of(kept);
    service.signal(Signal::HUP);
    for _ in 0..20 {
        assert!(get(service.address, "/healthz").starts_with("HTTP/1.1 200"));
    }
    service.signal(Signal::TERM);
    service.expect("stopped");
    assert!(service.child.wait().unwrap().success());
}

#[test]
fn without_tokens_only_this_machine_is_served_whatever_the_host_and_the_log_says_so() {
    let dir = TempDir::new().unwrap();
    let service = Running::start(&dir, "[http]\nport = 0\nhost = \"0.0.0.0\"\n");
    assert!(service.address.ip().is_loopback(), "{}", service.address);
    let said = service.seen.iter().any(|line| line.contains("WARN") && line.contains("only this machine is served"));
    assert!(said, "{:#?}", service.seen);
}

#[test]
fn a_port_that_is_taken_ends_the_start_with_a_sentence_before_anything_is_made() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let output = command(&dir, &format!("[http]\nport = {port}\n")).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{port}")) && said.contains("API_PORT"), "{said}");
    assert!(!dir.path().join("data").exists(), "a start that fails leaves nothing behind");
}

#[test]
fn two_services_over_one_store_are_one_too_many() {
    let dir = TempDir::new().unwrap();
    let _first = Running::start(&dir, "[http]\nport = 0\n");
    let output = command(&dir, "[http]\nport = 0\n").output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("twelve.db"), "{said}");
}

#[test]
fn with_a_way_to_tell_who_is_asking_the_host_is_as_configured() {
    let dir = TempDir::new().unwrap();
    let settings = "[http]\nport = 0\nhost = \"0.0.0.0\"\nsecret = \"not-really-a-secret-but-long-enough\"\n";
    let service = Running::start(&dir, settings);
    assert!(service.address.ip().is_unspecified(), "{}", service.address);
}

#[test]
fn a_stop_does_not_wait_for_a_client_that_never_finishes_longer_than_the_drain_may_take() {
    let dir = TempDir::new().unwrap();
    let mut service = Running::start(&dir, "[http]\nport = 0\n[runtime]\ndrain_timeout = \"300ms\"\n");
    let mut slow = TcpStream::connect(service.address).unwrap();
    let head = "POST /agents/start HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    slow.write_all(head.as_bytes()).unwrap();
    // Another request's answer: the slow one has been taken in by then.
    assert!(get(service.address, "/readyz").contains("\"ready\":true"));
    service.signal(Signal::TERM);
    let line = service.expect("stopped");
    assert!(line.contains("connections=1"), "{line}");
    assert!(service.child.wait().unwrap().success());
}

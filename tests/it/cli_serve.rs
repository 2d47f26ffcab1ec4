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

/// What the binary prints with these arguments, in this directory: exit code, stdout, stderr.
fn twelve(dir: &TempDir, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twelve"));
    let output = command.args(args).env_clear().current_dir(dir.path()).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn stop(mut service: Running) {
    service.signal(Signal::TERM);
    service.expect("stopped");
    assert!(service.child.wait().unwrap().success());
}

#[test]
fn the_local_token_is_made_at_the_first_start_and_is_the_same_ever_after() {
    let dir = TempDir::new().unwrap();
    let service = command(&dir, "[http]\nport = 0\n");
    let (code, out, err) = twelve(&dir, &["token", "local"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("data/local.token: the first start of `twelve serve`"), "{err}");
    assert!(!dir.path().join("data").exists(), "asking for it makes nothing");

    let service = Running::of(service);
    let (code, token, err) = twelve(&dir, &["token", "local"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let (token, line_end) = token.split_at(token.len() - 1);
    assert!(token.starts_with("twelve_") && token.len() == 50 && line_end == "\n", "nothing but the token: {token}");
    let ask = |service: &Running| {
        let bearer = format!("Bearer {token}");
        crate::http_loopback::ask(service.address, "GET", "/agents", &[("Authorization", bearer.as_str())], "").0
    };
    assert_eq!(ask(&service), 200);
    assert!(get(service.address, "/agents").starts_with("HTTP/1.1 401"), "near is not enough");
    assert!(!service.seen.iter().any(|line| line.contains(token)), "no log holds it");
    stop(service);
    let again = Running::start(&dir, "[http]\nport = 0\n");
    assert_eq!(ask(&again), 200, "a restart keeps it");

    // A token that is really named so cannot be: the name is taken.
    for (args, words) in [
        (&["token", "local", "--scope", "read"][..], "`local` is the token that the service makes"),
        (&["token", "local", "--person", "web:ann"], "`local` is the token that the service makes"),
    ] {
        let (code, out, err) = twelve(&dir, args);
        assert_eq!((code, out.as_str()), (1, ""), "{args:?}");
        assert!(err.contains(words), "{err}");
    }
    let (code, out, err) = twelve(&dir, &["token", "ci"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("a token needs a scope: --scope start, read, resume, approve or admin"), "{err}");
    assert_eq!(twelve(&dir, &["token", "ci", "--scope", "read"]).0, 0);

    // Others could have read it: it is refused at the start and by the command, and the words say what to do.
    let path = dir.path().join("data/local.token");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let (code, _, err) = twelve(&dir, &["token", "local"]);
    assert!(code == 1 && err.contains("can be read by others (mode 644)") && err.contains("delete it"), "{err}");
}

#[test]
fn who_starts_the_service_at_a_terminal_is_offered_a_link_and_a_log_names_the_command() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let dir = TempDir::new().unwrap();
    let mut service = Running::start(&dir, "[http]\nport = 0\n");
    service.signal(Signal::TERM);
    service.expect("stopped");
    assert!(
        service.seen.iter().any(|line| line.contains("`twelve login-link NAME` prints a link")),
        "{:#?}",
        service.seen
    );
    let mut said = String::new();
    service.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "", "a link is not for a log");

    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
    let screen = std::fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    let mut command = command(&dir, "[http]\nport = 0\n");
    command.env("USER", "ann").stdout(Stdio::from(screen));
    let mut service = Running::of(command);
    let (found, link) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(std::fs::File::from(terminal)).lines().map_while(Result::ok);
        // Read to the end, so that the service is never held up by a full terminal.
        lines.filter(|line| line.contains("/login?token=")).for_each(|line| drop(found.send(line)));
    });
    let link = link.recv_timeout(std::time::Duration::from_secs(30)).expect("a link at the terminal");
    let path = link.trim().strip_prefix(&format!("http://{}", service.address)).unwrap().to_owned();
    let page = get(service.address, &path);
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("ann"), "{page}");
    assert!(!service.seen.iter().any(|line| line.contains("login?token")), "{:#?}", service.seen);
    service.signal(Signal::QUIT);
    service.expect("stopped");
    assert!(service.child.wait().unwrap().success());
}

#[test]
fn the_data_directory_is_this_users_alone_also_where_it_was_not() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    for before in [None, Some(0o755), Some(0o2770)] {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        if let Some(before) = before {
            std::fs::create_dir(&data).unwrap();
            std::fs::set_permissions(&data, std::fs::Permissions::from_mode(before)).unwrap();
        }
        let service = Running::start(&dir, "[http]\nport = 0\n");
        assert_eq!(mode(&data) & 0o777, 0o700, "{before:?}");
        for entry in std::fs::read_dir(&data).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        stop(service);
    }
    // A place that everybody shares is not taken from them.
    let dir = TempDir::new().unwrap();
    let shared = dir.path().join("data");
    std::fs::create_dir(&shared).unwrap();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let service = Running::start(&dir, "[http]\nport = 0\n");
    assert_eq!(mode(&shared), 0o1777);
    assert!(
        service.seen.iter().any(|line| line.contains("WARN") && line.contains("all users share")),
        "{:?}",
        service.seen
    );
}

#[test]
fn each_signal_that_means_the_end_drains_and_those_for_other_programs_do_nothing() {
    for signal in [Signal::TERM, Signal::QUIT, Signal::INT, Signal::HUP] {
        let dir = TempDir::new().unwrap();
        let mut service = Running::start(&dir, "[http]\nport = 0\n");
        for other in [Signal::USR1, Signal::USR2] {
            service.signal(other);
            assert!(get(service.address, "/healthz").starts_with("HTTP/1.1 200"), "{other:?}");
        }
        service.signal(signal);
        service.expect("asked to stop");
        service.expect("stopped");
        assert!(service.child.wait().unwrap().success(), "{signal:?}");
    }
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

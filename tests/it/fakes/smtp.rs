//! A mail server on loopback. It takes part in the whole dialogue, notes everything that a strict server
//! would mind, and can be told to break at each stage.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Where the server leaves the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Greeting,
    Hello,
    SignIn,
    Sender,
    Recipient,
    Data,
    /// While the text comes in, before the final dot.
    Text,
    /// After the final dot.
    Dot,
}

/// What it does there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    Hangs,
    Closes,
    Says(String),
}

/// One mail that was taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub from: String,
    pub to: Vec<String>,
    /// As it came, without the doubled dots, with `\n` for line ends.
    pub text: String,
}

impl Taken {
    /// The values of a header, unfolded.
    pub fn header(&self, name: &str) -> Vec<String> {
        let head = self.text.split("\n\n").next().unwrap().replace("\n ", " ").replace("\n\t", " ");
        let prefix = format!("{}:", name.to_ascii_lowercase());
        let lines = head.lines().filter(|l| l.to_ascii_lowercase().starts_with(&prefix));
        lines.map(|l| l[prefix.len()..].trim().to_owned()).collect()
    }

    pub fn body(&self) -> &str {
        self.text.split_once("\n\n").unwrap().1
    }
}

#[derive(Default)]
struct Seen {
    taken: Vec<Taken>,
    /// What a client must not do.
    wrong: Vec<String>,
    /// Commands, verbs only, of all connections.
    verbs: Vec<String>,
    sign_ins: Vec<String>,
}

pub struct Smtp {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Drop for Smtp {
    fn drop(&mut self) {
        self.accepting.abort();
        if !std::thread::panicking() {
            assert_eq!(self.seen.lock().unwrap().wrong, Vec::<String>::new(), "the mail server minds");
        }
    }
}

struct Dialogue {
    lines: BufReader<OwnedReadHalf>,
    out: OwnedWriteHalf,
    trouble: Option<(Stage, Trouble)>,
    /// Lines after the greeting of EHLO.
    offers: Vec<&'static str>,
    seen: Arc<Mutex<Seen>>,
}

/// The connection is over.
struct Over;

impl Smtp {
    pub async fn start() -> Smtp {
        Self::with(&[], None).await
    }

    pub async fn troubled(stage: Stage, trouble: Trouble) -> Smtp {
        Self::with(&["AUTH PLAIN LOGIN"], Some((stage, trouble))).await
    }

    /// A server that offers these extensions.
    pub async fn with(offers: &[&'static str], trouble: Option<(Stage, Trouble)>) -> Smtp {
        crate::crypto();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (shared, offers) = (seen.clone(), offers.to_vec());
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let dialogue = Dialogue::new(stream, offers.clone(), trouble.clone(), shared.clone());
                tokio::spawn(async move {
                    let _ = dialogue.run().await;
                });
            }
        });
        Smtp { address, seen, accepting }
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.seen.lock().unwrap().taken.clone()
    }

    pub fn verbs(&self) -> Vec<String> {
        self.seen.lock().unwrap().verbs.clone()
    }

    /// What came with AUTH PLAIN, decoded, NUL written as `|`.
    pub fn sign_ins(&self) -> Vec<String> {
        self.seen.lock().unwrap().sign_ins.clone()
    }
}

impl Dialogue {
    fn new(
        stream: TcpStream,
        offers: Vec<&'static str>,
        trouble: Option<(Stage, Trouble)>,
        seen: Arc<Mutex<Seen>>,
    ) -> Self {
        let (read, out) = stream.into_split();
        Self { lines: BufReader::new(read), out, trouble, offers, seen }
    }

    fn mind(&self, what: String) {
        self.seen.lock().unwrap().wrong.push(what);
    }

    async fn say(&mut self, text: &str) -> Result<(), Over> {
        self.out.write_all(format!("{text}\r\n").as_bytes()).await.map_err(|_| Over)
    }

    /// The usual answer, unless trouble was ordered for this stage.
    async fn answer(&mut self, stage: Stage, usual: &str) -> Result<(), Over> {
        match self.trouble.clone() {
            Some((at, Trouble::Closes)) if at == stage => Err(Over),
            Some((at, Trouble::Hangs)) if at == stage => {
                // Until the other side gives up.
                let mut rest = Vec::new();
                let _ = self.lines.read_to_end(&mut rest).await;
                Err(Over)
            }
            Some((at, Trouble::Says(text))) if at == stage => self.say(&text).await,
            _ => self.say(usual).await,
        }
    }

    /// One line without its end.
    async fn line(&mut self) -> Result<String, Over> {
        let mut bytes = Vec::new();
        self.lines.read_until(b'\n', &mut bytes).await.map_err(|_| Over)?;
        if bytes.is_empty() {
            return Err(Over);
        }
        if bytes.starts_with(&[0x16]) {
            // The first record of a TLS handshake, which this server cannot answer.
            self.seen.lock().unwrap().verbs.push("(TLS)".to_owned());
            return Err(Over);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some(line) = text.strip_suffix("\r\n") else {
            self.mind(format!("a line that does not end with CR LF: {text:?}"));
            return Err(Over);
        };
        if line.contains(['\r', '\0']) || !line.is_ascii() || line.len() > 998 {
            self.mind(format!("a line with a lone CR, a NUL, no ASCII or too long: {line:?}"));
        }
        Ok(line.to_owned())
    }

    async fn run(mut self) -> Result<(), Over> {
        self.answer(Stage::Greeting, "220 mail.example.com ready").await?;
        let (mut from, mut to): (Option<String>, Vec<String>) = (None, Vec::new());
        loop {
            let line = self.line().await?;
            let verb = line.split(' ').next().unwrap().to_ascii_uppercase();
            self.seen.lock().unwrap().verbs.push(verb.clone());
            match verb.as_str() {
                "EHLO" => {
                    let mut lines = vec!["mail.example.com"];
                    lines.extend(&self.offers);
                    let last = lines.len() - 1;
                    let text = lines.iter().enumerate();
                    let text: Vec<String> =
                        text.map(|(i, l)| format!("250{}{l}", if i == last { ' ' } else { '-' })).collect();
                    self.answer(Stage::Hello, &text.join("\r\n")).await?;
                }
                "AUTH" => {
                    let given = line.rsplit(' ').next().unwrap();
                    let decoded = data_encoding::BASE64.decode(given.as_bytes()).unwrap_or_default();
                    let text = String::from_utf8_lossy(&decoded).replace('\0', "|");
                    self.seen.lock().unwrap().sign_ins.push(text);
                    self.answer(Stage::SignIn, "235 welcome").await?;
                }
                "MAIL" => {
                    from = Some(address(&line, "MAIL FROM:<").unwrap_or_else(|| {
                        self.mind(format!("not a sender: {line}"));
                        String::new()
                    }));
                    self.answer(Stage::Sender, "250 sender ok").await?;
                }
                "RCPT" => {
                    if from.is_none() {
                        self.mind("a recipient before the sender".to_owned());
                    }
                    match address(&line, "RCPT TO:<") {
                        Some(address) => to.push(address),
                        None => self.mind(format!("not a recipient: {line}")),
                    }
                    self.answer(Stage::Recipient, "250 recipient ok").await?;
                }
                "DATA" => {
                    if to.is_empty() {
                        self.mind("DATA without a recipient".to_owned());
                    }
                    self.answer(Stage::Data, "354 go on").await?;
                    if self.trouble.as_ref().is_some_and(|(at, _)| *at == Stage::Data) {
                        continue;
                    }
                    if self.trouble.as_ref().is_some_and(|(at, _)| *at == Stage::Text) {
                        self.line().await?;
                        return Err(Over);
                    }
                    let text = self.text().await?;
                    let taken = Taken { from: from.take().unwrap_or_default(), to: std::mem::take(&mut to), text };
                    self.check(&taken);
                    let usual = "250 queued as 12AB";
                    let refused = matches!(&self.trouble,
                        Some((Stage::Dot, Trouble::Says(text))) if text.starts_with(['4', '5']));
                    if !refused {
                        self.seen.lock().unwrap().taken.push(taken);
                    }
                    self.answer(Stage::Dot, usual).await?;
                }
                "STARTTLS" if self.offers.contains(&"STARTTLS") => self.say("220 go on").await?,
                "QUIT" => {
                    self.say("221 bye").await?;
                    return Ok(());
                }
                _ => {
                    self.mind(format!("an unknown command: {line}"));
                    self.say("500 what").await?;
                }
            }
        }
    }

    async fn text(&mut self) -> Result<String, Over> {
        let mut text = String::new();
        loop {
            let line = self.line().await?;
            if line == "." {
                return Ok(text);
            }
            text.push_str(line.strip_prefix('.').unwrap_or(&line));
            text.push('\n');
        }
    }

    /// What every mail has to have, once each.
    fn check(&self, mail: &Taken) {
        for name in ["From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Auto-Submitted"] {
            let n = mail.header(name).len();
            if n != 1 {
                self.mind(format!("{n} headers {name} in {:?}", mail.text));
            }
        }
        for name in ["Bcc", "Cc", "Reply-To", "Sender"] {
            if !mail.header(name).is_empty() {
                self.mind(format!("a header {name} that nobody asked for"));
            }
        }
    }
}

fn address(line: &str, prefix: &str) -> Option<String> {
    let (address, _) = line.strip_prefix(prefix)?.split_once('>')?;
    Some(address.to_owned())
}

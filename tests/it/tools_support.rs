//! Customers and tickets: the directory, its import, its commands, and another system over HTTP.

use std::future::pending;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use twelve::agent::{EffectId, Outcome, Risk, ThreadId, Timestamp};
use twelve::tools::directory::{
    Customer, Directory, DirectoryError, FILE, ImportError, Imported, MAX_REFUSED_SHOWN, NewTicket, Priority, fold,
};
use twelve::tools::{CallContext, Registry, ToolsConfig};

use crate::fake_service::{Checked as _, call, closed_port};

const LOOKUP: &str = "lookup_customer";
const TICKET: &str = "create_support_ticket";

fn registry(support: &str, data: &Path) -> anyhow::Result<Registry> {
    let config: ToolsConfig = toml::from_str(&format!("[support]\n{support}"))?;
    Registry::from_config(&config, data)
}

/// A directory with the sample in it, and the tools over it.
fn sample() -> (TempDir, Directory, Registry) {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::at(dir.path());
    assert_eq!(directory.import_sample().unwrap(), Imported { added: 12, changed: 0, unchanged: 0 });
    let registry = registry("", dir.path()).unwrap();
    (dir, directory, registry)
}

fn import(directory: &Directory, csv: &str) -> Result<Imported, ImportError> {
    directory.import(csv.as_bytes(), |_| {})
}

fn effect(n: u64) -> CallContext {
    let thread = "console:test".parse::<ThreadId>().unwrap().short();
    CallContext { effect: EffectId::new(thread, n, 0), now: Timestamp(1_000), cancel: Default::default() }
}

async fn looked_up(registry: &Registry, query: &str) -> String {
    match registry.checked_run(LOOKUP, &json!({ "query": query }), &call()).await {
        Outcome::Succeeded { text } => text,
        other => panic!("{other:?}"),
    }
}

fn ids(directory: &Directory, query: &str) -> Vec<String> {
    directory.search(query, 50).unwrap().customers.into_iter().map(|c| c.id).collect()
}

#[test]
fn a_look_up_reads_what_others_wrote_and_a_ticket_is_safe_to_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let registry = registry("", dir.path()).unwrap();
    let (lookup, ticket) = (registry.facts(LOOKUP).unwrap(), registry.facts(TICKET).unwrap());
    assert!(lookup.outside && !lookup.side_effects && lookup.idempotent && lookup.risk == Risk::Low);
    assert!(!ticket.outside && ticket.side_effects && ticket.idempotent && ticket.editable && ticket.risk == Risk::Low);
    let args = json!({ "customer": "C-1", "subject": "It\nis", "body": "x" });
    assert_eq!(registry.title(TICKET, &args), "Open a ticket for C-1: It is");
    for (args, words) in [
        (json!({ "subject": "s" }), "create_support_ticket: `body` is missing"),
        (json!({ "subject": " ", "body": "b" }), "create_support_ticket: `subject` is empty"),
        (json!({ "subject": "s\nt", "body": "b" }), "create_support_ticket: `subject` has to be one line"),
        (
            json!({ "subject": "s", "body": "b", "priority": "soon" }),
            "create_support_ticket: `priority` has to be one of low, normal, high, urgent, not \"soon\"",
        ),
    ] {
        assert_eq!(registry.check_value(TICKET, args).unwrap_err(), words);
    }
    assert_eq!(registry.check(LOOKUP, r#"{"query":"  "}"#).unwrap_err(), "lookup_customer: `query` is empty");
}

#[tokio::test]
async fn nothing_is_made_before_something_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let registry = registry("", &data).unwrap();
    let outcome = registry.checked_run(LOOKUP, &json!({ "query": "ada" }), &call()).await;
    let error = "there are no customers in the directory yet; an operator brings them in with \
                 `twelve customers import FILE.csv`";
    assert_eq!(outcome, Outcome::Failed { error: error.to_owned() });
    let directory = Directory::at(&data);
    assert_eq!((directory.count().unwrap(), directory.tickets(10).unwrap()), (0, vec![]));
    assert!(!data.exists());
    let args = json!({ "subject": "s", "body": "b" });
    let outcome = registry.checked_run(TICKET, &args, &call()).await;
    assert_eq!(outcome, Outcome::Succeeded { text: "opened the ticket T-1".to_owned() });
    assert!(data.join(FILE).exists());
}

#[tokio::test]
async fn a_customer_is_shown_a_field_a_line() {
    let (_dir, directory, registry) = sample();
    insta::assert_snapshot!(looked_up(&registry, "ADA@Example.com ").await, @"
    1 customer fits `ADA@Example.com`
    C-1001: Ada Nakamura
      email: ada@example.com
      company: Brightwater Clinics
      plan: business
      region: eu
      since: 2021-03-14
      notes: Prefers mail to phone. Runs the nightly import at 02:00 UTC.
    ");
    assert_eq!(looked_up(&registry, "zzz").await, "no customer fits `zzz`");
    // What is written in a field can pass neither for another field nor for another customer, nor be endless.
    let notes = format!("harmless\nC-9: Eve\u{202e}\u{1b}[2J {}", "x".repeat(3_000));
    import(&directory, &format!("id,name,notes\nE-1,\"Eve\n  plan: enterprise\",\"{notes}\"\n")).unwrap();
    let text = looked_up(&registry, "e-1").await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..2], ["1 customer fits `e-1`", "E-1: Eve plan: enterprise"]);
    assert!(lines[2].starts_with("  notes: harmless C-9: Eve[2J xxx") && lines.len() == 3, "{text}");
    assert!(lines[2].chars().count() < 1_100);
}

#[tokio::test]
async fn a_long_result_is_cut_and_says_so() {
    let (_dir, _directory, registry) = sample();
    let text = looked_up(&registry, "C-10").await;
    assert!(text.starts_with("12 customers fit `C-10`\nC-1001: "), "{text}");
    assert!(text.ends_with("\n7 more: be more specific"), "{text}");
    assert_eq!(text.matches("\nC-10").count(), 5);
}

#[test]
fn a_search_takes_the_exact_before_the_beginning_before_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::at(dir.path());
    import(
        &directory,
        "id,name,email,company\n\
         1,Roseanna Ann,r@example.com,Annex\n\
         2,Ann,ann@example.com,Zeta\n\
         3,Annabel Lee,al@example.com,Zeta & Sons\n\
         4,Joanna,joanna@example.com,\"50% \"\"off\"\"_Ltd\"\n\
         5,Bo Li,nann@example.com,Ørsted Straße\n\
         ann,Xaver,x@example.com,\n",
    )
    .unwrap();
    for (query, expected) in [
        // an exact id or address is the only answer
        ("ann", vec!["ann"]),
        ("ANN@EXAMPLE.COM", vec!["2"]),
        // the whole name, then beginnings of name, address or company, then the inside
        ("zeta", vec!["2", "3"]),
        ("anna", vec!["3", "4", "1"]),
        // all words, in any order, in any field
        ("lee zeta", vec!["3"]),
        ("zeta lee", vec!["3"]),
        ("zeta xaver", vec![]),
        // a short word narrows down, and is a beginning by itself
        ("zeta &", vec!["3"]),
        ("bo", vec!["5"]),
        ("Bo  LI", vec!["5"]),
        ("li", vec![]),
        // accents and ß
        ("STRASSE", vec!["5"]),
        ("straße", vec!["5"]),
        ("XÄVER", vec!["ann"]),
        // nothing in it is an operator
        ("50% \"off\"", vec!["4"]),
        ("off_ltd", vec![]),
        ("\"off\"_ltd", vec!["4"]),
        ("%", vec![]),
        ("zeta OR xaver", vec![]),
        ("ann*", vec![]),
        ("name:ann", vec![]),
        ("' OR 1=1 --", vec![]),
        ("(", vec![]),
        ("", vec![]),
    ] {
        assert_eq!(ids(&directory, query), expected, "{query}");
    }
    assert_eq!(fold("  Ünï\tÇödé "), "uni code");
    assert_eq!(directory.search("anna", 1).unwrap().total, 3, "the limit cuts the list, not the count");
}

#[test]
fn an_import_adds_changes_and_leaves_alone() {
    let (_dir, directory, _) = sample();
    // Another order, a byte order mark, a column that is new, most columns missing.
    let csv = "\u{feff}Email,ID,Tier\r\nada@example.net,C-1001,gold\r\n ben@example.com ,C-1002,\r\nnew@example.com,N-1,silver\r\n";
    assert_eq!(import(&directory, csv).unwrap(), Imported { added: 1, changed: 2, unchanged: 0 });
    assert_eq!(import(&directory, csv).unwrap(), Imported { added: 0, changed: 0, unchanged: 3 });
    assert_eq!(directory.count().unwrap(), 13);
    let found = directory.search("C-1001", 5).unwrap();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let ada = Customer {
        id: "C-1001".into(),
        name: "Ada Nakamura".into(),
        email: "ada@example.net".into(),
        company: "Brightwater Clinics".into(),
        plan: "business".into(),
        notes: "Prefers mail to phone. Runs the nightly import at 02:00 UTC.".into(),
        extra: vec![pair("region", "eu"), pair("since", "2021-03-14"), pair("Tier", "gold")],
    };
    assert_eq!(found.customers, [ada]);
    // The index follows: the old address finds nobody, the new one does.
    assert_eq!(ids(&directory, "ada@example.com"), Vec::<String>::new());
    assert_eq!(ids(&directory, "ada@example.net"), ["C-1001"]);
    assert_eq!(ids(&directory, "da@example.ne"), ["C-1001"]);
    assert_eq!(ids(&directory, "da@example.co"), Vec::<String>::new());
}

#[test]
fn a_csv_that_is_wrong_changes_nothing_and_every_line_is_named() {
    let (_dir, directory, _) = sample();
    let file = |words: &str| format!("{words}; nothing was imported");
    for (csv, words) in [
        (
            "",
            file(
                "the header names no column `id`; the first line has to name the columns, such as id,name,email,company,plan,notes",
            ),
        ),
        (
            "name,email\nx,y\n",
            file(
                "the header names no column `id`; the first line has to name the columns, such as id,name,email,company,plan,notes",
            ),
        ),
        (
            "id;name\n1;x\n",
            file("the header names no column `id`; its columns seem to be separated by ';', and a comma is wanted"),
        ),
        ("id,name,Name\n1,x,y\n", file("the header names `Name` twice")),
        ("id,,x\n1,2,3\n", file("column 2 of the header has no usable name")),
        ("id,name\n", file("there is no customer in it")),
        (
            "id,name,email\nX-1,x,x@example.com\nX-2,too few\nX-3,\"two\nlines\",x@example.com,much\n,nobody,\nX-1,again,\nX-4,y,not an address\nX-5,z,a@b@c\n",
            "nothing was imported, because 6 lines are refused:\
             \n  line 3: it has 2 fields, the header 3\
             \n  line 4: it has 4 fields, the header 3\
             \n  line 6: `id` is empty\
             \n  line 7: the id `X-1` stands in line 2 already\
             \n  line 8: `not an address` is not a mail address\
             \n  line 9: `a@b@c` is not a mail address"
                .to_owned(),
        ),
    ] {
        assert_eq!(import(&directory, csv).unwrap_err().to_string(), words, "{csv:?}");
    }
    let long = format!("id,name\nX-1,{}\n", "x".repeat(400));
    let words = "nothing was imported, because 1 line is refused:\n  line 2: `name` has more than 320 characters";
    assert_eq!(import(&directory, &long).unwrap_err().to_string(), words);
    let many: String = (0..50).map(|_| ",x\n").collect();
    let words = import(&directory, &format!("id,name\n{many}")).unwrap_err().to_string();
    assert_eq!(words.lines().count(), 2 + MAX_REFUSED_SHOWN);
    assert!(
        words.starts_with("nothing was imported, because 50 lines are refused:") && words.ends_with("… and 30 more")
    );
    let bytes = b"id,name\nX-1,ok\nX-2,caf\xe9\n";
    let words = directory.import(&bytes[..], |_| {}).unwrap_err().to_string();
    assert_eq!(words, file("line 3: the text is not UTF-8; save the file with that encoding"));
    let broken = std::io::Read::chain(&b"id,name\nX-1,ok\n"[..], Broken);
    let words = directory.import(broken, |_| {}).unwrap_err().to_string();
    assert_eq!(words, file("the file cannot be read: the disk is gone"));
    assert_eq!(directory.count().unwrap(), 12, "nothing of all this was written");
    assert_eq!(ids(&directory, "X-1"), Vec::<String>::new());
}

struct Broken;
impl std::io::Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the disk is gone"))
    }
}

#[test]
fn a_large_import_tells_its_progress() {
    let dir = tempfile::tempdir().unwrap();
    let rows: String = (0..20_500).map(|n| format!("L-{n},Name {n}\n")).collect();
    let mut told = Vec::new();
    let done = Directory::at(dir.path()).import(format!("id,name\n{rows}").as_bytes(), |n| told.push(n)).unwrap();
    assert_eq!((done.added, told), (20_500, vec![10_000, 20_000]));
}

#[tokio::test]
async fn one_call_is_one_ticket_however_often_it_runs() {
    let (_dir, directory, registry) = sample();
    let args = json!({ "customer": "C-1001", "subject": "The import failed", "body": "At 02:00.", "priority": "high" });
    let opened = |n: u64| Outcome::Succeeded { text: format!("opened the ticket T-{n}") };
    assert_eq!(registry.checked_run(TICKET, &args, &effect(1)).await, opened(1));
    assert_eq!(registry.checked_run(TICKET, &args, &effect(1)).await, opened(1), "after a crash it runs again");
    assert_eq!(registry.checked_run(TICKET, &args, &effect(2)).await, opened(2), "another call is another ticket");
    let tickets = serde_json::to_value(directory.tickets(10).unwrap()).unwrap();
    assert_eq!(
        tickets[1],
        json!({ "number": "T-1", "opened": "1970-01-01T00:00:01Z", "customer": "C-1001",
                "subject": "The import failed", "body": "At 02:00.", "priority": "high" })
    );
    assert_eq!(tickets.as_array().unwrap().len(), 2);
    let unknown = json!({ "customer": "C-9", "subject": "s", "body": "b" });
    let error = "there is no customer with the id `C-9`; look the customer up first, or leave `customer` out";
    assert_eq!(registry.checked_run(TICKET, &unknown, &effect(3)).await, Outcome::Failed { error: error.to_owned() });
    assert_eq!(directory.tickets(10).unwrap().len(), 2);
    // The id has to stand there as it is in the directory: a rule saw the one that the call names.
    let other = json!({ "customer": "c-1001", "subject": "s", "body": "b" });
    let error = "there is no customer with the id `c-1001`; write `C-1001`";
    assert_eq!(registry.checked_run(TICKET, &other, &effect(3)).await, Outcome::Failed { error: error.to_owned() });
    assert_eq!(directory.tickets(10).unwrap().len(), 2);
    let stopped = effect(4);
    stopped.cancel.cancel();
    let error = "stopped before the ticket was opened".to_owned();
    assert_eq!(registry.checked_run(TICKET, &args, &stopped).await, Outcome::Failed { error });
}

/// Threads that share nothing but the file: each operation opens it anew, as other processes would.
#[test]
fn many_writers_at_once_lose_nothing_and_repeat_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    const WRITERS: usize = 8;
    const EACH: usize = 15;
    let mut numbers: Vec<String> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|w| {
                let directory = Directory::at(&data);
                scope.spawn(move || {
                    let ticket = NewTicket {
                        customer: None,
                        subject: format!("w{w}"),
                        body: "b".into(),
                        priority: Priority::Low,
                    };
                    let mut numbers = Vec::new();
                    for n in 0..EACH {
                        // Two writers share each effect.
                        let effect = format!("eff_{}_{n}", w / 2);
                        numbers.push(directory.open_ticket(&effect, Timestamp(1), &ticket).unwrap());
                        import(&directory, &format!("id,name\nW-{w}-{n},Writer {w}\nshared,by {w}\n")).unwrap();
                        assert!(directory.search("writer", 5).unwrap().total > 0);
                    }
                    numbers
                })
            })
            .collect();
        writers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    numbers.sort();
    assert!(numbers.chunks(2).all(|pair| pair[0] == pair[1]), "both writers of an effect have its ticket");
    numbers.dedup();
    assert_eq!(numbers.len(), WRITERS / 2 * EACH);
    let directory = Directory::at(&data);
    assert_eq!(directory.tickets(1_000).unwrap().len(), WRITERS / 2 * EACH);
    assert_eq!(directory.count().unwrap(), WRITERS * EACH + 1);
    assert_eq!(directory.search("writer", 5).unwrap().total, WRITERS * EACH, "and the index agrees");
}

#[test]
fn another_file_of_that_name_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::at(dir.path());
    let other = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    other.execute_batch("CREATE TABLE precious (x); INSERT INTO precious VALUES (1)").unwrap();
    let foreign = |e: DirectoryError| assert!(matches!(e, DirectoryError::Foreign { .. }), "{e}");
    foreign(directory.search("ada", 5).unwrap_err());
    let ImportError::Directory(e) = directory.import_sample().unwrap_err() else { panic!() };
    foreign(e);
    let tables: i64 = other.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 1);
    drop(other);
    std::fs::write(dir.path().join(FILE), "this is a text and no database, and it is long enough".repeat(20)).unwrap();
    foreign(directory.tickets(5).unwrap_err());
}

// ---- over HTTP ----

#[derive(Clone, Debug, PartialEq)]
struct Asked {
    line: String,
    key: String,
    bearer: String,
    body: Value,
}

/// A system of customers and tickets that gives one prepared answer to everything. Status 0: it never answers.
struct Desk {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<Mutex<(u16, String)>>,
}

impl Desk {
    async fn start() -> Desk {
        crate::crypto();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let answer = Arc::new(Mutex::new((200, "[]".to_owned())));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        type Shared = (Arc<Mutex<Vec<Asked>>>, Arc<Mutex<(u16, String)>>);
        async fn answered(
            State((asked, answer)): State<Shared>,
            method: axum::http::Method,
            uri: Uri,
            headers: HeaderMap,
            body: Bytes,
        ) -> Response {
            let text = |name: &str| headers.get(name).map_or("", |v| v.to_str().unwrap()).to_owned();
            asked.lock().unwrap().push(Asked {
                line: format!("{method} {uri}"),
                key: text("idempotency-key"),
                bearer: text("authorization"),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            });
            let (status, body) = answer.lock().unwrap().clone();
            if status == 0 {
                return pending().await;
            }
            (StatusCode::from_u16(status).unwrap(), body).into_response()
        }
        let app = Router::new().fallback(answered).with_state((asked.clone(), answer.clone()));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Desk { url, asked, answer }
    }

    fn says(&self, status: u16, body: impl ToString) {
        *self.answer.lock().unwrap() = (status, body.to_string());
    }

    fn registry(&self, more: &str) -> Registry {
        over(&self.url, more)
    }
}

fn over(url: &str, more: &str) -> Registry {
    let support = format!(
        "backend = 'http'\n[support.http]\ncustomers_url = '{url}/customers?q={{query}}&limit=5'\n\
         tickets_url = '{url}/tickets'\n{more}"
    );
    registry(&support, Path::new("unused")).unwrap_or_else(|e| panic!("{e:#}"))
}

#[tokio::test]
async fn customers_of_another_system_are_looked_up_by_an_encoded_query() {
    let desk = Desk::start().await;
    let registry = desk.registry("token_env = 'CARGO_PKG_NAME'");
    let ada =
        json!({ "id": 7, "name": "Ada", "email": "ada@example.com", "tier": "gold", "vip": true, "more": {"x": 1} });
    desk.says(200, json!([ada]));
    assert_eq!(
        looked_up(&registry, "a&q=b/../#é").await,
        "1 customer fits `a&q=b/../#é`\n7: Ada\n  email: ada@example.com\n  tier: gold\n  vip: true"
    );
    let many: Vec<Value> = (0..7).map(|n| json!({ "id": n })).collect();
    desk.says(200, json!({ "customers": many, "total": 40 }));
    let text = looked_up(&registry, "x").await;
    assert!(text.starts_with("40 customers fit `x`\n0: \n") && text.ends_with("\n35 more: be more specific"), "{text}");
    desk.says(404, "nobody");
    assert_eq!(looked_up(&registry, "x").await, "no customer fits `x`");
    let asked = desk.asked.lock().unwrap().clone();
    assert_eq!(asked[0].line, "GET /customers?q=a%26q%3Db%2F..%2F%23%C3%A9&limit=5");
    let bearer = format!("Bearer {}", std::env::var("CARGO_PKG_NAME").unwrap());
    assert!(asked.iter().all(|a| a.bearer == bearer), "{asked:?}");
}

#[tokio::test]
async fn an_answer_about_customers_that_is_none_is_a_failure() {
    let desk = Desk::start().await;
    let registry = desk.registry("timeout = '300ms'\ntoken_env = 'CARGO_MANIFEST_DIR'");
    let token = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    for (status, body, words) in [
        (200, "hello".to_owned(), "the answer about customers is not a JSON list of customers".to_owned()),
        (200, "{}".to_owned(), "the answer about customers is not a JSON list of customers".to_owned()),
        (200, "[1]".to_owned(), "the answer about customers is not a JSON list of customers".to_owned()),
        (200, "[{\"name\":\"x\"}]".to_owned(), "a customer in the answer has no `id`".to_owned()),
        (200, "x".repeat(100_000), "the answer about customers is too long or was cut off".to_owned()),
        (302, String::new(), "the customers cannot be read: HTTP 302".to_owned()),
        (500, format!("{token}\n"), "the customers cannot be read: HTTP 500: [token]".to_owned()),
        (0, String::new(), "the customers cannot be reached (no answer within 300ms)".to_owned()),
    ] {
        desk.says(status, body);
        let outcome = registry.checked_run(LOOKUP, &json!({ "query": "x" }), &call()).await;
        assert_eq!(outcome, Outcome::Failed { error: words });
    }
}

#[tokio::test]
async fn what_another_system_says_of_a_ticket_counts_as_text_from_outside() {
    let desk = Desk::start().await;
    assert!(desk.registry("timeout = '300ms'").facts(TICKET).unwrap().outside);
    let here = Registry::from_config(&ToolsConfig::default(), Path::new("unused")).unwrap();
    assert!(!here.facts(TICKET).unwrap().outside, "the directory of this program says only its own words");
}

#[tokio::test]
async fn a_ticket_of_another_system_carries_its_key_and_is_unknown_without_an_answer() {
    let desk = Desk::start().await;
    let registry = desk.registry("timeout = '300ms'\ntoken_env = 'CARGO_MANIFEST_DIR'");
    let token = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let args = json!({ "customer": "7", "subject": "s", "body": "b" });
    for (status, body, unknown, words) in [
        (201, r#"{"number":"HELP-1"}"#.to_owned(), None, "opened the ticket HELP-1".to_owned()),
        (200, r#"{"id":17}"#.to_owned(), None, "opened the ticket 17".to_owned()),
        (200, "ok".to_owned(), Some(true), "the ticket system took the ticket, but told no number; look whether there is a ticket before another is opened".to_owned()),
        (409, "no such customer".to_owned(), Some(false), "the ticket system refused it: HTTP 409: no such customer; no ticket was opened".to_owned()),
        (401, token.clone(), Some(false), "the ticket system refused it: HTTP 401: [token]; no ticket was opened".to_owned()),
        (302, String::new(), Some(false), "the ticket system refused it: HTTP 302; no ticket was opened".to_owned()),
        (502, "bad gateway".to_owned(), Some(true), "the ticket system answered HTTP 502: bad gateway; look whether there is a ticket before another is opened".to_owned()),
        (0, String::new(), Some(true), "the ticket was sent, but no answer within 300ms; look whether there is a ticket before another is opened".to_owned()),
    ] {
        desk.says(status, body);
        let expected = match unknown {
            None => Outcome::Succeeded { text: words },
            Some(true) => Outcome::Unknown { error: words },
            Some(false) => Outcome::Failed { error: words },
        };
        assert_eq!(registry.checked_run(TICKET, &args, &call()).await, expected);
    }
    let asked = desk.asked.lock().unwrap().clone();
    let expected = Asked {
        line: "POST /tickets".to_owned(),
        key: call().effect.to_string(),
        bearer: format!("Bearer {token}"),
        body: json!({ "customer": "7", "subject": "s", "body": "b", "priority": "normal" }),
    };
    assert!(asked.len() == 8 && asked.iter().all(|a| *a == expected), "{asked:?}");

    let registry = over(&format!("http://{}", closed_port().await), "");
    let Outcome::Failed { error } = registry.checked_run(TICKET, &args, &call()).await else { panic!() };
    assert_eq!(error, "the ticket system cannot be reached (Connection refused (os error 111)); no ticket was opened");
    let registry = desk.registry("token_env = 'TWELVE_TEST_NO_SUCH_TOKEN'");
    let Outcome::Failed { error } = registry.checked_run(TICKET, &args, &call()).await else { panic!() };
    assert!(error.starts_with("the environment variable TWELVE_TEST_NO_SUCH_TOKEN is not set;"), "{error}");
}

#[test]
fn a_setting_that_cannot_work_is_named() {
    let http = |customers: &str, tickets: &str, more: &str| {
        format!("backend = 'http'\n[support.http]\ncustomers_url = '{customers}'\ntickets_url = '{tickets}'\n{more}")
    };
    let good = ("https://h/c?q={query}", "https://h/t");
    for (support, words) in [
        ("backend = 'http'".to_owned(), "in tools.support: backend: \"http\" needs the section [tools.support.http]"),
        (
            http("https://h/c", good.1, ""),
            "in tools.support.http: customers_url: it has no `{query}`, so it finds always the same",
        ),
        (
            http("https://h/{qeury}", good.1, ""),
            "in tools.support.http: in customers_url: `{qeury}` is not a placeholder; did you mean `query`? (known: query)",
        ),
        (
            http(good.0, "ftp://h/t", ""),
            "in tools.support.http: in tickets_url: `ftp://h/t` does not start with one of http://, https://",
        ),
        (http(good.0, good.1, "timeout = '0s'"), "in tools.support.http: timeout: must be longer than 0s"),
        (
            http(good.0, good.1, "token_env = 'secret-token'"),
            "in tools.support.http: token_env: give the name of an environment variable, not the token (got 12 characters)",
        ),
    ] {
        let error = registry(&support, Path::new("unused")).err().unwrap_or_else(|| panic!("{support} was taken"));
        assert_eq!(format!("{error:#}"), words);
    }
    assert!(toml::from_str::<ToolsConfig>("[support]\nbackend = 'paper'").is_err());
}

// ---- the commands ----

struct Home(TempDir);

impl Home {
    fn new(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("twelve.toml"), format!("[model]\nprovider = \"scripted\"\n{settings}"))
            .unwrap();
        Self(dir)
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twelve"));
        command.args(args).current_dir(self.0.path()).env_clear().env("USER", "ops").stdin(std::process::Stdio::null());
        let Output { status, stdout, stderr } = command.output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    fn ok(&self, args: &[&str]) -> String {
        let (code, out, errors) = self.run(args);
        assert_eq!((code, errors.as_str()), (Some(0), ""), "{args:?}: {out}");
        out
    }
}

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/demo/customers.csv");

#[test]
fn the_commands_import_search_and_list() {
    let home = Home::new("[tools.email]\nallow = ['*@example.com']\n");
    assert!(home.ok(&["customers", "search", "ada"]).starts_with("there are no customers yet: bring them in with"));
    assert_eq!(home.ok(&["tickets", "list"]), "there are no tickets yet\n");
    assert!(!home.0.path().join("data").exists(), "looking makes nothing");
    assert_eq!(home.ok(&["customers", "import", SAMPLE]), "12 added, 0 changed, 0 unchanged, 0 refused\n");
    let again: Value = serde_json::from_str(&home.ok(&["customers", "import", SAMPLE, "--json"])).unwrap();
    assert_eq!(again, json!({ "added": 0, "changed": 0, "unchanged": 12 }));
    assert!(home.ok(&["customers", "search", "muller"]).contains("C-1010: Jutta Müller\n"));
    let found: Value = serde_json::from_str(&home.ok(&["customers", "search", "brightwater", "--json"])).unwrap();
    assert_eq!((&found["total"], &found["customers"][0]["extra"]["region"]), (&json!(2), &json!("eu")));

    std::fs::write(home.0.path().join("bad.csv"), "id,name\n,x\n").unwrap();
    let (code, _, errors) = home.run(&["customers", "import", "bad.csv"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.ends_with("bad.csv: nothing was imported, because 1 line is refused:\n  line 2: `id` is empty\n"),
        "{errors}"
    );
    let (code, _, errors) = home.run(&["customers", "import", "none.csv"]);
    assert_eq!(code, Some(1));
    assert!(errors.starts_with("twelve: none.csv cannot be opened: No such file"), "{errors}");

    // The built-in agent, without a key, as the demo shows it.
    let told = home.run(&["run", "support", "who is ada@example.com?"]).1;
    assert!(told.contains("Ada Nakamura") && told.contains("Brightwater Clinics"), "{told}");
    let told = home.run(&["run", "support", "open a ticket: the printer smokes"]).1;
    assert!(told.contains("The ticket T-1 is open."), "{told}");
    let (code, told, errors) = home.run(&["run", "support", "mail ada@example.com that the import works again"]);
    assert_eq!(code, Some(3), "{told}{errors}");
    assert!(told.contains("Approval needed: Mail ada@example.com: A word from support"), "{told}");
    assert!(!home.0.path().join("data/outbox").exists(), "nothing leaves before somebody approves");
    let tickets: Value = serde_json::from_str(&home.ok(&["tickets", "list", "--json"])).unwrap();
    assert_eq!((&tickets[0]["number"], &tickets[0]["subject"]), (&json!("T-1"), &json!("the printer smokes")));
    assert!(home.ok(&["tickets", "list"]).contains("the printer smokes"));
}

#[test]
fn the_commands_say_so_where_customers_are_elsewhere() {
    let home = Home::new(
        "[tools.support]\nbackend = 'http'\n[tools.support.http]\ncustomers_url = 'https://h/{query}'\ntickets_url = 'https://h/t'\n",
    );
    for args in [vec!["customers", "import", SAMPLE], vec!["customers", "search", "x"], vec!["tickets", "list"]] {
        let (code, _, errors) = home.run(&args);
        assert_eq!(code, Some(1));
        assert!(
            errors.starts_with("twelve: customers and tickets are in the system of [tools.support.http];"),
            "{errors}"
        );
    }
}

//! The web console by HTTP: who gets in, whose forms count, what a page shows and a decision leads to.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::StatusCode;
use twelve::agent::*;

use crate::site::{Page, Plan, Site, Visitor, unescape};
use crate::world::{Setup, World};

/// Ann asks, bob and cid decide.
async fn stage() -> (World, Site) {
    staged(Setup::default()).await
}

async fn staged(setup: Setup) -> (World, Site) {
    let world = World::with(setup).await;
    let site = Site::start(world.runtime.clone(), Plan::default()).await;
    (world, site)
}

fn approvers(users: &[&str], quorum: u32) -> Setup {
    let users = users.iter().map(|u| (*u).to_owned()).collect();
    let policy = Policy {
        rules: Vec::new(),
        approvers: Approvers { users, quorum, ..Approvers::default() },
        expires_after_ms: 7_200_000,
        ..Policy::default()
    };
    Setup { policy, ..Setup::default() }
}

/// Starts a conversation in the page's own form; gives the path of the page it leads to.
async fn start(visitor: &mut Visitor, world: &World, message: &str) -> String {
    let page = visitor.get("/").await;
    let answer = visitor.send(&page, "/chat", &[("agent", "tester"), ("message", message)]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.text);
    world.runtime.settle().await.unwrap();
    answer.location()
}

fn thread_of(path: &str) -> ShortId {
    path.trim_start_matches("/chat/").parse().unwrap()
}

async fn fold(world: &World, path: &str) -> Thread {
    world.runtime.thread(thread_of(path)).await.unwrap()
}

async fn the_approval(world: &World, path: &str) -> Approval {
    let thread = fold(world, path).await;
    let mut all: Vec<_> = thread.approvals.values().map(|a| (**a).clone()).collect();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn card_of<'a>(page: &'a Page, id: &ApprovalId) -> &'a str {
    let start = page.text.find(&format!("id=\"{id}\"")).unwrap_or_else(|| panic!("no card {id} in {}", page.text));
    page.text[start..].split("</article>").next().unwrap()
}

// ---- who gets in ----

#[tokio::test]
async fn nobody_gets_in_without_an_identity_and_the_page_says_how_to() {
    let (_world, site) = stage().await;
    let mut stranger = site.visitor();
    for path in [
        "/",
        "/inbox",
        "/inbox/live",
        "/chat/aaaaaaaaaaaaaaaa",
        "/chat/aaaaaaaaaaaaaaaa/live",
        "/inbox/apr_x",
        "/login",
    ] {
        let page = stranger.get(path).await;
        assert_eq!(page.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(page.text.contains("twelve login-link ann"), "{path}: {}", page.text);
    }
}

#[tokio::test]
async fn a_link_signs_in_once_and_looking_at_it_changes_nothing() {
    let (_world, site) = stage().await;
    let link = site.link("ann");
    for _ in 0..3 {
        // A program that looks into mails.
        let page = site.visitor().get(&link).await;
        assert_eq!(page.status, StatusCode::OK);
        assert!(page.text.contains("Sign in as web:ann"));
    }
    let mut ann = site.visitor();
    let page = ann.get(&link).await;
    assert_eq!(ann.get("/").await.status, StatusCode::UNAUTHORIZED, "looking is not signing in");
    let answer = ann.send(&page, "/login", &[]).await;
    assert_eq!((answer.status, answer.location().as_str()), (StatusCode::SEE_OTHER, "/"));
    let home = ann.get("/").await;
    assert_eq!(home.status, StatusCode::OK);
    assert!(home.text.contains("You are signed in as ann"));

    let mut second = site.visitor();
    let again = second.get(&link).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
    assert!(again.text.contains("This link was used before"), "{}", again.text);
    // And by whoever had the page open before.
    let mut third = site.visitor();
    let other = third.get(&site.link("bob")).await;
    let mut fields = other.form("/login");
    fields
        .iter_mut()
        .filter(|(name, _)| name == "link")
        .for_each(|(_, v)| *v = link.trim_start_matches("/login?token=").to_owned());
    let answer = third.post("/login", &fields).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "a replayed link");
    assert!(!third.cookies.contains_key("twelve_session"));
}

#[tokio::test]
async fn what_came_with_a_message_is_told_by_name_and_not_as_markup() {
    let (world, site) = stage().await;
    let mut ann = site.person("ann").await;
    let id: ThreadId = "web:with-files".parse().unwrap();
    let quoted = Attached::Quoted { label: "a <b>note</b>".into(), text: "<script>alert(1)</script>".into(), by: None };
    let file = Attached::File { name: "a.log".into(), place: "F1".into() };
    let by = Principal::human("web:ann");
    let said = twelve::runtime::Said { attached: vec![quoted, file], ..twelve::runtime::Said::by(by, "hi") };
    world.runtime.message(&id, "tester", said).await.unwrap();
    world.runtime.settle().await.unwrap();
    let page = ann.get(&format!("/chat/{}", id.short())).await;
    assert!(
        page.text.contains("Read along: a &#60;b&#62;note&#60;/b&#62; (25 bytes); the file a.log (not read: "),
        "{}",
        page.text
    );
    assert!(!page.text.contains("alert(1)"), "the text itself is the model's business");
}

#[tokio::test]
async fn two_presses_on_one_link_sign_in_one_browser() {
    let (_world, site) = stage().await;
    let link = site.link("ann");
    let mut browsers = Vec::new();
    for _ in 0..4 {
        let mut browser = site.visitor();
        let page = browser.get(&link).await;
        browsers.push(async move { browser.send(&page, "/login", &[]).await.status });
    }
    let mut statuses = futures_util::future::join_all(browsers).await;
    statuses.sort();
    assert_eq!(
        statuses,
        [StatusCode::SEE_OTHER, StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED]
    );
}

#[tokio::test]
async fn a_link_that_is_old_forged_or_from_before_a_restart_is_refused_with_a_sentence() {
    let (mut world, site) = stage().await;
    let (old, link) = (site.link("ann"), site.link("ann"));
    let forged = format!("{}x", site.link("ann"));
    assert!(site.visitor().get(&forged).await.text.contains("not one of ours"));
    assert!(site.visitor().get("/login?token=").await.text.contains("not one of ours"));
    let session_as_link = site.person("ann").await.cookies["twelve_session"].clone();
    let page = site.visitor().get(&format!("/login?token={session_as_link}")).await;
    assert!(page.text.contains("not one of ours"), "a seal for another purpose");
    world.clock.advance_ms(twelve::http::session::LINK_MS);
    let page = site.visitor().get(&old).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    assert!(page.text.contains("older than ten minutes"));

    let fresh = site.link("ann");
    site.stop().await;
    world.clock.advance_ms(1_000);
    world.crash().await;
    let site = Site::start(world.runtime.clone(), Plan::default()).await;
    let page = site.visitor().get(&fresh).await;
    assert_eq!(page.status, StatusCode::UNAUTHORIZED);
    assert!(page.text.contains("was started again after this link was made"), "{}", page.text);
    assert_eq!(site.visitor().get(&link).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(site.visitor().get(&site.link("ann")).await.status, StatusCode::OK);
}

#[test]
fn the_command_prints_a_link_that_the_secret_signed() {
    let dir = tempfile::tempdir().unwrap();
    let run = |person: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_twelve"))
            .args(["login-link", person])
            .current_dir(&dir)
            .env_clear()
            .env("TWELVE__APP__DATA_DIR", dir.path().join("data"))
            .env("TWELVE__HTTP__PUBLIC_URL", "https://twelve.example/")
            .output()
            .unwrap()
    };
    let (first, second) = (run("ann"), run("ann"));
    let link = String::from_utf8(first.stdout).unwrap();
    assert!(
        link.starts_with("https://twelve.example/login?token="),
        "{link}{}",
        String::from_utf8_lossy(&first.stderr)
    );
    assert!(String::from_utf8(first.stderr).unwrap().contains("Signs in web:ann once, within 10m."));
    assert_ne!(link.as_bytes(), second.stdout, "each link is one of its own");
    assert!(dir.path().join("data/http.key").exists());
    let refused = run("console:ops");
    assert!(!refused.status.success());
    assert!(String::from_utf8(refused.stderr).unwrap().contains("ids that begin with `console:`"));
}

#[tokio::test]
async fn a_session_outlives_a_restart_and_ends_in_time() {
    let (mut world, site) = stage().await;
    let mut ann = site.person("ann").await;
    site.stop().await;
    world.crash().await;
    let site = Site::start(world.runtime.clone(), Plan::default()).await;
    let mut again = site.visitor();
    again.cookies.clone_from(&ann.cookies);
    assert_eq!(again.get("/").await.status, StatusCode::OK);
    world.clock.advance_ms(12 * 3_600_000);
    assert_eq!(again.get("/").await.status, StatusCode::UNAUTHORIZED);
    ann.cookies.clear();
}

#[tokio::test]
async fn a_cookie_that_was_tampered_with_is_no_session() {
    let (_world, site) = stage().await;
    let ann = site.person("ann").await;
    let good = ann.cookies["twelve_session"].clone();
    let (data, mac) = good.split_once('.').unwrap();
    let decoded = data_encoding::BASE64URL_NOPAD.decode(data.as_bytes()).unwrap();
    let as_bob = String::from_utf8(decoded).unwrap().replace("web:ann", "web:bob");
    let as_bob = data_encoding::BASE64URL_NOPAD.encode(as_bob.as_bytes());
    let link = site.link("bob");
    let link = link.trim_start_matches("/login?token=").to_owned();
    for bad in [format!("{as_bob}.{mac}"), data.to_owned(), format!("{data}."), String::new(), "x.y".to_owned(), link] {
        let mut forger = site.visitor();
        forger.cookies.insert("twelve_session".to_owned(), bad.clone());
        assert_eq!(forger.get("/").await.status, StatusCode::UNAUTHORIZED, "{bad}");
    }
}

#[tokio::test]
async fn signing_out_ends_the_session_also_for_a_copied_cookie() {
    let (_world, site) = stage().await;
    let mut ann = site.person("ann").await;
    let mut thief = ann.clone();
    assert_eq!(thief.get("/").await.status, StatusCode::OK);
    let page = ann.get("/").await;
    let answer = ann.send(&page, "/logout", &[]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(ann.get("/").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(thief.get("/").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn cookies_are_out_of_reach_of_scripts_and_other_hosts() {
    let (world, site) = stage().await;
    let page = site.visitor().get("/").await;
    let set = page.headers["set-cookie"].to_str().unwrap();
    assert!(set.starts_with("twelve_form=") && set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    let mut plan = Plan::default();
    plan.http.public_url = "https://twelve.example".to_owned();
    let secure = Site::start(world.runtime.clone(), plan).await;
    let ann = secure.person("ann").await;
    let names: Vec<&str> = ann.cookies.keys().map(String::as_str).collect();
    assert_eq!(names, ["__Host-twelve_form", "__Host-twelve_session"]);
    let page = secure.visitor().get("/").await;
    assert!(page.headers["set-cookie"].to_str().unwrap().contains("; Secure"));
}

#[tokio::test]
async fn a_proxys_word_is_believed_from_its_address_alone() {
    let (world, site) = stage().await;
    let mut plan = Plan::default();
    plan.http.proxy.user_header = "X-Forwarded-User".to_owned();
    plan.http.proxy.groups_header = "X-Forwarded-Groups".to_owned();
    let trusted = Site::start(world.runtime.clone(), plan).await;
    let mut plan = Plan::default();
    plan.http.proxy.user_header = "X-Forwarded-User".to_owned();
    plan.http.proxy.from = vec!["10.0.0.0/8".to_owned()];
    let elsewhere = Site::start(world.runtime.clone(), plan).await;
    let visit = async |site: &Site, users: &[&str]| {
        let mut visitor = site.visitor();
        for user in users {
            visitor.headers.append("x-forwarded-user", user.parse().unwrap());
        }
        visitor.get("/").await
    };
    let page = visit(&trusted, &["ann@example.org"]).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text.contains("signed in as ann@example.org"));
    assert!(!page.has_form("/logout"), "the proxy's session is not ours to end");
    assert_eq!(visit(&elsewhere, &["ann"]).await.status, StatusCode::UNAUTHORIZED, "another address");
    assert_eq!(visit(&site, &["ann"]).await.status, StatusCode::UNAUTHORIZED, "no proxy is configured");
    for bad in [&["ann", "bob"][..], &[""], &["a b"], &["<b>"]] {
        assert_eq!(visit(&trusted, bad).await.status, StatusCode::UNAUTHORIZED, "{bad:?}");
    }
}

#[tokio::test]
async fn groups_of_a_proxy_decide_who_may_approve() {
    let policy = Policy {
        rules: Vec::new(),
        approvers: Approvers { groups: vec!["release".into()], ..Approvers::default() },
        expires_after_ms: 7_200_000,
        ..Policy::default()
    };
    let world = World::with(Setup { policy, ..Setup::default() }).await;
    let mut plan = Plan::default();
    plan.http.proxy.user_header = "X-User".to_owned();
    plan.http.proxy.groups_header = "X-Groups".to_owned();
    let site = Site::start(world.runtime.clone(), plan).await;
    let person = |name: &str, groups: &str| {
        let mut visitor = site.visitor();
        visitor.headers.insert("x-user", name.parse().unwrap());
        visitor.headers.insert("x-groups", groups.parse().unwrap());
        visitor
    };
    let mut ann = person("ann", "dev, release");
    let path = start(&mut ann, &world, "ship v2").await;
    let id = the_approval(&world, &path).await.id;
    assert_eq!(person("bob", "dev").get(&format!("/inbox/{id}")).await.status, StatusCode::NOT_FOUND);
    let mut cid = person("cid", "ops , release");
    let page = cid.get(&format!("/inbox/{id}")).await;
    let page = cid.submit(&page, &format!("/inbox/{id}/approve"), &[]).await;
    assert_eq!(page.note(), "good: Your approval is recorded.");
    world.runtime.settle().await.unwrap();
    assert_eq!(world.outside.ledger(), ["v2"]);
}

#[tokio::test]
async fn in_the_demo_this_machine_is_one_person_and_a_foreign_name_for_it_is_not() {
    let world = World::new().await;
    let mut plan = Plan { demo: Some(Principal::human("console:you")), ..Plan::default() };
    plan.http.trust_loopback = true;
    let site = Site::start(world.runtime.clone(), plan).await;
    let mut you = site.visitor();
    assert!(you.get("/").await.text.contains("signed in as you"));
    for host in ["localhost:1", "[::1]:1", "127.0.0.1"] {
        you.headers.insert("host", host.parse().unwrap());
        assert_eq!(you.get("/").await.status, StatusCode::OK, "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "10.0.0.1"] {
        you.headers.insert("host", host.parse().unwrap());
        assert_eq!(you.get("/").await.status, StatusCode::MISDIRECTED_REQUEST, "{host}");
    }
    // What was passed on to here comes from who knows where.
    you.headers.clear();
    assert_eq!(you.get("/").await.status, StatusCode::OK);
    for passed_on in ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"] {
        you.headers.insert(passed_on, "192.0.2.1".parse().unwrap());
        let page = you.get("/").await;
        assert!(!page.text.contains("signed in as you"), "{passed_on}: {}", page.text);
        you.headers.clear();
    }
}

// ---- whose forms count ----

#[tokio::test]
async fn no_form_counts_without_its_token_or_from_a_foreign_page() {
    let (world, site) = stage().await;
    let (mut ann, mut bob) = (site.person("ann").await, site.person("bob").await);
    let path = start(&mut ann, &world, "ship v2").await;
    let approval = the_approval(&world, &path).await;
    let before = fold(&world, &path).await.version;
    let theirs = bob.get("/").await.form("/chat")[0].1.clone();
    let page = bob.get(&format!("/inbox/{}", approval.id)).await;
    let card = page.form(&format!("/inbox/{}/approve", approval.id));
    let mut posts: Vec<String> = vec!["/chat".to_owned(), "/logout".to_owned()];
    posts.extend(["say", "answer", "mark", "pause", "resume", "stop"].map(|what| format!("{path}/{what}")));
    posts.extend(["approve", "deny", "edit"].map(|what| format!("/inbox/{}/{what}", approval.id)));
    let anns_own = ann.get("/").await.form("/chat")[0].1.clone();
    for post in &posts {
        let with = |token: Option<&str>| {
            let mut fields: Vec<(String, String)> = card.iter().filter(|(name, _)| name != "token").cloned().collect();
            fields.extend(
                [("agent", "tester"), ("message", "ship v3"), ("mark", "retry")]
                    .map(|(k, v)| (k.to_owned(), v.to_owned())),
            );
            fields.extend(token.map(|token| ("token".to_owned(), token.to_owned())));
            fields
        };
        for (what, token) in [
            ("missing", None),
            ("empty", Some("")),
            ("somebody else's", Some(anns_own.as_str())),
            ("forged", Some("AAAA")),
        ] {
            let answer = bob.post(post, &with(token)).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{post} with a token that is {what}");
            assert!(answer.text.contains("nothing was done"), "{}", answer.text);
        }
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            bob.headers.insert(name, value.parse().unwrap());
            let answer = bob.post(post, &with(Some(&theirs))).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{post} from {name}: {value}");
            bob.headers.clear();
        }
    }
    assert_eq!(fold(&world, &path).await.version, before, "nothing was done");
    assert_eq!(bob.get("/").await.status, StatusCode::OK, "nobody was signed out");

    // And from our own page it counts.
    bob.headers.insert("origin", format!("http://{}", site.address).parse().unwrap());
    bob.headers.insert("sec-fetch-site", "same-origin".parse().unwrap());
    let answer = bob.submit(&page, &format!("/inbox/{}/approve", approval.id), &[]).await;
    assert_eq!(answer.note(), "good: Your approval is recorded.");
}

#[tokio::test]
async fn a_login_form_of_a_foreign_page_signs_nobody_in() {
    let (_world, site) = stage().await;
    let mut victim = site.visitor();
    let mut attacker = site.visitor();
    let form = attacker.get(&site.link("mallory")).await.form("/login");
    victim.get("/").await;
    let answer = victim.post("/login", &form).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(!victim.cookies.contains_key("twelve_session"));
}

#[tokio::test]
async fn a_form_that_is_sent_twice_counts_once() {
    let (world, site) = stage().await;
    let mut ann = site.person("ann").await;
    let page = ann.get("/").await;
    let fields = [("agent", "tester"), ("message", "look")];
    let first = ann.send(&page, "/chat", &fields).await.location();
    let second = ann.send(&page, "/chat", &fields).await.location();
    assert_eq!(first, second);
    world.runtime.settle().await.unwrap();
    let page = ann.get(&first).await;
    for _ in 0..2 {
        ann.send(&page, &format!("{first}/say"), &[("message", "note")]).await;
    }
    world.runtime.settle().await.unwrap();
    let text = ann.get(&first).await.text;
    assert_eq!(text.matches("class=\"said mine\"").count(), 2, "{text}");
    // Another person with the same form comes to another thread.
    let mut bob = site.person("bob").await;
    let once = page.form(&format!("{first}/say")).into_iter().find(|(k, _)| k == "once").unwrap();
    let mut form: Vec<_> = bob.get("/").await.form("/chat").into_iter().filter(|(k, _)| k != "once").collect();
    form.extend([once, ("agent".into(), "tester".into()), ("message".into(), "look".into())]);
    assert_ne!(bob.post("/chat", &form).await.location(), first);
}

// ---- what is whose ----

#[tokio::test]
async fn another_persons_conversation_is_not_there() {
    let (world, site) = staged(approvers(&["web:bob"], 1)).await;
    let (mut ann, mut bob, mut eve) = (site.person("ann").await, site.person("bob").await, site.person("eve").await);
    let path = start(&mut ann, &world, "ship v2").await;
    let approval = the_approval(&world, &path).await;
    let id = approval.id;
    // Who may decide sees the request, and what led to it; the conversation is not theirs.
    let request = bob.get(&format!("/inbox/{id}")).await;
    assert_eq!(request.status, StatusCode::OK);
    assert!(request.text.contains("What led to it") && !request.text.contains(&path), "{}", request.text);
    for page in [path.clone(), format!("{path}/live")] {
        assert_eq!(bob.get(&page).await.status, StatusCode::NOT_FOUND, "{page}");
    }
    let form = bob.get("/").await.form("/chat")[0].clone();
    for post in ["say", "pause", "stop", "answer", "mark"].map(|what| format!("{path}/{what}")) {
        assert_eq!(bob.post(&post, std::slice::from_ref(&form)).await.status, StatusCode::NOT_FOUND, "{post}");
    }
    for missing in [path.clone(), format!("{path}/live"), format!("/inbox/{id}"), format!("/inbox/{id}/edit")] {
        let page = eve.get(&missing).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{missing}");
        assert!(page.text.contains("not yours to see"));
    }
    let home = eve.get("/").await;
    assert!(!home.text.contains("ship v2"));
    let token = home.form("/chat")[0].clone();
    for post in ["say", "pause", "stop", "answer", "mark"].map(|what| format!("{path}/{what}")) {
        assert_eq!(eve.post(&post, std::slice::from_ref(&token)).await.status, StatusCode::NOT_FOUND, "{post}");
    }
    let fields = [token, ("revision".into(), "1".into()), ("digest".into(), approval.digest.to_string())];
    assert_eq!(eve.post(&format!("/inbox/{id}/approve"), &fields).await.status, StatusCode::NOT_FOUND);
    assert_eq!(the_approval(&world, &path).await.state, ApprovalState::Pending);
    for unknown in ["/chat/aaaaaaaaaaaaaaaa", "/chat/x", "/inbox/apr_aaaaaaaaaaaaaaaa_3", "/inbox/x"] {
        assert_eq!(ann.get(unknown).await.status, StatusCode::NOT_FOUND, "{unknown}");
    }
}

#[tokio::test]
async fn an_admin_sees_everybodys_conversations() {
    let world = World::with(approvers(&["web:bob"], 1)).await;
    let mut plan = Plan::default();
    plan.http.admins = vec!["web:root".to_owned()];
    let site = Site::start(world.runtime.clone(), plan).await;
    let (mut ann, mut root, mut eve) = (site.person("ann").await, site.person("root").await, site.person("eve").await);
    let path = start(&mut ann, &world, "look").await;
    assert_eq!(root.get(&path).await.status, StatusCode::OK);
    assert!(root.get("/?who=everybody").await.text.contains(&path));
    assert!(!root.get("/").await.text.contains(&path));
    assert!(!eve.get("/?who=everybody").await.text.contains(&path));
}

// ---- decisions ----

#[tokio::test]
async fn a_card_shows_everything_and_an_approval_runs_it_once() {
    let (world, site) = staged(approvers(&["web:bob"], 1)).await;
    let (mut ann, mut bob) = (site.person("ann").await, site.person("bob").await);
    let path = start(&mut ann, &world, "ship v2").await;
    let approval = the_approval(&world, &path).await;
    let (id, approve) = (approval.id, format!("/inbox/{}/approve", approval.id));
    let page = ann.get(&path).await;
    assert!(!page.has_form(&approve), "whoever asked is not asked");
    assert!(page.text.contains("can&#39;t decide this one. It waits for bob"), "{}", page.text);
    let page = bob.get(&format!("/inbox/{id}")).await;
    let card = unescape(card_of(&page, &id));
    for wanted in [
        "Approval needed",
        "ship v2",
        "now v0 -> v2",
        ">version</th><td><pre tabindex=\"0\">v2</pre>",
        "\"args\": {",
        "High risk",
        "<dd>ann</dd>",
        "bob (1 needed, not the requester)",
        "agent:tester:ship",
        &approval.digest.prefix(),
        "in 2h",
        "revision 1",
        &format!("\"call\": \"{}\"", approval.call),
        &format!("\"thread\": \"{}\"", fold(&world, &path).await.id),
    ] {
        assert!(card.contains(wanted), "no {wanted:?} in {card}");
    }
    let page = bob.submit(&page, &approve, &[]).await;
    assert_eq!(page.note(), "good: Your approval is recorded.");
    world.runtime.settle().await.unwrap();
    assert_eq!(world.outside.ledger(), ["v2"]);
    let page = bob.get(&format!("/inbox/{id}")).await;
    assert_eq!(page.note(), "", "what was said once is not said again");
    let card = card_of(&page, &id);
    assert!(
        card.contains("Approved")
            && card.contains("succeeded: shipped v2")
            && card.contains("<strong>bob</strong> approved")
    );
    assert!(!card.contains("<form"), "a settled card has no live button");
    assert!(ann.get(&path).await.text.contains("ship succeeded"), "the answer");
    // A second press, from a page that is open elsewhere.
    let mut fields = bob.get("/").await.form("/chat");
    fields.extend([("revision".to_owned(), "1".to_owned()), ("digest".to_owned(), approval.digest.to_string())]);
    let answer = bob.post(&approve, &fields).await;
    let page = bob.get(&answer.location()).await;
    assert!(page.note().starts_with("bad: Already approved by bob"), "{}", page.note());
    assert_eq!(world.outside.ledger(), ["v2"]);
}

#[tokio::test]
async fn a_stale_page_decides_nothing_and_shows_what_is_asked_now() {
    let (world, site) = staged(approvers(&["web:bob", "web:cid"], 1)).await;
    let (mut ann, mut bob, mut cid) = (site.person("ann").await, site.person("bob").await, site.person("cid").await);
    let path = start(&mut ann, &world, "ship v2").await;
    let id = the_approval(&world, &path).await.id;
    let stale = bob.get(&format!("/inbox/{id}")).await;
    let page = cid.get(&format!("/inbox/{id}")).await;
    let page = cid.submit(&page, &format!("/inbox/{id}/edit"), &[("arg.version", "v3")]).await;
    assert!(page.note().starts_with("good: Changed."), "{}", page.note());
    world.runtime.settle().await.unwrap();
    for what in ["approve", "deny", "edit"] {
        let page = bob.submit(&stale, &format!("/inbox/{id}/{what}"), &[("arg.version", "v4")]).await;
        assert!(page.note().contains("The request changed since this card was posted"), "{what}: {}", page.note());
        let card = card_of(&page, &id);
        assert!(card.contains("now v0 -&#62; v3") && card.contains("Revision 2"), "{card}");
        assert!(card.contains("<del>v2</del>") && card.contains("<ins>v3</ins>"), "old and new are shown");
    }
    let approval = the_approval(&world, &path).await;
    assert_eq!((approval.state, approval.votes.len()), (ApprovalState::Pending, 0));

    // Back to the same arguments: the same digest, and still not what the page showed.
    let page = cid.get(&format!("/inbox/{id}")).await;
    cid.submit(&page, &format!("/inbox/{id}/edit"), &[("arg.version", "v2")]).await;
    world.runtime.settle().await.unwrap();
    assert_eq!(the_approval(&world, &path).await.revision, 3);
    let page = bob.submit(&stale, &format!("/inbox/{id}/approve"), &[]).await;
    assert!(page.note().contains("The request changed"), "{}", page.note());

    // A page that claims the revision of now with the digest of then.
    let page = cid.get(&format!("/inbox/{id}")).await;
    cid.submit(&page, &format!("/inbox/{id}/edit"), &[("arg.version", "v9")]).await;
    world.runtime.settle().await.unwrap();
    let mut fields = stale.form(&format!("/inbox/{id}/approve"));
    fields.iter_mut().filter(|(name, _)| name == "revision").for_each(|(_, v)| *v = "4".to_owned());
    bob.post(&format!("/inbox/{id}/approve"), &fields).await;
    world.runtime.settle().await.unwrap();
    assert_eq!(the_approval(&world, &path).await.state, ApprovalState::Pending, "the digest is compared");
    assert_eq!(world.outside.ledger(), Vec::<String>::new());
}

#[tokio::test]
async fn a_denial_carries_its_reason_and_ends_it() {
    let (world, site) = staged(approvers(&["web:bob"], 1)).await;
    let (mut ann, mut bob) = (site.person("ann").await, site.person("bob").await);
    let path = start(&mut ann, &world, "ship v2").await;
    let id = the_approval(&world, &path).await.id;
    let page = bob.get(&format!("/inbox/{id}")).await;
    let page = bob.submit(&page, &format!("/inbox/{id}/deny"), &[("note", "not on a <Friday>")]).await;
    assert_eq!(page.note(), "good: Denied. Nothing of it runs.");
    world.runtime.settle().await.unwrap();
    let page = ann.get(&path).await;
    assert!(card_of(&page, &id).contains("denied by bob: not on a &#60;Friday&#62;"), "{}", page.text);
    assert!(page.text.contains("it was not done: bob denied this call: not on a &#60;Friday&#62;"));
    assert_eq!(world.outside.ledger(), Vec::<String>::new());
}

#[tokio::test]
async fn a_change_that_cannot_be_used_is_mended_where_it_was_typed() {
    let (world, site) = staged(approvers(&["web:bob"], 1)).await;
    let (mut ann, mut bob) = (site.person("ann").await, site.person("bob").await);
    let path = start(&mut ann, &world, "ship v2").await;
    let id = the_approval(&world, &path).await.id;
    let edit = format!("/inbox/{id}/edit");
    let page = bob.get(&edit).await;
    assert!(page.text.contains("name=\"arg.version\" value=\"v2\""), "{}", page.text);
    let long = "v".repeat(21);
    let answer = bob.send(&page, &edit, &[("arg.version", &long)]).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.note().contains("at most 20 characters"), "{}", answer.note());
    assert!(answer.text.contains(&format!("name=\"arg.version\" value=\"{long}\"")), "what was typed stays");
    let answer = bob.send(&page, &edit, &[("arg.version", "v2")]).await;
    assert!(answer.note().contains("Nothing was changed"), "{}", answer.note());
    let page = bob.submit(&answer, &edit, &[("arg.version", "v3")]).await;
    assert!(page.note().starts_with("good: Changed."));
    world.runtime.settle().await.unwrap();
    let page = bob.get(&format!("/inbox/{id}")).await;
    bob.submit(&page, &format!("/inbox/{id}/approve"), &[]).await;
    world.runtime.settle().await.unwrap();
    assert_eq!(world.outside.ledger(), ["v3"]);
    let page = bob.get(&format!("/inbox/{id}")).await;
    assert!(card_of(&page, &id).contains("Approved with changes"));
    for line in [
        "put before people, revision 1: ship v2",
        "bob changed revision 1 to: ship v3",
        "bob approved revision 2",
        "succeeded in",
    ] {
        assert!(page.text.contains(line), "no {line:?} in the history: {}", page.text);
    }
}

#[tokio::test]
async fn two_have_to_approve_and_each_is_told_what_is_missing() {
    let (world, site) = staged(approvers(&["web:bob", "web:cid"], 2)).await;
    let (mut ann, mut bob, mut cid) = (site.person("ann").await, site.person("bob").await, site.person("cid").await);
    let path = start(&mut ann, &world, "ship v2").await;
    let id = the_approval(&world, &path).await.id;
    let approve = format!("/inbox/{id}/approve");
    let page = bob.get(&format!("/inbox/{id}")).await;
    let page = bob.submit(&page, &approve, &[]).await;
    let card = card_of(&page, &id);
    assert!(card.contains("1 of 2 approved: bob") && card.contains("You already approved this"), "{card}");
    assert!(!page.has_form(&approve) && page.has_form(&format!("/inbox/{id}/deny")));
    let page = cid.get(&format!("/inbox/{id}")).await;
    cid.submit(&page, &approve, &[]).await;
    world.runtime.settle().await.unwrap();
    assert_eq!(world.outside.ledger(), ["v2"]);
}

#[tokio::test]
async fn what_has_expired_is_told_and_not_decided() {
    let (world, site) = staged(approvers(&["web:bob"], 1)).await;
    let (mut ann, mut bob) = (site.person("ann").await, site.person("bob").await);
    let path = start(&mut ann, &world, "ship v2").await;
    let id = the_approval(&world, &path).await.id;
    let page = bob.get(&format!("/inbox/{id}")).await;
    world.clock.advance_ms(7_200_000);
    let page = bob.submit(&page, &format!("/inbox/{id}/approve"), &[]).await;
    assert!(page.note().starts_with("bad: This expired at"), "{}", page.note());
    assert_eq!(bob.get(&format!("/inbox/{id}")).await.status, StatusCode::NOT_FOUND, "he may not see it any more");
    assert!(card_of(&ann.get(&path).await, &id).contains("Expired"));
    assert_eq!(world.outside.ledger(), Vec::<String>::new());
}

#[tokio::test]
async fn who_decides_too_late_is_told_so_and_sees_nothing_of_it_any_more() {
    let (world, site) = staged(approvers(&["web:bob", "web:cid"], 1)).await;
    let (mut ann, mut bob, mut cid) = (site.person("ann").await, site.person("bob").await, site.person("cid").await);
    let path = start(&mut ann, &world, "ship v2").await;
    let id = the_approval(&world, &path).await.id;
    let open = cid.get(&format!("/inbox/{id}")).await;
    let page = bob.get(&format!("/inbox/{id}")).await;
    bob.submit(&page, &format!("/inbox/{id}/approve"), &[]).await;
    world.runtime.settle().await.unwrap();
    for (what, version) in [("deny", "v3"), ("edit", "v3")] {
        let page = cid.submit(&open, &format!("/inbox/{id}/{what}"), &[("arg.version", version)]).await;
        assert!(page.note().starts_with("bad: Already approved by bob"), "{what}: {}", page.note());
        assert!(!page.text.contains("ship v2"), "{what}: {}", page.text);
    }
    for missing in [format!("/inbox/{id}"), format!("/inbox/{id}/edit")] {
        assert_eq!(cid.get(&missing).await.status, StatusCode::NOT_FOUND, "{missing}");
    }
    assert!(!cid.get("/inbox?tab=all").await.text.contains("ship v2"));
    assert!(bob.get("/inbox?tab=decided").await.text.contains("ship v2"), "who decided still sees it");
    assert_eq!(bob.get(&format!("/inbox/{id}")).await.status, StatusCode::OK);
    assert_eq!(world.outside.ledger(), ["v2"]);
}

// ---- the inbox ----

#[tokio::test]
async fn the_inbox_shows_to_each_what_waits_what_is_theirs_and_what_was_decided() {
    let (world, site) = staged(approvers(&["web:bob", "web:cid"], 1)).await;
    let (mut ann, mut bob, mut eve) = (site.person("ann").await, site.person("bob").await, site.person("eve").await);
    let one = start(&mut ann, &world, "ship v2").await;
    let two = start(&mut bob, &world, "ship <b>v3</b>").await;
    let (one, two) = (the_approval(&world, &one).await.id, the_approval(&world, &two).await.id);
    let lists = |page: &Page, id: ApprovalId| page.text.contains(&format!("href=\"/inbox/{id}\""));
    let tab = |page: &Page| {
        let chosen = regex::Regex::new(
            r#"<a href="/inbox\?tab=(\w+)" aria-current="page">[^<]*(?:<span class="count">(\d+)</span>)?"#,
        )
        .unwrap();
        let found = chosen.captures(&page.text).unwrap_or_else(|| panic!("no tab is chosen in {}", page.text));
        (found[1].to_owned(), found.get(2).map(|n| n.as_str().to_owned()))
    };

    let pending = bob.get("/inbox").await;
    assert_eq!(tab(&pending), ("pending".to_owned(), Some("2".to_owned())));
    assert!(pending.text.contains("<title>(2) Inbox"), "{}", pending.text);
    assert!(lists(&pending, one) && lists(&pending, two));
    assert!(pending.text.contains("&#60;b&#62;v3") && !pending.text.contains("<b>v3"));
    let mine = bob.get("/inbox?tab=mine").await;
    assert_eq!(tab(&mine), ("mine".to_owned(), Some("1".to_owned())), "his own is for others to decide");
    assert!(lists(&mine, one) && !lists(&mine, two));
    assert!(mine.text.contains("<span class=\"count\" id=\"waiting\">1<"), "{}", mine.text);
    let anns = ann.get("/inbox").await;
    assert!(lists(&anns, one) && !lists(&anns, two), "whoever asked sees it");
    let eves = eve.get("/inbox").await;
    assert!(!lists(&eves, one) && !lists(&eves, two) && eves.text.contains("Nothing waits for a decision."));

    let page = bob.get(&format!("/inbox/{one}")).await;
    bob.submit(&page, &format!("/inbox/{one}/deny"), &[("note", "no")]).await;
    world.runtime.settle().await.unwrap();
    let decided = ann.get("/inbox?tab=decided").await;
    assert!(
        lists(&decided, one) && decided.text.contains("<span class=\"chip rest\">denied</span>"),
        "{}",
        decided.text
    );
    assert!(decided.text.contains("<td data-name=\"Decided by\">bob</td>"));
    assert!(!lists(&bob.get("/inbox?tab=mine").await, one));
    let all = bob.get("/inbox?tab=all").await;
    assert!(lists(&all, one) && lists(&all, two));

    for (query, shown) in [
        ("agent=tester", true),
        ("agent=other", false),
        ("tool=ship", true),
        ("tool=look", false),
        ("rule=agent%3Atester%3Aship", true),
        ("rule=x", false),
        ("after=nonsense", true),
        ("tab=nonsense", true),
    ] {
        let page = bob.get(&format!("/inbox?{query}")).await;
        assert_eq!((page.status, lists(&page, two)), (StatusCode::OK, shown), "{query}");
    }
    // An approver's list never shows what is not theirs, whatever the address says.
    assert!(!lists(&eve.get("/inbox?tab=all&visible_to=web:bob").await, two));
}

#[tokio::test]
async fn a_long_inbox_comes_in_pages() {
    let (world, site) = staged(approvers(&["web:bob"], 1)).await;
    let ann = Principal::human("web:ann");
    for n in 0..55 {
        let thread: ThreadId = format!("web:{n}").parse().unwrap();
        let said = twelve::runtime::Said::by(ann.clone(), format!("ship v{n}"));
        world.runtime.message(&thread, "tester", said).await.unwrap();
        world.clock.advance_ms(1_000);
    }
    world.runtime.settle().await.unwrap();
    let mut bob = site.person("bob").await;
    let (mut path, mut seen, mut pages) = ("/inbox".to_owned(), Vec::new(), 0);
    let row = regex::Regex::new(r#"<a data-open href="/inbox/(apr_[^"]+)">"#).unwrap();
    let more = regex::Regex::new(r#"<p class="more"[^>]*><a href="([^"]*)">More"#).unwrap();
    loop {
        let page = bob.get(&path).await;
        assert!(page.text.contains("(55) Inbox"));
        seen.extend(row.captures_iter(&page.text).map(|c| c[1].to_owned()));
        pages += 1;
        match more.captures(&page.text) {
            Some(next) => path = next[1].replace("&amp;", "&").replace("&#38;", "&"),
            None => break,
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!((pages, seen.len()), (2, 55));
}

#[tokio::test]
async fn a_request_that_the_fold_has_let_go_of_is_still_shown() {
    let (world, site) = staged(approvers(&["web:bob"], 1)).await;
    let mut bob = site.person("bob").await;
    let mut ann = site.person("ann").await;
    let path = start(&mut ann, &world, "ship v0").await;
    let first = the_approval(&world, &path).await;
    let short = thread_of(&path);
    let id = fold(&world, &path).await.id;
    for n in 1..=102 {
        let thread = fold(&world, &path).await;
        let open = thread.pending_approvals().next().unwrap();
        let vote = Input::Vote {
            approval: open.id,
            digest: open.digest.prefix(),
            by: Principal::human("web:bob"),
            groups: Vec::new(),
            vote: crate::world::deny("no"),
            source: None,
        };
        world.runtime.deliver(short, vote).await.unwrap();
        world.runtime.settle().await.unwrap();
        let said = twelve::runtime::Said::by(Principal::human("web:ann"), format!("ship v{n}"));
        world.runtime.message(&id, "tester", said).await.unwrap();
        world.runtime.settle().await.unwrap();
    }
    assert!(!fold(&world, &path).await.approvals.contains_key(&first.id), "it is forgotten");
    let page = bob.get(&format!("/inbox/{}", first.id)).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let card = card_of(&page, &first.id);
    assert!(card.contains("ship v0") && card.contains("denied by bob: no") && !card.contains("<form"), "{card}");
}

#[tokio::test]
async fn text_from_outside_is_named_where_it_came_in_and_on_the_card() {
    let (world, site) = staged(approvers(&["web:bob"], 1)).await;
    let mut bob = site.person("bob").await;
    let thread: ThreadId = "web:hook".parse().unwrap();
    let said = twelve::runtime::Said {
        outside: Some("webhook <alerts>".to_owned()),
        ..twelve::runtime::Said::by(Principal::human("web:ann"), "ship v2")
    };
    world.runtime.message(&thread, "tester", said).await.unwrap();
    world.runtime.settle().await.unwrap();
    let id = the_approval(&world, &format!("/chat/{}", thread.short())).await.id;
    let page = bob.get(&format!("/inbox/{id}")).await;
    assert!(page.text.contains("passed on, from outside: webhook &#60;alerts&#62;"), "{}", page.text);
    assert!(page.text.contains("After reading webhook &#60;alerts&#62;"), "{}", page.text);
}

// ---- everything else that people do ----

#[tokio::test]
async fn questions_are_answered_by_a_button() {
    let (world, site) = stage().await;
    let mut ann = site.person("ann").await;
    let path = start(&mut ann, &world, "ask me").await;
    let page = ann.get(&path).await;
    assert!(page.text.contains("<button name=\"text\" value=\"left\">left</button>"), "{}", page.text);
    let answer = format!("{path}/answer");
    let refused = ann.submit(&page, &answer, &[("text", "up")]).await;
    assert_eq!(refused.note(), "bad: Answer with one of: left, right.");
    ann.submit(&page, &answer, &[("text", "left")]).await;
    world.runtime.settle().await.unwrap();
    let after = ann.get(&path).await;
    assert!(after.text.contains("<strong>ann</strong>: left") && after.text.contains("thank you"), "{}", after.text);
    assert!(!after.has_form(&answer));
    let late = ann.submit(&page, &answer, &[("text", "right")]).await;
    assert_eq!(late.note(), "bad: This question is not open any more.");
}

#[tokio::test]
async fn a_run_is_paused_resumed_and_stopped() {
    let (world, site) = stage().await;
    let mut ann = site.person("ann").await;
    let path = start(&mut ann, &world, "ship v2").await;
    let page = ann.get(&path).await;
    let page = ann.submit(&page, &format!("{path}/pause"), &[]).await;
    assert!(page.text.contains("Paused by ann") && !page.has_form(&format!("{path}/pause")));
    let page = ann.submit(&page, &format!("{path}/resume"), &[]).await;
    assert!(page.text.contains("Resumed by ann"));
    let stopped = ann.submit(&page, &format!("{path}/stop"), &[]).await;
    assert!(stopped.text.contains("Stopped by ann; nothing more will run"));
    let late = ann.submit(&page, &format!("{path}/stop"), &[]).await;
    assert_eq!(late.note(), "bad: Nothing is running here.");
    assert_eq!(
        ann.post(&format!("{path}/explode"), &late.form(&format!("{path}/say"))).await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn an_unknown_outcome_is_marked_by_a_person() {
    let (mut world, site) = staged(approvers(&["web:bob"], 1)).await;
    let (mut ann, mut bob) = (site.person("ann").await, site.person("bob").await);
    let path = start(&mut ann, &world, "ship v2").await;
    let id = the_approval(&world, &path).await.id;
    world.outside.gate.shut();
    let page = bob.get(&format!("/inbox/{id}")).await;
    bob.submit(&page, &format!("/inbox/{id}/approve"), &[]).await;
    // The start is in the log before the tool is called, and the tool waits at the gate.
    let mut changes = world.runtime.watch();
    while !fold(&world, &path).await.calls.values().any(|call| call.stage == Stage::Started) {
        tokio::time::timeout(Duration::from_secs(20), changes.recv()).await.unwrap().unwrap();
    }
    let port = site.address.port();
    site.stop().await;
    world.crash().await;
    world.runtime.settle().await.unwrap();
    let _site = Site::start(world.runtime.clone(), Plan { port, ..Plan::default() }).await;
    let page = ann.get(&path).await;
    assert!(page.text.contains("Result unknown") && !page.has_form(&format!("{path}/mark")), "{}", page.text);
    let page = bob.get(&format!("/inbox/{id}")).await;
    let page = bob.submit(&page, &format!("{path}/mark"), &[("mark", "succeeded"), ("note", "I looked")]).await;
    assert_eq!(page.note(), "good: Noted.");
    assert!(page.text.contains("bob says that it took effect: I looked"), "{}", page.text);
}

#[tokio::test]
async fn messages_that_cannot_be_taken_are_refused_in_a_sentence() {
    let (_world, site) = stage().await;
    let mut ann = site.person("ann").await;
    let page = ann.get("/").await;
    let empty = ann.submit(&page, "/chat", &[("agent", "tester"), ("message", " ")]).await;
    assert_eq!(empty.note(), "bad: The message is empty. Write what you want the agent to do.");
    let unknown = ann.send(&page, "/chat", &[("agent", "nobody"), ("message", "hi")]).await;
    assert_eq!(unknown.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(unknown.text.contains("nobody"));
    let long = "x".repeat(100 * 1024 + 1);
    let long = ann.submit(&page, "/chat", &[("agent", "tester"), ("message", &long)]).await;
    assert!(long.note().contains("at most 102400 are read"), "{}", long.note());
}

// ---- what pages are made of ----

#[tokio::test]
async fn nothing_that_was_written_can_act_on_a_page() {
    let (world, site) = staged(approvers(&["web:bob"], 1)).await;
    let (mut ann, mut bob) = (site.person("ann").await, site.person("bob").await);
    let evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&";
    let path = start(&mut ann, &world, evil).await;
    let page = ann.get(&path).await;
    let said = ann.submit(&page, &format!("{path}/say"), &[("message", "ship <b>v2</b>&#1;")]).await;
    world.runtime.settle().await.unwrap();
    assert!(said.status == StatusCode::OK);
    let path2 = start(&mut ann, &world, "ship <b>\u{202e}2v</b>").await;
    let id = the_approval(&world, &path2).await.id;
    let page = bob.get(&format!("/inbox/{id}")).await;
    let deny = format!("/inbox/{id}/deny");
    let denied = bob.submit(&page, &deny, &[("note", evil)]).await;
    world.runtime.settle().await.unwrap();
    let chat = ann.get(&path2).await;
    for page in
        [page, denied, chat, ann.get(&path).await, ann.get("/").await, bob.get(&format!("/inbox/{id}/edit")).await]
    {
        for raw in ["<script>alert", "<img src=x", "<b>", "\u{202e}"] {
            assert!(!page.text.contains(raw), "{raw:?} in {}", page.text);
        }
    }
    let card = bob.get(&format!("/inbox/{id}")).await.text;
    assert!(card.contains("&#60;b&#62;\\u{202e}2v&#60;/b&#62;"), "what is not seen is written out: {card}");
}

#[tokio::test]
async fn pages_run_nothing_that_is_not_ours_and_are_kept_nowhere() {
    let (world, site) = stage().await;
    let mut ann = site.person("ann").await;
    let path = start(&mut ann, &world, "ship v2").await;
    let id = the_approval(&world, &path).await.id;
    let missing = site.visitor().get("/").await;
    let mut pages = vec![missing, ann.get("/chat/x").await, site.visitor().get(&site.link("bob")).await];
    for path in ["/".to_owned(), path.clone(), format!("/inbox/{id}"), format!("/inbox/{id}/edit")] {
        pages.push(ann.get(&path).await);
    }
    pages.push(ann.post(&format!("{path}/say"), &[]).await);
    let inline = regex::Regex::new(r#"(?i)<script(?:>| [^>]*>[^<])|<style|\sstyle=|\son[a-z]+=|javascript:"#).unwrap();
    for page in pages {
        let header = |name: &str| page.headers.get(name).map_or("", |v| v.to_str().unwrap());
        assert!(
            header("content-security-policy").starts_with("default-src 'none'; script-src 'self'; style-src 'self';")
        );
        assert!(header("content-security-policy").contains("frame-ancestors 'none'; base-uri 'none'"));
        assert_eq!(header("cache-control"), "no-store");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "same-origin");
        assert!(!inline.is_match(&page.text), "{:?}", inline.find(&page.text));
    }
    let home = ann.get("/").await.text;
    for asset in
        regex::Regex::new(r#"(?:src|href)="(/assets/[^"]*)""#).unwrap().captures_iter(&home).map(|c| c[1].to_owned())
    {
        let file = site.visitor().get(&asset).await;
        assert_eq!(file.status, StatusCode::OK, "{asset}");
        assert_eq!(file.headers["cache-control"], "public, max-age=31536000, immutable");
        let other = asset.replace("/assets/", "/assets/0");
        assert_eq!(site.visitor().get(&other).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn what_happens_is_announced_and_a_stop_ends_the_stream() {
    let (world, site) = stage().await;
    let mut ann = site.person("ann").await;
    let path = start(&mut ann, &world, "look").await;
    let other = start(&mut ann, &world, "look").await;
    let mut stream = ann.stream(&format!("{path}/live")).await.bytes_stream();
    let mut inbox = ann.stream("/inbox/live").await.bytes_stream();
    let mut read = async |what: &str| {
        let chunk = match what {
            "inbox" => tokio::time::timeout(Duration::from_secs(20), inbox.next()).await.unwrap(),
            _ => tokio::time::timeout(Duration::from_secs(20), stream.next()).await.unwrap(),
        };
        chunk.map(|chunk| String::from_utf8(chunk.unwrap().to_vec()).unwrap())
    };
    assert!(read("thread").await.unwrap().contains("event: listening"));
    assert!(read("inbox").await.unwrap().contains("event: listening"));
    let page = ann.get(&other).await;
    ann.submit(&page, &format!("{other}/say"), &[("message", "note")]).await;
    let page = ann.get(&path).await;
    ann.submit(&page, &format!("{path}/say"), &[("message", "ship v2")]).await;
    let tick = read("thread").await.unwrap();
    assert!(tick.contains("event: changed") && !tick.contains("ship"), "a tick says nothing else: {tick}");
    assert!(read("inbox").await.unwrap().contains("event: changed"));
    world.runtime.settle().await.unwrap();
    assert_eq!(site.stop().await, 0, "nothing had to be cut off");
    while let Some(rest) = read("thread").await {
        assert!(rest.contains("event: changed"), "{rest}");
    }
}

/// What a stream still says until it ends.
async fn the_rest(stream: reqwest::Response) -> String {
    let read = async {
        let chunks: Vec<_> = stream.bytes_stream().map(|chunk| chunk.unwrap().to_vec()).collect().await;
        String::from_utf8(chunks.concat()).unwrap()
    };
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("the stream ends")
}

#[tokio::test]
async fn who_has_signed_out_is_shown_nothing_more_by_streams_that_were_open() {
    let (world, site) = stage().await;
    let mut ann = site.person("ann").await;
    let path = start(&mut ann, &world, "look").await;
    let short = thread_of(&path);
    let mut open = Vec::new();
    for path in [format!("{path}/live"), "/inbox/live".to_owned(), format!("/threads/{short}/events?after=2")] {
        open.push(ann.stream(&path).await);
    }
    let page = ann.get("/").await;
    assert_eq!(ann.send(&page, "/logout", &[]).await.status, StatusCode::SEE_OTHER);
    let id = fold(&world, &path).await.id;
    let said = twelve::runtime::Said::by(Principal::human("web:ann"), "ship v9");
    world.runtime.message(&id, "tester", said).await.unwrap();
    world.runtime.settle().await.unwrap();
    for stream in open {
        let rest = the_rest(stream).await;
        assert!(rest.contains("event: end") && !rest.contains("ship v9"), "{rest}");
        assert!(!rest.contains("event: changed"), "{rest}");
    }
}

#[tokio::test]
async fn the_inbox_follows_what_a_stop_a_cancel_and_a_deletion_close() {
    let (world, site) = stage().await;
    let mut ann = site.person("ann").await;
    let by = Principal::human("web:ann");
    for how in ["stop", "cancel", "delete"] {
        let path = start(&mut ann, &world, "ship v2").await;
        let mut inbox = ann.stream("/inbox/live").await.bytes_stream();
        let mut read = async || {
            let chunk = tokio::time::timeout(Duration::from_secs(10), inbox.next()).await.expect("something comes");
            String::from_utf8(chunk.unwrap().unwrap().to_vec()).unwrap()
        };
        assert!(read().await.contains("event: listening"));
        let (short, why, by) = (thread_of(&path), String::new(), by.clone());
        match how {
            "stop" => drop(world.runtime.deliver(short, Input::Stop { by, why }).await.unwrap()),
            "cancel" => drop(world.runtime.deliver(short, Input::Cancel { by, why }).await.unwrap()),
            _ => drop(world.runtime.delete(short, &by).await.unwrap()),
        }
        assert!(read().await.contains("event: changed"), "{how}");
    }
}

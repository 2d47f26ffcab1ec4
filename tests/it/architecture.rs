//! The dependency rule: which room of the crate may use which.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A room, and the rooms it may use besides itself.
const RULE: &[(&str, &[&str])] = &[
    ("agent", &[]),
    ("llm", &["agent"]),
    ("mail", &["agent"]),
    ("tools", &["agent", "mail"]),
    ("platform", &["agent"]),
    ("store", &["agent"]),
    ("config", &["agent"]),
    ("telemetry", &["agent", "config"]),
    ("demo_service", &[]),
    ("metrics", &[]),
    ("runtime", &["agent", "llm", "metrics", "tools", "platform", "store"]),
    ("chat", &["agent", "config", "metrics", "platform", "runtime", "store"]),
    ("triggers", &["agent", "config", "runtime", "store"]),
    ("app", &["agent", "chat", "config", "llm", "metrics", "platform", "runtime", "store", "tools", "triggers"]),
    ("http", &["agent", "chat", "config", "metrics", "platform", "runtime", "store", "tools", "triggers"]),
    (
        "cli",
        &[
            "agent",
            "app",
            "chat",
            "config",
            "demo_service",
            "http",
            "llm",
            "metrics",
            "platform",
            "runtime",
            "store",
            "telemetry",
            "tools",
            "triggers",
        ],
    ),
];

#[test]
fn no_room_uses_a_room_that_it_should_not_know() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rule: BTreeMap<&str, &[&str]> = RULE.iter().copied().collect();
    let mut wrong = Vec::new();
    for file in rust_files(&src) {
        let inside = file.strip_prefix(&src).unwrap();
        let room = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
        if matches!(room, "lib" | "main") {
            continue;
        }
        let allowed = rule.get(room).unwrap_or_else(|| panic!("{room} is a new room: give it a rule here"));
        for used in rooms_used(&std::fs::read_to_string(&file).unwrap()) {
            if used != room && rule.contains_key(used.as_str()) && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} uses crate::{used}", inside.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// Names that follow `crate::`, groups included.
fn rooms_used(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut used = Vec::new();
    for after in code.split("crate::").skip(1) {
        let group = after.strip_prefix('{').map(|g| g.split('}').next().unwrap_or(""));
        for part in group.unwrap_or(after).split(',').take(if group.is_some() { usize::MAX } else { 1 }) {
            used.push(part.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    used
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    files
}

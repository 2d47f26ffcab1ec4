//! Passwords in command lines: `sshpass -p …`, `mysql -p…`, `curl -u user:…`.
//!
//! One letter means something only to its own program (`-p` is a port to another), so a table says which flags of
//! which program carry a password. Long flags (`--password`) are names like any other (`assigned`).

use std::ops::Range;

use super::tokens::is_escape;
use super::value::{has_letter, is_common, is_path, is_placeholder};

/// What a flag carries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carries {
    /// The password, in the next word or glued to the flag.
    Password,
    /// The password in the next word only: glued letters mean something else.
    Apart,
    /// The password glued to the flag only.
    Glued,
    /// `user:password`.
    Pair,
    /// `user%password`.
    Percent,
    /// `user,password`.
    Comma,
}

/// A program as it is found in a text, the flags that carry a password, and how.
type Row = (&'static str, &'static [&'static str], Carries);

const TABLE: &[Row] = &[
    ("sshpass", &["-p"], Carries::Password),
    ("mysql", &["-p"], Carries::Password),
    ("mysqldump", &["-p"], Carries::Password),
    ("mysqladmin", &["-p"], Carries::Password),
    ("mysqlimport", &["-p"], Carries::Password),
    ("mysqlcheck", &["-p"], Carries::Password),
    ("mysqlsh", &["-p"], Carries::Password),
    ("mariadb", &["-p"], Carries::Password),
    ("mariadb-dump", &["-p"], Carries::Password),
    ("mongo", &["-p"], Carries::Apart),
    ("mongosh", &["-p"], Carries::Apart),
    ("mongodump", &["-p"], Carries::Apart),
    ("mongorestore", &["-p"], Carries::Apart),
    ("mongoexport", &["-p"], Carries::Apart),
    ("redis-cli", &["-a", "--pass"], Carries::Apart),
    ("valkey-cli", &["-a", "--pass"], Carries::Apart),
    ("curl", &["-u", "--user", "-U", "--proxy-user"], Carries::Pair),
    ("http", &["-a", "--auth"], Carries::Pair),
    ("https", &["-a", "--auth"], Carries::Pair),
    ("xh", &["-a", "--auth"], Carries::Pair),
    ("ab", &["-A", "-P"], Carries::Pair),
    ("docker login", &["-p"], Carries::Password),
    ("podman login", &["-p"], Carries::Password),
    ("buildah login", &["-p"], Carries::Password),
    ("nerdctl login", &["-p"], Carries::Password),
    ("skopeo login", &["-p"], Carries::Password),
    ("registry login", &["-p"], Carries::Password),
    ("oras login", &["-p"], Carries::Password),
    ("crane auth login", &["-p"], Carries::Password),
    ("az login", &["-p"], Carries::Apart),
    ("oc login", &["-p"], Carries::Apart),
    ("cf login", &["-p"], Carries::Apart),
    ("ldapsearch", &["-w"], Carries::Password),
    ("ldapadd", &["-w"], Carries::Password),
    ("ldapmodify", &["-w"], Carries::Password),
    ("ldapdelete", &["-w"], Carries::Password),
    ("ldapwhoami", &["-w"], Carries::Password),
    ("ldappasswd", &["-w", "-s"], Carries::Password),
    ("sqlcmd", &["-P"], Carries::Password),
    ("bcp", &["-P"], Carries::Password),
    ("tsql", &["-P"], Carries::Password),
    ("smbclient", &["-U", "--user"], Carries::Percent),
    ("rpcclient", &["-U", "--user"], Carries::Percent),
    ("smbmap", &["-p"], Carries::Apart),
    ("zip", &["-P"], Carries::Password),
    ("unzip", &["-P"], Carries::Password),
    ("7z", &["-p"], Carries::Glued),
    ("7za", &["-p"], Carries::Glued),
    ("rar", &["-hp", "-p"], Carries::Glued),
    ("ipmitool", &["-P"], Carries::Password),
    ("mosquitto_pub", &["-P", "--pw"], Carries::Apart),
    ("mosquitto_sub", &["-P", "--pw"], Carries::Apart),
    ("plink", &["-pw"], Carries::Apart),
    ("pscp", &["-pw"], Carries::Apart),
    ("psftp", &["-pw"], Carries::Apart),
    ("xfreerdp", &["/p:"], Carries::Glued),
    ("rdesktop", &["-p"], Carries::Apart),
    ("lftp", &["-u"], Carries::Comma),
    ("cqlsh", &["-p"], Carries::Apart),
    ("beeline", &["-p"], Carries::Apart),
    ("rabbitmqadmin", &["-p"], Carries::Apart),
    ("influx", &["-password"], Carries::Apart),
    ("snmpget", &["-A", "-X"], Carries::Apart),
    ("snmpwalk", &["-A", "-X"], Carries::Apart),
    ("ssh-keygen", &["-N", "-P"], Carries::Apart),
    ("security", &["-w"], Carries::Apart),
    ("isql", &["-P"], Carries::Password),
    ("wget", &["--http-passwd"], Carries::Apart),
    ("kinit", &["--password"], Carries::Apart),
    ("htpasswd", &["-b", "-bc", "-nb", "-bB", "-nbB", "-Bbn", "-cb", "-bn"], Carries::Apart),
];

pub(super) const LABEL: &str = "password in a command";

/// Longest command line that is read, in bytes from the program's name on.
const MAX_LINE: usize = 1_000;

/// Words of it.
const MAX_WORDS: usize = 60;

pub(super) fn programs() -> impl Iterator<Item = (usize, &'static str)> {
    TABLE.iter().enumerate().map(|(row, (program, ..))| (row, *program))
}

/// The passwords in the command whose program stands at `start..end`.
pub(super) fn passwords(row: usize, text: &str, start: usize, end: usize) -> Vec<Range<usize>> {
    let Some((program, flags, carries)) = TABLE.get(row) else { return Vec::new() };
    let bytes = text.as_bytes();
    let inside =
        start > 0 && bytes.get(start - 1).is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if (inside && !is_escape(text, start)) || !bytes.get(end).is_some_and(|b| matches!(b, b' ' | b'\t')) {
        return Vec::new();
    }
    let words = words(text, end);
    let htpasswd = *program == "htpasswd";
    let mut found = Vec::new();
    for (n, word) in words.iter().enumerate() {
        let Some(written) = text.get(word.clone()) else { continue };
        if htpasswd {
            // `htpasswd -b file user password`: the last word is it.
            if flags.contains(&written)
                && let Some(last) = words.last().filter(|_| words.len() >= n + 3)
            {
                found.push(last.clone());
            }
            continue;
        }
        for flag in *flags {
            let value = match written.strip_prefix(flag) {
                Some("") if *carries != Carries::Glued => words.get(n + 1).cloned().filter(|value| {
                    let bare = text.get(value.clone()).unwrap_or("");
                    // `mysql -p shop` asks for the password; the last word is the database.
                    !(flag == &"-p"
                        && program.contains("sql")
                        && words.len() == n + 2
                        && bare.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
                }),
                Some(rest) if rest.starts_with('=') => Some(bare(text, word.start + flag.len() + 1..word.end)),
                Some(rest) if !rest.is_empty() && !flag.starts_with("--") && *carries != Carries::Apart => {
                    Some(bare(text, word.start + flag.len()..word.end))
                }
                Some(_) | None => None,
            };
            found.extend(value.and_then(|value| password_in(*carries, text, value)));
        }
    }
    found.retain(|range| text.get(range.clone()).is_some_and(|value| is_password(value, *carries)));
    found
}

/// Without the quotes around it.
fn bare(text: &str, word: Range<usize>) -> Range<usize> {
    match text.get(word.clone()).map(str::as_bytes) {
        Some([open @ (b'"' | b'\''), .., close]) if open == close => word.start + 1..word.end - 1,
        Some([b'"' | b'\'', ..]) => word.start + 1..word.end,
        Some(_) | None => word,
    }
}

fn password_in(carries: Carries, text: &str, word: Range<usize>) -> Option<Range<usize>> {
    let sign = match carries {
        Carries::Password | Carries::Apart | Carries::Glued => return Some(word),
        Carries::Pair => ':',
        Carries::Percent => '%',
        Carries::Comma => ',',
    };
    let at = text.get(word.clone())?.find(sign)?;
    Some(word.start + at + 1..word.end)
}

fn is_password(value: &str, carries: Carries) -> bool {
    let pair = matches!(carries, Carries::Pair | Carries::Percent | Carries::Comma);
    // `-p 8080`, `-p 22`: a port; `-p 8080:80`: two of them.
    let port = !has_letter(value) && value.len() <= 5 && !pair;
    let talk = value.len() > 1 && is_common(value);
    let stand_in = value.len() > 3 && is_placeholder(value)
        || value.starts_with(['$', '<', '{'])
        || matches!(value, "x" | "X" | "..." | "***" | "*");
    !value.is_empty()
        && !port
        && !stand_in
        && !talk
        && !is_path(value)
        && !value.starts_with('-')
        && (pair || value.len() >= 3)
}

/// The words of a command line from `at` on, without their quotes, up to the end of the command.
fn words(text: &str, at: usize) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    let limit = bytes.len().min(at + MAX_LINE);
    let mut at = at;
    while at < limit && found.len() < MAX_WORDS {
        match bytes.get(at) {
            Some(b' ' | b'\t') => at += 1,
            // A line that goes on.
            Some(b'\\') if bytes.get(at + 1) == Some(&b'\n') => at += 2,
            None | Some(b'\n' | b'\r' | b'|' | b';' | b'&' | b')' | b'`') => break,
            Some(b'\\') if matches!(bytes.get(at + 1), Some(b'n' | b'r')) => break,
            Some(quote @ (b'"' | b'\'')) => {
                let start = at + 1;
                let length = bytes.get(start..limit).unwrap_or(&[]).iter().position(|b| b == quote);
                let end = length.map_or(limit, |n| start + n);
                found.push(start..end);
                at = end + 1;
            }
            Some(_) => {
                let start = at;
                let mut quote = None;
                while at < limit {
                    let Some(b) = bytes.get(at) else { break };
                    match quote {
                        None if b.is_ascii_whitespace()
                            || matches!(b, b'|' | b'`')
                            || (*b == b';' && bytes.get(at + 1).is_none_or(u8::is_ascii_whitespace)) =>
                        {
                            break;
                        }
                        None if *b == b'\\'
                            && matches!(bytes.get(at + 1), Some(b'n' | b'r' | b'"' | b'\'' | b'\n')) =>
                        {
                            break;
                        }
                        None if matches!(b, b'"' | b'\'')
                            && bytes
                                .get(at + 1)
                                .is_none_or(|n| n.is_ascii_whitespace() || matches!(n, b',' | b'}' | b']')) =>
                        {
                            break;
                        }
                        None if matches!(b, b'"' | b'\'') => quote = Some(*b),
                        Some(open) if open == *b => quote = None,
                        None | Some(_) => {}
                    }
                    at += 1;
                }
                found.push(start..at);
                if matches!(bytes.get(at), Some(b'"' | b'\'')) {
                    break;
                }
                if bytes.get(at) == Some(&b'\\') && matches!(bytes.get(at + 1), Some(b'"' | b'\'')) {
                    at += 2;
                }
            }
        }
    }
    found.retain(|word| text.is_char_boundary(word.start) && text.is_char_boundary(word.end));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let hits = programs()
            .flat_map(|(row, program)| text.match_indices(program).map(move |(at, _)| (row, at, at + program.len())));
        let mut all: Vec<&str> =
            hits.flat_map(|(row, start, end)| passwords(row, text, start, end)).map(|range| &text[range]).collect();
        all.dedup();
        all
    }

    #[test]
    fn a_flag_means_a_password_only_to_its_own_program() {
        assert_eq!(found("sshpass -p hunter2 ssh root@h"), ["hunter2"]);
        assert_eq!(found("sshpass -p 'a b c1' ssh h"), ["a b c1"]);
        assert_eq!(found("mysql -u root -phunter2 shop"), ["hunter2"]);
        assert_eq!(found("mysqldump -uroot -p'x y1' shop | gzip"), ["x y1"]);
        assert_eq!(found("curl -u a:b https://h"), ["b"]);
        assert_eq!(found("curl -sS --user=\"ann:s3c:ret\" https://h"), ["s3c:ret"]);
        assert_eq!(found("docker login -u ann -p Tr0ub4dor r.example"), ["Tr0ub4dor"]);
        assert_eq!(found("smbclient //h/s -U ann%hunter2"), ["hunter2"]);
        for harmless in [
            "mysql -u root -p shop",
            "mysql -p",
            "docker run -p 8080:80 x",
            "ssh -p 22 h",
            "psql -p 5432",
            "curl -u $USER:$PASS https://h",
            "curl -u ann https://h",
            "redis-cli -p 6379",
            "7z x -pls archive.7z".get(..5).unwrap(),
            "mkdir -p /srv/app",
        ] {
            assert_eq!(found(harmless), [""; 0], "{harmless}");
        }
    }
}

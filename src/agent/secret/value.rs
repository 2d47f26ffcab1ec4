//! What a value looks like: a placeholder, a reference, a piece of code, a word of prose, or a credential.
//!
//! Everything here looks at one value alone and in time linear in its length. Where a value stands is
//! `assigned`'s business.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Shannon entropy in bits a byte.
pub(super) fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let length = text.len().max(1) as f64;
    let share = counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / length);
    -share.map(|p| p * p.log2()).sum::<f64>()
}

/// Different bytes in the text, up to 256.
pub(super) fn variety(text: &str) -> usize {
    let mut seen = [false; 256];
    text.bytes().for_each(|byte| seen[usize::from(byte)] = true);
    seen.iter().filter(|seen| **seen).count()
}

pub(super) fn has_digit(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_digit())
}

pub(super) fn has_letter(text: &str) -> bool {
    text.bytes().any(|b| b.is_ascii_alphabetic())
}

/// Letters only, and what joins words: no digit, no other sign.
fn is_wordy(text: &str) -> bool {
    text.chars().all(|c| c.is_alphabetic() || matches!(c, '_' | '-' | '.' | ' '))
}

/// Beginnings of what stands for a secret that is kept elsewhere.
const REFERENCES: &[&str] = &[
    "op://",
    "vault:",
    "vault://",
    "ref+",
    "arn:",
    "ssm:",
    "env:",
    "env.",
    "file:",
    "secretsmanager:",
    "secretref",
    "keyvault",
    "akv://",
    "gcp-sm:",
    "sm://",
    "awssm:",
    "projects/",
    "enc[",
    "enc(",
    "sha256:",
    "sha512:",
    "http://",
    "https://",
    "os.",
    "process.",
    "id=",
];

/// Words by which people say "put a secret here".
const STAND_INS: &[&str] = &[
    "your",
    "changeme",
    "change-me",
    "change_me",
    "changeit",
    "replace",
    "placeholder",
    "example",
    "redacted",
    "removed",
    "masked",
    "hidden",
    "dummy",
    "insert",
    "todo",
    "omitted",
    "sensitive",
    "goes-here",
    "goes_here",
    "go-here",
    "lorem",
];

/// Whether text stands for a secret without being one: `$TOKEN`, `<your token>`, `****`, `op://vault/item`, what
/// this program wrote in place of one.
pub(super) fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let opens =
        |c: char| matches!(c, '$' | '<' | '{' | '*' | '%' | '[' | '(' | '!' | '&' | '@' | '#' | '`' | '…' | '•');
    let sign_first = value.starts_with(opens) && !is_symbol_password(value);
    sign_first
        || (variety(value) <= 2 && !(value.len() <= 6 && has_digit(value)))
        || lower.trim_matches(['x', '*', '.', '-', '_', '•', '?', '0']).is_empty()
        || lower.contains("xxxx")
        || value.contains("...")
        || value.contains("***")
        || value.contains('…')
        || value.contains("${")
        || value.contains("{{")
        || value.contains("$(")
        || REFERENCES.iter().any(|start| lower.starts_with(start))
        || (lower.starts_with("__") && lower.ends_with("__"))
        || (is_wordy(value) && STAND_INS.iter().any(|word| lower.contains(word)))
}

/// `!Qaz2wsx`, `@dm1n2026`, `#h4rd2guess`, `$ecr3t!`: signs at the front, and what cannot be a name behind.
fn is_symbol_password(value: &str) -> bool {
    let Some(rest) = value.strip_prefix(['!', '@', '#', '&', '$', '%', '*', '(']) else { return false };
    if value.starts_with('$') {
        // A shell variable has letters, digits and underscores; a password has a sign besides.
        return has_digit(rest) && has_letter(rest) && rest.contains(['!', '@', '#', '%', '^', '&', '*', '?']);
    }
    has_digit(rest) && has_letter(rest) && !rest.contains(['{', '}', '(', ')', '<', '>', '/'])
}

/// A path in a file system: `/srv/app1`, `./key`, `~/x`, `C:\keys`. Base64 that begins with a slash is not one.
pub(super) fn is_path(value: &str) -> bool {
    let rooted =
        value.starts_with("./") || value.starts_with("../") || value.starts_with("~/") || value.contains(":\\");
    rooted || (value.starts_with('/') && value.split('/').all(|part| part.is_empty() || is_name(part)))
}

/// `db-creds-v2`, `api-tls-2026`, `prod/db/main`: words and short numbers that people join into names. What is
/// random has longer runs of mixed letters and digits.
pub(super) fn is_name(value: &str) -> bool {
    is_moment(value) || value.split(['-', '_', '.', '/', ':', '=', '@', '~', '+']).all(is_name_part)
}

/// `2026-11-22T10:00:00Z`.
fn is_moment(value: &str) -> bool {
    let shape = |(n, b): (usize, &u8)| if matches!(n, 4 | 7) { *b == b'-' } else { b.is_ascii_digit() };
    value.len() >= 10 && value.len() <= 35 && value.as_bytes().iter().take(10).enumerate().all(shape)
}

fn is_name_part(part: &str) -> bool {
    let letters = part.trim_end_matches(|c: char| c.is_ascii_digit());
    let digits = part.len() - letters.len();
    if letters.is_empty() {
        return digits <= 8;
    }
    let cased = letters.bytes().filter(u8::is_ascii_uppercase).count();
    letters.bytes().all(|b| b.is_ascii_alphabetic())
        && digits <= 3
        && letters.len() <= 16
        && (cased == 0 || cased == letters.len() || is_camel(letters))
        && (letters.len() <= 4 || letters.bytes().any(|b| b"aeiouyAEIOUY".contains(&b)))
}

/// `DbCreds`, `dbCreds`: humps of at least three letters, but for one.
fn is_camel(letters: &str) -> bool {
    let humps = letters.split_inclusive(|c: char| c.is_ascii_uppercase()).map(str::len).collect::<Vec<_>>();
    humps.len() <= 5 && humps.iter().filter(|n| **n < 3).count() <= 2
}

pub(super) fn is_uuid(value: &str) -> bool {
    let groups: Vec<&str> = value.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|g| g.len()).collect();
    lengths == [8, 4, 4, 4, 12] && groups.iter().all(|g| is_hex(g))
}

pub(super) fn is_hex(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The length of a digest in hexadecimal: MD5, SHA-1, SHA-256, SHA-512.
pub(super) fn is_digest(value: &str) -> bool {
    matches!(value.len(), 32 | 40 | 64 | 128) && is_hex(value)
}

/// Letters and digits that nobody made up by hand: at least `least` bytes of them, mixed.
pub(super) fn is_random(value: &str, least: usize) -> bool {
    value.len() >= least && has_digit(value) && has_letter(value) && variety(value) >= 5 && !is_name(value)
}

/// A run without `-` and `_` of at least `least` bytes with a letter and a digit in it.
pub(super) fn has_random_run(value: &str, least: usize) -> bool {
    value.split(['-', '_', '.']).any(|run| run.len() >= least && has_digit(run) && has_letter(run))
}

/// The text that Base64 stands for, if it is printable and at least three bytes long.
pub(super) fn base64_text(value: &str) -> Option<String> {
    use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD};
    let bare = value.trim_end_matches('=').as_bytes();
    let bytes = BASE64_NOPAD.decode(bare).or_else(|_| BASE64URL_NOPAD.decode(bare)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    (text.len() >= 3 && !text.chars().any(|c| c.is_control() && c != '\n')).then_some(text)
}

/// `user:password` in Base64, as basic authentication writes it.
pub(super) fn is_basic(value: &str) -> bool {
    base64_text(value).is_some_and(|text| {
        text.split_once(':').is_some_and(|(user, password)| !password.is_empty() && !user.contains(char::is_whitespace))
    })
}

/// Pieces of identifiers that name credentials: a value made of them is a variable or a label.
const NAME_PIECES: &[&str] = &[
    "passw",
    "pwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "credential",
    "access_key",
    "private_key",
];

/// `userPassword`, `API_KEY`, `config.token`: letters only, and one of the words by which credentials are called.
pub(super) fn names_a_credential(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    is_wordy(value) && NAME_PIECES.iter().any(|piece| lower.contains(piece))
}

/// `req.body.password`, `self.key`: what code calls a value by.
pub(super) fn is_code(value: &str) -> bool {
    let mut parts = value.split('.').peekable();
    let identifier = |p: &str| {
        p.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let first = parts.peek().copied().unwrap_or("");
    let dotted = value.contains('.') && parts.all(identifier);
    // `Wint3r.Tales` is no code.
    dotted && (!has_digit(value) || ROOTS.contains(&first))
}

const ROOTS: &[&str] = &[
    "self",
    "this",
    "os",
    "env",
    "process",
    "config",
    "cfg",
    "settings",
    "req",
    "request",
    "args",
    "params",
    "ctx",
    "data",
    "form",
    "var",
    "local",
    "module",
    "options",
    "opts",
    "input",
    "user",
    "secrets",
    "credentials",
    "body",
    "event",
    "props",
    "state",
    "values",
    "inputs",
    "vars",
    "github",
    "random_password",
    "aws_db_instance",
];

/// Whether this is one of the words that people write behind `password:` and `token:` when they talk about them, or
/// code when it declares them.
pub(super) fn is_common(word: &str) -> bool {
    let lower = word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    if lower.len() < 2 || COMMON_WORDS.contains(lower.as_str()) {
        return true;
    }
    // Participles and their like are what a password is said to be.
    let ends = [
        "ated", "ired", "ised", "ized", "tten", "ssed", "able", "ible", "tion", "ment", "ally", "ting", "ning", "ring",
        "sing", "ding", "cted", "nged",
    ];
    lower.len() >= 6 && is_wordy(&lower) && ends.iter().any(|end| lower.ends_with(end))
}

/// Whether several words are prose: at least half of them are common, and each is a word or a number. A passphrase is
/// not.
pub(super) fn is_prose(text: &str) -> bool {
    let words = text.split_whitespace().count();
    words > 1
        && !text.split_whitespace().any(|word| has_digit(word) && has_letter(word))
        && text.split_whitespace().filter(|word| is_common(word)).count() * 2 >= words
}

/// `required|min:8|confirmed`: nothing but common words and small numbers, however they are joined.
pub(super) fn is_common_throughout(value: &str) -> bool {
    let parts = || value.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty());
    let small = |part: &str| part.len() <= 2 && part.bytes().all(|b| b.is_ascii_digit());
    let word = |part: &str| part.len() >= 2 && !has_digit(part) && is_common(part);
    parts().any(word) && parts().all(|part| word(part) || small(part))
}

static COMMON_WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| COMMON.split_ascii_whitespace().collect());

const COMMON: &str = "\
a an and any are as at be been being both but by can could did do does each either else every few for from had has have \
he her here him his how i if in into is it its just like may me might more most must my need needs neither never new next \
no none nor not now of off on one only or other our out over own per please same shall she should since so some such than \
that the their them then there these they this those though through to too under until up upon us use used user users uses \
using very via was we were what when where whether which while who whom whose why will with without would yes yet you your \
ok okay fine good bad wrong right correct incorrect valid invalid missing empty blank null nil none undefined unset unknown \
unavailable undisclosed optional required mandatory necessary needed given set unset get got put add added adding change \
changed changes changing check checked create created current default defaults delete deleted disable disabled enable enabled \
enter entered error expire expired expires expiry expiration fail failed fails failure false true field fields file files \
find first last forgot forgotten format found generate generated hash hashed hide hidden hint info input invalidated issued \
keep kept key keys leaked length less least line list login logged logout long short longer lost make many match matches \
maximum minimum max min mismatch name names number numbers obtain old once option options page parameter parse parsed part \
paste path pattern policy policies present previous print private problem prompt protected protection provide provided public \
read received refresh refreshed regex reject rejected remain remember remove renew renewed repeat request requested require \
reset resets return returned returns revoke revoked rotate rotated rotates rotation rule rules safe same save saved see send \
sent server service session setting settings share shared show shown sign single size source spec specified standard start \
stale static status stop store stored string str strings strong strength submit success support supported text time times \
todo try tried type typed types unchanged unique update updated updates url valid validate value values variable verify verified \
version view wait want warning weak word words write written rotating int integer bool boolean byte bytes char number object \
array float double varchar uuid object option list dict map vec self this let const var def fn func function return async await \
new class struct enum impl static void auto any never unknown bearer basic digest oauth oauth2 jwt mac authentication \
authorization auth credentials credential password passwords passwd passphrase secret secrets token tokens apikey api \
header headers cookie cookies admin-only manager hunter-only see section below above page docs documentation readme vault \
env environment config configuration constant literal plain plaintext encrypted encryption cleartext base64 hex random \
random-looking characters character letters digits symbols uppercase lowercase alphanumeric spaces attempts incorrectly \
again later soon today tomorrow yesterday always often sometimes still already back well also because before after during \
between about against within across along among around behind below beneath beside beyond despite down except inside \
outside toward until whatever whenever wherever however therefore thus hence instead otherwise anyway maybe perhaps \
people person team teams someone somebody anyone anybody everyone everybody nobody anything something nothing everything \
rejected accepted denied allowed forbidden unauthorized unauthenticated authenticated confirmed confirm confirmation \
flag flags switch switches argument arguments click link links visit contact follow instead ask asks \
redacted masked removed omitted placeholder example sample dummy foo bar baz test tests testing pass passes passed \
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_references_are_told_from_what_is_random() {
        for name in
            ["db-creds-v2", "api-tls-2026", "prod/db/main", "my_secret", "learn-1.5-compat-layer-2024", "v1", "DbCreds"]
        {
            assert!(is_name(name), "{name}");
            assert!(!is_random(name, 8), "{name}");
        }
        for random in ["abc12345", "aB3dE6gH9jK2", "9fceb02d0ae598e9", "x7Kp-29dLq-Zr81"] {
            assert!(!is_name(random), "{random}");
            assert!(is_random(random, 8), "{random}");
        }
    }

    #[test]
    fn placeholders_are_told_from_passwords_with_signs() {
        for stand_in in [
            "$TOKEN",
            "${DB_PASSWORD}",
            "<your key>",
            "********",
            "xxxxxxxx",
            "{{ .Values.x }}",
            "op://a/b/c",
            "YOUR_API_KEY",
            "change-me",
            "%s",
            "[secret removed: x]",
            "!Ref DbPassword",
            "*anchor",
            "arn:aws:secretsmanager:x",
            "(sensitive value)",
        ] {
            assert!(is_placeholder(stand_in), "{stand_in}");
        }
        for password in ["$ecr3t!", "#h4rd2guess", "!Qaz2wsx", "hunter2", "correcthorse", "1111", "@dm1n2026"] {
            assert!(!is_placeholder(password), "{password}");
        }
    }

    #[test]
    fn code_paths_and_prose_are_known() {
        for code in ["req.body.password", "self.key", "e.password", "process.env.TOKEN", "config.db1.password"] {
            assert!(is_code(code), "{code}");
        }
        assert!(!is_code("Wint3r.Tales"));
        assert!(is_path("/srv/app1") && is_path("./key.pem") && is_path("/run/secrets/db_password"));
        assert!(!is_path("/9j4AAQSkZJRgABAQEASABIAAD"));
        assert!(is_common("required") && is_common("Rotated") && !is_common("swordfish"));
        assert!(is_prose("Enter your password") && !is_prose("correct horse battery"));
    }
}

//! Credentials that are known by how they begin: a table of prefixes, as the vendors publish them in their
//! documentation of token formats and of secret scanning.
//!
//! A row says what has to follow a prefix. That is checked where the prefix was found and nowhere else, so a row
//! costs nothing in a text without it.

use super::value::{has_digit, has_random_run, is_hex, is_uuid, variety};

/// What may follow a prefix.
#[derive(Clone, Copy)]
enum Body {
    /// Letters, digits, `_` and `-`.
    Url,
    /// As `Url`, with the dots, slashes and signs of Base64 as well.
    Base64,
    /// Letters and digits.
    Plain,
    /// Hexadecimal digits.
    Hex,
    /// As `Base64`, and `$`, `,`: hashes of passwords.
    Crypt,
}

/// What the body has to look like besides, so that a word with the same beginning is left alone.
#[derive(Clone, Copy)]
enum Look {
    /// At least five different signs.
    Any,
    /// A digit in it.
    Digit,
    /// A capital, a small letter and a digit in it.
    Mixed,
    /// One run of at least sixteen letters and digits, both in it.
    Run,
    /// A UUID.
    Uuid,
    /// An id, a moment and a signature, with dots between.
    Discord,
    /// Fourteen letters and digits, a dot, and 64 hexadecimal digits.
    Airtable,
}

/// Label, beginnings, what follows, the fewest bytes of it, and its look.
type Row = (&'static str, &'static [&'static str], Body, usize, Look);

/// Most specific first. In prefixes case counts.
const TABLE: &[Row] = &[
    ("anthropic key", &["sk-ant-"], Body::Url, 16, Look::Any),
    ("openrouter key", &["sk-or-v1-"], Body::Hex, 32, Look::Any),
    ("langfuse key", &["sk-lf-"], Body::Url, 36, Look::Uuid),
    ("openai key", &["sk-proj-", "sk-svcacct-", "sk-admin-", "sk-None-"], Body::Url, 20, Look::Digit),
    ("openai key", &["sk-"], Body::Url, 20, Look::Run),
    ("hugging face token", &["hf_", "api_org_"], Body::Plain, 20, Look::Any),
    ("groq key", &["gsk_"], Body::Plain, 20, Look::Any),
    ("xai key", &["xai-"], Body::Url, 20, Look::Run),
    ("perplexity key", &["pplx-"], Body::Plain, 32, Look::Digit),
    ("cerebras key", &["csk-"], Body::Plain, 32, Look::Digit),
    ("nvidia key", &["nvapi-"], Body::Url, 40, Look::Digit),
    ("replicate token", &["r8_"], Body::Plain, 30, Look::Digit),
    ("fireworks key", &["fw_"], Body::Plain, 20, Look::Mixed),
    ("together key", &["tgp_v1_"], Body::Url, 30, Look::Digit),
    ("anyscale key", &["esecret_"], Body::Plain, 16, Look::Digit),
    ("elevenlabs key", &["sk_"], Body::Hex, 40, Look::Any),
    ("langsmith key", &["lsv2_pt_", "lsv2_sk_", "ls__"], Body::Url, 30, Look::Digit),
    ("pinecone key", &["pcsk_"], Body::Url, 40, Look::Digit),
    ("weights and biases key", &["wandb_v1_"], Body::Url, 30, Look::Digit),
    ("tavily key", &["tvly-"], Body::Url, 20, Look::Digit),
    ("e2b key", &["e2b_"], Body::Hex, 30, Look::Any),
    ("bedrock key", &["ABSK"], Body::Base64, 100, Look::Mixed),
    ("aws key", &["AKIA", "ASIA", "ABIA", "ACCA"], Body::Plain, 16, Look::Any),
    ("github token", &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], Body::Plain, 36, Look::Any),
    ("github token", &["github_pat_"], Body::Url, 22, Look::Any),
    (
        "gitlab token",
        &[
            "glpat-",
            "gldt-",
            "glrt-",
            "glptt-",
            "glcbt-",
            "glft-",
            "glsoat-",
            "glffct-",
            "glimt-",
            "glagent-",
            "gloas-",
            "GR1348941",
        ],
        Body::Url,
        20,
        Look::Any,
    ),
    ("bitbucket token", &["ATBB", "BBDC-"], Body::Url, 24, Look::Digit),
    ("atlassian token", &["ATATT3", "ATCTT3", "ATSTT3"], Body::Base64, 40, Look::Digit),
    (
        "slack token",
        &["xoxa-", "xoxb-", "xoxe-", "xoxe.", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xoxc-", "xoxd-", "xapp-"],
        Body::Base64,
        10,
        Look::Digit,
    ),
    (
        "stripe key",
        &["sk_live_", "sk_test_", "sk_prod_", "rk_live_", "rk_test_", "rk_prod_", "whsec_"],
        Body::Base64,
        16,
        Look::Any,
    ),
    ("razorpay key", &["rzp_live_", "rzp_test_"], Body::Plain, 14, Look::Any),
    ("google key", &["AIza"], Body::Url, 35, Look::Any),
    ("google key", &["GOCSPX-", "ya29."], Body::Url, 20, Look::Any),
    ("google refresh token", &["1//0"], Body::Url, 30, Look::Mixed),
    ("firebase server key", &["APA91b"], Body::Url, 100, Look::Mixed),
    ("sendgrid key", &["SG."], Body::Base64, 50, Look::Digit),
    ("brevo key", &["xkeysib-", "xsmtpsib-"], Body::Url, 60, Look::Digit),
    ("resend key", &["re_"], Body::Url, 20, Look::Mixed),
    ("mailgun key", &["key-"], Body::Hex, 32, Look::Any),
    ("registry token", &["npm_"], Body::Plain, 36, Look::Any),
    ("registry token", &["pypi-"], Body::Url, 50, Look::Any),
    ("registry token", &["dckr_pat_", "dckr_oat_"], Body::Url, 20, Look::Any),
    ("registry token", &["rubygems_"], Body::Hex, 40, Look::Any),
    ("registry token", &["CLOJARS_"], Body::Plain, 50, Look::Any),
    ("registry token", &["oy2"], Body::Plain, 43, Look::Digit),
    ("registry token", &["cio"], Body::Plain, 32, Look::Mixed),
    ("artifactory token", &["AKCp"], Body::Plain, 60, Look::Any),
    ("artifactory token", &["cmVmd"], Body::Plain, 50, Look::Any),
    ("vault token", &["hvs.", "hvb.", "hvr."], Body::Url, 20, Look::Any),
    ("digitalocean token", &["dop_v1_", "doo_v1_", "dor_v1_"], Body::Hex, 40, Look::Any),
    ("shopify token", &["shpat_", "shpca_", "shppa_", "shpss_", "shptka_"], Body::Hex, 30, Look::Any),
    ("grafana token", &["glsa_"], Body::Url, 32, Look::Any),
    ("grafana token", &["glc_"], Body::Base64, 32, Look::Digit),
    ("databricks token", &["dapi"], Body::Hex, 32, Look::Any),
    ("databricks token", &["dkea", "dose"], Body::Hex, 32, Look::Any),
    ("1password token", &["ops_eyJ"], Body::Base64, 60, Look::Any),
    ("1password key", &["A3-"], Body::Url, 30, Look::Digit),
    ("cloudflare key", &["v1.0-"], Body::Url, 100, Look::Digit),
    ("cloudflare token", &["cfut_", "cfat_", "cfk_"], Body::Url, 30, Look::Digit),
    ("new relic key", &["NRAK-", "NRII-", "NRIQ-", "NRRA-", "NRJS-", "NRBR-"], Body::Url, 18, Look::Any),
    ("datadog key", &["ddapp_", "ddpat_"], Body::Url, 30, Look::Digit),
    ("honeycomb key", &["hcaik_", "hcalk_", "hcbik_", "hcxik_"], Body::Plain, 30, Look::Digit),
    ("dynatrace token", &["dt0c01.", "dt0s01.", "dt0s16."], Body::Base64, 40, Look::Digit),
    ("sentry token", &["sntrys_"], Body::Base64, 40, Look::Any),
    ("sentry token", &["sntryu_"], Body::Hex, 40, Look::Any),
    ("axiom token", &["xaat-", "xapt-"], Body::Url, 36, Look::Uuid),
    ("heroku key", &["HRKU-"], Body::Url, 30, Look::Digit),
    ("linear key", &["lin_api_", "lin_oauth_", "lin_wh_"], Body::Plain, 30, Look::Digit),
    ("notion token", &["ntn_"], Body::Plain, 40, Look::Digit),
    ("notion token", &["secret_"], Body::Plain, 43, Look::Mixed),
    ("figma token", &["figd_", "figo_", "figu_"], Body::Url, 30, Look::Any),
    ("airtable token", &["pat"], Body::Base64, 79, Look::Airtable),
    ("contentful token", &["CFPAT-"], Body::Url, 40, Look::Any),
    ("typeform token", &["tfp_"], Body::Base64, 40, Look::Digit),
    ("postman key", &["PMAK-"], Body::Url, 50, Look::Digit),
    ("hubspot token", &["pat-na1-", "pat-na2-", "pat-eu1-", "pat-ap1-"], Body::Url, 36, Look::Uuid),
    ("intercom token", &["dG9rO"], Body::Base64, 50, Look::Mixed),
    ("okta token", &["SSWS 00"], Body::Url, 38, Look::Any),
    ("pulumi token", &["pul-"], Body::Hex, 40, Look::Any),
    ("terraform token", &["atlasv1."], Body::Url, 40, Look::Any),
    ("tailscale key", &["tskey-"], Body::Url, 20, Look::Digit),
    ("netlify token", &["nfp_", "nfc_", "nfo_"], Body::Plain, 30, Look::Digit),
    ("vercel token", &["vcp_", "vci_", "vca_", "vcr_", "vck_"], Body::Plain, 24, Look::Digit),
    ("vercel blob token", &["vercel_blob_rw_"], Body::Url, 30, Look::Any),
    ("fly.io token", &["fm2_", "fm1r_", "fm1a_"], Body::Base64, 60, Look::Digit),
    ("fly.io token", &["fo1_"], Body::Url, 40, Look::Digit),
    ("render key", &["rnd_"], Body::Plain, 28, Look::Mixed),
    ("supabase key", &["sbp_"], Body::Hex, 40, Look::Any),
    ("supabase key", &["sb_secret_"], Body::Url, 20, Look::Any),
    ("planetscale key", &["pscale_tkn_", "pscale_pw_", "pscale_oauth_"], Body::Url, 32, Look::Any),
    ("neon key", &["napi_", "npg_"], Body::Plain, 10, Look::Mixed),
    (
        "doppler token",
        &["dp.pt.", "dp.st.", "dp.ct.", "dp.sa.", "dp.scim.", "dp.audit."],
        Body::Base64,
        40,
        Look::Digit,
    ),
    ("infisical token", &["st."], Body::Base64, 80, Look::Mixed),
    ("sonarqube token", &["squ_", "sqp_", "sqa_"], Body::Hex, 40, Look::Any),
    ("snyk token", &["snyk_uat.", "snyk_sat."], Body::Base64, 40, Look::Digit),
    ("sourcegraph token", &["sgp_", "slk_"], Body::Url, 40, Look::Digit),
    ("buildkite token", &["bkua_", "bkpt_", "bkct_", "bkaj_", "bkat_"], Body::Url, 30, Look::Any),
    ("circleci token", &["CCIPAT_", "CCIPRJ_"], Body::Url, 40, Look::Digit),
    ("prefect token", &["pnu_", "pnb_"], Body::Plain, 36, Look::Any),
    ("readme token", &["rdme_"], Body::Url, 60, Look::Digit),
    ("square token", &["sq0atp-", "sq0csp-", "EAAAE", "EAAAl"], Body::Url, 22, Look::Mixed),
    ("facebook token", &["EAAC", "EAAM", "EAAB", "EAAG", "EAAD", "EAAJ"], Body::Plain, 80, Look::Mixed),
    ("braintree token", &["access_token$production$", "access_token$sandbox$"], Body::Crypt, 30, Look::Any),
    ("dropbox token", &["sl.u.", "sl.B", "sl.A"], Body::Url, 60, Look::Mixed),
    ("mapbox token", &["sk.eyJ"], Body::Base64, 60, Look::Any),
    ("launchdarkly key", &["sdk-", "mob-", "api-"], Body::Url, 36, Look::Uuid),
    ("plaid token", &["access-sandbox-", "access-production-", "access-development-"], Body::Url, 36, Look::Uuid),
    ("alibaba key", &["LTAI"], Body::Plain, 16, Look::Mixed),
    ("tencent key", &["AKID"], Body::Plain, 32, Look::Mixed),
    ("scaleway key", &["SCW"], Body::Plain, 17, Look::Digit),
    ("yandex key", &["AQVN"], Body::Url, 35, Look::Digit),
    ("azure secret", &["8Q~", "7Q~"], Body::Base64, 28, Look::Digit),
    ("openshift token", &["sha256~"], Body::Url, 43, Look::Any),
    ("elastic key", &["essu_"], Body::Base64, 40, Look::Any),
    ("token of this service", &["twelve_"], Body::Url, 40, Look::Digit),
    ("twilio key", &["SK"], Body::Hex, 32, Look::Any),
    // A snowflake in Base64 begins with one of the digits.
    ("discord token", &["MT", "Mj", "Mz", "ND", "NT", "Nj", "Nz", "OD", "OT"], Body::Base64, 55, Look::Discord),
    ("age key", &["AGE-SECRET-KEY-1", "AGE-SECRET-KEY-PQ-1"], Body::Plain, 40, Look::Any),
    ("nostr key", &["nsec1"], Body::Plain, 50, Look::Any),
    ("octopus key", &["API-"], Body::Plain, 25, Look::Digit),
    ("clickhouse key", &["4b1d"], Body::Plain, 38, Look::Mixed),
    // OpenSSH and PEM keys in Base64 without their armour, or with it encoded once more.
    ("private key", &["b3BlbnNzaC1rZXktdjE"], Body::Base64, 40, Look::Any),
    (
        "private key",
        &[
            "LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVk",
            "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS",
            "LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS",
            "LS0tLS1CRUdJTiBPUEVOU1NIIFBSSVZBVEUgS0VZ",
            "LS0tLS1CRUdJTiBFTkNSWVBURUQgUFJJVkFURSBLRVk",
            "LS0tLS1CRUdJTiBEU0EgUFJJVkFURSBLRVk",
            "LS0tLS1CRUdJTiBQR1AgUFJJVkFURSBLRVkg",
        ],
        Body::Base64,
        20,
        Look::Any,
    ),
    (
        "password hash",
        &["$1$", "$5$", "$6$", "$y$", "$apr1$", "$argon2id$", "$argon2i$", "$2a$", "$2b$", "$2y$", "$pbkdf2"],
        Body::Crypt,
        24,
        Look::Any,
    ),
    ("password hash", &["{SSHA}", "{SSHA256}", "{SSHA512}", "SCRAM-SHA-256$"], Body::Crypt, 24, Look::Any),
];

/// Bytes by which a body is judged; a longer one costs no more, however often a prefix is written in it.
const JUDGED: usize = 512;

/// Every prefix with the number of its row.
pub(super) fn prefixes() -> impl Iterator<Item = (usize, &'static str)> {
    TABLE.iter().enumerate().flat_map(|(row, (_, prefixes, ..))| prefixes.iter().map(move |prefix| (row, *prefix)))
}

pub(super) fn label(row: usize) -> &'static str {
    TABLE.get(row).map_or("credential", |row| row.0)
}

/// The bytes that the credential takes whose prefix stands at `start..end`, if it is one.
pub(super) fn credential(row: usize, text: &str, start: usize, end: usize) -> Option<std::ops::Range<usize>> {
    let (label, _, body, least, look) = TABLE.get(row)?;
    let before = text.as_bytes().get(start.wrapping_sub(1)).copied().filter(|_| start > 0);
    // `\n` and `%20` before it are written-out white space.
    let joined = before.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_') && !is_escape(text, start);
    if joined && !matches!(*label, "azure secret" | "terraform token" | "firebase server key" | "password hash") {
        return None;
    }
    let rest = text.get(end..)?;
    let run = |most: usize| rest.bytes().take(most).take_while(|b| allowed(*body, *b)).count();
    let trim = |length: usize| Some(rest.get(..length)?.trim_end_matches(['.', '-', '_', '/', ',', ':']));
    let found = trim(run(JUDGED))?;
    (found.len() >= *least && looks(*look, found)).then(|| {
        // The vendor's random part may stand before the mark as well.
        let head = text.get(..start).unwrap_or("");
        let lead = match *label {
            "azure secret" | "terraform token" | "firebase server key" => head
                .bytes()
                .rev()
                .take(200)
                .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'~' | b'.' | b'-' | b':'))
                .count(),
            _ => 0,
        };
        let whole = if found.len() < JUDGED / 2 { found } else { trim(run(rest.len())).unwrap_or(found) };
        start - lead..end + whole.len()
    })
}

/// Whether what stands right before `at` is an escape (`\n`, `\t`, `%3D`, `\u003d`), so that a word begins there.
pub(super) fn is_escape(text: &str, at: usize) -> bool {
    let head = text.as_bytes().get(..at).unwrap_or(&[]);
    match head {
        [.., b'\\', b'n' | b'r' | b't'] => true,
        [.., b'%', a, b] => a.is_ascii_hexdigit() && b.is_ascii_hexdigit(),
        [.., b'\\', b'u', a, b, c, d] => [a, b, c, d].iter().all(|x| x.is_ascii_hexdigit()),
        _ => false,
    }
}

fn allowed(body: Body, b: u8) -> bool {
    match body {
        Body::Hex => b.is_ascii_hexdigit(),
        Body::Plain => b.is_ascii_alphanumeric(),
        Body::Url => b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'),
        Body::Base64 => b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/' | b'=' | b'.'),
        Body::Crypt => {
            b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/' | b'=' | b'.' | b'$' | b',' | b':')
        }
    }
}

fn looks(look: Look, body: &str) -> bool {
    let any = |class: fn(&u8) -> bool| body.as_bytes().iter().any(class);
    // Nobody's credential is one sign over and over; documentation is full of those.
    variety(body) >= 5
        && match look {
            Look::Any => true,
            Look::Digit => has_digit(body),
            Look::Mixed => any(u8::is_ascii_digit) && any(u8::is_ascii_uppercase) && any(u8::is_ascii_lowercase),
            Look::Run => has_random_run(body, 16),
            Look::Airtable => {
                body.split_once('.').is_some_and(|(id, key)| id.len() == 14 && key.len() == 64 && is_hex(key))
            }
            Look::Discord => {
                let parts: Vec<usize> = body.split('.').map(str::len).collect();
                matches!(parts[..], [id, 6, signature] if (20..=26).contains(&id) && signature >= 27) && has_digit(body)
            }
            Look::Uuid => body.get(..36).is_some_and(is_uuid) || is_hex(body),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_with_the_same_beginning_is_no_credential() {
        for text in [
            "sk-learn-contrib-something-long-enough-2024",
            "sk-learn-1.5-compat-layer-2024-11",
            "re_compile_something_long_enough_2024",
            "hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "risk-assessment-of-the-deployment-pipeline",
            "task-1234567890123456789012345",
            "secret_manager_configuration_for_the_whole_cluster_2026",
        ] {
            for (row, prefix) in prefixes() {
                for (at, _) in text.match_indices(prefix) {
                    assert_eq!(credential(row, text, at, at + prefix.len()), None, "{text}");
                }
            }
        }
    }
}

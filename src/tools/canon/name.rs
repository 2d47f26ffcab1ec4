//! Names that operators give (services, environments) and versions: plain ASCII, so that there is one spelling.

/// Longest name of a service or environment, and longest version, in characters.
pub const MAX_PLAIN: usize = 64;

pub(super) const SHAPE: &str = "[A-Za-z0-9][A-Za-z0-9._+~:@-]*";

/// Whether a text can go into an argument list or an address without meaning anything there: no white
/// space, no control characters, no quoting, no path separator, and not taken for an option.
pub fn plain(text: &str) -> bool {
    text.len() <= MAX_PLAIN
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._+~:@-".contains(c))
}

pub(super) fn canonical(what: &str, written: &str) -> Result<String, String> {
    if plain(written) {
        return Ok(written.to_owned());
    }
    let why =
        format!("`{what}` has to be letters, digits and `._+~:@-`, the first a letter or digit, at most {MAX_PLAIN}");
    Err(super::refused(why, Some(written.trim().to_owned()).filter(|trimmed| plain(trimmed))))
}

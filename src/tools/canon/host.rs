//! Hosts, in the one form that the URL parser, a resolver and a person read alike.
//!
//! A name is in lower case, in its ASCII form (`xn--`), without the dot that ends an absolute name. An address is in
//! dotted decimal, or an IPv6 address in brackets as the URL parser writes it. Every other form of a number is
//! refused: `127.1`, `2130706433`, `0x7f000001` and full-width digits are read as an address by some and as a name
//! by others, and an IPv4 address inside an IPv6 one reaches the same machine under another name.

use std::net::IpAddr;

use reqwest::Url;

use super::super::address;

/// Longest name, in bytes (RFC 1035, without the final dot), and longest part of it.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

/// A name whose last part is no number: the URL parser reads any other as an IPv4 address.
macro_rules! name_shape {
    () => {
        concat!(
            "(?:[a-z0-9_-]+\\.)*",
            "(?:[a-z_-]|[1-9][0-9]*[a-z_-]|0[0-9]+[a-z_-]|0[a-wyz_-]|0x[0-9a-f]*[g-z_-])[a-z0-9_-]*"
        )
    };
}

macro_rules! decimal {
    () => {
        "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
    };
}

/// As text, so that the shape of an address can hold it.
macro_rules! shape {
    () => {
        concat!(
            "(?:",
            $crate::tools::canon::host::name_shape!(),
            "|",
            $crate::tools::canon::host::decimal!(),
            "(?:\\.",
            $crate::tools::canon::host::decimal!(),
            "){3}|\\[[0-9a-f:]+\\])"
        )
    };
}
pub(super) use {decimal, name_shape, shape};

pub(super) const SHAPE: &str = shape!();

/// The host of an address that was read from `written`, which is the host in that address as it stood there.
///
/// # Errors
/// Why this spelling of a host is refused.
pub(super) fn read(url: &Url, written: &str) -> Result<String, String> {
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or("the address names no host")?;
    if written.contains('%') {
        return Err("a host has no escapes in it".to_owned());
    }
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        let reached = address::reached(ip);
        if reached != ip {
            return Err(format!("`{host}` is another way to write {reached}"));
        }
        if written != host {
            let how = if ip.is_ipv4() { "as four decimal numbers" } else { "in its shortest form in brackets" };
            return Err(format!("the address of a machine has to be written {how}, here {host}"));
        }
        return Ok(host.to_owned());
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    };
    if host.len() > MAX_NAME || !host.split('.').all(label) {
        return Err("the host is not the name of a machine: parts of letters, digits, `-` and `_`, with single dots \
                    between them"
            .to_owned());
    }
    Ok(host.to_owned())
}

pub(super) fn canonical(written: &str) -> Result<String, String> {
    let plain = !written.contains(['/', '\\', '?', '#', '@', ':']) || written.starts_with('[');
    let odd = |c: char| c.is_whitespace() || c.is_control();
    let parsed = Url::parse(&format!("https://{written}/")).ok();
    let url = parsed.filter(|url| plain && !written.contains(odd) && url.path() == "/" && url.port().is_none());
    let url = url.ok_or("that is not the name or the address of a host")?;
    read(&url, written).map_err(|why| super::refused(why, url.host_str().map(str::to_owned).filter(|h| h != written)))
}

pub(super) fn meant(literal: &str) -> Option<String> {
    Some(literal.trim().trim_end_matches('.').to_lowercase())
}

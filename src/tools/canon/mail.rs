//! Addresses of mail: what a mail server is told to deliver to, and nothing beside it.
//!
//! A name before the address (`Ada <ada@example.com>`) is dropped: it is not where the mail goes, and a pattern that
//! ends with a domain would not match it. The local part stays as it is written, since only the receiving server
//! knows whether case matters there; the domain is in lower case.

use crate::mail;

pub(super) const SHAPE: &str = "[A-Za-z0-9._+'&=~#$*-]+@[a-z0-9-]+(\\.[a-z0-9-]+)*";

pub(super) fn canonical(written: &str) -> Result<String, String> {
    mail::address(written).map(|mailbox| mailbox.email.to_string())
}

pub(super) fn meant(literal: &str) -> Option<String> {
    let address = literal.rsplit_once('<').map_or(literal, |(_, address)| address).trim_end_matches('>').trim();
    match address.rsplit_once('@') {
        Some((local, domain)) => Some(format!("{local}@{}", domain.trim_end_matches('.').to_lowercase())),
        None => Some(address.to_lowercase()),
    }
}

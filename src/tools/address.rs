//! Which addresses belong to the public internet, and which to somebody's inside.
//!
//! Pure: no name is resolved and nothing is connected here. Ranges are those of the IANA registries of
//! special-purpose addresses (IPv4: RFC 6890 and its updates; IPv6: only `2000::/3` is given out at all),
//! and the addresses at which clouds hand out credentials. What a tool may reach is up to
//! [`super::guarded`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Said of the addresses at which a cloud gives its own machines keys and roles.
const METADATA: &str = "a cloud's metadata service";

/// Metadata services: most clouds; Azure (an address that is public on paper); Alibaba; Oracle; AWS over IPv6.
const METADATA_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(192, 0, 0, 192),
];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// First address, prefix length, what it is. The first that fits is said.
const SPECIAL_V4: [(Ipv4Addr, u8, &str); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "an unspecified address"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "a private address"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "an address shared by a carrier's customers"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "a loopback address"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "a link-local address"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "a private address"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "a reserved address"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "a documentation address"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a 6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "a private address"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "a benchmarking address"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "a documentation address"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "a documentation address"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "a multicast address"),
    // The broadcast address is the last of them.
    (Ipv4Addr::new(240, 0, 0, 0), 4, "a reserved address"),
];

const SPECIAL_V6: [(Ipv6Addr, u8, &str); 13] = [
    (Ipv6Addr::UNSPECIFIED, 128, "an unspecified address"),
    (Ipv6Addr::LOCALHOST, 128, "a loopback address"),
    (Ipv6Addr::UNSPECIFIED, 96, "an IPv4-compatible address"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "a local translation address"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "a Teredo address"),
    (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48, "a benchmarking address"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "a reserved address"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "a documentation address"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "a 6to4 address"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "a documentation address"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "a private address"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "a link-local address"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "a multicast address"),
];

/// The part of the IPv6 space that is given out as public addresses.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What an address reaches: for IPv4 written as IPv6 (`::ffff:127.0.0.1`) and behind the well-known NAT64
/// prefix (`64:ff9b::7f00:1`) the IPv4 address inside.
pub(super) fn reached(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    let inside = |v6: Ipv6Addr| {
        let [.., a, b, c, d] = v6.octets();
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => inside(v6),
        _ => ip,
    }
}

/// Whether a connection to this address may be opened: it is public, or in one of the `open` networks. A
/// metadata service is only opened by a network that is that one address.
///
/// # Errors
/// What it is instead: `a loopback address`.
pub(super) fn judge(ip: IpAddr, open: &[IpNet]) -> Result<(), &'static str> {
    let ip = reached(ip);
    let Some(what) = special(ip) else { return Ok(()) };
    let opens = |net: &IpNet| net.contains(&ip) && (what != METADATA || net.prefix_len() == net.max_prefix_len());
    if open.iter().any(opens) { Ok(()) } else { Err(what) }
}

/// What an address is if it is not a public one.
fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(v4) if METADATA_V4.contains(&v4) => Some(METADATA),
        IpAddr::V4(v4) => {
            let within = |&&(first, bits, _): &&(Ipv4Addr, u8, _)| {
                (u32::from(v4) ^ u32::from(first)).leading_zeros() >= u32::from(bits)
            };
            SPECIAL_V4.iter().find(within).map(|&(.., what)| what)
        }
        IpAddr::V6(v6) if v6 == METADATA_V6 => Some(METADATA),
        IpAddr::V6(v6) => {
            let within =
                |first: Ipv6Addr, bits: u8| (u128::from(v6) ^ u128::from(first)).leading_zeros() >= u32::from(bits);
            let known = SPECIAL_V6.iter().find(|&&(first, bits, _)| within(first, bits)).map(|&(.., what)| what);
            known.or_else(|| (!within(GLOBAL_V6.0, GLOBAL_V6.1)).then_some("a reserved address"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(ip: &str, open: &[&str]) -> &'static str {
        let open: Vec<IpNet> = open.iter().map(|net| net.parse().unwrap()).collect();
        judge(ip.parse().unwrap(), &open).err().unwrap_or("open")
    }

    #[test]
    fn every_address_is_told_from_a_public_one_up_to_the_edges_of_its_range() {
        for (ip, what) in [
            ("0.0.0.0", "an unspecified address"),
            ("0.255.255.255", "an unspecified address"),
            ("1.0.0.0", "open"),
            ("9.255.255.255", "open"),
            ("10.0.0.0", "a private address"),
            ("10.255.255.255", "a private address"),
            ("11.0.0.0", "open"),
            ("100.63.255.255", "open"),
            ("100.64.0.0", "an address shared by a carrier's customers"),
            ("100.100.100.200", METADATA),
            ("100.127.255.255", "an address shared by a carrier's customers"),
            ("100.128.0.0", "open"),
            ("127.0.0.1", "a loopback address"),
            ("127.255.255.254", "a loopback address"),
            ("128.0.0.0", "open"),
            ("168.63.129.16", METADATA),
            ("168.63.129.17", "open"),
            ("169.254.0.1", "a link-local address"),
            ("169.254.169.254", METADATA),
            ("169.255.0.0", "open"),
            ("172.15.255.255", "open"),
            ("172.16.0.0", "a private address"),
            ("172.31.255.255", "a private address"),
            ("172.32.0.0", "open"),
            ("192.0.0.1", "a reserved address"),
            ("192.0.0.192", METADATA),
            ("192.0.1.0", "open"),
            ("192.0.2.1", "a documentation address"),
            ("192.88.99.1", "a 6to4 relay"),
            ("192.167.255.255", "open"),
            ("192.168.0.1", "a private address"),
            ("192.169.0.0", "open"),
            ("198.17.255.255", "open"),
            ("198.18.0.0", "a benchmarking address"),
            ("198.19.255.255", "a benchmarking address"),
            ("198.20.0.0", "open"),
            ("198.51.100.1", "a documentation address"),
            ("203.0.113.255", "a documentation address"),
            ("223.255.255.255", "open"),
            ("224.0.0.1", "a multicast address"),
            ("239.255.255.255", "a multicast address"),
            ("240.0.0.0", "a reserved address"),
            ("255.255.255.255", "a reserved address"),
            ("8.8.8.8", "open"),
            ("::", "an unspecified address"),
            ("::1", "a loopback address"),
            ("::2", "an IPv4-compatible address"),
            ("::7f00:1", "an IPv4-compatible address"),
            ("::808:808", "an IPv4-compatible address"),
            ("::ffff:127.0.0.1", "a loopback address"),
            ("::ffff:10.0.0.1", "a private address"),
            ("::ffff:169.254.169.254", METADATA),
            ("::ffff:8.8.8.8", "open"),
            ("::ffff:0:7f00:1", "a reserved address"),
            ("64:ff9b::7f00:1", "a loopback address"),
            ("64:ff9b::a9fe:a9fe", METADATA),
            ("64:ff9b::808:808", "open"),
            ("64:ff9b::1:808:808", "a reserved address"),
            ("64:ff9b:1::808:808", "a local translation address"),
            ("100::1", "a reserved address"),
            ("1fff:ffff::1", "a reserved address"),
            ("2000::1", "open"),
            ("2001::1", "a Teredo address"),
            ("2001:0:7f00:1::", "a Teredo address"),
            ("2001:2::1", "a benchmarking address"),
            ("2001:20::1", "a reserved address"),
            ("2001:1ff::1", "a reserved address"),
            ("2001:200::1", "open"),
            ("2001:db8::1", "a documentation address"),
            ("2002:7f00:1::", "a 6to4 address"),
            ("2002:808:808::1", "a 6to4 address"),
            ("2003::1", "open"),
            ("2606:4700:4700::1111", "open"),
            ("3fff::1", "a documentation address"),
            ("3fff:1000::1", "open"),
            ("4000::1", "a reserved address"),
            ("5f00::1", "a reserved address"),
            ("fc00::1", "a private address"),
            ("fd12:3456::1", "a private address"),
            ("fd00:ec2::254", METADATA),
            ("fe80::1", "a link-local address"),
            ("febf::1", "a link-local address"),
            ("fec0::1", "a reserved address"),
            ("ff02::1", "a multicast address"),
        ] {
            assert_eq!(said(ip, &[]), what, "{ip}");
        }
    }

    #[test]
    fn a_network_that_is_opened_opens_its_addresses_however_they_are_written_and_no_others() {
        for (ip, open, what) in [
            ("10.1.2.3", "10.1.0.0/16", "open"),
            ("10.2.0.0", "10.1.0.0/16", "a private address"),
            ("::ffff:10.1.2.3", "10.1.0.0/16", "open"),
            ("64:ff9b::a01:203", "10.1.0.0/16", "open"),
            ("::1", "127.0.0.0/8", "a loopback address"),
            ("127.0.0.1", "::1/128", "a loopback address"),
            ("127.0.0.1", "::/0", "a loopback address"),
            ("fd00::1", "fd00::/8", "open"),
            ("169.254.1.1", "169.254.0.0/16", "open"),
            ("169.254.169.254", "169.254.0.0/16", METADATA),
            ("::ffff:169.254.169.254", "0.0.0.0/0", METADATA),
            ("169.254.169.254", "169.254.169.254/32", "open"),
            ("fd00:ec2::254", "fd00::/8", METADATA),
            ("fd00:ec2::254", "fd00:ec2::254/128", "open"),
        ] {
            assert_eq!(said(ip, &[open]), what, "{ip} with {open}");
        }
    }
}

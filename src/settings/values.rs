//! Parsers of single values: text in, validated value out. An error is what is wrong beyond 'not one of those allowed', and
//! may be empty; the caller adds the setting, the value, its origin and what is allowed.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::Uri;
use ipnet::IpNet;
use lbex_core::duration;

/// Go's booleans, those that its flag package takes.
pub(crate) const BOOLEANS: [(&str, bool); 12] = [
    ("1", true),
    ("t", true),
    ("T", true),
    ("true", true),
    ("TRUE", true),
    ("True", true),
    ("0", false),
    ("f", false),
    ("F", false),
    ("false", false),
    ("FALSE", false),
    ("False", false),
];

/// A boolean.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    BOOLEANS.iter().find(|(word, _)| *word == text).map(|(_, yes)| *yes).ok_or_else(String::new)
}

/// One of several words.
pub(super) fn word<T: Copy>(words: &[(&str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(String::new)
}

/// A port to listen on; 0: any that is free.
pub(super) fn port_or_any(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(String::new)
}

/// A duration within `bounds`.
pub(super) fn duration(bounds: RangeInclusive<Duration>) -> impl Fn(&str) -> Result<Duration, String> {
    move |text| {
        let duration = duration::parse(text).map_err(|e| match e {
            duration::DurationError::Syntax if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() => {
                format!("it has no unit: {text}s is {text} seconds")
            }
            duration::DurationError::Syntax => String::new(),
            duration::DurationError::TooLong => e.to_string(),
        })?;
        match duration {
            d if d < *bounds.start() => Err("too short".to_owned()),
            d if d > *bounds.end() => Err("too long".to_owned()),
            d => Ok(d),
        }
    }
}

/// `off`, or what `parse` takes.
pub(super) fn or_off<T>(parse: impl Fn(&str) -> Result<T, String>) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |text| if text == "off" { Ok(None) } else { parse(text).map(Some) }
}

/// How long something is held; `None`: not at all (`off`, or no time).
pub(super) fn hold(text: &str) -> Result<Option<Duration>, String> {
    if text == "0" {
        return Ok(None);
    }
    let held = or_off(duration(Duration::ZERO..=duration::LONGEST))(text)?;
    Ok(held.filter(|time| !time.is_zero()))
}

/// A network, or a single address. Bits of hosts are dropped; IPv4 inside IPv6 is written as IPv4.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network =
        text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| String::new())?;
    match network {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => Err("write the IPv4 network".to_owned()),
        network => Ok(network.trunc()),
    }
}

/// An address that something can listen on; `None`: all.
pub(super) fn listen_address(text: &str) -> Result<Option<IpAddr>, String> {
    if text == "all" {
        return Ok(None);
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let address: IpAddr = bare.parse().map_err(|_| match text.parse::<SocketAddr>() {
        Ok(_) => "it has a port".to_owned(),
        Err(_) if bare.contains('%') => "addresses with a zone are not supported".to_owned(),
        Err(_) => String::new(),
    })?;
    match address {
        IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => Err("nothing can listen on it".to_owned()),
        IpAddr::V6(v6) if v6.is_multicast() => Err("nothing can listen on it".to_owned()),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => Err(format!("write {v4}")),
            None => Ok(Some(address)),
        },
        IpAddr::V4(_) => Ok(Some(address)),
    }
}

/// An address and a port to listen on; port 0: any that is free.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| match (text.parse::<IpAddr>(), text.parse::<u16>()) {
        (Ok(_), _) => "the port is missing".to_owned(),
        (_, Ok(_)) => "the address is missing".to_owned(),
        _ => String::new(),
    })?;
    listen_address(&address.ip().to_string())?;
    Ok(address)
}

/// The URL of a `kubectl proxy`; without a scheme it is HTTP.
pub(super) fn proxy_url(text: &str) -> Result<Uri, String> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url: Uri = with_scheme.parse().map_err(|e: http::uri::InvalidUri| e.to_string())?;
    let scheme = url.scheme_str().unwrap_or_default();
    if !["http", "https"].contains(&scheme) {
        return Err(format!("its scheme is {scheme}"));
    }
    let Some(authority) = url.authority() else { return Err("it has no host".to_owned()) };
    if authority.as_str().contains('@') {
        return Err("user names and passwords are not taken here".to_owned());
    }
    if authority.host().is_empty() {
        return Err("it has no host".to_owned());
    }
    let after_host = &authority.as_str()[authority.host().len()..];
    if !after_host.is_empty() && authority.port_u16().is_none_or(|p| p == 0) {
        return Err("its port is none from 1 to 65535".to_owned());
    }
    if url.query().is_some() {
        return Err("it has a query".to_owned());
    }
    Ok(url)
}

/// The class by which Services ask for LBEX: a name, with an optional DNS prefix (as Kubernetes demands of loadBalancerClass).
pub(super) fn class(text: &str) -> Result<String, String> {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let prefix_is_fine =
        prefix.is_none_or(|p| p.len() <= 253 && p.split('.').all(|l| lbex_core::names::Label::new(l).is_ok()));
    // A qualified name has the same form as a pool's.
    if prefix_is_fine && lbex_core::names::PoolName::new(name).is_ok() {
        Ok(text.to_owned())
    } else {
        Err(String::new())
    }
}

/// A path; relative ones are made absolute.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.contains('\0') {
        return Err("it has a NUL character".to_owned());
    }
    std::path::absolute(text).map_err(|e| format!("the working folder cannot be told: {e}"))
}

/// Whether a path can be written into a configuration of NGINX as it is.
pub(super) fn is_plain(path: &Path) -> bool {
    let special = |c: char| c.is_whitespace() || c.is_control() || "\"';{}$#\\".contains(c);
    path.to_str().is_some_and(|text| !text.contains(special))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_gos() {
        for (text, yes) in BOOLEANS {
            assert_eq!(switch(text), Ok(yes));
        }
        for text in ["", "yes", "on", "tRUE", "2", " true"] {
            assert!(switch(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn ports() {
        assert_eq!((port_or_any("0"), port_or_any("65535")), (Ok(0), Ok(65535)));
        for text in ["", "65536", "-1", "+1", "0x50", "80 ", "http"] {
            assert!(port_or_any(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations() {
        let parse = duration(Duration::from_millis(1)..=Duration::from_secs(3600));
        assert_eq!(parse("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
        for (text, reason) in [
            ("0s", "too short"),
            ("2h", "too long"),
            ("3", "it has no unit: 3s is 3 seconds"),
            ("", ""),
            ("3 s", ""),
            ("400d", "longer than 365 days"),
        ] {
            assert_eq!(parse(text), Err(reason.to_owned()), "{text:?}");
        }
        assert_eq!(or_off(&parse)("off"), Ok(None));
        assert_eq!(or_off(&parse)("1s"), Ok(Some(Duration::from_secs(1))));
        assert!(or_off(&parse)("OFF").is_err());
    }

    #[test]
    fn listen_addresses() {
        assert_eq!(listen_address("all"), Ok(None));
        for (text, address) in
            [("10.0.0.1", "10.0.0.1"), ("::", "::"), ("[fd00::1]", "fd00::1"), ("0.0.0.0", "0.0.0.0")]
        {
            assert_eq!(listen_address(text), Ok(Some(address.parse().unwrap())), "{text}");
        }
        for (text, reason) in [
            ("10.0.0.1:80", "it has a port"),
            ("[::1]:80", "it has a port"),
            ("fe80::1%eth0", "addresses with a zone are not supported"),
            ("::ffff:10.0.0.1", "write 10.0.0.1"),
            ("224.0.0.1", "nothing can listen on it"),
            ("ff02::1", "nothing can listen on it"),
            ("localhost", ""),
            ("", ""),
            ("10.0.0.0/8", ""),
        ] {
            assert_eq!(listen_address(text), Err(reason.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn socket_addresses() {
        assert_eq!(socket_address("[::1]:9"), Ok("[::1]:9".parse().unwrap()));
        for (text, reason) in [
            ("127.0.0.1", "the port is missing"),
            ("7332", "the address is missing"),
            ("localhost:1", ""),
            ("224.0.0.1:1", "nothing can listen on it"),
        ] {
            assert_eq!(socket_address(text), Err(reason.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn proxy_urls() {
        for (text, url) in [
            ("127.0.0.1:8001", "http://127.0.0.1:8001/"),
            ("localhost:8001", "http://localhost:8001/"),
            ("[::1]:8001", "http://[::1]:8001/"),
            ("host", "http://host/"),
            ("https://api.example.com/prefix", "https://api.example.com/prefix"),
        ] {
            assert_eq!(proxy_url(text).unwrap().to_string(), url, "{text}");
        }
        for text in [
            "",
            "ftp://host",
            "http://",
            ":8001",
            "host:port",
            "host:99999",
            "host:0",
            "host:",
            "u:p@host",
            "a b",
            "host/?q=1",
        ] {
            assert!(proxy_url(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn classes() {
        for text in ["lbex.io/lbex", "lbex", "a.b.c/D_e.f-1"] {
            assert_eq!(class(text).as_deref(), Ok(text));
        }
        for text in ["", "/lbex", "lbex.io/", "a/b/c", "-a", "UP.io/lbex", "a b"] {
            assert!(class(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn paths() {
        assert!(path("x/../y").unwrap().is_absolute());
        assert!(path("").is_err() && path("a\0b").is_err());
        assert!(is_plain(Path::new("/var/lib/lbex-1.0_é")));
        for text in ["/a b", "/a\n", "/a;", "/$a", "/a{", "/'a"] {
            assert!(!is_plain(Path::new(text)), "{text:?}");
        }
    }
}

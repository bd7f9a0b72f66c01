//! The proxy variables of the environment, as Go programs (`kubectl`, the original LBEX) read them.
//!
//! They count where a kubeconfig has no `proxy-url`, and in a Pod: `HTTPS_PROXY` for a server with `https`, `HTTP_PROXY` for one
//! with `http`, each also in lower case, unless `NO_PROXY` names the server; never for `localhost` and loopback addresses, and
//! never with `--proxy`.

use std::net::IpAddr;

use http::Uri;
use ipnet::IpNet;

/// The proxy variables, read once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxyVariables {
    /// `HTTPS_PROXY`.
    pub https: Option<String>,
    /// `HTTP_PROXY`.
    pub http: Option<String>,
    /// `NO_PROXY`: names, `.suffixes`, addresses, networks, each perhaps with a port, separated by commas; `*`: everything.
    pub no: Option<String>,
}

/// A proxy's URL that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the proxy {text:?} of {origin} is not valid ({reason}); allowed: http://, https:// or socks5:// with a host")]
pub(super) struct ProxyError {
    origin: String,
    text: String,
    reason: String,
}

impl ProxyVariables {
    /// Reads them from this process's environment; a name in capitals goes before the same in lower case.
    pub fn from_environment() -> Self {
        let one = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let read = |name: &str| one(name).or_else(|| one(&name.to_ascii_lowercase()));
        Self { https: read("HTTPS_PROXY"), http: read("HTTP_PROXY"), no: read("NO_PROXY") }
    }

    /// The proxy to reach `server` through, if any.
    pub(super) fn for_server(&self, server: &Uri) -> Result<Option<Uri>, ProxyError> {
        let https = server.scheme_str() != Some("http");
        let (name, value) = if https { ("HTTPS_PROXY", &self.https) } else { ("HTTP_PROXY", &self.http) };
        match value {
            Some(text) if !self.exempts(server) => parse(text, name).map(Some),
            _ => Ok(None),
        }
    }

    fn exempts(&self, server: &Uri) -> bool {
        let host = server.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok();
        if host == "localhost" || address.is_some_and(|a| a.is_loopback()) {
            return true;
        }
        let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("http") { 80 } else { 443 });
        self.no.iter().flat_map(|list| list.split(',')).any(|entry| exempted_by(entry, &host, address, port))
    }
}

/// Whether one entry of `NO_PROXY` names the server.
fn exempted_by(entry: &str, host: &str, address: Option<IpAddr>, port: u16) -> bool {
    let entry = entry.trim().to_ascii_lowercase();
    if entry.is_empty() || entry == "*" {
        return entry == "*";
    }
    if let (Ok(network), Some(address)) = (entry.parse::<IpNet>(), address) {
        return network.contains(&address);
    }
    let bare = entry.trim_matches(['[', ']']).parse::<IpAddr>().ok();
    let (name, wanted) = match entry.rsplit_once(':') {
        Some((name, digits)) if bare.is_none() && digits.parse::<u16>().is_ok() => (name, digits.parse::<u16>().ok()),
        _ => (entry.as_str(), None),
    };
    if wanted.is_some_and(|wanted| wanted != port) {
        return false;
    }
    let name = name.trim_matches(['[', ']']);
    match (name.parse::<IpAddr>(), address) {
        (Ok(named), Some(address)) => named == address,
        (Ok(_), None) | (Err(_), Some(_)) => false,
        (Err(_), None) => {
            let name = name.strip_prefix('*').unwrap_or(name);
            // `.example.com` stands for what is below it, `example.com` for itself too.
            let suffix = name.strip_prefix('.').unwrap_or(name);
            (host == suffix && !name.starts_with('.'))
                || host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.'))
        }
    }
}

/// A proxy's URL: a scheme (`http` where there is none), a host, a port (80, 443 or 1080 where there is none). `origin` says
/// where it stands.
pub(super) fn parse(text: &str, origin: &str) -> Result<Uri, ProxyError> {
    let error = |reason: &str| ProxyError {
        origin: origin.to_owned(),
        // Never with its password.
        text: text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, host)| format!("...@{host}")),
        reason: reason.to_owned(),
    };
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url: Uri = with_scheme.parse().map_err(|e: http::uri::InvalidUri| error(&e.to_string()))?;
    let (scheme, default) = match url.scheme_str() {
        Some("http") => ("http", 80),
        Some("https") => ("https", 443),
        // Names are resolved by the proxy in both.
        Some("socks5" | "socks5h") => ("socks5", 1080),
        other => return Err(error(&format!("its scheme is {}", other.unwrap_or("missing")))),
    };
    let authority = url.authority().filter(|a| !a.host().is_empty()).ok_or_else(|| error("it has no host"))?;
    let after_host = authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, rest)| rest);
    let port = match (after_host.len() == authority.host().len(), authority.port_u16()) {
        (true, _) => default,
        (false, Some(port)) if port > 0 => port,
        _ => return Err(error("its port is none from 1 to 65535")),
    };
    let user = authority.as_str().rsplit_once('@').map(|(user, _)| format!("{user}@")).unwrap_or_default();
    let text = format!("{scheme}://{user}{}:{port}", authority.host());
    text.parse().map_err(|e: http::uri::InvalidUri| error(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(no: &str) -> ProxyVariables {
        ProxyVariables {
            https: Some("proxy.example:3128".to_owned()),
            http: Some("socks5://user:pw@10.0.0.9".to_owned()),
            no: Some(no.to_owned()),
        }
    }

    fn via(no: &str, server: &str) -> Option<String> {
        variables(no).for_server(&server.parse().unwrap()).unwrap().map(|u| u.to_string())
    }

    #[test]
    fn the_scheme_of_the_server_chooses() {
        assert_eq!(via("", "https://api:6443").as_deref(), Some("http://proxy.example:3128/"));
        assert_eq!(via("", "http://api").as_deref(), Some("socks5://user:pw@10.0.0.9:1080/"));
        assert_eq!(ProxyVariables::default().for_server(&"https://api".parse().unwrap()), Ok(None));
    }

    #[test]
    fn no_proxy_names_servers() {
        for (no, server) in [
            ("*", "https://api:6443"),
            ("api", "https://api:6443"),
            ("other, .example.com", "https://api.example.com"),
            ("example.com", "https://api.example.com"),
            ("example.com", "https://example.com"),
            ("*.example.com", "https://api.example.com"),
            ("API:6443", "https://api:6443"),
            ("10.0.0.0/8", "https://10.1.2.3:6443"),
            ("10.1.2.3", "https://10.1.2.3:6443"),
            ("10.1.2.3:6443", "https://10.1.2.3:6443"),
            ("fd00::/8", "https://[fd00::1]:6443"),
            ("[fd00::1]:6443", "https://[fd00::1]:6443"),
            ("fd00::1", "https://[fd00::1]:6443"),
            ("", "https://localhost:6443"),
            ("", "https://127.0.0.1:6443"),
            ("", "https://[::1]:6443"),
        ] {
            assert_eq!(via(no, server), None, "{no} {server}");
        }
        for (no, server) in [
            ("api:443", "https://api:6443"),
            ("pi", "https://api:6443"),
            (".example.com", "https://example.com"),
            ("10.1.2.4", "https://10.1.2.3:6443"),
            ("10.1.0.0/24", "https://10.1.2.3:6443"),
            ("10.0.0.0/8", "https://api:6443"),
        ] {
            assert!(via(no, server).is_some(), "{no} {server}");
        }
    }

    #[test]
    fn what_is_no_proxy_is_said_without_its_password() {
        for text in ["ftp://user:secret@host", "http://", "http://user:secret@:1", "host:99999"] {
            let error = parse(text, "proxy-url").unwrap_err().to_string();
            assert!(error.contains("proxy-url") && !error.contains("secret"), "{error}");
        }
    }
}

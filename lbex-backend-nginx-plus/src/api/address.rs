//! Where an API is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use http::Uri;

/// Where the API of an NGINX Plus is: `http://HOST[:PORT][/PATH]`, the same with `https`, or a UNIX socket. `/api` is the path where
/// none is given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiUrl {
    origin: Origin,
    /// Without a slash at its end.
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Origin {
    Unix(PathBuf),
    /// Scheme, host and port, as a URL has them.
    Tcp {
        tls: bool,
        authority: String,
    },
}

impl ApiUrl {
    /// The API at `/api` on a UNIX socket.
    pub fn unix(socket: impl Into<PathBuf>) -> Self {
        Self { origin: Origin::Unix(socket.into()), path: "/api".to_owned() }
    }

    /// The socket, where it is a UNIX socket.
    pub fn socket(&self) -> Option<&PathBuf> {
        match &self.origin {
            Origin::Unix(socket) => Some(socket),
            Origin::Tcp { .. } => None,
        }
    }

    /// Whether what is said can be read by others on the way.
    pub fn is_plain_http(&self) -> bool {
        matches!(self.origin, Origin::Tcp { tls: false, .. })
    }

    /// Whether it is HTTPS.
    pub fn is_tls(&self) -> bool {
        matches!(self.origin, Origin::Tcp { tls: true, .. })
    }

    /// The URL of `rest`, which begins with a slash, below the API.
    pub(super) fn uri(&self, rest: &str) -> Result<Uri, http::Error> {
        let (scheme, authority) = match &self.origin {
            Origin::Unix(_) => ("http", "localhost"),
            Origin::Tcp { tls, authority } => (if *tls { "https" } else { "http" }, authority.as_str()),
        };
        Uri::builder().scheme(scheme).authority(authority).path_and_query(format!("{}{rest}", self.path)).build()
    }
}

impl FromStr for ApiUrl {
    type Err = String;

    /// A URL with a host, and nothing after its path; or `unix:/PATH`. An error is what is wrong with it.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(socket) = text.strip_prefix("unix:") {
            return if socket.starts_with('/') {
                Ok(Self::unix(socket))
            } else {
                Err("its path is not absolute".into())
            };
        }
        if !text.contains("://") {
            return Err("it has no scheme".to_owned());
        }
        let url: Uri = text.parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
        let tls = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            other => return Err(format!("its scheme is {}", other.unwrap_or("none"))),
        };
        let authority = url.authority().filter(|authority| !authority.host().is_empty()).ok_or("it has no host")?;
        if authority.as_str().contains('@') {
            return Err("credentials do not belong into a URL: they are read from files".to_owned());
        }
        let after_host = authority.as_str().get(authority.host().len()..).unwrap_or_default();
        if !after_host.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
            return Err("its port is none from 1 to 65535".to_owned());
        }
        if url.query().is_some() {
            return Err("it has a query".to_owned());
        }
        let path = match url.path().trim_end_matches('/') {
            "" => "/api",
            path => path,
        };
        let authority = authority.as_str().to_owned();
        Ok(Self { origin: Origin::Tcp { tls, authority }, path: path.to_owned() })
    }
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Unix(socket) => write!(f, "unix:{}", socket.display()),
            Origin::Tcp { tls, authority } => {
                write!(f, "http{}://{authority}{}", if *tls { "s" } else { "" }, self.path)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, shown, below) in [
            ("http://10.0.0.1:8080", "http://10.0.0.1:8080/api", "http://10.0.0.1:8080/api/9/nginx"),
            ("https://plus.example.com/", "https://plus.example.com/api", "https://plus.example.com/api/9/nginx"),
            ("http://[fd00::1]:80/lb/api/", "http://[fd00::1]:80/lb/api", "http://[fd00::1]:80/lb/api/9/nginx"),
            ("unix:/run/api.sock", "unix:/run/api.sock", "http://localhost/api/9/nginx"),
        ] {
            let url: ApiUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.uri("/9/nginx").expect("a URL").to_string(), below);
            assert_eq!(shown.parse::<ApiUrl>(), Ok(url));
        }
        for text in [
            "",
            "10.0.0.1:80",
            "ftp://a",
            "http://",
            "http://a:0",
            "http://a:x",
            "http://u:p@a",
            "http://a/?q",
            "unix:a",
        ] {
            assert!(text.parse::<ApiUrl>().is_err(), "{text:?}");
        }
    }
}

//! Turns failures of connections and answers into text that says what is wrong and what to do.

use std::error::Error;
use std::io;

use rustls::CertificateError;

use super::access::OfProxy;
use super::resource::Resource;

/// What went wrong with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    pub(super) text: String,
    /// Whether TLS failed: certificates may have been renewed.
    pub(super) tls: bool,
}

/// The reasons that an error gives, from the outermost to the innermost, each once.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn Error> = Some(error);
    while let Some(error) = next {
        let one = error.to_string();
        if text.is_empty() {
            text = one;
        } else if !text.contains(&one) {
            text = format!("{text}: {one}");
        }
        next = error.source();
    }
    text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")
}

/// Explains why a request got no answer, or why an answer ended.
pub(super) fn broken(error: &(dyn Error + 'static)) -> Broken {
    let mut next = Some(error);
    let (mut dns, mut of_proxy) = (false, false);
    while let Some(error) = next {
        dns |= error.to_string().contains("dns error");
        of_proxy |= error.is::<OfProxy>();
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Broken { text: if of_proxy { of_proxys_tls(tls) } else { of_tls(tls) }, tls: true };
        }
        let io = error.downcast_ref::<io::Error>();
        if let Some(io) = io.filter(|io| dns || io.raw_os_error().is_some() || io.get_ref().is_none()) {
            return Broken { text: of_io(io, dns), tls: false };
        }
        // What an io::Error wraps is not its source: the source of that is.
        next = io.and_then(io::Error::get_ref).map(|inner| inner as &(dyn Error + 'static)).or_else(|| error.source());
    }
    // The outermost says only that something went wrong with a request.
    let inner = error.source().filter(|_| error.is::<::kube::Error>());
    Broken { text: chain(inner.unwrap_or(error)), tls: false }
}

fn of_io(error: &io::Error, dns: bool) -> String {
    if dns {
        return format!("its name cannot be resolved ({error}): check the name, and DNS on this host");
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "connection refused: nothing listens there, or a firewall refuses it".to_owned()
        }
        io::ErrorKind::TimedOut => {
            "no answer to the connection attempt: check the address, routes and firewalls".to_owned()
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            format!("this host has no way there ({error}): check the address and routes")
        }
        _ => format!("the connection broke: {error}"),
    }
}

fn of_tls(error: &rustls::Error) -> String {
    use CertificateError as Of;
    let rustls::Error::InvalidCertificate(reason) = error else {
        return match error {
            rustls::Error::InvalidMessage(_) => {
                format!("what answers there does not speak TLS ({error}): check scheme and port")
            }
            _ => format!("TLS failed: {error}"),
        };
    };
    match reason {
        // The authorities of many clusters have the same name, `kubernetes`: that of another is one whose signature does not fit.
        Of::UnknownIssuer | Of::BadSignature => {
            "its certificate is not signed by the certificate authority that LBEX was given: check \
                              certificate-authority(-data); without one, this host's own authorities count"
                .to_owned()
        }
        Of::Expired | Of::ExpiredContext { .. } => {
            "its certificate has expired: renew it, or check the clock of this host".to_owned()
        }
        Of::NotValidYet | Of::NotValidYetContext { .. } => {
            "its certificate is not valid yet: check the clocks of this host and of the server".to_owned()
        }
        Of::NotValidForName | Of::NotValidForNameContext { .. } => format!(
            "its certificate is for another name ({error}): use a name or address that it has, or tls-server-name"
        ),
        _ => format!("its certificate is not accepted: {error}"),
    }
}

/// Of a proxy that is spoken to by TLS; nothing in a kubeconfig says which certificate it may have.
fn of_proxys_tls(error: &rustls::Error) -> String {
    use CertificateError as Of;
    match error {
        rustls::Error::InvalidCertificate(Of::UnknownIssuer | Of::BadSignature) => "the proxy's certificate is not signed by an authority of \
                                                                 this host, which count for proxies: add its authority to \
                                                                 them (or to the file that SSL_CERT_FILE names)"
            .to_owned(),
        _ => format!("the proxy (proxy-url, or a proxy variable): {}", of_tls(error)),
    }
}

/// What a role lacks, where an answer is 403.
pub(super) fn forbidden(verb: &str, resource: Resource, namespace: Option<&str>, said: &str) -> String {
    let group = match resource.group() {
        "" => "the core API group".to_owned(),
        group => format!("the API group {group}"),
    };
    let (whence, role) = match namespace {
        Some(namespace) => {
            (format!(" in the namespace {namespace}"), "a Role or ClusterRole, bound in that namespace,")
        }
        None if resource.namespaced() => (
            " in all namespaces (--namespace watches single ones)".to_owned(),
            "a ClusterRole with a ClusterRoleBinding",
        ),
        None => (String::new(), "a ClusterRole with a ClusterRoleBinding"),
    };
    let plural = resource.plural();
    format!(
        "cannot {verb} {plural}{whence}: needs the verbs get, list and watch on {plural} ({group}) in {role} for LBEX's user, as \
         examples/kubernetes/rbac.yaml has it{}",
        said_by_server(said)
    )
}

/// What the API server said, at the end of a text.
pub(super) fn said_by_server(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; the API server says: {said}") }
}

#[cfg(test)]
mod tests {
    use super::{CertificateError, broken, io};

    #[test]
    fn a_tls_failure_is_found_inside_io_errors_however_deep() {
        let tls = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let mut error = io::Error::new(io::ErrorKind::InvalidData, tls);
        for _ in 0..3 {
            let broken = broken(&error);
            assert!(broken.tls && broken.text.contains("certificate authority"), "{broken:?}");
            error = io::Error::other(error);
        }
    }
}

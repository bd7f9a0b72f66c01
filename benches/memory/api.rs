//! A stand-in for an API server: lists in pages, and watches on which nothing happens. A real one takes half an hour to be
//! filled with this many objects.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use super::objects::{Kind, Size};

/// The stand-in's cluster.
pub(crate) struct Api {
    pub(crate) size: Size,
    pub(crate) ports: Vec<u16>,
}

impl Api {
    /// Serves until the process ends.
    pub(crate) fn serve(self) -> io::Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let this = Arc::new(self);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let this = this.clone();
                // A client that goes away is no concern of the server.
                std::thread::spawn(move || this.answer(&stream).ok());
            }
        });
        Ok(address)
    }

    /// Answers one request, and closes the connection.
    fn answer(&self, stream: &TcpStream) -> io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        let request = lines.next().transpose()?.unwrap_or_default();
        while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
        let target = request.split_ascii_whitespace().nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let parameter = |name: &str| {
            let value = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1;
            value.parse::<usize>().ok()
        };
        let kind = match path {
            "/version" => return respond(stream, r#"{"major":"1","minor":"36","gitVersion":"v1.36.3"}"#),
            "/apis/discovery.k8s.io/v1" => return respond(stream, r#"{"resources":[{"name":"endpointslices"}]}"#),
            "/api/v1/services" => Kind::Service,
            "/api/v1/nodes" => Kind::Node,
            "/apis/discovery.k8s.io/v1/endpointslices" => Kind::EndpointSlice,
            _ => return write!(&*stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        };
        if parameter("watch").is_some() {
            return watch(stream, parameter("timeoutSeconds").unwrap_or(60));
        }
        let limit = parameter("limit").unwrap_or(usize::MAX);
        respond(stream, &self.page(kind, parameter("continue").unwrap_or(0), limit))
    }

    /// A page of a list; `continue` is the number of the next object.
    fn page(&self, kind: Kind, from: usize, limit: usize) -> String {
        let count = kind.count(self.size);
        let end = from.saturating_add(limit).min(count);
        let next = if end < count {
            format!(r#","continue":"{end}","remainingItemCount":{}"#, count - end)
        } else {
            String::new()
        };
        let items: Vec<String> =
            (from..end).map(|number| kind.object(self.size, number, &self.ports).to_string()).collect();
        format!(
            r#"{{"kind":"{}List","apiVersion":"{}","metadata":{{"resourceVersion":"100000"{next}}},"items":[{}]}}"#,
            kind.name(),
            kind.api_version(),
            items.join(",")
        )
    }
}

fn respond(mut stream: &TcpStream, body: &str) -> io::Result<()> {
    let length = body.len();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
    write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}")
}

fn watch(mut stream: &TcpStream, seconds: usize) -> io::Result<()> {
    let bookmark = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"100000"}}}"#;
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{bookmark}\n")?;
    std::thread::sleep(Duration::from_secs(seconds as u64));
    Ok(())
}

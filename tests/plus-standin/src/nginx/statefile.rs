//! The file of `state`: `server` directives, one a line.

use std::io;
use std::path::Path;

use super::conf::parse;
use crate::api::Server;
use crate::traffic::server_directive;

/// A server from the words of its directive; `None` if it is no address, or a parameter is unknown.
pub(super) fn server(words: &[String]) -> Option<Server> {
    let mut server = Server::new(0, words.get(1)?.parse().ok()?);
    for word in &words[2..] {
        match word.split_once('=') {
            Some(("weight", value)) => server.weight = value.parse().ok()?,
            Some(("max_conns", value)) => server.max_conns = value.parse().ok()?,
            Some(("max_fails", value)) => server.max_fails = value.parse().ok()?,
            Some(("fail_timeout", value)) => value.clone_into(&mut server.fail_timeout),
            Some(("slow_start", value)) => value.clone_into(&mut server.slow_start),
            None if word == "backup" => server.backup = true,
            None if word == "down" => server.down = true,
            _ => return None,
        }
    }
    Some(server)
}

/// The servers of a file; none if it is not there.
pub(super) fn read(path: &Path) -> io::Result<Vec<Server>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("{} is no state", path.display()));
    let directives = parse(&text).map_err(|_| invalid())?;
    directives.iter().map(|directive| server(&directive.words).ok_or_else(invalid)).collect()
}

/// Writes the servers to a file, if it says anything else.
pub(super) fn write(path: &Path, servers: &[Server]) -> io::Result<()> {
    let line = |server: &Server| {
        let directive = server_directive(server);
        let (words, _) = directive.split_at(directive.len() - 1);
        format!("{words} slow_start={};\n", server.slow_start)
    };
    let text: String = servers.iter().map(line).collect();
    if std::fs::read_to_string(path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, path)
}

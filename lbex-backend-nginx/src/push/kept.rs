//! Keeps the questions that wait over a restart of LBEX. NGINX repeats a question every five seconds only; with what it asked
//! before, the next LBEX answers at once. Nothing depends on it: what is missing or out of date is asked again.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::Shared;
use super::peers::Peers;
use super::wire::{Family, Question};

/// Questions that are read at the most.
const MOST: usize = 200_000;

/// Writes the questions that wait, and where they were asked.
pub(super) fn keep(path: &Path, address: SocketAddr, shared: &Shared) {
    let questions = shared.lock().open_questions();
    let mut text = format!("{address}\n");
    for (from, question) in &questions {
        let family = match question.family {
            Family::V4 => 4,
            Family::V6 => 6,
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{from} {} {family} {}", question.id, question.name);
    }
    match std::fs::write(path, text) {
        Ok(()) => tracing::debug!(questions = questions.len(), "kept what NGINX has asked for the next LBEX"),
        Err(error) => {
            tracing::warn!("failed to write {}: {error}; NGINX repeats its questions within seconds", path.display());
        }
    }
}

/// Takes in what an LBEX before this one kept, where it listened at the same address, and removes it: it is true only once.
pub(super) fn ask_again(path: &Path, address: SocketAddr, shared: &Shared, peers: &mut Peers) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!("failed to read {}: {error}; NGINX repeats its questions within seconds", path.display());
            return;
        }
    };
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!("failed to remove {}: {error}", path.display());
        return;
    }
    let mut lines = text.lines();
    if lines.next().and_then(|line| line.parse().ok()) != Some(address) {
        return;
    }
    let questions: Vec<_> = lines.take(MOST).filter_map(read).collect();
    shared.with(|table, now, out| {
        for (from, question) in &questions {
            if peers.is_nginx(now, *from) {
                table.ask(now, *from, question, out);
            }
        }
    });
}

fn read(line: &str) -> Option<(SocketAddr, Question)> {
    let mut words = line.split(' ');
    let (from, id, family, name) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let family = match family {
        "4" => Family::V4,
        "6" => Family::V6,
        _ => return None,
    };
    Some((from.parse().ok()?, Question { id: id.parse().ok()?, name: name.parse().ok()?, family }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written_and_others_are_not() {
        let (from, question) = read("127.0.0.1:4000 65535 6 8080.80.tcp.default.web.lbex").expect("a question");
        assert_eq!((from.port(), question.id, question.family), (4000, 65535, Family::V6));
        for line in ["", "x", "127.0.0.1:1 1 5 8080.80.tcp.default.web.lbex", "127.0.0.1:1 1 4 example.com"] {
            assert_eq!(read(line), None, "{line:?}");
        }
    }
}

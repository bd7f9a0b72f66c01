//! Carries traffic as the API's state says, with an open-source NGINX.
//!
//! A change is written into NGINX's configuration and NGINX reloaded; the call is answered when the new workers serve and the old ones
//! take nobody any more. Chosen over endpoints that NGINX asks for by DNS (which need no reload): every parameter of a server
//! (`weight`, `max_conns`, `backup`, `down`, the same address twice) is a word of the configuration and has no place in DNS, and LBEX's own
//! way of telling NGINX of endpoints is what other tests test. The price: a call takes as long as a reload, some 50 ms, and passive
//! failures are forgotten at each.

mod engine;
mod routes;

use anyhow::Result;
use async_trait::async_trait;

use crate::api::{Server, State};

pub use engine::Engine;
pub use routes::{OpenSource, Route};

/// What carries traffic.
#[async_trait]
pub trait Traffic: std::fmt::Debug + Send + Sync {
    /// Makes new connections go as this state says, and returns when they do.
    async fn carry(&mut self, state: &State) -> Result<()>;

    /// Ends it: connections that exist are closed.
    async fn end(&mut self) -> Result<()>;
}

/// A server in NGINX's configuration, without `slow_start`, which the open-source one does not have.
pub fn server_directive(server: &Server) -> String {
    let mut line = format!(
        "server {} weight={} max_conns={} max_fails={} fail_timeout={}",
        server.server, server.weight, server.max_conns, server.max_fails, server.fail_timeout
    );
    for (word, is) in [("backup", server.backup), ("down", server.down)] {
        if is {
            line.push(' ');
            line.push_str(word);
        }
    }
    line.push(';');
    line
}

/// The servers of an upstream in NGINX's configuration, on one line. Where none could be used there is one that nobody gets,
/// since NGINX wants one.
pub fn server_directives(servers: &[Server]) -> String {
    // A backup alone is refused as well.
    let lines: Vec<String> = servers.iter().map(server_directive).collect();
    if servers.iter().all(|server| server.backup) {
        format!("server 0.0.0.1:1 down; {}", lines.join(" ")).trim_end().to_owned()
    } else {
        lines.join(" ")
    }
}

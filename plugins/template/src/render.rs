//! The proxy's configuration: a pure function of the state, so that the same state is the same text.

use std::fmt::Write;
use std::net::SocketAddr;

use lbex_plugin_sdk::{Server, State};

/// What the proxy is told of the Services that `serves` lets through. Names and addresses were checked by LBEX: none has a space, a line
/// feed or a quotation mark in it.
pub fn config(state: &State, serves: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    for (name, service) in state.services.iter().filter(|(name, _)| serves(name)) {
        for listener in &service.listeners {
            for address in listener.addresses.iter() {
                let bind = SocketAddr::new(*address, listener.port);
                line(&mut text, format_args!("listen {bind} # {name}"));
            }
            for server in listener.servers.iter().copied() {
                line(&mut text, format_args!("    server {}", address_of(server)));
            }
        }
    }
    text
}

fn address_of(server: Server) -> SocketAddr {
    server.into()
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    writeln!(text, "{line}").unwrap_or_default();
}

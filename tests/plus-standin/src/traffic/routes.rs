//! Listeners that a test asks for, each with an upstream of the API.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use lbex_backend_nginx::render::worker_user;

use super::{Engine, Traffic, server_directives};
use crate::api::{Server, State};

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it listens.
    pub listen: SocketAddr,
    /// UDP instead of TCP.
    pub udp: bool,
    /// The upstream whose servers it leads to. While the API has none of that name, connections are closed.
    pub upstream: String,
}

/// An open-source NGINX with listeners of a test's own: what carries traffic where LBEX drives an NGINX Plus elsewhere.
#[derive(Debug)]
pub struct OpenSource {
    engine: Engine,
    routes: Vec<Route>,
}

impl OpenSource {
    /// Puts NGINX into this folder, where its workers' user can go; it starts with the stand-in, and ends with it.
    pub async fn new(folder: &Path, routes: Vec<Route>) -> Result<Self> {
        Ok(Self { engine: Engine::new(folder).await?, routes })
    }

    fn configuration(&self, state: &State) -> String {
        let (pid, told) = self.engine.directives();
        let user = worker_user().map_or_else(String::new, |user| format!("user {user};\n"));
        let mut text = format!(
            "daemon on;\n{user}worker_processes 2;\nerror_log logs/error.log warn;\n{pid}\n\
             events {{ worker_connections 1024; }}\nstream {{\n{told}\nproxy_connect_timeout 3s;\n"
        );
        for (number, route) in self.routes.iter().enumerate() {
            let servers = state.servers(&route.upstream).unwrap_or_default();
            let servers: Vec<Server> = servers.to_vec();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "upstream u{number} {{ zone u{number} 256k; {} }}", server_directives(&servers));
            let udp = if route.udp { " udp reuseport" } else { "" };
            let _ = writeln!(text, "server {{ listen {}{udp}; proxy_pass u{number}; }}", route.listen);
        }
        text.push_str("}\n");
        text
    }
}

#[async_trait]
impl Traffic for OpenSource {
    async fn carry(&mut self, state: &State) -> Result<()> {
        self.engine.serve(&self.configuration(state)).await
    }

    async fn end(&mut self) -> Result<()> {
        self.engine.end(Duration::ZERO).await
    }
}

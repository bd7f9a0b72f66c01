//! The open-source NGINX, in a folder of its own.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use lbex_backend_nginx::binary::{NginxBinary, NginxChoice, find};
use lbex_backend_nginx::prefix::{Layout, Prefix};
use lbex_backend_nginx::process::{Nginx, StartOptions};

/// How long NGINX may take to start or to reload: a busy machine's.
const LIMIT: Duration = Duration::from_secs(30);

/// How many files it may have open.
const FILES: u64 = 4096;

/// An open-source NGINX (the one that LBEX carries) with its folder: `conf/nginx.conf`, and what that includes.
#[derive(Debug)]
pub struct Engine {
    nginx: Nginx,
    binary: NginxBinary,
    generation: u64,
    _prefix: Prefix,
}

impl Engine {
    /// Puts NGINX into this folder, which is made; nothing runs yet. What an earlier one has left running there is ended.
    pub async fn new(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        let prefix = Prefix::open(folder)?;
        let candidate = find(&NginxChoice::Embedded).await?;
        let binary = candidate.install(prefix.layout()).await?;
        let nginx = Nginx::new(prefix.layout().clone());
        nginx.stop(Duration::ZERO).await?;
        Ok(Self { nginx, binary, generation: 0, _prefix: prefix })
    }

    /// The paths of its folder.
    pub fn layout(&self) -> &Layout {
        self.nginx.layout()
    }

    /// The NGINX itself.
    pub fn binary(&self) -> &NginxBinary {
        &self.binary
    }

    /// The directives that the next configuration must have: `pid`, at the top; and a server by which it tells that it is being
    /// served, inside `stream`.
    pub fn directives(&self) -> (String, String) {
        let socket = self.layout().generation_socket();
        let told =
            format!("server {{ listen unix:{}; return \"standin-{}\"; }}", socket.display(), self.generation + 1);
        ("pid run/nginx.pid;".to_owned(), told)
    }

    /// Serves this configuration (with the [`directives`](Self::directives) of now): starts or reloads NGINX, and waits until new
    /// connections are served by it alone.
    pub async fn serve(&mut self, main: &str) -> Result<()> {
        let path = self.layout().main_conf();
        std::fs::write(&path, main).with_context(|| format!("failed to write {}", path.display()))?;
        self.generation += 1;
        let generation = format!("standin-{}", self.generation);
        if self.nginx.is_running().await {
            self.nginx.reload(&generation, LIMIT).await?;
        } else {
            self.nginx.start(&self.binary, &StartOptions { open_files: FILES, generation, limit: LIMIT }).await?;
        }
        Ok(())
    }

    /// Ends NGINX; its connections may go on for `drain`.
    pub async fn end(&self, drain: Duration) -> Result<()> {
        self.nginx.stop(drain).await?;
        Ok(())
    }
}

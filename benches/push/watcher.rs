//! A bare watcher: notes when a watch of the API server tells of each change, and does nothing else.

use std::time::Instant;

use anyhow::{Context, Result};
use futures::io::{AsyncBufReadExt, Lines};
use futures::{AsyncBufRead, StreamExt};
use lbex_test_harness::apiserver::ApiServer;
use tokio::task::JoinHandle;

/// A watch of all EndpointSlices, as LBEX has one.
pub(crate) struct Watcher {
    task: JoinHandle<Result<Vec<Instant>>>,
}

impl Watcher {
    /// Begins with what follows that version; to be ended after `changes` of the object.
    pub(crate) async fn start(server: &ApiServer, version: &str, object: &str, changes: usize) -> Result<Self> {
        let path = format!("/apis/discovery.k8s.io/v1/endpointslices?watch=1&resourceVersion={version}");
        let request = http::Request::get(path).body(Vec::new())?;
        let stream = server.client().await?.request_stream(request).await.context("failed to watch")?;
        let name = format!("\"name\":\"{object}\"");
        let lines = Box::pin(stream).lines();
        Ok(Self { task: tokio::spawn(follow(lines, name, changes)) })
    }

    /// When it was told of each change.
    pub(crate) async fn finish(self) -> Result<Vec<Instant>> {
        self.task.await.context("the watcher has panicked")?
    }
}

async fn follow(mut lines: Lines<impl AsyncBufRead + Unpin>, name: String, changes: usize) -> Result<Vec<Instant>> {
    let mut told = Vec::with_capacity(changes);
    while told.len() < changes {
        let line = lines.next().await.context("the watch has ended")??;
        let now = Instant::now();
        if line.contains(&name) {
            told.push(now);
        }
    }
    Ok(told)
}

//! A small HTTP server that strangers cannot wear out: every connection carries one request, has a few seconds, and
//! makes way for a newer one when there are too many.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::routes::Routes;
use crate::publish::Metrics;

/// What one client, or all of them together, may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections of one listener at the same time. One more ends the oldest: an honest one is done within milliseconds.
    pub(super) connections: usize,
    /// How long a request's head may take to arrive.
    pub(super) head: Duration,
    /// How long a connection may last.
    pub(super) connection: Duration,
    /// How long answers may go on after the shutdown has begun.
    pub(super) shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            head: Duration::from_secs(5),
            connection: Duration::from_secs(10),
            shutdown: Duration::from_secs(1),
        }
    }
}

/// The largest request head that is read, in bytes.
const HEAD_LIMIT: usize = 16 * 1024;
/// How long to wait after the system could not hand out a connection (too many open files, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves all `servers` until `shutdown` is cancelled.
pub(super) async fn serve_all(
    servers: Vec<(StdListener, Routes)>,
    limits: Limits,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    if servers.is_empty() {
        return shutdown.cancelled().await;
    }
    let mut running = JoinSet::new();
    for (listener, routes) in servers {
        match TcpListener::from_std(listener) {
            Ok(listener) => {
                running.spawn(serve(listener, routes, limits, metrics.clone(), shutdown.clone()));
            }
            Err(e) => tracing::error!("a health or metrics socket cannot be served: {e}"),
        }
    }
    while let Some(ended) = running.join_next().await {
        if let Err(e) = ended {
            tracing::error!("a health or metrics server ended: {e}");
        }
    }
}

async fn serve(
    listener: TcpListener,
    routes: Routes,
    limits: Limits,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let mut connections = JoinSet::new();
    let mut by_age: VecDeque<AbortHandle> = VecDeque::new();
    let mut accept_fails = false;
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                if !std::mem::replace(&mut accept_fails, true) {
                    tracing::warn!("health or metrics connections cannot be accepted: {e}");
                }
                time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        accept_fails = false;
        by_age.retain(|connection| !connection.is_finished());
        if by_age.len() >= limits.connections {
            by_age.pop_front().inspect(AbortHandle::abort);
            metrics.admin_connection_dropped();
        }
        by_age.push_back(connections.spawn(answer(stream, routes.clone(), limits, shutdown.clone())));
    }
    drop(listener);
    let all_done = async { while connections.join_next().await.is_some() {} };
    // What is still open when the time is up is closed with the set.
    let _ = time::timeout(limits.shutdown, all_done).await;
}

/// One connection, one request.
async fn answer(stream: TcpStream, routes: Routes, limits: Limits, shutdown: CancellationToken) {
    let service = service_fn(|request: http::Request<Incoming>| {
        let response = routes.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    let ended = time::timeout(limits.connection, async {
        tokio::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    });
    match ended.await {
        Ok(Ok(())) => {}
        Ok(Err(e)) => tracing::debug!("a health or metrics connection ended early: {e}"),
        Err(_) => tracing::debug!("a health or metrics connection took too long"),
    }
}

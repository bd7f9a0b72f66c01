//! The client: connects again and again, and notes who answered when.
//!
//! On a thread of its own and with blocking calls, so that nothing but the connection is measured. While a change is awaited it
//! connects a quarter of a millisecond after each answer; else now and then, so that it takes no processor from what it measures.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The pause after an answer while a change is awaited: what a time is good for.
const FAST: Duration = Duration::from_micros(250);

/// The pause else.
const SLOW: Duration = Duration::from_millis(5);

/// How long it goes on as if a change were awaited when that has been seen: one that is gone may answer once more.
const TAIL: Duration = Duration::from_millis(20);

/// How long a connection may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Nobody.
const NONE: usize = usize::MAX;

/// What came of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// When it was over.
    pub(crate) done: Instant,
    /// The endpoint that answered; `None`: it failed.
    pub(crate) from: Option<usize>,
}

struct Shared {
    awaited: AtomicUsize,
    seen: AtomicUsize,
    stop: AtomicBool,
}

/// The client while it runs.
pub(crate) struct Prober {
    shared: Arc<Shared>,
    thread: Thread,
    handle: Option<JoinHandle<Vec<Answer>>>,
}

impl Prober {
    /// Starts it.
    pub(crate) fn start(listener: SocketAddr) -> Result<Self> {
        let shared = Arc::new(Shared { awaited: NONE.into(), seen: NONE.into(), stop: false.into() });
        let handle = std::thread::Builder::new().name("prober".to_owned()).spawn({
            let shared = shared.clone();
            move || probe(listener, &shared)
        })?;
        Ok(Self { shared, thread: handle.thread().clone(), handle: Some(handle) })
    }

    /// A change to this endpoint begins now.
    pub(crate) fn expect(&self, endpoint: usize) {
        self.shared.awaited.store(endpoint, Ordering::SeqCst);
        self.thread.unpark();
    }

    /// The endpoint that answered last.
    pub(crate) fn seen(&self) -> Option<usize> {
        Some(self.shared.seen.load(Ordering::SeqCst)).filter(|seen| *seen != NONE)
    }

    /// Ends it: everything that it saw, in order.
    pub(crate) fn finish(mut self) -> Result<Vec<Answer>> {
        self.stop();
        let handle = self.handle.take().context("the client has ended before")?;
        handle.join().map_err(|_| anyhow::anyhow!("the client has panicked"))
    }

    fn stop(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop();
    }
}

fn probe(listener: SocketAddr, shared: &Shared) -> Vec<Answer> {
    let mut answers = Vec::new();
    let mut fast_until = Instant::now();
    while !shared.stop.load(Ordering::SeqCst) {
        let from = ask(listener);
        let done = Instant::now();
        answers.push(Answer { done, from });
        if let Some(from) = from {
            shared.seen.store(from, Ordering::SeqCst);
        }
        let awaited = shared.awaited.load(Ordering::SeqCst);
        if awaited != NONE && from != Some(awaited) {
            fast_until = done + TAIL;
        }
        if done < fast_until { std::thread::sleep(FAST) } else { std::thread::park_timeout(SLOW) }
    }
    answers
}

/// One connection: who answers it.
pub(crate) fn ask(listener: SocketAddr) -> Option<usize> {
    let mut stream = TcpStream::connect_timeout(&listener, LIMIT).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}

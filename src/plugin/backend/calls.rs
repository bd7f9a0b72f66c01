//! Calls the plugin, for whoever has the turn, and judges what it answers.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use lbex_core::backend::{ApplyReport, BackendError, Observed};
use lbex_core::desired::DesiredState;
use lbex_core::names::ServiceKey;
use lbex_plugin_abi::documents::{Capabilities, Observation, Report};
use lbex_plugin_abi::tables::code;
use lbex_plugin_abi::{read, report_to_core};

use super::{Inner, LONGEST_PAUSE, Turn};
use crate::plugin::fault::{Fault, text};
use crate::plugin::revisions::Document;
use crate::plugin::table::Reply;
use crate::plugin::thread::Call;

impl Inner {
    /// Opens a backend where none is open, and there is no pause.
    pub(super) async fn ensure_open(&self, turn: &mut Turn) -> Result<(), BackendError> {
        self.is_back()?;
        if self.thread.is_open() {
            return Ok(());
        }
        self.known().forget();
        if let Some(pause) =
            turn.reopen_at.map(|at| at.saturating_duration_since(Instant::now())).filter(|p| !p.is_zero())
        {
            let why = turn.fault.as_deref().unwrap_or("it was closed");
            return Err(self.retry(format_args!("it is opened again in {} ms: {why}", pause.as_millis())));
        }
        let opened =
            self.thread.call(Call::Open(self.settings.clone()), self.deadlines.open, self.deadlines.grace).await;
        let reply = match opened {
            Ok(reply) => reply,
            Err(fault) => return Err(self.broke(turn, fault).await),
        };
        let call = "lbex_plugin_open";
        match reply.code {
            // What it can do was asked for when LBEX began; what it says now has to make sense all the same.
            code::OK => match (!reply.bytes.is_empty()).then(|| read::<Capabilities>(&reply.bytes)).transpose() {
                Ok(_) => {
                    tracing::info!(plugin = self.info.name, "the plugin is open again");
                    turn.fault = None;
                    Ok(())
                }
                Err(source) => Err(self.broke(turn, Fault::Garbage { call, source }).await),
            },
            code::RETRY..=code::UNSUPPORTED => {
                let why = format!("it cannot be opened again: {}", text(&reply.bytes));
                turn.pause(why.clone());
                Err(self.retry(why))
            }
            _ => Err(self.broke(turn, unknown(call, &reply)).await),
        }
    }

    /// Sends a document to be applied. `None`: the plugin wants everything.
    pub(super) async fn send(
        &self,
        turn: &mut Turn,
        document: Document,
        desired: &DesiredState,
    ) -> Result<Option<ApplyReport>, BackendError> {
        match self.deliver(&document, self.deadlines.apply, self.deadlines.grace).await {
            Ok(Delivered::Done(report)) => {
                let mut report = match believed(report, &document, desired.generation) {
                    Ok(report) => report,
                    Err(fault) => return Err(self.broke(turn, fault).await),
                };
                self.leave_out_strangers(&mut report, desired);
                self.known().has(document, &BTreeSet::new());
                turn.failures = 0;
                Ok(Some(report))
            }
            Ok(Delivered::NotDone(code, why)) => {
                if document.whole || code == code::RESYNC {
                    self.known().forget();
                } else {
                    self.known().has_not(document);
                }
                match code {
                    code::RESYNC => Ok(None),
                    code::RETRY => Err(self.retry(why)),
                    _ => Err(self.permanent(why)),
                }
            }
            Err(fault) => Err(self.broke(turn, fault).await),
        }
    }

    /// A Service that is not desired cannot be refused: it would count as one that is not served.
    fn leave_out_strangers(&self, report: &mut ApplyReport, desired: &DesiredState) {
        let all = report.refused.len();
        let mut first = None;
        report.refused.retain(|service, _| {
            let is_desired = desired.services.contains_key(service);
            if !is_desired && first.is_none() {
                first = Some(service.clone());
            }
            is_desired
        });
        if let Some(first) = first {
            let strangers = all - report.refused.len();
            let plugin = self.info.name.as_str();
            tracing::warn!(
                plugin,
                "the plugin refuses {strangers} Service(s) that nobody asked for: {first}, say; ignored"
            );
        }
    }

    /// Sends a live document. What the plugin does not take stays as it is, and comes with the next apply.
    pub(super) async fn send_live(&self, turn: &mut Turn, document: Document) {
        let (limit, grace) = (self.deadlines.push, self.deadlines.grace);
        let plugin = self.info.name.as_str();
        match self.deliver(&document, limit, grace).await {
            Ok(Delivered::Done((code, report))) => match believed((code, report), &document, 0) {
                Ok(report) => {
                    let without: BTreeSet<ServiceKey> = report.refused.into_keys().collect();
                    self.known().has(document, &without);
                }
                Err(fault) => drop(self.broke(turn, fault).await),
            },
            Ok(Delivered::NotDone(code::RESYNC, _)) => self.known().forget(),
            Ok(Delivered::NotDone(code, why)) => {
                if code != code::UNSUPPORTED {
                    tracing::warn!(plugin, "the plugin did not change servers without a reload: {why}");
                }
                self.known().has_not(document);
            }
            Err(fault) => drop(self.broke(turn, fault).await),
        }
    }

    async fn deliver(&self, document: &Document, limit: Duration, grace: Duration) -> Result<Delivered, Fault> {
        let call = Call::Apply { document: document.bytes.clone(), timeout: limit };
        let reply = self.thread.call(call, limit, grace).await?;
        match reply.code {
            code::OK | code::PARTIAL => {
                let report = read(&reply.bytes).map_err(|source| Fault::Garbage { call: "apply", source })?;
                Ok(Delivered::Done((reply.code, report)))
            }
            code::RETRY | code::INVALID | code::UNSUPPORTED | code::RESYNC => {
                Ok(Delivered::NotDone(reply.code, text(&reply.bytes)))
            }
            _ => Err(unknown("apply", &reply)),
        }
    }

    /// Looks at the proxy.
    pub(super) async fn look(&self, turn: &mut Turn) -> Result<Observed, BackendError> {
        let limit = self.deadlines.observe;
        let reply = match self.thread.call(Call::Observe { timeout: limit }, limit, self.deadlines.grace / 10).await {
            Ok(reply) => reply,
            Err(fault) => return Err(self.broke(turn, fault).await),
        };
        let fault = match reply.code {
            code::OK => match read::<Observation>(&reply.bytes) {
                Ok(observation) => return Ok(self.observed(observation)),
                Err(source) => Fault::Garbage { call: "observe", source },
            },
            code::RETRY | code::INVALID | code::UNSUPPORTED => return Err(self.retry(text(&reply.bytes))),
            _ => unknown("observe", &reply),
        };
        Err(self.broke(turn, fault).await)
    }

    fn observed(&self, observation: Observation) -> Observed {
        let Observation { healthy, detail, in_step, revision, draining, draining_connections, metrics, .. } =
            observation;
        let metrics =
            metrics.into_iter().filter(|(name, value)| is_measure(name) && value.is_finite()).take(MOST_MEASURES);
        *self.measures.lock().unwrap_or_else(PoisonError::into_inner) = metrics.collect();
        let mut known = self.known();
        let same = known.base().is_some() && known.base() == revision.as_deref();
        let in_step = in_step.unwrap_or(healthy) && same;
        if !in_step {
            // Whatever somebody else did to the proxy: it gets everything.
            known.forget();
        }
        let detail = format!("{}: {}", self.info.name, text(detail.as_bytes()));
        let serving = revision.map(|revision| text(revision.as_bytes()));
        Observed { healthy, detail, in_step, serving, draining, draining_connections, push: None, apis: Vec::new() }
    }

    pub(super) async fn stop(&self, drain: Duration) -> Result<(), BackendError> {
        let mut turn = self.turn.lock().await;
        self.ensure_open(&mut turn).await?;
        self.known().forget();
        let limit = drain + self.deadlines.stop;
        let reply = match self.thread.call(Call::Stop { drain, timeout: limit }, limit, self.deadlines.grace).await {
            Ok(reply) => reply,
            Err(fault) => return Err(self.broke(&mut turn, fault).await),
        };
        match reply.code {
            code::OK => Ok(()),
            code::UNSUPPORTED => {
                tracing::warn!(plugin = self.info.name, "the plugin cannot end its proxy, which goes on serving");
                Ok(())
            }
            code::RETRY | code::INVALID => {
                Err(self.retry(format_args!("its proxy was not ended: {}", text(&reply.bytes))))
            }
            _ => Err(self.broke(&mut turn, unknown("stop", &reply)).await),
        }
    }

    /// The plugin is broken: closes it, and says when it is opened again.
    pub(super) async fn broke(&self, turn: &mut Turn, fault: Fault) -> BackendError {
        self.known().forget();
        let hangs = matches!(fault, Fault::Overrun { .. });
        let why = fault.to_string();
        turn.pause(why.clone());
        tracing::error!(plugin = self.info.name, "the plugin is broken, and is opened again: {why}");
        if !hangs {
            // A thread that hangs closes it itself, when it does return.
            let closed = self.thread.call(Call::Close, self.deadlines.grace, Duration::ZERO).await;
            if let Err(fault) = closed {
                tracing::warn!(plugin = self.info.name, "the plugin does not close: {fault}");
            }
        }
        self.retry(why)
    }
}

impl Turn {
    /// The plugin is opened again after a pause, which grows.
    fn pause(&mut self, why: String) {
        let pause = Duration::from_millis(500).saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.reopen_at = Some(Instant::now() + pause);
        self.fault = Some(why);
    }
}

/// How many measures of a plugin are shown.
pub(in crate::plugin) const MOST_MEASURES: usize = 100;

/// Whether a measure may have this name.
pub(in crate::plugin) fn is_measure(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    matches!(name.len(), 1..=64) && name.bytes().all(allowed)
}

/// What came of a document.
enum Delivered {
    /// Done, with this code.
    Done((i32, Report)),
    /// Not done: a code, and why.
    NotDone(i32, String),
}

fn believed((code, report): (i32, Report), document: &Document, generation: u64) -> Result<ApplyReport, Fault> {
    let refused = report.refused.len();
    if (code == code::PARTIAL) != (refused > 0) {
        return Err(Fault::Contradiction { code, refused });
    }
    Ok(report_to_core(report, &document.revision, generation)?)
}

pub(super) fn unknown(call: &'static str, reply: &Reply) -> Fault {
    let text = text(&reply.bytes);
    match reply.code {
        code::PANIC => Fault::Panic { call, text },
        code => Fault::UnknownCode { call, code, text },
    }
}

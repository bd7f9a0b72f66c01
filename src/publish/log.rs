//! Tells people, once, what is wrong with a Service and when it is over.
//!
//! A problem is logged when it appears and when it is gone, not while it lasts; numbers in it that move (how many nodes)
//! make no new problem. Thousands of Services that go wrong together yield some lines and a summary: the metric
//! `lbex_rejections` and `lbex validate` have them all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lbex_core::backend::Refusal;
use lbex_core::names::ServiceKey;
use lbex_core::rejection::{Effect, Reason, Rejection};
use tracing::Level;

use super::budget::Budget;
use super::metrics::Metrics;

/// The least time between two summaries.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(10);

/// Logs rejections (by planning) and refusals (by the backend), and keeps the gauges that count them. One owner.
#[derive(Debug)]
pub struct ProblemLog {
    metrics: Arc<Metrics>,
    rejections: BTreeMap<ServiceKey, Arc<[Rejection]>>,
    refusals: BTreeMap<ServiceKey, Vec<Refusal>>,
    budget: Budget,
    unsaid: Unsaid,
}

/// What was not logged line by line since the last summary.
#[derive(Debug, Default)]
struct Unsaid {
    appeared: BTreeMap<&'static str, u64>,
    ended: u64,
    last_summary: Option<Instant>,
}

/// One thing to tell about a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    level: Level,
    code: &'static str,
    ended: bool,
    text: String,
}

impl ProblemLog {
    /// Knows of no problem yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let budget = Budget::new(Instant::now());
        Self { metrics, rejections: BTreeMap::new(), refusals: BTreeMap::new(), budget, unsaid: Unsaid::default() }
    }

    /// Takes the rejections of the Services whose rejections changed in a plan; an empty list: it has none any more.
    pub fn planned(&mut self, changed: &BTreeMap<ServiceKey, Arc<[Rejection]>>) {
        self.planned_at(changed, Instant::now());
    }

    /// Takes the refusals of an apply report: all there are.
    pub fn reported(&mut self, refused: &BTreeMap<ServiceKey, Vec<Refusal>>) {
        self.reported_at(refused, Instant::now());
    }

    /// Logs a summary that waits, if its time has come. To be called now and then, so that none waits for the next problem.
    pub fn flush(&mut self) {
        self.unsaid.summarize(Instant::now());
    }

    fn planned_at(&mut self, changed: &BTreeMap<ServiceKey, Arc<[Rejection]>>, now: Instant) {
        let mut lines = Vec::new();
        let together = self.metrics.together();
        for (service, after) in changed {
            let before = if after.is_empty() {
                self.rejections.remove(service)
            } else {
                self.rejections.insert(service.clone(), after.clone())
            };
            let before = before.as_deref().unwrap_or_default();
            self.metrics.rejections_changed(before, after);
            lines.extend(rejection_lines(before, after).into_iter().map(|line| (service, line)));
        }
        drop(together);
        self.say_all(lines, now);
    }

    fn reported_at(&mut self, refused: &BTreeMap<ServiceKey, Vec<Refusal>>, now: Instant) {
        if self.refusals == *refused {
            return;
        }
        let previous = std::mem::replace(&mut self.refusals, refused.clone());
        let services: BTreeSet<&ServiceKey> = previous.keys().chain(refused.keys()).collect();
        let of = |map: &BTreeMap<ServiceKey, Vec<Refusal>>, key| map.get(key).cloned().unwrap_or_default();
        let mut lines = Vec::new();
        let together = self.metrics.together();
        for service in services {
            let (before, after) = (of(&previous, service), of(refused, service));
            self.metrics.refusals_changed(&before, &after);
            lines.extend(refusal_lines(&before, &after).into_iter().map(|line| (service, line)));
        }
        drop(together);
        self.say_all(lines, now);
    }

    /// Logging may wait for whoever reads; metrics do not wait for that.
    fn say_all(&mut self, lines: Vec<(&ServiceKey, Line)>, now: Instant) {
        for (service, line) in lines {
            self.say(service, &line, now);
        }
        self.unsaid.summarize(now);
    }

    /// Logs a line; at level debug where too many have been logged lately.
    fn say(&mut self, service: &ServiceKey, line: &Line, now: Instant) {
        let Line { level, code, ended, text } = line;
        let said = *level == Level::DEBUG || self.budget.take(now);
        if !said {
            self.metrics.log_suppressed(1);
            if *ended { self.unsaid.ended += 1 } else { *self.unsaid.appeared.entry(code).or_default() += 1 }
        }
        match (*level, said) {
            (Level::WARN, true) => tracing::warn!(%service, reason = code, "{text}"),
            (Level::INFO, true) => tracing::info!(%service, reason = code, "{text}"),
            _ => tracing::debug!(%service, reason = code, "{text}"),
        }
    }
}

impl Unsaid {
    fn summarize(&mut self, now: Instant) {
        let waiting = self.ended > 0 || !self.appeared.is_empty();
        if !waiting || self.last_summary.is_some_and(|last| now.saturating_duration_since(last) < SUMMARY_INTERVAL) {
            return;
        }
        let appeared: u64 = self.appeared.values().sum();
        let by_reason: Vec<String> = self.appeared.iter().map(|(code, count)| format!("{code} {count}")).collect();
        let reasons = if by_reason.is_empty() { String::new() } else { format!(" ({})", by_reason.join(", ")) };
        let ended = self.ended;
        tracing::warn!(
            "{appeared} more problems of Services appeared{reasons} and {ended} ended than are logged one by one; \
             the metrics lbex_rejections and lbex_refusals count them all, -v=1 logs them all"
        );
        *self = Self { last_summary: Some(now), ..Self::default() };
    }
}

fn rejection_lines(before: &[Rejection], after: &[Rejection]) -> Vec<Line> {
    let level = |r: &Rejection| match (&r.reason, r.effect()) {
        (Reason::OtherPool { .. } | Reason::OtherServiceName { .. }, _) => Level::DEBUG,
        (_, Effect::NotServed | Effect::Adjusted) => Level::WARN,
        (_, Effect::Note) => Level::INFO,
    };
    let text = |r: &Rejection| match r.effect() {
        Effect::NotServed => format!("not served: {r}"),
        Effect::Adjusted | Effect::Note => r.to_string(),
    };
    lines(before, after, identity, |r| (level(r), r.reason.code(), text(r)))
}

fn refusal_lines(before: &[Refusal], after: &[Refusal]) -> Vec<Line> {
    lines(before, after, Refusal::clone, |r| (Level::WARN, r.code, format!("refused by the proxy's backend: {r}")))
}

/// What is in one list and not in the other. `same` makes equal what counts as one problem.
fn lines<T, K: Ord>(
    before: &[T],
    after: &[T],
    same: impl Fn(&T) -> K,
    describe: impl Fn(&T) -> (Level, &'static str, String),
) -> Vec<Line> {
    let known: BTreeSet<K> = before.iter().map(&same).collect();
    let still: BTreeSet<K> = after.iter().map(&same).collect();
    let appeared = after.iter().filter(|t| !known.contains(&same(t))).map(|t| {
        let (level, code, text) = describe(t);
        Line { level, code, ended: false, text }
    });
    let ended = before.iter().filter(|t| !still.contains(&same(t))).map(|t| {
        let (level, code, text) = describe(t);
        Line { level: level.max(Level::INFO), code, ended: true, text: format!("no longer: {text}") }
    });
    appeared.chain(ended).collect()
}

/// A rejection without the numbers and examples that move while the problem stays the same.
fn identity(rejection: &Rejection) -> Rejection {
    let example = String::new;
    let reason = match &rejection.reason {
        Reason::NodeWithoutAddress { wanted, .. } => {
            Reason::NodeWithoutAddress { count: 0, example: example(), wanted }
        }
        Reason::NodeUnknown { .. } => Reason::NodeUnknown { count: 0, example: example() },
        Reason::NoNodeReady { .. } => Reason::NoNodeReady { count: 0 },
        Reason::NoNodeAvailable { .. } => Reason::NoNodeAvailable { count: 0 },
        Reason::MoreAnnotations { .. } => Reason::MoreAnnotations { count: 0 },
        Reason::NotUnicast { .. } => Reason::NotUnicast { count: 0, example: IpAddr::V4(Ipv4Addr::UNSPECIFIED) },
        other => other.clone(),
    };
    Rejection { port: rejection.port.clone(), reason }
}

//! What LBEX offers to a plugin: `struct lbex_host`.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_void};
use std::panic::catch_unwind;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lbex_plugin_abi::tables::{ABI_MAJOR, ABI_MINOR, Host, MAX_LOG_LINE, level};
use tokio::sync::Notify;

use super::{fault, memory};

/// How often a plugin may have LBEX look at its proxy.
const LOOKS: Duration = Duration::from_millis(100);

/// How many lines of one plugin are logged in [`PERIOD`].
const MOST_LINES: u32 = 200;
const PERIOD: Duration = Duration::from_secs(1);

/// What a plugin's calls of the host lead to. Lives as long as the process: a plugin may call from threads that it never ends.
#[derive(Debug)]
pub(super) struct HostContext {
    name: String,
    budget: Mutex<Budget>,
    woken: Notify,
    last_woken: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Budget {
    since: Instant,
    lines: u32,
}

impl HostContext {
    /// For the plugin called `name`.
    pub(super) fn new(name: &str) -> &'static Self {
        let budget = Mutex::new(Budget { since: Instant::now(), lines: 0 });
        Box::leak(Box::new(Self { name: name.to_owned(), budget, woken: Notify::new(), last_woken: Mutex::new(None) }))
    }

    /// The table that the plugin gets.
    pub(super) fn table(&'static self) -> &'static Host {
        let ctx = std::ptr::from_ref(self).cast_mut().cast();
        let host = Host {
            size: Host::SIZE,
            abi_major: ABI_MAJOR,
            abi_minor: ABI_MINOR,
            ctx,
            log: Some(log),
            wake: Some(wake),
        };
        Box::leak(Box::new(host))
    }

    /// Returns when the plugin has asked for a look. Not too soon after the last time: a plugin that asks without end gets its look, and
    /// nothing else waits for it.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
        let last = *self.last_woken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wait) = last.and_then(|last| LOOKS.checked_sub(last.elapsed())) {
            tokio::time::sleep(wait).await;
        }
        *self.last_woken.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn log(&self, severity: i32, address: usize, len: usize) {
        // First: a line that is left out costs next to nothing.
        let (may, left_out) = self.may_log();
        let plugin = self.name.as_str();
        if let Some(left_out) = left_out {
            tracing::warn!(plugin, "{left_out} log line(s) of the plugin were left out");
        }
        if !may {
            return;
        }
        let line = match memory::bytes("a log line", address, len.min(MAX_LOG_LINE)) {
            Ok(bytes) => fault::line(&bytes, MAX_LOG_LINE),
            Err(fault) => return tracing::warn!(plugin, "the plugin logs a line that is none: {fault}"),
        };
        match severity {
            level::ERROR => tracing::error!(plugin, "{line}"),
            level::WARN => tracing::warn!(plugin, "{line}"),
            level::INFO => tracing::info!(plugin, "{line}"),
            level::DEBUG => tracing::debug!(plugin, "{line}"),
            _ => tracing::trace!(plugin, "{line}"),
        }
    }

    /// Whether one more line may be logged, and how many were not before it.
    fn may_log(&self) -> (bool, Option<u32>) {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left_out = None;
        if budget.since.elapsed() >= PERIOD {
            left_out = Some(budget.lines.saturating_sub(MOST_LINES)).filter(|count| *count > 0);
            *budget = Budget { since: Instant::now(), lines: 0 };
        }
        budget.lines = budget.lines.saturating_add(1);
        (budget.lines <= MOST_LINES, left_out)
    }
}

unsafe extern "C" fn log(ctx: *mut c_void, severity: i32, text: *const c_char, len: usize) {
    let logged = catch_unwind(|| {
        // SAFETY: the context is what `HostContext::table` made of a `&'static HostContext`; nothing else has this function.
        let context = unsafe { &*ctx.cast::<HostContext>() };
        context.log(severity, text as usize, len);
    });
    // Nothing may get out of here, and there is nobody to tell.
    drop(logged);
}

unsafe extern "C" fn wake(ctx: *mut c_void) {
    // SAFETY: as above.
    let context = unsafe { &*ctx.cast::<HostContext>() };
    context.woken.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_that_floods_the_log_is_cut_short_and_told_about() {
        let context = HostContext::new("noisy");
        let written = (0..1000).filter(|_| context.may_log().0).count();
        assert_eq!(written, MOST_LINES as usize);
        context.budget.lock().unwrap().since -= PERIOD;
        assert_eq!(context.may_log(), (true, Some(800)));
    }

    #[tokio::test]
    async fn a_plugin_wakes_who_waits_also_before_it_waits() {
        let context = HostContext::new("x");
        let table = context.table();
        // SAFETY: its own table.
        unsafe { table.wake.unwrap()(table.ctx) };
        context.woken().await;
        let begin = Instant::now();
        // SAFETY: as above.
        unsafe { table.wake.unwrap()(table.ctx) };
        context.woken().await;
        assert!(begin.elapsed() > LOOKS / 2, "not at once again");
    }

    #[test]
    fn a_line_that_is_nowhere_is_no_crash() {
        let table = HostContext::new("x").table();
        // SAFETY: the table is its own; that the text cannot be read is the point.
        unsafe { table.log.unwrap()(table.ctx, level::INFO, std::ptr::without_provenance(64), 100) };
    }
}

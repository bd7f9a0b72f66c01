//! Every fault of `plugins/faulty`: LBEX lives, names the fault, and goes on once the plugin does as it should.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use lbex_core::backend::{ApplyReport, BackendError, ProxyBackend};
use lbex_core::desired::Delta;
use lbex_test_harness::wait::{SOON, eventually};

use crate::support::Bench;

impl Bench {
    async fn apply(&mut self, name: &str) -> Result<ApplyReport, BackendError> {
        let delta = self.change(name, 1);
        self.backend.push(&delta);
        self.backend.apply(&self.desired, &delta).await
    }

    /// The plugin does as it should from now on: it has everything soon, and is seen to.
    async fn recovers(&self) -> Result<()> {
        self.fix()?;
        let nothing = Delta { from: self.desired.generation, to: self.desired.generation, ..Delta::default() };
        let observed = eventually("the plugin has what is desired, and is seen", SOON, || async {
            self.backend.apply(&self.desired, &nothing).await?;
            self.backend.observe().await
        });
        let observed = observed.await?;
        ensure!(observed.healthy && observed.in_step, "{observed:?}");
        Ok(())
    }
}

/// An apply with this fault fails, as something that trying again may help, and says so; then all is well again.
async fn apply_fails(fault: &str, says: &str) -> Result<()> {
    let mut bench = Bench::faulty(&format!("apply {fault}")).await?;
    let begin = Instant::now();
    match bench.apply("web").await {
        Err(BackendError::Retry(why)) => ensure!(why.contains(says), "{fault}: {why}"),
        other => bail!("{fault}: {other:?}"),
    }
    ensure!(begin.elapsed() < Duration::from_secs(10), "{fault} took {:?}", begin.elapsed());
    bench.recovers().await
}

#[tokio::test]
async fn an_answer_that_is_no_document_closes_the_plugin_and_it_is_opened_again() -> Result<()> {
    apply_fails("garbage", "its reply to apply is not a document lbex.report/1").await?;
    apply_fails("empty", "its reply to apply is not a document lbex.report/1: EOF").await?;
    apply_fails("schema", "the document has the schema \"lbex.nonsense/9\", and \"lbex.report/1\" is expected").await
}

#[tokio::test]
async fn a_lie_about_the_size_of_an_answer_is_no_crash() -> Result<()> {
    apply_fails("huge", "is said to have 1099511627776 bytes; 67108864 are allowed").await?;
    apply_fails("nowhere", "its reply (100 bytes at 0x1000) cannot be read").await?;
    apply_fails("beyond", "bytes at 0x").await
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_given_back() -> Result<()> {
    let mut bench = Bench::faulty("apply large").await?;
    let why = bench.apply("web").await.unwrap_err().to_string();
    ensure!(why.contains("is said to have 67108865 bytes; 67108864 are allowed"), "{why}");
    ensure!(bench.plugin_folder().join("freed").exists(), "its memory is lost");
    bench.recovers().await
}

#[tokio::test]
async fn a_plugin_that_answers_nonsense_when_it_is_opened_again_is_not_well() -> Result<()> {
    for (fault, says) in [
        ("open garbage", "its reply to lbex_plugin_open is not a document lbex.capabilities/1"),
        ("open panic", "lbex_plugin_open panicked: index out of bounds"),
        ("open code", "lbex_plugin_open returned -7, which is no code"),
        ("open invalid", "it cannot be opened again: never"),
    ] {
        let mut bench = Bench::faulty("none none").await?;
        bench.apply("web").await?;
        std::fs::write(bench.plugin_folder().join("fault"), format!("apply garbage, {fault}"))?;
        bench.apply("api").await.unwrap_err();
        let nothing = Delta { from: bench.desired.generation, to: bench.desired.generation, ..Delta::default() };
        eventually("it says so", SOON, || async {
            match bench.backend.apply(&bench.desired, &nothing).await {
                Err(BackendError::Retry(why)) if why.contains(says) => Ok(()),
                other => Err(format!("{fault}: {other:?}")),
            }
        })
        .await?;
        bench.recovers().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_service_that_nobody_asked_for_cannot_be_refused() -> Result<()> {
    let mut bench = Bench::faulty("apply stranger").await?;
    let report = bench.apply("web").await?;
    ensure!(report.refused.is_empty(), "{report:?}");
    bench.recovers().await
}

#[tokio::test]
async fn a_report_that_cannot_be_believed_is_a_failure() -> Result<()> {
    apply_fails("revision", "it is about revision \"mine\"").await?;
    apply_fails("contradiction", "apply returned 1, and its report refuses 0 Service(s)").await?;
    apply_fails("resync", "it asks for the whole desired state, which it was just given").await
}

#[tokio::test]
async fn a_panic_and_a_code_that_is_none_close_the_plugin() -> Result<()> {
    apply_fails("panic", "apply panicked: index out of bounds").await?;
    apply_fails("code", "apply returned -7, which is no code: what?").await
}

#[tokio::test]
async fn an_error_says_whether_trying_again_can_help_and_keeps_the_plugin_open() -> Result<()> {
    apply_fails("retry", "the plugin faulty: not now, please").await?;
    for (fault, says) in [("invalid", "the plugin faulty: never"), ("unsupported", "the plugin faulty: not I")] {
        let mut bench = Bench::faulty(&format!("apply {fault}")).await?;
        match bench.apply("web").await {
            Err(BackendError::Permanent(why)) => ensure!(why == says, "{why}"),
            other => bail!("{fault}: {other:?}"),
        }
        bench.fix()?;
        // At once, since it was never closed.
        bench.apply("api").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_cancelled() -> Result<()> {
    apply_fails("late", "the plugin faulty: cancelled").await
}

#[tokio::test]
async fn a_call_that_never_returns_costs_its_thread_and_nothing_else() -> Result<()> {
    let mut bench = Bench::faulty("apply hang").await?;
    let why = bench.apply("web").await.unwrap_err().to_string();
    ensure!(why.contains("apply did not return within 300ms, nor soon after it was cancelled"), "{why}");
    // LBEX is told at once that it hangs, and calls nothing.
    let begin = Instant::now();
    let why = bench.apply("api").await.unwrap_err().to_string();
    ensure!(why.contains("it has not returned from apply"), "{why}");
    ensure!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let seen = eventually("a look says that it hangs", SOON, || async {
        match bench.backend.observe().await {
            Err(error) => Ok(error.to_string()),
            Ok(observed) => Err(format!("{observed:?}")),
        }
    });
    let seen = seen.await?;
    ensure!(seen.contains("it has not returned from apply"), "{seen}");
    bench.recovers().await
}

#[tokio::test]
async fn a_cancel_that_never_returns_is_waited_for_by_nobody() -> Result<()> {
    let mut bench = Bench::faulty("cancel hang").await?;
    let why = bench.apply("web").await.unwrap_err().to_string();
    ensure!(why.contains("apply did not return within 300ms"), "{why}");
    let begin = Instant::now();
    let why = bench.apply("api").await.unwrap_err().to_string();
    ensure!(why.contains("it has not returned from cancel"), "{why}");
    ensure!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    bench.recovers().await
}

#[tokio::test]
async fn a_look_that_goes_wrong_proves_nothing_and_what_hangs_is_left() -> Result<()> {
    for (fault, says) in [
        ("garbage", "its reply to observe is not a document lbex.observation/1"),
        ("panic", "observe panicked"),
        ("nowhere", "cannot be read"),
        ("retry", "not now, please"),
        ("late", "cancelled"),
        ("hang", "observe did not return within 200ms"),
    ] {
        let mut bench = Bench::faulty(&format!("observe {fault}")).await?;
        bench.apply("web").await?;
        let why = bench.backend.observe().await.unwrap_err().to_string();
        ensure!(why.contains(says), "{fault}: {why}");
        bench.recovers().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_live_change_that_goes_wrong_comes_with_the_next_apply() -> Result<()> {
    for fault in ["garbage", "unsupported", "retry", "panic", "late"] {
        let mut bench = Bench::faulty(&format!("apply {fault}")).await?;
        // With the fault on from the start nothing would ever be applied.
        bench.fix()?;
        bench.apply("web").await?;
        bench.unfix()?;
        let delta = bench.change("web", 2);
        let push = bench.backend.push(&delta);
        ensure!(push.services.len() == 1, "{fault}: it is pushed");
        ensure!(push.taken.await == push.services, "{fault}: it was not taken");
        bench.recovers().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_live_change_is_taken() -> Result<()> {
    let mut bench = Bench::faulty("none none").await?;
    bench.apply("web").await?;
    let delta = bench.change("web", 2);
    let push = bench.backend.push(&delta);
    ensure!(push.services.len() == 1 && push.taken.await.is_empty());
    ensure!(bench.backend.observe().await?.in_step);
    Ok(())
}

#[tokio::test]
async fn a_table_that_is_none_is_refused_when_it_is_opened() -> Result<()> {
    for (fault, says) in [
        ("table none", "lbex_plugin_open returned 0 and no backend"),
        ("table small", "its backend's table has 16 bytes; at least 56 are needed"),
        ("table nowhere", "its backend's table (4 bytes at 0x1000) cannot be read"),
        ("table apply", "its backend has no function apply"),
        ("open garbage", "its reply to lbex_plugin_open is not a document lbex.capabilities/1"),
        ("open huge", "is said to have 1099511627776 bytes"),
        ("open panic", "lbex_plugin_open panicked: index out of bounds"),
        ("open code", "lbex_plugin_open returned -7, which is no code"),
        ("open invalid", "the plugin faulty 0.0.1 cannot begin: never"),
    ] {
        match Bench::open(crate::support::faulty, fault).await? {
            Err(error) => ensure!(error.to_string().contains(says), "{fault}: {error}"),
            Ok(_) => bail!("{fault}: it was opened"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_flood_of_log_lines_and_one_that_is_nowhere_do_no_harm() -> Result<()> {
    let mut bench = Bench::faulty("apply flood").await?;
    bench.apply("web").await?;
    bench.recovers().await
}

#[tokio::test]
async fn a_proxy_that_is_not_ended_is_told() -> Result<()> {
    let bench = Bench::faulty("stop retry").await?;
    let why = bench.backend.stop(Duration::ZERO).await.unwrap_err().to_string();
    ensure!(why.contains("its proxy was not ended: not now, please"), "{why}");
    let bench = Bench::faulty("stop unsupported").await?;
    bench.backend.stop(Duration::ZERO).await?;
    Ok(())
}

#[tokio::test]
async fn a_plugin_asks_for_a_look_and_gets_it() -> Result<()> {
    let mut bench = Bench::faulty("none wake").await?;
    let asked = tokio::time::timeout(Duration::from_millis(50), bench.backend.woken()).await;
    ensure!(asked.is_err(), "nobody has asked yet");
    bench.apply("web").await?;
    tokio::time::timeout(SOON, bench.backend.woken()).await?;
    Ok(())
}

//! Whatever the API does: in the end it has what it should, and upstreams that had servers never have none.

use std::time::Duration;

use anyhow::{Result, ensure};
use lbex_core::backend::{Instead, ProxyBackend};
use lbex_plus_standin::api::Code;
use lbex_plus_standin::{Fault, Rule, StandIn};
use lbex_test_harness::wait::{SOON, eventually};

use crate::support::{PACE, Wanted, address, has, key, push, remote, upstream};

const FAULTS: [fn() -> Fault; 5] = [
    || Fault::DropBefore,
    || Fault::DropAfter,
    || Fault::Broken,
    || Fault::Html,
    || Fault::SlowAnswer(Duration::from_millis(300)),
];

#[tokio::test]
async fn each_fault_at_each_call_of_a_change() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let web = upstream("web", 80);
    let plus = StandIn::builder().tcp(0).upstream(&web, &[]).start().await?;
    let backend = remote(folder.path(), PACE, &[&plus]).await?;
    let mut wanted = Wanted::default();
    wanted.set("web", 80, &["10.0.0.1:80", "10.0.0.2:80"]);
    wanted.apply_all(&backend).await?;
    let sets = [["10.0.0.3:80", "10.0.0.4:80"], ["10.0.0.1:80", "10.0.0.2:80"]];
    let mut turn = 0;
    for fault in FAULTS {
        // A GET, two POSTs, two DELETEs.
        for call in 0..5 {
            let servers = &sets[turn % 2];
            turn += 1;
            plus.inject(Rule::new(fault()).containing("/servers").after(call).times(2));
            drop(backend.push(&wanted.set("web", 80, servers)));
            has(&plus, &web, servers).await?;
            plus.heal();
            eventually("it is in step", SOON, || async {
                let api = &backend.observe().await?.apis[0];
                ensure!(api.answers && api.in_step == 1 && api.behind == 0, "{api:?}");
                Ok(())
            })
            .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_api_that_answers_for_another_upstream() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (web, other) = (upstream("web", 80), upstream("other", 81));
    let plus = StandIn::builder().tcp(0).upstream(&web, &[]).upstream(&other, &[]).start().await?;
    let backend = remote(folder.path(), PACE, &[&plus]).await?;
    let mut wanted = Wanted::default();
    wanted.set("web", 80, &["10.0.0.1:80", "10.0.0.2:80"]);
    wanted.set("other", 81, &["10.0.0.1:81"]);
    wanted.apply_all(&backend).await?;
    plus.inject(Rule::new(Fault::Other(other.clone())).containing(&format!("/{web}/")).times(4));
    drop(backend.push(&wanted.set("web", 80, &["10.0.0.2:80", "10.0.0.3:80"])));
    has(&plus, &web, &["10.0.0.2:80", "10.0.0.3:80"]).await?;
    has(&plus, &other, &["10.0.0.1:81"]).await
}

#[tokio::test]
async fn what_the_api_refuses_is_told_to_the_service_and_keeps_no_other_server_out() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (web, other) = (upstream("web", 80), upstream("other", 81));
    let plus =
        StandIn::builder().tcp(0).upstream(&web, &[address("10.0.0.9:80")]).upstream(&other, &[]).start().await?;
    let backend = remote(folder.path(), PACE, &[&plus]).await?;
    plus.inject(Rule::new(Fault::Error(Code::UpstreamBadAddress)).method("POST").containing(&web));
    let mut wanted = Wanted::default();
    wanted.set("web", 80, &["10.0.0.1:80", "10.0.0.2:80"]);
    wanted.set("other", 81, &["10.0.0.1:81"]);
    let report = wanted.apply_all(&backend).await?;
    let refusal = &report.refused[&key("web")][0];
    ensure!(
        report.refused.len() == 1 && refusal.code == "ApiRefused" && refusal.instead == Instead::LastGood,
        "{report:?}"
    );
    ensure!(refusal.message.contains("UpstreamBadAddress"), "{refusal}");
    ensure!(plus.up(&web) == [address("10.0.0.2:80")], "the other one is there, the old one is gone");
    has(&plus, &other, &["10.0.0.1:81"]).await
}

#[tokio::test]
async fn an_upstream_whose_memory_is_full_keeps_what_it_has() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let web = upstream("web", 80);
    let plus = StandIn::builder().tcp(0).upstream(&web, &[address("10.0.0.9:80")]).start().await?;
    plus.inject(Rule::new(Fault::Error(Code::UpstreamOutOfMemory)).method("POST").always());
    let backend = remote(folder.path(), PACE, &[&plus]).await?;
    let mut wanted = Wanted::default();
    wanted.set("web", 80, &["10.0.0.1:80"]);
    let report = wanted.apply_all(&backend).await?;
    let refusal = &report.refused[&key("web")][0];
    ensure!(
        refusal.code == "UpstreamOutOfMemory" && refusal.retry && refusal.message.contains("larger"),
        "{refusal:?}"
    );
    ensure!(plus.up(&web) == [address("10.0.0.9:80")], "never none");
    plus.heal();
    has(&plus, &web, &["10.0.0.1:80"]).await
}

#[tokio::test]
async fn lbex_ends_between_two_calls_of_one_change() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let web = upstream("web", 80);
    let plus = StandIn::builder().tcp(0).upstream(&web, &[]).start().await?;
    let mut wanted = Wanted::default();
    wanted.set("web", 80, &["10.0.0.1:80", "10.0.0.2:80"]);
    {
        let backend = remote(folder.path(), PACE, &[&plus]).await?;
        wanted.apply_all(&backend).await?;
        plus.forget_calls();
        plus.inject(Rule::new(Fault::Slow(Duration::from_secs(30))).method("DELETE").always());
        let pushed = backend.push(&wanted.set("web", 80, &["10.0.0.3:80"]));
        eventually("it is added", SOON, || async {
            ensure!(plus.writes().iter().any(|write| write.starts_with("DELETE")));
            Ok(())
        })
        .await?;
        drop((pushed, backend));
    }
    plus.heal();
    plus.forget_calls();
    let backend = remote(folder.path(), PACE, &[&plus]).await?;
    wanted.apply_all(&backend).await?;
    has(&plus, &web, &["10.0.0.3:80"]).await?;
    ensure!(plus.writes().len() == 2 && plus.writes().iter().all(|w| w.starts_with("DELETE")), "{:?}", plus.writes());
    Ok(())
}

/// 1,000 upstreams at once: some at a time, all of them.
#[tokio::test]
async fn calls_for_many_upstreams_are_made_some_at_a_time() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut builder = StandIn::builder().tcp(0);
    for n in 0..1000 {
        builder = builder.upstream(&upstream(&format!("s{n}"), 1000 + n), &[]);
    }
    let plus = builder.start().await?;
    plus.inject(Rule::new(Fault::SlowAnswer(Duration::from_millis(10))).method("POST").always());
    let backend = remote(folder.path(), PACE, &[&plus]).await?;
    let mut wanted = Wanted::default();
    for n in 0..1000 {
        wanted.set(&format!("s{n}"), 1000 + n, &["10.0.0.1:80"]);
    }
    let report = wanted.apply_all(&backend).await?;
    ensure!(report.refused.is_empty(), "{:?}", report.refused.first_key_value());
    let most = plus.calls().iter().map(|call| call.in_progress).max();
    ensure!(most.is_some_and(|most| (2..=17).contains(&most)), "{most:?}");
    ensure!(plus.writes().len() == 1000);
    plus.forget_calls();
    push(&backend, &wanted.set("s7", 1007, &["10.0.0.2:80"])).await?;
    ensure!(plus.writes().len() == 2, "{:?}", plus.writes());
    Ok(())
}

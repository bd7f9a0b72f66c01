//! What a test can make go wrong.

use std::time::{Duration, Instant};

use anyhow::Result;
use lbex_plus_standin::api::Code;
use lbex_plus_standin::{Fault, Rule, StandIn};
use lbex_test_harness::ports::free_port;

use crate::client::{call, json};

const SERVERS: &str = "/api/9/stream/upstreams/web/servers";
const NEW: &str = r#"{"server": "10.0.0.9:80"}"#;

async fn started() -> Result<StandIn> {
    let (web, other) = (["10.0.0.1:80".parse()?], ["10.1.0.1:80".parse()?, "10.1.0.2:80".parse()?]);
    StandIn::builder().tcp(free_port()?).upstream("web", &web).upstream("other", &other).start().await
}

fn count(plus: &StandIn, upstream: &str) -> usize {
    plus.up(upstream).len()
}

#[tokio::test]
async fn a_connection_breaks_before_or_after_the_state_has_changed() -> Result<()> {
    let plus = started().await?;
    plus.inject(Rule::new(Fault::DropBefore).method("POST"));
    assert!(call(plus.address(), "POST", SERVERS, NEW).await.is_err());
    assert_eq!(count(&plus, "web"), 1);
    plus.inject(Rule::new(Fault::DropAfter).method("POST"));
    assert!(call(plus.address(), "POST", SERVERS, NEW).await.is_err());
    assert_eq!(count(&plus, "web"), 2);
    json(plus.address(), "POST", SERVERS, NEW, 201).await?;
    let statuses: Vec<_> = plus.calls().iter().map(|call| call.status).collect();
    assert_eq!(statuses, [None, None, Some(201)]);
    Ok(())
}

#[tokio::test]
async fn pages_for_people_come_in_place_of_answers() -> Result<()> {
    let plus = started().await?;
    plus.inject(Rule::new(Fault::Broken));
    plus.inject(Rule::new(Fault::Html));
    for status in [500, 200] {
        let answer = call(plus.address(), "POST", SERVERS, NEW).await?;
        assert_eq!(answer.status, status);
        assert!(answer.head.contains("content-type: text/html") && answer.body.starts_with("<html>"), "{answer:?}");
    }
    assert_eq!(count(&plus, "web"), 1);
    Ok(())
}

#[tokio::test]
async fn an_answer_is_about_another_upstream() -> Result<()> {
    let plus = started().await?;
    plus.inject(Rule::new(Fault::Other("other".to_owned())).containing("/web/").times(2));
    let seen = json(plus.address(), "GET", SERVERS, "", 200).await?;
    assert_eq!(seen[1]["server"], "10.1.0.2:80");
    json(plus.address(), "POST", SERVERS, NEW, 201).await?;
    assert_eq!((count(&plus, "web"), count(&plus, "other")), (1, 3));
    Ok(())
}

#[tokio::test]
async fn any_error_can_be_had() -> Result<()> {
    let plus = started().await?;
    for code in Code::ALL {
        plus.inject(Rule::new(Fault::Error(code)));
        assert_eq!(json(plus.address(), "POST", SERVERS, NEW, code.status()).await?["error"]["code"], code.to_string());
    }
    assert_eq!(count(&plus, "web"), 1);
    Ok(())
}

#[tokio::test]
async fn it_is_slow_before_or_after_the_state_has_changed() -> Result<()> {
    let plus = started().await?;
    let pause = Duration::from_secs(3);
    for (fault, servers_meanwhile) in [(Fault::Slow(pause), 1), (Fault::SlowAnswer(pause), 3)] {
        plus.inject(Rule::new(fault));
        let begin = Instant::now();
        let slow = tokio::spawn(call(plus.address(), "POST", SERVERS, NEW));
        lbex_test_harness::wait::eventually("the call is in progress", Duration::from_secs(5), || async {
            anyhow::ensure!(plus.calls().last().is_some_and(|call| call.status.is_none()), "none");
            Ok(())
        })
        .await?;
        // Others are not.
        json(plus.address(), "GET", SERVERS, "", 200).await?;
        assert!(begin.elapsed() < pause && !slow.is_finished());
        assert_eq!(
            (count(&plus, "web"), plus.calls().last().map(|call| call.in_progress)),
            (servers_meanwhile, Some(2))
        );
        assert_eq!(slow.await??.status, 201);
        assert!(begin.elapsed() >= pause);
    }
    Ok(())
}

#[tokio::test]
async fn it_refuses_connections_and_comes_back_with_or_without_its_state() -> Result<()> {
    let plus = started().await?;
    json(plus.address(), "POST", SERVERS, NEW, 201).await?;
    plus.refuse().await?;
    assert!(call(plus.address(), "GET", SERVERS, "").await.is_err());
    plus.accept().await?;
    assert_eq!(json(plus.address(), "GET", SERVERS, "", 200).await?.as_array().map(Vec::len), Some(2));
    plus.restart(true).await?;
    assert_eq!(json(plus.address(), "GET", SERVERS, "", 200).await?.as_array().map(Vec::len), Some(2));
    plus.restart(false).await?;
    assert_eq!(json(plus.address(), "GET", SERVERS, "", 200).await?.as_array().map(Vec::len), Some(1));
    Ok(())
}

#[tokio::test]
async fn rules_choose_their_calls() -> Result<()> {
    let plus = started().await?;
    plus.inject(Rule::new(Fault::Broken).method("POST").containing("/other/").after(1).always());
    let other = SERVERS.replace("web", "other");
    let expected = [(SERVERS, 201), (&*other, 201), (&*other, 500), (SERVERS, 201), (&*other, 500)];
    for (path, status) in expected {
        assert_eq!(call(plus.address(), "POST", path, NEW).await?.status, status, "{path}");
    }
    plus.heal();
    assert_eq!(call(plus.address(), "POST", &other, NEW).await?.status, 201);
    assert_eq!(plus.writes()[..2], [SERVERS, &other].map(|path| format!("POST {}", &path[4..])));
    plus.forget_calls();
    assert_eq!(plus.calls(), []);
    Ok(())
}

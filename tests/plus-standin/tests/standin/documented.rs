//! What succeeds.

use std::net::SocketAddr;

use anyhow::Result;
use lbex_plus_standin::StandIn;
use lbex_plus_standin::api::{Peer, PeerState, Zone};
use serde_json::json;

use crate::client::{call, json};

const SERVERS: &str = "/api/9/stream/upstreams/web/servers";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

async fn started() -> Result<StandIn> {
    let servers = [address("10.0.0.1:80"), address("[fd00::1]:80")];
    StandIn::builder().tcp(0).upstream("web", &servers).start().await
}

#[tokio::test]
async fn versions_and_folders_are_listed() -> Result<()> {
    let plus = StandIn::builder().tcp(0).start().await?;
    for path in ["/api", "/api/"] {
        assert_eq!(json(plus.address(), "GET", path, "", 200).await?, json!([1, 2, 3, 4, 5, 6, 7, 8, 9]));
    }
    assert_eq!(json(plus.address(), "GET", "/api/7/", "", 200).await?, json!(["nginx", "stream"]));
    let stream = json(plus.address(), "GET", "/api/7/stream/", "", 200).await?;
    assert_eq!(stream, json!(["server_zones", "upstreams"]));
    let old = StandIn::builder().tcp(0).versions(&[3, 7]).start().await?;
    assert_eq!(json(old.address(), "GET", "/api/", "", 200).await?, json!([3, 7]));
    json(old.address(), "GET", "/api/9/nginx", "", 404).await?;
    Ok(())
}

#[tokio::test]
async fn nginx_tells_its_build_and_counts_its_generations() -> Result<()> {
    let plus = started().await?;
    let first = json(plus.address(), "GET", "/api/9/nginx", "", 200).await?;
    assert_eq!((&first["build"], &first["version"]), (&json!("nginx-plus-r36"), &json!("1.29.4")));
    assert_eq!(first["generation"], 1);
    for name in ["pid", "ppid"] {
        assert!(first[name].is_u64(), "{name} of {first}");
    }
    for name in ["load_timestamp", "timestamp"] {
        assert!(first[name].as_str().is_some_and(|time| time.ends_with('Z')), "{name} of {first}");
    }
    plus.change(lbex_plus_standin::api::State::reloaded).await?;
    assert_eq!(json(plus.address(), "GET", "/api/9/nginx", "", 200).await?["generation"], 2);
    plus.restart(true).await?;
    let restarted = json(plus.address(), "GET", "/api/9/nginx", "", 200).await?;
    assert_eq!(restarted["generation"], 1);
    assert_ne!(restarted["ppid"], first["ppid"]);
    Ok(())
}

#[tokio::test]
async fn servers_are_listed_with_every_parameter() -> Result<()> {
    let plus = started().await?;
    let expected = |id: u64, server: &str| {
        json!({
            "id": id, "server": server, "weight": 1, "max_conns": 0, "max_fails": 1, "fail_timeout": "10s",
            "slow_start": "0s", "backup": false, "down": false,
        })
    };
    let both = json!([expected(0, "10.0.0.1:80"), expected(1, "[fd00::1]:80")]);
    for path in [SERVERS.to_owned(), format!("{SERVERS}/")] {
        assert_eq!(json(plus.address(), "GET", &path, "", 200).await?, both);
    }
    assert_eq!(json(plus.address(), "GET", &format!("{SERVERS}/1"), "", 200).await?, expected(1, "[fd00::1]:80"));
    Ok(())
}

#[tokio::test]
async fn a_server_is_added_with_defaults_or_with_everything() -> Result<()> {
    let plus = started().await?;
    let plain = json(plus.address(), "POST", SERVERS, r#"{"server": "10.0.0.2:80"}"#, 201).await?;
    assert_eq!((&plain["id"], &plain["weight"], &plain["down"]), (&json!(2), &json!(1), &json!(false)));
    let all = json!({
        "server": "[fd00::2]:443", "weight": 3, "max_conns": 7, "max_fails": 0, "fail_timeout": "1m 30s",
        "slow_start": "5s", "backup": true, "down": true,
    });
    let bad = call(plus.address(), "POST", SERVERS, &all.to_string()).await?;
    assert_eq!(bad.status, 400, "a space is no part of a time: {}", bad.body);
    let mut all = all;
    all["fail_timeout"] = json!("1m30s");
    let mut added = json(plus.address(), "POST", SERVERS, &all.to_string(), 201).await?;
    assert_eq!(added["id"], 3, "a POST that failed takes no id");
    added.as_object_mut().expect("an object").remove("id");
    assert_eq!(added, all);
    // Addresses need not be unique.
    let twin = json(plus.address(), "POST", SERVERS, r#"{"server": "10.0.0.2:80"}"#, 201).await?;
    assert_eq!(twin["id"], 4);
    Ok(())
}

#[tokio::test]
async fn a_server_is_changed_in_what_the_call_names() -> Result<()> {
    let plus = started().await?;
    let path = format!("{SERVERS}/0");
    let changes = json!({"server": "10.0.0.9:81", "weight": 2, "max_conns": 1, "max_fails": 3, "fail_timeout": "2s", "slow_start": "1s", "down": true});
    let mut expected = changes.clone();
    expected["id"] = json!(0);
    expected["backup"] = json!(false);
    assert_eq!(json(plus.address(), "PATCH", &path, &changes.to_string(), 200).await?, expected);
    expected["down"] = json!(false);
    assert_eq!(json(plus.address(), "PATCH", &path, r#"{"down": false}"#, 200).await?, expected);
    assert_eq!(json(plus.address(), "PATCH", &path, "{}", 200).await?, expected);
    Ok(())
}

#[tokio::test]
async fn a_server_is_removed_and_its_id_is_not_used_again() -> Result<()> {
    let plus = started().await?;
    let left = json(plus.address(), "DELETE", &format!("{SERVERS}/1"), "", 200).await?;
    assert_eq!(left.as_array().map(Vec::len), Some(1));
    assert_eq!(left[0]["id"], 0);
    let added = json(plus.address(), "POST", SERVERS, r#"{"server": "10.0.0.2:80"}"#, 201).await?;
    assert_eq!(added["id"], 2);
    json(plus.address(), "DELETE", &format!("{SERVERS}/0"), "", 200).await?;
    let none = json(plus.address(), "DELETE", &format!("{SERVERS}/2"), "", 200).await?;
    assert_eq!(none, json!([]));
    Ok(())
}

#[tokio::test]
async fn peers_have_states_and_numbers() -> Result<()> {
    let plus = started().await?;
    json(plus.address(), "POST", SERVERS, r#"{"server": "10.0.0.2:80", "down": true, "max_conns": 9}"#, 201).await?;
    let unhealthy =
        Peer { state: PeerState::Unhealthy, active: 3, fails: 5, checks: 8, checks_failed: 6, ..Peer::default() };
    plus.change(|state| {
        state.upstreams.get_mut("web").expect("web").peers.insert(1, unhealthy);
    })
    .await?;
    let all = json(plus.address(), "GET", "/api/9/stream/upstreams/", "", 200).await?;
    let web = json(plus.address(), "GET", "/api/9/stream/upstreams/web", "", 200).await?;
    assert_eq!(all, json!({"web": web}));
    assert_eq!((&web["zone"], &web["zombies"]), (&json!("web"), &json!(0)));
    let states: Vec<_> = (0..3).map(|n| web["peers"][n]["state"].clone()).collect();
    assert_eq!(states, ["up", "unhealthy", "down"]);
    let second = &web["peers"][1];
    assert_eq!(
        (&second["id"], &second["server"], &second["name"]),
        (&json!(1), &json!("[fd00::1]:80"), &json!("[fd00::1]:80"))
    );
    assert_eq!(
        (&second["active"], &second["fails"], &second["health_checks"]["fails"]),
        (&json!(3), &json!(5), &json!(6))
    );
    assert_eq!((second.get("max_conns"), &web["peers"][2]["max_conns"]), (None, &json!(9)));
    for name in ["backup", "weight", "connections", "sent", "received", "unavail", "downtime"] {
        assert!(second.get(name).is_some(), "{name} in {second}");
    }
    Ok(())
}

#[tokio::test]
async fn listeners_have_counters() -> Result<()> {
    let plus = started().await?;
    let zone = Zone { processing: 1, connections: 9, sessions: [5, 2, 1], ..Zone::default() };
    plus.change(|state| {
        state.zones.insert("80.tcp.default.web".to_owned(), zone);
    })
    .await?;
    let all = json(plus.address(), "GET", "/api/9/stream/server_zones/", "", 200).await?;
    let sessions = json!({"2xx": 5, "4xx": 2, "5xx": 1, "total": 8});
    assert_eq!(all["80.tcp.default.web"]["sessions"], sessions);
    let one = json(plus.address(), "GET", "/api/9/stream/server_zones/80.tcp.default.web", "", 200).await?;
    assert_eq!(one, all["80.tcp.default.web"]);
    Ok(())
}

#[tokio::test]
async fn connections_are_kept_and_calls_come_one_after_the_other_on_them() -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let plus = started().await?;
    let mut stream = tokio::net::TcpStream::connect(plus.address()).await?;
    let mut buffer = [0; 4096];
    for _ in 0..3 {
        stream.write_all(b"GET /api/9/nginx HTTP/1.1\r\nHost: plus\r\n\r\n").await?;
        let length = stream.read(&mut buffer).await?;
        assert!(buffer[..length].starts_with(b"HTTP/1.1 200 OK"));
    }
    assert_eq!(plus.calls().len(), 3);
    Ok(())
}

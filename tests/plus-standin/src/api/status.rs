//! The live status, in the API's documents.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::{Peer, PeerState, State, Upstream, Zone};

pub(super) fn nginx(state: &State) -> Value {
    json!({
        "version": state.version,
        "build": state.build,
        "address": state.address,
        "generation": state.generation,
        "load_timestamp": timestamp(state.loaded),
        "timestamp": timestamp(SystemTime::now()),
        "pid": state.pid,
        "ppid": state.ppid,
    })
}

pub(super) fn upstreams(state: &State) -> Value {
    let with_zone = state.upstreams.iter().filter(|(_, upstream)| upstream.zone.is_some());
    Value::Object(with_zone.map(|(name, of)| (name.clone(), upstream(of))).collect())
}

pub(super) fn upstream(upstream: &Upstream) -> Value {
    let none = Peer::default();
    let peers: Vec<Value> = upstream
        .servers
        .iter()
        .map(|server| {
            let peer = upstream.peers.get(&server.id).unwrap_or(&none);
            let state = if server.down { PeerState::Down } else { peer.state };
            let checks = json!({"checks": peer.checks, "fails": peer.checks_failed, "unhealthy": 0});
            let mut document = json!({
                "id": server.id, "server": server.server, "name": server.server, "backup": server.backup,
                "weight": server.weight, "state": state, "active": peer.active, "connections": peer.connections,
                "sent": peer.sent, "received": peer.received, "fails": peer.fails, "unavail": peer.unavail,
                "health_checks": checks, "downtime": 0,
            });
            if server.max_conns > 0 {
                document["max_conns"] = json!(server.max_conns);
            }
            document
        })
        .collect();
    json!({"peers": peers, "zombies": 0, "zone": upstream.zone})
}

pub(super) fn zones(state: &State) -> Value {
    Value::Object(state.zones.iter().map(|(name, of)| (name.clone(), zone(of))).collect::<Map<_, _>>())
}

pub(super) fn zone(zone: &Zone) -> Value {
    let [good, client, server] = zone.sessions;
    json!({
        "processing": zone.processing, "connections": zone.connections,
        "sessions": {"2xx": good, "4xx": client, "5xx": server, "total": good + client + server},
        "discarded": zone.discarded, "received": zone.received, "sent": zone.sent,
    })
}

/// ISO 8601 with milliseconds, in UTC.
fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// The civil date of a day since 1970, counted in years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (month_of_year, day) = (if month < 10 { month + 3 } else { month - 9 }, day - (153 * month + 2) / 5 + 1);
    (year + era * 400 + u64::from(month_of_year <= 2), month_of_year, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_dates() {
        let at = |seconds: u64, millis: u32| UNIX_EPOCH + std::time::Duration::new(seconds, millis * 1_000_000);
        assert_eq!(timestamp(at(0, 0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(at(951_782_400, 5)), "2000-02-29T00:00:00.005Z");
        assert_eq!(timestamp(at(1_709_251_199, 999)), "2024-02-29T23:59:59.999Z");
    }
}

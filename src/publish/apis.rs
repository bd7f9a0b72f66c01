//! Metrics of the APIs through which servers are changed: how each stands, and how its servers are.

use lbex_core::backend::ApiStanding;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::metrics::signed;

type Gauges<const N: usize> = Family<[(&'static str, String); N], Gauge>;
type Counters<const N: usize> = Family<[(&'static str, String); N], Counter>;

/// Each by the API's URL.
#[derive(Debug, Default)]
pub(super) struct ApiMetrics {
    up: Gauges<1>,
    upstreams: Gauges<2>,
    servers: Gauges<2>,
    connections: Gauges<1>,
    removed: Gauges<1>,
    drift: Counters<1>,
    calls: Counters<2>,
}

impl ApiMetrics {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register("lbex_api_up", "1 while the API of a proxy answers and takes changes, else 0", self.up.clone());
        let help = "Upstreams that are kept in step through an API, by how they stand";
        r.register("lbex_api_upstreams", help, self.upstreams.clone());
        let help = "Servers of those upstreams, by the proxy's word for their state";
        r.register("lbex_api_servers", help, self.servers.clone());
        let help = "Connections that those servers have";
        r.register("lbex_api_connections", help, self.connections.clone());
        let help = "Servers that were removed from those upstreams and have connections still";
        r.register("lbex_api_removed_servers", help, self.removed.clone());
        let help = "Upstreams put right that somebody else, or a restart of the proxy, had changed";
        r.register("lbex_api_drift", help, self.drift.clone());
        let help = "Calls that changed a server, and calls that failed";
        r.register("lbex_api_calls", help, self.calls.clone());
    }

    /// How they stand now.
    pub(super) fn observed(&self, apis: &[ApiStanding]) {
        for api in apis {
            let url = || ("url", api.url.clone());
            let with = |name, value: &str| [url(), (name, value.to_owned())];
            self.up.get_or_create(&[url()]).set(api.answers.into());
            let upstreams =
                [("in_step", api.in_step), ("behind", api.behind), ("missing", api.missing), ("refused", api.refused)];
            for (state, count) in upstreams {
                self.upstreams.get_or_create(&with("state", state)).set(signed(count));
            }
            for (state, count) in &api.servers {
                self.servers.get_or_create(&with("state", state)).set(signed(*count));
            }
            self.connections.get_or_create(&[url()]).set(signed(api.active));
            self.removed.get_or_create(&[url()]).set(signed(api.removed_busy));
            raise(&self.drift.get_or_create(&[url()]), api.drift);
            raise(&self.calls.get_or_create(&with("result", "changed")), api.changes);
            raise(&self.calls.get_or_create(&with("result", "failed")), api.failures);
        }
    }
}

/// Counts up to `now`.
fn raise(counter: &Counter, now: u64) {
    counter.inc_by(now.saturating_sub(counter.get()));
}

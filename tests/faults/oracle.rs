//! What should be served: the plan from scratch of what was written, by the planner's oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use lbex::source::manifests::load;
use lbex_core::desired::Servers;
use lbex_core::model::Protocol;
use lbex_core::oracle;
use lbex_core::planner::Rules;
use lbex_core::selector::{All, InPool};
use lbex_core::settings::PlanSettings;
use lbex_core::snapshot::Snapshot;
use lbex_test_harness::Scratch;
use serde_json::{Value, json};

/// The servers of each listener.
pub(crate) type Plan = BTreeMap<(Protocol, u16), BTreeSet<SocketAddr>>;

/// Plans the cluster that these objects are, for an LBEX without flags that planning depends on.
pub(crate) fn plan(objects: &[Value]) -> Result<Plan> {
    let scratch = Scratch::new("oracle")?;
    let file = scratch.join("all.json");
    std::fs::write(&file, json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
    let loaded = load(&[file], &[]);
    ensure!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    let mut cluster = Snapshot::default();
    for change in loaded.into_changes() {
        cluster.apply(change);
    }
    let selector = Box::new(All(vec![Box::new(InPool(None))]));
    let rules = Rules { settings: PlanSettings::default(), selector, resolvers: lbex_upstream::standard() };
    let plan = oracle::plan(&rules, &cluster);
    let listeners = plan.services.values().flat_map(|service| &service.listeners);
    Ok(listeners
        .map(|listener| {
            let servers = match &listener.upstream.servers {
                Servers::Addresses(addresses) => addresses.iter().copied().collect(),
                Servers::Dns { .. } => BTreeSet::new(),
            };
            ((listener.protocol, listener.port), servers)
        })
        .collect())
}

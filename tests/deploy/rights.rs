//! What roles allow, however their rules are grouped.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use lbex_test_harness::apiserver::ApiServer;

/// What a ClusterRole of a server allows: a line for each group, resource, name and verb.
pub(crate) async fn of(server: &ApiServer, role: &str) -> Result<BTreeSet<String>> {
    let rules = server.kubectl(&["get", "clusterrole", role, "-o", "jsonpath={.rules}"], "").await?;
    let rules: Vec<BTreeMap<String, Vec<String>>> =
        serde_json::from_str(&rules).context("rules are no lists of texts")?;
    let mut all = BTreeSet::new();
    for rule in rules {
        let list = |key: &str| rule.get(key).cloned().unwrap_or_else(|| vec!["*".to_owned()]);
        for group in list("apiGroups") {
            for resource in list("resources") {
                for name in list("resourceNames") {
                    all.extend(list("verbs").iter().map(|verb| format!("{verb} {resource} of {group:?}, name {name}")));
                }
            }
        }
    }
    Ok(all)
}

/// The role that `examples/kubernetes/rbac.yaml` makes: the one that LBEX's own tests hold to what LBEX does.
pub(crate) async fn of_the_example(server: &ApiServer) -> Result<BTreeSet<String>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/kubernetes/rbac.yaml");
    server.kubectl(&["apply", "-f", "-"], &std::fs::read_to_string(path)?).await?;
    let rights = of(server, "lbex").await?;
    anyhow::ensure!(rights.len() > 10, "only {rights:?}");
    Ok(rights)
}

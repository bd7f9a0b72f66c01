//! The plan from scratch: as plain as can be, over the whole cluster. `lbex validate` and `lbex render` would get the same from the
//! planner; this is what the planner is compared with (design invariant 2).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::desired::ServiceConfig;
use crate::names::ServiceKey;
use crate::ports::{Claim, PortKey};
use crate::rejection::Rejection;
use crate::service::{Candidate, Rules, Standing, assemble, evaluate, is_own};
use crate::snapshot::Snapshot;

/// What the whole cluster comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Services with at least one listener.
    pub services: BTreeMap<ServiceKey, Arc<ServiceConfig>>,
    /// Services with at least one rejection.
    pub rejections: BTreeMap<ServiceKey, Arc<[Rejection]>>,
}

/// Plans the whole cluster.
pub fn plan(rules: &Rules, cluster: &Snapshot) -> Plan {
    let evaluations: Vec<_> = cluster.services().map(|s| (&s.key, evaluate(rules, cluster, s))).collect();
    let mut lines: BTreeMap<PortKey, Vec<Claim>> = BTreeMap::new();
    for (key, evaluation) in &evaluations {
        for c in &evaluation.candidates {
            let claim = Claim::new(evaluation.created, key, c.index);
            lines.entry((c.listener.protocol, c.listener.port)).or_default().push(claim);
        }
    }
    lines.values_mut().for_each(|line| line.sort());

    let mut plan = Plan::default();
    for (key, evaluation) in &evaluations {
        let standing = |c: &Candidate| {
            let line = &lines[&(c.listener.protocol, c.listener.port)];
            match line.iter().position(|claim| *claim == Claim::new(evaluation.created, key, c.index)) {
                Some(0) => Standing::Holds { next: line.get(1).map(|claim| claim.service.clone()) },
                _ => Standing::Waits { holder: line[0].service.clone() },
            }
        };
        let is_own = is_own(&rules.settings, |port| lines.contains_key(&port));
        let (config, rejections) = assemble(key, evaluation, standing, is_own);
        if let Some(config) = config {
            plan.services.insert((*key).clone(), Arc::new(config));
        }
        if !rejections.is_empty() {
            plan.rejections.insert((*key).clone(), rejections.into());
        }
    }
    plan
}

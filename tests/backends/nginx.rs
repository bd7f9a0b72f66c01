//! `--backend nginx`, with the NGINX that LBEX carries and with the machine's.

use anyhow::Result;
use lbex_conformance::{Feature, Subject, Ways, conformance};
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::nginx::Nginx;

struct OpenSource(Nginx);

impl Subject for OpenSource {
    fn lbex(&self) -> Result<Builder> {
        Ok(Lbex::builder(super::binary()).arg("--backend=nginx").nginx(self.0))
    }

    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        // Both are older than 1.31.
        (feature == Feature::LeastTime).then_some("least_time")
    }

    fn ways(&self) -> Ways {
        // The machine's is older than 1.27.3, and takes endpoints by reload.
        Ways { listeners_by_reload: true, endpoints_by_reload: self.0 == Nginx::System, old_workers_drain: true }
    }

    fn serving(&self, lbex: &Lbex) -> Vec<u32> {
        lbex.serving_nginx_pids()
    }
}

conformance!(embedded, OpenSource(Nginx::Embedded));
conformance!(system, OpenSource(Nginx::System));

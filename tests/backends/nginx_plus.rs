//! `--backend nginx-plus`, with the stand-in for NGINX Plus, which lets an open-source NGINX carry the traffic.

use anyhow::Result;
use lbex_conformance::{Subject, Ways, conformance};
use lbex_test_harness::lbex::{Builder, Lbex};

struct NginxPlus;

impl Subject for NginxPlus {
    fn lbex(&self) -> Result<Builder> {
        let program = lbex_plus_standin::nginx::program()?;
        let flags = ["--backend=nginx-plus".to_owned(), format!("--nginx={}", program.display())];
        Ok(Lbex::builder(super::binary()).args(flags))
    }

    fn ways(&self) -> Ways {
        // The stand-in's open-source NGINX is reloaded where LBEX cannot see it.
        Ways { listeners_by_reload: true, endpoints_by_reload: false, old_workers_drain: false }
    }

    fn serving(&self, lbex: &Lbex) -> Vec<u32> {
        lbex.nginx_pid().into_iter().collect()
    }
}

conformance!(standin, NginxPlus);

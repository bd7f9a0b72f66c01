//! What every backend of LBEX must do with real traffic: one suite, for each of them.
//!
//! A backend becomes a subject with one file in `tests/backends`: how LBEX is started with it, what it lacks, and how it makes its
//! changes ([`Subject`]); [`conformance!`] makes the tests. LBEX follows a folder of manifests, clients and servers are real, and everything
//! is seen from outside: who answers, what the log and the metrics say.
//!
//! **What a backend lacks is tested too**: then LBEX must say so about a Service that asks for it, in the words that the subject names.
//! The contract has no PROXY protocol to servers, so neither has the suite.
//!
//! | module | shows |
//! | --- | --- |
//! | [`traffic`] | TCP and UDP reach their endpoints, IPv4, IPv6 and both; listen addresses; datagrams of every size |
//! | [`endpoints`] | endpoints come and go, to none and back, on ports of their own |
//! | [`changes`] | connections stay while Services come, move and go and while their own endpoint goes; no client is lost |
//! | [`spread`] | round robin, least connections, least time, `sessionAffinity: ClientIP`, UDP sessions |
//! | [`access`] | source ranges; ports that another process holds |
//! | [`failing`] | endpoints that are dead or mute, connections that are silent |
//! | [`restart`] | LBEX ends in three ways and comes back, traffic stays |

pub mod access;
pub mod changes;
pub mod endpoints;
pub mod failing;
pub mod restart;
pub mod spread;
pub mod traffic;

mod common;

use anyhow::Result;
use lbex_test_harness::lbex::{Builder, Lbex};
use lbex_test_harness::netns::Netns;

/// What a Service may ask of a backend, and a backend may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// UDP listeners.
    Udp,
    /// The algorithm `least_conn`.
    LeastConn,
    /// The algorithm `least_time`.
    LeastTime,
    /// `sessionAffinity: ClientIP`.
    ClientIp,
    /// A client whose endpoint does not take the connection gets another one, and a dead endpoint is left out for a time.
    Retries,
    /// `connect-timeout` and `idle-timeout`.
    Timeouts,
    /// Clients of one address family reach servers that have addresses of the other only. Where that is lacking, they are refused.
    OtherFamily,
}

/// How a backend makes its changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// A listener that comes, goes or moves is a reload (`lbex_reloads_total`).
    pub listeners_by_reload: bool,
    /// Endpoints that come and go are a reload.
    pub endpoints_by_reload: bool,
    /// A reload leaves processes that finish their connections, and `lbex_draining_workers` counts them.
    pub old_workers_drain: bool,
}

/// A backend under test.
pub trait Subject: Send + Sync {
    /// An LBEX with this backend, not yet started and without manifests.
    fn lbex(&self) -> Result<Builder>;

    /// `None`: it has this. `Some(words)`: it lacks it, and LBEX logs these words about a Service that asks for it.
    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        let _ = feature;
        None
    }

    /// How it makes its changes.
    fn ways(&self) -> Ways;

    /// Clients of a Service without endpoints are refused, as where nobody listens: TCP at once, UDP by ICMP. Else TCP clients are accepted
    /// and closed at once, and UDP is silent.
    fn refuses(&self) -> bool {
        false
    }

    /// Each test is run in a network namespace of its own: the backend changes the namespace that LBEX runs in. This needs root.
    fn apart(&self) -> bool {
        false
    }

    /// The processes that serve new clients: the same ones before and after a restart of LBEX. Empty: there are none.
    fn serving(&self, lbex: &Lbex) -> Vec<u32> {
        let _ = lbex;
        Vec::new()
    }
}

/// Runs one test of a subject, where it is to be run.
pub async fn run<T: Future<Output = Result<()>>>(subject: &dyn Subject, test: impl FnOnce() -> T + Send) -> Result<()> {
    if subject.apart() { Netns::new()?.run(test)? } else { test().await }
}

/// Makes the tests of one subject, in a module of that name; the expression gives an `impl Subject`.
///
/// ```text
/// lbex_conformance::conformance!(embedded, Nginx(nginx::Nginx::Embedded));
/// ```
#[macro_export]
macro_rules! conformance {
    ($name:ident, $subject:expr) => {
        mod $name {
            use super::*;
            $crate::tests! { $subject;
                traffic: families, listen_address, datagram_sizes;
                endpoints: none_three_none_one, on_ports_of_their_own;
                changes: connections_stay, no_client_is_lost, udp_clients_leave_a_removed_endpoint;
                spread: round_robin, least_busy, client_ip;
                access: source_ranges, held_by_another;
                failing: one_of_two_is_dead, the_only_one_comes_back, connect_timeout, idle_timeout;
                restart: without_a_trace;
            }
        }
    };
}

/// Part of [`conformance!`].
#[doc(hidden)]
#[macro_export]
macro_rules! tests {
    ($subject:expr; $($module:ident: $($test:ident),+;)+) => {$(
        mod $module {
            use super::*;
            $crate::test! { $subject; $module; $($test),+ }
        }
    )+};
}

/// Part of [`conformance!`].
#[doc(hidden)]
#[macro_export]
macro_rules! test {
    ($subject:expr; $module:ident; $($test:ident),+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() -> ::anyhow::Result<()> {
            let subject = $subject;
            $crate::run(&subject, || $crate::$module::$test(&subject)).await
        }
    )+};
}

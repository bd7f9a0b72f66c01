//! The faults, by name. To add one: a line in the table below, and a [`Fault`] in one of the modules.

mod api;
mod host;
mod lbex;
mod lists;
mod nginx;
mod objects;
mod prefix;

use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;

use crate::excuses::{Excuses, On};
use crate::world::World;

/// Something bad. Injected once, then healed once.
#[async_trait]
pub(crate) trait Fault: Send + Sync {
    /// Makes it happen.
    async fn inject(&mut self, world: &World) -> Result<()>;

    /// Ends it. What happened once needs no end.
    async fn heal(&mut self, _world: &World) -> Result<()> {
        Ok(())
    }
}

/// In which world a fault can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Any,
    /// One with a real API server.
    Real,
    /// One with a scripted API server.
    Scripted,
    /// One with a scripted API server whose LBEX is an ordinary user's.
    User,
}

/// A fault in the table.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) on: On,
    /// What it explains, from its beginning until all are served again.
    pub(crate) excuses: Excuses,
    /// What LBEX logs when it happens alone. docs/operations.md has the same words.
    pub(crate) says: &'static [&'static str],
    pub(crate) make: fn() -> Box<dyn Fault>,
}

/// The contract's two seconds until NGINX serves again, and more for a machine that is busy with other tests.
pub(crate) const AGAIN: Duration = Duration::from_secs(8);

macro_rules! faults {
    ($($name:ident: $needs:ident, $on:ident, $excuses:ident => $fault:expr, says $says:expr;)+) => {
        /// All of them.
        pub(crate) const ALL: &[Entry] = &[$(Entry {
            name: stringify!($name),
            needs: Needs::$needs,
            on: On::$on,
            excuses: Excuses::$excuses,
            says: &$says,
            make: || Box::new($fault),
        }),+];

        /// Each fault by itself.
        mod alone {
            $(#[test]
            fn $name() -> anyhow::Result<()> {
                crate::alone::happens(stringify!($name))
            })+
        }
    };
}

faults! {
    api_server_killed: Real, Api, NOTHING => api::Killed, says ["what was last known of them stays in effect, trying again"];
    api_server_stopped: Real, Api, NOTHING => api::Stopped, says [];
    api_history_gone: Real, Api, NOTHING => api::HistoryGone, says ["what was last known of them stays in effect, trying again"];
    api_link_cut: Any, Api, NOTHING => api::Cut, says ["what was last known of them stays in effect, trying again"];
    list_empty: Scripted, Api, NOTHING => lists::Lie::Empty, says ["a complete list lacks"];
    list_lacks_most: Scripted, Api, NOTHING => lists::Lie::LacksMost, says ["a complete list lacks"];
    another_cluster: Scripted, Api, NOTHING => lists::AnotherCluster, says ["another cluster answers"];
    older_backup: Scripted, Api, NOTHING => lists::OlderBackup, says ["it was restored from a backup; listing anew"];

    lbex_killed: Any, Lbex, NOTHING => lbex::Killed, says [];
    lbex_terminated: Any, Lbex, NOTHING => lbex::Terminated, says ["the proxy goes on serving"];
    lbex_stopped: Any, Lbex, NOTHING => lbex::Stopped, says [];
    lbex_killed_again_and_again: Any, Lbex, NOTHING => lbex::KilledAgainAndAgain, says [];
    lbex_opens_no_files: Any, Lbex, NOTHING => host::NoFiles, says [];
    host_rebooted: Any, Lbex, EVERYTHING => lbex::Rebooted, says ["NGINX started"];

    nginx_master_killed: Any, Nginx, NEW => nginx::MasterKilled, says ["cleaned up after an NGINX that was killed", "NGINX started"];
    nginx_worker_killed: Any, Nginx, CUTS => nginx::WorkerKilled, says [];
    nginx_workers_killed: Any, Nginx, EVERYTHING => nginx::WorkersKilled, says [];
    nginx_group_killed: Any, Nginx, EVERYTHING => nginx::GroupKilled, says ["cleaned up after an NGINX that was killed", "NGINX started"];
    nginx_worker_stopped: Any, Nginx, SILENCE => nginx::WorkerStopped, says ["are stopped: their share of traffic is lost"];
    nginx_reloaded_by_hand: Any, Nginx, NOTHING => nginx::ReloadedByHand, says [];

    disk_full: Any, Prefix, NOTHING => prefix::Full, says ["the configuration could not be applied"];
    disk_read_only: Any, Prefix, NOTHING => prefix::ReadOnly, says ["the configuration could not be applied"];
    prefix_permissions: User, Prefix, NOTHING => prefix::Permissions, says [];
    prefix_deleted: Any, Prefix, NOTHING => prefix::Deleted, says ["while LBEX used it; it is written again"];
    prefix_run_deleted: Any, Prefix, NOTHING => prefix::RunDeleted, says ["the socket on which NGINX is asked what it serves was removed"];
    prefix_services_deleted: Any, Prefix, NOTHING => prefix::ServicesDeleted, says ["files of Services in the prefix were removed or damaged; they are written again"];
    last_good_damaged: Any, Prefix, NOTHING => prefix::LastGoodRemoved, says ["was gone; it is written again"];

    port_taken: Any, Objects, NOTHING => host::PortTaken::default(), says ["reason=PortInUse"];
    endpoints_flap: Any, Objects, NOTHING => objects::Flap, says [];
    nodes_flap: Any, Objects, NOTHING => objects::NodesFlap, says [];
    services_storm: Any, Objects, NOTHING => objects::Storm, says [];
    hot_service: Any, Objects, NOTHING => objects::Hot, says [];
    annotation_edited_back_and_forth: Any, Objects, NOTHING => objects::BackAndForth, says [];
}

//! The deterministic simulation of the whole loop: a simulated API server, the source's gatherer, the planner, the engine with its
//! driver, watchdog and keeper of the last good state, and a simulated backend whose data plane is modelled. No processes, no files, no
//! network; time is virtual, and everything that happens by chance is drawn from the schedule's seed.
//!
//! ```text
//! cluster -> follow (lists, watches, what breaks them, lies) -> Gatherer -> tap -> Engine -> Between -> SimBackend -> proxy
//!                                                                            |  Hold          |           |          |
//!                                                           belief + eye: what holds after every step, and in the end
//! ```
//!
//! `script` draws what happens; LBEX itself is killed and started again within a schedule: each life has a tokio runtime of its own,
//! while cluster, proxy and disk live on. `LBEX_SIM_SEED=n cargo test --lib simulation` replays a schedule with everything that
//! happens in it.

mod backend;
mod belief;
mod broken;
mod cluster;
mod disk;
mod eye;
mod follow;
mod life;
mod objects;
mod proxy;
mod run;
mod script;
mod state;
#[cfg(test)]
mod tests;

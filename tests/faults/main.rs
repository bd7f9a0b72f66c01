//! Faults: LBEX, an API server, NGINX, servers and clients, and the worst that can happen to them, alone and several at a time.
//!
//! | module | holds |
//! | --- | --- |
//! | [`world`] | everything that runs, inside a network namespace and on a disk of its own |
//! | [`cluster`] | the API server, real or scripted, and a model of what was written to it |
//! | [`services`] | the Services and their servers |
//! | [`traffic`] | clients, each of whose connections is counted |
//! | [`faults`] | the faults, by name: a table to which anyone can add a line |
//! | [`excuses`] | what a fault explains, and when it was there |
//! | [`schedule`] | which faults and changes happen when |
//! | [`oracle`], [`settle`] | what should be served in the end, and that it is |
//! | [`verdict`] | a schedule from start to end |
//! | [`alone`], [`random`], [`soak`] | the tests |
//!
//! `LBEX_FAULT_SEED=N` replays a random schedule, `LBEX_FAULT_SEEDS=200` runs that many; a failure prints both the seed and the schedule.
//! Clocks are not touched: a network namespace shares the host's, and what LBEX measures is monotonic.

mod alone;
mod cluster;
mod disk;
mod excuses;
mod faults;
mod oracle;
mod random;
mod schedule;
mod services;
mod settle;
mod soak;
mod traffic;
mod verdict;
mod world;

//! The Linux kernel as a data plane of LBEX, by nftables. `docs/nftables.md` says what it does, what it cannot do, and its settings.
//!
//! | module | holds |
//! | --- | --- |
//! | [`config`] | the file of `--backend-config` |
//! | [`plan`] | what each listener becomes, in each address family, and why not; pure |
//! | [`render`] | that as objects of nftables, for `nft -j`; pure |
//! | [`spread`] | which server a client's address goes to; pure |
//! | [`change`] | from what is there to what should be, in one transaction; pure |
//! | [`nft`] | running `nft` |
//! | [`netlink`] | the kernel's netfilter without `nft` |
//! | [`seen`] | what the table holds, as a fingerprint |
//! | [`flows`] | the connections that the kernel keeps |
//! | [`host`] | this host's addresses and settings |
//! | [`saved`] | what the table holds, on disk |
//! | [`backend`] | all of it together |
//!
//! **Who knows what is in the table.** A transaction of `nft` is done whole or not at all, so LBEX knows what it has put there. The
//! kernel counts transactions, whoever makes them: while that number is the one that LBEX's own left, nobody has changed anything. Where it
//! is another, the table is read, and its fingerprint compared. A table that LBEX does not know, or no longer, is replaced whole,
//! in one transaction; connections that exist are no part of it.

pub mod backend;
pub mod change;
pub mod config;
pub mod flows;
pub mod host;
pub mod netlink;
pub mod nft;
pub mod plan;
pub mod render;
pub mod saved;
pub mod seen;
pub mod spread;

mod kernel;
mod ports;
mod words;

lbex_plugin_sdk::plugin!(backend::Nftables);

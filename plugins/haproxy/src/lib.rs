//! HAProxy as a data plane of LBEX, for TCP. `docs/haproxy.md` says what it does, what it cannot do, and its settings.
//!
//! | module | holds |
//! | --- | --- |
//! | [`config`] | the file of `--backend-config` |
//! | [`render`] | desired state to text; pure |
//! | [`servers`] | what HAProxy says of its servers, and the commands that change them; pure |
//! | [`isolate`] | which Services HAProxy's check refuses; pure |
//! | [`control`] | HAProxy's two command sockets |
//! | [`process`] | checking, starting, reloading, ending |
//! | [`ports`] | whether a port can be bound, and who has it |
//! | [`backend`] | all of it together |
//!
//! **Layout and servers.** What needs a reload (listeners and their options) is the layout; its hash is HAProxy's `description`, by which a
//! running HAProxy says what it serves. Servers are no part of it: they are compared with what runs and changed by commands, also
//! after a reload. So a changed endpoint never reloads, and an HAProxy that somebody reloaded by hand is put right.

pub mod backend;
pub mod config;
pub mod control;
pub mod isolate;
pub mod ports;
pub mod process;
pub mod render;
pub mod servers;

mod drains;
mod plan;

lbex_plugin_sdk::plugin!(backend::HaProxy);

//! A stand-in for NGINX Plus's REST API.
//!
//! **NGINX Plus is commercial and cannot be had where LBEX's tests run.** So what LBEX does to it is shown against this: a server
//! that has the API's documents, states and errors as far as they are publicly documented (`ngx_http_api_module`). What the real one does
//! beyond that is not shown by any test here. `tests/standin` goes through the documented calls one by one.
//!
//! | module | holds |
//! | --- | --- |
//! | [`api`] | pure: from a request and a state to an answer and the next state |
//! | [`StandIn`] | that over HTTP, on a port of the loopback address or a UNIX socket, with or without TLS and credentials |
//! | [`Rule`], [`Fault`] | what goes wrong, and when |
//! | [`Call`] | what was asked, for assertions |
//! | [`traffic`] | an open-source NGINX that carries traffic to the servers that are up, so that a connection proves a call |
//!
//! What the stand-in leaves out: health checks, slow start, servers by domain name, and counters (live numbers are those that a test
//! sets with [`StandIn::change`]).

pub mod api;
pub mod nginx;
pub mod traffic;

mod access;
mod calls;
mod control;
mod faults;
mod serve;
mod shared;
mod standin;

pub use access::Credentials;
pub use calls::Call;
pub use control::{Control, ToldCall};
pub use faults::{Fault, Rule};
pub use standin::{Builder, StandIn};

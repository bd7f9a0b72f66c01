//! LBEX from outside, fed by manifest files: real packets through a real NGINX, and no API server.
//!
//! Each test of traffic runs on the embedded NGINX and on the machine's.

mod capacity;
mod commands;
mod hostile;
mod life;
mod pushed;
mod readme;
mod support;
mod traffic;

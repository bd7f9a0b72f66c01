//! LBEX's NGINX Plus backend against a stand-in for NGINX Plus.

mod client;
mod faults;
mod local;
mod remote;
mod support;

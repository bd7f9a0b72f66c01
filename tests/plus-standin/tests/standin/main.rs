//! The stand-in against what is publicly documented of the API, call by call; then what it adds: faults, a log, traffic.

mod access;
mod client;
mod documented;
mod errors;
mod faults;
mod nginx;
mod traffic;

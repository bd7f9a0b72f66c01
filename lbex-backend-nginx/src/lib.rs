//! LBEX's open-source NGINX backend.

pub mod binary;
pub mod confirm;
pub mod embedded;
pub mod prefix;
pub mod probe;
pub mod process;

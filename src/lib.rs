//! LBEX.

pub mod admin;
pub mod publish;

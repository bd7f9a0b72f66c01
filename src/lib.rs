//! LBEX.

pub mod admin;
pub mod cli;
pub mod logging;
pub mod publish;
pub mod settings;
pub mod source;

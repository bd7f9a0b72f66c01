//! LBEX.

pub mod cli;
pub mod logging;
pub mod settings;
pub mod source;

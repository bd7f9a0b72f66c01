//! LBEX.
pub mod source;

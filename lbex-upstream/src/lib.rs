//! LBEX.

//! LBEX.
fn main() {}

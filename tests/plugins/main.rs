//! Backends that are shared libraries: through LBEX's front door, and what becomes of those that do wrong.

mod check;
mod faults;
mod front_door;
mod frozen;
mod guide;
mod load;
mod support;
mod versions;

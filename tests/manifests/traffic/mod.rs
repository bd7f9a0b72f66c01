//! What LBEX makes of every kind of Service, seen in packets, on both NGINX builds. What a backend must do with traffic, whichever
//! it is, is in the conformance suite.

mod conflicts;
mod endpoints;
mod external_name;
mod nodes;

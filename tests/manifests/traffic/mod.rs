//! Packets through every kind of Service, on both NGINX builds.

mod algorithms;
mod changes;
mod conflicts;
mod endpoints;
mod external_name;
mod failing;
mod nodes;
mod protocols;
mod source_ranges;

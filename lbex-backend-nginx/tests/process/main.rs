//! The processes of NGINX, on real NGINX: the embedded one and the system's.

mod lifecycle;
mod support;
mod upgrade;

//! What LBEX's changes to NGINX do, each test with the NGINX that this crate carries. A test that is named in a patch's
//! file fails without it: `LBEX_NGINX_WITHOUT=NAME cargo test -p lbex-embedded-nginx --test changes`.

mod backends;
mod dns;
mod finish;
mod hash;
mod logs;
mod nginx;
mod patches;
mod push;
mod reload;
mod retry;
mod udp;

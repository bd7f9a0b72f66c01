//! How LBEX lives: starts, ends, comes back; shares a host; follows files; runs as any user.

mod ending;
mod files;
mod killed;
mod neighbours;
mod observed;
mod proxy;
mod reboot;
mod users;

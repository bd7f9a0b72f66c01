//! What started LBEX and starts it again: systemd, or whoever speaks its protocol (`sd_notify(3)`, `sd_listen_fds(3)`). Without its
//! variables nothing here does anything.

mod notifier;
mod sockets;

pub(crate) use notifier::Notifier;
pub use sockets::KeptSockets;

/// The supervisor's variables, which are for LBEX alone: programs that it runs must not get them.
pub(crate) const VARIABLES: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// Whether it wants to hear of LBEX.
fn listens() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|socket| !socket.is_empty())
}

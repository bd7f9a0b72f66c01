//! The right to bind ports below 1024, without root.

use std::io;

use rustix::thread::{CapabilitySet, capabilities, configure_capability_in_ambient_set, set_capabilities};

/// Hands `CAP_NET_BIND_SERVICE`, where LBEX has it without being root, down to the programs that it starts: a container runtime, or a
/// capability on the file, gives it to LBEX alone, and it is NGINX that binds. Root's programs have it anyway.
///
/// Capabilities are a thread's own: to be called before there are others.
pub(super) fn hand_down_port_right() -> io::Result<()> {
    const RIGHT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let mut sets = capabilities(None)?;
    if !sets.permitted.contains(RIGHT) {
        return Ok(());
    }
    sets.effective |= RIGHT;
    sets.inheritable |= RIGHT;
    set_capabilities(None, sets)?;
    Ok(configure_capability_in_ambient_set(RIGHT, true)?)
}

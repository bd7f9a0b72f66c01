//! Which user NGINX's workers run as.

use nix::unistd::{Group, User, geteuid};

/// Users that packages and distributions make for daemons, the most fitting first. A worker needs no rights: sockets are
/// handed down by the master.
const CANDIDATES: [&str; 4] = ["lbex", "nginx", "www-data", "nobody"];

/// The value of the directive `user`: the first of a few usual users that this host has, and its group. `None` where LBEX is
/// not root (workers are the same user then), or where the host has none of them (NGINX then uses what it was built with).
pub fn worker_user() -> Option<String> {
    if !geteuid().is_root() {
        return None;
    }
    CANDIDATES.iter().find_map(|name| {
        let user = User::from_name(name).ok().flatten().filter(|user| !user.uid.is_root())?;
        let group = Group::from_gid(user.gid).ok().flatten()?;
        // A name from the system's database; still, nothing odd may reach the configuration.
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        group.name.chars().all(plain).then(|| format!("{name} {}", group.name))
    })
}

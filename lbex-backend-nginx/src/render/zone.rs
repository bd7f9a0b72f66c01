//! The size of the shared memory that upstreams live in.

/// What one upstream takes at the most, in bytes. Measured: 230 (1.28.3) to 260 (Debian's 1.22.1).
const UPSTREAM: u64 = 512;

/// What one server takes at the most, in bytes. Measured: 545 to 590 for IPv4 and IPv6 (1.28.3), 790 to 850 (Debian's 1.22.1).
const SERVER: u64 = 1024;

/// What the zone needs for itself, and the smallest size, in bytes.
const SMALLEST: u64 = 1 << 20;

/// The size of the zone that `upstreams` with `servers` in all share, in KiB: what they need, a quarter more, and up to the
/// next power of two, so that it changes seldom. Pages that nothing was put in take no memory.
pub fn zone_size(upstreams: u64, servers: u64) -> u64 {
    let needed = needed(upstreams, servers);
    (needed + needed / 4).max(SMALLEST).next_power_of_two() / 1024
}

fn needed(upstreams: u64, servers: u64) -> u64 {
    SMALLEST / 2 + upstreams * UPSTREAM + servers * SERVER
}

/// The zone where servers come without a reload: it has to have room for those that will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The zone's size, in KiB.
    pub kib: u64,
    upstreams: u64,
}

impl Room {
    /// The smallest size, in bytes: room for some 7,000 servers.
    const LEAST: u64 = 8 << 20;

    /// For `upstreams` with `servers` in all: the size that it has, as long as that is neither too small nor sixteen times too
    /// large, since another one is a reload; else twice what is needed, up to the next power of two.
    pub fn new(now: Option<u64>, upstreams: u64, servers: u64) -> Self {
        let needed = needed(upstreams, servers);
        let wanted = (2 * needed).max(Self::LEAST).next_power_of_two() / 1024;
        let stays = |kib: &u64| needed <= kib * 1024 && *kib <= 16 * wanted;
        Self { kib: now.filter(stays).unwrap_or(wanted), upstreams }
    }

    /// How many servers fit.
    pub fn servers(self) -> u64 {
        (self.kib * 1024).saturating_sub(needed(self.upstreams, 0)) / SERVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_in_powers_of_two_and_has_room_for_what_was_measured() {
        for (upstreams, servers, kib) in [
            (0, 0, 1024),
            (10, 100, 1024),
            (100, 400, 2048),
            (1000, 1000, 4096),
            (1000, 10_000, 16384),
            (5000, 50_000, 131_072),
        ] {
            assert_eq!(zone_size(upstreams, servers), kib, "{upstreams} upstreams, {servers} servers");
            assert!(kib * 1024 > upstreams * 260 + servers * 850);
        }
    }

    #[test]
    fn room_is_kept_until_it_is_too_small_or_far_too_large() {
        let room = Room::new(None, 10, 100);
        assert_eq!(room.kib, 8192);
        assert!(room.servers() > 7000 && room.servers() < 8192);
        assert_eq!(Room::new(Some(room.kib), 10, room.servers()).kib, 8192);
        let grown = Room::new(Some(room.kib), 10, room.servers() + 1).kib;
        assert_eq!(grown, 32_768, "twice what is needed, and a power of two");
        assert_eq!(Room::new(Some(grown), 10, 100).kib, grown, "shrinking is not worth a reload");
        assert_eq!(Room::new(Some(1 << 20), 10, 100).kib, 8192, "a gigabyte is");
    }
}

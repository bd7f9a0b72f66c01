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
    let needed = SMALLEST / 2 + upstreams * UPSTREAM + servers * SERVER;
    (needed + needed / 4).max(SMALLEST).next_power_of_two() / 1024
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
}

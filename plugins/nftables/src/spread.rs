//! Which server a client's address goes to. Pure.

use std::net::{IpAddr, SocketAddr};

/// The server of each slot, by index. nftables takes a client to a slot by a hash of its address; a slot goes to the server whose hash with
/// it is the largest. So a server that goes gives its slots to the others, and nobody else's client moves; and it is the same
/// on every host.
pub fn slots(servers: &[SocketAddr]) -> Vec<usize> {
    let weight = |slot: u32, index: &usize| {
        let server = servers[*index];
        (hash(slot, server), server)
    };
    (0..count(servers.len())).filter_map(|slot| (0..servers.len()).max_by_key(|index| weight(slot, index))).collect()
}

/// Enough slots that servers get about the same number. Where more servers make it another number, clients move.
fn count(servers: usize) -> u32 {
    match servers {
        0..=16 => 256,
        17..=128 => 2048,
        _ => 16384,
    }
}

/// 64-bit FNV-1a, and what makes its bits depend on each other (the end of MurmurHash3).
fn hash(slot: u32, server: SocketAddr) -> u64 {
    let address = match server.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let bytes = slot.to_be_bytes().into_iter().chain(address).chain(server.port().to_be_bytes());
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(count: u8) -> Vec<SocketAddr> {
        (1..=count).map(|n| SocketAddr::from(([10, 0, 0, n], 8080))).collect()
    }

    #[test]
    fn servers_have_about_the_same_number_of_slots() {
        for count in [2, 4, 16, 17, 128] {
            let (all, fair) = (slots(&servers(count)), slots(&servers(count)).len() / usize::from(count));
            for index in 0..usize::from(count) {
                let has = all.iter().filter(|slot| **slot == index).count();
                assert!(has > fair / 3 && has < fair * 2, "server {index} of {count}: {has} of {}", all.len());
            }
        }
    }

    #[test]
    fn a_server_that_goes_moves_its_own_clients_only() {
        let all = servers(5);
        let (before, left) = (slots(&all), [&all[..2], &all[3..]].concat());
        for (was, is) in before.iter().zip(slots(&left)) {
            assert!(*was == 2 || all[*was] == left[is]);
        }
    }

    #[test]
    fn the_order_of_servers_makes_no_difference() {
        let (one, mut other) = (servers(5), servers(5));
        other.reverse();
        let by_address = |all: &[SocketAddr]| slots(all).into_iter().map(|index| all[index]).collect::<Vec<_>>();
        assert_eq!(by_address(&one), by_address(&other));
    }
}

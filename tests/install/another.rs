//! A later LBEX, with another NGINX, without building one.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::support::{program, run};

/// This program with another NGINX in it, as a later LBEX has: the same, but for its version, in the bytes and in what the program
/// says of them. Written to `to`; the version.
pub(crate) fn with_another_nginx(to: &Path) -> Result<String> {
    let mut bytes = std::fs::read(program()?)?;
    let (from, until) = embedded(&bytes)?;
    let version = version(&bytes[from..until]).context("no version in the NGINX")?;
    let last = if version.ends_with('9') { '8' } else { '9' };
    let other = format!("{}{last}", &version[..version.len() - 1]);
    let before = hex(&Sha256::digest(&bytes[from..until]));
    ensure!(replace(&mut bytes, &version, &other) > 1, "the program does not say that it has {version}");
    let after = hex(&Sha256::digest(&bytes[from..until]));
    ensure!(replace(&mut bytes, &before, &after) > 0, "the program does not have the hash of its NGINX");
    std::fs::write(to, bytes)?;
    run(Command::new("chmod").arg("755").arg(to))?;
    Ok(other)
}

/// What an NGINX calls itself: `nginx/1.28.3`.
fn version(nginx: &[u8]) -> Option<String> {
    let name = b"nginx/";
    let at = nginx.windows(name.len() + 1).position(|w| w.starts_with(name) && w[name.len()].is_ascii_digit())?;
    let rest = &nginx[at..];
    let length = name.len() + rest[name.len()..].iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
    String::from_utf8(rest[..length].to_vec()).ok()
}

/// Where the NGINX lies in the program: the only ELF file in it, up to the end of its section headers.
fn embedded(program: &[u8]) -> Result<(usize, usize)> {
    let mut starts =
        program.windows(4).enumerate().skip(1).filter(|(_, window)| window == b"\x7fELF").map(|(at, _)| at);
    let end_of = |start: usize| {
        let number = |at: usize, size: usize| {
            let bytes = program.get(start + at..start + at + size)?;
            usize::try_from(bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))).ok()
        };
        // e_shoff, e_shentsize and e_shnum of an ELF file of 64 bits, little-endian.
        let end = start + number(0x28, 8)? + number(0x3a, 2)? * number(0x3c, 2)?;
        let is_nginx = program.get(start..end)?.windows(6).any(|window| window == b"nginx/");
        is_nginx.then_some((start, end))
    };
    starts.find_map(end_of).context("no NGINX in the program")
}

fn replace(bytes: &mut [u8], from: &str, to: &str) -> usize {
    assert_eq!(from.len(), to.len());
    let (mut count, mut at) = (0, 0);
    while let Some(found) = bytes[at..].windows(from.len()).position(|window| window == from.as_bytes()) {
        at += found;
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        count += 1;
    }
    count
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

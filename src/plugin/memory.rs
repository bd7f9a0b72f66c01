//! Reads what a plugin points to. The kernel does the copying, so that a pointer to nowhere is an error and no crash.
#![allow(unsafe_code)]

use std::ffi::c_char;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::fault::Fault;

/// What no page is smaller than: a read that does not cross a multiple of it is possible as a whole, or not at all.
const PAGE: usize = 4096;

/// `length` bytes at `address`.
pub(super) fn bytes(what: &'static str, address: usize, length: usize) -> Result<Vec<u8>, Fault> {
    let mut bytes = vec![0; length];
    match copy(address, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Err(Fault::Unreadable { what, address, length, reason: error.to_string() }),
    }
}

/// Whether `length` bytes seem to be at `address`: the first and the last can be read.
pub(super) fn is_there(address: usize, length: usize) -> bool {
    let last = length.checked_sub(1).and_then(|last| address.checked_add(last));
    last.is_some_and(|last| [address, last].into_iter().all(|address| bytes("a byte", address, 1).is_ok()))
}

fn copy(address: usize, bytes: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        let from = address.checked_add(done).ok_or(io::ErrorKind::UnexpectedEof)?;
        let remote = [RemoteIoVec { base: from, len: bytes.len() - done }];
        let read = process_vm_readv(Pid::this(), &mut [IoSliceMut::new(&mut bytes[done..])], &remote);
        done += match read {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            // A container may forbid the call; the file is another way to the same.
            Err(Errno::EPERM | Errno::ENOSYS) => {
                return File::open("/proc/self/mem")?.read_exact_at(&mut bytes[done..], from as u64);
            }
            Err(error) => return Err(error.into()),
        };
    }
    Ok(())
}

/// The text at `address` up to its zero, which has to come within `longest` bytes.
pub(super) fn text(what: &'static str, address: *const c_char, longest: usize) -> Result<Vec<u8>, Fault> {
    let mut text = Vec::new();
    let mut from = address as usize;
    while text.len() <= longest {
        let chunk = bytes(what, from, PAGE - from % PAGE)?;
        if let Some(end) = chunk.iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&chunk[..end]);
            if text.len() <= longest {
                return Ok(text);
            }
            break;
        }
        from += chunk.len();
        text.extend_from_slice(&chunk);
    }
    let reason = format!("it does not end within {longest} bytes");
    Err(Fault::Unreadable { what, address: address as usize, length: text.len(), reason })
}

/// The first `size` bytes of the table at `address`, as far as this LBEX knows it; the rest is zero.
///
/// # Safety
/// `T` is a table of integers, pointers and functions that may be absent: whatever its bytes are is a value of it, and zero is.
pub(super) unsafe fn table<T>(what: &'static str, address: *const T, size: usize) -> Result<T, Fault> {
    let read = bytes(what, address as usize, size.min(size_of::<T>()))?;
    let mut table = MaybeUninit::<T>::zeroed();
    // SAFETY: `read` is not longer than a `T`, and the caller promises that any bytes are one.
    unsafe {
        std::ptr::copy_nonoverlapping(read.as_ptr(), table.as_mut_ptr().cast(), read.len());
        Ok(table.assume_init())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_an_error() {
        let here = [7_u8; 100];
        assert_eq!(bytes("x", here.as_ptr() as usize, 100).unwrap(), here);
        assert!(is_there(here.as_ptr() as usize, 100) && !is_there(16, 100) && !is_there(here.as_ptr() as usize, 0));
        assert!(!is_there(here.as_ptr() as usize, usize::MAX));
        for (address, length) in [(0, 8), (16, 8), (usize::MAX - 3, 8), (here.as_ptr() as usize, 1 << 46)] {
            // So much is never asked for; what matters is that nothing is read beyond what is there.
            let length = length.min(1 << 30);
            let error = bytes("its reply", address, length).unwrap_err().to_string();
            assert!(error.starts_with("its reply (") && error.contains("cannot be read"), "{error}");
        }
    }

    #[test]
    fn a_text_ends_at_its_zero_or_is_refused() {
        let long = [b'a'; 10_000];
        let error = text("its name", long.as_ptr().cast(), 64).unwrap_err().to_string();
        assert!(error.contains("does not end within 64 bytes"), "{error}");
        assert_eq!(text("its name", c"ab".as_ptr(), 64).unwrap(), b"ab");
        assert!(text("its name", std::ptr::null(), 64).is_err());
    }

    #[test]
    fn a_table_of_an_older_version_is_read_as_far_as_it_goes() {
        let whole = [1_u64, 2, 3];
        // SAFETY: any bytes are an array of numbers.
        let read: [u64; 3] = unsafe { table("x", &raw const whole, 16) }.unwrap();
        assert_eq!(read, [1, 2, 0]);
        // SAFETY: as above.
        let read: [u64; 3] = unsafe { table("x", &raw const whole, 4096) }.unwrap();
        assert_eq!(read, whole);
    }
}

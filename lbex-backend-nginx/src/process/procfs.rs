//! Reads `/proc`: the one that is mounted or, where none is, one of this process's own. That one is mounted nowhere: nobody else
//! sees it, the root directory has nothing more in it, and it goes with this process. It takes `CAP_SYS_ADMIN` and Linux 5.2.
//!
//! Paths here are those below `/proc`, such as `1/stat`.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Dir, Mode, OFlags, openat, readlinkat};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

/// There is no `/proc` to read.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "/proc is not mounted here, and this process cannot have one of its own ({0}): NGINX's processes could not be looked at; mount \
     /proc, or run LBEX as root with CAP_SYS_ADMIN, which needs none mounted"
)]
pub struct NoProc(Errno);

static PROC: LazyLock<Result<OwnedFd, NoProc>> = LazyLock::new(|| match mounted() {
    Ok(folder) => Ok(folder),
    Err(error) => {
        let own = own().map_err(NoProc);
        if own.is_ok() {
            tracing::info!(
                "/proc is not mounted here ({error}): LBEX looks at NGINX's processes through one of its own; the metrics \
                 process_* are missing"
            );
        }
        own
    }
});

/// Fails where there is none: nothing else here would find a process then.
pub(crate) fn require() -> Result<(), NoProc> {
    PROC.as_ref().map(|_| ()).map_err(|error| *error)
}

/// The one that everybody sees.
fn mounted() -> rustix::io::Result<OwnedFd> {
    let folder = openat(CWD, "/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // Not just a folder of that name.
    openat(&folder, "self/stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(folder)
}

/// One that is mounted nowhere.
fn own() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
}

/// How long a file is waited for that cannot be opened because there are too many. What is not seen would count as not there: an
/// NGINX that runs was told to end, and started anew.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is tried meanwhile.
const AGAIN: Duration = Duration::from_millis(10);

fn open(path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let root = PROC.as_ref().map_err(io::Error::other)?;
    patiently(|| openat(root, path, flags | OFlags::CLOEXEC, Mode::empty()))
}

fn patiently<T>(open: impl Fn() -> rustix::io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match open() {
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) if Instant::now() < deadline => std::thread::sleep(AGAIN),
            result => return Ok(result?),
        }
    }
}

/// Fails where processes cannot be looked at now.
pub(crate) fn look() -> io::Result<()> {
    entries(".").and_then(|_| read("self/stat")).map(drop)
}

/// The contents of a file.
pub(crate) fn read(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::from(open(path, OFlags::RDONLY)?).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The contents of a file, which have to be UTF-8.
pub(crate) fn read_to_string(path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::from(open(path, OFlags::RDONLY)?).read_to_string(&mut text)?;
    Ok(text)
}

/// What is at a path, or where it leads to.
pub(crate) fn metadata(path: &str) -> io::Result<Metadata> {
    File::from(open(path, OFlags::PATH)?).metadata()
}

/// Where a link leads to.
pub(crate) fn read_link(path: &str) -> io::Result<PathBuf> {
    let root = PROC.as_ref().map_err(io::Error::other)?;
    Ok(target(readlinkat(root, path, Vec::new())?))
}

fn target(link: std::ffi::CString) -> PathBuf {
    std::ffi::OsString::from_vec(link.into_bytes()).into()
}

/// The names in a folder; those that are no UTF-8 are left out.
pub(crate) fn names(path: &str) -> io::Result<Vec<String>> {
    Ok(entries(path)?.1.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

/// Where each link in a folder leads to. What goes away meanwhile is left out.
pub(crate) fn links(path: &str) -> io::Result<impl Iterator<Item = PathBuf> + use<>> {
    let (folder, names) = entries(path)?;
    Ok(names.into_iter().filter_map(move |name| Some(target(readlinkat(&folder, name.as_c_str(), Vec::new()).ok()?))))
}

fn entries(path: &str) -> io::Result<(OwnedFd, Vec<std::ffi::CString>)> {
    let folder = open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names = Vec::new();
    for entry in patiently(|| Dir::read_from(&folder))? {
        let name = entry?.file_name().to_owned();
        if !name.as_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    Ok((folder, names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_its_own_shows_the_same_processes_and_is_mounted_nowhere() {
        let mounts = read_to_string("self/mountinfo").expect("mounted");
        let own = own().expect("root has one (these tests are run as root)");
        let read = |root: &OwnedFd| {
            let mut text = String::new();
            let file = openat(root, "self/comm", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("opened");
            File::from(file).read_to_string(&mut text).expect("read");
            (text, target(readlinkat(root, "self/exe", Vec::new()).expect("read")))
        };
        assert_eq!(read(&own), read(&mounted().expect("mounted")));
        assert_eq!(read_to_string("self/mountinfo").expect("mounted"), mounts);
    }

    #[test]
    fn names_links_and_what_is_behind_them_are_read() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(names(".").expect("read").contains(&std::process::id().to_string()));
        assert!(links("self/fd").expect("read").any(|target| target == file.path()));
        let cwd = metadata("self/cwd").expect("read");
        assert!(cwd.is_dir());
        assert!(read_link("self/none").is_err());
    }
}

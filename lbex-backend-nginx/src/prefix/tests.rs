use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::unistd::{Gid, Uid, chown, geteuid};

use super::*;

fn mode(path: &Path) -> u32 {
    path.metadata().expect("it exists").permissions().mode() & 0o7777
}

#[test]
fn creates_every_folder_with_what_workers_of_another_user_need_and_no_more() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let prefix = Prefix::open(&folder.path().join("a/b")).expect("opened");
    let layout = prefix.layout();
    assert_eq!(mode(layout.root()), 0o711);
    assert_eq!(mode(&layout.conf_dir()), 0o700);
    assert_eq!(mode(&layout.services_dir()), 0o700);
    assert_eq!(mode(&layout.run_dir()), 0o700);
    assert_eq!(mode(&layout.logs_dir()), 0o711);
    assert_eq!(mode(&layout.bin_dir()), 0o711);
}

#[test]
fn a_second_holder_is_told_who_the_first_is_and_gets_it_afterwards() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = Prefix::open(folder.path()).expect("opened");
    let error = Prefix::open(folder.path()).expect_err("locked").to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    let command = std::env::args().next().expect("a name");
    assert!(error.contains(&command), "{error}");
    assert!(error.starts_with(&format!("the prefix {} is in use by ", folder.path().display())), "{error}");
    drop(first);
    Prefix::open(folder.path()).expect("free again");
}

#[test]
fn a_child_process_has_no_part_in_the_lock() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let prefix = Prefix::open(folder.path()).expect("opened");
    let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("started");
    let open = || -> Vec<_> {
        let files = fs::read_dir(format!("/proc/{}/fd", child.id())).expect("its files");
        files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).collect()
    };
    // What is not inherited is closed a moment after it is executed.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while open().contains(&prefix.layout().lock_file()) && std::time::Instant::now() < deadline {}
    let open = open();
    child.kill().expect("ended");
    child.wait().expect("reaped");
    assert!(!open.contains(&prefix.layout().lock_file()), "{open:?}");
}

#[test]
fn a_prefix_too_long_for_its_sockets_is_refused_with_the_numbers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let long = folder.path().join("x".repeat(100));
    let error = Prefix::open(&long).expect_err("too long").to_string();
    assert!(error.contains("at most 107 bytes") && error.contains("generation.sock"), "{error}");
    assert!(!long.exists(), "nothing is created before it is refused");
}

#[test]
fn no_spare_socket_is_as_the_last_one_or_too_long() {
    let layout = Layout::new(Path::new("/p"));
    let first = layout.spare_socket();
    std::thread::sleep(std::time::Duration::from_millis(1));
    assert_ne!(first, layout.spare_socket());
    assert!(first.as_os_str().len() <= layout.generation_socket().as_os_str().len(), "{first:?}");
}

#[test]
fn loose_permissions_of_our_own_are_tightened() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("loosened");
    let prefix = Prefix::open(folder.path()).expect("opened");
    assert_eq!(mode(prefix.layout().root()), 0o711);
}

#[test]
fn files_and_links_in_place_of_folders_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("file"), "").expect("written");
    assert!(matches!(Prefix::open(&folder.path().join("file")), Err(PrefixError::NotADirectory { .. })));
    std::os::unix::fs::symlink("/tmp", folder.path().join("conf")).expect("linked");
    assert!(matches!(Prefix::open(folder.path()), Err(PrefixError::NotADirectory { .. })));
}

#[test]
fn a_path_that_could_end_a_directive_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let error = Prefix::open(&folder.path().join("a;b")).expect_err("refused").to_string();
    assert!(error.contains("cannot stand in NGINX's configuration"), "{error}");
}

#[test]
fn a_folder_of_another_user_is_refused_and_one_above_is_warned_of() {
    if !geteuid().is_root() {
        return; // Only root can give folders away.
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).expect("created");
    chown(folder.path(), Some(Uid::from_raw(4242)), Some(Gid::from_raw(4242))).expect("given away");
    let error = Prefix::open(folder.path()).expect_err("refused").to_string();
    assert!(error.contains("belongs to user 4242"), "{error}");
    let prefix = Prefix::open(&inner).expect("its own folder is ours");
    assert!(prefix.warnings().iter().any(|w| w.contains("belongs to user 4242")), "{:?}", prefix.warnings());
}

#[test]
fn what_somebody_removes_is_put_back_with_the_lock() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let prefix = Prefix::open(&folder.path().join("p")).expect("opened");
    let layout = prefix.layout();
    assert!(!prefix.restore().expect("nothing to do"));

    fs::set_permissions(layout.run_dir(), fs::Permissions::from_mode(0o000)).expect("changed");
    assert!(!prefix.restore().expect("put right"), "nothing was removed");
    assert_eq!(mode(&layout.run_dir()), 0o700);

    fs::remove_dir_all(layout.services_dir()).expect("removed");
    assert!(prefix.restore().expect("put back"));
    assert_eq!(mode(&layout.services_dir()), 0o700);

    fs::remove_dir_all(layout.root()).expect("removed");
    assert!(prefix.restore().expect("put back"));
    assert_eq!((mode(layout.root()), mode(&layout.logs_dir())), (0o711, 0o711));
    Prefix::open(layout.root()).expect_err("it is still ours");
    assert!(!prefix.restore().expect("nothing to do"));
}

/// `/dev/full` takes no byte, as a disk that is full.
#[test]
fn a_lock_that_cannot_tell_its_holder_is_held_all_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::os::unix::fs::symlink("/dev/full", folder.path().join("lock")).expect("linked");
    Prefix::open(folder.path()).expect("opened");
}

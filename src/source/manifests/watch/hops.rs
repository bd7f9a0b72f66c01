//! Which directory entries decide what a path leads to.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// Links followed for one path; more is a loop.
const MOST_LINKS: usize = 40;
/// Folders watched for files that are links to elsewhere; the poll sees what is beyond.
const MOST_FOLDERS: usize = 256;

/// The folders to watch, and what in them matters.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// Folders by their real path, with device and inode: one made anew has to be watched anew.
    pub(super) folders: BTreeMap<PathBuf, (u64, u64)>,
    /// Folders of which everything matters.
    whole: BTreeSet<PathBuf>,
    /// Single entries that matter, by their real folder and name.
    entries: BTreeSet<PathBuf>,
}

impl Places {
    /// The places for these paths of `--manifests` and the files found there.
    pub(super) fn of<'a>(roots: impl Iterator<Item = &'a Path>, files: impl Iterator<Item = &'a Path>) -> Self {
        let mut places = Self::default();
        for root in roots {
            places.follow(root);
            if let Ok(real) = fs::canonicalize(root)
                && real.is_dir()
            {
                places.watch(real.clone());
                places.whole.insert(real);
            }
        }
        for file in files {
            let is_link = fs::symlink_metadata(file).is_ok_and(|metadata| metadata.is_symlink());
            if is_link {
                places.follow(file);
            }
        }
        places
    }

    /// Whether something that happened to `path` can matter.
    pub(super) fn matters(&self, path: &Path) -> bool {
        self.entries.contains(path)
            || self.whole.contains(path)
            || path.parent().is_some_and(|folder| self.whole.contains(folder))
    }

    fn watch(&mut self, folder: PathBuf) {
        if self.folders.len() < MOST_FOLDERS
            && let Ok(metadata) = fs::metadata(&folder)
        {
            self.folders.insert(folder, (metadata.dev(), metadata.ino()));
        }
    }

    /// Follows a path as the system does, and notes every link on the way and the last entry: any of them can come to lead
    /// elsewhere. Where the path ends too early, what is missing is noted: it may come.
    fn follow(&mut self, path: &Path) {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
        let mut rest: Vec<OsString> = absolute.components().rev().filter_map(step).collect();
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                real.pop();
                continue;
            }
            let entry = real.join(&name);
            let metadata = fs::symlink_metadata(&entry);
            let is_link = metadata.as_ref().is_ok_and(std::fs::Metadata::is_symlink);
            if is_link || rest.is_empty() || metadata.is_err() {
                self.watch(real.clone());
                self.entries.insert(entry.clone());
            }
            if metadata.is_err() {
                return;
            }
            if !is_link {
                real = entry;
                continue;
            }
            links += 1;
            let Ok(target) = fs::read_link(&entry) else { return };
            if links > MOST_LINKS {
                return;
            }
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            rest.extend(target.components().rev().filter_map(step));
        }
    }
}

fn step(component: Component<'_>) -> Option<OsString> {
    match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn of(root: &Path, files: &[&Path]) -> Places {
        Places::of(std::iter::once(root), files.iter().copied())
    }

    #[test]
    fn a_folder_and_its_parent_are_watched() {
        let temp = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(temp.path()).unwrap();
        let folder = real.join("conf");
        fs::create_dir(&folder).unwrap();
        let places = of(&folder, &[]);
        assert_eq!(places.folders.keys().collect::<Vec<_>>(), [&real, &folder]);
        assert!(places.matters(&folder.join("a.yaml")) && places.matters(&folder));
        assert!(!places.matters(&real.join("other")));
    }

    #[test]
    fn links_are_followed_step_by_step() {
        let temp = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(temp.path()).unwrap();
        // As a ConfigMap is mounted: a.yaml -> ..data/a.yaml, ..data -> ..1
        fs::create_dir_all(real.join("mount/..1")).unwrap();
        fs::write(real.join("mount/..1/a.yaml"), "").unwrap();
        symlink("..1", real.join("mount/..data")).unwrap();
        symlink("..data/a.yaml", real.join("mount/a.yaml")).unwrap();
        let places = of(&real.join("mount/a.yaml"), &[]);
        for entry in ["mount/a.yaml", "mount/..data", "mount/..1/a.yaml"] {
            assert!(places.matters(&real.join(entry)), "{entry}");
        }
        assert!(!places.matters(&real.join("mount/b.yaml")));
    }

    #[test]
    fn what_is_missing_is_waited_for_and_loops_end() {
        let temp = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(temp.path()).unwrap();
        assert!(of(&real.join("no/such/folder"), &[]).matters(&real.join("no")));
        symlink("b", real.join("a")).unwrap();
        symlink("a", real.join("b")).unwrap();
        assert!(of(&real.join("a"), &[]).matters(&real.join("b")));
    }
}

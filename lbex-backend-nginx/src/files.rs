//! NGINX's configuration in the prefix (design, invariants 6 and 8).
//!
//! The main file includes one file per Service. A Service's file is named by its contents and never written over, so a new main
//! file can be checked beside the one in use, both can share what did not change, and an older one stays whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lbex_core::names::ServiceKey;

use crate::prefix::Layout;
use crate::render::{MainFile, Part, ServiceFileName};

/// With more new files than this the file system is flushed as a whole, which is cheaper.
const FLUSH_EACH: usize = 16;

/// A file of the configuration cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("failed to {verb} {}: {source}", path.display())]
pub struct FileError {
    /// What was being done.
    pub verb: &'static str,
    /// To what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { verb, path, source }
}

/// A main file that was in use, and what it includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its text.
    pub text: String,
    /// What it answers with.
    pub generation: String,
    /// Each Service's part, of those whose file is there and whole.
    pub parts: BTreeMap<ServiceKey, Part>,
    /// Whether all of its files are.
    pub whole: bool,
}

/// When files last came to `conf/` and `services/`, or went. `None`: that cannot be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp([Option<SystemTime>; 2]);

/// What a [`sweep`](ConfigFiles::sweep) left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// How many files it removed.
    pub removed: usize,
    /// Whether all that are wanted are there.
    pub whole: bool,
}

/// The configuration files of a prefix. All methods block.
#[derive(Debug, Clone)]
pub struct ConfigFiles {
    layout: Layout,
}

impl ConfigFiles {
    /// Those of this prefix, whose folders exist.
    pub fn new(layout: Layout) -> Self {
        Self { layout }
    }

    /// `conf/candidate.conf`: a main file that is being checked.
    pub fn candidate(&self) -> PathBuf {
        self.layout.conf_dir().join("candidate.conf")
    }

    /// `conf/last-good.conf`: the last main file that was confirmed.
    pub fn last_good(&self) -> PathBuf {
        self.layout.conf_dir().join("last-good.conf")
    }

    /// Writes Services' files; those that are there already are left alone if they are whole.
    pub fn write_services<'a>(
        &self,
        files: impl IntoIterator<Item = (&'a ServiceFileName, &'a str)>,
    ) -> Result<(), FileError> {
        let folder = self.layout.services_dir();
        let mut written = Vec::new();
        for (name, text) in files {
            let path = folder.join(name.as_str());
            // Files cannot be trusted after a power failure: compare.
            if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
                continue;
            }
            let temporary = folder.join(format!("{name}.new"));
            let file = File::create(&temporary)
                .and_then(|mut file| file.write_all(text.as_bytes()).map(|()| file))
                .map_err(failed("write", &temporary))?;
            written.push((temporary, path, file));
            if written.len() == 256 {
                self.land(&mut written)?;
            }
        }
        self.land(&mut written)
    }

    /// Flushes new files, then gives them their names.
    fn land(&self, written: &mut Vec<(PathBuf, PathBuf, File)>) -> Result<(), FileError> {
        if written.is_empty() {
            return Ok(());
        }
        let folder = self.layout.services_dir();
        if written.len() > FLUSH_EACH {
            File::open(&folder)
                .and_then(|f| nix::unistd::syncfs(f).map_err(io::Error::from))
                .map_err(failed("flush", &folder))?;
        } else {
            for (temporary, _, file) in written.iter() {
                file.sync_all().map_err(failed("flush", temporary))?;
            }
        }
        for (temporary, path, _) in written.drain(..) {
            fs::rename(&temporary, &path).map_err(failed("replace", &path))?;
        }
        flush_folder(&folder)
    }

    /// Writes the main file that is to be checked.
    pub fn write_candidate(&self, text: &str) -> Result<(), FileError> {
        let path = self.candidate();
        write_flushed(&path, text).map_err(failed("write", &path))
    }

    /// Puts the candidate in the place of the main file, atomically.
    pub fn promote(&self) -> Result<(), FileError> {
        let path = self.layout.main_conf();
        fs::rename(self.candidate(), &path).map_err(failed("replace", &path))?;
        flush_folder(&self.layout.conf_dir())
    }

    /// Makes the main file `text`, and the last good one too where it is not yet: for what was confirmed.
    pub fn keep(&self, text: &str) -> Result<(), FileError> {
        self.replace(&self.layout.main_conf(), text)?;
        self.replace(&self.last_good(), text)
    }

    /// Puts the last good main file back in place. `false`: there is none.
    pub fn restore_last_good(&self) -> Result<bool, FileError> {
        match read(&self.last_good())? {
            None => Ok(false),
            Some(text) => self.replace(&self.layout.main_conf(), &text).map(|()| true),
        }
    }

    fn replace(&self, path: &Path, text: &str) -> Result<(), FileError> {
        if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
            return Ok(());
        }
        let temporary = path.with_extension("new");
        write_flushed(&temporary, text).map_err(failed("write", &temporary))?;
        fs::rename(&temporary, path).map_err(failed("replace", path))?;
        flush_folder(&self.layout.conf_dir())
    }

    /// The main file in place; `None` if there is none, or none of LBEX's.
    pub fn stored_main(&self) -> Result<Option<Stored>, FileError> {
        self.stored(&self.layout.main_conf())
    }

    /// The last good main file.
    pub fn stored_last_good(&self) -> Result<Option<Stored>, FileError> {
        self.stored(&self.last_good())
    }

    fn stored(&self, path: &Path) -> Result<Option<Stored>, FileError> {
        let Some(text) = read(path)? else { return Ok(None) };
        let Some(generation) = MainFile::generation_in(&text).map(str::to_owned) else { return Ok(None) };
        let mut stored = Stored { generation, parts: BTreeMap::new(), whole: true, text };
        for include in MainFile::includes_in(&stored.text) {
            let part = ServiceFileName::parse(include).and_then(|(key, file)| {
                let text = fs::read_to_string(self.layout.services_dir().join(file.as_str())).ok()?;
                file.fits(&text).then(|| (key, Part::read(file, &text)))
            });
            stored.whole &= part.is_some();
            stored.parts.extend(part);
        }
        Ok(Some(stored))
    }

    /// Removes Services' files that are neither in `wanted` nor included by the main file or the last good one, and what an
    /// interrupted write left.
    pub fn sweep(&self, wanted: &BTreeSet<String>) -> Result<Swept, FileError> {
        let mains = [read(&self.layout.main_conf())?, read(&self.last_good())?];
        let included: BTreeSet<&str> = mains.iter().flatten().flat_map(|text| MainFile::includes_in(text)).collect();
        let folder = self.layout.services_dir();
        let (mut removed, mut there, mut failure) = (0, 0, None);
        for entry in fs::read_dir(&folder).map_err(failed("read", &folder))? {
            let entry = entry.map_err(failed("read", &folder))?;
            let name = entry.file_name();
            let is_wanted = name.to_str().is_some_and(|name| wanted.contains(name));
            there += usize::from(is_wanted);
            let keep = is_wanted || name.to_str().is_some_and(|name| included.contains(name));
            // One that cannot be removed (somebody made a folder) must not keep the others.
            match if keep { continue } else { fs::remove_file(entry.path()) } {
                Ok(()) => removed += 1,
                Err(error) => failure = Some(failed("remove", &entry.path())(error)),
            }
        }
        failure.map_or(Ok(Swept { removed, whole: there == wanted.len() }), Err)
    }

    /// Changes when somebody adds a file or removes one; not when somebody writes to one.
    pub fn stamp(&self) -> Stamp {
        let changed = |folder: PathBuf| fs::metadata(folder).and_then(|metadata| metadata.modified()).ok();
        Stamp([self.layout.conf_dir(), self.layout.services_dir()].map(changed))
    }

    /// Whether a Service's file is not there, or not as LBEX wrote it.
    pub fn is_damaged(&self, file: &ServiceFileName) -> bool {
        let text = fs::read_to_string(self.layout.services_dir().join(file.as_str()));
        !text.is_ok_and(|text| file.fits(&text))
    }
}

fn read(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn write_flushed(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn flush_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(failed("flush", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, ConfigFiles) {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["conf", "services"] {
            fs::create_dir(folder.path().join(name)).expect("created");
        }
        let files = ConfigFiles::new(Layout::new(folder.path()));
        (folder, files)
    }

    fn service(name: &str, port: u16) -> (ServiceFileName, String) {
        let text = format!("server {{\n    listen 127.0.0.1:{port} backlog=4096;\n}}\n");
        (ServiceFileName::of(&ServiceKey::new("default", name).expect("a name"), &text), text)
    }

    fn main_with(files: &[&ServiceFileName]) -> String {
        let lines: Vec<String> = files.iter().map(|f| format!("    include ../services/{f};")).collect();
        format!("    return \"abc\";\n{}\n", lines.join("\n"))
    }

    #[test]
    fn what_neither_main_file_includes_is_removed_and_the_last_good_one_stays_whole() {
        let (folder, files) = files();
        let (old, new, gone) = (service("a", 1), service("a", 2), service("b", 3));
        files.write_services([&old, &new, &gone].map(|(name, text)| (name, text.as_str()))).expect("written");
        files.keep(&main_with(&[&old.0])).expect("kept");
        files.write_candidate(&main_with(&[&new.0])).expect("written");
        files.promote().expect("promoted");
        fs::write(folder.path().join("services/x.new"), "half").expect("written");
        assert_eq!(files.sweep(&BTreeSet::new()).expect("swept"), Swept { removed: 2, whole: true });
        let gone = BTreeSet::from([gone.0.to_string()]);
        assert_eq!(files.sweep(&gone).expect("swept"), Swept { removed: 0, whole: false });

        let (now, before) = (files.stored_main().expect("read"), files.stored_last_good().expect("read"));
        let listens =
            |stored: &Option<Stored>| stored.as_ref().unwrap().parts.values().next().unwrap().claims[0].address.port();
        assert_eq!((listens(&now), listens(&before)), (2, 1));
        assert!(files.restore_last_good().expect("restored"));
        assert_eq!(files.stored_main().expect("read"), before);
    }

    #[test]
    fn what_cannot_be_removed_does_not_keep_the_rest() {
        let (folder, files) = files();
        let services = folder.path().join("services");
        for n in 0..20 {
            fs::create_dir(services.join(format!("folder{n}"))).expect("created");
            fs::write(services.join(format!("old{n}")), "").expect("written");
        }
        assert!(files.sweep(&BTreeSet::new()).is_err());
        assert_eq!(fs::read_dir(&services).expect("read").count(), 20);
    }

    #[test]
    fn a_damaged_file_is_noticed_and_written_again() {
        let (folder, files) = files();
        let (name, text) = service("a", 1);
        files.write_services([(&name, text.as_str())]).expect("written");
        files.keep(&main_with(&[&name])).expect("kept");
        fs::write(folder.path().join("services").join(name.as_str()), "").expect("damaged");
        let stored = files.stored_last_good().expect("read").expect("there");
        assert!(!stored.whole && stored.parts.is_empty() && files.is_damaged(&name));
        files.write_services([(&name, text.as_str())]).expect("written");
        assert!(files.stored_last_good().expect("read").expect("there").whole);
    }

    #[test]
    fn a_main_file_of_another_make_is_none() {
        let (folder, files) = files();
        assert_eq!(files.stored_main().expect("read"), None);
        fs::write(folder.path().join("conf/nginx.conf"), b"events {} \xff").expect("written");
        assert_eq!(files.stored_main().expect("read"), None);
    }
}

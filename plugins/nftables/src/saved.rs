//! What the table holds, on disk: the next LBEX then knows it, as long as nobody else has changed the table.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::plan::{Key, Part, Ruleset};
use crate::render::{FORMAT, Table};

/// The file.
#[derive(Debug, Clone)]
pub struct Saved {
    path: PathBuf,
    /// Of how the table is made: of another it says nothing.
    made: String,
}

#[derive(Serialize, Deserialize)]
struct Contents<R> {
    made: String,
    fingerprint: String,
    ruleset: R,
}

impl Saved {
    /// The file in the plugin's folder.
    pub fn new(dir: &Path, table: &Table) -> Self {
        let text = format!("{FORMAT} {}", crate::change::document(&table.create()));
        let made = format!("{:x}", Sha256::digest(text));
        Self { path: dir.join(format!("{}.json", table.name)), made }
    }

    /// What the table with this fingerprint holds; `None`: that is not known.
    pub fn read(&self, fingerprint: &str) -> Option<Ruleset> {
        let contents: Contents<Vec<(Key, Part)>> = serde_json::from_slice(&fs::read(&self.path).ok()?).ok()?;
        (contents.made == self.made && contents.fingerprint == fingerprint)
            .then(|| contents.ruleset.into_iter().collect())
    }

    /// Writes it whole, or leaves it as it is.
    pub fn write(&self, fingerprint: &str, ruleset: &Ruleset) -> io::Result<()> {
        let ruleset: Vec<(&Key, &Part)> = ruleset.iter().collect();
        let contents = Contents { made: self.made.clone(), fingerprint: fingerprint.to_owned(), ruleset };
        let mut file = NamedTempFile::new_in(self.path.parent().unwrap_or(Path::new("/")))?;
        serde_json::to_writer(io::BufWriter::new(&mut file), &contents)?;
        // Not synced: a host that goes down takes the table with it, and a file that is not whole says nothing.
        file.persist(&self.path)?;
        Ok(())
    }

    /// Removes it.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_known_for_that_table_only() {
        let dir = tempfile::tempdir().unwrap();
        let table = |keep| Table { name: "lbex".to_owned(), owner: "x".to_owned(), keep_client_address: keep };
        let saved = Saved::new(dir.path(), &table(false));
        assert_eq!(saved.read("one"), None);
        saved.write("one", &Ruleset::new()).unwrap();
        assert_eq!(saved.read("one"), Some(Ruleset::new()));
        assert_eq!(saved.read("other"), None);
        assert_eq!(Saved::new(dir.path(), &table(true)).read("one"), None, "it is made in another way now");
        fs::write(dir.path().join("lbex.json"), "{").unwrap();
        assert_eq!(saved.read("one"), None);
        saved.remove().unwrap();
        saved.remove().unwrap();
    }
}

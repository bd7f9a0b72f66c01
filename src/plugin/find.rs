//! Finds plugins by name, in the folders of `--plugin-dir`.

use std::io;
use std::path::{Path, PathBuf};

/// What the files of the plugin called `name` may be called, best first.
fn file_names(name: &str) -> [String; 3] {
    let name_in_file = name.replace('-', "_");
    [format!("lib{name}.so"), format!("liblbex_{name_in_file}.so"), format!("liblbex_plugin_{name_in_file}.so")]
}

/// No folder has a plugin of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no backend is called {name}: no folder of {} has {}", Folders(dirs), file_names(name).join(", "))]
pub struct NotFound {
    name: String,
    dirs: Vec<PathBuf>,
}

struct Folders<'a>(&'a [PathBuf]);

impl std::fmt::Display for Folders<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dirs: Vec<String> = self.0.iter().map(|dir| dir.display().to_string()).collect();
        write!(f, "--plugin-dir ({})", dirs.join(", "))
    }
}

/// The library of the plugin called `name`: the first in the order of folders, then of names.
pub fn by_name(name: &str, dirs: &[PathBuf]) -> Result<PathBuf, NotFound> {
    let paths = dirs.iter().flat_map(|dir| file_names(name).map(|file| dir.join(file)));
    paths.into_iter().find(|path| path.exists()).ok_or_else(|| NotFound { name: name.to_owned(), dirs: dirs.to_vec() })
}

/// All libraries in `dirs`, in the order of folders, then of names. A folder that is not there has none.
pub fn all(dirs: &[PathBuf]) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for dir in dirs {
        let mut here = match libraries(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            here => here?,
        };
        here.sort_unstable();
        found.extend(here);
    }
    Ok(found)
}

fn libraries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "so") {
            paths.push(path);
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_that_has_it_counts() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dirs = [one.path().to_owned(), two.path().to_owned(), PathBuf::from("/nowhere")];
        let error = by_name("my-proxy", &dirs).unwrap_err().to_string();
        assert!(error.contains("no backend is called my-proxy") && error.contains("libmy-proxy.so"), "{error}");
        std::fs::write(two.path().join("libmy-proxy.so"), "").unwrap();
        assert_eq!(by_name("my-proxy", &dirs).unwrap(), two.path().join("libmy-proxy.so"));
        std::fs::write(one.path().join("liblbex_plugin_my_proxy.so"), "").unwrap();
        std::fs::write(one.path().join("README"), "").unwrap();
        assert_eq!(by_name("my-proxy", &dirs).unwrap(), one.path().join("liblbex_plugin_my_proxy.so"));
        assert_eq!(all(&dirs).unwrap().len(), 2);
    }
}

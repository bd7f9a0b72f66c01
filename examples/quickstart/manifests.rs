//! The temporary copy of the manifests, and the edits that the quickstart makes to it: those that a person would make.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The manifests that LBEX starts with.
const FILES: [(&str, &str); 3] = [
    ("1-nodes.yaml", include_str!("1-nodes.yaml")),
    ("2-ntp.yaml", include_str!("2-ntp.yaml")),
    ("3-web.yaml", include_str!("3-web.yaml")),
];
/// The one that comes later.
const ECHO: (&str, &str) = ("4-echo.yaml", include_str!("later/4-echo.yaml"));

/// The ports that stand in the copy instead of those that the manifests name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// Where LBEX listens instead of 123 (UDP).
    pub(crate) ntp: u16,
    /// Instead of 80.
    pub(crate) http: u16,
    /// Instead of 443.
    pub(crate) https: u16,
    /// Instead of 7000.
    pub(crate) echo: u16,
    /// The node port instead of 30123.
    pub(crate) node: u16,
    /// Where the web backends listen instead of 8080.
    pub(crate) web_http: u16,
    /// Instead of 8443.
    pub(crate) web_https: u16,
}

/// A folder with the copy.
pub(crate) struct Manifests {
    folder: PathBuf,
    ports: Ports,
}

impl Manifests {
    /// Writes the copy into `folder`, which is made.
    pub(crate) fn copy_to(folder: PathBuf, ports: Ports) -> Result<Self> {
        fs::create_dir(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        let manifests = Self { folder, ports };
        for (name, text) in FILES {
            manifests.write(name, &manifests.with_ports(text))?;
        }
        Ok(manifests)
    }

    /// Where they are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Adds an endpoint to the slice in a file.
    pub(crate) fn add_endpoint(&self, file: &str, address: &str, node: &str) -> Result<()> {
        self.edit(file, |text| {
            text.trim_end().to_owned() + &format!("\n- {{addresses: [{address}], nodeName: {node}}}\n")
        })
    }

    /// Removes the line of an endpoint.
    pub(crate) fn remove_endpoint(&self, file: &str, address: &str) -> Result<()> {
        let entry = format!("[{address}]");
        self.edit(file, |text| {
            text.lines().filter(|line| !line.contains(&entry)).fold(String::new(), |all, line| all + line + "\n")
        })
    }

    /// Adds the Service `echo`.
    pub(crate) fn add_echo(&self) -> Result<()> {
        self.write(ECHO.0, &self.with_ports(ECHO.1))
    }

    fn edit(&self, file: &str, change: impl FnOnce(&str) -> String) -> Result<()> {
        let path = self.folder.join(file);
        let before = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let after = change(&before);
        ensure!(after != before, "the edit of {} changes nothing", path.display());
        self.write(file, &after)
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    fn with_ports(&self, text: &str) -> String {
        let ports = self.ports;
        let listeners = [
            ("loadbalancer.lbex/port: 123", format!("loadbalancer.lbex/port: {}", ports.ntp)),
            ("lbex/http: \"80\"", format!("lbex/http: \"{}\"", ports.http)),
            ("lbex/https: \"443\"", format!("lbex/https: \"{}\"", ports.https)),
            ("lbex/unnamed: \"7000\"", format!("lbex/unnamed: \"{}\"", ports.echo)),
            ("nodePort: 30123", format!("nodePort: {}", ports.node)),
            ("port: 8080", format!("port: {}", ports.web_http)),
            ("port: 8443", format!("port: {}", ports.web_https)),
        ];
        listeners.into_iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, &to))
    }
}

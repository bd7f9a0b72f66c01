//! What `nginx -V` says.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::NginxCapabilities;

/// A version of NGINX, ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NginxVersion {
    /// The 1 of 1.28.3.
    pub major: u32,
    /// The 28 of 1.28.3.
    pub minor: u32,
    /// The 3 of 1.28.3.
    pub patch: u32,
}

impl NginxVersion {
    /// `major.minor.patch`.
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { major, minor, patch }
    }
}

impl fmt::Display for NginxVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl FromStr for NginxVersion {
    type Err = String;

    /// Two numbers at least; a third is zero if absent, further ones (as OpenResty has) are ignored.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.split('.').map(str::parse::<u32>);
        let mut next = || numbers.next().and_then(Result::ok);
        match (next(), next()) {
            (Some(major), Some(minor)) => Ok(Self::new(major, minor, next().unwrap_or(0))),
            _ => Err(format!("`{text}` is no version such as 1.28.3")),
        }
    }
}

/// The text of `nginx -V`, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionReport {
    /// The version.
    pub version: NginxVersion,
    /// The whole name, for instance `nginx/1.29.4 (nginx-plus-r36)`.
    pub banner: String,
    /// The arguments of `configure`, unquoted.
    pub configure_arguments: Vec<String>,
}

/// How `configure` was told about the stream module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StreamBuild {
    Absent,
    BuiltIn,
    Dynamic(PathBuf),
}

impl VersionReport {
    /// Reads the output of `nginx -V`; `None` if it is not NGINX's.
    pub fn parse(output: &str) -> Option<Self> {
        let banner = output.lines().find_map(|line| line.split_once(" version: "))?.1.trim();
        let number = banner.split_once('/')?.1.split([' ', '-', '(']).next()?;
        let arguments = output.lines().find_map(|line| line.strip_prefix("configure arguments:")).unwrap_or_default();
        Some(Self {
            version: number.parse().ok()?,
            banner: banner.to_owned(),
            configure_arguments: split_arguments(arguments),
        })
    }

    /// Whether this is NGINX Plus.
    pub fn is_plus(&self) -> bool {
        self.banner.contains("nginx-plus")
    }

    /// What this NGINX can do: by its version, by what it was built with, and by what it says of LBEX's changes.
    pub fn capabilities(&self) -> NginxCapabilities {
        let (version, plus) = (self.version, self.is_plus());
        NginxCapabilities {
            plus,
            least_time: plus || version >= NginxVersion::new(1, 31, 0),
            upstream_resolve: plus || version >= NginxVersion::new(1, 27, 3),
            realip: self.has_flag("--with-stream_realip_module"),
            error_log_flag: version >= NginxVersion::new(1, 19, 5),
            immediate_push: self.has_change("immediate-push"),
            hash_by_address: self.has_change("hash-by-address"),
            retry_after_change: self.has_change("retry-after-change"),
            quiet_when_empty: self.has_change("quiet-when-empty"),
            move_udp_sessions: self.has_change("move-udp-sessions"),
        }
    }

    /// Whether one of LBEX's changes is in: LBEX's build lists them, `nginx/1.28.3 (lbex NAME NAME)`.
    fn has_change(&self, name: &str) -> bool {
        let build = self.banner.split_once(" (").and_then(|(_, rest)| rest.strip_suffix(')'));
        let mut words = build.unwrap_or_default().split(' ');
        words.next() == Some("lbex") && words.any(|word| word == name)
    }

    /// Whether `configure` had exactly this flag.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.configure_arguments.iter().any(|argument| argument == flag)
    }

    fn value(&self, flag: &str) -> Option<&str> {
        self.configure_arguments.iter().rev().find_map(|argument| argument.strip_prefix(flag)?.strip_prefix('='))
    }

    pub(super) fn stream(&self) -> StreamBuild {
        if self.has_flag("--with-stream") {
            return StreamBuild::BuiltIn;
        }
        if !self.has_flag("--with-stream=dynamic") {
            return StreamBuild::Absent;
        }
        let prefix = Path::new(self.value("--prefix").unwrap_or("/usr/local/nginx"));
        let folder = prefix.join(self.value("--modules-path").unwrap_or("modules"));
        StreamBuild::Dynamic(folder.join("ngx_stream_module.so"))
    }
}

/// Splits as a shell would: quotes keep spaces together and vanish.
fn split_arguments(text: &str) -> Vec<String> {
    let (mut arguments, mut current) = (Vec::new(), None::<String>);
    let mut quote = None;
    for character in text.chars() {
        match (quote, character) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                current.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => arguments.extend(current.take()),
            (_, c) => current.get_or_insert_default().push(c),
        }
    }
    arguments.extend(current);
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &str = "nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.15\nTLS SNI support enabled\n\
        configure arguments: --with-cc-opt='-g -O2 -fPIC' --prefix=/usr/share/nginx --modules-path=/usr/lib/nginx/modules \
        --with-stream=dynamic --with-stream_realip_module\n";

    #[test]
    fn reads_debians_nginx_with_its_dynamic_stream_module() {
        let report = VersionReport::parse(DEBIAN).expect("it is NGINX");
        assert_eq!(report.version, NginxVersion::new(1, 22, 1));
        assert_eq!(report.configure_arguments[0], "--with-cc-opt=-g -O2 -fPIC");
        assert_eq!(report.stream(), StreamBuild::Dynamic("/usr/lib/nginx/modules/ngx_stream_module.so".into()));
        assert!(!report.is_plus());
    }

    #[test]
    fn reads_plus_openresty_and_builds_without_stream() {
        let plus = VersionReport::parse(
            "nginx version: nginx/1.29.4 (nginx-plus-r36)\nconfigure arguments: --prefix=/etc/nginx --with-stream",
        )
        .expect("plus");
        assert!(plus.is_plus());
        assert_eq!(plus.stream(), StreamBuild::BuiltIn);
        let resty =
            VersionReport::parse("nginx version: openresty/1.25.3.1\nconfigure arguments: --prefix=/x").expect("resty");
        assert_eq!(resty.version, NginxVersion::new(1, 25, 3));
        assert_eq!(resty.stream(), StreamBuild::Absent);
    }

    #[test]
    fn lbexs_changes_are_those_that_its_build_names() {
        let of = |banner: &str| {
            let capabilities =
                VersionReport::parse(&format!("nginx version: {banner}")).expect("it is NGINX").capabilities();
            (capabilities.immediate_push, capabilities.hash_by_address, capabilities.retry_after_change)
        };
        assert_eq!(of("nginx/1.28.3 (lbex immediate-push hash-by-address retry-after-change)"), (true, true, true));
        assert_eq!(of("nginx/1.28.3 (lbex hash-by-address)"), (false, true, false));
        assert_eq!(of("nginx/1.28.3 (lbex)"), (false, false, false));
        assert_eq!(of("nginx/1.28.3 (somebody immediate-push)"), (false, false, false));
        assert_eq!(of("nginx/1.28.3"), (false, false, false));
        let others = "nginx version: nginx/1.28.3 (lbex quiet-when-empty move-udp-sessions)";
        let capabilities = VersionReport::parse(others).expect("it is NGINX").capabilities();
        assert!(capabilities.quiet_when_empty && capabilities.move_udp_sessions);
    }

    #[test]
    fn a_relative_modules_path_is_below_the_compiled_in_prefix() {
        let report = VersionReport::parse(
            "nginx version: nginx/1.20.0\nconfigure arguments: --prefix=/opt/n --with-stream=dynamic",
        );
        assert_eq!(
            report.expect("it is NGINX").stream(),
            StreamBuild::Dynamic("/opt/n/modules/ngx_stream_module.so".into())
        );
    }

    #[test]
    fn other_programs_are_not_nginx() {
        assert_eq!(VersionReport::parse("GNU coreutils 9.1"), None);
        assert_eq!(VersionReport::parse("x version: nginx"), None);
        assert_eq!(VersionReport::parse("nginx version: nginx/abc"), None);
    }

    #[test]
    fn versions_are_ordered_by_number_not_by_text() {
        assert!(NginxVersion::new(1, 9, 15) < NginxVersion::new(1, 18, 0));
        assert!(NginxVersion::new(1, 31, 0) > NginxVersion::new(1, 28, 3));
    }
}

//! `--version`.

use crate::registry::Backends;

/// The commit that this binary was built from, where the build could tell.
pub const COMMIT: Option<&str> = option_env!("LBEX_BUILD_COMMIT");

/// What `--version` prints for a binary that has `backends`.
pub fn text(backends: &Backends) -> String {
    let names: Vec<String> = backends.all().iter().map(|backend| backend.offer().with_version()).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!(
        "lbex {}\ncommit: {}\nbuilt-in backends: {names}\nplugin ABI: {}\n",
        env!("CARGO_PKG_VERSION"),
        COMMIT.unwrap_or("unknown"),
        backends.plugin_abi().map_or_else(
            || "none: this binary loads no plugins".to_owned(),
            |(major, minor)| format!("{major}.{minor}")
        ),
    )
}

//! `--version`.

/// The commit that this binary was built from, where the build could tell.
pub const COMMIT: Option<&str> = option_env!("LBEX_BUILD_COMMIT");

/// What `--version` prints.
pub fn text() -> String {
    let backends = if cfg!(feature = "embedded-nginx") {
        "nginx (with an NGINX inside this binary)"
    } else if cfg!(feature = "backend-nginx") {
        "nginx (uses an NGINX of the system)"
    } else {
        "none"
    };
    format!(
        "lbex {}\ncommit: {}\nbuilt-in backends: {backends}\nplugin ABI: not in this version yet\n",
        env!("CARGO_PKG_VERSION"),
        COMMIT.unwrap_or("unknown"),
    )
}

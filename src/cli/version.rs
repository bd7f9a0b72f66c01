//! `--version`.

/// The commit that this binary was built from, where the build could tell.
pub const COMMIT: Option<&str> = option_env!("LBEX_BUILD_COMMIT");

/// What `--version` prints.
pub fn text() -> String {
    let backends = backends();
    format!(
        "lbex {}\ncommit: {}\nbuilt-in backends: {backends}\nplugin ABI: {}\n",
        env!("CARGO_PKG_VERSION"),
        COMMIT.unwrap_or("unknown"),
        plugin_abi(),
    )
}

#[cfg(feature = "plugins")]
fn plugin_abi() -> String {
    let (major, minor) = crate::plugin::ABI;
    format!("{major}.{minor}")
}

#[cfg(not(feature = "plugins"))]
fn plugin_abi() -> String {
    "none: this build loads no plugins".to_owned()
}

#[cfg(feature = "backend-nginx")]
fn backends() -> String {
    let plus = if cfg!(feature = "backend-nginx-plus") { ", nginx-plus" } else { "" };
    match lbex_backend_nginx::embedded::embedded() {
        Some(nginx) => format!("nginx (with NGINX {} inside this binary){plus}", nginx.version),
        None => format!("nginx (uses an NGINX of the system){plus}"),
    }
}

#[cfg(not(feature = "backend-nginx"))]
fn backends() -> String {
    "none".to_owned()
}

//! `--version`.

/// The commit that this binary was built from, where the build could tell.
pub const COMMIT: Option<&str> = option_env!("LBEX_BUILD_COMMIT");

/// What `--version` prints.
pub fn text() -> String {
    let backends = backends();
    format!(
        "lbex {}\ncommit: {}\nbuilt-in backends: {backends}\nplugin ABI: not in this version yet\n",
        env!("CARGO_PKG_VERSION"),
        COMMIT.unwrap_or("unknown"),
    )
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

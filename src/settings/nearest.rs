//! What was probably meant.

/// The name that looks most like `given`, if one looks like it at all.
pub(crate) fn among<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.replace('_', "-").to_ascii_lowercase();
    let likeness = |name: &'a str| (strsim::jaro_winkler(&given, &name.replace('_', "-")), name);
    names.map(likeness).filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_it() {
        let names = || ["service-name", "service-pool", "proxy", "log_dir"].into_iter();
        assert_eq!(among("service_pol", names()), Some("service-pool"));
        assert_eq!(among("Prox", names()), Some("proxy"));
        assert_eq!(among("log-dri", names()), Some("log_dir"));
        assert_eq!(among("xyzzy", names()), None);
    }
}

//! What a text without quotes means: as Kubernetes' own YAML reader has it, which follows YAML 1.1 for booleans.

/// Whether it is `null`.
pub(super) fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// The boolean that it is: `true` and `false`, but also `yes`, `no`, `on`, `off`, `y` and `n`.
pub(super) fn boolean(text: &str) -> Option<bool> {
    let spelt = |word: &str| {
        let mut capital = word.to_owned();
        capital[..1].make_ascii_uppercase();
        text == word || text == capital || text == word.to_ascii_uppercase()
    };
    if ["true", "yes", "on", "y"].into_iter().any(spelt) {
        return Some(true);
    }
    ["false", "no", "off", "n"].into_iter().any(spelt).then_some(false)
}

/// The whole number that it is in the usual decimal spelling.
pub(super) fn integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let usual = digits == "0" || !digits.starts_with('0');
    (usual && digits.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Whether Kubernetes' YAML reader takes it for a number: also `0x7b`, `0b11`, `017`, `1_000`, `1e3`, `.5`, `.inf`, `.nan`.
pub(super) fn is_number(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(body, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let plain: String = body.bytes().filter(|&b| b != b'_').map(char::from).collect();
    if plain.len() != body.len() && body.starts_with('_') {
        return false;
    }
    let based = [("0x", 16), ("0X", 16), ("0o", 8), ("0b", 2)];
    for (prefix, base) in based {
        if let Some(digits) = plain.strip_prefix(prefix) {
            return !digits.is_empty() && digits.chars().all(|c| c.is_digit(base));
        }
    }
    // What remains is decimal; the letters of Rust's own spellings ("inf", "nan") are no numbers in YAML.
    let numeric = plain.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    numeric && plain.bytes().any(|b| b.is_ascii_digit()) && plain.parse::<f64>().is_ok()
}

/// Whether an API server would take it for something else than text.
pub(super) fn is_text(text: &str) -> bool {
    !is_null(text) && boolean(text).is_none() && !is_number(text)
}

//! Which kinds LBEX reads, and what a misspelt one probably meant.

/// A kind that LBEX reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Service,
    Node,
    EndpointSlice,
    Endpoints,
}

/// Name, the apiVersion that it is read in, and the API group (empty: the core group).
const READ: [(Kind, &str, &str, &str); 4] = [
    (Kind::Service, "Service", "v1", ""),
    (Kind::Node, "Node", "v1", ""),
    (Kind::EndpointSlice, "EndpointSlice", "discovery.k8s.io/v1", "discovery.k8s.io"),
    (Kind::Endpoints, "Endpoints", "v1", ""),
];

/// Other kinds of the core group, which are ignored without a word.
const CORE: [&str; 17] = [
    "Binding",
    "ComponentStatus",
    "ConfigMap",
    "Event",
    "LimitRange",
    "List",
    "Namespace",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "Scale",
    "Secret",
    "ServiceAccount",
    "Status",
];

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Node => "Node",
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
        }
    }
}

/// What an object's apiVersion and kind say about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recognized {
    /// LBEX reads it.
    Read(Kind),
    /// Another kind: nothing to do with LBEX.
    Other,
    /// Probably a mistake; the text says what was probably meant.
    Mistake(String),
}

/// Recognizes an object.
pub(super) fn recognize(api_version: Option<&str>, kind: &str) -> Recognized {
    let Some(api_version) = api_version.filter(|v| !v.is_empty()) else {
        return match READ.iter().find(|(_, name, ..)| *name == kind) {
            Some((_, _, wanted, _)) => {
                Recognized::Mistake(format!("it has no apiVersion ({wanted} for a {kind}); it is left out"))
            }
            None => Recognized::Other,
        };
    };
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    let of_group = || READ.iter().filter(|(.., of)| *of == group);
    if let Some((found, _, wanted, _)) = of_group().find(|(_, name, ..)| *name == kind) {
        if *wanted == api_version {
            return Recognized::Read(*found);
        }
        return Recognized::Mistake(format!("LBEX reads a {kind} of apiVersion {wanted} only; it is left out"));
    }
    if group.is_empty() && CORE.contains(&kind) {
        return Recognized::Other;
    }
    // A kind of ours under the group of another of ours: `v1` EndpointSlice. Other groups have Services of their own.
    let elsewhere = READ.iter().find(|(_, name, wanted, of)| {
        *name == kind && *of != group && *wanted != api_version && (group.is_empty() || group == "discovery.k8s.io")
    });
    if let Some((_, _, wanted, _)) = elsewhere {
        return Recognized::Mistake(format!("a {kind} has apiVersion {wanted}; it is left out"));
    }
    match of_group().find(|(_, name, ..)| is_misspelt(kind, name)) {
        Some((_, name, wanted, _)) => Recognized::Mistake(format!(
            "{wanted} has no kind {}; did you mean {name}? It is left out",
            lbex_core::names::Quoted(kind)
        )),
        None => Recognized::Other,
    }
}

/// Whether `text` is `name` but for its case or two slips of a finger.
fn is_misspelt(text: &str, name: &str) -> bool {
    const SLIPS: usize = 2;
    let (text, name) = (text.to_ascii_lowercase(), name.to_ascii_lowercase());
    if text.len().abs_diff(name.len()) > SLIPS {
        return false;
    }
    // A short name with two slips may be anything ("Code" is no "Node").
    distance(text.as_bytes(), name.as_bytes()) <= if name.len() > 5 { SLIPS } else { 1 }
}

/// Levenshtein's distance; two neighbours in the wrong order count as two.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(api_version: Option<&str>, kind: &str) -> String {
        match recognize(api_version, kind) {
            Recognized::Mistake(text) => text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_kinds_that_are_read() {
        assert_eq!(recognize(Some("v1"), "Service"), Recognized::Read(Kind::Service));
        assert_eq!(recognize(Some("v1"), "Endpoints"), Recognized::Read(Kind::Endpoints));
        assert_eq!(recognize(Some("discovery.k8s.io/v1"), "EndpointSlice"), Recognized::Read(Kind::EndpointSlice));
    }

    #[test]
    fn other_kinds_are_no_mistake() {
        for (api, kind) in
            [("v1", "Secret"), ("apps/v1", "Deployment"), ("serving.knative.dev/v1", "Service"), ("v1", "Voucher")]
        {
            assert_eq!(recognize(Some(api), kind), Recognized::Other, "{api} {kind}");
        }
        assert_eq!(recognize(None, "Kustomization"), Recognized::Other);
    }

    #[test]
    fn mistakes_are_told() {
        assert!(mistake(Some("v1"), "Servcie").contains("did you mean Service?"));
        assert!(mistake(Some("v1"), "service").contains("did you mean Service?"));
        assert!(mistake(Some("v1"), "Endpoint").contains("did you mean Endpoints?"));
        assert!(mistake(Some("discovery.k8s.io/v1"), "EndpointSlices").contains("did you mean EndpointSlice?"));
        assert!(mistake(Some("v1"), "EndpointSlice").contains("apiVersion discovery.k8s.io/v1"));
        assert!(mistake(Some("discovery.k8s.io/v1beta1"), "EndpointSlice").contains("discovery.k8s.io/v1 only"));
        assert!(mistake(Some("1"), "Service").contains("apiVersion v1 only"));
        assert!(mistake(None, "Service").contains("no apiVersion (v1"));
    }
}

//! Why NGINX is reloaded, from what it serves and what it is to serve. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use lbex_core::backend::ReloadReason;
use lbex_core::names::ServiceKey;

use crate::render::Part;

type Parts = BTreeMap<ServiceKey, Arc<Part>>;

/// Of several causes the first in the order of [`ReloadReason`]. `late`: whether a Service's servers were pushed and not taken.
pub(super) fn reason(now: &Parts, next: &Parts, same_zone: bool, late: impl Fn(&ServiceKey) -> bool) -> ReloadReason {
    let gone = now.keys().any(|key| !next.contains_key(key)).then_some(ReloadReason::Listeners);
    let changed = next.iter().filter_map(|(key, part)| match now.get(key) {
        Some(before) => change(before, part, || late(key)),
        None => Some(ReloadReason::Listeners),
    });
    let zone = (!same_zone).then_some(ReloadReason::Zone);
    gone.into_iter().chain(changed).chain(zone).min().unwrap_or(ReloadReason::Global)
}

fn change(before: &Part, after: &Part, late: impl Fn() -> bool) -> Option<ReloadReason> {
    let by_address = |part: &Part| part.groups.is_empty() && part.servers > 0;
    Some(match () {
        () if before.file == after.file => return None,
        () if before.claims != after.claims => ReloadReason::Listeners,
        () if by_address(after) && !before.groups.is_empty() && late() => ReloadReason::Late,
        () if by_address(before) != by_address(after) && before.groups != after.groups => ReloadReason::Options,
        // Without servers there is no upstream, and nothing of what belongs to it.
        () if before.rest != after.rest && before.upstreams == after.upstreams => ReloadReason::Options,
        () if before.groups != after.groups => ReloadReason::Ports,
        () => ReloadReason::Endpoints,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::ServiceFileName;

    fn key() -> ServiceKey {
        ServiceKey::new("default", "web").expect("a name")
    }

    fn parts(text: &str) -> Parts {
        BTreeMap::from([(key(), Arc::new(Part::read(ServiceFileName::of(&key(), text), text)))])
    }

    /// A Service's text with these servers and options.
    fn text(servers: &[&str], options: &str) -> String {
        let servers: String = servers.iter().map(|server| format!("    server {server} max_fails=1;\n")).collect();
        format!(
            "upstream u {{\n{options}{servers}}}\nserver {{\n    listen 0.0.0.0:80 backlog=4096;\n    proxy_pass u;\n}}\n"
        )
    }

    fn between(before: &str, after: &str) -> ReloadReason {
        reason(&parts(before), &parts(after), true, |_| false)
    }

    /// As NGINX asks for servers with that port.
    fn name(port: u16) -> String {
        let group = crate::push::ServerGroup { listener: 80, protocol: lbex_core::model::Protocol::Tcp, port };
        format!("{}:{port} resolve", crate::push::ServerName { service: key(), group })
    }

    #[test]
    fn each_change_has_its_reason() {
        let one = text(&["10.0.0.1:80"], "");
        assert_eq!(between(&one, &text(&["10.0.0.2:80"], "")), ReloadReason::Endpoints);
        let none = "server {\n    listen 0.0.0.0:80 backlog=4096;\n    return \"\";\n}\n";
        assert_eq!(between(&one, none), ReloadReason::Endpoints, "the last endpoint is gone");
        assert_eq!(between(&one, &text(&["10.0.0.2:80"], "    least_conn;\n")), ReloadReason::Options);
        assert_eq!(between(&one, &one.replace(":80 backlog", ":81 backlog")), ReloadReason::Listeners);
        let none = BTreeMap::new();
        assert_eq!(reason(&none, &parts(&one), true, |_| false), ReloadReason::Listeners);
        assert_eq!(reason(&parts(&one), &none, true, |_| false), ReloadReason::Listeners);
        assert_eq!(reason(&parts(&one), &parts(&one), false, |_| false), ReloadReason::Zone);
        assert_eq!(between(&one, &one), ReloadReason::Global);
    }

    #[test]
    fn names_have_reasons_of_their_own() {
        let (first, second) = (name(8080), name(8081));
        let named = text(&[&first], "");
        let address = text(&["10.0.0.1:8080"], "");
        assert_eq!(between(&named, &text(&[&first, &second], "")), ReloadReason::Ports);
        assert_eq!(reason(&parts(&named), &parts(&address), true, |_| true), ReloadReason::Late);
        assert_eq!(between(&named, &address), ReloadReason::Options, "no longer pushed");
        assert_eq!(between(&address, &named), ReloadReason::Options, "pushed from now on");
    }

    #[test]
    fn of_several_causes_the_first_in_order_counts() {
        let (one, two) = (text(&["10.0.0.1:80"], ""), text(&["10.0.0.2:80"], ""));
        assert_eq!(reason(&parts(&one), &parts(&two), false, |_| false), ReloadReason::Zone);
    }
}

//! How long NGINX may take, by how much it has to read.
//!
//! Measured on an idle host: 0.1 ms per upstream for a check, 0.6 ms for a reload. A busy one takes many times that; a limit that is too
//! short would call a configuration refused, or a reload failed, for ever, while one that is too long is noticed only where NGINX hangs.

use std::time::Duration;

use super::choose::Choice;

/// One `nginx -t`, whatever there is to check.
const CHECK: Duration = Duration::from_secs(20);

/// A start or a reload until it is confirmed, whatever there is to serve. A port that is taken costs NGINX 2.5 s.
const TAKE_OVER: Duration = Duration::from_secs(30);

/// How much longer for every upstream, or listening socket where there are more of those.
const EACH: Duration = Duration::from_millis(10);

/// How long one `nginx -t` of this choice may take.
pub(super) fn check(choice: &Choice) -> Duration {
    CHECK + EACH * size(choice)
}

/// How long a start, a reload or an upgrade to this choice may take until it is confirmed.
pub(super) fn take_over(choice: &Choice) -> Duration {
    TAKE_OVER + EACH * size(choice)
}

fn size(choice: &Choice) -> u32 {
    let sizes =
        choice.parts.values().map(|part| u32::try_from(part.claims.len()).unwrap_or(u32::MAX).max(part.upstreams));
    sizes.fold(0, u32::saturating_add)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lbex_core::names::ServiceKey;

    use super::*;
    use crate::render::{Part, ServiceFileName};

    #[test]
    fn grows_with_what_there_is_to_serve() {
        let text = "upstream a {\n server 127.0.0.1:1;\n}\nserver {\n listen 127.0.0.1:80;\n listen 127.0.0.2:80;\n}\n";
        let mut choice = Choice::default();
        assert_eq!((check(&choice), take_over(&choice)), (Duration::from_secs(20), Duration::from_secs(30)));
        for n in 0..5000 {
            let key = ServiceKey::new("default", &format!("s{n}")).expect("a name");
            let part = Part::read(ServiceFileName::of(&key, text), text);
            choice.parts.insert(key, Arc::new(part));
        }
        // Two sockets each.
        assert_eq!((check(&choice), take_over(&choice)), (Duration::from_secs(120), Duration::from_secs(130)));
    }
}

//! Which backends a binary has.

use super::*;

/// A backend that somebody links in, by this name.
pub(crate) struct Mine(pub(crate) &'static str);

#[async_trait]
impl LinkedBackend for Mine {
    fn name(&self) -> &'static str {
        self.0
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn open(&self, _: Given) -> Result<Arc<dyn ProxyBackend>, OpenError> {
        Err("there is none".into())
    }
}

/// Backends of which there is one at least, whatever this build has.
pub(crate) fn some() -> Backends {
    Backends::built_in().with(Mine("mine"))
}

#[test]
fn a_binary_has_the_backends_of_its_features() {
    let all = Backends::built_in();
    let names: Vec<&str> = all.all().iter().map(|backend| backend.offer().name()).collect();
    let expected = [("nginx", cfg!(feature = "backend-nginx")), ("nginx-plus", cfg!(feature = "backend-nginx-plus"))];
    assert_eq!(names, expected.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect::<Vec<_>>());
    assert_eq!(all.has(Part::Plugins), cfg!(feature = "plugins"));
    assert_eq!(all.plugin_abi().is_some(), cfg!(feature = "plugins"));
    assert!(all.has(Part::Every));
}

#[test]
fn what_somebody_links_in_comes_behind_what_is_there() {
    let backends = Backends::none().with(Mine("mine")).with(Mine("other"));
    assert_eq!(backends.first().unwrap().offer().name(), "mine");
    assert_eq!(backends.allowed(), "mine, other");
    assert!(backends.has(Part::Others) && !backends.has(Part::Plugins) && !backends.has(Part::Nginx));
    assert!(!Backends::none().has(Part::Others));
    let first = Backends::built_in().first().map(|backend| backend.offer().name());
    let first_with_mine = Backends::built_in().with(Mine("mine")).first().map(|backend| backend.offer().name());
    assert_eq!(first_with_mine, first.or(Some("mine")));
}

#[test]
fn names_are_plain_and_belong_to_one_backend() {
    for bad in ["", "Mine", "-x", "a b", "../x", "nginx", "nginx-plus", "mine"] {
        let add = || Backends::none().with(Mine("mine")).with(Mine(bad));
        assert!(std::panic::catch_unwind(add).is_err(), "{bad:?}");
    }
}

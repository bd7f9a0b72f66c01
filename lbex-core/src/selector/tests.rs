use super::*;
use crate::model::ServiceType;
use crate::names::ServiceKey;

fn service(key: &str, pool: Option<&str>) -> Service {
    let (namespace, name) = key.split_once('/').unwrap();
    Service {
        key: ServiceKey::new(namespace, name).unwrap(),
        uid: "".into(),
        created: None,
        kind: ServiceType::NodePort,
        load_balancer_class: None,
        annotations: pool.map(|pool| (annotations::POOL.into(), pool.into())).into_iter().collect(),
        unquoted: Vec::new(),
        cluster_ips: Vec::new(),
        headless: false,
        external_name: None,
        ports: Vec::new(),
        client_ip_affinity: false,
        local_traffic_only: false,
        source_ranges: Vec::new(),
    }
}

/// Whether a selector serves a Service of this pool; if not, the reason must be of this kind and be one line.
fn served(selector: &dyn ServiceSelector, pool: Option<&str>) -> bool {
    match selector.select(&service("default/web", pool)) {
        Selection::Selected => true,
        Selection::Ignored(reason) => {
            let text = reason.to_string();
            assert!(!text.contains('\n') && text.len() < 1000, "{text}");
            assert_eq!(reason.effect(), crate::rejection::Effect::NotServed);
            false
        }
    }
}

fn pool_name(text: &str) -> Option<PoolName> {
    PoolName::new(text).ok()
}

/// Contract section 3, the table: the six rows, and for each pool annotation whether the Service is served.
#[test]
fn the_pool_table() {
    let rows: [(&str, Box<dyn ServiceSelector>, [bool; 3]); 6] = [
        // Pool annotation:                                         absent, equal, differs. Without a pool of the
        // instance nothing is equal, and every pool differs.
        ("no --service-pool", Box::new(InPool(None)), [true, false, false]),
        ("--strict-affinity", Box::new(Strict(None)), [true, false, false]),
        ("--anti-affinity", Box::new(Anti(None)), [false, true, true]),
        ("--service-pool", Box::new(InPool(pool_name("blue"))), [true, true, false]),
        ("--service-pool --strict-affinity", Box::new(Strict(pool_name("blue"))), [false, true, false]),
        ("--service-pool --anti-affinity", Box::new(Anti(pool_name("blue"))), [true, false, true]),
    ];
    for (row, selector, [absent, equal, differs]) in &rows {
        let served = |pool| served(selector.as_ref(), pool);
        assert_eq!(served(None), *absent, "{row}, absent");
        assert_eq!(served(Some("blue")), *equal, "{row}, equal");
        assert_eq!(served(Some("green")), *differs, "{row}, differs");
        assert_eq!(served(Some("Blue")), *differs, "{row}, differs in case");
        for empty in ["", "  ", "\n\t"] {
            assert_eq!(served(Some(empty)), *absent, "{row}, empty counts as absent");
        }
        for invalid in ["-blue", "blue-", "blue green", "bl/ue", "blue;", "bläu", "blue\nblue", &"b".repeat(64)] {
            assert!(!served(Some(invalid)), "{row}, {invalid:?} matches no instance");
        }
    }
}

#[test]
fn a_pool_may_have_1_to_63_characters() {
    for pool in ["b", "9", "blue-1_x.Y", &"b".repeat(63)] {
        let selector = Strict(pool_name(pool));
        assert!(served(&selector, Some(pool)), "{pool}");
        assert!(served(&selector, Some(&format!(" {pool} "))), "spaces around it do not count");
    }
}

#[test]
fn a_reason_names_both_pools() {
    let text = |selector: &dyn ServiceSelector, pool| match selector.select(&service("default/web", pool)) {
        Selection::Selected => "selected".to_owned(),
        Selection::Ignored(reason) => reason.to_string(),
    };
    let strict = Strict(pool_name("blue"));
    let expected = "its pool (green) is not for this instance (--service-pool=blue --strict-affinity)";
    assert_eq!(text(&strict, Some("green")), expected);
    let expected = "its pool (none) is not for this instance (--service-pool=blue --strict-affinity)";
    assert_eq!(text(&strict, None), expected);
    assert_eq!(text(&InPool(None), Some("green")), "its pool (green) is not for this instance (no --service-pool)");
    assert_eq!(
        text(&Anti(None), Some("a\nb")),
        "annotation loadbalancer.lbex/service-pool: \"a\\nb\" is not a pool name (1-63 of A-Z, a-z, 0-9, with '-', '_' \
         and '.' inside); no instance serves it"
    );
}

#[test]
fn by_name_in_one_namespace_or_in_every_one() {
    let serves =
        |flag: &str, key: &str| ByName::parse(flag).unwrap().select(&service(key, None)) == Selection::Selected;
    assert!(serves("web", "default/web") && serves("web", "shop/web"));
    assert!(!serves("web", "default/api") && !serves("web", "web/api") && !serves("web", "default/web-1"));
    assert!(serves("shop/web", "shop/web"));
    assert!(!serves("shop/web", "default/web") && !serves("shop/web", "shop/api"));
}

#[test]
fn by_name_says_which_is_served() {
    let reason = |flag: &str| ByName::parse(flag).unwrap().select(&service("default/api", None));
    for flag in ["web", "shop/web"] {
        let wanted = flag.to_owned();
        assert_eq!(reason(flag), Selection::Ignored(Reason::OtherServiceName { wanted }));
    }
}

#[test]
fn names_that_no_service_can_have_are_refused() {
    for text in ["", "/", "shop/", "/web", "a/b/c", "Web", "we b", "web\n", "-web", "we_b", &"w".repeat(64)] {
        assert!(ByName::parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_name_narrows_what_the_pool_allows() {
    let both = All(vec![Box::new(ByName::parse("web").unwrap()), Box::new(Strict(pool_name("blue")))]);
    assert_eq!(both.select(&service("default/web", Some("blue"))), Selection::Selected);
    let by_name = both.select(&service("default/api", Some("green")));
    assert!(matches!(by_name, Selection::Ignored(Reason::OtherServiceName { .. })), "the first gives the reason");
    let by_pool = both.select(&service("default/web", Some("green")));
    assert!(matches!(by_pool, Selection::Ignored(Reason::OtherPool { .. })));
    assert_eq!(All::default().select(&service("default/web", Some("green"))), Selection::Selected);
}

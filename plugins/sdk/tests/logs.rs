//! What a plugin says goes to LBEX. In a process of its own: a library has one log.

mod common;

use common::Loaded;

#[test]
fn what_it_says_through_tracing_and_where_it_panics_is_in_the_log_of_lbex() {
    let loaded = Loaded::load("panics", None).unwrap();
    loaded.observe();
    assert_eq!(*loaded.logged.lock().unwrap(), ["looked number=7"]);
    assert!(Loaded::load("panics", Some("open")).is_err());
    let logged = loaded.logged.lock().unwrap();
    let panic = &logged[1];
    assert!(panic.starts_with("the plugin panicked: panicked at ") && panic.contains("panics.rs"), "{panic}");
}

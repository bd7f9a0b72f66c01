use super::*;

#[test]
fn templates_parse() {
    Templates::new().expect("the templates are sound");
}

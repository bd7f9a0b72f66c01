//! Files in, objects and problems out.

use std::fs;
use std::path::{Path, PathBuf};

use lbex_core::model::Protocol;
use proptest::prelude::*;

use super::contents::Contents;
use super::*;

/// The original README's NTP Service, in its short form.
const NTP: &str = "
apiVersion: v1
kind: Service
metadata:
  name: ntp
  annotations:
    kubernetes.io/loadbalancer-class: \"loadbalancer-lbex\"
    loadbalancer.lbex/port: 123
spec:
  type: NodePort
  ports:
  - port: 123
    protocol: UDP
    nodePort: 30123
";

fn loaded(files: &[(&str, &str)]) -> Loaded {
    let temp = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(temp.path().join(name), text).unwrap();
    }
    let mut loaded = load(&[temp.path().to_path_buf()], &[]);
    for problem in &mut loaded.problems {
        problem.path = problem.path.strip_prefix(temp.path()).unwrap().to_path_buf();
    }
    loaded
}

fn one(text: &str) -> Loaded {
    loaded(&[("a.yaml", text)])
}

fn names(loaded: &Loaded) -> Vec<String> {
    loaded.services.iter().map(|service| service.key.to_string()).collect()
}

fn problems(loaded: &Loaded) -> Vec<String> {
    loaded.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn the_originals_spelling() {
    let loaded = one(NTP);
    assert_eq!(problems(&loaded), [""; 0]);
    let service = &loaded.services[0];
    assert_eq!(service.key.to_string(), "default/ntp");
    assert_eq!(&*service.annotations["loadbalancer.lbex/port"], "123");
    assert_eq!(service.unquoted, ["loadbalancer.lbex/port".into()]);
    assert_eq!((service.ports[0].protocol, service.ports[0].node_port), (Some(Protocol::Udp), Some(30123)));
}

#[test]
fn the_quickstarts_manifests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart");
    let loaded = load(&[folder.clone(), folder.join("later")], &[]);
    assert_eq!(problems(&loaded), [""; 0]);
    assert_eq!(names(&loaded), ["default/ntp", "default/web", "default/echo"]);
    assert_eq!((loaded.nodes.len(), loaded.endpoints.len()), (2, 3));
    assert_eq!(loaded.services[0].unquoted, ["loadbalancer.lbex/port".into()]);
}

#[test]
fn annotation_values_are_their_text() {
    let values = [
        ("123", "123", true),
        ("\"123\"", "123", false),
        ("'yes'", "yes", false),
        ("true", "true", true),
        ("on", "on", true),
        ("0x7b", "0x7b", true),
        ("1_000", "1_000", true),
        ("1e3", "1e3", true),
        ("1.50", "1.50", true),
        ("0123", "0123", true),
        ("5s", "5s", false),
        ("round_robin", "round_robin", false),
        ("", "", false),
        ("~", "", false),
    ];
    for (written, wanted, unquoted) in values {
        let loaded = one(&NTP.replace("port: 123\nspec", &format!("port: {written}\nspec")));
        let service = &loaded.services[0];
        assert_eq!(&*service.annotations["loadbalancer.lbex/port"], wanted, "{written}");
        assert_eq!(!service.unquoted.is_empty(), unquoted, "{written}");
    }
    let json = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"a","annotations":{"loadbalancer.lbex/port":1.0e2}}}"#;
    let service = &loaded(&[("a.json", json)]).services[0];
    assert_eq!((&*service.annotations["loadbalancer.lbex/port"], service.unquoted.len()), ("1.0e2", 1));
    let nested = one(&NTP.replace("port: 123\nspec", "port: [1]\nspec"));
    let text = &problems(&nested)[0];
    assert!(
        text.starts_with("a.yaml:8:29: Service default/ntp: metadata.annotations.loadbalancer.lbex/port: "),
        "{text}"
    );
}

#[test]
fn lists_of_all_sorts() {
    let list = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: a}}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {ports: 7}}
- {apiVersion: v1, kind: Node, metadata: {name: n}}
- {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Service, metadata: {name: b}}]}
---
apiVersion: v1
kind: ServiceList
items:
- metadata: {name: c, namespace: x}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSliceList
items:
- {metadata: {name: c-1, namespace: x, labels: {kubernetes.io/service-name: c}}, addressType: IPv4, endpoints: [{addresses: [10.0.0.1]}], ports: [{port: 80}]}
---
{apiVersion: v1, kind: EndpointsList, items: [{metadata: {name: c}, subsets: [{addresses: [{ip: 10.0.0.2}]}]}]}
---
{apiVersion: v1, kind: NodeList, items: null}
";
    let loaded = one(list);
    assert_eq!(problems(&loaded), [""; 0]);
    assert_eq!(names(&loaded), ["default/a", "default/b", "x/c"]);
    assert_eq!((loaded.nodes.len(), loaded.endpoints.len()), (1, 2));
}

#[test]
fn which_files_of_a_folder() {
    let service = |name: &str| format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}}}");
    let temp = tempfile::tempdir().unwrap();
    for name in ["b.yml", "a.yaml", ".hidden.yaml", "c.json", "d.txt", "e.yaml~", "f.yaml.swp", "..data.yaml"] {
        let object = service(name.split('.').next().filter(|n| !n.is_empty()).unwrap_or("hidden"));
        let object = if name == "c.json" { service("c").replace(char::is_alphanumeric, "") } else { object };
        fs::write(temp.path().join(name), object).unwrap();
    }
    fs::write(temp.path().join("c.json"), r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"c"}}"#).unwrap();
    fs::create_dir(temp.path().join("deeper.yaml")).unwrap();
    fs::write(temp.path().join("deeper.yaml/z.yaml"), service("z")).unwrap();
    let loaded = load(&[temp.path().to_path_buf()], &[]);
    assert_eq!(names(&loaded), ["default/a", "default/b", "default/c"]);
    assert_eq!(problems(&loaded), [""; 0]);
    // A file that is named itself is read whatever its name.
    assert_eq!(names(&load(&[temp.path().join("d.txt")], &[])), ["default/d"]);
}

#[test]
fn of_two_the_first_counts() {
    let with_port = |port: u16| {
        format!("{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {{ports: [{{port: {port}}}]}}}}")
    };
    let loaded = loaded(&[("b.yaml", &with_port(2)), ("a.yaml", &(with_port(1) + "\n---\n" + &with_port(3)))]);
    assert_eq!(loaded.services[0].ports[0].port, 1);
    assert_eq!(loaded.services.len(), 1);
    let texts = problems(&loaded);
    assert!(texts[0].starts_with("a.yaml:3:1: Service default/a: it is already in "), "{texts:?}");
    assert!(texts[1].starts_with("b.yaml:1:1: Service default/a: it is already in "), "{texts:?}");
    assert!(texts[1].contains("a.yaml:1:1, which counts"), "{texts:?}");
    assert!(loaded.problems.iter().all(|p| p.kind == ProblemKind::Duplicate));
}

#[test]
fn paths_count_in_their_order() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str, port: u16| -> PathBuf {
        let path = temp.path().join(name);
        let text =
            format!("{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {{ports: [{{port: {port}}}]}}}}");
        fs::write(&path, text).unwrap();
        path
    };
    let (z, a) = (path("z.yaml", 1), path("a.yaml", 2));
    assert_eq!(load(&[z.clone(), a.clone()], &[]).services[0].ports[0].port, 1);
    assert_eq!(load(&[a, z], &[]).services[0].ports[0].port, 2);
}

#[test]
fn an_object_that_is_not_valid_is_left_out_alone() {
    let text = NTP.replace("name: ntp", "name: good")
        + "---"
        + &NTP.replace("port: 123\n    proto", "port: many\n    proto")
        + "---"
        + &NTP.replace("- port: 123", "- port: 123456").replace("name: ntp", "name: big")
        + "---"
        + &NTP.replace("name: ntp", "name: [x]");
    let loaded = one(&text);
    assert_eq!(names(&loaded), ["default/good"]);
    let texts = problems(&loaded);
    assert!(
        texts[0].starts_with("a.yaml:26:11: Service default/ntp: spec.ports[0].port: is \"many\"; a whole number"),
        "{texts:?}"
    );
    assert!(
        texts[1].starts_with("a.yaml:40:11: Service default/big: spec.ports[0].port 123456 is not valid"),
        "{texts:?}"
    );
    assert!(texts[2].contains("metadata.name: is a list; text is needed; the object is left out"), "{texts:?}");
    assert_eq!(texts.len(), 3);
}

#[test]
fn quoted_numbers_and_booleans_of_yaml_1_1() {
    let quoted = one(&NTP.replace("- port: 123", "- port: \"123\""));
    assert!(problems(&quoted)[0].contains("is the text \"123\"; a whole number (without quotes) is needed"));
    let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s, labels: {kubernetes.io/service-name: a}},
      endpoints: [{addresses: [10.0.0.1], conditions: {ready: off, serving: yes}}], ports: [{port: 80}]}";
    let loaded = one(slice);
    let endpoint = &loaded.endpoints[0].subsets[0].endpoints[0];
    assert_eq!((endpoint.ready, endpoint.serving), (false, true));
}

#[test]
fn mistakes_get_hints() {
    let loaded = one("
{apiVersion: v1, kind: Servcie, metadata: {name: a}}
---
{kind: Service, metadata: {name: a}}
---
just text
---
{replicas: 3}
---
{apiVersion: v1, kind: Service, metadata: {name: a, name: b}}
---
{apiVersion: v1, kind: Secret, data: {a: 1, a: 2}}
");
    let texts = problems(&loaded);
    assert_eq!(
        texts[0],
        "a.yaml:2:1: Servcie default/a: v1 has no kind \"Servcie\"; did you mean Service? It is left out"
    );
    assert!(texts[1].contains("it has no apiVersion"), "{texts:?}");
    assert!(texts[2].starts_with("a.yaml:6:1: it is no Kubernetes object"), "{texts:?}");
    assert!(texts[3].contains("it has no kind"), "{texts:?}");
    assert_eq!(texts[4], "a.yaml:10:53: the key \"name\" stands twice in one mapping; the last one counts");
    assert_eq!((texts.len(), names(&loaded)), (5, vec!["default/b".to_owned()]));
}

#[test]
fn one_file_that_does_not_parse() {
    let loaded = loaded(&[("a.yaml", NTP), ("b.yaml", "a: [1,\nb: 2\n"), ("c.json", "{\"a\": ")]);
    assert_eq!(names(&loaded), ["default/ntp"]);
    assert!(!loaded.unreadable());
    let texts = problems(&loaded);
    assert!(texts[0].starts_with("b.yaml:") && texts[0].contains("it does not parse: "), "{texts:?}");
    assert!(texts[1].starts_with("c.json:1:") && loaded.problems[1].kind == ProblemKind::NotParsed, "{texts:?}");
}

#[test]
fn what_cannot_be_read() {
    let temp = tempfile::tempdir().unwrap();
    let missing = load(&[temp.path().join("missing")], &[]);
    assert!(missing.unreadable());
    let empty = load(&[temp.path().to_path_buf()], &[]);
    assert!(!empty.unreadable() && empty.problems[0].text.contains("no .yaml, .yml or .json"), "{:?}", empty.problems);
    let large = temp.path().join("large.yaml");
    fs::File::create(&large).unwrap().set_len(100_000_001).unwrap();
    let large = load(&[large], &[]);
    assert!(large.problems[0].text.contains("more than 100000000 bytes"), "{:?}", large.problems);
    std::os::unix::fs::symlink("/nowhere/at/all", temp.path().join("dangling.yaml")).unwrap();
    let dangling = load(&[temp.path().to_path_buf()], &[]);
    assert!(dangling.problems.iter().any(|p| p.path.ends_with("dangling.yaml") && p.text.contains("cannot be read")));
}

#[test]
fn namespaces() {
    let temp = tempfile::tempdir().unwrap();
    let text = NTP.to_owned()
        + "---"
        + &NTP.replace("name: ntp", "name: ntp\n  namespace: other")
        + "---\n{apiVersion: v1, kind: Node, metadata: {name: n}}";
    fs::write(temp.path().join("a.yaml"), text).unwrap();
    let paths = [temp.path().to_path_buf()];
    assert_eq!(names(&load(&paths, &["other".to_owned()])), ["other/ntp"]);
    assert_eq!((load(&paths, &[]).services.len(), load(&paths, &["none".to_owned()]).nodes.len()), (2, 1));
}

#[test]
fn hostile_text_gives_short_problems() {
    let long = "x\\n".repeat(100_000);
    let texts = [
        format!("{{apiVersion: v1, kind: \"{long}\", metadata: {{name: a}}}}"),
        format!("{{apiVersion: v1, kind: Service, metadata: {{name: \"{long}\"}}}}"),
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: a, annotations: {{? \"loadbalancer.lbex/{long}\" : [1]}}}}}}"
        ),
        format!("{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {{ports: [{{port: \"{long}\"}}]}}}}"),
    ];
    for text in texts {
        let loaded = one(&text);
        for problem in problems(&loaded) {
            assert!(problem.len() < 800 && !problem.contains('\n'), "{problem}");
        }
        assert!(loaded.services.is_empty());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_loader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), json: bool) {
        Contents::parse(&bytes, json).ok();
    }

    #[test]
    fn no_yaml_like_text_makes_the_loader_panic(
        parts in proptest::collection::vec(proptest::sample::select(PARTS), 0..60), json: bool,
    ) {
        Contents::parse(parts.concat().as_bytes(), json).ok();
    }

    #[test]
    fn no_cut_or_changed_manifest_makes_the_loader_panic(cut in 0..NTP.len(), at in 0..NTP.len(), byte: u8) {
        let mut bytes = NTP.as_bytes()[cut..].to_vec();
        if let Some(place) = bytes.get_mut(at) { *place = byte; }
        Contents::parse(&bytes, false).ok();
    }
}

const PARTS: &[&str] = &[
    "apiVersion: v1\n",
    "kind: Service\n",
    "kind: List\n",
    "items:\n",
    "metadata:\n",
    "  name: a\n",
    "spec:\n",
    "  ports:\n",
    "  - port: 1\n",
    "- ",
    "&a ",
    "*a",
    "<<: ",
    "? ",
    ": ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "|\n",
    ">-\n",
    "\"",
    "'",
    "\\",
    "!!str ",
    "!<x> ",
    "%YAML 1.2\n",
    "---\n",
    "...\n",
    "#",
    "\t",
    "\n",
    " ",
    "  ",
    "\u{feff}",
    "é",
    "\0",
    "\r",
    "~",
    "1",
    "true",
    "\"apiVersion\":\"v1\",",
    "\"kind\":\"Service\",",
    "\\u",
    "\\ud83d",
];

/// Reading 10,000 Services takes a fraction of a second in a release build; a debug build may take some seconds.
#[test]
fn ten_thousand_services_in_one_file() {
    let mut text = String::new();
    for n in 0..10_000 {
        text += "---";
        text += &NTP.replace("name: ntp", &format!("name: ntp-{n}"));
    }
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("all.yaml"), &text).unwrap();
    let start = std::time::Instant::now();
    let loaded = load(&[temp.path().to_path_buf()], &[]);
    let elapsed = start.elapsed();
    assert_eq!(loaded.services.len(), 10_000);
    assert!(elapsed.as_secs() < 20, "{elapsed:?}");
    println!("{} bytes in {elapsed:?}", text.len());
}

#[test]
fn a_pipe_is_read_once() {
    use std::io::Write;
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("pipe");
    nix::unistd::mkfifo(Path::new(&path), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let writer = {
        let path = path.clone();
        std::thread::spawn(move || {
            fs::OpenOptions::new().write(true).open(path).unwrap().write_all(NTP.as_bytes()).unwrap();
        })
    };
    assert_eq!(names(&load(&[path], &[])), ["default/ntp"]);
    writer.join().unwrap();
}

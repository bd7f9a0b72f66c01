use std::fmt::Write;

use super::*;

fn parsed(text: &str) -> Vec<String> {
    try_parsed(text, false).unwrap()
}

fn try_parsed(text: &str, json: bool) -> Result<Vec<String>, SyntaxError> {
    let mut all = Vec::new();
    documents(text.as_bytes(), json, &mut |document| all.push(shown(&document.root)))?;
    Ok(all)
}

/// A tree in one line: quoted text in quotes, plain text as it is.
fn shown(node: &Node<'_>) -> String {
    match node.value() {
        Value::Quoted(text) => format!("{text:?}"),
        Value::Plain(text) => text.to_string(),
        Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")),
        Value::Map(entries) => {
            let entries: Vec<_> = entries.iter().map(|(k, v)| format!("{}:{}", shown(k), shown(v))).collect();
            format!("{{{}}}", entries.join(","))
        }
        Value::Shared(_) => unreachable!("value() follows these"),
    }
}

fn error_at(text: &str, json: bool) -> (u32, u32, String) {
    let error = try_parsed(text, json).unwrap_err();
    (error.at.line, error.at.column, error.text)
}

#[test]
fn yaml_documents() {
    assert_eq!(parsed("a: 1\n---\nb: '2'\n---\n# nothing\n---\n...\n"), ["{a:1}", "{b:\"2\"}"]);
    assert_eq!(parsed("a: |\n  x\n  y\n"), ["{a:\"x\\ny\\n\"}"]);
    assert_eq!(parsed("\u{feff}a: !!str 1\nb: !Custom 2"), ["{a:\"1\",b:2}"]);
    assert_eq!(parsed("{a: 1, b: [x, y]}"), ["{a:1,b:[x,y]}"]);
    assert_eq!(parsed("a: 0x7b\nb: 1_000\nc: 1e3\nd: 1.50\ne: Yes"), ["{a:0x7b,b:1_000,c:1e3,d:1.50,e:Yes}"]);
    assert_eq!(parsed(""), [""; 0]);
}

#[test]
fn json_documents() {
    let both = |text: &str| {
        let json = try_parsed(text, true).unwrap();
        assert_eq!(parsed(text), json, "a file that begins with {{ is JSON where it can be");
        json
    };
    assert_eq!(
        both("{\"a\": 1}{\"b\": [true, null, \"x\"]}\n\n{\"c\": {}}"),
        ["{\"a\":1}", "{\"b\":[true,null,\"x\"]}", "{\"c\":{}}"]
    );
    assert_eq!(both("{\"a\": 1.50e3, \"b\": \"\\u00e9\\ud83d\\ude00\\n\"}"), ["{\"a\":1.50e3,\"b\":\"é😀\\n\"}"]);
    assert_eq!(try_parsed("null", true).unwrap(), [""; 0]);
}

#[test]
fn aliases_and_merge_keys() {
    assert_eq!(parsed("a: &x {p: 1}\nb: *x"), ["{a:{p:1},b:{p:1}}"]);
    assert_eq!(parsed("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}"), ["{a:{p:1,q:2},b:{q:3,p:1}}"]);
    assert_eq!(parsed("- &x {p: 1}\n- &y {p: 2, q: 2}\n- <<: [*x, *y]\n"), ["[{p:1},{p:2,q:2},{p:1,q:2}]"]);
    // An anchor ends with its document.
    assert!(try_parsed("a: &x 1\n---\nb: *x", false).is_err());
    assert!(try_parsed("a: &x [*x]", false).is_err());
}

#[test]
fn bombs_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..20 {
        let before = vec![format!("*a{}", n - 1); 10].join(", ");
        writeln!(bomb, "a{n}: &a{n} [{before}]").unwrap();
    }
    assert!(error_at(&bomb, false).2.contains("stand for more than 64 MiB"));
    for deep in ["[".repeat(100_000), "{\"a\":".repeat(100_000), "- ".repeat(100_000)] {
        for json in [false, true] {
            assert!(try_parsed(&deep, json).is_err());
        }
    }
}

#[test]
fn errors_say_where() {
    let (line, _, text) = error_at("a: 1\nb: [1, 2\nc: 3\n", false);
    assert!((2..=4).contains(&line), "{line} {text}");
    assert_eq!(error_at("a: b: c", false).0, 1);
    let (line, column, text) = error_at("{\n  \"é\": 1,\n  \"b\": nope\n}", true);
    assert_eq!((line, column), (3, 8));
    assert_eq!(text, "a JSON value is expected, not 'n'");
    assert_eq!(error_at("{\"é\": x}", true).1, 7);
    assert!(error_at("{\"a\": 1", true).2.contains("the end of the file"));
    assert!(error_at("{\"a\": \"\\q\"}", true).2.contains("escape sequence"));
    assert!(error_at("{\"a\": 01}", true).2.contains("a JSON value"));
    let mut each = |_: Document<'_>| {};
    let error = documents(b"a: 1\nb: \xff\n", false, &mut each).unwrap_err();
    assert_eq!((error.at, error.text.as_str()), (Position::of(2, 4), "the file is not UTF-8 text here"));
}

#[test]
fn keys() {
    let mut repeated = Vec::new();
    documents(b"a: 1\nb: 2\na: 3\n", false, &mut |d| repeated.extend(d.repeated)).unwrap();
    assert_eq!(repeated, [(Position::of(3, 1), "a".to_owned())]);
    assert_eq!(parsed("a: 1\nb: 2\na: 3\n"), ["{a:3,b:2}"]);
    let many = (0..100).map(|n| format!("k{}: {n}", n % 50)).collect::<Vec<_>>().join("\n");
    assert!(parsed(&many)[0].starts_with("{k0:50,k1:51,") && parsed(&many)[0].ends_with("k49:99}"));
    assert!(error_at("[a, b]: 1", false).2.contains("only text keys"));
    assert_eq!(parsed("managedFields: [1, 2]"), ["{managedFields:}"]);
}

#[test]
fn positions_of_fields() {
    documents(b"a:\n  - x: 1\n  - y: &n 22\nb.c: 3\nz: *n\n", false, &mut |document| {
        let at = |path: &str| document.root.locate(path).to_string();
        assert_eq!(at("a[1].y"), "3:11");
        assert_eq!(at("a[1].missing"), "3:5");
        assert_eq!(at("[b.c]"), "4:6");
        assert_eq!(at("z"), "5:4");
        assert_eq!(at("a[7]"), "2:3");
    })
    .unwrap();
}

#[test]
fn scalars() {
    for text in ["1", "-1", "0x7b", "0o17", "017", "0b1", "1_000", "1e3", "1.5", ".5", ".inf", "-.Inf", ".nan", "+1"] {
        assert!(scalar::is_number(text), "{text}");
    }
    for text in ["", "a", "1a", "0x", "_1", "inf", "nan", "1.2.3.4", "::1", "10.0.0.0/8", "e", ".", "-", "1:20"] {
        assert!(!scalar::is_number(text), "{text}");
    }
    for (text, wanted) in [("80", Some(80)), ("-1", Some(-1)), ("0", Some(0)), ("017", None), ("1_0", None), ("", None)]
    {
        assert_eq!(scalar::integer(text), wanted, "{text}");
    }
    for text in ["true", "True", "YES", "on", "y"] {
        assert_eq!(scalar::boolean(text), Some(true));
    }
    for text in ["false", "No", "OFF", "n"] {
        assert_eq!(scalar::boolean(text), Some(false));
    }
    assert_eq!(scalar::boolean("tRUE"), None);
}

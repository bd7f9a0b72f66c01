//! `lbex_plugin.h` is strict C99, and says the same as the tables in Rust: to the byte.

use std::fmt::Write as _;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::Command;

use lbex_plugin_abi::tables::{self, Backend, Buf, Host, PluginInfo, code, level};

fn include() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../include")
}

/// Name in C, value in Rust.
fn expected() -> Vec<(&'static str, u64)> {
    macro_rules! offsets {
        ($table:literal, $rust:ty: $($field:ident),*) => {
            vec![
                (concat!("sizeof(struct ", $table, ")"), size_of::<$rust>()),
                $((concat!("offsetof(struct ", $table, ", ", stringify!($field), ")"), offset_of!($rust, $field)),)*
            ]
        };
    }
    let tables = [
        offsets!("lbex_buf", Buf: data, len),
        offsets!("lbex_host", Host: size, abi_major, abi_minor, ctx, log, wake),
        offsets!("lbex_backend", Backend: size, reserved, ctx, apply, observe, cancel, buf_free, close, stop),
        offsets!("lbex_plugin_info", PluginInfo: magic, size, abi_major, abi_minor, backend_size, host_size, name, version, capabilities, buf_free),
    ];
    let number = |code: i32| u64::try_from(code).unwrap();
    let numbers = [
        ("LBEX_PLUGIN_MAGIC", tables::MAGIC),
        ("LBEX_ABI_MAJOR", tables::ABI_MAJOR.into()),
        ("LBEX_ABI_MINOR", tables::ABI_MINOR.into()),
        ("LBEX_MAX_DOCUMENT", tables::MAX_DOCUMENT as u64),
        ("LBEX_OK", number(code::OK)),
        ("LBEX_PARTIAL", number(code::PARTIAL)),
        ("LBEX_RETRY", number(code::RETRY)),
        ("LBEX_INVALID", number(code::INVALID)),
        ("LBEX_UNSUPPORTED", number(code::UNSUPPORTED)),
        ("LBEX_RESYNC", number(code::RESYNC)),
        ("LBEX_PANIC", number(code::PANIC)),
        ("LBEX_LOG_ERROR", number(level::ERROR)),
        ("LBEX_LOG_WARN", number(level::WARN)),
        ("LBEX_LOG_INFO", number(level::INFO)),
        ("LBEX_LOG_DEBUG", number(level::DEBUG)),
        ("LBEX_LOG_TRACE", number(level::TRACE)),
    ];
    tables.into_iter().flatten().map(|(name, value)| (name, value as u64)).chain(numbers).collect()
}

/// Compiles `source` as strictly as C99 can be, and answers what the program prints.
fn compiled_and_run(source: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (file, program) = (folder.path().join("test.c"), folder.path().join("test"));
    std::fs::write(&file, source).unwrap();
    let strict = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"];
    let compiled = Command::new("cc").args(strict).arg("-I").arg(include()).arg("-o").arg(&program).arg(&file).output();
    let compiled = compiled.expect("cc runs");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap()
}

#[test]
fn the_header_is_c99_and_lays_tables_out_as_rust_does() {
    let mut source =
        "#include \"lbex_plugin.h\"\n#include <inttypes.h>\n#include <stdio.h>\nint main(void) {\n".to_owned();
    for (name, _) in expected() {
        writeln!(source, "  printf(\"%\" PRIu64 \"\\n\", (uint64_t)({name}));").unwrap();
    }
    source.push_str("  return 0;\n}\n");
    let printed = compiled_and_run(&source);
    let found: Vec<u64> = printed.lines().map(|line| line.parse().unwrap()).collect();
    for ((name, wanted), found) in expected().into_iter().zip(&found) {
        assert_eq!(*found, wanted, "{name}: C and Rust differ");
    }
    assert_eq!(found.len(), expected().len());
}

#[test]
fn functions_written_as_the_header_says_fit_its_tables() {
    // What a plugin's author writes; a compiler that finds a type other than in the table says so.
    let source = r#"
#include "lbex_plugin.h"
#include <stdio.h>
static int32_t apply(void *c, const uint8_t *d, size_t n, uint32_t t, struct lbex_buf *r) { (void)c; (void)d; (void)n; (void)t; (void)r; return LBEX_OK; }
static int32_t observe(void *c, uint32_t t, struct lbex_buf *r) { (void)c; (void)t; (void)r; return LBEX_OK; }
static void cancel(void *c) { (void)c; }
static void buf_free(void *c, struct lbex_buf *b) { (void)c; (void)b; }
static void done(void *c) { (void)c; }
static int32_t stop(void *c, uint32_t d, uint32_t t, struct lbex_buf *r) { (void)c; (void)d; (void)t; (void)r; return LBEX_OK; }
static void info_free(struct lbex_buf *b) { (void)b; }
static const struct lbex_backend table = { sizeof table, 0, NULL, apply, observe, cancel, buf_free, done, stop };
static const struct lbex_plugin_info info = { LBEX_PLUGIN_MAGIC, sizeof info, LBEX_ABI_MAJOR, LBEX_ABI_MINOR, sizeof table,
  sizeof(struct lbex_host), "test", "1", NULL, info_free };
const struct lbex_plugin_info *lbex_plugin_query(void) { return &info; }
int32_t lbex_plugin_open(const struct lbex_host *h, const uint8_t *s, size_t n, const struct lbex_backend **b, struct lbex_buf *r) {
  (void)s; (void)n; (void)r;
  if (h && h->log) h->log(h->ctx, LBEX_LOG_INFO, "hello", 5);
  if (h && h->wake) h->wake(h->ctx);
  *b = &table;
  return LBEX_OK;
}
int main(void) { const struct lbex_backend *b; struct lbex_buf r; printf("%d %s", (int)lbex_plugin_open(NULL, NULL, 0, &b, &r), lbex_plugin_query()->name); return 0; }
"#;
    assert_eq!(compiled_and_run(source), "0 test");
}

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| lbex_fuzz::plugin_documents::plugin_documents(bytes));

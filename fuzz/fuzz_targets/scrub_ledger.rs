#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| treering_fuzz::run("scrub_ledger", bytes));

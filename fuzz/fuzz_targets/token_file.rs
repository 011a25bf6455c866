#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (inputs::named("token_file").read)(bytes));

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pawl_fuzz_bodies::policy(input));

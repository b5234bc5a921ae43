#![no_main]

#[allow(dead_code)] // each program is one of them
#[path = "../targets/mod.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::frames::run(data));

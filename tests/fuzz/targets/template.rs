#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llava_web_fuzz::template::run(data));

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llava_web_fuzz::header::run(data));

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    llava_web_fuzz::gguf_file::mutate(data, size, max_size, seed, 0, &mut libfuzzer_sys::fuzzer_mutate)
});

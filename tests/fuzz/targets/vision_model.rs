#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| llava_web_fuzz::vision_model::run(data));

// The file begins behind the byte that says what the picture is like.
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    llava_web_fuzz::gguf_file::mutate(data, size, max_size, seed, 1, &mut libfuzzer_sys::fuzzer_mutate)
});

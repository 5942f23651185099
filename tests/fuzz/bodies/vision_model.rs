//! Vision files beside a sound language model: loaded, and a picture shown, twice.
//!
//! * As for language models.

use llava_web::image::RgbImage;
use llava_web::runtime::engine::ImageInput;
use serde_json::json;

use super::language_model::{LOAD_CODES, RUN_CODES};
use super::{expect_code, memory, models};

/// The body. The first byte is the picture's shape, the rest the file.
pub fn run(data: &[u8]) {
    let Some((&shape, file)) = data.split_first() else { return };
    if file.len() > 1 << 17 {
        return;
    }
    let (width, height) = (1 + u32::from(shape & 15), 1 + u32::from(shape >> 4));
    thread_local!(static MODEL: Vec<u8> = models::language_model());
    MODEL.with(|model| {
        memory::within(32 << 20, || match models::load(model, Some(file)) {
            Ok(mut engine) => {
                let pixels: Vec<u8> = (0..3 * width * height).map(|i| (i * 37) as u8).collect();
                let image = ImageInput::Pixels(RgbImage::new(width, height, pixels).expect("a small picture"));
                for prompt in ["a <image> b", "<image>"] {
                    let request = json!({ "prompt": prompt, "max_tokens": 2, "temperature": 0 });
                    if let Err(error) = models::complete(&mut engine, &request, std::slice::from_ref(&image)) {
                        expect_code(&error, RUN_CODES);
                    }
                }
            }
            Err(error) => expect_code(&error, LOAD_CODES),
        });
    });
}

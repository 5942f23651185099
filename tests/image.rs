//! Pictures: decoding hostile and honest files, Pillow's resampling to the bit, the models' recipes against the reference.
//!
//! `tests/golden/images`: the canonical pictures; small files written by Pillow 13.0.0 with `small.safetensors`, what it reads
//! from them (transparency over white); `tiles.safetensors`, the 8-bit levels of the tiles that transformers 5.23.0
//! makes of the pictures for LLaVA-1.6 and SmolVLM.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat};
use llava_web::Error;
use llava_web::gguf::{Metadata, Value};
use llava_web::image::decode::MAX_SIDE;
use llava_web::image::resample::{Canvas, Filter, Window, resize, resize_whole};
use llava_web::image::{Grid, Layout, Mode, Pixels, Place, PreprocessSpec, RgbImage, decode, from_rgba, patches};
use safetensors::Safetensors;

use crate::common::safetensors;

const IMAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/images");

/// The JPEG decoder's inverse transform and chroma upsampling round otherwise than libjpeg-turbo's. Measured over the
/// four pictures: at most 6 levels apart, 0.25 on average, and 0.03 in LLaVA-1.5's normalised pixels; over the small
/// files at most 4 levels.
const JPEG_MAX_LEVELS: u8 = 4;

fn file(name: &str) -> Vec<u8> {
    std::fs::read(format!("{IMAGES}/{name}")).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn golden(path: &str) -> Safetensors {
    Safetensors::open(&format!("tests/golden/{path}"))
}

fn max_diff(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, format).unwrap();
    out.into_inner()
}

fn refused(bytes: &[u8]) -> String {
    match decode(bytes) {
        Err(Error::InvalidImage(message)) => message,
        other => panic!("{other:?}"),
    }
}

/// A metadata of a LLaVA-1.5 vision file with a tile of 56 pixels.
fn metadata(more: &[(&str, Value)]) -> Metadata {
    let mut m = Metadata::default();
    m.insert("clip.vision.image_size", Value::Uint(56));
    m.insert("clip.vision.patch_size", Value::Uint(14));
    m.insert("clip.projector_type", Value::String("mlp".into()));
    for (key, value) in more {
        m.insert(*key, value.clone());
    }
    m
}

fn spec(more: &[(&str, Value)]) -> PreprocessSpec {
    PreprocessSpec::from_metadata(&metadata(more)).unwrap()
}

fn text(s: &str) -> Value {
    Value::String(s.into())
}

// ---- decoding ----

#[test]
fn png_pictures_have_the_canonical_pixels() {
    let sizes: serde_json::Value = serde_json::from_slice(&file("images.json")).unwrap();
    for name in ["astronaut", "chelsea", "coffee_tall"] {
        let picture = decode(&file(&format!("{name}.png"))).unwrap();
        assert_eq!(picture.width() as u64, sizes[name]["width"].as_u64().unwrap());
        assert_eq!(picture.height() as u64, sizes[name]["height"].as_u64().unwrap());
    }
}

#[test]
fn jpeg_pictures_are_near_their_png() {
    for name in ["astronaut", "chelsea", "coffee_tall"] {
        let png = decode(&file(&format!("{name}.png"))).unwrap();
        let jpeg = decode(&file(&format!("{name}.jpg"))).unwrap();
        assert_eq!((png.width(), png.height()), (jpeg.width(), jpeg.height()));
        let sum: u64 = png.data().iter().zip(jpeg.data()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = sum as f64 / png.data().len() as f64;
        // What quality 90 loses: measured 2.0 to 2.5 levels.
        assert!(mean < 3.0, "{name}: {mean}");
    }
}

#[test]
fn every_kind_of_file_reads_as_pillow_reads_it() {
    let golden = golden("images/small.safetensors");
    for name in golden.names() {
        let picture = decode(&file(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!([picture.height(), picture.width(), 3], golden.shape(name)[..], "{name}");
        let worst = picture.data().iter().zip(golden.bytes(name)).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        let bound = match name {
            n if n.ends_with(".jpg") => JPEG_MAX_LEVELS,
            _ => 0,
        };
        assert!(worst <= bound, "{name}: {worst} levels apart");
    }
}

#[test]
fn sixteen_bits_become_eight() {
    let pixels: Vec<u16> = (0..4 * 256).map(|i| (i * 64) as u16).collect();
    let rgba = image::ImageBuffer::from_raw(16, 16, pixels.clone()).unwrap();
    let picture = decode(&encode(&DynamicImage::ImageRgba16(rgba), ImageFormat::Png)).unwrap();
    for (out, pixel) in picture.data().chunks(3).zip(pixels.chunks(4)) {
        for c in 0..3 {
            let (value, alpha) = (f64::from(pixel[c]) / 65535.0, f64::from(pixel[3]) / 65535.0);
            let exact = 255.0 * (value * alpha + 1.0 - alpha);
            assert!((f64::from(out[c]) - exact).abs() <= 1.5, "{} for {exact}", out[c]);
        }
    }
    let grey = image::ImageBuffer::from_raw(2, 1, vec![0u16, 65535]).unwrap();
    assert_eq!(decode(&encode(&DynamicImage::ImageLuma16(grey), ImageFormat::Png)).unwrap().data(), [0, 0, 0, 255, 255, 255]);
}

#[test]
fn transparency_is_laid_on_white() {
    let rgba = [10, 20, 30, 255, 10, 20, 30, 0, 0, 0, 0, 128, 255, 255, 255, 77];
    let expected = [10, 20, 30, 255, 255, 255, 127, 127, 127, 255, 255, 255];
    let canvas = from_rgba(2, 2, &rgba).unwrap();
    assert_eq!(canvas.data(), expected);
    let buffer = image::RgbaImage::from_raw(2, 2, rgba.to_vec()).unwrap();
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        assert_eq!(decode(&encode(&DynamicImage::ImageRgba8(buffer.clone()), format)).unwrap(), canvas);
    }
}

#[test]
fn pixels_from_a_page_are_checked() {
    assert_eq!(from_rgba(2, 2, &[0; 15]).unwrap_err().code(), "invalid_image");
    assert_eq!(from_rgba(0, 2, &[]).unwrap_err().code(), "invalid_image");
    assert!(from_rgba(MAX_SIDE + 1, 1, &[]).unwrap_err().message().contains("16385×1"));
    assert_eq!(from_rgba(u32::MAX, u32::MAX, &[]).unwrap_err().code(), "invalid_image");
    assert_eq!(RgbImage::new(1, 1, vec![1, 2]).unwrap_err().code(), "invalid_image");
    assert!(RgbImage::new(1, 1, vec![1, 2, 3]).is_ok());
}

/// An EXIF block with nothing but the orientation.
fn exif(orientation: u8, big_endian: bool) -> Vec<u8> {
    if big_endian {
        let mut out = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        out.extend([orientation, 0, 0, 0, 0, 0, 0]);
        out
    } else {
        let mut out = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        out.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        out
    }
}

fn with_exif(jpeg: &[u8], orientation: u8, big_endian: bool) -> Vec<u8> {
    let mut segment = b"Exif\0\0".to_vec();
    segment.extend(exif(orientation, big_endian));
    let length = (segment.len() + 2) as u16;
    [&jpeg[..2], &[0xff, 0xe1], &length.to_be_bytes(), &segment, &jpeg[2..]].concat()
}

#[test]
fn the_cameras_orientation_is_applied() {
    // Upright: 32×16, its left upper block red, its right upper block green, the rest blue.
    let upright = image::RgbImage::from_fn(32, 16, |x, y| {
        image::Rgb(match (x / 8, y / 8) {
            (0, 0) => [200, 0, 0],
            (3, 0) => [0, 200, 0],
            _ => [0, 0, 200],
        })
    });
    let upright = DynamicImage::ImageRgb8(upright);
    // What a camera stores so that the orientation's turn makes it upright.
    let stored = |orientation| match orientation {
        1 => upright.clone(),
        2 => upright.fliph(),
        3 => upright.rotate180(),
        4 => upright.flipv(),
        5 => upright.rotate90().fliph(),
        6 => upright.rotate270(),
        7 => upright.rotate270().fliph(),
        _ => upright.rotate90(),
    };
    for orientation in 1..=8 {
        for big_endian in [false, true] {
            let jpeg = with_exif(&encode(&stored(orientation), ImageFormat::Jpeg), orientation, big_endian);
            let picture = decode(&jpeg).unwrap();
            assert_eq!((picture.width(), picture.height()), (32, 16), "orientation {orientation}");
            let at = |x: usize, y: usize| &picture.data()[3 * (y * 32 + x)..][..3];
            assert!(at(3, 3)[0] > 150 && at(28, 3)[1] > 150, "orientation {orientation}");
            assert!(at(3, 12)[2] > 150 && at(28, 12)[2] > 150, "orientation {orientation}");
        }
    }
    // Nonsense in the note is no reason to refuse the picture.
    let plain = encode(&upright, ImageFormat::Jpeg);
    assert_eq!(decode(&with_exif(&plain, 77, false)).unwrap(), decode(&plain).unwrap());
}

#[test]
fn what_is_no_picture_is_named() {
    for (bytes, name) in [
        (&b""[..], "0 bytes"),
        (b"Dear Sir, this is a letter called photo.jpg.", "a text file"),
        (b"BM is how this text begins, and it is longer than that header.", "a text file"),
        (b"<!DOCTYPE html><HTML><title>404</title>", "a web page"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "a PDF document"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "an HEIC picture"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "an AVIF picture"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01", "a video"),
        (b"II*\0\x08\0\0\0", "a TIFF or raw camera picture"),
        (b"GGUF\x03\0\0\0", "a GGUF model file"),
        (b"\x01\x02\x03", "a file of another kind"),
        (b"\x89PNG", "a file of another kind"),
    ] {
        let message = refused(bytes);
        assert!(message.contains(name), "{message}");
    }
}

fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    out.extend(width.to_be_bytes());
    out.extend(height.to_be_bytes());
    out.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
    out
}

fn bmp_header(width: i32, height: i32) -> Vec<u8> {
    let mut out = b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    out.extend(width.to_le_bytes());
    out.extend(height.to_le_bytes());
    out.extend([1, 0, 24, 0]);
    out.extend([0; 24]);
    out
}

fn gif_header(width: u16, height: u16) -> Vec<u8> {
    [&b"GIF89a"[..], &width.to_le_bytes(), &height.to_le_bytes(), &[0x80, 0, 0, 0, 0, 0, 255, 255, 255]].concat()
}

/// A true JPEG whose frame header claims another size.
fn jpeg_header(width: u16, height: u16) -> Vec<u8> {
    let mut jpeg = encode(&DynamicImage::new_rgb8(8, 8), ImageFormat::Jpeg);
    let at = jpeg.windows(2).position(|w| w[0] == 0xff && (0xc0..=0xc2).contains(&w[1])).unwrap();
    jpeg[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    jpeg[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
    jpeg
}

fn webp_header(width: u32, height: u32) -> Vec<u8> {
    let bits = (width - 1) | (height - 1) << 14;
    [&b"RIFF\x20\0\0\0WEBPVP8L\x0d\0\0\0\x2f"[..], &bits.to_le_bytes(), &[0; 8]].concat()
}

#[test]
fn giant_and_empty_pictures_are_refused_by_their_header() {
    let started = std::time::Instant::now();
    for bytes in [png_header(30_000, 30_000), bmp_header(30_000, 30_000), gif_header(30_000, 30_000), jpeg_header(30_000, 30_000)]
    {
        let message = refused(&bytes);
        assert!(message.contains("30000×30000"), "{message}");
    }
    assert!(refused(&bmp_header(30_000, -30_000)).contains("30000×30000"));
    assert!(refused(&bmp_header(i32::MIN, i32::MIN)).contains("2147483648×2147483648"));
    assert!(refused(&png_header(u32::MAX, u32::MAX)).contains("4294967295×4294967295"));
    // Each side allowed, the area not.
    assert!(refused(&webp_header(16_000, 16_000)).contains("16000×16000"));
    for bytes in [png_header(0, 0), bmp_header(0, 0), gif_header(0, 0), jpeg_header(0, 0)] {
        let message = refused(&bytes);
        assert!(message.contains("0×0"), "{message}");
    }
    assert!(refused(&png_header(5, 0)).contains("5×0"));
    // Sizes within the limits with nothing behind them.
    for bytes in [png_header(8000, 8000), bmp_header(8000, 8000), gif_header(8000, 8000), webp_header(8000, 8000)] {
        refused(&bytes);
    }
    assert!(started.elapsed().as_secs() < 10);
}

#[test]
fn a_gif_frame_larger_than_its_screen_is_harmless() {
    let mut gif = gif_header(4, 4);
    gif.extend([0x2c, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 2, 2, 0x44, 0x01, 0, 0x3b]);
    let _ = decode(&gif);
}

fn all_kinds() -> Vec<(String, Vec<u8>)> {
    golden("images/small.safetensors").names().into_iter().map(|name| (name.to_string(), file(name))).collect()
}

#[test]
fn truncated_files_are_errors_or_pictures_never_panics() {
    println!("cut at {} places", all_kinds().iter().map(|(_, bytes)| bytes.len()).sum::<usize>());
    for (name, bytes) in all_kinds() {
        for end in 0..bytes.len() {
            let outcome = decode(&bytes[..end]);
            // A file may have all its pixels before its end.
            if end < bytes.len() / 2 {
                assert_eq!(outcome.expect_err(&name).code(), "invalid_image");
            }
        }
    }
    let jpeg = file("chelsea.jpg");
    for end in (0..jpeg.len() * 9 / 10).step_by(997) {
        assert_eq!(decode(&jpeg[..end]).unwrap_err().code(), "invalid_image");
    }
    let message = refused(&jpeg[..20_000]);
    assert!(message.contains("JPEG") && message.contains("cut short"), "{message}");
    let png = file("coffee_tall.png");
    for end in (0..png.len() - 100).step_by(9973) {
        assert_eq!(decode(&png[..end]).unwrap_err().code(), "invalid_image");
    }
}

#[test]
fn a_jpeg_without_its_end_is_read_where_its_picture_is_there() {
    for (name, bytes) in all_kinds().into_iter().filter(|(name, _)| name.ends_with(".jpg")) {
        let whole = decode(&bytes).unwrap();
        for cut in [1, 2] {
            assert!(decode(&bytes[..bytes.len() - cut]).unwrap() == whole, "{name} without its last {cut} bytes");
        }
        assert!(decode(&[&bytes[..], &[0; 1000]].concat()).unwrap() == whole, "{name} with zeros behind it");
    }
    let jpeg = file("chelsea.jpg");
    let whole = decode(&jpeg).unwrap();
    assert!(decode(&jpeg[..jpeg.len() - 2]).unwrap() == whole);
    // Cut a little earlier, the rows that are there are exact, and the rest continues them: no grey, and nothing made up.
    let cut = decode(&jpeg[..jpeg.len() - jpeg.len() / 50]).unwrap();
    assert_eq!((cut.width(), cut.height()), (whole.width(), whole.height()));
    let (row, differing) = (3 * whole.width(), whole.data().iter().zip(cut.data()).filter(|(a, b)| a != b).count());
    assert!(differing > 0 && differing <= whole.data().len() / 16, "{differing}");
    assert!(cut.data()[..row * whole.height() * 15 / 16 - 32 * row] == whole.data()[..row * whole.height() * 15 / 16 - 32 * row]);
    let last = |rows: usize| &cut.data()[rows * row - 3..rows * row];
    assert_eq!(last(whole.height()), last(whole.height() - 1), "the last pixel is the one above it");
    assert!(refused(&jpeg[..jpeg.len() / 2]).contains("its end is missing"));
    // The camera's note still turns it.
    let turned = with_exif(&jpeg, 6, false);
    assert!(decode(&turned[..turned.len() - 2]).unwrap() == decode(&turned).unwrap());
}

/// A small generator for test inputs (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut random = Random(7);
    for (name, bytes) in all_kinds() {
        for round in 0..200 {
            let mut bytes = bytes.clone();
            for _ in 0..1 + round % 4 {
                let at = random.below(bytes.len());
                bytes[at] = random.next() as u8;
            }
            if let Err(error) = decode(&bytes) {
                assert!(matches!(error.code(), "invalid_image"), "{name}: {error:?}");
            }
        }
    }
}

#[test]
fn the_content_hash_tells_pictures_apart() {
    let a = RgbImage::new(2, 3, vec![7; 18]).unwrap();
    let b = RgbImage::new(3, 2, vec![7; 18]).unwrap();
    let mut other = vec![7; 18];
    other[17] = 8;
    assert_eq!(a.content_hash(), a.clone().content_hash());
    assert_ne!(a.content_hash(), b.content_hash());
    assert_ne!(a.content_hash(), RgbImage::new(2, 3, other).unwrap().content_hash());
}

// ---- resampling ----

fn synthetic(width: usize, height: usize) -> RgbImage {
    let value = |i: usize| {
        let (c, x, y) = (i % 3, i / 3 % width, i / 3 / width);
        ((x * x * 7 + y * 13 * (x + 3) + c * 91 + (x * y) % 11 * 17) % 256) as u8
    };
    RgbImage::new(width as u32, height as u32, (0..3 * width * height).map(value).collect()).unwrap()
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// Width, height, output width, output height, filter, FNV-1a of what Pillow 13.0.0 makes of [`synthetic`].
#[rustfmt::skip]
const PILLOW: &[(usize, usize, usize, usize, Filter, u64)] = &[
    (1, 1, 5, 3, Filter::Bicubic, 0xf186a01d15e86b60),
    (1, 1, 5, 3, Filter::Lanczos, 0xf186a01d15e86b60),
    (7, 5, 7, 5, Filter::Bicubic, 0xb59b7d2c1d2618ca),
    (7, 5, 7, 5, Filter::Lanczos, 0xb59b7d2c1d2618ca),
    (7, 5, 3, 2, Filter::Bicubic, 0xd6504f693c6e841c),
    (7, 5, 3, 2, Filter::Lanczos, 0x402bf7738879f790),
    (7, 5, 20, 31, Filter::Bicubic, 0xf0ca72827f4f5d37),
    (7, 5, 20, 31, Filter::Lanczos, 0x216f6e70da4fe36d),
    (64, 3, 8, 8, Filter::Bicubic, 0x7cdb9596bbeb5bf7),
    (64, 3, 8, 8, Filter::Lanczos, 0x039dbe558e4d5276),
    (3, 64, 8, 8, Filter::Bicubic, 0x6f5ec8c7e738fdc1),
    (3, 64, 8, 8, Filter::Lanczos, 0x218dc5a1a6a85352),
    (101, 67, 33, 44, Filter::Bicubic, 0xb167e1dd249936d2),
    (101, 67, 33, 44, Filter::Lanczos, 0x2503895bc158956b),
    (40, 300, 56, 7, Filter::Bicubic, 0x03310396eda5203f),
    (40, 300, 56, 7, Filter::Lanczos, 0xc5deb41aed0fcfb1),
    (33, 1, 1, 1, Filter::Bicubic, 0xa34227196f209c35),
    (33, 1, 1, 1, Filter::Lanczos, 0xadc0ae1975972a2a),
    (2, 2, 1, 1, Filter::Bicubic, 0x908e3a18d43c9c4b),
    (2, 2, 1, 1, Filter::Lanczos, 0x908e3a18d43c9c4b),
    (255, 2, 16, 97, Filter::Bicubic, 0xd38760ab5c4293b0),
    (255, 2, 16, 97, Filter::Lanczos, 0x36e437d623e13f5f),
    (50, 50, 51, 49, Filter::Bicubic, 0x6448cea5ad380d4b),
    (50, 50, 51, 49, Filter::Lanczos, 0xecd47efc777db57c),
    (1000, 10, 9, 9, Filter::Bicubic, 0x22fe9a3987a64b18),
    (1000, 10, 9, 9, Filter::Lanczos, 0x9e0c6f42d5ec22ad),
    (45, 30, 44, 28, Filter::Bilinear, 0x6e8ecfdb76790060),
    (25, 40, 11, 11, Filter::Bilinear, 0xd0596167cddf9ea2),
    (30, 30, 22, 15, Filter::Bilinear, 0xe282365a42f62dd4),
    (30, 30, 23, 15, Filter::Bilinear, 0x318ed0fe7c9e3c26),
    (25, 40, 26, 38, Filter::Bilinear, 0x79435df1d0a72c60),
    (10, 38, 56, 53, Filter::Bilinear, 0xe08d45871d659a36),
    // The order of the two passes changes between these.
    (60, 70, 54, 56, Filter::Bicubic, 0x4660a332f4b8ff7a),
    (60, 70, 54, 56, Filter::Lanczos, 0xbe4f37f336084846),
    (60, 70, 53, 56, Filter::Bicubic, 0xd7710963b8257123),
    (60, 70, 53, 56, Filter::Lanczos, 0x361f24d9d496a92d),
];

#[test]
fn resampling_is_pillows_to_the_bit() {
    for &(width, height, out_w, out_h, filter, hash) in PILLOW {
        let out = resize_whole(&synthetic(width, height), out_w, out_h, filter).unwrap();
        assert_eq!((out.width(), out.height()), (out_w, out_h));
        assert_eq!(fnv1a(out.data()), hash, "{width}×{height} to {out_w}×{out_h}, {filter:?}");
    }
}

#[test]
fn a_border_that_is_not_stored_counts_as_one_that_is() {
    let background = [122, 3, 255];
    for (width, height, left, top, canvas_w, canvas_h, out_w, out_h) in [
        (5, 9, 2, 0, 9, 9, 4, 4),
        (30, 10, 0, 10, 30, 30, 7, 7),
        (30, 10, 3, 15, 40, 50, 64, 61),
        (1, 1, 20, 30, 60, 70, 13, 17),
        (16, 16, 0, 0, 16, 16, 16, 16),
    ] {
        let image = synthetic(width, height);
        let mut stored = background.repeat(canvas_w * canvas_h);
        for y in 0..height {
            let line = &image.data()[3 * y * width..][..3 * width];
            stored[3 * ((top + y) * canvas_w + left)..][..line.len()].copy_from_slice(line);
        }
        let stored = RgbImage::new(canvas_w as u32, canvas_h as u32, stored).unwrap();
        let canvas = Canvas { image: &image, width: canvas_w, height: canvas_h, left, top, background };
        for filter in [Filter::Bicubic, Filter::Lanczos] {
            let whole = resize_whole(&stored, out_w, out_h, filter).unwrap();
            let window = Window { left: 0, top: 0, width: out_w, height: out_h };
            assert_eq!(resize(&canvas, out_w, out_h, window, filter).unwrap(), whole);
            // Every window is that part of the whole.
            for (left, top, w, h) in [(0, 0, 1, 1), (out_w - 1, out_h - 1, 1, 1), (1, 2, out_w / 2, out_h / 2)] {
                let part = resize(&canvas, out_w, out_h, Window { left, top, width: w, height: h }, filter).unwrap();
                for y in 0..h {
                    let expected = &whole.data()[3 * ((top + y) * out_w + left)..][..3 * w];
                    assert_eq!(&part.data()[3 * y * w..][..3 * w], expected);
                }
            }
        }
    }
}

// ---- the models' recipes ----

#[test]
fn llava_15_pixels_equal_the_reference() {
    let golden = golden("tiny-llava/preprocess.safetensors");
    let pad = spec(&[]);
    let crop = spec(&[("clip.vision.image_aspect_ratio", text("square"))]);
    for name in ["astronaut", "chelsea", "coffee_tall"] {
        let image = decode(&file(&format!("{name}.png"))).unwrap();
        for (variant, spec) in [("pad", &pad), ("crop", &crop)] {
            let pixels = spec.preprocess(&image, usize::MAX).unwrap();
            assert_eq!((pixels.tiles.as_slice(), pixels.place.layout), ([[56, 56]].as_slice(), Layout::Single));
            let diff = max_diff(&pixels.data, &golden.floats(&format!("{name}.{variant}")));
            assert_eq!(diff, 0.0, "{name}.{variant}");
        }
    }
}

#[test]
fn jpeg_input_stays_near_the_reference() {
    let golden = golden("tiny-llava/preprocess.safetensors");
    for name in ["astronaut", "chelsea", "coffee_tall"] {
        let pixels = spec(&[]).preprocess(&decode(&file(&format!("{name}.jpg"))).unwrap(), usize::MAX).unwrap();
        // The loss of quality 90, averaged by shrinking: measured up to 0.071, five levels.
        let diff = max_diff(&pixels.data, &golden.floats(&format!("{name}.pad")));
        assert!(diff < 0.1, "{name}: {diff}");
    }
}

/// `(level/255 − mean)/std` of `[tiles, 3, side, side]` levels.
fn normalised(levels: &[u8], spec: &PreprocessSpec) -> Vec<f32> {
    let plane = spec.image_size * spec.image_size;
    let value = |(i, &level): (usize, &u8)| {
        let c = i / plane % 3;
        ((f64::from(level) * (1.0 / 255.0)) as f32 - spec.mean[c]) / spec.std[c]
    };
    levels.iter().enumerate().map(value).collect()
}

fn anyres() -> PreprocessSpec {
    let grids = vec![56, 112, 112, 56, 112, 112, 168, 56, 56, 168];
    spec(&[("clip.vision.image_aspect_ratio", text("anyres")), ("clip.vision.image_grid_pinpoints", Value::Ints(grids))])
}

#[test]
fn llava_16_tiles_equal_the_reference() {
    let golden = golden("images/tiles.safetensors");
    let spec = anyres();
    for name in ["chelsea", "coffee_tall"] {
        let image = decode(&file(&format!("{name}.png"))).unwrap();
        let pixels = spec.preprocess(&image, usize::MAX).unwrap();
        let (grid, image_width, image_height) = (Grid { rows: 2, cols: 2 }, image.width(), image.height());
        let place =
            Place { layout: Layout::Anyres(grid), width: image_width, height: image_height, tile: [4; 2], overview: [4; 2] };
        assert_eq!((pixels.tiles.len(), pixels.place), (5, place));
        let levels = golden.bytes(&format!("tiny-llava-next.{name}"));
        assert_eq!(max_diff(&pixels.data, &normalised(levels, &spec)), 0.0, "{name}");
    }
}

#[test]
fn llava_16_picks_the_grid_by_resolution_then_by_border() {
    let grid = |width, height| match anyres().preprocess(&synthetic(width, height), usize::MAX).unwrap().place.layout {
        Layout::Anyres(grid) => (grid.rows, grid.cols),
        other => panic!("{other:?}"),
    };
    assert_eq!(grid(600, 200), (1, 3));
    assert_eq!(grid(200, 600), (3, 1));
    assert_eq!(grid(300, 300), (2, 2));
    // Nothing is lost in any grid: the first of the least border, a height of one tile and a width of two.
    assert_eq!(grid(40, 40), (1, 2));
}

fn idefics3() -> PreprocessSpec {
    let half = Value::Floats(vec![0.5; 3]);
    spec(&[
        ("clip.projector_type", text("idefics3")),
        ("clip.vision.image_size", Value::Uint(64)),
        ("clip.vision.patch_size", Value::Uint(8)),
        ("clip.vision.preproc_image_size", Value::Uint(128)),
        ("clip.vision.image_mean", half.clone()),
        ("clip.vision.image_std", half),
    ])
}

#[test]
fn idefics3_tiles_equal_the_reference() {
    let golden = golden("images/tiles.safetensors");
    let spec = idefics3();
    for name in ["chelsea", "coffee_tall"] {
        let pixels = spec.preprocess(&decode(&file(&format!("{name}.png"))).unwrap(), usize::MAX).unwrap();
        assert_eq!((pixels.tiles.len(), pixels.place.layout), (5, Layout::Tiles(Grid { rows: 2, cols: 2 })));
        let levels = golden.bytes(&format!("tiny-smolvlm.{name}"));
        assert_eq!(max_diff(&pixels.data, &normalised(levels, &spec)), 0.0, "{name}");
    }
}

fn lfm2() -> PreprocessSpec {
    let half = Value::Floats(vec![0.5; 3]);
    spec(&[
        ("clip.projector_type", text("lfm2")),
        ("clip.vision.image_size", Value::Uint(256)),
        ("clip.vision.patch_size", Value::Uint(16)),
        ("clip.vision.projector.scale_factor", Value::Uint(2)),
        ("clip.vision.image_mean", half.clone()),
        ("clip.vision.image_std", half),
    ])
}

#[test]
fn lfm2s_pictures_equal_the_reference() {
    let expected: serde_json::Value = serde_json::from_slice(&file("../tiny-lfm2vl/expected.json")).unwrap();
    let golden = golden("tiny-lfm2vl/expected.safetensors");
    let spec = lfm2();
    for name in ["astronaut", "chelsea", "coffee_tall"] {
        let pixels = spec.preprocess(&decode(&file(&format!("{name}.png"))).unwrap(), usize::MAX).unwrap();
        let side = |i: usize| expected["results"][name]["resized_hw"][i].as_u64().unwrap() as usize;
        assert_eq!(pixels.tiles, [[side(0), side(1)]], "{name}");
        assert_eq!(pixels.place.n_rows() as u64, expected["results"][name]["rows"].as_u64().unwrap(), "{name}");
        let levels = format!("{name}.pixels_u8");
        if golden.names().contains(&levels.as_str()) {
            // Pixel by pixel, where ours are plane by plane.
            let levels = golden.bytes(&levels);
            let value = |i: usize| {
                let (c, at) = (i / (levels.len() / 3), i % (levels.len() / 3));
                ((f64::from(levels[3 * at + c]) * (1.0 / 255.0)) as f32 - spec.mean[c]) / spec.std[c]
            };
            let want: Vec<f32> = (0..levels.len()).map(value).collect();
            assert_eq!(max_diff(&pixels.data, &want), 0.0, "{name}");
        }
    }
    assert!(golden.names().contains(&"coffee_tall.pixels_u8"));
}

#[test]
fn lfm2s_large_pictures_are_cut_up() {
    let spec = lfm2();
    // As many tiles as fit the aspect best, each of 512 pixels, and the whole picture once more.
    for ((width, height), grid, overview) in [
        ((1024, 1024), Grid { rows: 2, cols: 2 }, [512, 512]),
        ((2000, 700), Grid { rows: 1, cols: 3 }, [288, 864]),
        ((600, 3000), Grid { rows: 5, cols: 1 }, [1120, 224]),
    ] {
        let pixels = spec.preprocess(&synthetic(width, height), usize::MAX).unwrap();
        assert_eq!(pixels.place.layout, Layout::Tiles(grid), "{width}×{height}");
        let (last, tiles) = pixels.tiles.split_last().unwrap();
        assert_eq!((tiles, *last), (&vec![[512, 512]; grid.rows * grid.cols][..], overview), "{width}×{height}");
    }
    // Just not too large.
    assert_eq!(spec.preprocess(&synthetic(1024, 512), usize::MAX).unwrap().place.layout, Layout::Single);
}

#[test]
fn extreme_shapes_cost_no_more_than_the_picture() {
    for (width, height) in [(1, 1), (1, 16_384), (16_384, 1), (3, 2), (57, 56)] {
        let image = synthetic(width, height);
        for spec in [spec(&[]), spec(&[("clip.vision.image_aspect_ratio", text("square"))]), anyres(), idefics3()] {
            let pixels = spec.preprocess(&image, usize::MAX).unwrap();
            assert_eq!(pixels.data.len(), pixels.tiles.iter().map(|[h, w]| 3 * h * w).sum::<usize>());
            assert!(pixels.data.iter().all(|v| v.is_finite()), "{width}×{height} {:?}", spec.mode);
        }
    }
}

#[test]
fn the_vision_file_chooses_the_recipe() {
    let ratio = |r: &str| spec(&[("clip.vision.image_aspect_ratio", text(r))]).mode;
    assert_eq!(spec(&[]).mode, Mode::Pad);
    assert_eq!(spec(&[]).background(), [122, 116, 104]);
    assert_eq!(ratio("pad"), Mode::Pad);
    assert_eq!(ratio("square"), Mode::ResizeCrop);
    assert!(matches!(ratio("anyres_max_9"), Mode::Anyres(grids) if grids.len() == 5));
    let grids = Value::Ints(vec![56, 112]);
    assert_eq!(spec(&[("clip.vision.image_grid_pinpoints", grids)]).mode, Mode::Anyres(vec![Grid { rows: 1, cols: 2 }]));
    assert_eq!(idefics3().mode, Mode::Idefics3 { longest_side: 128 });
}

#[test]
fn absurd_vision_files_are_refused() {
    let code = |key: &str, value: Value| PreprocessSpec::from_metadata(&metadata(&[(key, value)])).unwrap_err().code();
    for (key, value) in [
        ("clip.vision.image_size", Value::Uint(0)),
        ("clip.vision.image_size", Value::Uint(1 << 20)),
        ("clip.vision.image_size", Value::String("x".into())),
        ("clip.vision.patch_size", Value::Uint(0)),
        ("clip.vision.patch_size", Value::Uint(57)),
        ("clip.vision.image_mean", Value::Floats(vec![0.5; 2])),
        ("clip.vision.image_mean", Value::Floats(vec![f32::NAN; 3])),
        ("clip.vision.image_std", Value::Floats(vec![0.5, 0.0, 0.5])),
        ("clip.vision.image_grid_pinpoints", Value::Ints(vec![])),
        ("clip.vision.image_grid_pinpoints", Value::Ints(vec![56])),
        ("clip.vision.image_grid_pinpoints", Value::Ints(vec![56, 57])),
        ("clip.vision.image_grid_pinpoints", Value::Ints(vec![-56, 56])),
        ("clip.vision.image_grid_pinpoints", Value::Ints(vec![56 * 1000, 56 * 1000])),
        ("clip.vision.image_grid_pinpoints", Value::Ints(vec![i64::MAX, i64::MAX])),
    ] {
        assert_eq!(code(key, value), "invalid_gguf", "{key}");
    }
    // What becomes one row, and how many patches a tile has.
    for (family, image_size, patch_size, merge) in [
        ("lfm2", 256, 16, 3),
        ("lfm2", 4096, 4096, 16),
        ("qwen2vl_merger", 4096, 4096, 16),
        ("internvl", 4096, 14, 2),
        ("lfm2", 256, 2, 2),
    ] {
        let more = [
            ("clip.projector_type", text(family)),
            ("clip.vision.image_size", Value::Uint(image_size)),
            ("clip.vision.patch_size", Value::Uint(patch_size)),
            ("clip.vision.spatial_merge_size", Value::Uint(merge)),
        ];
        assert_eq!(
            PreprocessSpec::from_metadata(&metadata(&more)).unwrap_err().code(),
            "invalid_gguf",
            "{family} {patch_size} {merge}"
        );
    }
    for longest in [0, 64 * 9, 1 << 30] {
        let more = [("clip.projector_type", text("idefics3")), ("clip.vision.preproc_image_size", Value::Uint(longest))];
        assert_eq!(PreprocessSpec::from_metadata(&metadata(&more)).unwrap_err().code(), "invalid_gguf");
    }
}

#[test]
fn patches_lie_as_the_convolutions_weight_does() {
    let (tiles, height, width, p) = (2, 7, 5, 2);
    let data: Vec<f32> = (0..tiles * 3 * height * width).map(|i| i as f32).collect();
    let place = Place { layout: Layout::Single, width, height, tile: [1; 2], overview: [1; 2] };
    let pixels = Pixels { data, tiles: vec![[height, width]; tiles], place };
    let out: Vec<f32> = (0..tiles).flat_map(|tile| patches(&pixels, tile, p, 1).unwrap()).collect();
    let (rows, cols) = (height / p, width / p);
    assert_eq!(out.len(), tiles * rows * cols * 3 * p * p);
    for (i, &value) in out.iter().enumerate() {
        let (x, y, c) = (i % p, i / p % p, i / (p * p) % 3);
        let patch = i / (3 * p * p);
        let (col, row, tile) = (patch % cols, patch / cols % rows, patch / cols / rows);
        let at = ((tile * 3 + c) * height + row * p + y) * width + col * p + x;
        assert_eq!(value, at as f32);
    }
    // A picture smaller than a patch has none.
    assert!(patches(&pixels, 1, 8, 1).unwrap().is_empty());
}

#[test]
fn patches_that_are_merged_come_side_by_side() {
    let data: Vec<f32> = (0..3 * 4 * 6).map(|i| i as f32).collect();
    let place = Place { layout: Layout::Single, width: 6, height: 4, tile: [2, 3], overview: [2, 3] };
    let pixels = Pixels { data, tiles: vec![[4, 6]], place };
    let first: Vec<f32> = patches(&pixels, 0, 1, 2).unwrap().chunks_exact(3).map(|patch| patch[0]).collect();
    assert_eq!(first[..12], [0.0, 1.0, 6.0, 7.0, 2.0, 3.0, 8.0, 9.0, 4.0, 5.0, 10.0, 11.0]);
    assert_eq!(first.len(), 24);
}

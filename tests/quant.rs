//! The storage formats against blocks quantized and dequantized by ggml, against candle, and against random bytes.

mod common;

use common::safetensors::Safetensors;
use llava_web::quant::{Format, quantize_row};

/// Every format that the golden file holds: all but F32.
fn golden_formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|f| *f != Format::F32)
}

fn golden() -> Safetensors {
    Safetensors::open("tests/golden/quants/blocks.safetensors")
}

#[test]
fn decoding_gives_the_bits_that_ggml_gives() {
    let golden = golden();
    for format in golden_formats() {
        let raw = golden.bytes(&format!("{}.raw", format.name()));
        let expected = golden.floats(&format!("{}.deq", format.name()));
        assert_eq!(raw.len(), format.row_bytes(expected.len()), "{format:?}");
        let mut out = vec![f32::NAN; expected.len()];
        format.decode_row(raw, &mut out);
        for (i, (a, b)) in out.iter().zip(&expected).enumerate() {
            // As numbers, because ggml's own paths differ in the sign of zero.
            assert_eq!(a, b, "{format:?}, element {i}");
        }
        assert!(format.check_finite(raw));
    }
}

#[test]
fn quantizing_gives_the_bytes_that_ggml_gives() {
    use Format::{BF16, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
    let golden = golden();
    let input = golden.floats("input");
    for format in [Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, F16, BF16] {
        let mut out = vec![7];
        for row in input.chunks(512) {
            quantize_row(format, row, &mut out).unwrap();
        }
        assert_eq!(out[0], 7, "appends");
        let expected = golden.bytes(&format!("{}.raw", format.name()));
        assert_eq!(out.len() - 1, expected.len());
        let differing = out[1..].iter().zip(expected).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 0, "{format:?}: differing bytes of {}", expected.len());
    }
}

//! The storage formats against blocks quantized and dequantized by ggml, against candle, and against random bytes.

use crate::common;

// candle knows no platforms of 32 bits.
#[cfg(not(target_pointer_width = "32"))]
use candle_core::{
    Device,
    quantized::{GgmlDType, ggml_file::qtensor_from_ggml},
};
use common::load_only::{nmse, row};
use common::random::Random;
use common::safetensors::Safetensors;
use half::f16;
use llava_web::quant::{Format, LoadOnly, Stored, quantize_row};

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

/// Of these blocks the package gguf made the floats; every entry of the codebooks occurs in them.
#[test]
fn formats_that_are_converted_decode_to_the_bits_that_gguf_gives() {
    let golden = Safetensors::open("tests/golden/quants/load_only.safetensors");
    for format in LoadOnly::ALL {
        let raw = golden.bytes(&format!("{}.raw", format.name()));
        let expected = golden.floats(&format!("{}.deq", format.name()));
        assert_eq!(raw.len(), Stored::from(format).row_bytes(expected.len()), "{format:?}");
        let mut out = vec![f32::NAN; expected.len()];
        format.decode_row(raw, &mut out);
        for (i, (a, b)) in out.iter().zip(&expected).enumerate() {
            assert_eq!(a, b, "{format:?}, element {i}");
        }
        assert!(format.check_finite(raw));
    }
}

/// What converting adds, on blocks of any bits, which have scales that differ more than those of a model's weights. The error that a format
/// has already is 0.009 (the 4-bit floats) to 0.2 (IQ1_S).
#[test]
fn converting_keeps_the_elements() {
    use LoadOnly::*;
    let mut random = Random::new(4);
    for (format, bound) in [
        (IQ4_XS, 1e-7),
        (IQ3_S, 5e-7),
        (IQ3_XXS, 5e-4),
        (IQ2_S, 8e-3),
        (IQ2_XS, 8e-3),
        (IQ2_XXS, 7e-4),
        (IQ1_M, 6e-3),
        (IQ1_S, 2e-3),
        (TQ1_0, 0.0),
        (TQ2_0, 0.0),
        (MXFP4, 0.0),
        (NVFP4, 5e-5),
    ] {
        let n = 64 * 256;
        let bytes = row(format, n, 0.02, &mut random);
        let to = format.kept_as();
        let (mut converted, mut want, mut got) = (vec![7], vec![0.0; n], vec![0.0; n]);
        format.convert(&bytes, &mut converted);
        assert_eq!(converted[0], 7, "appends");
        assert!(to.check_finite(&converted[1..]));
        format.decode_row(&bytes, &mut want);
        to.decode_row(&converted[1..], &mut got);
        let error = nmse(&want, &got);
        let bits = |bytes: usize| 8.0 * bytes as f64 / n as f64;
        println!("{format:?} → {to:?}: {:.3} → {:.3} bits, adds {error:.1e}", bits(bytes.len()), bits(converted.len() - 1));
        assert!(error <= bound, "{format:?}: {error:.2e} of {bound:.0e}");
        // Steps of scales that are lost do not shift all elements one way.
        let sum = |x: &[f32]| x.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
        assert!((sum(&want) - sum(&got)).abs() < 5e-3 * 0.02, "{format:?}: {} instead of {}", sum(&got), sum(&want));
    }
}

/// The exponents that E8M0 has, from one end to the other.
#[test]
fn scales_of_mxfp4_are_exact_to_both_ends() {
    let block = |exponent: u8, q: u8| {
        let mut block = [q | q << 4; 17];
        block[0] = exponent;
        block
    };
    let decoded = |block: &[u8; 17]| {
        let mut out = [0.0; 32];
        LoadOnly::MXFP4.decode_row(block, &mut out);
        assert_eq!(out, [out[0]; 32]);
        out[0]
    };
    let kept = |block: &[u8; 17]| {
        let (mut converted, mut out) = (Vec::new(), [0.0; 32]);
        LoadOnly::MXFP4.convert(block, &mut converted);
        Format::Q5_0.decode_row(&converted, &mut out);
        Format::Q5_0.check_finite(&converted).then_some(out[0])
    };
    for (q, half, value) in [(1, 0.5, 0.5), (5, 1.0, 3.0), (7, 1.0, 6.0), (9, -0.5, -0.5), (15, -1.0, -6.0), (0, 0.0, 0.0)] {
        for exponent in 0..=255u8 {
            let want = (value * 2f64.powi(i32::from(exponent) - 127)) as f32;
            let block = block(exponent, q);
            assert_eq!(decoded(&block), want, "{value} · 2^({exponent} − 127)");
            assert_eq!(LoadOnly::MXFP4.check_finite(&block), want.is_finite());
            match exponent {
                // The least half float is 2⁻²⁴, of which a value takes as many as are nearest.
                0..104 => assert!((kept(&block).unwrap() - want).abs() <= 2f32.powi(-25), "{half}: exponent {exponent}"),
                104..=143 => assert_eq!(kept(&block), Some(want), "exponent {exponent}"),
                // The greatest is below 2¹⁶.
                _ => assert_eq!(kept(&block), None, "exponent {exponent}"),
            }
        }
    }
}

#[test]
fn every_byte_of_tq1_0_is_five_digits() {
    // As ggml packs digits: their number in base 3 as a fraction of 256, rounded up.
    for number in 0..243u32 {
        let byte = (number * 256).div_ceil(243) as u8;
        let digits: Vec<f32> = (0..5).rev().map(|n| (number / 3u32.pow(n) % 3) as f32 - 1.0).collect();
        let mut block = [byte; 54];
        block[52..].copy_from_slice(&f16::ONE.to_le_bytes());
        let mut out = [0.0; 256];
        LoadOnly::TQ1_0.decode_row(&block, &mut out);
        for m in 0..32 {
            assert_eq!((0..5).map(|n| out[32 * n + m]).collect::<Vec<_>>(), digits, "byte {byte}");
        }
        for m in 0..16 {
            assert_eq!((0..5).map(|n| out[160 + 16 * n + m]).collect::<Vec<_>>(), digits, "byte {byte}");
        }
        for m in 0..4 {
            assert_eq!((0..4).map(|n| out[240 + 4 * n + m]).collect::<Vec<_>>(), digits[..4], "byte {byte}");
        }
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

/// candle's name for a format, where it has one.
#[cfg(not(target_pointer_width = "32"))]
fn candle_type(format: Format) -> Option<GgmlDType> {
    Some(match format {
        Format::F32 => GgmlDType::F32,
        Format::F16 => GgmlDType::F16,
        Format::BF16 => GgmlDType::BF16,
        Format::Q4_0 => GgmlDType::Q4_0,
        Format::Q4_1 => GgmlDType::Q4_1,
        Format::Q5_0 => GgmlDType::Q5_0,
        Format::Q5_1 => GgmlDType::Q5_1,
        Format::Q8_0 => GgmlDType::Q8_0,
        Format::Q2_K => GgmlDType::Q2K,
        Format::Q3_K => GgmlDType::Q3K,
        Format::Q4_K => GgmlDType::Q4K,
        Format::Q5_K => GgmlDType::Q5K,
        Format::Q6_K => GgmlDType::Q6K,
        Format::IQ4_NL => return None,
    })
}

/// Golden blocks come from a quantizer, which leaves parts of the formats unused; random ones leave none.
#[test]
#[cfg(not(target_pointer_width = "32"))]
fn random_blocks_decode_as_candle_decodes_them() {
    let mut random = Random::new(1);
    for format in Format::ALL {
        let Some(dtype) = candle_type(format) else { continue };
        let mut blocks = Vec::new();
        for _ in 0..64 {
            let block = loop {
                let block = random.bytes(format.block_bytes());
                if format.check_finite(&block) {
                    break block;
                }
            };
            blocks.extend(block);
        }
        let n = 64 * format.block_len();
        let mut ours = vec![0.0; n];
        format.decode_row(&blocks, &mut ours);
        let theirs = qtensor_from_ggml(dtype, &blocks, vec![n], &Device::Cpu).unwrap().dequantize(&Device::Cpu).unwrap();
        assert_eq!(ours, theirs.to_vec1::<f32>().unwrap(), "{format:?}");
    }
}

/// Any bytes decode to something, and `check_finite` tells exactly whether that something is all finite.
#[test]
fn check_finite_is_right_about_random_bytes() {
    let mut random = Random::new(2);
    for format in Stored::all() {
        let mut seen = [0, 0];
        let mut out = vec![0.0; format.block_len()];
        for _ in 0..4000 {
            let mut block = random.bytes(format.block_bytes());
            // Exponents of ones are one in 32 or rarer; half of all blocks get some.
            if random.below(2) == 0 {
                let at = random.below(block.len());
                block[at] |= 0x7c;
                let at = random.below(block.len());
                block[at] = 0xff;
                if format == LoadOnly::IQ1_M.into() {
                    // Its scale is in four parts.
                    (0..4).for_each(|i| block[49 + 2 * i] |= 0xf0);
                }
            }
            format.decode_row(&block, &mut out);
            let finite = out.iter().all(|x| x.is_finite());
            assert_eq!(format.check_finite(&block), finite, "{format:?} {block:02x?}");
            seen[usize::from(finite)] += 1;
        }
        // NVFP4 has no numbers that are not finite.
        let is_always_finite = format == LoadOnly::NVFP4.into();
        assert!(seen[1] > 10 && is_always_finite == (seen[0] == 0), "{format:?}: {seen:?}");
    }
}

#[test]
fn check_finite_finds_one_bad_block_among_many() {
    for format in Stored::all().filter(|format| *format != LoadOnly::NVFP4.into()) {
        let good = vec![0; 9 * format.block_bytes()];
        assert!(format.check_finite(&good), "{format:?}");
        assert!(format.check_finite(&[]));
        let mut bad = good.clone();
        bad[5 * format.block_bytes()..6 * format.block_bytes()].fill(0xff);
        assert!(!format.check_finite(&bad), "{format:?}");
    }
}

#[test]
fn the_table_is_that_of_ggml() {
    let numbers: Vec<u32> = Format::ALL.into_iter().map(|f| f as u32).collect();
    assert_eq!(numbers, [0, 1, 30, 2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20]);
    for format in Format::ALL {
        #[cfg(not(target_pointer_width = "32"))]
        if let Some(dtype) = candle_type(format) {
            assert_eq!((format.block_len(), format.block_bytes()), (dtype.block_size(), dtype.type_size()), "{format:?}");
        }
    }
    let numbers = LoadOnly::ALL.map(|f| (f as u32, f.block_len(), f.block_bytes()));
    assert_eq!(
        numbers,
        [
            (23, 256, 136),
            (21, 256, 110),
            (18, 256, 98),
            (22, 256, 82),
            (17, 256, 74),
            (16, 256, 66),
            (29, 256, 56),
            (19, 256, 50),
            (34, 256, 54),
            (35, 256, 66),
            (39, 32, 17),
            (40, 64, 36),
        ]
    );
    for stored in Stored::all() {
        assert_eq!(Stored::from_ggml_type(stored.ggml_type()), Some(stored));
        assert_eq!(stored.block_len() % stored.kept_as().block_len(), 0, "{stored:?}");
    }
    assert_eq!((Stored::from_ggml_type(4), Stored::from_ggml_type(36)), (None, None));
    assert_eq!(Format::Q4_K.name(), "Q4_K");
    assert_eq!(Format::Q4_0.bits_per_weight(), 4.5);
    assert_eq!(Format::Q6_K.bits_per_weight(), 6.5625);
    assert!(Format::Q8_0.is_quantized() && !Format::BF16.is_quantized());
}

/// A quantized element is off by at most half a step (a whole one at the clamped end of Q4_0 and Q5_0), beside the
/// rounding of the scale to 11 bits.
#[test]
fn quantizing_stays_within_a_step() {
    use Format::{Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
    let mut random = Random::new(3);
    for (format, steps) in [(Q4_0, 8.0), (Q4_1, 15.0), (Q5_0, 16.0), (Q5_1, 31.0), (Q8_0, 127.0)] {
        let row: Vec<f32> = (0..32 * 50).map(|_| random.float()).collect();
        let mut bytes = Vec::new();
        quantize_row(format, &row, &mut bytes).unwrap();
        let mut back = vec![0.0; row.len()];
        format.decode_row(&bytes, &mut back);
        let span = if matches!(format, Q4_1 | Q5_1) { 2.0 } else { 1.0 };
        let clamped = if matches!(format, Q4_0 | Q5_0) { 1.0 } else { 0.5 };
        let bound = span / steps * clamped + 2.0 * f32::powi(2.0, -11);
        let worst = row.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= bound, "{format:?}: {worst} of {bound}");
        let zeros = [0.0; 64];
        bytes.clear();
        quantize_row(format, &zeros, &mut bytes).unwrap();
        format.decode_row(&bytes, &mut back[..64]);
        assert_eq!(back[..64], zeros);
    }
}

#[test]
fn quantizing_refuses_what_it_cannot_represent() {
    let mut out = vec![1, 2, 3];
    for format in [Format::F32, Format::F16, Format::BF16, Format::Q4_0, Format::Q4_1, Format::Q5_0, Format::Q5_1, Format::Q8_0] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut row = [0.5; 64];
            row[37] = bad;
            assert_eq!(quantize_row(format, &row, &mut out).unwrap_err().code(), "invalid_gguf", "{format:?} {bad}");
        }
    }
    // Finite, but no F16 is a scale for it.
    assert_eq!(quantize_row(Format::Q8_0, &[1e9; 32], &mut out).unwrap_err().code(), "invalid_gguf");
    assert_eq!(quantize_row(Format::Q8_0, &[1.0; 31], &mut out).unwrap_err().code(), "internal");
    assert_eq!(quantize_row(Format::Q4_K, &[1.0; 256], &mut out).unwrap_err().code(), "internal");
    assert_eq!(out, [1, 2, 3], "nothing is left behind");
}

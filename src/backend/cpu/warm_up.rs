//! Kernels run on nothing, before there is anything to do: browsers compile WebAssembly quickly at first, and the functions that turn out
//! to be used much once more, well, beside what goes on. Done when a load begins, that is over before the first prompt.

use super::{Cpu, zeroed};
use crate::backend::{
    AttentionOp, Epilogue, Expected, Heads, KvFormat, KvSource, KvSpec, Linear, Mask, MatrixSpec, Memory, Ops, Types,
};
use crate::error::Result;
use crate::quant::Format;

/// Elements of a row: whole blocks of every format.
const N_IN: usize = 512;
const N_OUT: usize = 64;
/// Rows of a prompt's chunk.
const ROWS: usize = Cpu::PREFILL_ROWS;
/// V8 compiles a function anew after it went through some 13 MB of its code (`--wasm-tiering-budget`); a kernel's round is one to two KB
/// for 8 rows, a block and up to 4 tokens. More runs make the load longer than the first prompt gets shorter (BENCHMARKS.md).
const PREFILL_RUNS: usize = 5;
const DECODE_RUNS: usize = 4 * PREFILL_RUNS;

/// Runs what of the backend's kernels is expected, each for some milliseconds.
///
/// # Errors
/// `out_of_memory`, of some hundred kilobytes.
pub fn warm_up(cpu: &mut Cpu, expected: &[Expected]) -> Result<()> {
    for expected in expected {
        match *expected {
            Expected::Linear(format) => linear(cpu, format)?,
            Expected::Attention(head_dim, format) => attention(cpu, head_dim, format)?,
            Expected::AttentionRows(head_dim) => attention_rows(cpu, head_dim)?,
            // The same kernels once more, or such as take no time.
            Expected::Embed(_)
            | Expected::Qkv(..)
            | Expected::GateUp(..)
            | Expected::AttentionEnds(..)
            | Expected::SoftCap
            | Expected::Scaled
            | Expected::HeadNorm
            | Expected::ShortConv
            | Expected::DepthwiseConv
            | Expected::Decoder
            | Expected::Vision => {}
        }
    }
    Ok(())
}

fn linear(cpu: &mut Cpu, format: Format) -> Result<()> {
    let spec = MatrixSpec { name: "a warm-up".to_string(), format, n_in: N_IN, n_out: N_OUT };
    let mut builder = cpu.matrix_begin(&spec)?;
    // All formats store zeros as zeros.
    cpu.matrix_rows(&mut builder, &zeroed::<u8>(N_OUT * format.row_bytes(N_IN), "a warm-up")?)?;
    let layer = Linear { weight: cpu.matrix_end(builder)?, bias: None };
    let (x, mut out) = (cpu.tensor(ROWS, N_IN)?, cpu.tensor(ROWS, N_OUT)?);
    for (rows, runs) in [(ROWS, PREFILL_RUNS), (1, DECODE_RUNS)] {
        for _ in 0..runs {
            cpu.linear(&x, &layer, &mut out, rows, Epilogue::Store);
        }
    }
    Ok(())
}

fn attention(cpu: &mut Cpu, head_dim: usize, format: KvFormat) -> Result<()> {
    let heads = Heads { n_heads: 1, n_kv_heads: 1, head_dim };
    let mut cache = cpu.kv_cache(&KvSpec { n_layers: 1, n_ctx: ROWS, n_kv: head_dim, head_dim, format })?;
    let (x, mut out) = (cpu.tensor(ROWS, head_dim)?, cpu.tensor(ROWS, head_dim)?);
    cpu.kv_write(&mut cache, 0, 0, &x, &x, ROWS);
    for (rows, runs) in [(ROWS / 4, PREFILL_RUNS), (1, DECODE_RUNS)] {
        for _ in 0..runs {
            let kv = KvSource::Cache { cache: &cache, layer: 0, first: ROWS - rows, ends: None };
            cpu.attention(&AttentionOp::causal(heads), &x, kv, &mut out, rows);
        }
    }
    Ok(())
}

fn attention_rows(cpu: &mut Cpu, head_dim: usize) -> Result<()> {
    let (x, mut out) = (cpu.tensor(ROWS, head_dim)?, cpu.tensor(ROWS, head_dim)?);
    for _ in 0..PREFILL_RUNS {
        let op = AttentionOp { mask: Mask::Full, ..AttentionOp::causal(Heads { n_heads: 1, n_kv_heads: 1, head_dim }) };
        cpu.attention(&op, &x, KvSource::Rows { k: &x, v: &x }, &mut out, ROWS);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_can_be_warmed_up_and_leaves_nothing_behind() {
        let expected: Vec<Expected> = Format::ALL
            .into_iter()
            .map(Expected::Linear)
            .chain([64, 80].into_iter().flat_map(|head_dim| {
                KvFormat::ALL
                    .map(|format| Expected::Attention(head_dim, format))
                    .into_iter()
                    .chain([Expected::AttentionRows(head_dim)])
            }))
            .chain([Expected::Decoder, Expected::Vision])
            .collect();
        let mut cpu = Cpu::new();
        warm_up(&mut cpu, &expected).unwrap();
        assert_eq!(cpu.weight_bytes(), 0);
    }
}

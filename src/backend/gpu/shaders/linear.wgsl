// What mat_vec and the mat_muls share: the operands of y = x W^T + bias and what is done with y.
// Shapes: w [n_out, n_in] in planes of blocks of 32 (n_in padded to whole blocks); x [rows, x_stride], x_stride in vec4, zero beyond
// n_in; bias [n_out]; out [rows, out_stride].
struct Params {
    // Blocks in all of w, which may be some rows of a larger matrix.
    w_n_blocks: u32,
    row_blocks: u32,
    n_out: u32,
    // The column of out that the first row of w computes.
    first: u32,
    x_stride: u32,
    out_stride: u32,
    // Rows of x.
    n: u32,
    epilogue: u32,
    has_bias: u32,
    // Of the norm that x goes through, where it does: elements in a row, and what keeps it from dividing by zero.
    n_cols: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> P: Params;
@group(0) @binding(1) var<storage, read> w_w: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;

// 1 + erf(z): Abramowitz and Stegun, 7.1.26, to 1.5e-7.
fn one_plus_erf(z: f32) -> f32 {
    let a = min(abs(z), 6.0);
    let t = 1.0 / (1.0 + 0.3275911 * a);
    let tail = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * exp(-a * a);
    return select(2.0 - tail, tail, z < 0.0);
}

// -2 sqrt(2 / pi) (y + 0.044715 y^3). From |y| = 10 on the sigmoid is 0 or 1 to all digits, and a cube could overflow.
fn gelu_tanh_exponent(y: f32) -> f32 {
    let z = clamp(y, -10.0, 10.0);
    return min(-1.5957691 * z * (0.044715 * z * z + 1.0), 80.0);
}

// Puts a sum into its place. Epilogues: 0 store, 1 add, 2 gelu, 3 quick gelu, 4 gelu by tanh, 5 relu, 6 hard sigmoid.
fn finish(row: u32, column: u32, sum: f32) {
    var y = sum;
    if (P.has_bias == 1u) {
        y += bias[P.first + column];
    }
    let at = row * P.out_stride + P.first + column;
    switch (P.epilogue) {
        case 1u: {
            y += out[at];
        }
        case 2u: {
            y *= 0.5 * one_plus_erf(y * 0.70710678);
        }
        case 3u: {
            y = y / (1.0 + exp(min(-1.702 * y, 80.0)));
        }
        case 4u: {
            y = y / (1.0 + exp(gelu_tanh_exponent(y)));
        }
        case 5u: {
            y = max(y, 0.0);
        }
        case 6u: {
            y = clamp(y + 3.0, 0.0, 6.0) * 0.16666667;
        }
        default: {}
    }
    out[at] = y;
}

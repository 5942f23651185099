//! Times the CPU kernels natively, as `ops.mjs bench` and `bench_attention` do in WebAssembly:
//!
//! ```sh
//! cargo run --release --package ops-runner --example kernels
//! ```

fn main() {
    ops_runner::bench::products();
    ops_runner::bench::attention();
    ops_runner::bench::long_context();
}

//! `bindgen IN.wasm OUT_DIR NAME [--names]`: what `wasm-bindgen --target web` does, in the version that `Cargo.lock` pins. The names of
//! functions, a tenth of a compressed module, are left out unless a profiler wants them.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let (input, out_dir, name, names) = match args.as_slice() {
        [_, input, out_dir, name] => (input, out_dir, name, false),
        [_, input, out_dir, name, flag] if flag == "--names" => (input, out_dir, name, true),
        _ => {
            eprintln!("usage: bindgen IN.wasm OUT_DIR NAME [--names]");
            return ExitCode::from(2);
        }
    };
    let mut bindgen = wasm_bindgen_cli_support::Bindgen::new();
    bindgen.input_path(input).out_name(name).typescript(true).omit_default_module_path(false).remove_name_section(!names);
    let done = bindgen.web(true).and_then(|b| b.generate(out_dir));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bindgen: {error:?}");
            ExitCode::FAILURE
        }
    }
}

//! SHA-256 over a stream: the browser's own digest takes whole buffers only.

use sha2::Digest;
use wasm_bindgen::prelude::*;

/// An incremental SHA-256.
#[wasm_bindgen]
#[derive(Default)]
pub struct Sha256 {
    state: sha2::Sha256,
}

#[wasm_bindgen]
impl Sha256 {
    /// Of no bytes yet.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
    }

    /// The digest of all bytes so far, in lower-case hexadecimal.
    #[wasm_bindgen(js_name = digestHex)]
    pub fn digest_hex(&self) -> String {
        self.state.clone().finalize().iter().map(|b| format!("{b:02x}")).collect()
    }
}

//! Reads golden `.safetensors` files: eight bytes of header length, a JSON header, then the tensors' bytes.

use std::ops::Range;

/// A file in memory.
pub struct Safetensors {
    header: serde_json::Value,
    data: Vec<u8>,
}

impl Safetensors {
    /// Reads a file; the path is relative to the crate's root.
    pub fn open(path: &str) -> Self {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let mut bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = serde_json::from_slice(&bytes[8..8 + n]).unwrap();
        Self { header, data: bytes.split_off(8 + n) }
    }

    /// All names.
    pub fn names(&self) -> Vec<&str> {
        self.header.as_object().unwrap().keys().map(String::as_str).filter(|k| *k != "__metadata__").collect()
    }

    /// The sizes of a tensor.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.entry(name)["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect()
    }

    /// The bytes of a tensor.
    pub fn bytes(&self, name: &str) -> &[u8] {
        let at = |i: usize| self.entry(name)["data_offsets"][i].as_u64().unwrap() as usize;
        let range: Range<usize> = at(0)..at(1);
        &self.data[range]
    }

    /// The elements of an F32 tensor.
    pub fn floats(&self, name: &str) -> Vec<f32> {
        assert_eq!(self.entry(name)["dtype"], "F32", "{name}");
        self.numbers(name)
    }

    /// The elements of a tensor of floats, 32-bit integers or bytes, as floats.
    pub fn numbers(&self, name: &str) -> Vec<f32> {
        let bytes = self.bytes(name);
        match self.entry(name)["dtype"].as_str() {
            Some("F32") => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Some("I32") => bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b) as f32).collect(),
            Some("U8") => bytes.iter().map(|b| f32::from(*b)).collect(),
            other => panic!("{name} is of {other:?}"),
        }
    }

    fn entry(&self, name: &str) -> &serde_json::Value {
        self.header.get(name).unwrap_or_else(|| panic!("no tensor '{name}'"))
    }
}

//! Which tensor is stored how.
//!
//! The mixes are llama.cpp's (`llama_tensor_get_type` of `src/llama-quant.cpp`): the output matrix in 6 bits, and in the `_m` mixes the values'
//! projections and the layers down of the first and last eighth of the layers and of every third between.

use llava_web::quant::Format;

/// A type that a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
#[allow(non_camel_case_types, reason = "spelled as in the names of files")]
pub enum Type {
    /// 32-bit floats
    F32,
    /// 16-bit floats
    F16,
    /// 16-bit brain floats
    Bf16,
    /// 8 bits
    Q8_0,
    /// 4 bits, the smallest and fastest
    Q4_0,
    /// 4 bits and some 6: the usual choice
    Q4_K_M,
    /// 5 bits and some 6
    Q5_K_M,
    /// 6 bits
    Q6_K,
}

impl Type {
    /// As names of files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_K_M => "Q4_K_M",
            Self::Q5_K_M => "Q5_K_M",
            Self::Q6_K => "Q6_K",
        }
    }

    /// llama.cpp's number of the mix, for `general.file_type`.
    pub fn number(self) -> usize {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q4_0 => 2,
            Self::Q8_0 => 7,
            Self::Q4_K_M => 15,
            Self::Q5_K_M => 17,
            Self::Q6_K => 18,
            Self::Bf16 => 32,
        }
    }

    /// What most matrices are stored in.
    pub fn format(self) -> Format {
        match self {
            Self::F32 => Format::F32,
            Self::F16 => Format::F16,
            Self::Bf16 => Format::BF16,
            Self::Q8_0 => Format::Q8_0,
            Self::Q4_0 => Format::Q4_0,
            Self::Q4_K_M => Format::Q4_K,
            Self::Q5_K_M => Format::Q5_K,
            Self::Q6_K => Format::Q6_K,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    fn has_more(self) -> bool {
        matches!(self, Self::Q4_K_M | Self::Q5_K_M)
    }
}

/// What a matrix of the language model is to its mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The output matrix, or the embedding table where that is it.
    Output,
    /// The values' projection of a layer.
    Values(usize),
    /// The layer down of a layer.
    Down(usize),
    Other,
}

/// Whether one of `n` layers gets more bits in the `_m` mixes.
fn gets_more(layer: usize, n: usize) -> bool {
    let eighth = n / 8;
    layer < eighth || layer >= 7 * n / 8 || (layer - eighth) % 3 == 2
}

/// How a matrix with rows of `cols` elements is stored, of a model of `n_layers`.
pub fn of_text(wanted: Type, role: Role, cols: usize, n_layers: usize) -> Format {
    if wanted.is_float() {
        return wanted.format();
    }
    let format = match role {
        Role::Output if wanted == Type::Q8_0 || !cols.is_multiple_of(256) => Format::Q8_0,
        Role::Output => Format::Q6_K,
        Role::Values(layer) | Role::Down(layer) if wanted.has_more() && gets_more(layer, n_layers) => Format::Q6_K,
        _ => wanted.format(),
    };
    fitting(format, cols)
}

/// How a matrix of the vision file is stored.
pub fn of_vision(wanted: Type, cols: usize) -> Format {
    fitting(wanted.format(), cols)
}

/// The format, or where rows of `cols` elements are not whole blocks of it, the next one up that takes them.
fn fitting(format: Format, cols: usize) -> Format {
    let fits = |format: Format| cols.is_multiple_of(format.block_len());
    let other = match format {
        _ if fits(format) => format,
        Format::Q4_K => Format::Q5_0,
        Format::Q5_K => Format::Q5_1,
        Format::Q6_K => Format::Q8_0,
        _ => Format::F16,
    };
    if fits(other) { other } else { Format::F16 }
}

#[cfg(test)]
mod tests {
    use super::{Role, Type, gets_more, of_text, of_vision};
    use llava_web::quant::Format;

    #[test]
    fn the_layers_with_more_bits_are_llama_cpps() {
        let of = |n: usize| (0..n).filter(|i| gets_more(*i, n)).collect::<Vec<_>>();
        assert_eq!(of(3), [2]);
        assert_eq!(of(32), [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]);
    }

    #[test]
    fn rows_that_are_no_whole_blocks_get_the_next_format_up() {
        assert_eq!(of_text(Type::Q4_K_M, Role::Other, 4096, 32), Format::Q4_K);
        assert_eq!(of_text(Type::Q4_K_M, Role::Other, 96, 32), Format::Q5_0);
        assert_eq!(of_text(Type::Q5_K_M, Role::Other, 96, 32), Format::Q5_1);
        assert_eq!(of_text(Type::Q6_K, Role::Other, 96, 32), Format::Q8_0);
        assert_eq!(of_text(Type::Q4_0, Role::Output, 896, 24), Format::Q8_0);
        assert_eq!(of_text(Type::Q4_0, Role::Output, 4096, 24), Format::Q6_K);
        assert_eq!(of_text(Type::Q8_0, Role::Output, 4096, 24), Format::Q8_0);
        assert_eq!(of_text(Type::Q4_K_M, Role::Down(0), 1000, 24), Format::F16);
        assert_eq!(of_vision(Type::Q8_0, 1152), Format::Q8_0);
        assert_eq!(of_vision(Type::Q8_0, 4304), Format::F16);
    }
}

//! A GGUF file taken apart and put together again, so that a mutation keeps its shape: strings keep their lengths right, tensors their
//! places, and what is wrong is wrong in one thing at a time.

use llava_web::quant::Stored;

use super::random::Random;

/// A pair: key, type of the value, and the value's bytes.
#[derive(Debug, Clone)]
struct Pair {
    key: Vec<u8>,
    kind: u32,
    value: Vec<u8>,
}

#[derive(Debug, Clone)]
struct Info {
    name: Vec<u8>,
    dims: Vec<u64>,
    kind: u32,
    offset: u64,
}

/// A file in parts.
#[derive(Debug, Clone)]
pub struct File {
    version: u32,
    pairs: Vec<Pair>,
    infos: Vec<Info>,
    data: Vec<u8>,
    /// Added to the counts that the header claims.
    lie: (u64, u64),
    /// Where the data begins, in multiples of this.
    alignment: usize,
}

/// Changes bytes as the fuzzing engine likes: buffer, bytes used, bytes allowed; gives the bytes used.
pub type Mutate<'a> = dyn FnMut(&mut [u8], usize, usize) -> usize + 'a;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: u64) -> Option<&'a [u8]> {
        let (piece, rest) = self.0.split_at_checked(usize::try_from(n).ok()?)?;
        self.0 = rest;
        Some(piece)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        let n = self.u64()?;
        Some(self.take(n)?.to_vec())
    }

    fn skip_value(&mut self, kind: u32, depth: u32) -> Option<()> {
        match kind {
            8 => drop(self.string()?),
            9 if depth < 8 => {
                let (kind, n) = (self.u32()?, self.u64()?);
                for _ in 0..n {
                    self.skip_value(kind, depth + 1)?;
                }
            }
            _ => drop(self.take(size(kind)?)?),
        }
        Some(())
    }
}

/// Bytes of a scalar.
fn size(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        10..=12 => 8,
        _ => return None,
    })
}

fn string(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend(bytes);
}

/// Elements and bytes of a block of each type that is read; (32, 18) for the others.
fn block(kind: u32) -> (u64, u64) {
    Stored::from_ggml_type(kind).map_or((32, 18), |format| (format.block_len() as u64, format.block_bytes() as u64))
}

/// Numbers at which things turn.
const TURNS: &[u64] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    12,
    15,
    16,
    17,
    24,
    31,
    32,
    33,
    48,
    63,
    64,
    65,
    96,
    127,
    128,
    129,
    255,
    256,
    257,
    512,
    1000,
    1023,
    1024,
    4095,
    4096,
    4097,
    65535,
    65536,
    65537,
    131_072,
    1 << 20,
    1 << 24,
    (1 << 24) + 1,
    i32::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 33,
    1 << 40,
    i64::MAX as u64,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Bits of floats at which things turn: 0, −0, 1, −1, the least and the greatest, infinities and NaN, 1e-5, 1e30.
const FLOATS: &[u32] = &[
    0,
    0x8000_0000,
    0x3f80_0000,
    0xbf80_0000,
    1,
    0x0080_0000,
    0x7f7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0x3727_c5ac,
    0x7149_f2ca,
];
/// The same of halves.
const HALVES: &[u16] = &[0, 0x8000, 0x3c00, 0xbc00, 1, 0x0400, 0x7bff, 0x7c00, 0xfc00, 0x7e00, 0x0010];

impl File {
    /// Takes a file apart; `None` where it is not one from front to end.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader(bytes);
        if r.take(4)? != b"GGUF" {
            return None;
        }
        let version = r.u32()?;
        let (n_tensors, n_pairs) = (r.u64()?, r.u64()?);
        let mut pairs = Vec::new();
        for _ in 0..n_pairs.min(4096) {
            let key = r.string()?;
            let kind = r.u32()?;
            let before = r.0;
            r.skip_value(kind, 0)?;
            pairs.push(Pair { key, kind, value: before[..before.len() - r.0.len()].to_vec() });
        }
        let mut infos = Vec::new();
        for _ in 0..n_tensors.min(4096) {
            let name = r.string()?;
            let n_dims = r.u32()?;
            let dims = (0..n_dims.min(8)).map(|_| r.u64()).collect::<Option<Vec<_>>>()?;
            infos.push(Info { name, dims, kind: r.u32()?, offset: r.u64()? });
        }
        let alignment = pairs
            .iter()
            .find(|p| p.key == b"general.alignment" && p.kind == 4)
            .map_or(32, |p| <[u8; 4]>::try_from(&p.value[..]).map_or(32, |v| u32::from_le_bytes(v) as usize));
        let alignment = if (1..=4096).contains(&alignment) { alignment } else { 32 };
        let at = bytes.len() - r.0.len();
        let data = bytes.get(at.next_multiple_of(alignment)..).unwrap_or_default().to_vec();
        Some(Self { version, pairs, infos, data, lie: (0, 0), alignment })
    }

    /// Puts it together.
    pub fn write(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.infos.len() as u64).wrapping_add(self.lie.0).to_le_bytes());
        out.extend((self.pairs.len() as u64).wrapping_add(self.lie.1).to_le_bytes());
        for pair in &self.pairs {
            string(&pair.key, &mut out);
            out.extend(pair.kind.to_le_bytes());
            out.extend(&pair.value);
        }
        for info in &self.infos {
            string(&info.name, &mut out);
            out.extend((info.dims.len() as u32).to_le_bytes());
            info.dims.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(info.kind.to_le_bytes());
            out.extend(info.offset.to_le_bytes());
        }
        if !self.data.is_empty() {
            out.resize(out.len().next_multiple_of(self.alignment), 0);
        }
        out.extend(&self.data);
        out
    }

    /// Changes one thing.
    pub fn mutate(&mut self, random: &mut Random, mutate: &mut Mutate<'_>) {
        match random.below(20) {
            0 => self.version = [1, 2, 3, 4, 0x0300_0000][random.below(5)],
            1 => self.lie = [(1, 0), (0, 1), (u64::MAX, 0), (0, u64::MAX), (1 << 40, 1 << 40), (0, 1 << 15)][random.below(6)],
            2 | 3 => self.scalar(random),
            4 => self.text(random, mutate),
            5 => self.array(random),
            6 => self.other_pairs(random),
            7 | 8 => self.shape(random),
            9 => self.retype(random),
            10 => {
                if let Some(i) = pick(random, self.infos.len()) {
                    self.infos[i].offset = TURNS[random.below(TURNS.len())].wrapping_mul([1, 32][random.below(2)]);
                }
            }
            11 => self.other_tensors(random),
            12 => {
                let n = random.below(self.data.len() + 1);
                self.data.truncate(n);
            }
            13 | 14 => {
                let n = self.data.len();
                let from = random.below(n + 1);
                let window = (n - from).min(1 + random.below(64));
                // libFuzzer ends the program where there is nothing to change.
                if window > 0 {
                    mutate(&mut self.data[from..from + window], window, window);
                }
            }
            _ => self.numbers(random),
        }
    }

    fn scalar(&mut self, random: &mut Random) {
        let all: Vec<usize> = (0..self.pairs.len()).filter(|&i| size(self.pairs[i].kind).is_some()).collect();
        let Some(i) = pick(random, all.len()) else { return };
        let pair = &mut self.pairs[all[i]];
        if random.below(4) == 0 {
            pair.kind = [0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12][random.below(11)];
        }
        let mut wide = [0; 8];
        wide[..pair.value.len()].copy_from_slice(&pair.value);
        let old = u64::from_le_bytes(wide);
        let new = match (pair.kind, random.below(4)) {
            (6, _) => FLOATS[random.below(FLOATS.len())].into(),
            (12, _) => f64::from(f32::from_bits(FLOATS[random.below(FLOATS.len())])).to_bits(),
            (_, 0) => old.wrapping_add(1),
            (_, 1) => old.wrapping_sub(1),
            _ => TURNS[random.below(TURNS.len())],
        };
        pair.value = new.to_le_bytes()[..size(pair.kind).unwrap_or(8) as usize].to_vec();
    }

    /// A key, a name or a text becomes another.
    fn text(&mut self, random: &mut Random, mutate: &mut Mutate<'_>) {
        let all: Vec<usize> = (0..self.pairs.len()).filter(|&i| self.pairs[i].kind == 8).collect();
        let mut changed = |bytes: &mut Vec<u8>| {
            let n = bytes.len();
            bytes.resize(n + 16, 0);
            let n = mutate(bytes, n, n + 16);
            bytes.truncate(n);
        };
        match random.below(4) {
            0 => {
                if let Some(i) = pick(random, self.pairs.len()) {
                    changed(&mut self.pairs[i].key);
                }
            }
            1 => {
                if let Some(i) = pick(random, self.infos.len()) {
                    changed(&mut self.infos[i].name);
                }
            }
            _ => {
                if let Some(i) = pick(random, all.len()) {
                    let mut bytes = self.pairs[all[i]].value.get(8..).unwrap_or_default().to_vec();
                    changed(&mut bytes);
                    let mut value = Vec::new();
                    string(&bytes, &mut value);
                    self.pairs[all[i]].value = value;
                }
            }
        }
    }

    /// An array loses, repeats or exchanges what it holds, or claims more.
    fn array(&mut self, random: &mut Random) {
        let all: Vec<usize> =
            (0..self.pairs.len()).filter(|&i| self.pairs[i].kind == 9 && self.pairs[i].value.len() >= 12).collect();
        let Some(i) = pick(random, all.len()) else { return };
        let value = &mut self.pairs[all[i]].value;
        let mut r = Reader(value);
        let (Some(kind), Some(n)) = (r.u32(), r.u64()) else { return };
        if random.below(8) == 0 {
            value[4..12].copy_from_slice(&TURNS[random.below(TURNS.len())].to_le_bytes());
            return;
        }
        let mut items: Vec<Vec<u8>> = Vec::new();
        for _ in 0..n {
            let before = r.0;
            if r.skip_value(kind, 0).is_none() {
                return;
            }
            items.push(before[..before.len() - r.0.len()].to_vec());
        }
        match (pick(random, items.len()), random.below(5)) {
            (Some(i), 0) => drop(items.remove(i)),
            (Some(i), 1) => items.insert(i, items[random.below(items.len())].clone()),
            (Some(i), 2) => items.swap(i, random.below(n as usize)),
            (Some(i), _) if kind != 8 => {
                for byte in &mut items[i] {
                    *byte = (random.bits() >> 32) as u8;
                }
            }
            (Some(i), _) => {
                let text = &mut items[i];
                match (text.len() > 8, random.below(2)) {
                    (true, 0) => {
                        let at = 8 + random.below(text.len() - 8);
                        text[at] = (random.bits() >> 32) as u8;
                    }
                    _ => text.push((random.bits() >> 32) as u8),
                }
                let len = (text.len() - 8) as u64;
                text[..8].copy_from_slice(&len.to_le_bytes());
            }
            (None, _) => {}
        }
        let mut out = kind.to_le_bytes().to_vec();
        out.extend((items.len() as u64).to_le_bytes());
        out.extend(items.concat());
        *value = out;
    }

    fn other_pairs(&mut self, random: &mut Random) {
        let Some(i) = pick(random, self.pairs.len()) else { return };
        match random.below(4) {
            0 => drop(self.pairs.remove(i)),
            1 => {
                let mut pair = self.pairs[i].clone();
                pair.key = self.pairs[random.below(self.pairs.len())].key.clone();
                self.pairs.push(pair);
            }
            2 => {
                // A value under another's name.
                let other = random.below(self.pairs.len());
                let key = std::mem::take(&mut self.pairs[i].key);
                self.pairs[i].key = std::mem::replace(&mut self.pairs[other].key, key);
            }
            _ => {
                let key = KEYS[random.below(KEYS.len())];
                let kind = [4, 6, 7, 5][random.below(4)];
                let value = TURNS[random.below(TURNS.len())].to_le_bytes()[..size(kind).unwrap_or(4) as usize].to_vec();
                self.pairs.push(Pair { key: key.as_bytes().to_vec(), kind, value });
            }
        }
    }

    fn shape(&mut self, random: &mut Random) {
        let Some(i) = pick(random, self.infos.len()) else { return };
        let dims = &mut self.infos[i].dims;
        match (pick(random, dims.len()), random.below(6)) {
            (Some(d), 0) => dims[d] = TURNS[random.below(TURNS.len())],
            (Some(d), 1) => dims[d] = dims[d].wrapping_add(1),
            (Some(d), 2) => dims[d] = dims[d].wrapping_mul(2),
            (Some(d), 3) => dims[d] /= 2,
            (Some(d), 4) => dims.swap(d, 0),
            (_, 5) => dims.push(1),
            _ => {}
        }
        if random.below(2) == 0 {
            self.lay_out();
        }
    }

    /// A tensor in another format, with as many bytes as it takes there.
    fn retype(&mut self, random: &mut Random) {
        let Some(i) = pick(random, self.infos.len()) else { return };
        let kinds: Vec<u32> = Stored::all().map(Stored::ggml_type).chain([4, 28, 36, u32::MAX]).collect();
        self.infos[i].kind = kinds[random.below(kinds.len())];
        if random.below(4) > 0 {
            self.lay_out();
        }
    }

    /// Gives every tensor its place and the data as many bytes as they need, filled with what there was, again and again.
    fn lay_out(&mut self) {
        const MOST: u64 = 1 << 16;
        let mut at: u64 = 0;
        for info in &mut self.infos {
            let (elements, bytes) = block(info.kind);
            let n = info.dims.iter().fold(1u64, |n, d| n.saturating_mul(*d)) / elements;
            info.offset = at;
            at = at.saturating_add(n.saturating_mul(bytes)).min(MOST).next_multiple_of(32);
        }
        if self.data.is_empty() {
            self.data = vec![0x11; 32];
        }
        let old = self.data.len();
        self.data.resize(at as usize, 0);
        for i in old..self.data.len() {
            self.data[i] = self.data[i % old];
        }
    }

    /// Numbers in the data at which things turn.
    fn numbers(&mut self, random: &mut Random) {
        for _ in 0..1 + random.below(3) {
            if self.data.len() < 8 {
                return;
            }
            let at = random.below(self.data.len() - 4);
            if random.below(2) == 0 {
                let at = at & !3;
                self.data[at..at + 4].copy_from_slice(&FLOATS[random.below(FLOATS.len())].to_le_bytes());
            } else {
                let at = at & !1;
                self.data[at..at + 2].copy_from_slice(&HALVES[random.below(HALVES.len())].to_le_bytes());
            }
        }
    }

    fn other_tensors(&mut self, random: &mut Random) {
        let Some(i) = pick(random, self.infos.len()) else { return };
        match random.below(4) {
            0 => drop(self.infos.remove(i)),
            1 => {
                let mut info = self.infos[i].clone();
                info.name.push(b'x');
                self.infos.push(info);
            }
            2 => {
                let other = random.below(self.infos.len());
                let name = std::mem::take(&mut self.infos[i].name);
                self.infos[i].name = std::mem::replace(&mut self.infos[other].name, name);
            }
            _ => {
                let other = random.below(self.infos.len());
                self.infos.swap(i, other);
            }
        }
    }
}

/// A mutator for libFuzzer: changes the file behind the first `head` bytes in one to three things, or, one time in four and where it is
/// no file, as the fuzzing engine likes. Gives the bytes used.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32, head: usize, engine: &mut Mutate<'_>) -> usize {
    let mut random = Random::new(seed.into());
    let file = if random.below(4) == 0 { None } else { data.get(head..size).and_then(File::read) };
    let Some(mut file) = file else { return engine(data, size, max_size) };
    for _ in 0..1 + random.below(3) {
        file.mutate(&mut random, engine);
    }
    let bytes = file.write();
    let n = bytes.len().min(max_size.saturating_sub(head));
    data[head..head + n].copy_from_slice(&bytes[..n]);
    head + n
}

fn pick(random: &mut Random, n: usize) -> Option<usize> {
    (n > 0).then(|| random.below(n))
}

/// Keys that change what a model is.
const KEYS: &[&str] = &[
    "general.alignment",
    "split.count",
    "split.no",
    "split.tensors.count",
    "llama.expert_count",
    "llama.attention.key_length",
    "llama.attention.value_length",
    "llama.attention.head_count_kv",
    "llama.attention.sliding_window",
    "llama.attn_logit_softcapping",
    "llama.rope.dimension_count",
    "llama.rope.freq_base",
    "llama.rope.scale_linear",
    "llama.rope.scaling.factor",
    "llama.rope.scaling.attn_factor",
    "llama.rope.scaling.original_context_length",
    "tokenizer.ggml.bos_token_id",
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_space_prefix",
    "clip.vision.feature_layer",
    "clip.use_gelu",
    "clip.use_silu",
    "clip.has_vision_encoder",
    "clip.vision.spatial_merge_size",
    "clip.vision.projector.scale_factor",
    "clip.vision.preproc_image_size",
];

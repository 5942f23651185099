//! The context as bytes: what the key-value cache holds and what it stands for, to go on with later, in another engine of the same
//! model, on whatever device.
//!
//! ```text
//! magic [8]   version u32   key-value format u32 (0 F32, 1 F16, 2 Q8_0)   bytes in all u64
//! fingerprints u64: of the language model, and of the vision model (0 where no picture is shown)
//! layers that have attention, n_kv, n_vocab, positions, pictures u32
//! layers that have convolutions, their width, the first position whose products are there one by one u32
//! architecture, name: their length in bytes u32, then UTF-8
//! each picture: hash u64, layout u32 (0 single, 1 anyres, 2 tiles), grid's rows and cols, width and height,
//!   rows and cols of a tile's embedding and of the overview's u32
//! each position: 0 u32 and the token's id u32, or the picture's number from 1 on u32 and its row u32
//! keys [n_layers, positions, n_kv], then values likewise, in the key-value format
//! each layer that has a convolution: products [·, width] before each checkpoint, then of each position from the first one on, F32
//! SipHash 1-3 of all of that u64
//! ```
//!
//! Numbers are little-endian. Only positions that are used are in it. It is written and read in pieces, so that beside the bytes
//! themselves (which are the caller's, and in a browser outside of the module's memory) no more than [`PIECE`] is held.
//!
//! Bytes that come from outside are hostile until they are checked, all of them, before anything of the engine is changed: lengths
//! against each other and the context, ids against the vocabulary, numbers for being numbers.

use std::hash::Hasher;
use std::ops::Range;

use siphasher::sip::SipHasher13;

use crate::backend::{Backend, KvFormat, KvPart, KvSpec};
use crate::error::{Error, Result};
use crate::image::preprocess::{MAX_PATCHES, MAX_TILES};
use crate::image::{Grid, Layout, Place};
use crate::model::conv_state::{ConvState, StateRows};
use crate::runtime::engine::Engine;
use crate::runtime::session::Slot;

const MAGIC: [u8; 8] = *b"LLAVAKV\n";
/// Sessions of another version are refused: what they say may mean something else.
pub const VERSION: u32 = 2;
/// Bytes up to the names.
const FIXED_BYTES: usize = 72;
const PICTURE_BYTES: usize = 44;
const SLOT_BYTES: usize = 8;
const CHECKSUM_BYTES: u64 = size_of::<u64>() as u64;
/// Bytes of keys or values that are held at a time: few enough to be little beside any model, enough that a browser which answers ten
/// times a second is not asked for long.
const PIECE: usize = 8 << 20;
/// The most bytes of a session. One buffer holds them, and browsers refuse larger ones, or the tab does not live long with them;
/// LLaVA-1.5-7B takes 512 KiB for a position, so that 2000 of them fit.
pub const MAX_BYTES: u64 = 1 << 30;
/// The longest name that is written, and the longest that is read.
const MAX_NAME: usize = 256;
/// No side of a picture is longer, in pixels.
const MAX_SIDE: u32 = crate::image::decode::MAX_SIDE;

/// Which model an engine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The language model: shape, weights, tokenizer.
    pub language_model: u64,
    /// The vision model: shape, weights, and how pictures are prepared.
    pub vision: Option<u64>,
}

/// Bytes of a session that are read where they are.
pub trait SavedBytes {
    /// How many there are.
    fn n_bytes(&self) -> u64;
    /// Copies those from `at` on; they are there.
    fn read(&self, at: u64, out: &mut [u8]);
}

impl SavedBytes for [u8] {
    fn n_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, at: u64, out: &mut [u8]) {
        // Beyond the end as any other slice.
        out.copy_from_slice(&self[usize::try_from(at).unwrap_or(usize::MAX)..][..out.len()]);
    }
}

/// Layers and positions of keys or values that make a piece.
struct Piece {
    part: KvPart,
    layers: Range<usize>,
    position: usize,
    n: usize,
}

/// The pieces of a session of `n` positions, in the order in which they are written.
fn pieces(spec: &KvSpec, n: usize) -> Vec<Piece> {
    let row_bytes = spec.row_bytes();
    let n_at_once = (PIECE / row_bytes).clamp(1, n.max(1));
    let layers_at_once = if n_at_once < n { 1 } else { (PIECE / (row_bytes * n.max(1))).clamp(1, spec.n_layers) };
    let mut all = Vec::new();
    for part in [KvPart::Keys, KvPart::Values] {
        for layer in (0..spec.n_layers).step_by(layers_at_once) {
            let layers = layer..(layer + layers_at_once).min(spec.n_layers);
            let positions = (0..n).step_by(n_at_once);
            all.extend(positions.map(|at| Piece { part, layers: layers.clone(), position: at, n: n_at_once.min(n - at) }));
        }
    }
    all
}

impl<B: Backend> Engine<B> {
    /// Bytes that [`Self::save_session`] is going to write.
    ///
    /// # Errors
    /// `invalid_request` while an answer is generated; `out_of_memory` beyond [`MAX_BYTES`].
    pub fn session_bytes(&self) -> Result<u64> {
        if self.is_generating() {
            return Err(Error::invalid_request(
                "The session cannot be saved while an answer is being written. Wait for its end, or stop it.",
            ));
        }
        let n = self.session.slots.len();
        within_bound(
            self.session_head().len() as u64 + self.kv_bytes(n) + self.state_bytes(n, self.state_first(n)) + CHECKSUM_BYTES,
            n,
        )
    }

    /// Writes the context, in order and in pieces.
    ///
    /// # Errors
    /// As [`Self::session_bytes`]; `device_lost`.
    pub async fn save_session(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.session_bytes()?;
        let mut checksum = SipHasher13::new();
        let head = self.session_head();
        checksum.write(&head);
        sink(&head);
        let spec = self.kv_spec();
        let mut bytes = Vec::new();
        for Piece { part, layers, position, n } in pieces(&spec, self.session.slots.len()) {
            self.pause().await?;
            let read = self.backend.kv_read(&self.session.cache, part, layers, position, n, &mut bytes).await;
            self.trusted(read).await?;
            checksum.write(&bytes);
            sink(&bytes);
        }
        let n = self.session.slots.len();
        let mut data = Vec::new();
        for StateRows { layer, row, n } in self.state_sections(n, self.state_first(n)) {
            self.pause().await?;
            let Some(state) = self.llm.conv_state() else { break };
            let read = self.backend.read(state.layer(layer), row, n, &mut data).await;
            self.trusted(read).await?;
            bytes.clear();
            bytes.extend(data.iter().flat_map(|x| x.to_le_bytes()));
            checksum.write(&bytes);
            sink(&bytes);
        }
        sink(&checksum.finish().to_le_bytes());
        Ok(())
    }

    /// Takes over a context that [`Self::save_session`] wrote; the one there was is forgotten. Pictures it shows are found again by
    /// what they show, so a request that shows them need not have them encoded.
    ///
    /// # Errors
    /// `integrity` for bytes that are damaged or not all there; `invalid_request` for those of another model, version or key-value
    /// format, and while an answer is generated; `mmproj_mismatch` where the session's pictures were seen by another vision model;
    /// `context_overflow` where it is longer than the context. The engine is then as before. What the backend has, with an empty context.
    pub async fn restore_session(&mut self, saved: &(impl SavedBytes + ?Sized)) -> Result<()> {
        if self.is_generating() {
            return Err(Error::invalid_request(
                "A session cannot be restored while an answer is being written. Wait for its end, or stop it.",
            ));
        }
        check_whole(saved)?;
        let head = self.read_head(saved)?;
        let spec = self.kv_spec();
        let mut at = head.n_bytes;
        let mut bytes = Vec::new();
        let all = pieces(&spec, head.slots.len());
        let sections = self.state_sections(head.slots.len(), head.state_first);
        for piece in &all {
            // Nothing is changed yet.
            self.pause().await?;
            read_piece(saved, &spec, piece, &mut at, &mut bytes);
            if !spec.are_sound(&bytes) {
                return Err(not_numbers());
            }
        }
        for rows in &sections {
            self.read_state(saved, rows, &mut at, &mut bytes);
            if !bytes.as_chunks().0.iter().all(|x| f32::from_le_bytes(*x).is_finite()) {
                return Err(not_numbers());
            }
        }
        // From here on nothing can be wrong with the bytes.
        self.session.clear();
        at = head.n_bytes;
        for piece in &all {
            read_piece(saved, &spec, piece, &mut at, &mut bytes);
            self.backend.kv_restore(&mut self.session.cache, piece.part, piece.layers.clone(), piece.position, &bytes);
        }
        for rows in &sections {
            self.read_state(saved, rows, &mut at, &mut bytes);
            let data: Vec<f32> = bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
            if let Some(state) = self.llm.conv_state_mut() {
                state.restore(&mut self.backend, *rows, &data);
                state.restored(head.slots.len(), head.state_first);
            }
        }
        // A device that went away meanwhile takes what is written without a word.
        let settled = self.backend.settle(true).await;
        self.trusted(settled).await?;
        self.session.slots = head.slots;
        self.session.places = head.places;
        let Self { backend, llm, session, .. } = self;
        session.set_positions(backend, llm.as_mut(), &session.slots)
    }

    fn kv_spec(&self) -> KvSpec {
        self.llm.dims().kv_spec(self.session.n_ctx, self.kv_format)
    }

    /// Bytes of the keys and values of `n` positions.
    fn kv_bytes(&self, n: usize) -> u64 {
        KvSpec { n_ctx: n, ..self.kv_spec() }.n_bytes()
    }

    /// Layers that have convolutions, and their width.
    fn state_shape(&self) -> [usize; 2] {
        self.llm.conv_state().map_or([0; 2], |state| [state.n_layers(), state.width()])
    }

    /// The first of `n` positions whose products are saved one by one.
    fn state_first(&self, n: usize) -> usize {
        self.llm.conv_state().map_or(0, |state| state.first().min(n))
    }

    fn state_sections(&self, n: usize, first: usize) -> Vec<StateRows> {
        self.llm.conv_state().map_or(Vec::new(), |state| state.sections(n, first))
    }

    /// Bytes of what convolutions keep of `n` positions.
    fn state_bytes(&self, n: usize, first: usize) -> u64 {
        let [_, width] = self.state_shape();
        self.state_sections(n, first).iter().map(|rows| 4 * rows.n as u64 * width as u64).sum()
    }

    fn read_state(&self, saved: &(impl SavedBytes + ?Sized), rows: &StateRows, at: &mut u64, bytes: &mut Vec<u8>) {
        let [_, width] = self.state_shape();
        bytes.resize(4 * rows.n * width, 0);
        saved.read(*at, bytes);
        *at += bytes.len() as u64;
    }

    /// All that stands before the keys and values.
    #[expect(clippy::cast_possible_truncation, reason = "counts of a context that is at most 1 GiB, and sides of pictures")]
    fn session_head(&self) -> Vec<u8> {
        let session = &self.session;
        let places: Vec<_> = session.places.iter().filter(|(hash, _)| session.shows(*hash)).collect();
        let spec = self.kv_spec();
        let mut out = Vec::new();
        let u32s = |out: &mut Vec<u8>, values: &[u32]| out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let u64s = |out: &mut Vec<u8>, values: &[u64]| out.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        out.extend(MAGIC);
        u32s(&mut out, &[VERSION, format_number(spec.format)]);
        let vision = if places.is_empty() { 0 } else { self.identity.vision.unwrap_or(0) };
        u64s(&mut out, &[0, self.identity.language_model, vision]);
        let counts = [spec.n_layers, spec.n_kv, self.llm.dims().n_vocab, session.slots.len(), places.len()];
        u32s(&mut out, &counts.map(|n| n as u32));
        let (n, [conv_layers, width]) = (session.slots.len(), self.state_shape());
        u32s(&mut out, &[conv_layers, width, self.state_first(n)].map(|n| n as u32));
        for name in [&self.llm.dims().architecture, &self.info().name] {
            let name = &name[..name.floor_char_boundary(MAX_NAME)];
            u32s(&mut out, &[name.len() as u32]);
            out.extend(name.as_bytes());
        }
        for (hash, place) in &places {
            let (kind, grid) = match place.layout {
                Layout::Single => (0, Grid { rows: 1, cols: 1 }),
                Layout::Anyres(grid) => (1, grid),
                Layout::Tiles(grid) => (2, grid),
            };
            u64s(&mut out, &[*hash]);
            let sides = [
                grid.rows,
                grid.cols,
                place.width,
                place.height,
                place.tile[0],
                place.tile[1],
                place.overview[0],
                place.overview[1],
            ];
            u32s(&mut out, &[kind]);
            u32s(&mut out, &sides.map(|n| n as u32));
        }
        for slot in &session.slots {
            match *slot {
                Slot::Token(id) => u32s(&mut out, &[0, id]),
                Slot::Picture { hash, row } => {
                    let number = places.iter().position(|(h, _)| *h == hash).map_or(0, |i| i as u32 + 1);
                    u32s(&mut out, &[number, row]);
                }
            }
        }
        let n_bytes = out.len() as u64 + self.kv_bytes(n) + self.state_bytes(n, self.state_first(n)) + CHECKSUM_BYTES;
        out[16..24].copy_from_slice(&n_bytes.to_le_bytes());
        out
    }

    /// Reads what [`Self::session_head`] wrote, and holds it against this engine. The checksum is right.
    fn read_head(&self, saved: &(impl SavedBytes + ?Sized)) -> Result<Head> {
        let spec = self.kv_spec();
        let mut reader = Reader { saved, at: 12 };
        let [format] = reader.u32s()?;
        let [_, language_model, vision] = reader.u64s()?;
        let [n_layers, n_kv, n_vocab, n_slots, n_pictures, conv_layers, conv_width, state_first] = reader.u32s()?;
        let architecture = reader.name()?;
        let name = reader.name()?;
        let info = self.info();
        let [own_conv_layers, own_conv_width] = self.state_shape();
        #[expect(clippy::cast_possible_truncation, reason = "as they were written")]
        let shape = [spec.n_layers, spec.n_kv, self.llm.dims().n_vocab, own_conv_layers, own_conv_width].map(|n| n as u32);
        if language_model != self.identity.language_model || [n_layers, n_kv, n_vocab, conv_layers, conv_width] != shape {
            return Err(Error::invalid_request(format!(
                "The session is of '{name}' ({architecture}), but '{}' ({}) is loaded, or another training, quantization or context scaling of \
                 it. Load the model it was saved with, or send the messages again.",
                info.name, info.architecture
            )));
        }
        if format != format_number(spec.format) {
            let saved = KvFormat::ALL.into_iter().find(|known| format == format_number(*known));
            let of = saved.map_or("another format".to_string(), |saved| format!("'{}'", saved.name()));
            return Err(Error::invalid_request(format!(
                "The session keeps keys and values as {of}, this engine as '{}'. Load the model with the kvFormat it was saved with, or send the \
                 messages again.",
                spec.format.name()
            )));
        }
        let n = n_slots as usize;
        if n > self.session.n_ctx {
            return Err(Error::context_overflow(format!(
                "The session has {n} tokens, but the context holds {}. Load the model with a larger contextSize.",
                self.session.n_ctx
            )));
        }
        let state_first = state_first as usize;
        if (conv_layers == 0 && state_first > 0) || (conv_layers > 0 && !ConvState::<B>::may_begin(n, state_first)) {
            return Err(contradictory());
        }
        let n_bytes = reader.at
            + u64::from(n_pictures) * PICTURE_BYTES as u64
            + n as u64 * SLOT_BYTES as u64
            + self.kv_bytes(n)
            + self.state_bytes(n, state_first)
            + CHECKSUM_BYTES;
        if n_pictures > n_slots || n_bytes != saved.n_bytes() {
            return Err(contradictory());
        }
        if n_pictures > 0 && self.identity.vision != Some(vision) {
            return Err(Error::mmproj_mismatch(match self.identity.vision {
                None => {
                    "The session has pictures in it, but the model was loaded without its vision file. Load it with the mmproj file it was \
                         saved with, or send the messages again."
                }
                Some(_) => {
                    "The session's pictures were seen by another vision file than the one that is loaded. Load the mmproj file it was saved \
                            with, or send the messages again."
                }
            }));
        }
        let mut places = Vec::with_capacity(n_pictures as usize);
        for _ in 0..n_pictures {
            let [hash] = reader.u64s()?;
            let [kind, rows, cols, width, height, tile_rows, tile_cols, overview_rows, overview_cols] = reader.u32s()?;
            let grid = Grid { rows: rows as usize, cols: cols as usize };
            let layout = match kind {
                0 => Layout::Single,
                1 => Layout::Anyres(grid),
                2 => Layout::Tiles(grid),
                _ => return Err(contradictory()),
            };
            let sides = [rows, cols, width, height, tile_rows, tile_cols, overview_rows, overview_cols];
            if sides.iter().any(|n| *n == 0 || *n > MAX_SIDE)
                || u64::from(rows) * u64::from(cols) > MAX_TILES as u64
                || [[tile_rows, tile_cols], [overview_rows, overview_cols]]
                    .iter()
                    .any(|[rows, cols]| u64::from(*rows) * u64::from(*cols) > MAX_PATCHES as u64)
            {
                return Err(contradictory());
            }
            let [tile, overview] = [[tile_rows, tile_cols], [overview_rows, overview_cols]].map(|grid| grid.map(|n| n as usize));
            places.push((hash, Place { layout, width: width as usize, height: height as usize, tile, overview }));
        }
        let mut slots = Vec::with_capacity(n);
        for _ in 0..n {
            let [picture, value] = reader.u32s()?;
            slots.push(match picture.checked_sub(1) {
                None if value < n_vocab => Slot::Token(value),
                None => return Err(contradictory()),
                Some(i) => match places.get(i as usize) {
                    Some((hash, _)) => Slot::Picture { hash: *hash, row: value },
                    None => return Err(contradictory()),
                },
            });
        }
        Ok(Head { slots, places, state_first, n_bytes: reader.at })
    }
}

/// The bytes of a session of `n` tokens, unless they are too many.
fn within_bound(n_bytes: u64, n: usize) -> Result<u64> {
    if n_bytes > MAX_BYTES {
        return Err(Error::out_of_memory(format!(
            "The session of {n} tokens takes {n_bytes} bytes; no more than {MAX_BYTES} are saved. Keep the messages and send them again, or \
             begin a new conversation."
        )));
    }
    Ok(n_bytes)
}

/// What was read of a session's head.
struct Head {
    slots: Vec<Slot>,
    places: Vec<(u64, Place)>,
    /// The first position whose products are there one by one.
    state_first: usize,
    /// Where the keys begin.
    n_bytes: u64,
}

struct Reader<'a, S: SavedBytes + ?Sized> {
    saved: &'a S,
    at: u64,
}

impl<S: SavedBytes + ?Sized> Reader<'_, S> {
    fn bytes(&mut self, out: &mut [u8]) -> Result<()> {
        if self.at + out.len() as u64 + CHECKSUM_BYTES > self.saved.n_bytes() {
            return Err(contradictory());
        }
        self.saved.read(self.at, out);
        self.at += out.len() as u64;
        Ok(())
    }

    fn u32s<const N: usize>(&mut self) -> Result<[u32; N]> {
        let mut out = [[0; 4]; N];
        self.bytes(out.as_flattened_mut())?;
        Ok(out.map(u32::from_le_bytes))
    }

    fn u64s<const N: usize>(&mut self) -> Result<[u64; N]> {
        let mut out = [[0; 8]; N];
        self.bytes(out.as_flattened_mut())?;
        Ok(out.map(u64::from_le_bytes))
    }

    fn name(&mut self) -> Result<String> {
        let [n] = self.u32s()?;
        if n as usize > MAX_NAME {
            return Err(contradictory());
        }
        let mut bytes = vec![0; n as usize];
        self.bytes(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Checks that these are the bytes of a session of this version, all of them, as they were written.
fn check_whole(saved: &(impl SavedBytes + ?Sized)) -> Result<()> {
    let n_bytes = saved.n_bytes();
    let mut start = [0; 24];
    let n_start = start.len().min(usize::try_from(n_bytes).unwrap_or(usize::MAX));
    saved.read(0, &mut start[..n_start]);
    let n_magic = n_start.min(MAGIC.len());
    if n_magic == 0 || start[..n_magic] != MAGIC[..n_magic] {
        return Err(Error::invalid_request("These bytes are no saved session. Give those that saveSession returned."));
    }
    let version = u32::from_le_bytes([start[8], start[9], start[10], start[11]]);
    if n_start >= 12 && version != VERSION {
        return Err(Error::invalid_request(format!(
            "The session was saved in version {version} of its form; this program reads {VERSION}. Delete it, and send the messages again."
        )));
    }
    let promised = u64::from_le_bytes(start[16..].try_into().unwrap_or_default());
    if n_start < start.len() || promised > n_bytes || n_bytes < FIXED_BYTES as u64 + CHECKSUM_BYTES {
        let of = if n_start < start.len() { String::new() } else { format!(" of {promised}") };
        return Err(Error::integrity(format!(
            "The session is not all there: {n_bytes} bytes{of}. Delete it, and send the messages again."
        )));
    }
    let mut checksum = SipHasher13::new();
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < n_bytes - CHECKSUM_BYTES {
        let rest = n_bytes - CHECKSUM_BYTES - at;
        bytes.resize(usize::try_from(rest).map_or(PIECE, |rest| rest.min(PIECE)), 0);
        saved.read(at, &mut bytes);
        checksum.write(&bytes);
        at += bytes.len() as u64;
    }
    let mut given = [0; size_of::<u64>()];
    saved.read(at, &mut given);
    if promised != n_bytes || checksum.finish() != u64::from_le_bytes(given) {
        return Err(Error::integrity(
            "The session is damaged: its bytes are not the ones that were saved. Delete it, and send the messages again.",
        ));
    }
    Ok(())
}

fn read_piece(saved: &(impl SavedBytes + ?Sized), spec: &KvSpec, piece: &Piece, at: &mut u64, bytes: &mut Vec<u8>) {
    let n_bytes = piece.layers.len() * piece.n * spec.row_bytes();
    bytes.resize(n_bytes, 0);
    saved.read(*at, bytes);
    *at += n_bytes as u64;
}

fn format_number(format: KvFormat) -> u32 {
    match format {
        KvFormat::F32 => 0,
        KvFormat::F16 => 1,
        KvFormat::Q8_0 => 2,
    }
}

fn not_numbers() -> Error {
    Error::integrity(
        "The session holds values that are not numbers (NaN or infinite). It is damaged: delete it, and send the messages again.",
    )
}

fn contradictory() -> Error {
    Error::integrity(
        "The session contradicts itself, so it is damaged or was not made by this program. Delete it, and send the messages again.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_small_and_follow_each_other() {
        for (n_layers, n_kv, n) in [(3, 64, 40), (32, 4096, 2047), (5, 4096, 4097), (30, 192, 1), (2, 1 << 22, 3), (3, 64, 0)] {
            let spec = KvSpec { n_layers, n_ctx: 8192, n_kv, head_dim: n_kv, format: KvFormat::F16 };
            let mut row = 0;
            for Piece { part, layers, position, n: rows } in pieces(&spec, n) {
                let bytes = layers.len() * rows * spec.row_bytes();
                assert!(bytes <= PIECE.max(spec.row_bytes()) && bytes > 0, "{bytes} bytes");
                assert!(layers.len() == 1 || (position == 0 && rows == n), "whole layers, or rows of one");
                let before = if part == KvPart::Keys { 0 } else { n_layers * n };
                assert_eq!(row, before + layers.start * n + position, "in order");
                row += layers.len() * rows;
            }
            assert_eq!(row, 2 * n_layers * n, "all of them");
        }
    }

    #[test]
    fn sessions_that_no_buffer_should_hold_are_refused() {
        // LLaVA-1.5-7B: 32 layers of 4096 elements.
        let of = |n_ctx: usize| KvSpec { n_layers: 32, n_ctx, n_kv: 4096, head_dim: 128, format: KvFormat::F16 }.n_bytes();
        assert!(within_bound(of(2000), 2000).is_ok());
        let error = within_bound(of(4096), 4096).expect_err("2 GiB");
        assert_eq!(error.code(), "out_of_memory");
        assert!(error.message().contains("4096 tokens") && error.message().contains("2147483648"), "{error}");
    }
}

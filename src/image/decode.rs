//! Pictures from bytes: the format by its first bytes, the size checked before anything is decoded, the camera's
//! orientation applied, transparency laid on white.
//!
//! Memory: at most the decoder's own buffer (≤ [`MAX_DECODED_BYTES`]) and one RGB copy (≤ 3 × [`MAX_PIXELS`] bytes) are
//! alive together; an 8-bit RGB file, which is what cameras and phones write, is not copied unless it must be turned. A JPEG
//! without its end is decoded twice, one after the other, and has one RGB copy more.

use std::hash::Hasher;
use std::io::Cursor;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, codecs};
use siphasher::sip::SipHasher13;

use crate::error::{Error, Result};

/// The longest side of a picture, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// The largest area of a picture, in pixels: above what phones record, and 192 MiB as 8-bit RGB.
pub const MAX_PIXELS: u64 = 64 << 20;
/// What a decoder may allocate for its output, in bytes: [`MAX_PIXELS`] of 16-bit RGBA.
pub const MAX_DECODED_BYTES: u64 = 8 * MAX_PIXELS;

/// An upright, opaque picture: `data` is `[height, width, 3]`, 8 bits a channel, sRGB as stored (colour profiles are not
/// applied, as the reference implementation does not). Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl RgbImage {
    /// A picture from its pixels, `[height, width, 3]`.
    ///
    /// # Errors
    /// `invalid_image` where the size is zero or over the limits, or `data` is not `3 * width * height` bytes long.
    pub fn new(width: u32, height: u32, data: Vec<u8>) -> Result<Self> {
        check_size(width, height)?;
        check_length(width, height, 3, data.len())?;
        Ok(Self { width: width as usize, height: height as usize, data })
    }

    /// For pixels this crate made: `data` must be `3 * width * height` bytes.
    pub(crate) fn from_parts(width: usize, height: usize, data: Vec<u8>) -> Self {
        debug_assert_eq!(data.len(), 3 * width * height);
        Self { width, height, data }
    }

    /// The width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, `[height, width, 3]`.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// A hash of size and pixels, to recognise a picture that was already encoded.
    ///
    /// SipHash 1-3: one pass, well mixed, 8 ms for 12 megapixels on a desktop. 64 bits suffice, for the pictures of one session
    /// are few: among a thousand the chance of any collision is 3 × 10⁻¹⁴. The value is the same on every machine and in every version,
    /// for saved sessions name pictures by it.
    pub fn content_hash(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        hasher.write(&(self.width as u64).to_le_bytes());
        hasher.write(&(self.height as u64).to_le_bytes());
        hasher.write(&self.data);
        hasher.finish()
    }
}

/// The formats that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
    WebP,
    Gif,
    Bmp,
}

impl Format {
    /// By the first bytes; a file's name says nothing reliable.
    fn detect(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if bytes.starts_with(b"\xff\xd8\xff") {
            Some(Self::Jpeg)
        } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Some(Self::WebP)
        } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
            Some(Self::Gif)
        } else if bytes.starts_with(b"BM") && matches!(le32(bytes, 14), Some(12 | 16 | 40 | 52 | 56 | 64 | 108 | 124)) {
            // "BM" alone also begins texts; the second header has one of a few known lengths.
            Some(Self::Bmp)
        } else {
            None
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
        }
    }

    /// Width and height as the header states them; `None` where the header is cut off or says nothing.
    fn stated_size(self, bytes: &[u8]) -> Option<(u32, u32)> {
        match self {
            Self::Png => Some((be32(bytes, 16)?, be32(bytes, 20)?)),
            Self::Gif => Some((le16(bytes, 6)?, le16(bytes, 8)?)),
            Self::Bmp if le32(bytes, 14)? == 12 => Some((le16(bytes, 18)?, le16(bytes, 20)?)),
            // A negative height means that rows are stored from the top.
            Self::Bmp => Some((le32(bytes, 18)?, le32(bytes, 22)?.cast_signed().unsigned_abs())),
            Self::WebP => match bytes.get(12..16)? {
                b"VP8X" => Some((le24(bytes, 24)? + 1, le24(bytes, 27)? + 1)),
                b"VP8L" => le32(bytes, 21).map(|bits| ((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1)),
                b"VP8 " => Some((le16(bytes, 26)? & 0x3fff, le16(bytes, 28)? & 0x3fff)),
                _ => None,
            },
            Self::Jpeg => jpeg_size(bytes),
        }
    }
}

/// Width and height of a GIF's first frame, which may be larger than the picture (GIF89a, sections 18 to 20 and 23 to 26).
fn gif_frame(bytes: &[u8]) -> Option<(u32, u32)> {
    let table = |flags: u8| if flags & 0x80 != 0 { 6 << (flags & 7) } else { 0 };
    let mut at = 13 + table(*bytes.get(10)?);
    loop {
        match bytes.get(at)? {
            // Extensions: a label, then blocks behind their lengths, the last of them empty.
            0x21 => {
                at += 2;
                while *bytes.get(at)? != 0 {
                    at += 1 + usize::from(bytes[at]);
                }
                at += 1;
            }
            0x2c => return Some((le16(bytes, at + 5)?, le16(bytes, at + 7)?)),
            // Empty blocks between them are read over, as the decoder does.
            0 => at += 1,
            _ => return None,
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?).into())
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn le16(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?).into())
}

fn le24(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 3).map(|b| u32::from(b[0]) | u32::from(b[1]) << 8 | u32::from(b[2]) << 16)
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// One marker of a JPEG stream: its code, and where its payload begins and ends (empty for markers without one).
struct Marker {
    code: u8,
    payload: std::ops::Range<usize>,
}

/// Walks the markers of a JPEG file, stepping over entropy-coded data; ends at the end of the image or of the bytes.
fn jpeg_markers(bytes: &[u8]) -> impl Iterator<Item = Marker> {
    let mut at = 2;
    std::iter::from_fn(move || {
        // A marker is FF and a code that is neither 00 (an FF among the data) nor FF (filling).
        while !matches!((bytes.get(at)?, bytes.get(at + 1)?), (0xff, 1..=0xfe)) {
            at += 1;
        }
        let code = bytes[at + 1];
        at += 2;
        // The codes without a payload: TEM, RST0 … RST7, SOI, EOI.
        let length = if matches!(code, 0x01 | 0xd0..=0xd9) { 0 } else { be16(bytes, at)? as usize };
        let payload = at..at + length;
        at = payload.end;
        if code == 0xd9 {
            at = bytes.len();
        }
        Some(Marker { code, payload })
    })
}

/// The frame header.
fn jpeg_frame(bytes: &[u8]) -> Option<Marker> {
    // SOF0 … SOF15, without DHT, JPG and DAC, whose codes lie among them.
    jpeg_markers(bytes).find(|m| matches!(m.code, 0xc0..=0xcf) && !matches!(m.code, 0xc4 | 0xc8 | 0xcc))
}

fn jpeg_size(bytes: &[u8]) -> Option<(u32, u32)> {
    let frame = jpeg_frame(bytes)?;
    Some((be16(bytes, frame.payload.start + 5)?, be16(bytes, frame.payload.start + 3)?))
}

/// The pixels in height of what is coded together, the minimum coded unit: of several components, 8 times the largest sampling factor.
fn jpeg_unit_height(bytes: &[u8]) -> Option<usize> {
    let components = bytes.get(jpeg_frame(bytes)?.payload)?.get(8..)?.as_chunks::<3>().0;
    let factor = components.iter().map(|&[_, factors, _]| usize::from(factors & 0x0f)).max()?;
    Some(if components.len() == 1 { 8 } else { 8 * factor.clamp(1, 4) })
}

/// Whether a JPEG has a scan for every coefficient of every component, to the last bit (ITU-T T.81, B.2.2, B.2.3 and G.1): a sequential
/// file has one for each component, a progressive one several. The last of them may be cut short.
fn jpeg_has_all_scans(bytes: &[u8]) -> bool {
    // By component: a bit for each of the 64 coefficients that is not there to the last bit.
    let mut missing: Vec<(u8, u64)> = Vec::new();
    let mut is_progressive = false;
    for Marker { code, payload } in jpeg_markers(bytes) {
        // The payload begins with its own length, in two bytes.
        let Some(payload) = bytes.get(payload).and_then(|payload| payload.get(2..)) else { break };
        match code {
            0xc0..=0xcf if !matches!(code, 0xc4 | 0xc8 | 0xcc) => {
                is_progressive = matches!(code, 0xc2 | 0xc6 | 0xca | 0xce);
                missing =
                    payload.get(6..).unwrap_or_default().as_chunks::<3>().0.iter().map(|&[id, ..]| (id, u64::MAX)).collect();
            }
            0xda => {
                let Some((&count, rest)) = payload.split_first() else { break };
                let Some((components, &[first, last, bits])) = rest.split_at_checked(2 * usize::from(count)) else { break };
                let band = match is_progressive {
                    false => u64::MAX,
                    true if bits & 0x0f != 0 || first > last || last > 63 => 0,
                    true => (u64::MAX >> (63 - (last - first))) << first,
                };
                for (id, missing) in &mut missing {
                    if components.iter().step_by(2).any(|component| component == id) {
                        *missing &= !band;
                    }
                }
            }
            _ => {}
        }
    }
    !missing.is_empty() && missing.iter().all(|&(_, missing)| missing == 0)
}

fn check_size(width: u32, height: u32) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::invalid_image(format!(
            "The picture is {width}×{height} pixels, so there is nothing to see; choose another one."
        )));
    }
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(Error::invalid_image(format!(
            "The picture is {width}×{height} pixels; at most {MAX_SIDE} pixels a side and {} megapixels in all are read. \
             Make it smaller first.",
            MAX_PIXELS / 1_000_000
        )));
    }
    Ok(())
}

/// Whether there is room for what a decoder writes, and as much to work in: decoders take no for no answer, so this is asked beforehand.
fn check_room(width: u32, height: u32, n_bytes: u64) -> Result<()> {
    if usize::try_from(n_bytes).is_ok_and(|n| Vec::<u8>::new().try_reserve_exact(n).is_ok()) {
        return Ok(());
    }
    Err(Error::out_of_memory(format!(
        "There is not enough memory for a picture of {width} by {height} pixels: {n_bytes} bytes were needed. Close other tabs, or use a smaller \
         picture."
    )))
}

fn check_length(width: u32, height: u32, channels: u64, length: usize) -> Result<()> {
    let expected = channels * u64::from(width) * u64::from(height);
    if length as u64 != expected {
        return Err(Error::invalid_image(format!(
            "A picture of {width}×{height} pixels has {expected} bytes with {channels} channels, but {length} were given; \
             pass the size that belongs to the pixels."
        )));
    }
    Ok(())
}

/// What bytes that are no picture of a known format seem to be, and what to do about it: "It seems to be …".
fn seems_to_be(bytes: &[u8]) -> (&'static str, &'static str) {
    const SAVE: &str = "There is no decoder for it here: save it as a PNG, JPEG, WebP, GIF or BMP file.";
    const OTHER: &str = "Use a PNG, JPEG, WebP, GIF or BMP file, whatever its name.";
    let head = &bytes[..bytes.len().min(512)];
    let ftyp = bytes.get(4..8) == Some(b"ftyp");
    let brand = bytes.get(8..12).unwrap_or_default();
    // A character cut by the end of the prefix is still text.
    let text = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && head.len() == 512,
    } && !head.iter().any(|b| matches!(b, 0..=8 | 14..=26 | 28..=31));
    let lower = head.to_ascii_lowercase();
    let holds = |needle: &[u8]| lower.windows(needle.len()).any(|window| window == needle);
    match () {
        () if ftyp && matches!(brand, b"avif" | b"avis") => ("an AVIF picture", SAVE),
        () if ftyp && matches!(brand, b"heic" | b"heix" | b"hevc" | b"heim" | b"mif1" | b"msf1") => (
            "an HEIC picture",
            "Only Safari decodes it. Save it as a JPEG; an iPhone's camera takes JPEGs with the setting “Most Compatible”.",
        ),
        () if ftyp
            || head.starts_with(b"\x1a\x45\xdf\xa3")
            || (head.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"AVI ")) =>
        {
            ("a video", "Use one picture of it: in a page the <video> element that shows it, else a screenshot.")
        }
        () if head.starts_with(b"II*\0") || head.starts_with(b"MM\0*") => ("a TIFF or raw camera picture", SAVE),
        () if head.starts_with(b"\xff\x0a") || head.starts_with(b"\0\0\0\x0cJXL ") => ("a JPEG XL picture", SAVE),
        () if head.starts_with(b"\0\0\x01\0") => ("an icon", SAVE),
        () if head.starts_with(b"8BPS") => ("a Photoshop file", SAVE),
        () if head.starts_with(b"%PDF") => ("a PDF document", "Save the page as a PNG or JPEG file first."),
        () if head.starts_with(b"PK\x03\x04") => ("a ZIP archive or an office document", "Take the picture out of it first."),
        () if head.starts_with(b"\x1f\x8b") => ("a file packed with gzip", "Unpack it first."),
        () if head.starts_with(b"GGUF") => ("a GGUF model file", "A model is loaded, not looked at: choose a picture instead."),
        () if text && holds(b"<svg") => {
            ("an SVG drawing", "Pages draw it, if it is well-formed; elsewhere save it as a PNG file.")
        }
        () if text && holds(b"<html") => ("a web page", "Use the address of the picture itself, not of a page that shows it."),
        () if text => ("a text file", OTHER),
        () => ("a file of another kind", OTHER),
    }
}

/// Decodes a PNG, JPEG, WebP, GIF (its first frame) or BMP file, told apart by its first bytes.
///
/// The size in the header is checked before anything is decoded. The orientation a camera noted (EXIF) is applied,
/// transparency is laid on white, 16-bit, grey, palette and CMYK pictures become 8-bit RGB. A JPEG may lack its end, as those of some cameras
/// do, if hardly anything of the picture is missing.
///
/// # Errors
/// `invalid_image` where the bytes are not such a file, are cut short or damaged, or the picture is empty or over
/// [`MAX_SIDE`], [`MAX_PIXELS`] or [`MAX_DECODED_BYTES`]; `out_of_memory` where there is none for its pixels.
pub fn decode(bytes: &[u8]) -> Result<RgbImage> {
    if bytes.is_empty() {
        return Err(Error::invalid_image("The picture's file is empty (0 bytes); choose another one."));
    }
    let format = Format::detect(bytes).ok_or_else(|| {
        let (what, remedy) = seems_to_be(bytes);
        Error::invalid_image(format!("This is not a picture that can be read: it seems to be {what}. {remedy}"))
    })?;
    if let Some((width, height)) = format.stated_size(bytes) {
        check_size(width, height)?;
    }
    let reader = Cursor::new(bytes);
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    let failed = |error| explain(format, error);
    let stored = match format {
        Format::Png => {
            // `with_limits` because this decoder alone takes its limits when it is made.
            stored(format, codecs::png::PngDecoder::with_limits(reader, limits.clone()).map_err(failed)?, limits)
        }
        Format::Jpeg if !jpeg_markers(bytes).any(|m| m.code == 0xd9) => jpeg_without_end(bytes, &limits),
        Format::Jpeg => stored(format, codecs::jpeg::JpegDecoder::new(reader).map_err(failed)?, limits),
        Format::WebP => stored(format, codecs::webp::WebPDecoder::new(reader).map_err(failed)?, limits),
        Format::Gif => {
            let pixels = |(width, height)| u64::from(width) * u64::from(height);
            let (frame, screen) = (gif_frame(bytes).unwrap_or_default(), format.stated_size(bytes).unwrap_or_default());
            check_room(frame.0, frame.1, 4 * pixels(frame) + 8 * pixels(screen))?;
            stored(format, codecs::gif::GifDecoder::new(reader).map_err(failed)?, limits)
        }
        Format::Bmp => stored(format, codecs::bmp::BmpDecoder::new(reader).map_err(failed)?, limits),
    };
    stored?.upright()
}

/// The share of a JPEG's pixels that may be missing at its end.
const JPEG_MAY_LACK: f64 = 1.0 / 16.0;

/// A JPEG that ends without the marker that says so.
///
/// The decoder goes on with whatever it can make of nothing, and a model would describe that. It does not say where it ran out of data; but if
/// the data are lengthened in two ways, all pixels that come from them are the same, and the first that is not shows where the file ends. Where
/// that is near the picture's end, each pixel that is missing becomes the one above it.
///
/// # Errors
/// `invalid_image` where more is missing; `out_of_memory`.
fn jpeg_without_end(bytes: &[u8], limits: &image::Limits) -> Result<Stored> {
    let cut_short = || damaged(Format::Jpeg, "its end is missing");
    let unit = match jpeg_unit_height(bytes) {
        Some(unit) if jpeg_has_all_scans(bytes) => unit,
        _ => return Err(cut_short()),
    };
    // The first half of the end marker is no data.
    let length = bytes.iter().rposition(|&byte| byte != 0xff).map_or(0, |last| last + 1);
    let lengthened = |by: &[u8]| {
        let whole = [&bytes[..length], by, &[0xff, 0xd9]].concat();
        let decoder = codecs::jpeg::JpegDecoder::new(Cursor::new(whole)).map_err(|error| explain(Format::Jpeg, error))?;
        stored(Format::Jpeg, decoder, limits.clone())
    };
    let mut picture = lengthened(&[])?;
    let other = lengthened(&[0x55; 64])?;
    let differs = |i: usize| picture.data[3 * i..3 * i + 3] != other.data[3 * i..3 * i + 3];
    let n_pixels = picture.data.len() / 3;
    let (width, height) = (picture.width as usize, picture.height as usize);
    let Some(first) = (0..n_pixels).find(|&i| differs(i)) else { return Ok(picture) };
    let mut row = first / width / unit;
    // Colours of fewer rows than the picture has are spread over those above, too.
    if first / width % unit + 2 >= unit && (row + 1) * unit < height {
        row += 1;
    }
    // Behind that place in its row of units, and below it, nothing is there, though it may look alike.
    let (from, to) = (row * unit * width, n_pixels.min((row + 1) * unit * width));
    let column = (from..to).filter(|&i| differs(i)).map(|i| i % width).min().unwrap_or(0);
    let missing: Vec<usize> =
        (first..n_pixels).filter(|&i| i >= to || (i >= from && i % width >= column) || differs(i)).collect();
    if missing.len() as f64 > JPEG_MAY_LACK * n_pixels as f64 || missing.iter().any(|&i| i < width) {
        return Err(cut_short());
    }
    for i in missing {
        picture.data.copy_within(3 * (i - width)..3 * (i - width) + 3, 3 * i);
    }
    Ok(picture)
}

/// A picture from the RGBA pixels of a canvas or an `ImageData`: `[height, width, 4]`, 8 bits, not premultiplied.
/// Transparency is laid on white, as [`decode()`] does.
///
/// # Errors
/// `invalid_image` where the size is zero or over the limits, or `rgba` is not `4 * width * height` bytes long.
pub fn from_rgba(width: u32, height: u32, rgba: &[u8]) -> Result<RgbImage> {
    check_size(width, height)?;
    check_length(width, height, 4, rgba.len())?;
    let data = rgba.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, a]| [r, g, b].map(|c| on_white(c, a))).collect();
    RgbImage::new(width, height, data)
}

fn damaged(format: Format, detail: &str) -> Error {
    Error::invalid_image(format!(
        "The picture seems to be a {} file, but it is cut short or damaged ({detail}); load it anew or choose another one.",
        format.name()
    ))
}

fn explain(format: Format, error: ImageError) -> Error {
    match error {
        ImageError::Limits(_) => Error::invalid_image(format!(
            "The {} picture needs more than {} MiB to be decoded; make it smaller or save it with 8 bits a channel.",
            format.name(),
            MAX_DECODED_BYTES >> 20
        )),
        ImageError::Unsupported(error) => Error::invalid_image(format!(
            "The picture is a {} file of a kind that cannot be read ({error}); save it anew as a plain PNG or JPEG.",
            format.name()
        )),
        error => damaged(format, &error.to_string()),
    }
}

/// A picture as it is stored: RGB, `[height, width, 3]`, and how it has to be turned.
struct Stored {
    width: u32,
    height: u32,
    data: Vec<u8>,
    orientation: Orientation,
}

impl Stored {
    /// # Errors
    /// `internal` where `data` has another size.
    fn upright(self) -> Result<RgbImage> {
        let Some(buffer) = image::RgbImage::from_raw(self.width, self.height, self.data) else {
            return Err(Error::internal("A decoded picture has another size than its header says."));
        };
        let mut turned = DynamicImage::ImageRgb8(buffer);
        turned.apply_orientation(self.orientation);
        let (width, height) = (turned.width(), turned.height());
        RgbImage::new(width, height, turned.into_rgb8().into_raw())
    }
}

/// The pixels of an opened file, flattened.
///
/// # Errors
/// `invalid_image`; `out_of_memory` where there is none for the pixels.
fn stored(format: Format, mut decoder: impl ImageDecoder, mut limits: image::Limits) -> Result<Stored> {
    let failed = |error| explain(format, error);
    // The decoder's word on the size is final; the header was read only to refuse early.
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    limits.reserve(decoder.total_bytes()).map_err(failed)?;
    decoder.set_limits(limits).map_err(failed)?;
    check_room(width, height, decoder.total_bytes().saturating_add(4 * u64::from(width) * u64::from(height)))?;
    // A damaged note about the orientation is no reason to refuse the picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let data = flatten(DynamicImage::from_decoder(decoder).map_err(failed)?);
    Ok(Stored { width, height, data, orientation })
}

/// Round(255 · (c/255 · a/255 + 1 − a/255)): the colour `c` with opacity `a` over white.
#[expect(clippy::cast_possible_truncation, reason = "at most 255")]
fn on_white(c: u8, a: u8) -> u8 {
    let (c, a) = (u32::from(c), u32::from(a));
    ((c * a + 255 * (255 - a) + 127) / 255) as u8
}

/// 16 bits to 8, rounding to the nearest.
#[expect(clippy::cast_possible_truncation, reason = "at most 255")]
fn narrow(v: u16) -> u8 {
    ((u32::from(v) + 128) / 257) as u8
}

/// Any pixel layout to RGB bytes, transparency over white; 8-bit RGB is passed through without a copy.
fn flatten(decoded: DynamicImage) -> Vec<u8> {
    match decoded {
        DynamicImage::ImageRgb8(p) => p.into_raw(),
        DynamicImage::ImageLuma8(p) => p.iter().flat_map(|&v| [v; 3]).collect(),
        DynamicImage::ImageLumaA8(p) => p.as_chunks::<2>().0.iter().flat_map(|&[v, a]| [on_white(v, a); 3]).collect(),
        DynamicImage::ImageRgba8(p) => {
            p.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, a]| [r, g, b].map(|c| on_white(c, a))).collect()
        }
        DynamicImage::ImageLuma16(p) => p.iter().flat_map(|&v| [narrow(v); 3]).collect(),
        DynamicImage::ImageLumaA16(p) => {
            p.as_chunks::<2>().0.iter().flat_map(|&[v, a]| [on_white(narrow(v), narrow(a)); 3]).collect()
        }
        DynamicImage::ImageRgb16(p) => p.iter().map(|&v| narrow(v)).collect(),
        DynamicImage::ImageRgba16(p) => {
            p.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, a]| [r, g, b].map(|c| on_white(narrow(c), narrow(a)))).collect()
        }
        // The formats read here have no float pixels.
        other => other.into_rgb8().into_raw(),
    }
}

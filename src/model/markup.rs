//! What stands in a prompt for a picture: its rows, and the text that each family writes around and between them.
//!
//! The text is put into the prompt's own before that is tokenized, because tokens may reach over the border: SmolVLM's line break behind the
//! last tile and the one before the overview are one token.

use std::ops::Range;

use crate::image::{Grid, Layout, Place};
use crate::model::projector::ProjectorKind;

/// A piece of what stands for a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Text, special tokens spelled out.
    Text(String),
    /// These rows of its embedding.
    Rows(Range<u32>),
}

/// How a family writes a picture down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    /// The rows alone: LLaVA, MobileVLM.
    Bare,
    /// A mark with its row and column before each tile, a line break behind each row of tiles, then the overview: Idefics3, SmolVLM.
    Idefics3,
    /// Marks around the whole, and before each tile: LFM2-VL.
    Lfm2,
    /// Marks around the whole, and a line break behind: InternVL.
    InternVl,
    /// Marks around the whole: Qwen2-VL and later.
    Qwen,
    /// Marks around the whole, and empty lines around these: Gemma 3.
    Gemma3,
}

/// What stands before Gemma 3's pictures.
const GEMMA3_BEFORE: &str = "\n\n<start_of_image>";
/// Idefics3's mark before each tile, and behind the last.
const AROUND: &str = "<fake_token_around_image>";

impl Markup {
    /// The one that a projector's family uses.
    pub fn of(projector: ProjectorKind) -> Self {
        match projector {
            ProjectorKind::Linear | ProjectorKind::Mlp2xGelu | ProjectorKind::Ldp | ProjectorKind::LdpV2 => Self::Bare,
            ProjectorKind::Idefics3 => Self::Idefics3,
            ProjectorKind::Lfm2 => Self::Lfm2,
            ProjectorKind::InternVl => Self::InternVl,
            ProjectorKind::Qwen2Vl | ProjectorKind::Qwen25Vl | ProjectorKind::Qwen3Vl => Self::Qwen,
            ProjectorKind::Gemma3 => Self::Gemma3,
        }
    }

    /// The marks around a picture: templates that write them themselves must not have them doubled.
    pub fn ends(self) -> Option<[&'static str; 2]> {
        match self {
            Self::Bare | Self::Idefics3 => None,
            Self::Lfm2 => Some(["<|image_start|>", "<|image_end|>"]),
            Self::InternVl => Some(["<img>", "</img>"]),
            Self::Qwen => Some(["<|vision_start|>", "<|vision_end|>"]),
            // Templates write the first mark alone, which stands for the picture.
            Self::Gemma3 => Some([GEMMA3_BEFORE, "<end_of_image>\n\n"]),
        }
    }

    /// The mark without which a vocabulary is not of this family.
    pub fn needs(self) -> Option<&'static str> {
        match self {
            Self::Idefics3 => Some(AROUND),
            Self::Gemma3 => Some(GEMMA3_BEFORE.trim_start()),
            Self::Bare | Self::Lfm2 | Self::InternVl | Self::Qwen => self.ends().map(|[before, _]| before),
        }
    }

    /// Whether a picture is followed by a line break, where the text does not begin with one.
    pub fn ends_line(self) -> bool {
        self == Self::InternVl
    }

    /// What stands for a picture between [`Self::ends`]. `is_token` says whether the vocabulary has a mark: old ones lack some, and the
    /// model then never saw it.
    #[expect(clippy::cast_possible_truncation, reason = "rows of one picture")]
    pub fn pieces(self, place: &Place, is_token: impl Fn(&str) -> bool) -> Vec<Piece> {
        let n_rows = place.n_rows() as u32;
        let text = |text: String| Piece::Text(text);
        let all = vec![Piece::Rows(0..n_rows)];
        let Layout::Tiles(Grid { rows, cols }) = place.layout else {
            return match self {
                Self::Idefics3 => {
                    [text(format!("{AROUND}<global-img>"))].into_iter().chain(all).chain([text(AROUND.into())]).collect()
                }
                Self::Bare | Self::Lfm2 | Self::InternVl | Self::Qwen | Self::Gemma3 => all,
            };
        };
        let n = (place.tile[0] * place.tile[1]) as u32;
        let overview = (rows * cols) as u32 * n..n_rows;
        let tile = |row: usize, col: usize| {
            let i = (row * cols + col) as u32;
            Piece::Rows(i * n..(i + 1) * n)
        };
        let grid = (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col)));
        let mut pieces = Vec::new();
        match self {
            Self::Bare | Self::InternVl | Self::Qwen | Self::Gemma3 => return all,
            Self::Idefics3 => {
                for (row, col) in grid {
                    pieces.extend([text(format!("{AROUND}<row_{}_col_{}>", row + 1, col + 1)), tile(row, col)]);
                    if col + 1 == cols {
                        pieces.push(text("\n".into()));
                    }
                }
                pieces.extend([text(format!("\n{AROUND}<global-img>")), Piece::Rows(overview), text(AROUND.into())]);
            }
            Self::Lfm2 => {
                for (row, col) in grid {
                    pieces.extend([text(format!("<|img_row_{}_col_{}|>", row + 1, col + 1)), tile(row, col)]);
                }
                const THUMBNAIL: &str = "<|img_thumbnail|>";
                pieces.extend(is_token(THUMBNAIL).then(|| text(THUMBNAIL.into())));
                pieces.push(Piece::Rows(overview));
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(markup: Markup, layout: Layout) -> String {
        let place = Place { layout, width: 10, height: 10, tile: [2, 2], overview: [1, 2] };
        let piece = |piece| match piece {
            Piece::Text(text) => text,
            Piece::Rows(rows) => format!("[{}-{}]", rows.start, rows.end),
        };
        markup.pieces(&place, |_| true).into_iter().map(piece).collect()
    }

    #[test]
    fn tiles_have_their_marks() {
        let grid = Layout::Tiles(Grid { rows: 2, cols: 1 });
        assert_eq!(
            written(Markup::Idefics3, grid),
            "<fake_token_around_image><row_1_col_1>[0-4]\n<fake_token_around_image><row_2_col_1>[4-8]\n\n\
             <fake_token_around_image><global-img>[8-10]<fake_token_around_image>"
        );
        assert_eq!(written(Markup::Lfm2, grid), "<|img_row_1_col_1|>[0-4]<|img_row_2_col_1|>[4-8]<|img_thumbnail|>[8-10]");
        assert_eq!(written(Markup::InternVl, grid), "[0-10]");
        assert_eq!(
            written(Markup::Idefics3, Layout::Single),
            "<fake_token_around_image><global-img>[0-2]<fake_token_around_image>"
        );
        assert_eq!(written(Markup::Lfm2, Layout::Single), "[0-2]");
        assert_eq!(written(Markup::Gemma3, Layout::Single), "[0-2]");
    }
}

//! Prompts with their pictures: what each family writes for one, put into the text before it is tokenized.

use std::ops::Range;

use crate::model::markup::{Markup, Piece};
use crate::text::Segment;

/// Rows of a picture's embedding that stand together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRun {
    /// The picture's number in the prompt.
    pub picture: usize,
    /// The rows.
    pub rows: Range<u32>,
}

/// Puts what stands for each picture into a prompt. In the segments that come of it an image's number is that of a run of rows.
pub fn expand(segments: &[Segment], markup: Markup, pictures: &[Vec<Piece>]) -> (Vec<Segment>, Vec<RowRun>) {
    let (mut out, mut runs) = (Writer { segments: Vec::new() }, Vec::new());
    let mut rest = segments.iter().peekable();
    // What the text behind a picture begins with and need not be written again.
    let mut skip: &str = "";
    while let Some(segment) = rest.next() {
        let picture = match segment {
            Segment::Text { text, escape } => {
                out.text(text.strip_prefix(std::mem::take(&mut skip)).unwrap_or(text), *escape);
                continue;
            }
            Segment::Image(picture) => *picture,
        };
        let next = match rest.peek() {
            Some(Segment::Text { text, .. }) => text.as_str(),
            _ => "",
        };
        let (before, after) = markup.ends().map_or(("", ""), |[before, after]| (before, after));
        if !out.ends_with(before) {
            out.markup(before);
        }
        for piece in pictures.get(picture).into_iter().flatten() {
            match piece {
                Piece::Text(text) => out.markup(text),
                Piece::Rows(rows) => {
                    out.segments.push(Segment::Image(runs.len()));
                    runs.push(RowRun { picture, rows: rows.clone() });
                }
            }
        }
        out.markup(after);
        skip = if next.starts_with(after) { after } else { "" };
        if markup.ends_line() && !next[skip.len()..].starts_with('\n') {
            out.markup("\n");
        }
    }
    (out.segments, runs)
}

/// Segments whose neighbouring texts are one.
struct Writer {
    segments: Vec<Segment>,
}

impl Writer {
    fn text(&mut self, more: &str, more_escape: Option<char>) {
        if more.is_empty() {
            return;
        }
        match self.segments.last_mut() {
            Some(Segment::Text { text, escape }) if escape.is_none() || more_escape.is_none() || *escape == more_escape => {
                text.push_str(more);
                *escape = escape.or(more_escape);
            }
            _ => self.segments.push(Segment::Text { text: more.into(), escape: more_escape }),
        }
    }

    /// Text of the program's own, in which nothing is escaped.
    fn markup(&mut self, text: &str) {
        self.text(text, None);
    }

    fn ends_with(&self, mark: &str) -> bool {
        matches!(self.segments.last(), Some(Segment::Text { text, .. }) if text.ends_with(mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(markup: Markup, prompt: &[&str]) -> String {
        let mut n = 0;
        let segments: Vec<Segment> = prompt
            .iter()
            .map(|part| match *part {
                "@" => {
                    n += 1;
                    Segment::Image(n - 1)
                }
                text => Segment::Text { text: text.into(), escape: Some('!') },
            })
            .collect();
        let pieces = vec![Piece::Text("<a>".into()), Piece::Rows(0..2), Piece::Text("<b>".into()), Piece::Rows(2..5)];
        let (segments, runs) = expand(&segments, markup, &vec![pieces; n]);
        let piece = |segment: &Segment| match segment {
            Segment::Text { text, .. } => format!("'{text}'"),
            Segment::Image(i) => format!("{}:{:?}", runs[*i].picture, runs[*i].rows),
        };
        segments.iter().map(piece).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn marks_join_the_text_they_stand_in() {
        assert_eq!(expanded(Markup::Bare, &["x", "@", "y"]), "'x<a>' 0:0..2 '<b>' 0:2..5 'y'");
        assert_eq!(expanded(Markup::Bare, &["@", "@"]), "'<a>' 0:0..2 '<b>' 0:2..5 '<a>' 1:0..2 '<b>' 1:2..5");
    }

    #[test]
    fn marks_that_the_template_wrote_are_not_doubled() {
        let whole = "'x<img><a>' 0:0..2 '<b>' 0:2..5 '</img>\ny'";
        for prompt in [&["x", "@", "y"][..], &["x<img>", "@", "</img>\ny"], &["x", "@", "\ny"], &["x<img>", "@", "</img>y"]] {
            assert_eq!(expanded(Markup::InternVl, prompt), whole, "{prompt:?}");
        }
    }
}

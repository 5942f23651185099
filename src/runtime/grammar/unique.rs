//! Items that differ (`uniqueItems`): what was written of a list, and whether what is being written can still become something else.
//!
//! Where a schema asks for it, every value has one spelling but for white space: characters stand as they are where they may, numbers have
//! neither exponents nor zeros that say nothing, and objects have the members that have names in one order. So items are equal where their
//! texts are, and what was written of one is compared byte by byte. Objects that may have any members have those in any order: within one
//! nothing is compared, since there is always a name that was not there yet; behind it its members are put in order ([`sorted`]).

use std::collections::HashMap;
use std::rc::Rc;

/// What is noted of no list.
pub(super) const NONE: u32 = 0;
/// Notes of a look ahead, which any end of the item satisfies.
pub(super) const LOOK: u32 = 1;
/// No item.
const NO_ITEM: u32 = u32::MAX;

/// The order of members' names: the place of each that a schema has, by its text in quotes. All others are behind them.
pub(super) type Order = HashMap<String, u32>;

/// What is noted of the list that one is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Note {
    /// The last of the items that are complete.
    last: u32,
    /// Where in the answer the item begins that is being written.
    start: u32,
    track: Track,
}

/// How the item that is being written compares with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Track {
    /// There is none.
    Between,
    /// It differs from all others, whatever follows.
    Differs,
    /// So many bytes of it are those of another item, the last that has them.
    Like(u32, u32, Inside),
    /// Within so many objects that may have any members.
    Open(u32),
}

/// Whether within quotes, and whether behind a backslash there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Inside {
    No,
    Quotes,
    Escape,
}

impl Inside {
    /// Behind one more byte.
    pub(super) fn behind(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::No, b'"') | (Self::Escape, _) => Self::Quotes,
            (Self::Quotes, b'"') => Self::No,
            (Self::Quotes, b'\\') => Self::Escape,
            _ => self,
        }
    }
}

/// Whether a byte that is not within quotes is white space.
pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n')
}

/// A JSON text without its white space.
pub(super) fn without_space(text: &[u8]) -> Vec<u8> {
    let mut inside = Inside::No;
    let mut out = text.to_vec();
    out.retain(|&byte| {
        let is_kept = inside != Inside::No || !is_space(byte);
        inside = inside.behind(byte);
        is_kept
    });
    out
}

/// An item that is complete.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Item {
    before: u32,
    text: Rc<[u8]>,
}

/// Notes and items, each by its number.
#[derive(Debug, Default)]
pub(super) struct Notes {
    items: Vec<Item>,
    item_numbers: HashMap<Item, u32>,
    notes: Vec<Note>,
    note_numbers: HashMap<Note, u32>,
}

impl Notes {
    /// About how many numbers are kept.
    pub(super) fn size(&self) -> usize {
        16 * self.items.len() + 16 * self.notes.len()
    }

    fn at(&self, note: u32) -> Option<Note> {
        self.notes.get((note as usize).checked_sub(LOOK as usize + 1)?).copied()
    }

    fn number(&mut self, note: Note) -> u32 {
        *self.note_numbers.entry(note).or_insert_with(|| {
            self.notes.push(note);
            self.notes.len() as u32 + LOOK
        })
    }

    fn item(&mut self, item: Item) -> u32 {
        *self.item_numbers.entry(item.clone()).or_insert_with(|| {
            self.items.push(item);
            self.items.len() as u32 - 1
        })
    }

    /// The items up to one, the last first.
    fn items(&self, last: u32) -> impl Iterator<Item = (u32, &[u8])> {
        let next = |at: u32| self.items.get(at as usize).map(|item| (at, item));
        std::iter::successors(next(last), move |(_, item)| next(item.before)).map(|(at, item)| (at, &*item.text))
    }

    /// Before an item, of which `start` bytes of the answer are the place.
    pub(super) fn begun(&mut self, note: u32, start: usize) -> u32 {
        let last = self.at(note).map_or(NO_ITEM, |note| note.last);
        let track = self.like(last, b"");
        self.number(Note { last, start: start as u32, track })
    }

    /// Behind these bytes of an item, in their order.
    fn like(&self, last: u32, bytes: &[u8]) -> Track {
        let inside = bytes.iter().fold(Inside::No, |inside, &byte| inside.behind(byte));
        let found = self.items(last).find(|(_, text)| text.starts_with(bytes));
        found.map_or(Track::Differs, |(at, _)| Track::Like(at, bytes.len() as u32, inside))
    }

    /// Behind one more byte.
    pub(super) fn behind(&mut self, note: u32, byte: u8) -> u32 {
        let Some(now @ Note { last, track: Track::Like(at, n, inside), .. }) = self.at(note) else { return note };
        if inside == Inside::No && is_space(byte) {
            return note;
        }
        let n = n as usize;
        let begun = &self.items[at as usize].text[..n];
        let found = self.items(last).find(|(_, text)| text.get(n) == Some(&byte) && text.starts_with(begun));
        let track = found.map_or(Track::Differs, |(at, _)| Track::Like(at, n as u32 + 1, inside.behind(byte)));
        self.number(Note { track, ..now })
    }

    /// At the beginning of an object that may have any members.
    pub(super) fn opened(&mut self, note: u32) -> u32 {
        let track = match self.at(note).map(|note| note.track) {
            Some(Track::Like(..)) => Track::Open(1),
            Some(Track::Open(n)) => Track::Open(n + 1),
            _ => return note,
        };
        self.at(note).map_or(note, |now| self.number(Note { track, ..now }))
    }

    /// Behind such an object.
    pub(super) fn closed(&mut self, note: u32, answer: &[u8], order: &Order) -> u32 {
        let Some(now @ Note { track: Track::Open(n), .. }) = self.at(note) else { return note };
        let track = match n - 1 {
            0 => self.like(now.last, &sorted(&answer[now.start as usize..], order)),
            n => Track::Open(n),
        };
        self.number(Note { track, ..now })
    }

    /// Behind an item; `None` where it is equal to another.
    pub(super) fn done(&mut self, note: u32, answer: &[u8], order: &Order) -> Option<u32> {
        let now = self.at(note)?;
        let text = sorted(&answer[now.start as usize..], order);
        if self.items(now.last).any(|(_, other)| other == text) {
            return None;
        }
        let last = self.item(Item { before: now.last, text: text.into() });
        Some(self.number(Note { last, start: 0, track: Track::Between }))
    }

    /// Where it must be looked whether an item can become one that differs: what is written of it, and how many others there are.
    pub(super) fn open_question(&self, note: u32) -> Option<(Vec<u8>, usize)> {
        match self.at(note)? {
            Note { last, track: Track::Like(at, n, _), .. } => {
                Some((self.items[at as usize].text[..n as usize].to_vec(), self.items(last).count()))
            }
            _ => None,
        }
    }

    /// Whether an item is among those of a list.
    pub(super) fn has(&self, note: u32, text: &[u8]) -> bool {
        self.at(note).is_some_and(|note| self.items(note.last).any(|(_, other)| other == text))
    }

    /// Takes over one of other notes, with its items.
    pub(super) fn adopted(&mut self, note: u32, old: &Self) -> u32 {
        let Some(Note { last, start, track }) = old.at(note) else { return note };
        let mut chain: Vec<_> = old.items(last).collect();
        chain.reverse();
        let (mut new_last, mut like) = (NO_ITEM, NO_ITEM);
        for (at, text) in chain {
            new_last = self.item(Item { before: new_last, text: text.into() });
            like = if matches!(track, Track::Like(of, ..) if of == at) { new_last } else { like };
        }
        let track = if let Track::Like(_, n, inside) = track { Track::Like(like, n, inside) } else { track };
        self.number(Note { last: new_last, start, track })
    }
}

/// An object or list in the making.
struct Open {
    /// What stands before it in the one around it.
    before: Vec<u8>,
    bracket: u8,
    parts: Vec<Vec<u8>>,
}

/// A JSON text, or the beginning of one, without white space, the members of each complete object in order. Of members with one name the last
/// counts.
pub(super) fn sorted(text: &[u8], order: &Order) -> Vec<u8> {
    let mut open: Vec<Open> = Vec::new();
    let mut part = Vec::new();
    let mut inside = Inside::No;
    for &byte in text {
        let was = inside;
        inside = inside.behind(byte);
        match (was, byte) {
            (Inside::No, byte) if is_space(byte) => {}
            (Inside::No, b'{' | b'[') => open.push(Open { before: std::mem::take(&mut part), bracket: byte, parts: Vec::new() }),
            (Inside::No, b',') if !open.is_empty() => {
                if let Some(open) = open.last_mut() {
                    open.parts.push(std::mem::take(&mut part));
                }
            }
            (Inside::No, b'}' | b']') => {
                let Some(Open { before, bracket, mut parts }) = open.pop() else { continue };
                parts.extend((!part.is_empty()).then(|| std::mem::take(&mut part)));
                if bracket == b'{' {
                    parts = members_sorted(parts, order);
                }
                part = before;
                part.push(bracket);
                part.extend(parts.join(&b','));
                part.push(byte);
            }
            _ => part.push(byte),
        }
    }
    let mut out = Vec::new();
    for Open { before, bracket, parts } in open {
        out.extend(before);
        out.push(bracket);
        for part in parts {
            out.extend(part);
            out.push(b',');
        }
    }
    out.extend(part);
    out
}

fn members_sorted(parts: Vec<Vec<u8>>, order: &Order) -> Vec<Vec<u8>> {
    let name_of = |part: &[u8]| {
        let mut inside = Inside::No;
        let end = part.iter().skip_while(|&&byte| {
            inside = inside.behind(byte);
            inside != Inside::No
        });
        String::from_utf8_lossy(&part[..part.len() - end.count()]).into_owned()
    };
    let mut named: Vec<((u32, String), Vec<u8>)> = Vec::new();
    for part in parts {
        let name = name_of(&part);
        let key = (order.get(&format!("{name}\"")).copied().unwrap_or(u32::MAX), name);
        match named.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = part,
            None => named.push((key, part)),
        }
    }
    named.sort();
    named.into_iter().map(|(_, part)| part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_in_order_and_white_space_is_not_there() {
        let order = Order::from([("\"b\"".to_owned(), 0), ("\"a\"".to_owned(), 1)]);
        let cases = [
            (
                r#" {"z": [1, {"a": 2, "b": "x \" ,{ y"}], "a": {}, "c" : 1, "b":0}"#,
                r#"{"b":0,"a":{},"c":1,"z":[1,{"b":"x \" ,{ y","a":2}]}"#,
            ),
            (r#"{"c": 1, "b": 2, "c": 3}"#, r#"{"b":2,"c":3}"#),
            ("[1,\n  2]", "[1,2]"),
            (r#"{"a": 1, "b": [{"a": 1, "b": 2}, ["#, r#"{"a":1,"b":[{"b":2,"a":1},["#),
            (r#"[{"a": tr"#, r#"[{"a":tr"#),
            ("-1.5", "-1.5"),
        ];
        for (text, expected) in cases {
            assert_eq!(String::from_utf8(sorted(text.as_bytes(), &order)).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_written_is_held_against_all_items() {
        let mut notes = Notes::default();
        let order = Order::new();
        let mut note = NONE;
        for item in [r#""ab""#, r#""b""#, r#"["a b"]"#] {
            note = notes.begun(note, 2);
            item.bytes().for_each(|byte| note = notes.behind(note, byte));
            note = notes.done(note, format!("[ {item}").as_bytes(), &order).unwrap();
        }
        let behind = |notes: &mut Notes, text: &str| {
            let begun = notes.begun(note, 0);
            text.bytes().fold(begun, |note, byte| notes.behind(note, byte))
        };
        for (text, is_open) in
            [("", true), (r#""a"#, true), (r#""b""#, true), ("[ \"a b", true), ("[ \"ab", false), (r#""bb"#, false)]
        {
            let behind = behind(&mut notes, text);
            assert_eq!(notes.open_question(behind).is_some(), is_open, "{text}");
        }
        let same = behind(&mut notes, r#""b""#);
        assert_eq!(notes.done(same, br#""b""#, &order), None);
        let mut kept = Notes::default();
        let adopted = kept.adopted(same, &notes);
        assert_eq!(kept.open_question(adopted), notes.open_question(same));
        assert!(kept.has(adopted, br#""ab""#) && !kept.has(adopted, br#""c""#));
    }
}

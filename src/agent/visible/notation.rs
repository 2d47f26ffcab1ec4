//! How a character that is not shown as it is gets written out: `\u{200b}`, and `\u{fe0f*35}` for 35 of it in a row.
//!
//! ASCII, so that every font has it. What begins it cannot stand in shown text by itself: `strict` writes such a
//! backslash out as well.

use std::fmt::Write as _;

/// Characters of the same kind in a row that are written one by one; more are counted.
const ONE_BY_ONE: usize = 3;
/// What begins a character that is written out.
pub(super) const OPENING: &str = "\\u{";
/// Longest character that is written out, with its count, in bytes.
const LONGEST: usize = "\\u{10ffff*18446744073709551615}".len();

/// A text in the making.
pub(super) struct Written {
    out: String,
    json: bool,
    /// The character that is being written out, and how often.
    row: Option<(char, usize)>,
}

impl Written {
    pub(super) fn new(json: bool, room: usize) -> Self {
        Self { out: String::with_capacity(room), json, row: None }
    }

    /// As it is.
    pub(super) fn show(&mut self, c: char) {
        self.end_row();
        self.out.push(c);
    }

    pub(super) fn show_str(&mut self, text: &str) {
        self.end_row();
        self.out.push_str(text);
    }

    pub(super) fn write_out(&mut self, c: char, times: usize) {
        match &mut self.row {
            Some((same, so_far)) if *same == c => *so_far += times,
            _ => {
                self.end_row();
                self.row = Some((c, times));
            }
        }
    }

    fn end_row(&mut self) {
        let Some((c, times)) = self.row.take() else { return };
        let code = u32::from(c);
        // reason, here and below: writing to a string does not fail
        if !self.json && times > ONE_BY_ONE {
            let _ = write!(self.out, "{OPENING}{code:x}*{times}}}");
            return;
        }
        for _ in 0..times {
            if self.json {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(self.out, "\\u{unit:04x}");
                }
            } else {
                let _ = write!(self.out, "{OPENING}{code:x}}}");
            }
        }
    }

    pub(super) fn end(mut self) -> String {
        self.end_row();
        self.out
    }
}

pub(super) fn whole(shown: &str, at: usize) -> usize {
    let mut at = at.min(shown.len());
    while !shown.is_char_boundary(at) {
        at -= 1;
    }
    let mut from = at.saturating_sub(LONGEST);
    while !shown.is_char_boundary(from) {
        from -= 1;
    }
    // The opening itself may be cut through.
    let before = shown.get(from..).and_then(|near| {
        let begun = near.match_indices(OPENING).map(|(begins, _)| from + begins).take_while(|begins| *begins < at);
        begun.last()
    });
    match before {
        Some(begins) if shown.get(begins..at).is_some_and(|cut| !cut.contains('}')) => begins,
        _ => at,
    }
}

//! What a character is, by the data of the Unicode library: no list of ours, but for the few blanks that no property
//! tells.

use icu_normalizer::properties::{CanonicalCombiningClassMapBorrowed, CanonicalCompositionBorrowed};
use icu_properties::props::{
    BidiControl, DefaultIgnorableCodePoint, Emoji, EmojiModifier, ExtendedPictographic, FullCompositionExclusion,
    GeneralCategory, GeneralCategoryGroup, HangulSyllableType, Ideographic, IndicSyllabicCategory, JoiningType,
    LineBreak, PrependedConcatenationMark, Script, VariationSelector,
};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Characters with an empty glyph that count as letters, marks and symbols: the Braille blank, the fillers and
/// blanks of Khitan and Egyptian, the null notehead, the Tifinagh joiner, the place of an object.
const BLANKS: [char; 7] = ['\u{2800}', '\u{13441}', '\u{13442}', '\u{16fe4}', '\u{1d159}', '\u{2d7f}', '\u{fffc}'];
/// Characters that Unicode's table of look-alikes (UTS 39) takes for a backslash, and box drawing's: with them the
/// notation could be forged.
const LIKE_BACKSLASH: [char; 11] = [
    '\u{ff3c}',
    '\u{fe68}',
    '\u{2216}',
    '\u{27cd}',
    '\u{29f5}',
    '\u{29f9}',
    '\u{2572}',
    '\u{1d20f}',
    '\u{1d23b}',
    '\u{31d4}',
    '\u{4e36}',
];

pub(super) fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

fn is_in(c: char, group: GeneralCategoryGroup) -> bool {
    group.contains(category(c))
}

pub(super) fn is_ignorable(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether the character has no glyph of its own, changes how others are shown, or means nothing that is agreed on:
/// default ignorables, controls, formats, separators and spaces but the common one, private use, what is not
/// assigned, blanks.
pub fn is_unseen(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    is_in(c, GeneralCategoryGroup::Other)
        || is_in(c, GeneralCategoryGroup::Separator)
        || is_ignorable(c)
        || reorders(c)
        || CodePointSetData::new::<VariationSelector>().contains(c)
        || BLANKS.contains(&c)
}

/// Whether the character is there to change the order in which others are shown.
pub fn reorders(c: char) -> bool {
    CodePointSetData::new::<BidiControl>().contains(c)
}

/// Whether another character is the same text: what normalisation always replaces, such as the Greek question mark,
/// which is a semicolon.
pub(super) fn is_double(c: char) -> bool {
    CodePointSetData::new::<FullCompositionExclusion>().contains(c)
}

pub(super) fn is_like_backslash(c: char) -> bool {
    LIKE_BACKSLASH.contains(&c)
}

pub(super) fn is_mark(c: char) -> bool {
    !c.is_ascii() && is_in(c, GeneralCategoryGroup::Mark)
}

pub(super) fn is_letter(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphabetic() } else { is_in(c, GeneralCategoryGroup::Letter) }
}

/// Part of a word: letters, marks, digits.
pub(super) fn is_word(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric();
    }
    let group = GeneralCategoryGroup::Letter.union(GeneralCategoryGroup::Mark).union(GeneralCategoryGroup::Number);
    is_in(c, group)
}

pub(super) fn combining_class(c: char) -> u8 {
    if c.is_ascii() { 0 } else { CanonicalCombiningClassMapBorrowed::new().get_u8(c) }
}

/// Whether the two are one character in normal form.
pub(super) fn composes(starter: char, second: char) -> bool {
    CanonicalCompositionBorrowed::new().compose(starter, second).is_some()
}

pub(super) fn script(c: char) -> Script {
    CodePointMapData::<Script>::new().get(c)
}

/// The script of a letter whose like is in other alphabets: those with capitals, and Lisu's letters, which look like
/// them.
pub(super) fn alphabet(c: char) -> Option<Script> {
    let script = if c.is_ascii_alphabetic() { Script::Latin } else { script(c) };
    let none = matches!(script, Script::Common | Script::Inherited | Script::Unknown);
    let cased = || is_in(c, GeneralCategoryGroup::CasedLetter);
    (!none && (c.is_ascii_alphabetic() || script == Script::Lisu || cased())).then_some(script)
}

// ---- for prose ----

/// What has a glyph, and may look odd: spaces of other widths, prefixed signs of numbers, emoji of later versions.
pub(super) fn is_prose(c: char) -> bool {
    match category(c) {
        GeneralCategory::SpaceSeparator => true,
        GeneralCategory::Unassigned => is_pictograph(c),
        GeneralCategory::Format => CodePointSetData::new::<PrependedConcatenationMark>().contains(c),
        GeneralCategory::Control
        | GeneralCategory::PrivateUse
        | GeneralCategory::Surrogate
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator => false,
        _ => !is_ignorable(c),
    }
}

pub(super) fn is_pictograph(c: char) -> bool {
    CodePointSetData::new::<ExtendedPictographic>().contains(c)
}

pub(super) fn is_emoji(c: char) -> bool {
    CodePointSetData::new::<Emoji>().contains(c)
}

pub(super) fn is_emoji_modifier(c: char) -> bool {
    CodePointSetData::new::<EmojiModifier>().contains(c)
}

pub(super) fn is_ideograph(c: char) -> bool {
    CodePointSetData::new::<Ideographic>().contains(c)
}

/// Letters and marks between which joiners mean something: cursive and Indic scripts.
pub(super) fn takes_joiners(c: char) -> bool {
    let cursive = || {
        matches!(
            CodePointMapData::<JoiningType>::new().get(c),
            JoiningType::DualJoining | JoiningType::RightJoining | JoiningType::LeftJoining
        )
    };
    let indic = || CodePointMapData::<IndicSyllabicCategory>::new().get(c) != IndicSyllabicCategory::Other;
    !c.is_ascii() && (is_letter(c) || is_mark(c)) && (cursive() || indic())
}

/// Letters of scripts that are written without spaces and broken by dictionary: Thai, Lao, Khmer, Burmese.
pub(super) fn breaks_by_words(c: char) -> bool {
    CodePointMapData::<LineBreak>::new().get(c) == LineBreak::ComplexContext
}

pub(super) fn jamo(c: char) -> HangulSyllableType {
    CodePointMapData::<HangulSyllableType>::new().get(c)
}

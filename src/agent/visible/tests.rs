use std::collections::HashSet;

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{
    BidiControl, DefaultIgnorableCodePoint, GeneralCategory, NoncharacterCodePoint, VariationSelector, WhiteSpace,
};
use icu_properties::{CodePointMapData, CodePointSetData};
use proptest::prelude::*;

use super::*;

/// A text with a sample of each class in it, and literal text for a character that is written out: for tests that
/// every string of a surface is shown in the strict view.
pub(crate) const SAMPLE: &str = concat!(
    "x\\u{7e57}\u{202e}\u{200b}\u{fe0f}\u{fe0f}\u{fe0f}\u{fe0f}\u{fe0f}\u{e0041}\u{e007f}\u{3164}\u{2800}\u{a0}\u{2028}",
    "\u{7}\u{1b}[2J\u{e000}\u{ffff}\u{34f}\u{2067}\u{ad}\t \r\n p\u{430}y ",
    "\u{301}\u{301}\u{316}\u{301}\u{301}\u{301}\u{301}z"
);

/// The same for what is shown in prose: nothing of it stays there.
pub(crate) const PROSE_SAMPLE: &str =
    "x\u{202e}\u{200b}y\u{fe0f}\u{e0041}\u{3164}\u{2028}\u{7}\u{1b}[2J\u{e000}\u{ffff}\u{2067}z";

/// What is wrong with what a surface shows of the samples.
pub(crate) fn wrong(shown: &str) -> Option<String> {
    let near = |at: usize| shown[..at].chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect::<String>();
    if let Some((at, c)) = shown.char_indices().find(|(_, c)| *c != '\n' && is_unseen(*c)) {
        return Some(format!("U+{:04X} after {:?}", u32::from(c), near(at)));
    }
    let forged = shown.match_indices("\\u{7e57}").find(|(at, _)| !shown[..*at].ends_with('\\'));
    if let Some((at, _)) = forged {
        return Some(format!("not strict: what follows {:?}", near(at)));
    }
    let twice = shown.find("\\u{5c}u{202e").or(shown.find("\\u{5c}u{200b"));
    twice.map(|at| format!("shown twice: what follows {:?}", near(at)))
}

fn every_char() -> impl Iterator<Item = char> {
    (0..=0x0010_ffff).filter_map(char::from_u32)
}

/// By the library's properties, asked here on their own.
fn forbidden(c: char) -> bool {
    use GeneralCategory as G;
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    matches!(
        category,
        G::Control
            | G::Format
            | G::Unassigned
            | G::PrivateUse
            | G::Surrogate
            | G::LineSeparator
            | G::ParagraphSeparator
            | G::SpaceSeparator
    ) && c != ' '
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || CodePointSetData::new::<BidiControl>().contains(c)
        || CodePointSetData::new::<VariationSelector>().contains(c)
        || CodePointSetData::new::<NoncharacterCodePoint>().contains(c)
        || (CodePointSetData::new::<WhiteSpace>().contains(c) && c != ' ')
        // What no property tells.
        || matches!(c, '\u{2800}' | '\u{fffc}')
}

/// In how many ways a character is tried: of a million that mean nothing, one does.
fn forms(c: char) -> usize {
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    if matches!(category, GeneralCategory::Unassigned | GeneralCategory::PrivateUse) { 1 } else { 2 }
}

/// What was shown, read back: this is what makes the strict view one to one.
fn read(shown: &str) -> String {
    let (mut out, mut rest) = (String::new(), shown);
    while let Some(at) = rest.find(notation::OPENING) {
        out.push_str(&rest[..at]);
        let (inside, left) = rest[at + notation::OPENING.len()..].split_once('}').unwrap();
        let (code, times) = inside.split_once('*').unwrap_or((inside, "1"));
        let c = char::from_u32(u32::from_str_radix(code, 16).unwrap()).unwrap();
        out.extend(std::iter::repeat_n(c, times.parse().unwrap()));
        rest = left;
    }
    out + rest
}

fn is_normal(shown: &str) -> bool {
    ComposingNormalizerBorrowed::new_nfc().is_normalized(shown)
}

#[test]
fn the_strict_view_of_every_character_hides_nothing_and_no_two_are_the_same() {
    let mut seen = HashSet::new();
    for c in every_char() {
        for whole in [c.to_string(), format!("a{c}b")].iter().take(forms(c)) {
            for shown in [line(whole), text(whole)].iter().take(forms(c)) {
                let hides = shown.chars().find(|c| forbidden(*c) && *c != '\n');
                assert_eq!(hides, None, "{:x}: {shown:?}", u32::from(c));
                assert_eq!(read(shown), *whole, "{:x}: {shown:?}", u32::from(c));
                assert!(is_normal(shown), "{:x}: {shown:?}", u32::from(c));
                assert_eq!(prose(shown), *shown, "{:x}", u32::from(c));
            }
        }
        let shown = line(&c.to_string());
        assert!(!shown.is_empty() && !shown.contains('\n'), "{:x}", u32::from(c));
        assert!(seen.insert(shown), "{:x}", u32::from(c));
        if let Some(class @ 1..) = Some(class::combining_class(c)) {
            assert!(line(&format!("a{}", String::from(c).repeat(50))).contains("\\u{"), "{:x} {class}", u32::from(c));
        }
    }
}

#[test]
fn json_of_every_character_hides_nothing_and_is_read_as_the_same_value() {
    for c in every_char() {
        let value = Value::String(format!("{c}x{c}"));
        let shown = json(&value);
        let hides = shown.chars().find(|c| forbidden(*c) && *c != '\n');
        assert_eq!(hides, None, "{:x}: {shown:?}", u32::from(c));
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value, "{:x}: {shown:?}", u32::from(c));
        assert!(is_normal(&shown), "{:x}: {shown:?}", u32::from(c));
    }
}

#[test]
fn the_prose_view_of_every_character_overrides_nothing() {
    for c in every_char() {
        for whole in [format!("a{c}b"), String::from(c).repeat(4)].iter().take(forms(c)) {
            let shown = prose(whole);
            assert_eq!(prose(&shown), shown, "{:x}: {shown:?}", u32::from(c));
            let bad = shown.chars().filter(|c| {
                let steers = c.is_control() && !matches!(c, '\n' | '\t');
                let bidi = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
                let tag = matches!(c, '\u{e0000}'..='\u{e0fff}');
                steers || bidi || tag || matches!(c, '\u{2028}' | '\u{2029}')
            });
            assert_eq!(bad.collect::<String>(), "", "{:x}: {shown:?}", u32::from(c));
        }
        let ignorable = |c: &char| CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(*c);
        if ignorable(&c) {
            let row = prose(&format!("a{}", c.to_string().repeat(40)));
            assert!(row.chars().filter(ignorable).count() <= 1, "{:x}: {row:?}", u32::from(c));
        }
    }
}

#[test]
fn what_would_be_taken_for_something_else_is_written_out() {
    let shown: Vec<String> = [
        "a\tb",
        "a    b",
        "one\r\ntwo",
        "one\ntwo",
        "end  ",
        "a\u{202e}b",
        "a\\u{202e}b",
        "a\\\\u{202e}b",
        "\u{ff3c}u{202e}",
        "C:\\users\\ann",
        "\u{2764}\u{fe0f}",
        &format!("x{}", "\u{fe0f}".repeat(35)),
        &format!("x{}\u{fe01}", "\u{fe0f}".repeat(35)),
        "caf\u{e9}",
        "cafe\u{301}",
        "a\u{316}\u{301}",
        "z\u{335}\u{336}\u{337}\u{338}\u{322}\u{321}",
        "p\u{430}ypal.com",
        "\u{43c}o\u{441}\u{43a}\u{432}\u{430}",
        "IT-\u{438}\u{43d}\u{436}\u{435}\u{43d}\u{435}\u{440}",
        "rm -rf a\u{37e}",
        "\u{3164}\u{2800}\u{a0}",
        "日本語　テスト",
        "שלום \u{200f}",
    ]
    .iter()
    .map(|t| text(t))
    .collect();
    insta::assert_snapshot!(shown.join("\n---\n"), @r"
    a\u{9}b
    ---
    a    b
    ---
    one\u{d}
    two
    ---
    one
    two
    ---
    end\u{20}\u{20}
    ---
    a\u{202e}b
    ---
    a\u{5c}u{202e}b
    ---
    a\u{5c}\u{5c}u{202e}b
    ---
    \u{ff3c}u{202e}
    ---
    C:\users\ann
    ---
    ❤\u{fe0f}
    ---
    x\u{fe0f*35}
    ---
    x\u{fe0f*35}\u{fe01}
    ---
    café
    ---
    cafe\u{301}
    ---
    a̖\u{301}
    ---
    z̵̶̷̸\u{322}\u{321}
    ---
    p\u{430}ypal.com
    ---
    м\u{6f}сква
    ---
    IT-инженер
    ---
    rm -rf a\u{37e}
    ---
    \u{3164}\u{2800}\u{a0}
    ---
    日本語\u{3000}テスト
    ---
    שלום \u{200f}
    ");
    assert_eq!(line("  a  b\nc "), "\\u{20}\\u{20}a \\u{20}b\\u{a}c\\u{20}");
    let gaps = format!("\na{}b{}c\n\n", "\n".repeat(500), " ".repeat(500));
    assert_eq!(text(&gaps), "\\u{a}a\\u{a*500}b\\u{20*500}c\\u{a}\\u{a}");
    let odd = serde_json::json!(["\u{e0041}\u{200b}", "\t \u{a0}", "p\u{430}y", "\\u202e\u{202e}"]);
    let wanted = r#"["\udb40\udc41\u200b","\t \u00a0","p\u0430y","\\u202e\u202e"]"#;
    assert_eq!(json_text(&odd.to_string()), wanted);
}

#[test]
fn prose_keeps_what_scripts_and_emoji_need() {
    for kept in [
        "👩‍👩‍👧 👩🏽‍⚕️ 🏳️‍🌈 ❤️‍🔥 1️⃣ ©️ ☎︎",
        "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
        "می‌خواهم کتاب‌ها",
        "क्‍ष र‍्य ක්‍ෂ",
        "(\u{200e}x\u{200f}) \u{2067}שלום\u{2069}!",
        "ᠮᠣᠩᠭᠣᠯ\u{180b} ᠬᠠᠷ\u{180e}ᠠ",
        "葛\u{e0100}城",
        "ภาษา\u{200b}ไทย",
        "Dampf\u{ad}schiff",
        "l’été\u{a0}: 10\u{202f}% 日本語　です",
        "cafe\u{301} שָׁלוֹם བསྒྲུབས",
        "a\tb\nc  d",
    ] {
        assert_eq!(prose(kept), kept);
    }
}

#[test]
fn prose_writes_out_what_hides_or_reorders() {
    let shown: Vec<String> = [
        "a\u{202e}b\u{202c}c",
        "\u{2067}open",
        "a\u{2069}b",
        "a\u{200b}b\u{200d}c\u{200c}d",
        "\u{1f600}\u{e0068}\u{e0069}",
        "🏴\u{e0061}\u{e0062}\u{e007f}",
        &format!("\u{1f600}{}", "\u{fe0f}".repeat(35)),
        "x\u{e0100}",
        "z\u{335}\u{336}\u{337}\u{338}\u{322}\u{321}\u{31b}\u{31c}\u{31d}\u{31e}",
        "a\u{1b}[2J\u{9b}b\rc\r\nd",
        "\u{e000}\u{feff}\u{3164}",
    ]
    .iter()
    .map(|t| prose(t))
    .collect();
    insta::assert_snapshot!(shown.join("\n---\n"), @r"
    a\u{202e}b\u{202c}c
    ---
    \u{2067}open
    ---
    a\u{2069}b
    ---
    a\u{200b}b\u{200d}c\u{200c}d
    ---
    😀\u{e0068}\u{e0069}
    ---
    🏴\u{e0061}\u{e0062}\u{e007f}
    ---
    😀️\u{fe0f*34}
    ---
    x\u{e0100}
    ---
    z̵̶̷̸̢̡̛̜\u{31d}\u{31e}
    ---
    a\u{1b}[2J\u{9b}b\u{d}c
    d
    ---
    \u{e000}\u{feff}\u{3164}
    ");
}

#[test]
fn a_cut_line_is_cut_between_characters_that_are_written_out() {
    for max in 1..40 {
        let shown = short_line("ab\u{202e}c\u{200b}d\u{fe0f}\u{fe0f}\u{fe0f}\u{fe0f}\u{fe0f}", max);
        assert!(shown.chars().count() <= max, "{max}: {shown}");
        assert_eq!(shown.matches("\\u{").count(), shown.matches('}').count(), "{max}: {shown}");
    }
    assert_eq!(short_line("abc", 3), "abc");
    assert_eq!(short_line("abcd", 3), "ab…");
}

#[test]
fn two_different_values_are_spelled_differently() {
    let values = ["5", "\"5\"", "\" a\"", "\"a\"", "\"\"", "null", "\"null\"", "\"a\\u202eb\"", "\"a\\nb\"", "[\"a\"]"];
    let spelled: Vec<String> = values.iter().map(|json| value(&serde_json::from_str(json).unwrap())).collect();
    let wanted = ["5", "\"5\"", "\" a\"", "a", "\"\"", "null", "\"null\"", "a\\u{202e}b", "a\nb", "[\n  \"a\"\n]"];
    assert_eq!(spelled, wanted);
}

/// A sample of each class, and what stands beside it.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "a", "Z", "1", " ", "  ", "\n", "\r", "\t", "\\", "\\u{", "u{", "}", "*", "\"", "é", "e\u{301}", "\u{301}",
            "\u{316}", "\u{9c7}", "\u{9be}", "\u{1100}", "\u{1161}", "\u{11a8}", "가", "\u{430}", "\u{3b1}", "日",
            "\u{200b}", "\u{200c}", "\u{200d}", "\u{200e}", "\u{202e}", "\u{202c}", "\u{2067}", "\u{2069}", "\u{fe0f}",
            "\u{fe01}", "\u{e0041}", "\u{e007f}", "\u{1f3f4}", "👩", "🏽", "ی", "م", "क", "\u{94d}", "\u{ad}", "\u{a0}",
            "\u{3164}", "\u{2800}", "\u{e000}", "\u{ffff}", "\u{37e}", "\u{ff3c}", "\u{180b}", "ᠠ", "\u{34f}",
        ]).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => ("[ab \\\\\u{200b}\u{fe0f}\n]", 1usize..40).prop_map(|(c, n)| c.repeat(n)),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(3_000), ..ProptestConfig::default() })]

    #[test]
    fn the_strict_view_of_any_text_can_be_read_back(whole in pieces()) {
        for shown in [line(&whole), text(&whole)] {
            prop_assert!(!shown.chars().any(|c| forbidden(c) && c != '\n'), "{:?}", shown);
            prop_assert_eq!(&read(&shown), &whole, "{:?}", &shown);
            prop_assert!(is_normal(&shown), "{:?}", shown);
            prop_assert_eq!(&prose(&shown), &shown);
        }
        prop_assert!(!line(&whole).contains('\n'));
        let value = serde_json::json!([whole]);
        let shown = json(&value);
        prop_assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
        prop_assert!(is_normal(&shown), "{:?}", shown);
    }

    #[test]
    fn the_prose_view_of_any_text_is_its_own(whole in pieces()) {
        let shown = prose(&whole);
        prop_assert_eq!(prose(&shown), shown);
    }

    #[test]
    fn a_cut_through_shown_text_leaves_no_half_of_a_character(whole in pieces(), at in 0usize..200) {
        let shown = text(&whole);
        let cut = shown.get(..super::whole(&shown, at)).unwrap();
        prop_assert!(whole.starts_with(&read(cut)) || cut.contains('*'));
    }
}

/// Every pair of samples: what stands beside a character changes how it is shown, never what it is read as.
#[test]
fn every_pair_of_samples_is_shown_differently() {
    let samples: Vec<char> =
        every_char().step_by(4_999).chain("a \n\t\r\\u{}é\u{301}\u{316}\u{200d}\u{fe0f}\u{202e}а".chars()).collect();
    let mut seen = HashSet::new();
    for one in &samples {
        for two in &samples {
            let whole = format!("{one}{two}");
            let shown = line(&whole);
            assert_eq!(read(&shown), whole);
            assert!(seen.insert(shown) || samples.iter().filter(|c| *c == one || *c == two).count() > 2, "{whole:?}");
        }
    }
}

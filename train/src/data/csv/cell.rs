//! A cell as a number, and what is wrong with one that is none.

use std::str;

use super::error::{Fault, Hint};

/// Characters of a cell that a message shows.
const SHOWN: usize = 40;

/// The number in a cell, with spaces around it; `None` if there is none, or it is not finite as f32.
pub fn number(cell: &[u8]) -> Option<f64> {
    let value: f64 = str::from_utf8(cell.trim_ascii()).ok()?.parse().ok()?;
    (value as f32).is_finite().then_some(value)
}

/// A cell's text, without spaces around it. `what` it must be: "a category", "a class".
pub fn text<'a>(cell: &'a [u8], what: &'static str) -> Result<&'a str, Fault> {
    let cell = cell.trim_ascii();
    match str::from_utf8(cell) {
        Ok("") => Err(Fault::Empty(what)),
        Ok(text) => Ok(text),
        Err(e) => Err(Fault::NotUtf8 { at: e.valid_up_to(), byte: cell[e.valid_up_to()] }),
    }
}

/// Why [`number`] found none in a cell.
pub fn diagnose(cell: &[u8], hint: Hint) -> Fault {
    let text = match text(cell, "a number") {
        Ok(text) => text,
        Err(fault) => return fault,
    };
    let bare = text.trim_start_matches(['+', '-']).to_ascii_lowercase();
    match bare.as_str() {
        "nan" | "inf" | "infinity" => return Fault::NotFinite,
        "" | "?" | "." | "na" | "n/a" | "#n/a" | "null" | "none" | "nil" | "missing" => {
            return Fault::Missing;
        }
        _ => {}
    }
    // A number after all: of those that are not finite as f32 only the large ones are left.
    if text.parse::<f64>().is_ok() {
        return Fault::Large;
    }
    separated(text).unwrap_or(Fault::Text(hint))
}

/// A number with a decimal comma or with separators of thousands.
fn separated(text: &str) -> Option<Fault> {
    let number = |text: String| number(text.as_bytes()).map(|_| text);
    let decimal = |text: &str| number(text.replace(',', "."));
    let without = |separator: char| number(text.replace(separator, ""));
    let before = |mark: char| text.split(mark).next().unwrap_or(text);
    match (text.matches(',').count(), text.matches('.').count()) {
        (1, 0) if grouped(text, ',') => Some(Fault::Either(decimal(text)?, without(',')?)),
        (1, 0) => decimal(text).map(Fault::Comma),
        // 1,234.5
        (1.., 1) if grouped(before('.'), ',') && text.rfind(',') < text.find('.') => {
            without(',').map(Fault::Thousands)
        }
        // 1.234,5
        (1, 1..) if grouped(before(','), '.') && text.rfind('.') < text.find(',') => {
            decimal(&text.replace('.', "")).map(Fault::Comma)
        }
        (2.., 0) if grouped(text, ',') => without(',').map(Fault::Thousands),
        (0, 2..) if grouped(text, '.') => without('.').map(Fault::Thousands),
        (0, 0..=1) => [' ', '\'', '_', '\u{a0}', '\u{202f}', '\u{2019}']
            .into_iter()
            .find(|&separator| text.contains(separator) && grouped(before('.'), separator))
            .and_then(|separator| without(separator).map(Fault::Thousands)),
        _ => None,
    }
}

/// One to three digits, and then groups of three.
fn grouped(whole: &str, separator: char) -> bool {
    let mut groups = whole.trim_start_matches(['+', '-']).split(separator);
    let first = groups.next().unwrap_or("");
    let digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    (1..=3).contains(&first.len()) && digits(first) && groups.all(|group| group.len() == 3 && digits(group))
}

/// A cell as messages show it: in quotes, and not too long.
pub fn shown(cell: &[u8]) -> String {
    // Four bytes a character at most.
    let start = &cell.trim_ascii()[..cell.trim_ascii().len().min(4 * SHOWN + 4)];
    let text = String::from_utf8_lossy(start);
    match text.char_indices().nth(SHOWN) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}

/// The first few of some names, and how many more there are.
pub fn listed(names: impl ExactSizeIterator<Item = String>, most: usize) -> String {
    let more = names.len().saturating_sub(most);
    let mut shown: Vec<String> = names.take(most).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_to_the_last_bit() {
        let good = [
            ("1", 1.0),
            (" -1.5e3\t", -1500.0),
            ("+.5", 0.5),
            ("5.", 5.0),
            ("1E-7\r", 1e-7),
            ("0.1", 0.1),
            ("1.0000000000000002", 1.0 + f64::EPSILON),
            ("3.4028234663852886e38", f32::MAX.into()),
            ("1e-400", 0.0),
            ("-0", -0.0),
        ];
        for (text, value) in good {
            assert_eq!(number(text.as_bytes()).map(f64::to_bits), Some(f64::to_bits(value)), "{text}");
        }
        for text in
            ["", " ", "x", "1 2", "1,5", "nan", "inf", "-Infinity", "3.5e38", "1e400", "0x10", "1_0", "--1"]
        {
            assert_eq!(number(text.as_bytes()), None, "{text}");
        }
        assert_eq!(number(b"\xff1"), None);
    }

    #[test]
    fn faults_have_their_kinds() {
        use Fault::*;
        let fixed = |text: &str| text.to_owned();
        let cases = [
            ("", Empty("a number")),
            ("  ", Empty("a number")),
            ("NaN", NotFinite),
            ("-nan", NotFinite),
            ("+INF", NotFinite),
            ("-Infinity", NotFinite),
            ("NA", Missing),
            ("n/a", Missing),
            ("?", Missing),
            ("-", Missing),
            ("NULL", Missing),
            ("3.5e38", Large),
            ("-1e400", Large),
            ("1,5", Comma(fixed("1.5"))),
            ("-1,5e3", Comma(fixed("-1.5e3"))),
            ("0,1234", Comma(fixed("0.1234"))),
            ("1234,567", Comma(fixed("1234.567"))),
            ("1.234,5", Comma(fixed("1234.5"))),
            ("1.234.567,5", Comma(fixed("1234567.5"))),
            ("1,234", Either(fixed("1.234"), fixed("1234"))),
            ("1,234.5", Thousands(fixed("1234.5"))),
            ("1,234,567.5", Thousands(fixed("1234567.5"))),
            ("-1,234,567", Thousands(fixed("-1234567"))),
            ("1.234.567", Thousands(fixed("1234567"))),
            ("1 234.5", Thousands(fixed("1234.5"))),
            ("1'234", Thousands(fixed("1234"))),
            ("1\u{a0}234", Thousands(fixed("1234"))),
            ("1_000", Thousands(fixed("1000"))),
            ("1,2,3", Text(Hint::None)),
            ("1,2.5", Text(Hint::None)),
            ("1.5,234.5", Text(Hint::None)),
            ("1 2", Text(Hint::None)),
            ("a,b", Text(Hint::None)),
            (",", Text(Hint::None)),
            ("12:30", Text(Hint::None)),
            ("5%", Text(Hint::None)),
            ("\u{e4}", Text(Hint::None)),
        ];
        for (cell, want) in cases {
            assert_eq!(diagnose(cell.as_bytes(), Hint::None), want, "{cell}");
        }
        assert_eq!(diagnose(b" ab\xe4c", Hint::None), NotUtf8 { at: 2, byte: 0xe4 });
    }

    #[test]
    fn long_cells_are_cut_where_a_character_ends() {
        assert_eq!(shown(b" a\"b\n"), r#""a\"b""#);
        assert_eq!(shown("\u{e4}".repeat(40).as_bytes()), format!("{:?}", "\u{e4}".repeat(40)));
        assert_eq!(shown("\u{1f600}".repeat(1000).as_bytes()), format!("{:?}...", "\u{1f600}".repeat(40)));
        assert_eq!(shown(b"\xff"), "\"\u{fffd}\"");
    }

    proptest::proptest! {
        #[test]
        fn any_cell_is_a_number_or_a_fault(cell: Vec<u8>, text in "[-+0-9., '_eEnaif]{0,12}") {
            for cell in [&cell[..], text.as_bytes()] {
                match number(cell) {
                    Some(value) => assert!((value as f32).is_finite()),
                    None => assert!(!diagnose(cell, Hint::None).to_string().is_empty()),
                }
                shown(cell);
            }
        }
    }
}

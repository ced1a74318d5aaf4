//! Names as people see them: whatever bytes they have, they break no line and change no terminal.

/// The bytes as text. What is no UTF-8, steers a terminal or turns the direction of writing is written as `\n`, `\x1b`,
/// `\u{202e}` and so on, and a backslash as two.
pub(crate) fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|character| push(&mut text, character));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn push(text: &mut String, character: char) {
    match character {
        '\\' | '\n' | '\t' | '\r' => text.extend(character.escape_default()),
        _ if character.is_ascii_control() => text.push_str(&format!("\\x{:02x}", u32::from(character))),
        _ if character.is_control() || is_invisible(character) => text.extend(character.escape_unicode()),
        _ => text.push(character),
    }
}

/// Characters that nobody sees, but that move others or break the line.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_breaks_a_line_or_steers_a_terminal() {
        for (name, shown) in [
            (&b"plain name"[..], "plain name"),
            ("\u{fc}\u{4e2d}".as_bytes(), "\u{fc}\u{4e2d}"),
            (b"a\nb\tc\rd", "a\\nb\\tc\\rd"),
            (b"a\\nb", "a\\\\nb"),
            (b"\x1b[31m\x7f", "\\x1b[31m\\x7f"),
            (b"\xff\xfeok\xc3", "\\xff\\xfeok\\xc3"),
            ("gpj.\u{202e}exe".as_bytes(), "gpj.\\u{202e}exe"),
            ("\u{85}\u{2028}".as_bytes(), "\\u{85}\\u{2028}"),
        ] {
            assert_eq!(escaped(name), shown);
        }
    }
}

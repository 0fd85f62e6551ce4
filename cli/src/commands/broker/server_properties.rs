//! A file of broker properties in the format of Java's property files, which is that of Kafka's `server.properties`.
//!
//! `KEY=VALUE`, `KEY: VALUE` or `KEY VALUE` a line; `#` and `!` begin comments; a `\` at the end of a line goes on with the next; `\t`, `\n`,
//! `\uXXXX` and `\` before any other character are escapes. Bytes that are no UTF-8 are taken as ISO-8859-1, as Java takes them.

use std::path::Path;

use crate::report::Failure;

/// One property and the line it began on, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    pub line: usize,
    pub key: String,
    pub value: String,
}

/// The properties of the file at `path`, in its order.
///
/// # Errors
/// The file cannot be read, or an escape in it is none.
pub fn read(path: &Path) -> Result<Vec<Property>, Failure> {
    let bytes = std::fs::read(path).map_err(|error| {
        Failure::new(format!("cannot read {}: {error}", path.display()))
            .hint("--config names a file of KEY=VALUE lines, such as Kafka's server.properties")
    })?;
    let text = String::from_utf8(bytes)
        .unwrap_or_else(|error| error.as_bytes().iter().map(|byte| char::from(*byte)).collect());
    parse(&text).map_err(|(line, what)| {
        Failure::usage(format!("{} line {line}: {what}", path.display())).hint("write \\\\ for a backslash")
    })
}

fn parse(text: &str) -> Result<Vec<Property>, (usize, String)> {
    let mut properties = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let mut logical = line.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while goes_on(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        let (key, value) = split(&logical);
        let unescaped = |text: &str| unescape(text).map_err(|what| (index + 1, what));
        properties.push(Property { line: index + 1, key: unescaped(key)?, value: unescaped(value)? });
    }
    Ok(properties)
}

/// Whether the line ends in a backslash that is not itself escaped.
fn goes_on(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Key and value, still escaped: the key ends at the first `=`, `:` or blank that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, character) in line.char_indices() {
        let ends = !escaped && (matches!(character, '=' | ':') || character.is_whitespace());
        if ends {
            let rest = line[at..].trim_start();
            let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
            return (&line[..at], value.trim_start());
        }
        escaped = character == '\\' && !escaped;
    }
    (line, "")
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match rest.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = rest.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                let character = code.and_then(char::from_u32);
                plain.push(character.ok_or_else(|| format!("\\u{digits} is not a character in four hex digits"))?);
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        parse(text).unwrap().into_iter().map(|one| (one.line, one.key, one.value)).collect()
    }

    #[test]
    fn lines_are_read_as_java_reads_them() {
        let text = "# comment\n! another\n\n a.b = 1\nc:two words \nd  e\nlist=one,\\\n   two\nalone\npath=C\\:\\\\x\\u0041\\t.\n";
        let expected = [
            (4, "a.b", "1"),
            (5, "c", "two words "),
            (6, "d", "e"),
            (7, "list", "one,two"),
            (9, "alone", ""),
            (10, "path", "C:\\xA\t."),
        ];
        assert_eq!(pairs(text), expected.map(|(line, key, value)| (line, key.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_escaped_separator_is_part_of_the_key() {
        assert_eq!(pairs("a\\=b\\ c=d"), [(1, "a=b c".to_owned(), "d".to_owned())]);
    }

    #[test]
    fn a_broken_escape_is_named_with_its_line() {
        assert_eq!(parse("a=1\nb=\\u12").unwrap_err().0, 2);
        assert!(parse("b=\\uzzzz").is_err());
    }
}

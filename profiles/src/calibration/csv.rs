//! Comma-separated values as RFC 4180 has them, and nothing looser.

/// A record: the line on which it starts, and its cells.
pub(super) type Record = (usize, Vec<String>);

/// Splits `text` into records; or the line that is wrong, and why. Empty lines are skipped.
pub(super) fn split(text: &str) -> Result<Vec<Record>, (usize, &'static str)> {
    let mut records = Vec::new();
    let mut line = 1;
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    while !rest.is_empty() {
        let start = line;
        let mut cells = Vec::new();
        loop {
            let (cell, after) = cell(rest, &mut line)?;
            cells.push(cell);
            if let Some(after) = after.strip_prefix(',') {
                rest = after;
                continue;
            }
            rest = after.strip_prefix("\r\n").or_else(|| after.strip_prefix('\n')).unwrap_or("");
            line += 1;
            break;
        }
        if cells.len() > 1 || !cells[0].is_empty() {
            records.push((start, cells));
        }
    }
    Ok(records)
}

/// The first cell of `text`, and what follows it: a comma, the end of a line, or nothing.
fn cell<'a>(text: &'a str, line: &mut usize) -> Result<(String, &'a str), (usize, &'static str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([',', '\n']).unwrap_or(text.len());
        let end = if text[..end].ends_with('\r') && !text[end..].starts_with(',') {
            end - 1
        } else {
            end
        };
        if text[..end].contains('"') {
            return Err((*line, "a quote inside a cell that is not quoted"));
        }
        if text[..end].contains('\r') {
            return Err((*line, "a carriage return inside a line"));
        }
        // A carriage return at the end of the text ends its line as a newline would.
        let after = if &text[end..] == "\r" { "" } else { &text[end..] };
        return Ok((text[..end].to_owned(), after));
    };
    let start = *line;
    let mut cell = String::new();
    loop {
        let Some(end) = rest.find('"') else { return Err((start, "a quote that does not end")) };
        cell.push_str(&rest[..end]);
        *line += rest[..end].bytes().filter(|byte| *byte == b'\n').count();
        rest = &rest[end + 1..];
        let Some(after) = rest.strip_prefix('"') else { break };
        cell.push('"');
        rest = after;
    }
    if rest.is_empty() || [",", "\n", "\r\n"].iter().any(|end| rest.starts_with(end)) {
        return Ok((cell, rest));
    }
    Err((*line, "text after a closing quote"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells(text: &str) -> Vec<Vec<String>> {
        split(text).unwrap().into_iter().map(|(_, cells)| cells).collect()
    }

    #[test]
    fn quotes_hold_commas_newlines_and_quotes() {
        let text = "a,\"b,\"\"c\"\"\nd\",\r\n\n,\"\"\n1,2,3";
        assert_eq!(cells(text), [vec!["a", "b,\"c\"\nd", ""], vec!["", ""], vec!["1", "2", "3"]]);
        let lines: Vec<usize> = split(text).unwrap().iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 4, 5]);
    }

    #[test]
    fn what_is_not_rfc_4180_is_refused_by_line() {
        assert_eq!(split("a\nb\"c\n").unwrap_err().0, 2);
        assert_eq!(split("a\n\"b\"c\n").unwrap_err().0, 2);
        assert_eq!(split("a\n\nb,\"c\n\n").unwrap_err().0, 3);
        assert_eq!(split("a\rb\n").unwrap_err().0, 1);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            rows in prop::collection::vec(prop::collection::vec(".{0,6}", 2..4), 0..5),
        ) {
            let quoted = |cell: &String| format!("\"{}\"", cell.replace('"', "\"\""));
            let line = |row: &Vec<String>| row.iter().map(quoted).collect::<Vec<_>>().join(",");
            let text = rows.iter().map(line).collect::<Vec<_>>().join("\r\n");
            prop_assert_eq!(cells(&text), rows);
        }

        #[test]
        fn any_text_is_split_or_refused(text in "[a\",\r\n]{0,12}") {
            let _ = split(&text);
        }
    }
}

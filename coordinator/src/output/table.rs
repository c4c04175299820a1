//! Aligned columns without rules, as `kubectl` and `ps` print them: easy to read, easy to cut.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};

/// Headers that begin with `>` are right-aligned columns.
pub fn render(headers: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headers.iter().map(|h| h.trim_start_matches('>')).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row.iter().map(|cell| one_line(cell)).collect::<Vec<_>>());
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if headers.get(i).is_some_and(|h| h.starts_with('>')) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// A cell is one line: the last lines of a trainer's stderr would tear the table.
fn one_line(cell: &str) -> String {
    cell.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_clean() {
        let rows = vec![
            vec!["a".into(), "7".into(), "x".into()],
            vec!["long name".into(), "1234".into(), "two\nlines\n".into()],
        ];
        let text = render(&["NAME", ">MIB", "NOTE"], &rows);
        assert_eq!(text, "NAME        MIB  NOTE\na             7  x\nlong name  1234  two | lines");
    }
}

//! Columns between tabs, as wide as they need to be: Go's text/tabwriter with the settings of Docker.

const NARROWEST: usize = 10;
const GAP: usize = 3;

/// Puts spaces for tabs. A column is as wide as the widest of its cells in lines that follow each other; what stands
/// behind the last tab of a line belongs to no column.
pub(super) fn align(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let widths = widths(&lines);
    let mut aligned = String::with_capacity(text.len() * 2);
    for (number, (cells, widths)) in lines.iter().zip(widths).enumerate() {
        if number > 0 {
            aligned.push('\n');
        }
        let Some((last, columns)) = cells.split_last() else { continue };
        for (cell, width) in columns.iter().zip(widths) {
            aligned.push_str(cell);
            aligned.extend(std::iter::repeat_n(' ', width.saturating_sub(length(cell))));
        }
        aligned.push_str(last);
    }
    aligned
}

/// The widths of the columns of each line.
fn widths(lines: &[Vec<&str>]) -> Vec<Vec<usize>> {
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len().saturating_sub(1)]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut block = 0;
        while block < lines.len() {
            let in_block = |line: &&Vec<&str>| line.len() > column + 1;
            let end = block + lines[block..].iter().take_while(in_block).count();
            let widest = lines[block..end].iter().map(|cells| length(cells[column]) + GAP).max();
            for line in &mut widths[block..end] {
                line[column] = widest.unwrap_or(0).max(NARROWEST);
            }
            block = end.max(block + 1);
        }
    }
    widths
}

fn length(cell: &str) -> usize {
    cell.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        assert_eq!(align("A\tB\tC\nlong enough\tb\tc\n"), "A             B         C\nlong enough   b         c\n");
        assert_eq!(align("ä\tx\n\ntwo\tx"), "ä         x\n\ntwo       x");
        assert_eq!(align("a\t\nb"), "a         \nb");
        assert_eq!(align(""), "");
    }

    #[test]
    fn a_line_without_a_column_ends_it() {
        assert_eq!(align("a\tx\nno column\nlonger than ten\tx\n"), "a         x\nno column\nlonger than ten   x\n");
    }
}

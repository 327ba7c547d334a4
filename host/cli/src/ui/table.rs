//! Tables of text in columns.

/// Rows under a heading; each column as wide as its widest cell, numbers to the right.
pub struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a heading; a title that begins with `>` makes a right-aligned column.
    pub fn new(titles: &[&str]) -> Self {
        let right = titles.iter().map(|title| title.starts_with('>')).collect();
        Self { right, rows: vec![titles.iter().map(|title| title.trim_start_matches('>').to_owned()).collect()] }
    }

    /// Adds a row of as many cells as there are titles.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Its lines, indented by `indent` spaces, without blanks at their ends.
    pub fn lines(&self, indent: usize) -> Vec<String> {
        let width = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        self.rows.iter().map(|row| " ".repeat(indent) + self.line(row, &widths).trim_end()).collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let cells = row.iter().zip(widths).zip(&self.right).map(|((cell, width), right)| {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            if *right { pad + cell } else { cell.clone() + &pad }
        });
        cells.collect::<Vec<_>>().join("  ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["name", ">size"]);
        table.row(["blog", "9 B"]);
        table.row(["é", "1,000 B"]);
        assert_eq!(table.lines(2), ["  name     size", "  blog      9 B", "  é     1,000 B"]);
    }
}

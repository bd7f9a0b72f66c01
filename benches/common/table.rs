//! Tables on standard output.

/// A table: the first column is text, the others are numbers.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(ToOwned::to_owned).to_vec()] }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Prints it under a title.
    pub(crate) fn print(&self, title: &str) {
        println!("\n{title}");
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let first = format!("{:<width$}", row[0], width = widths[0]);
            let rest = row.iter().zip(&widths).skip(1).map(|(cell, width)| format!("{cell:>width$}"));
            let line: Vec<String> = std::iter::once(first).chain(rest).collect();
            println!("  {}", line.join("  ").trim_end());
        }
    }
}

/// Prints how a value compares with what it is meant to be.
pub(crate) fn aim(what: &str, met: bool) {
    println!("  aim: {what}: {}", if met { "met" } else { "MISSED" });
}

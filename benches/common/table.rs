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

    /// Prints it under a title, in Markdown, as benches/README.md has it.
    pub(crate) fn print(&self, title: &str) {
        println!("\n{title}\n");
        let columns = self.rows[0].len();
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0).max(3);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let line = |cells: &[String]| println!("| {} |", cells.join(" | "));
        for (number, row) in self.rows.iter().enumerate() {
            let first = format!("{:<width$}", row[0], width = widths[0]);
            let rest = row.iter().zip(&widths).skip(1).map(|(cell, width)| format!("{cell:>width$}"));
            line(&std::iter::once(first).chain(rest).collect::<Vec<_>>());
            if number == 0 {
                line(&widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>());
            }
        }
        println!();
    }
}

/// Prints how a value compares with what it is meant to be.
pub(crate) fn aim(what: &str, met: bool) {
    println!("  aim: {what}: {}", if met { "met" } else { "MISSED" });
}

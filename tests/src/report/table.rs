//! Lays rows out in aligned columns of plain text.
//!
//! It knows cells and widths only; titles, targets and JSON are the report's.

use std::fmt;

use super::Cell;

/// Rows under one heading.
#[derive(Debug, Default)]
pub(super) struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether the row belongs under this heading.
    pub(super) fn fits(&self, fields: &[(&str, Cell)]) -> bool {
        self.is_empty() || self.heading.iter().eq(fields.iter().map(|(name, _)| name))
    }

    pub(super) fn push(&mut self, fields: &[(&str, Cell)]) {
        if self.is_empty() {
            self.heading = fields.iter().map(|(name, _)| (*name).to_owned()).collect();
        }
        self.rows.push(fields.iter().map(|(_, cell)| cell.clone()).collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(Cell::to_string).collect()).collect();
        let widths: Vec<usize> = (0..self.heading.len())
            .map(|column| {
                let cells = shown.iter().map(|row| row[column].chars().count());
                cells.fold(self.heading[column].chars().count(), usize::max)
            })
            .collect();
        let numeric: Vec<bool> =
            self.rows[..1].iter().flatten().map(|cell| !matches!(cell, Cell::Text(_))).collect();

        for row in std::iter::once(&self.heading).chain(&shown) {
            let mut line = String::new();
            for ((text, &width), &number) in row.iter().zip(&widths).zip(&numeric) {
                if !line.is_empty() {
                    line.push_str("  ");
                }
                if number {
                    line.push_str(&format!("{text:>width$}"));
                } else {
                    line.push_str(&format!("{text:<width$}"));
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Text(text) => f.pad(text),
            Cell::Count(count) => f.pad(&grouped(&count.to_string())),
            Cell::Figure(figure) => f.pad(&digits(*figure)),
        }
    }
}

/// Four significant digits below 1,000, whole numbers from there on.
fn digits(figure: f64) -> String {
    match figure.abs() {
        size if !size.is_finite() => figure.to_string(),
        size if size >= 1000.0 => grouped(&format!("{figure:.0}")),
        size if size >= 100.0 => format!("{figure:.1}"),
        size if size >= 10.0 => format!("{figure:.2}"),
        size if size >= 1.0 || size == 0.0 => format!("{figure:.3}"),
        _ => format!("{figure:.6}"),
    }
}

/// Commas between groups of three digits.
fn grouped(number: &str) -> String {
    let (sign, whole) = number.split_at(usize::from(number.starts_with('-')));
    let mut text = sign.to_owned();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_four_digits_and_large_ones_are_grouped() {
        let shown = [0.000_25, 0.0, 1.0, 12.345, 284.26, 1_234_567.8, -12_345.0, f64::NAN]
            .map(|figure| Cell::Figure(figure).to_string());
        assert_eq!(shown, ["0.000250", "0.000", "1.000", "12.35", "284.3", "1,234,568", "-12,345", "NaN"]);
    }
}

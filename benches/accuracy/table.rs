//! Tables in Markdown.

/// A table whose columns are as wide as their cells.
pub struct Table(Vec<Vec<String>>);

impl Table {
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        Self(vec![head.map(str::to_owned).to_vec()])
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.to_vec());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, cells) in self.0.iter().enumerate() {
            writeln!(f, "| {} |", cells.join(" | "))?;
            if i == 0 {
                let rule = |(column, _): (usize, &String)| if column == 0 { "---" } else { "---:" };
                let rules: Vec<_> = cells.iter().enumerate().map(rule).collect();
                writeln!(f, "| {} |", rules.join(" | "))?;
            }
        }
        Ok(())
    }
}

/// A share in percent, with `decimals`; a dash for nothing.
pub fn percent(share: f64, decimals: usize) -> String {
    number(100.0 * share, decimals)
}

/// A number with `decimals`; a dash for nothing.
pub fn number(value: f64, decimals: usize) -> String {
    match value.is_finite() {
        true => format!("{value:.decimals$}"),
        false => "–".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_markdown() {
        let mut table = Table::new(["a", "b"]);
        table.row(["x".into(), percent(0.125, 1)]);
        table.row(["y".into(), number(f64::NAN, 2)]);
        assert_eq!(
            table.to_string(),
            "| a | b |\n| --- | ---: |\n| x | 12.5 |\n| y | – |\n"
        );
    }
}

//! Prints each contest and remembers its bars for the summary at the end.

use crate::runner::{Ratio, Results};

/// What is asked of a ratio.
#[derive(Clone, Copy, Debug)]
pub enum Bar {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Shown, not judged.
    Open,
}

#[derive(Debug)]
struct Line {
    what: String,
    got: f64,
    spread: Option<(f64, f64)>,
    bar: Bar,
}

/// What was measured so far.
#[derive(Debug, Default)]
pub struct Report {
    filters: Vec<String>,
    lines: Vec<Line>,
}

impl Report {
    /// Of the groups whose name contains one of these, or of all.
    #[must_use]
    pub fn new(filters: Vec<String>) -> Self {
        Self {
            filters,
            lines: Vec::new(),
        }
    }

    /// Whether a group of this name is to be run.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(&**filter))
    }

    /// Prints what each contestant needed.
    pub fn rows(&self, name: &str, unit: &str, results: &Results) {
        println!("\n{name} (ns {unit}; {} rounds)", results.rounds);
        for row in &results.rows {
            println!(
                "  {:<34} {:>12.1}   fastest {:>12.1}",
                row.name,
                row.median(),
                row.fastest()
            );
        }
    }

    /// A ratio of two contestants.
    pub fn ratio(&mut self, what: impl Into<String>, ratio: Ratio, bar: Bar) {
        self.line(
            what.into(),
            ratio.median,
            Some((ratio.low, ratio.high)),
            bar,
        );
    }

    /// A number that is counted, not measured.
    pub fn count(&mut self, what: impl Into<String>, got: f64, bar: Bar) {
        self.line(what.into(), got, None, bar);
    }

    fn line(&mut self, what: String, got: f64, spread: Option<(f64, f64)>, bar: Bar) {
        let line = Line {
            what,
            got,
            spread,
            bar,
        };
        print(&line);
        self.lines.push(line);
    }

    /// Prints every line again.
    pub fn summary(&self) {
        println!("\nSummary");
        for line in &self.lines {
            print(line);
        }
        let judged = self.lines.iter().filter_map(|line| line.is_met());
        let (met, all) = judged.fold((0, 0), |(met, all), is_met| {
            (met + u32::from(is_met), all + 1)
        });
        println!("{met} of {all} bars met");
    }
}

impl Line {
    fn is_met(&self) -> Option<bool> {
        match self.bar {
            Bar::AtMost(bar) => Some(self.got <= bar),
            Bar::AtLeast(bar) => Some(self.got >= bar),
            Bar::Open => None,
        }
    }
}

fn print(line: &Line) {
    let verdict = match line.is_met() {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "-",
    };
    let bar = match line.bar {
        Bar::AtMost(bar) => format!("<= {bar}"),
        Bar::AtLeast(bar) => format!(">= {bar}"),
        Bar::Open => String::new(),
    };
    let spread = match line.spread {
        Some((low, high)) => format!("{low:.3} to {high:.3}"),
        None => "counted".to_owned(),
    };
    let what = &line.what;
    println!(
        "  {what:<58} {:>7.3}  {bar:<8} {verdict:<7} ({spread})",
        line.got
    );
}
